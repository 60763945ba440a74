from __future__ import annotations

import datetime
import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventlog import (
    Attachment,
    BridgeEvent,
    Codec,
    ConversationCleared,
    Event,
    MessageReceived,
    SessionTouched,
    UnknownEvent,
    schema_version,
)
from eventlog.codec import MAX_EVENT_BYTES
from eventlog.errors import (
    ConfigurationError,
    EmptyConversation,
    EventTooLarge,
    InvalidEvent,
    UndecodablePayload,
    UpcasterGap,
)
from eventlog.event import MAX_NAME_CHARACTERS
from eventlog.vocabulary import VOCABULARY
from tests import strategies

CODEC = Codec()


class Paid(Event, tag="invoice.paid", frozen=True, kw_only=True):
    """Version 2 renamed `sum` to `amount_cents`; version 3 added the currency."""

    schema: int = schema_version(3)
    amount_cents: int
    currency: str


class Resumed(Event, tag="own.resumed", frozen=True, kw_only=True):
    VERSIONED = "session"


UPCASTERS = {
    ("invoice.paid", 1): lambda d: {**without(d, "sum"), "amount_cents": round(d["sum"] * 100)},
    ("invoice.paid", 2): lambda d: {**d, "currency": d.get("currency", "EUR")},
}
PAYING = Codec([Paid], upcasters=UPCASTERS)


def without(document: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in document.items() if k != key}


def message(**fields: Any) -> MessageReceived:
    return MessageReceived(**{"conversation": "telegram:1", "text": "hello", **fields})


def envelope(**fields: Any) -> dict[str, Any]:
    return {
        "type": "theirs",
        "conversation": "c",
        "id": "1",
        "schema": 1,
        "occurred_at": 1,
    } | fields


class TestRoundTrip:
    @given(strategies.events)
    def test_every_type_reads_back_equal(self, event):
        raw = CODEC.encode(event)
        back = CODEC.decode(raw)
        assert back == event
        assert type(back) is type(event)
        assert CODEC.decode(raw.decode()) == event

    @pytest.mark.parametrize("event_type", VOCABULARY, ids=lambda t: t.__struct_config__.tag)
    def test_every_type_of_the_vocabulary_from_what_it_needs_at_least(self, event_type):
        special = {"attempt": 1, "version": 2, "to_status": "failed", "items": [], "values": {}}
        needed = {
            field.name: special.get(field.name, "x")
            for field in msgspec.structs.fields(event_type)
            if field.required
        }
        event = event_type(**{"session": "s", **needed})
        assert CODEC.decode(CODEC.encode(event)) == event
        assert CODEC.encode_all([event]) == [CODEC.encode(event).decode()]

    @given(strategies.events)
    def test_type_and_schema_are_always_written(self, event):
        document = json.loads(CODEC.encode(event))
        assert document["type"] == event.type
        assert document["schema"] == event.schema

    @pytest.mark.parametrize(
        "text",
        ["", "\0", "a\0b", "🦜🦜", "\u2028", "\ufeffbom", '"\\', "é", "e\u0301", "\U0010ffff"],
    )
    def test_text_is_kept_to_the_character(self, text):
        event = message(text=text, conversation=f"c{text}", id=f"i{text}", metadata={text: [text]})
        assert CODEC.decode(CODEC.encode(event)) == event

    def test_integers_of_any_size_and_deep_nesting(self):
        nested: Any = 2**1000
        for _ in range(60):
            nested = [{"in": nested}]
        event = message(metadata={"small": -(2**63) - 1, "big": 2**64, "nested": nested})
        assert CODEC.decode(CODEC.encode(event)) == event

    def test_a_message_of_the_longest_kind_a_bridge_sends(self):
        event = message(text="я" * 20_000)
        assert CODEC.decode(CODEC.encode(event)) == event


