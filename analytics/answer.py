"""A query's result in the form that its reader likes: Arrow, pandas, polars, plain Python."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from analytics.plotting import draw
from analytics.report_header import Report
from eventlog.errors import ConfigurationError, InvalidQuery

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    from matplotlib.figure import Figure

ROWS_SHOWN = 20
"""Of an answer that a notebook shows by itself."""


class Answer:
    """Rows and columns; times are naive UTC."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @property
    def columns(self) -> list[str]:
        """The columns' names."""
        return list(self._table.column_names)

    def arrow(self) -> pa.Table:
        """Return the Arrow table, of which the others are copies."""
        return self._table

    def pandas(self) -> pd.DataFrame:
        """Return a pandas DataFrame. Raises ConfigurationError where pandas is not installed."""
        try:
            import pandas  # noqa: F401 - pyarrow needs it
        except ImportError as error:
            raise _not_installed("pandas", error) from None
        return self._table.to_pandas()

    def polars(self) -> pl.DataFrame:
        """Return a polars DataFrame. Raises ConfigurationError where polars is not installed."""
        try:
            import polars as pl
        except ImportError as error:
            raise _not_installed("polars", error) from None
        frame = pl.from_arrow(self._table)
        assert isinstance(frame, pl.DataFrame)
        return frame

    def rows(self) -> list[dict[str, Any]]:
        """Return a dict for each row."""
        rows: list[dict[str, Any]] = self._table.to_pylist()
        return rows

    def __repr__(self) -> str:
        return f"<{len(self):,} rows: {', '.join(self.columns)}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows of an answer that is the last line of a cell."""
        shown = self._table.slice(0, ROWS_SHOWN)
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        columns = [[_text(value) for value in column] for column in shown.columns]
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in row)}</tr>"
            for row in zip(*columns, strict=True)
        )
        more = f"<p>{ROWS_SHOWN} of {len(self):,} rows</p>" if len(self) > ROWS_SHOWN else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


class ReportAnswer(Answer):
    """What a report says, and its picture."""

    def __init__(self, table: pa.Table, report: Report, subtitle: str) -> None:
        super().__init__(table)
        self.report = report
        self.subtitle = subtitle
        """What was asked for, in words."""

    def figure(self) -> Figure:
        """Return the report's picture as a matplotlib figure.

        Raises InvalidQuery where the report has no plot, ConfigurationError without matplotlib.
        """
        if self.report.plot is None:
            raise InvalidQuery(
                f"report {self.report.name!r} has no plot.", remedy="Add a `-- plot:` line to it."
            )
        return draw(self.report.plot, self.report.title, self.subtitle, self._table)


def _text(value: pa.Scalar) -> str:
    try:
        plain = value.as_py()
    except (OverflowError, ValueError):
        plain = value.cast(pa.string()).as_py()  # a time that Python has no room for
    return "" if plain is None else str(plain)[:200]


def _not_installed(extra: str, error: ImportError) -> ConfigurationError:
    return ConfigurationError(
        f"{error}.", remedy=f"Install it with `pip install 'eventlog[{extra}]'`."
    )
