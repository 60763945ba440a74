from __future__ import annotations

import copy
import pickle
import types
import typing
from typing import Any

import msgspec
import pytest

import eventlog
from eventlog import Event, SessionTouched, UnknownEvent, schema_version, vocabulary
from eventlog.event import current_schema
from eventlog.vocabulary import VOCABULARY, MessageReceived

NAMES = [
    "message.received",
    "message.queued",
    "message.sent",
    "delivery.failed",
    "dead_letter.parked",
    "dead_letter.replay_requested",
    "dead_letter.replayed",
    "dead_letter.resolved",
    "dead_letter.discarded",
    "session.started",
    "session.placed",
    "session.transitioned",
    "session.touched",
    "tool.called",
    "tool.returned",
    "conversation.mapped",
    "conversation.cleared",
    "conversation.compacted",
    "job.queued",
    "transcript.appended",
    "transcript.popped",
    "transcript.cleared",
    "values.changed",
    "group.retired",
    "event.erased",
    "erasure.completed",
    "bridge.event",
]


def tag_of(event_type: type[Event]) -> str:
    return str(event_type.__struct_config__.tag)


def test_the_type_names_are_what_logs_hold_already():
    assert [tag_of(t) for t in VOCABULARY] == NAMES


def test_none_is_forgotten():
    own = {
        value
        for value in vars(vocabulary).values()
        if isinstance(value, type) and issubclass(value, Event) and value is not Event
    } - {vocabulary.Message, vocabulary.ConversationChange, vocabulary.TranscriptChange}
    assert own == set(VOCABULARY)
    assert {t.__name__ for t in own} <= set(eventlog.__all__)


@pytest.mark.parametrize("event_type", VOCABULARY, ids=tag_of)
def test_each_can_carry_the_archive_s_columns(event_type):
    assert event_type.__struct_config__.frozen
    assert event_type.__doc__
    assert current_schema(event_type) == 1
    versioned = {
        "session": "session",
        "conversation": "conversation",
        "dead_letter": "letter",
        "transcript": "transcript",
    }.get(tag_of(event_type).split(".")[0])
    assert versioned == event_type.VERSIONED


def test_one_word_has_one_kind_of_value_in_all_types():
    kinds: dict[str, set[Any]] = {}
    for event_type in VOCABULARY:
        for field in msgspec.structs.fields(event_type):
            union = typing.get_origin(field.type) in (types.UnionType, typing.Union)
            members = typing.get_args(field.type) if union else (field.type,)
            plain = [member for member in members if member is not type(None)]
            kinds.setdefault(field.name, set()).add(str(plain))
    # A status is told from another by its Literal; everything else is one column, one type.
    mixed = {name for name, found in kinds.items() if len(found) > 1}
    assert mixed == set()


def test_events_are_facts():
    event = MessageReceived(conversation="c", text="x")
    with pytest.raises(AttributeError):
        event.text = "y"  # type: ignore[misc]
    assert copy.copy(event) == event
    assert pickle.loads(pickle.dumps(event)) == event


def test_each_event_has_its_own_id_and_time():
    a, b = (MessageReceived(conversation="c", text="x") for _ in range(2))
    assert a.id != b.id
    assert 0 <= b.occurred_at - a.occurred_at < 10_000_000


def test_the_entity_is_the_session_or_the_conversation():
    touched = SessionTouched(conversation="telegram:1", session="s")
    assert touched.entity == "session:s"
    assert eventlog.ConversationMapped(conversation="telegram:1", session="s").entity == (
        "conversation:telegram:1"
    )
    assert MessageReceived(conversation="c", text="x", session="s").entity is None


def test_transcripts_of_one_name_are_another_entity_in_each_conversation():
    entities = {
        eventlog.TranscriptPopped(conversation=conversation, transcript=name).entity
        for conversation, name in (("a", "b"), ("a:b", "b"), ("a", "b:b"), ("b", "b"))
    }
    assert len(entities) == 4
    assert "transcript:1:a:b" in entities


def test_an_unknown_event_says_its_type_like_the_others():
    assert UnknownEvent(conversation="c", type="theirs").type == "theirs"
    assert MessageReceived(conversation="c", text="x").type == "message.received"


def test_a_schema_is_declared_with_schema_version():
    class Second(Event, tag="second", frozen=True, kw_only=True):
        schema: int = schema_version(2)

    class Wrong(Event, tag="wrong", frozen=True, kw_only=True):
        schema: int = 2

    assert current_schema(Second) == 2
    assert Second(conversation="c").schema == 2
    with pytest.raises(TypeError, match="schema_version"):
        current_schema(Wrong)
