"""Entries to columns and back: what lies in columns, and what is kept whole."""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa
import pytest

from analytics.columns import SCHEMA, encode_entries
from analytics.mirror import FIELD_KINDS, MIN_TIME_US, merge_kinds, mirror_of
from analytics.pages import Page
from analytics.rows import rebuild
from eventlog import (
    BridgeEvent,
    Codec,
    EntryId,
    Event,
    MessageReceived,
    RawEntry,
    SessionStarted,
    ToolReturned,
    schema_version,
)
from eventlog.vocabulary import VOCABULARY

CODEC = Codec()


def entries(*raws: bytes, ms: int = 1_795_176_000_123) -> list[RawEntry]:
    return [RawEntry(EntryId(ms, n), raw) for n, raw in enumerate(raws, 1)]


def row(raw: bytes, codec: Codec = CODEC) -> dict[str, Any]:
    table = encode_entries(2, entries(raw), codec)
    assert list(rebuild(table)) == entries(raw)
    times = table["occurred_at"].cast(pa.int64()).to_pylist()
    # A datetime covers fewer years than the column.
    return {**table.drop(["occurred_at"]).to_pylist()[0], "occurred_at": times[0]}


def document(**fields: Any) -> bytes:
    whole = {"type": "message.received", "conversation": "c", "id": "i", "schema": 1}
    return msgspec.json.encode({**whole, "occurred_at": 5, "text": "hi", **fields})


def test_every_field_of_every_type_is_a_column() -> None:
    fields = {f for t in VOCABULARY for f in t.__struct_fields__} - {"extra"}
    assert fields == set(FIELD_KINDS)
    assert fields | {"partition", "sequence", "appended_at", "type", "raw"} == set(SCHEMA.names)


def test_one_name_of_two_kinds_is_refused() -> None:
    class Odd(Event, frozen=True, kw_only=True, tag="odd"):
        text: int = 0

    with pytest.raises(TypeError, match=r"odd\.text is integer, another type's is text"):
        merge_kinds([mirror_of(MessageReceived), mirror_of(Odd)])


def test_a_field_that_no_column_can_hold_is_refused() -> None:
    class Odd(Event, frozen=True, kw_only=True, tag="odd"):
        weight: float = 0.0

    with pytest.raises(TypeError, match="weight"):
        mirror_of(Odd)


def test_an_event_lies_in_its_columns() -> None:
    event = MessageReceived(
        conversation="telegram:1", id="m1", occurred_at=7, text="héllo\0", metadata={"a": [1.5]}
    )
    found = row(CODEC.encode(event))
    assert found["partition"] == 2
    assert found["sequence"] == 1
    assert found["appended_at"].isoformat() == "2026-11-20T12:00:00.123000"
    assert found["occurred_at"] == 7
    assert found["type"] == "message.received"
    assert found["text"] == "héllo\0"
    assert found["message_type"] == "text"  # a default is a value to SQL
    assert found["metadata"] == '{"a":[1.5]}'
    assert found["attachments"] is None
    assert found["raw"] is None


def test_types_of_one_page_keep_their_order() -> None:
    events = [
        BridgeEvent(conversation="c", event_type=f"e{n}", data={"n": n})
        if n % 3 == 0
        else ToolReturned(conversation="c", call=f"k{n}", is_error=n % 2 == 0)
        if n % 3 == 1
        else SessionStarted(conversation="c", session=f"s{n}")
        for n in range(5000)
    ]
    given = entries(*map(CODEC.encode, events))
    table = encode_entries(0, given, CODEC)
    assert table["sequence"].to_pylist() == list(range(1, 5001))
    assert list(rebuild(table)) == given
    assert table["raw"].null_count == 5000


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (document(color="red"), {"text": "hi", "type": "message.received"}),
        (document(schema=2), {"text": "hi", "schema": 2}),
        (document(type="shop.sold", text=5, cents=3), {"type": "shop.sold", "text": None}),
        (document(type="tool.called", call="k", name="n"), {"text": "hi", "call": "k"}),
        (document(message_type="novel"), {"type": None, "text": None}),
        (document(metadata=5), {"type": None}),
        (document(attachments=[{"name": "no url"}]), {"type": None}),
        (document(occurred_at=2**63 - 1), {"text": "hi", "occurred_at": None}),
        (document(occurred_at=MIN_TIME_US - 1), {"occurred_at": None}),
        (document(type="message.sent", attempt=2**63), {"text": "hi", "attempt": None}),
        (b'{"type":"message.received","conversation":"c","text":"no id"}', {"text": "no id"}),
        (b'{"a":', {"type": None}),
        (b"", {"type": None}),
        (b"\xff\xfe", {"type": None}),
        (b"[]", {"type": None}),
        (document() + b"\n" + document(), {"type": None}),
    ],
)
def test_what_columns_cannot_hold_is_kept_whole(raw: bytes, shown: dict[str, Any]) -> None:
    found = row(raw)
    assert found["raw"] == raw
    assert {name: found[name] for name in shown} == shown


def test_a_wreck_does_not_take_its_neighbours_along() -> None:
    good = document()
    given = entries(good, b'{"a":[1,', b"{}]}", good, document(metadata={"x": 1}))
    table = encode_entries(0, given, CODEC)
    assert table["raw"].to_pylist() == [None, b'{"a":[1,', b"{}]}", None, None]
    assert list(rebuild(table)) == given


def test_unsound_json_is_kept_whole_among_sound_events_of_its_type() -> None:
    bad, queued = document(metadata=5), document(type="message.queued")
    raws = [bad, document(), queued, bad, b"", document(metadata={"x": 1}), bad]
    given = entries(*raws)
    table = encode_entries(0, given, CODEC)
    assert table["raw"].to_pylist() == [bad, None, None, bad, b"", None, bad]
    assert table["metadata"].to_pylist()[5] == '{"x":1}'
    assert list(rebuild(table)) == given


def test_an_old_schema_shows_its_current_fields_and_keeps_its_bytes() -> None:
    class Priced(Event, frozen=True, kw_only=True, tag="shop.priced"):
        schema: int = schema_version(2)
        text: str = ""

    codec = Codec([Priced], upcasters={("shop.priced", 1): lambda d: {**d, "text": "upcast"}})
    raw = document(type="shop.priced", text="old")
    found = row(raw, codec)
    assert (found["text"], found["schema"], found["raw"]) == ("upcast", 2, raw)


def test_no_entries_are_an_empty_table_of_the_schema() -> None:
    assert encode_entries(0, [], CODEC).schema == SCHEMA


@pytest.mark.parametrize("ms", [0, 999_999_999_999, 1_795_176_000_000, 9_999_999_999_999, 10**13])
def test_a_reply_of_the_server_makes_the_same_page_as_entries(ms: int) -> None:
    given = entries(b"{}", b"[]", ms=ms)
    reply = [[str(entry_id).encode(), [b"e", raw]] for entry_id, raw in given]
    page = Page.of_reply(reply)
    assert page == Page.of_entries(given)
    assert page.end == EntryId(ms, 2)
    assert page.byte_count == 4


def test_ids_that_grow_a_digit_within_a_page_are_read_right() -> None:
    ids = [EntryId(9_999_999_999_999, 1), EntryId(10**13, 2)]
    page = Page.of_reply([[str(entry_id).encode(), [b"e", b""]] for entry_id in ids])
    assert list(zip(page.ms.to_pylist(), page.n.to_pylist(), strict=True)) == ids