class TestUnknown:
    @given(
        st.sampled_from(["theirs", "message.received"]),
        st.integers(2, 2**70),
        st.dictionaries(strategies.unknown_keys, strategies.json_values, max_size=4),
    )
    @example("theirs", 2**70, {"n": 123456789012345678901234567890, "f": 1e300, "": None})
    def test_types_and_schemas_of_the_future_survive_in_meaning(self, event_type, schema, extra):
        document = {**envelope(type=event_type, schema=schema, session="s"), **extra}
        event = CODEC.decode(json.dumps(document).encode())
        assert isinstance(event, UnknownEvent)
        assert (event.type, event.schema, event.session) == (event_type, schema, "s")
        assert event.extra == extra
        assert json.loads(CODEC.encode(event)) == document

    @given(st.dictionaries(strategies.unknown_keys, strategies.json_values, max_size=4))
    def test_keys_that_a_known_type_does_not_have_survive(self, extra):
        own = set(MessageReceived.__struct_fields__)
        extra = {key: value for key, value in extra.items() if key not in own}
        document = {**envelope(type="message.received", text="x"), **extra}
        event = CODEC.decode(json.dumps(document))
        assert isinstance(event, MessageReceived)
        assert event.extra == extra
        assert json.loads(CODEC.encode(event)) == document

    def test_a_key_inside_an_attachment_survives(self):
        attachments = [{"url": "s3://b/k"}, {"url": "u", "width": 3}]
        document = envelope(type="message.received", text="x", attachments=attachments)
        event = CODEC.decode(json.dumps(document))
        assert isinstance(event, MessageReceived)
        assert event.text == "x"
        assert json.loads(CODEC.encode(event)) == document

    def test_it_stays_beside_what_is_changed(self):
        event = CODEC.decode(json.dumps(envelope(type="message.received", text="x", mood="good")))
        changed = msgspec.structs.replace(event, text="y")
        assert json.loads(CODEC.encode(changed))["mood"] == "good"
        assert CODEC.encode_all([changed]) == [CODEC.encode(changed).decode()]

    @pytest.mark.parametrize("key", ["conversation", "type", "text", "sender", "schema"])
    def test_it_cannot_pose_as_a_key_that_is_known(self, key):
        event = message(extra={key: "forged"})
        with pytest.raises(InvalidEvent):
            CODEC.encode(event)


class TestSchemas:
    def test_an_old_entry_goes_through_every_step(self):
        old = envelope(type="invoice.paid", schema=1, sum=9.95)
        event = PAYING.decode(json.dumps(old))
        assert event == Paid(
            conversation="c", id="1", occurred_at=1, amount_cents=995, currency="EUR"
        )
        assert event.schema == 3

    def test_a_middle_schema_takes_only_the_steps_left(self):
        old = envelope(type="invoice.paid", schema=2, amount_cents=1, currency="USD")
        event = PAYING.decode(json.dumps(old))
        assert isinstance(event, Paid)
        assert (event.amount_cents, event.currency) == (1, "USD")

    def test_an_unknown_key_survives_upcasting(self):
        old = envelope(type="invoice.paid", schema=1, sum=1, note="cash")
        assert PAYING.decode(json.dumps(old)).extra == {"note": "cash"}

    def test_a_newer_schema_is_not_guessed_at(self):
        newer = envelope(type="invoice.paid", schema=4, amount_cents=1, currency="USD")
        event = PAYING.decode(json.dumps(newer))
        assert isinstance(event, UnknownEvent)
        assert event.extra == {"amount_cents": 1, "currency": "USD"}

    def test_a_gap_is_found_when_the_codec_is_made(self):
        with pytest.raises(UpcasterGap, match="schema 2"):
            Codec([Paid], upcasters={("invoice.paid", 1): UPCASTERS["invoice.paid", 1]})

    @pytest.mark.parametrize("error", [KeyError("x"), AttributeError("x"), ZeroDivisionError()])
    def test_an_upcaster_that_fails_makes_one_entry_undecodable(self, error):
        def failing(_: dict[str, Any]) -> dict[str, Any]:
            raise error

        codec = Codec([Paid], upcasters={**UPCASTERS, ("invoice.paid", 1): failing})
        with pytest.raises(UndecodablePayload, match=r"invoice\.paid of schema 1"):
            codec.decode(json.dumps(envelope(type="invoice.paid", schema=1, sum=1)))

    @pytest.mark.parametrize("schema", [0, 2, 7])
    def test_an_event_cannot_claim_a_schema_that_is_not_its_class_s(self, schema):
        event = message(schema=schema)
        for encode in (CODEC.encode, lambda e: CODEC.encode_all([message(), e])):
            with pytest.raises(InvalidEvent):
                encode(event)

    def test_two_classes_cannot_claim_one_type(self):
        class Mine(Event, tag="message.received", frozen=True, kw_only=True):
            pass

        with pytest.raises(ConfigurationError, match=r"message\.received"):
            Codec([Mine])
        assert (
            Codec([Paid, Paid, MessageReceived], upcasters=UPCASTERS).types["invoice.paid"] is Paid
        )


