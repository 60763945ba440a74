"""Pictures of results: what they show, and that nothing in a result keeps them from being made."""

# ruff: noqa: DTZ001 - times of the views are naive UTC

from __future__ import annotations

import sys
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from analytics.plot_series import MOST_ROWS, MOST_SERIES, series_of
from analytics.plotting import draw, picture
from analytics.report_header import Plot
from eventlog.errors import ConfigurationError, QueryFailed

BARS = Plot("bars", "x", ("y",))


def table(**columns: list[Any]) -> pa.Table:
    return pa.table(columns)


class TestSeries:
    def test_a_column_may_hold_the_names_of_series(self):
        plot = Plot("line", "x", ("y",), by="chat")
        found = series_of(plot, table(x=[2, 1, 2], y=[5, 3, Decimal(1)], chat=["a", "a", None]))
        assert found.x == [1, 2]
        assert found.y == {"a": [3.0, 5.0], "(none)": [None, 1.0]}

    def test_days_without_anything_are_nothing_where_series_add_up(self):
        plot = Plot("line", "x", ("y",), sums_rest=True)
        found = series_of(plot, table(x=[date(2024, 1, 1), date(2024, 1, 3)], y=[5, 3]))
        assert [day.day for day in found.x] == [1, 2, 3]
        assert found.y == {"y": [5.0, 0.0, 3.0]}

    @pytest.mark.parametrize("sums_rest", [True, False])
    def test_series_beyond_the_largest_are_told(self, sums_rest):
        names = [f"c{n:02}" for n in range(12)]
        plot = Plot("bars", "x", ("y",), by="chat", sums_rest=sums_rest)
        found = series_of(plot, table(x=["k"] * 12, y=list(range(12)), chat=names))
        assert "the 8 largest of 12" in found.note
        assert list(found.y)[:MOST_SERIES] == names[::-1][:MOST_SERIES]
        assert found.y.get("4 others") == ([0.0 + 1 + 2 + 3] if sums_rest else None)

    def test_rows_are_as_many_as_can_be_read(self):
        plot = Plot("rows", "x", ("y",))
        found = series_of(plot, table(x=[str(n) for n in range(99)], y=[1] * 99))
        assert len(found.x) == len(found.y["y"]) == MOST_ROWS
        assert "24 of 99" in found.note

    def test_points_of_one_time_stay_apart(self):
        plot = Plot("points", "x", ("y",))
        found = series_of(plot, table(x=[1, 1, None], y=[5, 3, 9]))
        assert found.y == {"y": [5.0, 3.0]}

    @pytest.mark.parametrize(
        ("columns", "words"),
        [({"x": [1]}, "shows y, but the result has only x"), ({"x": [1], "y": ["a"]}, "no number")],
    )
    def test_a_plot_that_does_not_fit_the_result_is_refused(self, columns, words):
        with pytest.raises(QueryFailed, match=words):
            series_of(BARS, table(**columns))


AWKWARD = ["$x^$", "_hidden", "\x1b[31m\n", "漢字 🙂 العربية", "", "a" * 300, "<&>"]
DAYS = [datetime(2024, 1, day) for day in range(1, 8)]
PLOTS = {
    "bars": (Plot("bars", "x", ("y", "z"), unit="$"), AWKWARD),
    "stacked bars": (Plot("bars", "x", ("y", "z"), is_stacked=True), AWKWARD),
    "rows": (Plot("rows", "x", ("y", "z")), AWKWARD),
    "stacked rows": (Plot("rows", "x", ("y", "z"), is_stacked=True, unit="%"), AWKWARD),
    "line": (Plot("line", "x", ("y",), by="by"), DAYS),
    "points": (Plot("points", "x", ("y", "z"), is_log=True), DAYS),
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_picture_is_made_whatever_the_names_are(name: str) -> None:
    plot, x = PLOTS[name]
    result = table(x=x, y=[1, 0, None, 4, -5, 6, 7], z=[None] * 7, by=AWKWARD)
    result = result.set_column(2, "z", pa.array([None] * 7, pa.float64()))
    figure = draw(plot, "$a_b$ " * 50, AWKWARD[3], result)
    assert picture(figure, "png").startswith(b"\x89PNG")
    svg = picture(figure, "svg")
    assert b"<svg" in svg
    assert picture(figure, "svg") == svg


def test_an_empty_result_and_times_at_one_moment_are_pictures_too() -> None:
    empty = pa.table({"x": pa.array([], pa.timestamp("us")), "y": pa.array([], pa.int64())})
    for result in (empty, table(x=[DAYS[0]], y=[1]), table(x=[DAYS[0]], y=[0])):
        for kind in ("line", "points"):
            plot = Plot(kind, "x", ("y",), is_log=kind == "points")
            assert picture(draw(plot, "t", "", result), "png").startswith(b"\x89PNG")


def test_what_a_picture_says(  # as text, which an SVG keeps
) -> None:
    plot = Plot("line", "day", ("messages",), by="chat", unit="messages")
    result = table(day=[date(2024, 3, 1), date(2024, 3, 9)], messages=[1500, 2500], chat=["a", "b"])
    svg = picture(draw(plot, "Messages per day", "chat a", result), "svg").decode()
    for text in ("Messages per day", "chat a", "messages", "day (UTC)", "2024-Mar", "2,500"):
        assert f">{text}<" in svg, text


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'eventlog\[plot\]'"):
        draw(BARS, "t", "", table(x=["a"], y=[1]))
