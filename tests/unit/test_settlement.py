"""What is gathered for one step."""

from __future__ import annotations

from typing import Any

import msgspec

from consumers.context import Result
from consumers.hand import Hand
from consumers.ordering import Item
from consumers.record import NO_RECORD
from consumers.settlement import MAX_ENTRIES, Settlement
from eventlog import EntryId, Event, SessionTouched
from eventlog.codec import Codec
from tests.logs import message


def item(n: int, conversation: str = "c", **fields: Any) -> Item:
    return Item(EntryId(1, n), message(conversation), None, **fields)


def result(event: Event, partition: int = 0) -> Result:
    return Result(event, Codec().encode(event).decode(), partition)


def packed(settlement: Settlement) -> Any:
    return msgspec.msgpack.decode(settlement.packed(3, "g", Hand(), 1000))


def test_nothing_is_nothing():
    settlement = Settlement(1)
    assert settlement.is_empty
    assert not settlement.is_full
    assert settlement.ack_count == 0
    assert settlement.conversations == ()


def test_entries_are_acknowledged_and_their_results_appended():
    settlement = Settlement(7)
    results = [result(message("c", "x", id="a")), result(message("c", "y", id="b"))]
    settlement.acknowledge(item(1), results)
    settlement.pass_over(EntryId(1, 2))
    assert settlement.ack_count == 2
    told = packed(settlement)
    assert told[0:2] == [3, "g"]
    assert told[3] == ["1-1", "1-2"]
    assert told[7][0] == [each.text for each in results]
    assert told[7][1] == ["a", "b"]


def test_an_entry_of_a_line_leaves_it_and_its_record_is_forgotten():
    settlement = Settlement(1)
    settlement.acknowledge(item(1, "x", in_line=True, record=NO_RECORD.begun()))
    settlement.acknowledge(item(2, "y"))
    told = packed(settlement)
    assert settlement.conversations == ("x",)
    assert told[5] == ["1-1"]
    assert told[6] == [[0, "x", ["1-1"], [], [], False]]


def test_lines_grow_at_both_ends():
    settlement = Settlement(1)
    settlement.line_up("x", back=[EntryId(1, 5)])
    settlement.line_up("y", front=[EntryId(1, 1), EntryId(1, 2)], wait_ms=77)
    settlement.line_up("x", back=[EntryId(1, 6)])
    assert packed(settlement)[6] == [
        [0, "x", [], [], ["1-5", "1-6"], False],
        [1, "y", [], ["1-1", "1-2"], [], 77],
    ]
    assert not settlement.is_empty


def test_the_last_record_of_an_entry_counts():
    settlement = Settlement(1)
    settlement.remember(EntryId(1, 1), NO_RECORD.begun())
    settlement.remember(EntryId(1, 1), NO_RECORD)
    assert packed(settlement)[4] == ["1-1", "{}"]


def test_two_events_of_one_id_are_not_written_in_one_step():
    settlement = Settlement(1)
    settlement.acknowledge(item(1), [result(message("c", "x", id="a"))])
    assert not settlement.has_room_for([result(message("c", "y", id="a"))])
    assert settlement.has_room_for([result(message("c", "y", id="b"))])


def test_an_expected_version_stands_alone():
    settlement = Settlement(1)
    assert settlement.has_room_for([], [("session:s", 1)])
    settlement.pass_over(EntryId(1, 1))
    assert not settlement.has_room_for([], [("session:s", 1)])
    alone = Settlement(2)
    alone.acknowledge(item(1), [result(SessionTouched(conversation="c", session="s"))])
    alone.expected = [("session:s", 4)]
    assert not alone.has_room_for([])
    batch = packed(alone)[7]
    assert batch[3] == [1, "session:s", ""]
    assert batch[4] == ["session:s", 4]


def test_it_is_full_of_entries_or_of_text():
    many, long = Settlement(1), Settlement(2)
    for n in range(MAX_ENTRIES):
        assert not many.is_full
        many.pass_over(EntryId(1, n))
    assert many.is_full
    for n in range(40):
        long.append([result(message("c", "x" * 500_000, id=str(n)))])
    assert long.is_full
