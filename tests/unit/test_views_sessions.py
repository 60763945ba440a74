from __future__ import annotations

from typing import Any

import msgspec
import pytest

from eventlog.event import Event
from eventlog.session import SessionStatus
from eventlog.vocabulary import (
    ConversationMapped,
    MessageQueued,
    MessageReceived,
    MessageSent,
    SessionStarted,
    SessionTouched,
    SessionTransitioned,
    ToolCalled,
    ToolReturned,
)
from projections.views.sessions import SESSIONS, Session
from tests.projecting import fold

ENVELOPE: dict[str, Any] = {"conversation": "telegram:1", "session": "s1"}


def started(at_us: int = 1_000_000, status: SessionStatus = "active") -> SessionStarted:
    return SessionStarted(
        **ENVELOPE, occurred_at=at_us, status=status, mode="job", project="p", user="u", agent="a"
    )


def moved(status: SessionStatus, at_us: int = 2_000_000) -> SessionTransitioned:
    return SessionTransitioned(**ENVELOPE, occurred_at=at_us, to_status=status)


def test_a_start_fills_the_session_in() -> None:
    assert fold(SESSIONS, started()) == Session(
        id="s1",
        conversation="telegram:1",
        status="active",
        mode="job",
        project="p",
        user="u",
        agent="a",
        started_at=1_000_000,
        last_activity_at=1_000_000,
        version=1,
    )


def test_events_without_a_session_concern_none() -> None:
    assert SESSIONS.key(MessageReceived(conversation="c", text="hi")) is None


def test_a_session_first_seen_by_another_event_is_active() -> None:
    session = fold(SESSIONS, MessageReceived(**ENVELOPE, text="hi", occurred_at=5))
    assert (session.status, session.started_at, session.version) == ("active", 5, 0)


def test_a_session_first_seen_by_its_end_has_ended() -> None:
    session = fold(SESSIONS, moved("failed", 9))
    assert (session.status, session.ended_at) == ("failed", 9)


def test_a_late_start_brings_what_was_not_known() -> None:
    session = fold(SESSIONS, MessageReceived(**ENVELOPE, text="hi", occurred_at=5), started(7))
    assert (session.project, session.mode, session.started_at) == ("p", "job", 7)
    assert session.status == "active"


def test_a_second_start_changes_neither_origin_nor_end() -> None:
    again = msgspec.structs.replace(started(9), project="other", agent="b", mode="chat")
    session = fold(SESSIONS, started(1), moved("completed", 4), again)
    assert (session.project, session.agent, session.mode) == ("p", "a", "job")
    assert (session.started_at, session.status, session.ended_at) == (1, "completed", 4)


def test_counts_tell_messages_tools_and_errors_apart() -> None:
    events: list[Event] = [
        started(),
        MessageReceived(**ENVELOPE, text="q"),
        MessageQueued(**ENVELOPE, text="a"),
        MessageSent(**ENVELOPE, text="a"),
        ToolCalled(**ENVELOPE, call="1", name="find"),
        ToolReturned(**ENVELOPE, call="1"),
        ToolCalled(**ENVELOPE, call="2", name="find"),
        ToolReturned(**ENVELOPE, call="2", is_error=True),
        ConversationMapped(**ENVELOPE),
        SessionTouched(**ENVELOPE),
    ]
    session = fold(SESSIONS, *events)
    assert (session.message_count, session.tool_call_count, session.tool_error_count) == (2, 2, 1)
    assert session.version == 2


@pytest.mark.parametrize("final", ["completed", "failed"])
def test_a_terminal_status_is_final_in_the_model(final: SessionStatus) -> None:
    session = fold(SESSIONS, started(), moved(final, 3), moved("active", 4), moved("pending", 5))
    assert (session.status, session.ended_at, session.last_activity_at) == (final, 3, 1_000_000)
    assert session.version == 4


def test_activity_never_goes_back_with_a_producer_s_clock() -> None:
    session = fold(SESSIONS, started(9_000_000), SessionTouched(**ENVELOPE, occurred_at=3))
    assert session.last_activity_at == 9_000_000


def test_a_session_is_indexed_where_it_stands_now_and_nowhere_else() -> None:
    session = fold(SESSIONS, started(8_000_999), moved("dormant", 9_001_000))
    indexed = dict(SESSIONS.index("s1", session))
    assert indexed == dict.fromkeys(
        ("all", "status:dormant", "conversation:telegram:1", "project:p", "user:u"), 8000
    )


def test_falling_asleep_is_no_activity_and_waking_up_is() -> None:
    asleep = fold(SESSIONS, started(8_000_000), moved("dormant", 9_000_000))
    assert (asleep.status, asleep.last_activity_at) == ("dormant", 8_000_000)
    awake = fold(
        SESSIONS, started(8_000_000), moved("dormant", 9_000_000), moved("active", 9_500_000)
    )
    assert (awake.status, awake.last_activity_at) == ("active", 9_500_000)
    unknown = fold(SESSIONS, moved("dormant", 9_000_000))
    assert unknown.last_activity_at == 9_000_000


def test_a_session_survives_being_stored() -> None:
    session = fold(SESSIONS, started(), MessageSent(**ENVELOPE, text="a"), moved("completed"))
    assert msgspec.json.decode(msgspec.json.encode(session), type=Session) == session
