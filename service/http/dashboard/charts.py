"""Pictures of numbers as SVG shapes: what a template draws, in the units of its view box. Pure.

Points are few enough to be drawn one by one; who has more adds them up first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from service.http.dashboard import words

WIDTH, HEIGHT = 640, 190
LEFT, TOP, BOTTOM = 46, 14, 22
"""Margins for the ticks' labels."""

MOST_SERIES = 6
WIDEST_BAR = 56.0


class Tick(NamedTuple):
    """A mark of an axis."""

    at: float
    label: str
    anchor: str = "middle"


class Line(NamedTuple):
    """A series as a line, or as the top of an area."""

    name: str
    tone: int
    """Which of the palette's colours: 0 is the accent."""
    path: str
    area: str


class Bar(NamedTuple):
    """One value as a bar."""

    x: float
    y: float
    width: float
    height: float
    tone: int
    title: str


class Hint(NamedTuple):
    """A stretch that says its values when it is pointed at."""

    x: float
    width: float
    title: str


class Chart(NamedTuple):
    """What is drawn."""

    label: str
    """What there is to see, for who does not see it."""
    width: float
    height: float
    y_ticks: Sequence[Tick] = ()
    x_ticks: Sequence[Tick] = ()
    lines: Sequence[Line] = ()
    bars: Sequence[Bar] = ()
    names: Sequence[tuple[str, int]] = ()
    """Of series, with their colours."""
    hints: Sequence[Hint] = ()
    rows: Sequence[Tick] = ()
    """Labels of lying bars."""


def line_chart(
    label: str,
    x: Sequence[float],
    x_names: Sequence[str],
    series: dict[str, Sequence[float | None]],
    unit: str = "",
) -> Chart:
    """Return series over `x`, which grows; the first one is filled, at a None the line breaks."""
    top = _round_up(max((v for ys in series.values() for v in ys if v is not None), default=0.0))
    low = min((v for ys in series.values() for v in ys if v is not None), default=0.0)
    bottom = -_round_up(-low) if low < 0 else 0.0
    at = _scale(x, LEFT, WIDTH)
    y_at = _span(bottom, top)
    lines = [
        Line(name, tone, _path(at, [None if v is None else y_at(v) for v in ys]),
             _area(at, [None if v is None else y_at(v) for v in ys]) if tone == 0 and low >= 0 else "")
        for tone, (name, ys) in enumerate(series.items())
    ]  # fmt: skip
    return Chart(
        label,
        WIDTH,
        HEIGHT,
        _y_ticks(bottom, top, y_at),
        _x_ticks(at, x_names),
        lines,
        names=[(line.name, line.tone) for line in lines],
        hints=_hints(at, x_names, series, unit),
    )


def bar_chart(
    label: str, x_names: Sequence[str], series: dict[str, Sequence[float | None]], unit: str = ""
) -> Chart:
    """Return columns, those of several series on top of each other where none is below zero."""
    totals = [sum(max(0.0, ys[n] or 0.0) for ys in series.values()) for n in range(len(x_names))]
    top = _round_up(max(totals, default=0.0))
    low = min((v for ys in series.values() for v in ys if v is not None), default=0.0)
    bottom = -_round_up(-low) if low < 0 else 0.0
    y_at = _span(bottom, top)
    step = (WIDTH - LEFT) / max(1, len(x_names))
    width = min(WIDEST_BAR, max(1.0, step * 0.72))
    bars, centres = [], []
    for n, name in enumerate(x_names):
        left = LEFT + n * step + (step - width) / 2
        centres.append(left + width / 2)
        reached = 0.0
        for tone, (series_name, ys) in enumerate(series.items()):
            value = ys[n]
            if not value:
                continue
            start = reached if value > 0 else 0.0
            y = min(y_at(start), y_at(start + value))
            told = f"{name}: {_told(value, unit)}" + (f" {series_name}" if len(series) > 1 else "")
            bars.append(Bar(_r(left), _r(y), _r(width), _r(abs(y_at(start) - y_at(start + value))),
                            tone, told))  # fmt: skip
            reached += max(0.0, value)
    names = [(name, tone) for tone, name in enumerate(series)] if len(series) > 1 else []
    return Chart(label, WIDTH, HEIGHT, _y_ticks(bottom, top, y_at), _x_ticks(centres, x_names),
                 bars=bars, names=names)  # fmt: skip


def row_chart(
    label: str, names: Sequence[str], values: Sequence[float | None], unit: str = ""
) -> Chart:
    """Return bars that lie below each other, each with its name and value."""
    most = max((abs(v) for v in values if v is not None), default=0.0) or 1.0
    left, step = 190, 22
    bars = [
        Bar(left, n * step + 4, _r(max(1.0, abs(value or 0.0) / most * (WIDTH - left - 80))), step - 8, 0,
            _told(value, unit) if value is not None else words.NOTHING)
        for n, value in enumerate(values)
    ]  # fmt: skip
    rows = [Tick(n * step + 15, _short(name, 26)) for n, name in enumerate(names)]
    return Chart(label, WIDTH, len(names) * step + 4, bars=bars, rows=rows)


