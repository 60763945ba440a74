"""A query's result as a table for people."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from eventlog.errors import QueryFailed
from service.cli.output import print_table, say, sql_cell

ROWS_SHOWN = 1000


def print_result(
    table: pa.Table,
    rows_shown: int = ROWS_SHOWN,
    hint: str = "--format csv or --output has all",
) -> None:
    """Print the first rows, and say where the others are."""
    shown = table.slice(0, rows_shown)
    rows = zip(*map(_values, shown.columns), strict=True)
    print_table(shown.column_names, rows, show=sql_cell)
    if table.num_rows > rows_shown:
        say(f"{rows_shown:,} of {table.num_rows:,} rows; {hint}", "yellow")


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Return the column's values; times that Python has no room for as Arrow writes them."""
    try:
        values: list[Any] = column.to_pylist()
    except (OverflowError, ValueError) as error:
        try:
            values = column.cast(pa.string()).to_pylist()
        except pa.ArrowException:
            raise QueryFailed(
                f"a value cannot be shown: {error}.", remedy="Cast the column to VARCHAR."
            ) from None
    return values