HUGE = 10**5000
DEEP: list[Any] = []
for _ in range(50_000):
    DEEP = [DEEP]
CYCLE: dict[str, Any] = {}
CYCLE["again"] = CYCLE

BAD = {
    "conversation empty": (message(conversation=""), EmptyConversation),
    "conversation no text": (message(conversation=5), InvalidEvent),
    "conversation none": (message(conversation=None), InvalidEvent),
    "conversation bytes": (message(conversation=b"c"), InvalidEvent),
    "conversation too long": (message(conversation="c" * 513), InvalidEvent),
    "conversation surrogate": (message(conversation="\ud800"), InvalidEvent),
    "id empty": (message(id=""), InvalidEvent),
    "id bytes": (message(id=b"x"), InvalidEvent),
    "id integer": (message(id=7), InvalidEvent),
    "id too long": (message(id="i" * 513), InvalidEvent),
    "session too long": (message(session="s" * 513), InvalidEvent),
    "session integer": (message(session=7), InvalidEvent),
    "session empty": (SessionTouched(conversation="c", session=""), InvalidEvent),
    "text none": (message(text=None), InvalidEvent),
    "text bytes": (message(text=b"hello"), InvalidEvent),
    "text surrogate": (message(text="a\ud800b"), InvalidEvent),
    "time fraction": (message(occurred_at=1.5), InvalidEvent),
    "time datetime": (message(occurred_at=datetime.datetime.now(datetime.UTC)), InvalidEvent),
    "message type": (message(message_type="song"), InvalidEvent),
    "attachment dict": (message(attachments=[{"url": "u"}]), InvalidEvent),
    "attachment wrong": (message(attachments=[Attachment(url=1)]), InvalidEvent),
    "metadata nan": (message(metadata={"n": math.nan}), InvalidEvent),
    "metadata infinite": (message(metadata={"n": math.inf}), InvalidEvent),
    "metadata bytes": (message(metadata={"b": b"x"}), InvalidEvent),
    "metadata tuple": (message(metadata={"t": (1, 2)}), InvalidEvent),
    "metadata set": (message(metadata={"s": {1}}), InvalidEvent),
    "metadata object": (message(metadata={"o": object()}), InvalidEvent),
    "metadata integer key": (message(metadata={1: "x"}), InvalidEvent),
    "metadata surrogate": (message(metadata={"\udfff": 1}), InvalidEvent),
    "metadata huge number": (message(metadata={"n": HUGE}), InvalidEvent),
    "metadata too deep": (message(metadata={"n": DEEP}), InvalidEvent),
    "metadata cycle": (message(metadata=CYCLE), InvalidEvent),
    "extra none": (message(extra=None), InvalidEvent),
    "extra list": (message(extra=[1]), InvalidEvent),
    "extra integer key": (message(extra={1: 1}), InvalidEvent),
    "too large": (message(text="x" * MAX_EVENT_BYTES), EventTooLarge),
    "not registered": (
        Paid(conversation="c", amount_cents=1, currency="EUR"),
        InvalidEvent,
    ),
    "poses as known": (UnknownEvent(conversation="c", type="message.received"), InvalidEvent),
}


