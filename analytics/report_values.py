"""Values of a report's parameters: what people write, as DuckDB takes it. Pure."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Literal

Kind = Literal["text", "integer", "number", "boolean", "time"]
Value = str | int | float | bool | datetime | None
"""Times are naive UTC, as the views' are. None asks for no limit."""

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - naive UTC, as the views have it
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PART = re.compile(r"([0-9]{1,9})([smhdw])")
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_INT64 = range(-(2**63), 2**63)


def value_of(kind: Kind, text: str, now_us: int) -> Value:
    """Return what the text says, None for `none`; texts are taken as they are.

    A time is ISO 8601, UTC where it names no zone, or an age: `7d`, `1d12h`. Raises ValueError,
    which reads as the end of a sentence that begins with the text.
    """
    if kind == "text":
        return text
    if text == "none":
        return None
    match kind:
        case "integer":
            return _integer(text)
        case "number":
            return _number(text)
        case "boolean":
            if text.lower() not in _BOOLEANS:
                raise ValueError("is neither true nor false")
            return _BOOLEANS[text.lower()]
        case "time":
            return _time(text, now_us)


def _integer(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise ValueError("is no integer") from None
    if value not in _INT64:
        raise ValueError("is beyond 64 bits")
    return value


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError("is no number")
    return value


def _time(text: str, now_us: int) -> datetime:
    try:
        if re.fullmatch(f"(?:{_PART.pattern})+", text):
            age_s = sum(int(count) * _UNITS_S[unit] for count, unit in _PART.findall(text))
            return _EPOCH + timedelta(microseconds=now_us) - timedelta(seconds=age_s)
        return naive_utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise ValueError(
            "is no time: write 2026-11-20, 2026-11-20T18:30, 2026-11-20T18:30+02:00 or an age: 7d"
        ) from None


def naive_utc(moment: datetime) -> datetime:
    """Return a time as the views have it; one without a zone is UTC."""
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
