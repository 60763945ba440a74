from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.importers import irc
from bridge.importers.irc_clock import DayClock, Shown, midnight_us, starts_past_noon
from bridge.importers.items import Imported, Rejected
from bridge.importers.source import Source
from eventlog.vocabulary import BridgeEvent, MessageReceived, MessageSent

DATA = Path(__file__).parent.parent / "data" / "irc-ubuntu"


def read(path: Path) -> list[Imported | Rejected]:
    return [i for i in irc.parse(Source(path)) if isinstance(i, Imported | Rejected)]


def read_lines(folder: Path, name: str, *lines: str) -> list[Imported | Rejected]:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return read(path)


def imported(items: list[Imported | Rejected]) -> list[Imported]:
    assert not [i for i in items if isinstance(i, Rejected)]
    return [i for i in items if isinstance(i, Imported)]


def moment(item: Imported) -> str:
    at = datetime.fromtimestamp(item.events[0].occurred_at / 1_000_000, UTC)
    return at.strftime("%Y-%m-%d %H:%M:%S")


@pytest.mark.parametrize(
    ("line", "kind", "sender", "text", "message_type"),
    [
        ("[09:14] <cat> hello <you>", "message", "cat", "hello <you>", "text"),
        ("[09:14] <cat>", "message", "cat", "", "text"),
        ("[09:14]  * cat purrs", "action", "cat", "purrs", "action"),
        ("[09:14] -cat:#ubuntu- psst", "notice", "cat", "psst", "notice"),
        ("[09:14] -a-b:#ubuntu- psst", "notice", "a-b", "psst", "notice"),
    ],
)
def test_what_people_say_in_a_day_file(tmp_path, line, kind, sender, text, message_type):
    [item] = imported(read_lines(tmp_path, "2010-01-31.txt", line))
    [event] = item.events
    assert isinstance(event, MessageReceived)
    assert item.kinds == (kind, "senders")
    assert (event.sender, event.text, event.message_type) == (sender, text, message_type)
    assert event.conversation == "irc:#ubuntu"
    assert moment(item) == "2010-01-31 09:14:00"


@pytest.mark.parametrize(
    ("line", "event_type"),
    [
        ("=== cat [user@redacted.invalid]  has joined #ubuntu", "irc.join"),
        ('=== cat [user@redacted.invalid]  has left #ubuntu ["bye"]', "irc.part"),
        ("=== cat is now known as dog", "irc.rename"),
        ("=== mode/#ubuntu [+o cat]  by ChanServ", "irc.mode"),
        ("=== cat boots his Xbox", "irc.system"),
    ],
)
def test_system_lines_take_the_time_of_the_line_before(tmp_path, line, event_type):
    items = imported(read_lines(tmp_path, "2010-01-31.txt", "[23:58] <cat> x", line))
    event = items[1].events[0]
    assert isinstance(event, BridgeEvent)
    assert (event.event_type, items[1].kinds) == (event_type, ("system",))
    assert moment(items[1]) == "2010-01-31 23:58:00"


def test_a_system_line_before_any_time_takes_the_first(tmp_path):
    items = imported(
        read_lines(tmp_path, "2010-01-31.txt", "=== cat is now known as d", "[08:05] <d> x")
    )
    assert moment(items[0]) == "2010-01-31 08:05:00"


def test_a_quoted_line_is_other(tmp_path):
    [item] = imported(read_lines(tmp_path, "2006-12-06.txt", "[01:09] (sound/#ubuntu) cat: look"))
    assert item.kinds == ("other",)
    assert item.events[0].event_type == "irc.other"


def test_dated_lines_carry_channel_date_and_seconds(tmp_path):
    items = imported(
        read_lines(
            tmp_path,
            "rust.0.ascii.txt",
            "rust 2018-05-29 [23:59:58] <talchas>\t hi  ",
            "rust 2018-05-30 [00:00:01] * talchas  waves  ",
            "rust 2018-05-30 [00:00:02] -eval- () ",
            "rust 2018-05-30 === a is now known as b ",
            "rust 2018-05-31 === b is now known as c ",
        )
    )
    said, waved, evaluated, renamed, next_day = items
    assert (said.events[0].text, said.events[0].conversation) == ("hi", "irc:#rust")
    assert said.events[0].id == "irc:rust:2018-05-29:23:59:58:1"
    assert waved.kinds == ("action", "clock_rollovers")
    assert isinstance(evaluated.events[0], MessageSent)
    assert renamed.kinds == ("other",)
    assert moment(renamed) == "2018-05-30 00:00:02"
    assert moment(next_day) == "2018-05-31 00:00:00"