class TestRefusals:
    @pytest.mark.parametrize(("event", "error"), BAD.values(), ids=BAD)
    def test_each_has_its_error(self, event, error):
        with pytest.raises(InvalidEvent) as caught:
            CODEC.encode(event)
        assert type(caught.value) is error
        assert len(str(caught.value)) < 2000

    def test_the_remedy_is_told(self):
        for name in (
            "conversation empty",
            "too large",
            "not registered",
            "metadata nan",
            "id empty",
        ):
            with pytest.raises(InvalidEvent) as caught:
                CODEC.encode(BAD[name][0])
            assert caught.value.remedy, name

    def test_the_limits_are_what_they_say(self):
        longest = "x" * MAX_NAME_CHARACTERS
        CODEC.encode(message(conversation=longest, id=longest, session=longest))
        frame = len(CODEC.encode(message(text="", id="1", occurred_at=1)))
        small = Codec(max_event_bytes=2000)
        fits = message(text="x" * (2000 - frame), id="1", occurred_at=1)
        assert len(small.encode(fits)) == 2000
        assert len(small.encode_all([fits])[0]) == 2000
        over = msgspec.structs.replace(fits, text=fits.text + "x")
        with pytest.raises(EventTooLarge, match=r"2,001 bytes.*2,000"):
            small.encode(over)

    def test_the_limit_counts_bytes(self):
        small = Codec(max_event_bytes=2000)
        with pytest.raises(EventTooLarge):
            small.encode_all([message(text="é" * 1000)])

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"null",
            b"[]",
            b'"text"',
            b"{}",
            b"{",
            b"\xff",
            b'{"type":"message.received","conversation":"c","text":"\xff"}',
            b'{"type":"theirs","conversation":"c","note":"\xed\xa0\x80"}',
            b'{"type":"theirs","conversation":"c","note":"\\ud800"}',
            b'{"type":"theirs"}',
            b'{"type":5,"conversation":"c"}',
            b'{"type":["a"],"conversation":"c"}',
            b'{"type":"theirs","conversation":5}',
            b'{"type":"message.received","conversation":"c"}',
            b'{"type":"message.received","conversation":"c","text":"x","schema":"1"}',
            b'{"type":"message.received","conversation":"c","text":"x","schema":null}',
            b'{"type":"message.received","conversation":"c","text":"x","schema":0}',
            b'{"type":"message.received","conversation":"c","text":"x","schema":1.5}',
            b'{"type":"message.received","conversation":"c","text":"x","attachments":[{"url":1}]}',
            b'{"type":"theirs","conversation":"c","n":1e999}',
            b'{"type":"theirs","conversation":"c","n":NaN}',
            b'{"type":"theirs","conversation":"c","n":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        ],
        ids=lambda raw: raw[:40].decode(errors="replace"),
    )
    def test_bytes_that_are_no_event(self, raw):
        with pytest.raises(UndecodablePayload) as caught:
            CODEC.decode(raw)
        assert caught.value.remedy


def encoded_or_error(encode: Any, events: list[Event]) -> object:
    try:
        return encode(events)
    except InvalidEvent as error:
        return type(error), str(error)


def one_by_one(events: list[Event]) -> list[str]:
    return [CODEC.encode(event).decode() for event in events]


class TestAllAtOnce:
    @given(st.lists(strategies.events, max_size=8))
    def test_it_is_encode_one_by_one(self, events):
        assert CODEC.encode_all(events) == one_by_one(events)
        assert CODEC.encode_all(tuple(events)) == one_by_one(events)

    @pytest.mark.parametrize("bad", BAD)
    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_its_errors_are_those_of_the_first_bad_event(self, bad, place):
        events: list[Event] = [message(), ConversationCleared(conversation="c")]
        events.insert(place, BAD[bad][0])
        expected = encoded_or_error(one_by_one, events)
        assert isinstance(expected, tuple)
        assert encoded_or_error(CODEC.encode_all, events) == expected

    @given(st.lists(st.sampled_from(sorted(BAD.keys() - {"metadata too deep"})), max_size=4))
    def test_of_several_bad_ones_the_first_is_named(self, names):
        events = [BAD[name][0] for name in names]
        assert encoded_or_error(CODEC.encode_all, events) == encoded_or_error(one_by_one, events)

    def test_a_session_of_your_own_types_may_not_be_missing(self):
        codec = Codec([Resumed])
        for encode in (codec.encode_all, lambda events: [codec.encode(each) for each in events]):
            with pytest.raises(InvalidEvent, match="names no session"):
                encode([Resumed(conversation="c")])
            assert encode([Resumed(conversation="c", session="s")])

    def test_what_is_out_of_the_ordinary_among_the_ordinary(self):
        events = [
            message(extra={"mood": "good"}),
            UnknownEvent(conversation="c", type="theirs"),
            UnknownEvent(conversation="c", type="conversation.cleared", schema=9),
            BridgeEvent(conversation="c", event_type="x", data={"extra": {"extra": 1}}),
            message(text='"extra":'),
        ]
        assert CODEC.encode_all(events) == one_by_one(events)
        assert [CODEC.decode(raw) for raw in CODEC.encode_all(events)] == events
