from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from eventlog.errors import QueryFailed
from service.cli.layout import GAP, Column, fit, measure
from service.cli.output import (
    LONGEST_CELL,
    cell,
    clean,
    duration,
    moment,
    one_line,
    print_json,
    print_table,
    sql_cell,
    table_lines,
)
from service.results import Format, distinct, format_of, to_json, write

# --- cells


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (True, "yes"),
        (1234567, "1,234,567"),
        (0.5, "0.50"),
        (datetime(2024, 1, 2, 3, 4, 5, 999, UTC), "2024-01-02 03:04:05"),
        ("two\n  lines\tand more ", "two lines and more"),
    ],
)
def test_a_cell_is_for_people(value, shown):
    assert cell(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "NULL"),
        (False, "false"),
        (2024, "2024"),
        (-1001234567890, "-1001234567890"),
        (0.1, "0.1"),
        (Decimal("1.500"), "1.500"),
        (date(2024, 1, 2), "2024-01-02"),
        (
            datetime(2024, 1, 2, 3, 4, 5, 600, UTC).replace(tzinfo=None),
            "2024-01-02 03:04:05.000600",
        ),
        ([1, None], "[1,null]"),
        ({"a": "b"}, '{"a":"b"}'),
    ],
)
def test_a_cell_of_a_query_is_as_sql_writes_it(value, shown):
    assert sql_cell(value) == shown


@given(st.text())
def test_no_text_can_steer_a_terminal(text):
    cleaned = clean(text)
    assert all(c.isprintable() or c in "\u200c\u200d" for c in cleaned)
    assert clean(cleaned) == cleaned
    cleaned.replace("\ufffd", "").encode()  # no lone surrogate is left


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("\x1b[2Jgone\x07", "\ufffd[2Jgone\ufffd"),
        ("abc\u202ecba\u2069", "abccba"),
        ("👩\u200d🚀 नक्\u200cश", "👩\u200d🚀 नक्\u200cश"),
        ("\ud800", "\ufffd"),
        ("שלום", "שלום"),
    ],
)
def test_what_words_and_emoji_are_made_of_stays(text, cleaned):
    assert clean(text) == cleaned


def test_a_long_cell_is_cut_with_an_ellipsis():
    assert len(cell("x" * 20_000)) == LONGEST_CELL
    assert cell("x" * 20_000).endswith("x…")
    assert cell("x" * LONGEST_CELL) == "x" * LONGEST_CELL


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (3900, "1 h 05 min"),
        (90_000, "1 d 01 h"),
    ],
)
def test_durations(seconds, shown):
    assert duration(seconds) == shown


def test_a_moment_no_calendar_has_is_none():
    assert moment(None) is None
    assert moment(2**62) is None
    assert moment(0) == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            'Parser Error: at "selec"\n\nLINE 2: selec x\n        ^^^^^ Views: a.',
            'Parser Error: at "selec" (line 2). Views: a.',
        ),
        (
            "Binder Error: no x!\nCandidates: a\n\nLINE 1: x\n   ^",
            "Binder Error: no x! Candidates: a (line 1).",
        ),
        ("one\ntwo", "one two"),
    ],
)
def test_an_error_is_one_line(text, line):
    assert one_line(text) == line


# --- layout

columns_needed = st.lists(
    st.tuples(st.integers(1, 90), st.integers(1, 90), st.integers(1, 90)).map(
        lambda n: Column(*sorted(n, reverse=True))
    ),
    min_size=1,
    max_size=8,
)


@given(columns_needed, st.integers(20, 200), st.data())
def test_what_fits_fits_and_nothing_is_squeezed_below_its_least(columns, room, data):
    spare = data.draw(st.lists(st.sampled_from(range(len(columns))), unique=True))
    widths = fit(columns, room, spare)
    needed = [i for i in range(len(columns)) if i not in spare]
    if widths is None:
        least = sum(columns[i].least for i in needed) + GAP * (len(needed) - 1)
        assert least > room
        return
    assert set(needed) <= widths.keys()
    assert list(widths) == sorted(widths)
    assert sum(widths.values()) + GAP * (len(widths) - 1) <= room
    assert all(columns[i].least <= width <= columns[i].natural for i, width in widths.items())
    if sum(c.natural for c in columns) + GAP * (len(columns) - 1) <= room:
        assert widths == {i: c.natural for i, c in enumerate(columns)}