@pytest.mark.parametrize("bot", ["gerrit-wm", "wikibugs"])
def test_bots_spoke_themselves(tmp_path, bot):
    [item] = imported(
        read_lines(tmp_path, "x.txt", f"mediawiki 2013-01-26 [15:04:04] <{bot}>\t done")
    )
    assert isinstance(item.events[0], MessageSent)


def test_an_unknown_line_is_rejected_and_the_rest_goes_on(tmp_path):
    path = tmp_path / "2010-01-31.txt"
    path.write_bytes(
        b"[09:14] <cat> a\nwhat is this\n[25:00] <cat> b\n[09:15] <cat> \xff\n[09:16] <cat> c\n"
    )
    items = read(path)
    assert [(i.line, i.reason) for i in items if isinstance(i, Rejected)] == [
        (2, "not a line of an IRC log"),
        (3, "not a line of an IRC log"),
        (4, "not UTF-8 text"),
    ]
    assert [i.line for i in items if isinstance(i, Imported)] == [1, 5]


def test_a_day_file_without_a_date_is_rejected_with_the_reason(tmp_path):
    [item] = read_lines(tmp_path, "chat.txt", "[09:14] <cat> a")
    assert isinstance(item, Rejected)
    assert "date" in item.reason


def test_the_channel_may_be_in_the_file_name(tmp_path):
    [item] = imported(read_lines(tmp_path, "#python.2020-01-01.txt", "[09:14] <cat> a"))
    assert item.events[0].conversation == "irc:#python"


def test_a_twelve_hour_log_that_crosses_midnight():
    items = imported(read(DATA / "2006-12-06.excerpt.raw.txt"))
    moments = [i.events[0].occurred_at for i in items]
    assert moments == sorted(moments)
    rolled = [i for i in items if "clock_rollovers" in i.kinds]
    assert [moment(i) for i in rolled] == ["2006-12-07 00:00:00"]
    assert moment(items[0])[:13] == "2006-12-06 23"
    assert moment(items[-1]) == "2006-12-07 01:11:00"


def test_a_day_file_that_crosses_midnight():
    items = imported(read(DATA / "2008-07-03.excerpt.raw.txt"))
    assert [moment(i) for i in items if "clock_rollovers" in i.kinds] == ["2008-07-04 00:00:00"]


def test_noon_on_a_twelve_hour_clock_is_no_new_day(tmp_path):
    items = imported(
        read_lines(tmp_path, "2005-02-08.txt", "[11:59] <a> x", "[12:01] <a> y", "[01:03] <a> z")
    )
    assert [moment(i) for i in items] == [
        "2005-02-08 11:59:00",
        "2005-02-08 12:01:00",
        "2005-02-08 13:03:00",
    ]


def test_a_clock_set_back_an_hour_does_not_make_a_day(tmp_path):
    items = imported(
        read_lines(tmp_path, "2010-10-31.txt", "[01:59] <a> x", "[01:00] <a> y", "[02:00] <a> z")
    )
    assert [moment(i)[11:16] for i in items] == ["01:59", "01:59", "02:00"]
    assert not any("clock_rollovers" in i.kinds for i in items)


gaps = st.lists(st.integers(0, 10 * 60), min_size=1, max_size=60)


@given(
    start=st.integers(0, 24 * 60 - 1), gaps=gaps, day=st.dates(date(2004, 1, 1), date(2019, 1, 1))
)
def test_the_clock_finds_back_what_was_true(start, gaps, day):
    """Whatever moments a log has, at gaps of under eleven hours, they come out of what it shows."""
    first = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=start)
    true = [first]
    for gap in gaps:
        true.append(true[-1] + timedelta(minutes=gap))
    twelve = day < date(2007, 10, 1)
    shown = [Shown(_hour(at, twelve=twelve), at.minute) for at in true]
    starts_pm = starts_past_noon(day, shown)
    decided = any(s.hour in (0, 12) for s in shown)
    if twelve and not decided:
        starts_pm = start >= 12 * 60
    clock = DayClock(day, starts_pm=starts_pm)
    found = []
    for moment_shown in shown:
        clock.advance(moment_shown)
        found.append(clock.now_us)
    expected = [midnight_us(day) + (start + m) * 60_000_000 for m in _minutes_from(true)]
    assert found == expected


def _hour(at: datetime, *, twelve: bool) -> int:
    return at.hour if not twelve or at.hour <= 12 else at.hour - 12


def _minutes_from(moments: list[datetime]) -> list[int]:
    return [(at - moments[0]) // timedelta(minutes=1) for at in moments]