def _told(value: float, unit: str) -> str:
    exact = words.number(value) if abs(value) >= 1 or value == 0 else f"{value:.3g}"
    return f"{exact} {unit}".strip()


def _scale(x: Sequence[float], start: float, end: float) -> list[float]:
    if len(x) < 2 or x[-1] == x[0]:
        return [_r((start + end) / 2)] * len(x)
    return [_r(start + (value - x[0]) / (x[-1] - x[0]) * (end - start)) for value in x]


def _span(bottom: float, top: float) -> Any:
    def at(value: float) -> float:
        share = (value - bottom) / (top - bottom or 1.0)
        return _r(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM))

    return at


def _round_up(value: float) -> float:
    """Return the next round number: 1, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten."""
    if value <= 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(
        (step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * 0.999),
        10 * power,
    )


def _y_ticks(bottom: float, top: float, at: Any) -> list[Tick]:
    values = [bottom, 0.0, top] if bottom < 0 else [0.0, top / 2, top]
    return [Tick(at(v), _axis_number(v)) for v in values]


def _axis_number(value: float) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M")):
        if abs(value) >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def _x_ticks(at: Sequence[float], names: Sequence[str]) -> list[Tick]:
    if not at:
        return []
    longest = max(map(len, names))
    room = max(2, int((WIDTH - LEFT) / (longest * 7 + 24)))
    count = min(len(at), room, 7)
    if count == 1:
        return [Tick(at[0], names[0])]
    picked = [round(n * (len(at) - 1) / (count - 1)) for n in range(count)]
    ticks = []
    for n in dict.fromkeys(picked):
        reach = len(names[n]) * 3.5
        is_first, is_last = at[n] - reach < 0, at[n] + reach > WIDTH
        anchor = "start" if is_first else "end" if is_last else "middle"
        ticks.append(Tick(at[n] if not is_last else WIDTH, names[n], anchor))
    return ticks


def _path(at: Sequence[float], ys: Sequence[float | None]) -> str:
    parts, pen_is_down = [], False
    for x, y in zip(at, ys, strict=True):
        if y is None:
            pen_is_down = False
            continue
        parts.append(f"{'L' if pen_is_down else 'M'}{x:g} {y:g}")
        pen_is_down = True
    if len(parts) == 1:  # a point alone would not be seen
        left, height = parts[0][1:].split(" ")
        return f"M{float(left) - 3:g} {height}h6"
    return "".join(parts)


def _area(at: Sequence[float], ys: Sequence[float | None]) -> str:
    if len(at) < 2 or any(y is None for y in ys):
        return ""
    base = HEIGHT - BOTTOM
    return f"{_path(at, ys)}V{base}H{at[0]:g}Z"


def _hints(
    at: Sequence[float], names: Sequence[str], series: dict[str, Sequence[float | None]], unit: str
) -> list[Hint]:
    if len(at) < 2 or len(at) > 400:
        return []
    hints = []
    for n, x in enumerate(at):
        left = LEFT if n == 0 else (at[n - 1] + x) / 2
        right = WIDTH if n == len(at) - 1 else (at[n + 1] + x) / 2
        told = [f"{name} {_told(v, unit)}" for name, ys in series.items() if (v := ys[n])]
        hints.append(
            Hint(_r(left), _r(right - left), f"{names[n]}: {', '.join(told) or 'nothing'}")
        )
    return hints


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _r(value: float) -> float:
    return round(value, 1)


def as_number(value: Any) -> float | None:
    """Return a value of a result as a number, None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    found = float(value)
    return found if math.isfinite(found) else None


def time_names(times: Sequence[datetime | date]) -> list[str]:
    """Return short names of times that grow: with the day where they span several."""
    if not times:
        return []
    if not isinstance(times[0], datetime):
        return [f"{at:%Y-%m-%d}" for at in times]
    moments = [at for at in times if isinstance(at, datetime)]
    span = moments[-1] - moments[0]
    if all(at.hour == at.minute == at.second == 0 for at in moments):
        return [f"{at:%Y-%m-%d}" for at in moments]
    form = "%H:%M:%S" if span < timedelta(minutes=10) else "%H:%M"
    if span >= timedelta(days=1):
        form = "%m-%d %H:%M" if span < timedelta(days=300) else "%Y-%m-%d"
    return [at.strftime(form) for at in moments]


def seconds_of(at: datetime | date) -> float:
    """Return a time as a number that grows with it."""
    if not isinstance(at, datetime):
        at = datetime(at.year, at.month, at.day, tzinfo=UTC)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
