"""A query's result as a table for people."""

from __future__ import annotations

import pyarrow as pa

from service.cli.output import print_table, say, sql_cell

ROWS_SHOWN = 1000


def print_result(
    table: pa.Table,
    rows_shown: int = ROWS_SHOWN,
    hint: str = "--format csv or --output has all",
) -> None:
    """Print the first rows, and say where the others are."""
    shown = table.slice(0, rows_shown)
    rows = zip(*(column.to_pylist() for column in shown.columns), strict=True)
    print_table(shown.column_names, rows, show=sql_cell)
    if table.num_rows > rows_shown:
        say(f"{rows_shown:,} of {table.num_rows:,} rows; {hint}", "yellow")
