from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from eventlog import (
    Attachment,
    Codec,
    DeadLetterParked,
    DeadLetterReplayed,
    DeliveryFailed,
    Event,
    EventErased,
    FailedAttempt,
    MessageReceived,
    MessageSent,
    RawEntry,
    SessionStarted,
    UnknownEvent,
    schema_version,
)
from eventlog.erasure import _blanks, redacted
from eventlog.erasure_ledger import Ledger
from eventlog.erasure_scope import Scope, Selection, Whose
from eventlog.ids import EntryId
from eventlog.redactor import Redactor
from eventlog.vocabulary import VOCABULARY

CODEC = Codec()
SECRET = "the wolverine's own words"


def full(event_type: type[Event]) -> Event:
    """Return an event of the type that says the secret wherever it can."""
    values: dict[str, Any] = {"conversation": "c", "session": "s", "letter": "l", "erasure": "e",
                              "home": "h"}  # fmt: skip
    names = {field.name: field.type for field in msgspec.structs.fields(event_type)}
    for name in names.keys() - Event.__struct_fields__ - values.keys():
        for value in (SECRET, {SECRET: SECRET}, [SECRET], [Attachment(SECRET, SECRET)],
                      [FailedAttempt(1, 1, SECRET, SECRET)], 3, True, "failed", "job"):  # fmt: skip
            try:
                values[name] = msgspec.convert(msgspec.to_builtins(value), names[name])
                break
            except msgspec.ValidationError:
                continue
    return event_type(**{name: values[name] for name in names if name in values})


@pytest.mark.parametrize("event_type", VOCABULARY, ids=lambda t: str(t.__struct_config__.tag))
def test_of_every_type_the_fact_stays_and_the_content_goes(event_type):
    event = full(event_type)
    erased = redacted(event)
    raw = CODEC.encode(erased)
    assert type(erased) is event_type
    assert CODEC.decode(raw) == erased
    assert redacted(erased) == erased
    assert erased.is_erased
    for name in ("id", "occurred_at", "schema", "conversation", "session"):
        assert getattr(erased, name) == getattr(event, name)
    for name in _blanks(event_type):
        assert SECRET not in repr(getattr(erased, name)), name


def test_what_programs_say_stays_and_what_people_say_goes():
    kept = redacted(DeliveryFailed(conversation="c", reason="timeout", code="504", error="x y"))
    assert (kept.reason, kept.code, kept.error) == ("timeout", "504", None)
    gone = redacted(DeliveryFailed(conversation="c", reason="she said no", code="see above"))
    assert (gone.reason, gone.code) == ("", None)
    letter = DeadLetterParked(
        conversation="c", letter="l", group="g", reason="timeout", attempts=2,
        failures=[FailedAttempt(1, 5, "she said no", "504"), FailedAttempt(2, 6, "no", "said no")],
    )  # fmt: skip
    assert redacted(letter).failures == [FailedAttempt(1, 5, "", "504"), FailedAttempt(2, 6, "")]


class Colour(enum.Enum):
    RED = "red"


class Line(msgspec.Struct):
    sku: str
    note: str | None = None


class Paid(Event, tag="shop.paid", frozen=True, kw_only=True):
    KEPT_WHEN_ERASED = frozenset({"currency"})

    schema: int = schema_version(2)
    buyer: str
    code: Annotated[str, Meta(min_length=4)]
    currency: str
    amount_cents: Annotated[int, Meta(ge=1)]
    weight: float
    lines: Annotated[list[Line], Meta(min_length=1)]
    gift: bool
    colour: Colour
    way: Literal["card", "cash"]
    notes: dict[str, str]
    comment: str | None


class Odd(Event, tag="shop.odd", frozen=True, kw_only=True):
    word: Annotated[str, Meta(pattern="^[A-Z]+$")]


OWN = Codec([Paid, Odd], upcasters={("shop.paid", 1): lambda document: document})


def test_a_type_of_one_s_own_stays_valid_and_keeps_what_it_names():
    event = Paid(
        conversation="c", buyer="Ann", code="12345", currency="EUR", amount_cents=995, weight=1.5,
        lines=[Line("x", "y"), Line("z")], gift=True, colour=Colour.RED, way="cash",
        notes={"Ann": "hi"}, comment="z", extra={"later": "Ann"},
    )  # fmt: skip
    erased = redacted(event)
    assert OWN.decode(OWN.encode(erased)) == erased == redacted(erased)
    assert (erased.currency, erased.gift, erased.colour, erased.way) == (
        "EUR", True, Colour.RED, "cash")  # fmt: skip
    assert (erased.buyer, erased.code, erased.amount_cents, erased.weight) == ("", "----", 1, 0)
    assert (erased.lines, erased.notes, erased.comment, erased.extra) == ([Line("")], {}, None, {})
    assert erased.schema == 2


@pytest.mark.parametrize(
    "event",
    [
        Odd(conversation="c", session="s", word="SECRET"),
        UnknownEvent(conversation="c", session="s", type="shop.odd", schema=7, extra={"a": SECRET}),
    ],
)
def test_what_cannot_be_blank_leaves_an_event_that_everybody_can_read(event):
    erased = redacted(event)
    assert isinstance(erased, EventErased)
    assert (erased.was, erased.id, erased.session) == ("shop.odd", event.id, "s")
    assert CODEC.decode(CODEC.encode(erased)) == erased == redacted(erased)


# --- whose


def redactor(**whose: str) -> Redactor:
    who = Whose.of(**{"chat": None, "user": None, "platform": None, **whose})
    return Redactor(OWN, Selection([Scope.begin(who, 5)]))


