"""What Hypothesis draws from: names, JSON values and events as real sources have them."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from eventlog import (
    Attachment,
    BridgeEvent,
    ConversationMapped,
    DeliveryFailed,
    Event,
    MessageReceived,
    MessageSent,
    SessionStarted,
    SessionTouched,
    SessionTransitioned,
    ToolReturned,
    UnknownEvent,
)
from eventlog.event import MAX_NAME_CHARACTERS

EXAMPLES = int(os.environ.get("TEST_EXAMPLES", "1"))
"""How many times as many examples the state machines try as they do in every run."""

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
"""All of Unicode but lone surrogates: null characters and 4-byte ones included."""

names = st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=MAX_NAME_CHARACTERS
) | st.sampled_from(["telegram:12345", "a:b:c", "{x}", "ключ", "\0", " ", "🦜", "-1", "null"])
"""Ids, conversations and sessions as the codec takes them."""

json_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
)
json_values: SearchStrategy[Any] = st.recursive(
    json_scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(text, json_values, max_size=4)

ENVELOPE = frozenset(UnknownEvent.__struct_fields__)
"""The envelope's words, `extra` and `type` among them: no unknown key can be called so."""

times_us = st.integers(-(2**53), 2**53)
optional_names = st.none() | names

_envelope: dict[str, SearchStrategy[Any]] = {
    "conversation": names,
    "id": names,
    "occurred_at": times_us,
    "session": optional_names,
    "causation_id": st.none() | text,
    "correlation_id": st.none() | text,
}

attachments = st.builds(
    Attachment, url=text, name=st.none() | text, size_bytes=st.none() | st.integers(0, 2**60)
)

_message: dict[str, SearchStrategy[Any]] = {
    **_envelope,
    "text": text,
    "sender": st.none() | text,
    "message_type": st.sampled_from(["text", "media", "action", "notice"]),
    "attachments": st.lists(attachments, max_size=2),
    "metadata": json_objects,
}

known_events: SearchStrategy[Event] = st.one_of(
    st.builds(MessageReceived, **_message),
    st.builds(MessageSent, **_message, attempt=st.none() | st.integers(1, 9)),
    st.builds(DeliveryFailed, **_envelope, reason=text, permanent=st.booleans()),
    st.builds(SessionStarted, **{**_envelope, "session": names}, metadata=json_objects),
    st.builds(SessionTouched, **{**_envelope, "session": names}),
    st.builds(ToolReturned, **_envelope, call=text, is_error=st.booleans()),
    st.builds(ConversationMapped, **_envelope),
    st.builds(BridgeEvent, **_envelope, event_type=text, data=json_objects),
)
unknown_keys = text.filter(lambda key: key not in ENVELOPE)
unknown_events = st.builds(
    UnknownEvent,
    **_envelope,
    type=st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map("theirs.".__add__),
    schema=st.integers(1, 99),
    extra=st.dictionaries(unknown_keys, json_values, max_size=4),
)
events = known_events | unknown_events

_few = {
    "conversation": st.sampled_from([f"chat:{n}" for n in range(6)]),
    "id": st.sampled_from([f"id{n}" for n in range(12)]) | st.uuids().map(str),
    "occurred_at": st.just(0),
}
_few_sessions = {**_few, "session": st.sampled_from(["s", "t"])}
small_versioned_events: SearchStrategy[Event] = (
    st.builds(SessionTouched, **_few_sessions)
    | st.builds(
        SessionTransitioned, **_few_sessions, to_status=st.sampled_from(["active", "completed"])
    )
    | st.builds(ConversationMapped, **{**_few, "session": st.sampled_from(["s", "t", None])})
)
"""Events that advance a version, of few entities and few ids, so that they meet."""
small_events = st.builds(MessageReceived, **_few, text=text) | small_versioned_events
"""Events of few conversations and few ids."""
