"""JSON lines of a bridge: both kinds in every spelling, and what racing writers make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bridge.importers.bridge_lines import parse
from bridge.importers.detect import detect_format
from bridge.importers.items import Imported, Item, Rejected
from bridge.importers.source import Source
from eventlog.vocabulary import BridgeEvent, DeadLetterParked

LETTER = {"chat_id": 42, "reply_to": 7, "text": "lost", "created_at": 1714564800.0, "attempts": 1}
EVENT = {"event_type": "error", "chat_id": 42, "timestamp": 1714564800.5, "data": {"code": 5}}
NOON_US = 1_714_564_800_000_000


def items(path: Path, *lines: bytes | dict[str, Any], end: bytes = b"\n") -> list[Item]:
    """Return the items of a file of these lines, without the unit."""
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(end.join(raw) + end)
    return list(parse(Source(path)))[1:]


def event_of(item: Item) -> Any:
    assert isinstance(item, Imported), item
    [event] = item.events
    return event


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.jsonl"


@pytest.mark.parametrize(
    "line",
    [
        LETTER,
        {**LETTER, "letter_id": "l1"},
        {"chat_id": 42, "text": "x", "timestamp": 5, "retries": 0},
        EVENT,
        {"type": "message_received", "timestamp": "2024-05-01T12:00:00", "project": "p"},
    ],
)
def test_both_kinds_are_known_by_their_keys(path, line):
    path.write_text(json.dumps(line) + "\n")
    assert detect_format(path) == "bridge"


@pytest.mark.parametrize(
    "line",
    [
        {"event": "started", "timestamp": "2024-05-01", "level": "info"},
        {"type": "user", "timestamp": "2024-05-01", "payload": {}},
        {"text": "x", "chat_id": 1},
        {"id": "a", "ts": 1, "kind": "msg.in", "chat": "c", "text": "x"},
        {"type": "user", "sessionId": "s", "timestamp": "2024-05-01", "sender": "x"},
    ],
)
def test_other_json_lines_are_not_taken_for_them(path, line):
    path.write_text(json.dumps(line) + "\n")
    assert detect_format(path) != "bridge"


def test_a_letter(path):
    letter = event_of(items(path, {**LETTER, "letter_id": "l1"})[0])
    assert isinstance(letter, DeadLetterParked)
    assert (letter.conversation, letter.letter, letter.text) == ("telegram:42", "l1", "lost")
    assert (letter.reply_to, letter.attempts, letter.occurred_at) == ("7", 1, NOON_US)


def test_a_letter_without_a_name_gets_the_same_one_each_time(path):
    first, other, again = items(path, LETTER, {**LETTER, "text": "b"}, {**LETTER, "attempts": 2})
    assert event_of(first).letter == event_of(again).letter != event_of(other).letter
    assert event_of(first).id != event_of(again).id


def test_an_event_with_data_apart_and_flat(path):
    flat = {"type": "error", "chat_id": "42", "ts": 1714564800, "code": 5, "project": "p"}
    apart, beside = map(event_of, items(path, EVENT, flat))
    assert isinstance(apart, BridgeEvent)
    assert apart.data == beside.data == {"code": 5}
    assert (apart.event_type, beside.project) == ("error", "p")
    assert apart.occurred_at == NOON_US + 500_000


def test_repeated_lines_count_as_duplicates(path):
    found = items(path, EVENT, EVENT, dict(reversed(EVENT.items())), {**EVENT, "timestamp": 9e8})
    kinds = [item.kinds for item in found if isinstance(item, Imported)]
    assert kinds == [("bridge_event",), ("duplicates",), ("duplicates",), ("bridge_event",)]


def test_lines_that_two_writers_joined_are_taken_apart(path):
    joined = json.dumps(EVENT).encode() + json.dumps(LETTER).encode()
    [item] = items(path, joined)
    assert isinstance(item, Imported)
    assert [type(event) for event in item.events] == [BridgeEvent, DeadLetterParked]
    assert len({event.id for event in item.events}) == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (json.dumps(EVENT).encode()[:30], "torn"),
        (json.dumps(EVENT).encode()[:30] + json.dumps(LETTER).encode(), "torn"),
        (json.dumps(EVENT).encode()[30:], "not a JSON object"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"text": "\xff"}', "not UTF-8"),
        (b"[1]", "not a JSON object"),
        (b"{" * 100_000, "torn"),
        ({"a": 1}, "neither"),
        ({**LETTER, "chat_id": None}, "no chat"),
        ({**LETTER, "chat_id": {"id": 1}}, "a chat that is no id"),
        ({**LETTER, "text": ""}, "no text"),
        ({**LETTER, "created_at": "soon"}, "no time"),
        ({**LETTER, "attempts": "some"}, "no count"),
        ({**EVENT, "event_type": None}, "no event type"),
    ],
)
def test_a_bad_line_is_refused_and_the_others_are_not(path, line, reason):
    first, bad, last = items(path, EVENT, line, LETTER)
    assert isinstance(first, Imported)
    assert isinstance(last, Imported)
    assert isinstance(bad, Rejected)
    assert bad.line == 2
    assert reason in bad.reason


def test_a_byte_order_mark_and_carriage_returns_are_no_content(path):
    found = items(path, b"\xef\xbb\xbf" + json.dumps(EVENT).encode(), LETTER, end=b"\r\n")
    assert [type(item) for item in found] == [Imported, Imported]