def test_headings_give_way_before_texts_and_texts_before_spare_columns():
    ids, text, number = Column(50, 50, 50), Column(60, 60, 20), Column(10, 5, 5)
    assert fit([ids, number], 62) == {0: 50, 1: 10}
    assert fit([ids, number], 60) == {0: 50, 1: 5}
    assert fit([ids, text], 80) == {0: 50, 1: 28}
    assert fit([ids, text, number], 80, spare=[2]) == {0: 50, 1: 21, 2: 5}
    assert fit([ids, text, number], 76, spare=[2]) == {0: 50, 1: 24}
    assert fit([ids, text], 60) is None


def test_ids_are_whole_and_texts_may_wrap():
    assert measure("id", ["x" * 60]) == (60, 60, 60)
    assert measure("at (UTC)", ["2024-01-02 03:04:05"]) == (19, 19, 19)
    assert measure("text", ["a longer text that has blanks in it"]) == (35, 35, 20)
    assert measure("text", ["字" * 31]) == (62, 62, 20)  # 62 cells without a blank
    assert measure("tool calls", ["7"]) == (10, 5, 5)
    assert measure("nothing", []) == (7, 7, 7)


# --- tables and JSON


def test_a_table_that_is_piped_has_a_line_per_row_whatever_its_width(capsys):
    rows = [("short", 5, "é" * 150), ("👩\u200d🚀", 12_345, None)]
    assert print_table(("name", "n", "text"), rows) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "n", "text"]
    assert lines[1] == f"short       5  {'é' * 150}"
    assert lines[2].split() == ["👩\u200d🚀", "12,345", "-"]
    assert print_table(("a", "b"), []) == 0
    assert capsys.readouterr().out == "a  b\n"


rows_of_texts = st.lists(st.tuples(st.text(max_size=9).map(clean), st.text(max_size=9).map(clean)))


@given(rows_of_texts)
def test_columns_stand_below_each_other(rows):
    lines = list(table_lines("ab|", [(*row, "|") for row in rows], [False, True, False]))
    assert len(lines) == len(rows) + 1
    assert len({cell_len(line) for line in lines}) == 1


def test_json_is_utf8_whatever_the_locale(capsysbinary):
    print_json({"text": "é\x1b", "n": 1})
    assert capsysbinary.readouterr().out == '{"text":"é\\u001b","n":1}\n'.encode()


# --- results


def test_the_name_of_a_file_says_its_format():
    names = ("a.CSV", "a.json", "a.jsonl", "a.parquet", "a.txt", "a")
    expected = [Format.CSV, Format.JSON, Format.JSON, Format.PARQUET, None, None]
    assert [format_of(Path(name)) for name in names] == expected


@given(st.lists(st.sampled_from(["a", "a_2", "a_3", "b"])))
def test_names_are_made_distinct_and_the_first_of_each_stays(names):
    made = distinct(names)
    assert len(made) == len(set(made)) == len(names)
    for name in set(names):
        assert made[names.index(name)] == name


def test_sums_are_numbers_in_json():
    assert to_json({"s": Decimal(12345678901234567890), "d": date(2024, 1, 2)}) == (
        b'{"s":12345678901234567890,"d":"2024-01-02"}'
    )


def test_a_type_without_room_in_the_format_is_a_query_that_failed():
    moments = pa.array([pa.MonthDayNano([1, 2, 3])])
    table = pa.table({"i": moments, "l": [[1, 2]]})
    with pytest.raises(QueryFailed, match="cannot be written as parquet"):
        write(table, Format.PARQUET, BytesIO())
    file = BytesIO()
    write(table, Format.CSV, file)
    assert file.getvalue().splitlines()[1] == b'"[1,2,3]","[1,2]"'
