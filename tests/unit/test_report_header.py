"""What a report's file says about itself."""

# ruff: noqa: DTZ001 - times of the views are naive UTC

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from analytics.report_header import Parameter, Plot, parse_report
from analytics.report_values import value_of
from analytics.reports import Reports, question, said
from eventlog.errors import ConfigurationError, InvalidQuery

NOW_US = 1_735_689_600_000_000  # 2025-01-01
GOOD = """\
-- title: Letters by age
-- description: How old they are,
--     counted from now.
-- parameter: since time = none: from then on
-- parameter: top integer = 10: how many: at most
-- parameter: chat text: which one
-- plot: bars x=age y=letters,days by=reason unit=% scale=log rest=sum stacked
SELECT $since, $top, $chat -- plot: not here
"""


class TestHeader:
    def test_all_it_can_say(self):
        report = parse_report("letters", GOOD)
        assert report.title == "Letters by age"
        assert report.description == "How old they are, counted from now."
        assert report.parameters == (
            Parameter("since", "time", "from then on", None, is_required=False),
            Parameter("top", "integer", "how many: at most", 10, is_required=False),
            Parameter("chat", "text", "which one", None, is_required=True),
        )
        assert report.plot == Plot(
            "bars",
            "age",
            ("letters", "days"),
            "reason",
            "%",
            is_log=True,
            is_stacked=True,
            sums_rest=True,
        )
        assert report.sql == GOOD

    def test_a_title_is_enough(self):
        report = parse_report("one", "-- title: One\n--\nSELECT 1")
        assert (report.description, report.parameters, report.plot) == ("", (), None)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("SELECT 1", "no title"),
            ("", "no title"),
            ("-- title: a\n-- title: b\nSELECT 1", "x.sql:2: 'title' is there twice"),
            ("-- title: a\n-- author: me\nSELECT 1", "x.sql:2: '-- author: me' is no part"),
            ("-- title: a\n-- parameter: since\nSELECT 1", "'since' is no parameter"),
            ("-- title: a\n-- parameter: a date = 1: b\nSELECT 1", "'date' is no type"),
            ("-- title: a\n-- parameter: a integer = x: b", "the default 'x' is no integer"),
            ("-- title: a\n-- parameter: a text: b\n-- parameter: a text: c", "'a' is there twice"),
            ("-- title: a\n-- plot: pie x=a y=b", "'pie' is no plot. Plots: line, bars"),
            ("-- title: a\n-- plot: line x=a", "names no x or no y"),
            ("-- title: a\n-- plot: line x=a y=b colour=red", "does not know colour"),
        ],
    )
    def test_what_is_wrong_is_named_with_its_line(self, text, words):
        with pytest.raises(ConfigurationError) as caught:
            parse_report("x", text)
        assert words in str(caught.value)


class TestValues:
    @pytest.mark.parametrize(
        ("kind", "text", "value"),
        [
            ("text", "none", "none"),
            ("text", "", ""),
            ("integer", "-7", -7),
            ("integer", "none", None),
            ("number", "1e3", 1000.0),
            ("boolean", "Yes", True),
            ("boolean", "0", False),
            ("time", "2024-02-29", datetime(2024, 2, 29)),
            ("time", "2024-02-29T23:00-02:00", datetime(2024, 3, 1, 1)),
            ("time", "2024-02-29 10:30:00Z", datetime(2024, 2, 29, 10, 30)),
            ("time", "1d12h", datetime(2024, 12, 30, 12)),
            ("time", "none", None),
        ],
    )
    def test_what_people_write(self, kind, text, value):
        assert value_of(kind, text, NOW_US) == value

    @pytest.mark.parametrize(
        ("kind", "text"),
        [
            ("integer", "1.5"),
            ("integer", str(2**63)),
            ("integer", ""),
            ("number", "nan"),
            ("number", "inf"),
            ("boolean", "maybe"),
            ("time", "yesterday"),
            ("time", "2024-13-01"),
            ("time", "999999999w"),
            ("time", "0001-01-01T00:00+14:00"),
        ],
    )
    def test_what_nothing_can_be_made_of(self, kind, text):
        with pytest.raises(ValueError, match=r"^is "):
            value_of(kind, text, NOW_US)


class TestQuestions:
    def test_defaults_stand_where_nothing_is_given(self):
        sql, values = question(parse_report("letters", GOOD), {"chat": "a", "since": "1d"}, NOW_US)
        assert sql == GOOD
        assert values == {"since": datetime(2024, 12, 31), "top": 10, "chat": "a"}
        assert said(parse_report("letters", GOOD), values) == (
            "since 2024-12-31 00:00 UTC, top 10, chat a"
        )

    def test_values_of_python_are_taken_too(self):
        given = {"chat": 5, "top": 3, "since": datetime(2024, 1, 2).date()}
        _, values = question(parse_report("letters", GOOD), given, NOW_US)
        assert values == {"since": datetime(2024, 1, 2), "top": 3, "chat": "5"}

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({}, "needs a value for chat"),
            ({"chat": "a", "sinc": "1d"}, "no parameter 'sinc'; 'since', perhaps. It takes: since"),
            ({"chat": "a", "top": "many"}, "top=many is no integer"),
            ({"chat": "a", "top": 1.5}, "top=1.5 is no integer"),
            ({"chat": "a", "since": 5}, "since=5 is no time"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, given, words):
        with pytest.raises(InvalidQuery) as caught:
            question(parse_report("letters", GOOD), given, NOW_US)
        assert words in str(caught.value)


class TestFolders:
    def test_ours_are_seven_and_each_says_all_there_is_to_say(self):
        for report in Reports().all():
            assert report.title
            assert report.description
            assert report.plot
            assert {"since", "until", "chat"} <= {each.name for each in report.parameters}
        assert len(Reports().names()) == 7

    def test_your_own_join_them_and_may_take_the_place_of_one(self, tmp_path: Path):
        (tmp_path / "stars.sql").write_text("-- title: Stars\nSELECT 1")
        (tmp_path / "tools.sql").write_text("-- title: My tools\nSELECT 1")
        (tmp_path / "notes.txt").write_text("no report")
        reports = Reports([tmp_path, tmp_path / "missing"])
        assert len(reports.names()) == 8
        assert reports.get("tools").title == "My tools"

    @pytest.mark.parametrize(
        ("name", "text", "words"),
        [
            ("a.sql", "-- title: a\nSELECT $x", "parameters are none, those of the SQL x"),
            ("a.sql", "-- title: a\n-- parameter: x text: b\nSELECT 1", "are x, those of the SQL"),
            ("a.sql", "-- title: a\nSELECT 1; SELECT 2", "one statement, not 2"),
            ("a.sql", "-- title: a\nSELEC", "a.sql: Parser Error"),
            ("A b.sql", "-- title: a\nSELECT 1", "'A b.sql' cannot name a report"),
            ("a.sql", "-- title: \udcff", "not UTF-8"),
        ],
    )
    def test_a_file_that_is_no_report_is_named(self, tmp_path: Path, name, text, words):
        (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(ConfigurationError) as caught:
            Reports([tmp_path]).all()
        assert words in str(caught.value)

    def test_an_unknown_one_is_answered_with_those_there_are(self):
        with pytest.raises(InvalidQuery, match=r"no report 'toolz'; 'tools', perhaps. Reports: b"):
            Reports().get("toolz")
