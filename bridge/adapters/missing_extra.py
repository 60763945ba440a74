"""What is said where an adapter's library is not installed."""

from __future__ import annotations


def missing_extra(extra: str, error: ImportError) -> ImportError:
    """Return the error that names the extra to install."""
    return ImportError(f"{error}. Install it with `pip install 'eventlog[{extra}]'`.")