def shown(to: Redactor, *events: Event | bytes) -> list[bool]:
    """Return whether each of a partition's entries is changed."""
    raws = [event if isinstance(event, bytes) else OWN.encode(event) for event in events]
    entries = [RawEntry(EntryId(5, n), raw) for n, raw in enumerate(raws, 1)]
    for entry in entries:
        to.learn(3, entry)
    return [to.redaction(3, entry) is not None for entry in entries]


def said(conversation: str, **fields: Any) -> MessageReceived:
    return MessageReceived(conversation=conversation, text="x", **fields)


def test_a_chat_is_every_event_of_it_and_no_other():
    events = said("telegram:42"), said("telegram:421"), said("discord:1", sender="telegram:42")
    assert shown(redactor(chat="telegram:42"), *events) == [True, False, False]


def test_a_person_is_who_sent_or_received_or_has_the_session():
    events = (
        said("telegram:1", sender="7"),
        said("telegram:1", sender="77"),
        said("discord:1", sender="7"),
        said("discord:1", sender="7", platform="telegram"),
        SessionStarted(conversation="telegram:2", session="s7", user="7"),
        MessageSent(conversation="other", session="s7", text="y"),
        MessageSent(conversation="telegram:2", session="s8", text="y"),
        UnknownEvent(conversation="telegram:1", type="x.y", extra={"sender": 7, "body": "z"}),
    )
    everywhere = [True, False, True, True, True, True, False, True]
    assert shown(redactor(user="7"), *events) == everywhere
    on_telegram = [True, False, False, True, True, True, False, True]
    assert shown(redactor(user="7", platform="telegram"), *events) == on_telegram


def test_what_was_appended_later_is_not_meant_but_for_copies():
    eraser = redactor(user="7")
    events = (
        said("telegram:1", sender="7"),
        SessionStarted(conversation="telegram:2", session="s7", user="7"),
        DeadLetterParked(
            conversation="telegram:1", letter="a", group="g", reason="r", origin="3/5-1"
        ),
    )
    entries = [RawEntry(EntryId(ms, n), OWN.encode(event)) for ms, n, event in
               zip((5, 6, 6), (1, 2, 3), events, strict=True)]  # fmt: skip
    assert not any(eraser.learn(3, entry) for entry in entries)
    assert [eraser.redaction(3, entry) is not None for entry in entries] == [True, False, True]


def test_copies_are_found_by_what_they_are_copies_of():
    events = (
        said("telegram:1", sender="7"),
        DeadLetterParked(
            conversation="telegram:1", letter="a", group="g", reason="r", origin="3/5-1"
        ),
        DeadLetterParked(
            conversation="telegram:1", letter="b", group="g", reason="r", origin="2/5-1"
        ),
        DeadLetterReplayed(conversation="telegram:1", letter="a", group="g", attempt=2, error="x"),
        DeadLetterReplayed(conversation="telegram:1", letter="b", group="g", attempt=2, error="x"),
    )
    assert shown(redactor(user="7"), *events) == [True, True, False, True, False]
    # Later, when the first is erased and names nobody any more, a letter of it is still found.
    again = [redacted(events[0]), *events[1:]]
    assert shown(redactor(user="7"), *again) == [False, True, False, True, False]


def test_what_cannot_be_decoded_is_erased_where_it_names_its_chat():
    broken = b'{"type":"message.received","conversation":"telegram:42","id":"i","text":7}'
    eraser = redactor(chat="telegram:42")
    assert shown(eraser, broken, b"[1]", b"not json") == [True, False, False]
    assert len(eraser.unreadable) == 2
    raw = eraser.redaction(3, RawEntry(EntryId(5, 1), broken))
    assert raw is not None
    assert b"7" not in raw.replace(b"5000", b"")
    assert isinstance(CODEC.decode(raw), EventErased)


def test_a_producer_that_says_erased_is_not_believed():
    lying = MessageReceived(conversation="telegram:42", text=SECRET, is_erased=True)
    assert shown(redactor(chat="telegram:42"), lying) == [True]


# --- the ledger


def test_the_ledger_says_what_to_look_for_and_not_who(tmp_path: Path):
    whose = Whose("user", "person-7", "telegram")
    scope, path = Scope.begin(whose, 100), tmp_path / "sub" / "erasures.jsonl"
    ledger = Ledger(path, "a")
    assert ledger.read() == []
    ledger.write("begun", [(scope, 5)])
    more = msgspec.structs.replace(scope, sessions=[scope.digest("s1")])
    ledger.write("begun", [(more, 5)])
    [begun] = ledger.read()
    assert (begun.scope, begun.is_completed, begun.begun_at) == (more, False, 5)
    ledger.write("completed", [(scope, 9)])
    assert ledger.find(whose) == begun._replace(is_completed=True)
    assert ledger.find(whose._replace(platform=None)) is None
    assert Ledger(path, "b").read() == []
    assert b"person-7" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    ledger.write("begun", [(scope, 20)])
    assert ledger.read()[0].begun_at == 20


def test_a_line_that_was_cut_short_harms_no_other(tmp_path: Path):
    path = tmp_path / "erasures.jsonl"
    ledger = Ledger(path, "a")
    first, second = Scope.begin(Whose("chat", "x"), 1), Scope.begin(Whose("chat", "y"), 1)
    ledger.write("begun", [(first, 5)])
    with path.open("ab") as file:
        file.write(b'{"erasure":"half')
    ledger.write("begun", [(second, 6)])
    assert [each.scope for each in ledger.read()] == [first, second]
