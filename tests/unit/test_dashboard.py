"""What the pages say of what was read: sentences, transcripts, pictures."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from analytics.retention import Plan, Policy
from analytics.segment import Segment
from analytics.status import PartitionStatus as Archived
from eventlog import MessageReceived, SessionTransitioned, ToolCalled, ToolReturned
from eventlog.entry import Entry
from eventlog.errors import InvalidCursor
from eventlog.ids import START, EntryId
from projections.projecting.status import ModelStatus, PartitionStatus
from projections.views.activity import MINUTE_US, ConversationActivity, Minute
from projections.views.dead_letters import DeadLetter
from service.checks import Finding
from service.http.dashboard import archive, conversations, letters, overview, sessions, words
from service.http.dashboard.charts import bar_chart, line_chart, row_chart, time_names
from service.http.dashboard.logging_in import _next
from service.http.dashboard.projections import Rates, page_of
from service.http.dashboard.results import shown
from service.http.dashboard.transcript import brief_of, items_of, of_entry, of_row

NOW_US = 1_800_000_000_000_000


class TestWords:
    @pytest.mark.parametrize(
        ("ms", "said"),
        [(0, "0 s"), (38, "38 ms"), (412, "0.4 s"), (38_000, "38 s"), (119_000, "2 min"),
         (7_200_000, "2 h"), (100 * 3_600_000, "4 d"),
         (10**12, "32 y")],
    )  # fmt: skip
    def test_lasting(self, ms, said):
        assert words.lasting(ms) == said

    def test_what_happened_today_needs_no_day(self):
        assert words.when(NOW_US, NOW_US) == "08:00:00"
        assert words.when(NOW_US - 86_400_000_000, NOW_US) == "2027-01-14 08:00"
        assert words.when(10**18, NOW_US).startswith("9999-12-31")

    def test_sizes(self):
        assert words.size(412_000_000) == ("412", "MB")
        assert words.size(1_500_000_000) == ("1.5", "GB")


def seen(**changes: object) -> overview.Seen:
    given = {
        "now_us": NOW_US, "rate_per_s": 0.0, "entry_count": 10, "minutes": (), "letter_count": 0,
        "fresh_letter_count": 0, "failures": (), "used_bytes": 1, "limit_bytes": 0, "projected": (),
        "archived": (), "archive_error": None, "groups": (), "plan": None,
        "server": {"maxmemory_policy": "noeviction", "aof_enabled": 1},
    }  # fmt: skip
    return overview.Seen(**{**given, **changes})


def projected(**changes: object) -> PartitionStatus:
    given = {"partition": 0, "head": EntryId(1, 10), "models": [], "lag_count": 0,
             "oldest_age_ms": 0, "owner": "me", "rate_per_s": 0.0, "last_error": None}  # fmt: skip
    return PartitionStatus(**{**given, **changes})


class TestOverview:
    def test_all_is_well(self):
        page = overview.overview_of(seen(projected=[projected()]))
        assert (page.tone, page.findings) == ("fine", [])
        assert page.sentence == "Everything is being read, projected and archived."

    def test_an_empty_log_says_what_to_do(self):
        assert "Append the first event" in overview.overview_of(seen(entry_count=0)).sentence

    def test_one_behind_is_named(self):
        late = projected(lag_count=5, oldest_age_ms=120_000)
        page = overview.overview_of(seen(projected=[late]))
        assert page.tone == "look"
        assert "One reader is behind: projector" in page.sentence
        assert [each.check for each in page.findings] == ["read models"]

    def test_what_is_urgent_comes_first(self):
        off = {"maxmemory_policy": "noeviction", "aof_enabled": 0}
        late = projected(lag_count=5, oldest_age_ms=120_000)
        page = overview.overview_of(seen(server=off, projected=[late]))
        assert page.tone == "act"
        assert page.sentence.startswith("Act now on persistence")
        assert [each.verdict for each in page.findings] == ["act", "look"]
        assert all(isinstance(each, Finding) for each in page.findings)

    def test_the_hour_ends_with_the_last_whole_minute(self):
        minute = NOW_US // MINUTE_US
        hour = overview.hour_chart(
            [Minute(minute - 1, {"message.received:text": 600}), Minute(minute, {"x": 9})], NOW_US
        )
        assert hour is not None
        assert hour.title == "Events per second, last hour"
        assert [name for name, _ in hour.chart.names] == ["message.received"]

    def test_an_hour_of_long_ago_says_so(self):
        hour = overview.hour_chart([Minute(1000, {"a": 3, "b:c": 1})], NOW_US)
        assert hour is not None
        assert hour.title == "Events per minute, hour until 1970-01-01 16:40"
        assert "Nothing occurred in the last hour" in hour.note
        assert overview.hour_chart([], NOW_US) is None

    def test_the_archivers_lag_is_not_what_is_unprocessed(self):
        late = Archived(0, START, EntryId(1, 5), 5, 400_000, 0, True, 0, None)
        page = overview.overview_of(seen(archived=[late], projected=[projected()]))
        assert (page.oldest_ms, page.archive_age_ms) == (0, 400_000)
        assert page.tone == "fine"


def entries(*events: object) -> list[Entry]:
    return [Entry(0, EntryId(n, n), event, b"") for n, event in enumerate(events, 1)]


class TestTranscript:
    def test_a_tool_stands_where_it_was_called_with_what_came_of_it(self):
        common = {"conversation": "a:1", "session": "s"}
        happened = [
            of_entry(each)
            for each in entries(
                MessageReceived(**common, text="go", occurred_at=0),
                ToolCalled(**common, call="1", name="bash", arguments="ls", occurred_at=1_000_000),
                ToolCalled(**common, call="2", name="read", occurred_at=1_000_000),
                MessageReceived(**common, text="well?"),
                ToolReturned(**common, call="1", is_error=True, occurred_at=3_000_000),
            )
        ]
        items = items_of(happened)
        assert [(i.n, i.kind) for i in items] == [(1, "in"), (2, "tool"), (3, "tool"), (4, "in")]
        assert (items[1].outcome, items[1].duration_ms) == ("error", 2000)
        assert items[2].outcome == "running"
        assert items_of(happened, has_ended=True)[2].outcome == "interrupted"

    def test_a_return_without_its_call_is_there_all_the_same(self):
        [item] = items_of(
            [of_entry(*entries(ToolReturned(conversation="a:1", call="9", name="x")))]
        )
        assert (item.kind, item.outcome, item.who) == ("tool", "done", "x")

    def test_changes_are_told_in_words(self):
        ended = SessionTransitioned(
            conversation="a:1", session="s", to_status="failed", reason="why"
        )
        [item] = items_of([of_entry(*entries(ended))])
        assert item.text == "session failed: why"

    def test_rows_and_entries_say_the_same(self):
        event = MessageReceived(conversation="a:1", text="hi", sender="ada", occurred_at=5_000_000)
        row = dict.fromkeys(("call", "name", "arguments", "result", "duration_ms", "to_status",
                             "reason", "is_error"))  # fmt: skip
        row |= {"sequence": 1, "occurred_at": datetime(1970, 1, 1, 0, 0, 5), "type": event.type,  # noqa: DTZ001 - as the warehouse has it
                "sender": "ada", "text": "hi"}  # fmt: skip
        assert of_row(row) == of_entry(*entries(event))

    @pytest.mark.parametrize(
        ("arguments", "brief"),
        [('{"timeout": 1, "command": "ls  -l"}', "ls -l"), ('{"n": 1}', '{"n": 1}'),
         ("plain", "plain"), (None, ""), ('{"a": "b"}', "b"), ("[1]", "[1]"), ("x" * 900, None)],
    )  # fmt: skip
    def test_the_brief_of_arguments(self, arguments, brief):
        found = brief_of(arguments)
        assert found == brief if brief is not None else len(found) == 200


class TestSentences:
    def test_letters(self):
        none = letters.LetterList([], None, {}, [])
        assert letters.sentence(none) == "None is parked, and none ever was."
        some = none._replace(statuses={"parked": 12, "replaying": 2})
        assert letters.sentence(some).startswith("12 parked, none lost. 2 being replayed.")
        assert letters.told({"requested": 2, "nobody": 0}) == [
            ("fine", "2 letters asked to be replayed; the group's workers try it in order.")
        ]

    def test_who_would_not_try_a_letter(self):
        assert letters.why_not_replayed(DeadLetter("x", group="mine"), {"mine"}) == ""
        assert "ever ran here" in letters.why_not_replayed(DeadLetter("x", group="mine"), set())
        parked = DeadLetter("x", group="projector:history")
        assert "rebuild history" in letters.why_not_replayed(parked, set())

    def test_sessions(self):
        assert "No session yet" in sessions.sentence({})
        found = sessions.sentence({"active": 2, "pending": 1, "completed": 4, "failed": 1})
        assert (
            found
            == "3 go on now, 1 of them wait for their agent; 5 sessions asleep or over, 1 failed."
        )

    def test_conversations(self):
        items = [
            ConversationActivity(name) for name in ("telegram:12", "irc:#Help", "x", "telegram:1")
        ]
        assert [each.conversation for each in conversations.fitting(items, "telegram:1")] == [
            "telegram:12"
        ]
        assert [each.conversation for each in conversations.fitting(items, "#help")] == [
            "irc:#Help"
        ]

    def test_projections(self):
        model = ModelStatus("history", 1, EntryId(1, 9), 1, None, 2, EntryId(1, 4))
        rates = Rates()
        first = page_of([projected(models=[model])], (), rates, now_s=10.0)
        assert first.sentence == "Rebuilding history v2 beside v1. Readers still see v1."
        later = model._replace(building_position=EntryId(1, 8))
        [row] = page_of([projected(models=[later])], (), rates, now_s=12.0).rows
        assert row.building is not None
        assert (row.building.folded_count, row.building.rate_per_s) == (8, 2.0)
        assert row.building.left_ms == 1000.0
        assert "No projector runs" in page_of([projected(owner=None)], (), rates, 1.0).sentence

    def test_archive(self):
        plan = Plan(Policy(1000, None, None), ())
        row = archive.PartitionRow(0, 2, 0, 90, 10, 1000, [], date(2026, 1, 1))
        assert archive.sentence([row], None, plan) == (
            "The archive is whole: 2 files without a gap, 10 entries to come."
        )
        broken = row._replace(gaps=[(5, 9)])
        assert archive.sentence([broken], None, plan).startswith("1 gap in the archive")
        changed = archive.Seals(2, [("file", "was cut short")])
        assert archive.sentence([row], changed, plan).startswith("1 file changed")
        segments = [Segment(0, 1, 10, 0), Segment(0, 11, 15, 86_400_000)]
        found = archive.days_of(segments, {segments[0]: 7})
        assert [(each.row_count, each.byte_count) for each in found] == [(10, 7), (5, 0)]


class TestCharts:
    def test_a_line_breaks_where_nothing_is_known(self):
        chart = line_chart("x", [0, 1, 2], ["a", "b", "c"], {"s": [1.0, None, 3.0]})
        assert chart.lines[0].path.count("M") == 2
        assert chart.lines[0].area == ""
        assert len(chart.hints) == 3

    def test_bars_stand_on_each_other(self):
        chart = bar_chart("x", ["a"], {"ok": [3.0], "failed": [1.0]})
        assert chart.bars[1].y + chart.bars[1].height == pytest.approx(chart.bars[0].y, abs=0.2)

    def test_nothing_at_all_is_still_a_picture(self):
        assert line_chart("x", [], [], {}).lines == []
        assert bar_chart("x", [], {}).bars == []
        assert row_chart("x", [], []).bars == []

    def test_times_say_the_day_where_there_are_several(self):
        start = datetime(2026, 1, 1, 8, tzinfo=UTC)
        assert time_names([start, start + timedelta(hours=1)]) == ["08:00", "09:00"]
        assert time_names([start, start + timedelta(days=2)])[0] == "01-01 08:00"
        assert time_names([date(2026, 1, 2)]) == ["2026-01-02"]


class TestResults:
    def test_times_and_numbers_become_bars(self):
        table = pa.table({"day": [date(2026, 1, 1), date(2026, 1, 2)], "n": [1, 2]})
        found = shown(table)
        assert found.chart is not None
        assert len(found.chart.bars) == 2
        assert found.rows == [["2026-01-01", "1"], ["2026-01-02", "2"]]

    def test_names_and_numbers_become_rows(self):
        assert len(shown(pa.table({"type": ["a", None], "n": [1.5, None]})).chart.rows) == 2

    @pytest.mark.parametrize(
        "columns",
        [{"n": [1]}, {"t": ["a"]}, {"n": pa.array([], pa.int64()), "t": pa.array([], pa.string())}],
    )
    def test_what_does_not_lend_itself_has_none(self, columns):
        assert shown(pa.table(columns)).chart is None

    def test_odd_values_are_told_all_the_same(self):
        table = pa.table(
            {
                "a": [float("nan")],
                "b": [[1, 2]],
                "c": [b"x"],
                "d": ["y" * 900],
                "e": [True],
                "f": [None],
            }
        )
        [row] = shown(table).rows
        assert row[1] == "[1,2]"
        assert len(row[3]) == 300
        assert row[4:] == ["true", None]

    def test_infinite_numbers_are_left_out_of_the_picture(self):
        found = shown(pa.table({"t": ["a", "b"], "n": [float("inf"), 1.0]}))
        assert found.chart is not None

    def test_two_columns_of_a_name_and_no_columns(self):
        table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["n", "n"])
        assert [name for name, _, _ in shown(table).columns] == ["n", "n_2"]
        assert shown(pa.table({})).rows == []


@pytest.mark.parametrize(
    ("asked", "found"),
    [(None, "/"), ("/sql?x=1", "/sql?x=1"), ("//evil", "/"), ("/\\evil", "/"),
     ("https://evil", "/"), ("/a\nb", "/")],
)  # fmt: skip
def test_after_logging_in_one_stays_here(asked, found):
    assert _next(asked) == found


def test_a_cursor_of_another_list_is_refused():
    from projections.reading.paging import decode_cursor
    from service.http.dashboard.chats import _Before

    with pytest.raises(InvalidCursor):
        decode_cursor("nonsense", _Before)
