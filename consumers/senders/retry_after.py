"""How long a platform asks to be left alone. Pure."""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_S = 24 * 3600.0
"""A platform that asks for more is asked again after a day."""

_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")


def read_retry_after(value: str | None, now_us: int) -> float | None:
    """Return the seconds that a `Retry-After` header asks for: a number, or a date in HTTP's form.

    None where there is no header, no sense in it, or nothing left to wait: the caller's own backoff
    decides then.
    """
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return bounded_wait_s(float(text))
    try:
        due = parsedate_to_datetime(text)
        due_s = (due if due.tzinfo else due.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return bounded_wait_s(due_s - now_us / 1e6)


def bounded_wait_s(wait_s: float) -> float | None:
    """Return a wait of at most MAX_RETRY_AFTER_S, or None for none."""
    return min(wait_s, MAX_RETRY_AFTER_S) if wait_s > 0 else None
