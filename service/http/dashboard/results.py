"""What a query gave: rows as people read them, and a picture where the columns lend themselves to it.

Pure. A picture needs a column of times or names, and one of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

import pyarrow as pa

from analytics.plot_series import series_of
from analytics.report_header import Plot
from service.http.dashboard.charts import (
    MOST_SERIES,
    Chart,
    as_number,
    bar_chart,
    line_chart,
    row_chart,
    seconds_of,
    time_names,
)
from service.results import distinct, to_json

SHOWN_ROWS = 200
MOST_POINTS = 2000
MOST_BARS = 60
MOST_ROWS = 24
LONGEST_CELL = 300


class Shown(NamedTuple):
    """A result."""

    columns: Sequence[tuple[str, str, bool]]
    """Name, type, whether it is a number."""
    rows: Sequence[Sequence[str | None]]
    row_count: int
    chart: Chart | None
    chart_note: str


def shown(table: pa.Table, plot: Plot | None = None) -> Shown:
    """Return a result as the page shows it; with `plot` the picture that a report asks for."""
    names = distinct(table.column_names)
    table = table.rename_columns(names)
    columns = [
        (name, str(f.type), is_number(f.type)) for name, f in zip(names, table.schema, strict=True)
    ]
    head = table.slice(0, SHOWN_ROWS)
    lists = [_texts(column) for column in head.columns]
    rows = [list(row) for row in zip(*lists, strict=True)] if lists else []
    chart, note = chart_of(table) if plot is None else _asked_for(table, plot)
    return Shown(columns, rows, table.num_rows, chart, note)


def is_number(kind: pa.DataType) -> bool:
    """Return whether values of a type are numbers."""
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def chart_of(table: pa.Table) -> tuple[Chart | None, str]:
    """Return the picture of a result, or why there is none."""
    times = [
        f.name for f in table.schema if pa.types.is_timestamp(f.type) or pa.types.is_date(f.type)
    ]
    numbers = [f.name for f in table.schema if is_number(f.type)]
    texts = [
        f.name
        for f in table.schema
        if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)
    ]
    if not numbers or not table.num_rows:
        return None, ""
    if not times and not texts:
        return None, "No picture: it needs a column of times or of names beside the numbers."
    if not times:
        y = numbers[0]
        top = table.slice(0, MOST_ROWS)
        note = f"The first {MOST_ROWS} rows." if table.num_rows > MOST_ROWS else ""
        labels = [str(v) for v in top[texts[0]].to_pylist()]
        values = [as_number(v) for v in top[y].to_pylist()]
        return row_chart(f"{y} by {texts[0]}", labels, values), note
    if table.num_rows > MOST_POINTS:
        return (
            None,
            f"No picture of more than {MOST_POINTS:,} rows: sum them up, for example by hour.",
        )
    by = texts[0] if texts and len(numbers) == 1 else None
    return _over_time(table, Plot("line", times[0], tuple(numbers[:MOST_SERIES]), by))


def _asked_for(table: pa.Table, plot: Plot) -> tuple[Chart | None, str]:
    if not table.num_rows:
        return None, ""
    if plot.kind == "rows":
        series = series_of(plot, table)
        first = next(iter(series.y))
        values: Sequence[float | None] = series.y[first]
        note = series.note
        if plot.is_stacked:
            values = [sum(ys[n] or 0 for ys in series.y.values()) for n in range(len(series.x))]
            note = "; ".join(filter(None, [note, f"the sum of {', '.join(series.y)}"]))
        names = [str(x) for x in series.x[:MOST_ROWS]]
        return row_chart(f"{plot.unit} by {plot.x}", names, values[:MOST_ROWS], plot.unit), note
    return _over_time(table, plot)


def _over_time(table: pa.Table, plot: Plot) -> tuple[Chart | None, str]:
    found = series_of(plot, table)
    shown_names = sorted(found.y, key=lambda name: -sum(v or 0.0 for v in found.y[name]))[
        :MOST_SERIES
    ]
    kept: dict[str, Sequence[float | None]] = {name: found.y[name] for name in shown_names}
    note = found.note
    if len(found.y) > MOST_SERIES:
        note = f"the {MOST_SERIES} largest of {len(found.y):,} series"
    x = list(found.x)
    label = f"{', '.join(plot.y)} by {plot.x}" + (
        f", a series for each {plot.by}" if plot.by else ""
    )
    if not x:
        return None, ""
    is_time = isinstance(x[0], date | datetime)
    names = time_names(x) if is_time else [str(value) for value in x]
    if (not is_time or len(x) <= MOST_BARS) and plot.kind != "points":
        return bar_chart(label, names, kept, plot.unit), note
    at = [seconds_of(value) for value in x] if is_time else list(range(len(x)))
    return line_chart(label, at, names, kept, plot.unit), note


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    try:
        values: list[Any] = column.to_pylist()
    except (OverflowError, ValueError):  # a time that Python has no room for
        values = column.cast(pa.string()).to_pylist()
    return [None if value is None else _text(value) for value in values]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        text = value.isoformat(" ")
    elif isinstance(value, float):
        text = f"{value:,.6g}" if abs(value) < 1e15 else str(value)
    elif isinstance(value, list | dict | tuple):
        text = to_json(value).decode()
    else:
        text = str(value)
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…"
