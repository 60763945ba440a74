"""Errors of foreign code, as people read them: bounded, and valid Unicode. Pure."""

from __future__ import annotations

import traceback

from consumers.record import LONGEST_ERROR
from eventlog.errors import EventLogError

LONGEST_TRACEBACK = 8000
"""Characters of a traceback that are kept, from its end."""


def told(error: BaseException) -> str:
    """Return an error as a person wants to read it, bounded."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - foreign code: an error that cannot be shown is still one
        text = "(no text)"
    if not isinstance(error, EventLogError):
        text = f"{type(error).__name__}: {text}"
    return _readable(text.rstrip(": "))[:LONGEST_ERROR]


def told_traceback(error: BaseException) -> str | None:
    """Return where the error was raised; None where it was not raised by code."""
    if error.__traceback__ is None:
        return None
    return _readable("".join(traceback.format_exception(error)))[-LONGEST_TRACEBACK:]


def _readable(text: str) -> str:
    """Return the text as valid Unicode: an error may quote bytes that are not."""
    return text.encode(errors="replace").decode()
