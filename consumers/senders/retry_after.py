"""How long a platform asks to be left alone. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_S = 24 * 3600.0
"""A platform that asks for more is asked again after a day."""

_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")


def read_retry_after(headers: Mapping[str, str], now_us: int) -> float | None:
    """Return the seconds that a reply's `Retry-After` asks for: a number, or a date in HTTP's form.

    A date counts from the reply's own `Date`, so that no two clocks are compared; from `now_us` only
    where there is none. None where there is no header, no sense in it, or nothing left to wait: the
    caller's own backoff decides then.
    """
    text = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(text):
        return bounded_wait_s(float(text))
    due_s, sent_s = _seconds(text), _seconds(headers.get("date", "").strip())
    if due_s is None:
        return None
    return bounded_wait_s(due_s - (now_us / 1e6 if sent_s is None else sent_s))


def _seconds(date: str) -> float | None:
    """Return the time of a date in HTTP's form, None where it is none."""
    try:
        time = parsedate_to_datetime(date)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def bounded_wait_s(wait_s: float) -> float | None:
    """Return a wait of at most MAX_RETRY_AFTER_S, or None for none."""
    return min(wait_s, MAX_RETRY_AFTER_S) if wait_s > 0 else None
