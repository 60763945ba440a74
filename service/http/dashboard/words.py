"""Numbers, times and sizes as people read them; each with its unit. Pure. Times are UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = ((31_557_600, "y"), (86_400, "d"), (3600, "h"), (60, "min"))

NOTHING = "-"


def number(value: float) -> str:
    """Return a number with its thousands apart.

    >>> number(1284.4)
    '1,284'
    """
    return f"{value:,.0f}" if abs(value) >= 10 or value == int(value) else f"{value:,.1f}"


def count(value: int, one: str, many: str | None = None) -> str:
    """Return a number with what it counts.

    >>> count(1, "letter"), count(2, "entry", "entries")
    ('1 letter', '2 entries')
    """
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def age(ms: float) -> tuple[str, str]:
    """Return how long something lasts, and the unit.

    >>> age(412), age(38_000), age(7_200_000)
    (('0.4', 's'), ('38', 's'), ('2', 'h'))
    """
    if 0 < ms < 100:
        return f"{ms:.0f}", "ms"
    seconds = ms / 1000
    for size, name in _UNITS:
        if seconds >= size * (2 if name in ("d", "y") else 1):
            return f"{seconds / size:,.0f}", name
    return (f"{seconds:.1f}" if 0 < seconds < 10 else f"{seconds:,.0f}"), "s"


def lasting(ms: float) -> str:
    """Return how long something lasts, in one piece.

    >>> lasting(412)
    '0.4 s'
    """
    return " ".join(age(ms))


def size(byte_count: float) -> tuple[str, str]:
    """Return a size and its unit.

    >>> size(412_000_000)
    ('412', 'MB')
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if byte_count >= unit:
            value = byte_count / unit
            return f"{value:,.1f}" if value < 10 else f"{value:,.0f}", name
    return f"{byte_count / 1e3:,.0f}", "kB"


def moment(us: int) -> datetime:
    """Return the time of µs since 1970; the first or last there is for one beyond them."""
    try:
        return _EPOCH + timedelta(microseconds=us)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC) if us < 0 else datetime.max.replace(tzinfo=UTC)


def clock(us: int) -> str:
    """Return the time of day of µs since 1970: `14:58:12`."""
    return f"{moment(us):%H:%M:%S}"


def day(us: int) -> str:
    """Return the day of µs since 1970: `2026-11-30`."""
    return f"{moment(us):%Y-%m-%d}"


def when(us: int, now_us: int) -> str:
    """Return the time of day for what happened today, else the day with it."""
    at, now = moment(us), moment(now_us)
    return f"{at:%H:%M:%S}" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M}"
