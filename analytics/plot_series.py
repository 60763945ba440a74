"""A result's columns as the series of a picture: which there is room for, and what is left out. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal
from operator import itemgetter
from typing import Any, NamedTuple

import pyarrow as pa

from analytics.report_header import Plot
from eventlog.errors import QueryFailed

MOST_SERIES = 8
MOST_ROWS = 24
"""Bars below each other that can be read."""


MOST_DAYS = 50_000
_REMEDY = "Mend the `-- plot:` line of the report."


class Series(NamedTuple):
    """Values of each series at each x; None where there is none."""

    x: list[Any]
    y: dict[str, list[float | None]]
    note: str
    """What the picture leaves out, or adds up."""


def series_of(plot: Plot, table: pa.Table) -> Series:
    """Return what the picture shows. Raises QueryFailed for a column that is not there or no number."""
    rows = [row for row in _rows(plot, table) if row[plot.x] is not None]
    if plot.kind in ("line", "points"):
        rows.sort(key=itemgetter(plot.x))
    x = [row[plot.x] for row in rows]
    if plot.kind == "points":  # those of equal time are points of their own
        places: Iterable[int] = range(len(x))
    else:
        distinct = _every_day(x) if plot.sums_rest else list(dict.fromkeys(x))
        number = {value: place for place, value in enumerate(distinct)}
        places, x = [number[value] for value in x], distinct
    values: dict[str, list[float | None]] = defaultdict(lambda: [None] * len(x))
    for place, row in zip(places, rows, strict=True):
        for column in plot.y:
            value, at = _number(column, row[column]), values[_name(plot, row, column)]
            before = at[place]
            at[place] = value if before is None or value is None else before + value
    if plot.sums_rest:
        for at in values.values():
            at[:] = [value or 0.0 for value in at]
    return _with_room(plot, x, dict(values))


def _rows(plot: Plot, table: pa.Table) -> list[dict[str, Any]]:
    wanted = [plot.x, *plot.y, *([plot.by] if plot.by else [])]
    missing = [name for name in wanted if name not in table.column_names]
    if missing:
        raise QueryFailed(
            f"the plot shows {', '.join(missing)}, but the result has only "
            f"{', '.join(table.column_names)}.",
            remedy=_REMEDY,
        )
    rows: list[dict[str, Any]] = table.select(list(dict.fromkeys(wanted))).to_pylist()
    return rows


def _every_day(x: list[Any]) -> list[Any]:
    """Return the distinct values; of days those between as well, on which there was nothing."""
    if not x or any(type(value) is not date for value in x):
        return list(dict.fromkeys(x))
    count = (x[-1] - x[0]).days + 1
    return (
        [x[0] + timedelta(days=n) for n in range(count)] if count <= MOST_DAYS else sorted(set(x))
    )


def _name(plot: Plot, row: dict[str, Any], column: str) -> str:
    if plot.by is None:
        return column
    name = "(none)" if row[plot.by] is None else str(row[plot.by])
    return name if len(plot.y) == 1 else f"{name} {column}"


def _number(column: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise QueryFailed(
            f"the plot shows {column}, which is no number but {value!r:.40}.",
            remedy=_REMEDY,
        )
    return float(value)


def _with_room(plot: Plot, x: list[Any], y: dict[str, list[float | None]]) -> Series:
    notes = []
    if len(y) > MOST_SERIES:
        ranked = sorted(y, key=lambda name: -sum(value or 0.0 for value in y[name]))
        rest = ranked[MOST_SERIES:]
        shown = {name: y[name] for name in ranked[:MOST_SERIES]}
        if plot.sums_rest:
            shown[f"{len(rest):,} others"] = [
                sum(found) if (found := [v for v in at if v is not None]) else None
                for at in zip(*(y[name] for name in rest), strict=True)
            ]
            notes.append(f"the {MOST_SERIES} largest of {len(y):,}, the others added up")
        else:
            notes.append(f"the {MOST_SERIES} largest of {len(y):,}")
        y = shown
    if plot.kind == "rows" and len(x) > MOST_ROWS:
        notes.append(f"the first {MOST_ROWS} of {len(x):,} rows")
        x, y = x[:MOST_ROWS], {name: values[:MOST_ROWS] for name, values in y.items()}
    return Series(x, y, "; ".join(notes))
