from __future__ import annotations

from typing import Any

from bridge.live_state import ChatMessage, ToolCall, chat_items, messages_in
from eventlog import (
    BridgeEvent,
    Entry,
    EntryId,
    Event,
    MessageReceived,
    MessageSent,
    SessionStarted,
    SessionTransitioned,
    ToolCalled,
    ToolReturned,
)
from projections.views.tickets import (
    AGENT_SESSION_OPENED,
    MAX_ARGUMENT_CHARACTERS,
    RUNNING_TOOL_LIMIT,
    TICKET_FEED,
    TICKETS,
    RunningTool,
    TicketSession,
    conversation_of_ticket,
    ticket_of,
)
from tests.projecting import fold

AT: dict[str, Any] = {"conversation": "ticket:T-1", "session": "s1"}


def started(**fields: Any) -> SessionStarted:
    return SessionStarted(**AT, status="pending", agent="coder", occurred_at=1_000, **fields)


def moved(status: Any, at: int = 5_000, reason: str | None = None) -> SessionTransitioned:
    return SessionTransitioned(**AT, to_status=status, occurred_at=at, reason=reason)


def called(call: str, at: int = 2_000, arguments: str | None = None) -> ToolCalled:
    return ToolCalled(**AT, call=call, name="bash", arguments=arguments, occurred_at=at)


def returned(call: str, **fields: Any) -> ToolReturned:
    return ToolReturned(**AT, call=call, occurred_at=3_000, **fields)


def entries(*events: Event) -> list[Entry]:
    return [Entry(0, EntryId(1, n), event, b"") for n, event in enumerate(events, 1)]


def test_a_ticket_is_a_conversation_and_never_two():
    assert conversation_of_ticket("T-1") == "ticket:T-1"
    assert ticket_of(conversation_of_ticket("ticket:T-1")) == "ticket:T-1"
    assert ticket_of("telegram:1") is None


def test_a_session_is_what_its_events_say():
    opened = BridgeEvent(
        **AT, event_type=AGENT_SESSION_OPENED, data={"agent_session": "ses_1"}, occurred_at=1_500
    )
    session = fold(TICKETS, started(metadata={"kind": "ask"}), opened, moved("active"), called("c"))
    assert session == TicketSession(
        id="s1",
        ticket="T-1",
        kind="ask",
        status="active",
        agent="coder",
        agent_session="ses_1",
        tools=[RunningTool("c", "bash", None, 2_000)],
        started_at=1_000,
        updated_at=5_000,
        is_started=True,
    )


def test_it_is_found_as_active_until_it_has_ended():
    active, ended = fold(TICKETS, started()), fold(TICKETS, started(), moved("completed"))
    assert list(TICKETS.index("s1", active)) == [("active", 1), ("active:T-1", 1)]
    assert list(TICKETS.index("s1", ended)) == [("ended:T-1", 5)]


def test_what_has_ended_stays_ended_and_runs_no_tool():
    session = fold(
        TICKETS, started(), called("c"), moved("failed", reason="why"), moved("active"), called("d")
    )
    assert (session.status, session.error, session.tools) == ("failed", "why", [])
    assert session.ended_at == 5_000


def test_a_tool_runs_until_it_returns_however_many_run():
    assert fold(TICKETS, started(), called("c"), called("d"), returned("c")).tools == [
        RunningTool("d", "bash", None, 2_000)
    ]
    many = [called(str(n), arguments="x" * 9_999) for n in range(RUNNING_TOOL_LIMIT + 5)]
    tools = fold(TICKETS, started(), *many).tools
    assert len(tools) == RUNNING_TOOL_LIMIT
    assert {len(tool.arguments or "") for tool in tools} == {MAX_ARGUMENT_CHARACTERS}


def test_an_event_that_only_names_a_session_makes_none():
    assert TICKETS.apply(TICKETS.initial("s1"), *entries(called("c"))) is None
    assert fold(TICKETS, called("c"), started()).status == "pending"


def test_other_conversations_are_not_looked_at():
    elsewhere = MessageSent(conversation="telegram:1", session="s1", text="hi")
    assert TICKETS.key(elsewhere) is TICKET_FEED.key(elsewhere) is None
    feed = TICKET_FEED.key(MessageSent(**AT, text="hi"))
    assert feed is not None
    assert TICKET_FEED.conversation(feed) == "ticket:T-1"
    other = {**AT, "session": "s2"}
    assert TICKET_FEED.key(MessageSent(**other, text="hi")) != feed


def test_a_chat_shows_each_tool_where_it_was_called_with_what_came_of_it():
    asked = MessageReceived(**AT, id="m1", text="why?", sender="ann", occurred_at=10)
    told = MessageSent(**AT, id="m2", text="so", occurred_at=20)
    items = chat_items(
        entries(
            returned("lost", result="r"),
            asked,
            called("c", arguments="{}"),
            called("d"),
            told,
            returned("c", result="1", duration_ms=7, is_error=True),
        )
    )
    assert items == [
        ToolCall("lost", "unknown", result="r", status="completed"),
        ChatMessage("m1", "user", "why?", 10, "ann"),
        ToolCall("c", "bash", "{}", "1", "error", 2_000, 7),
        ToolCall("d", "bash", called_at=2_000),
        ChatMessage("m2", "agent", "so", 20),
    ]
    assert messages_in(entries(asked, called("c"), told)) == [items[1], items[4]]


def test_a_tool_that_had_not_returned_at_the_end_was_interrupted():
    (tool,) = chat_items(entries(called("c")), has_ended=True)
    assert isinstance(tool, ToolCall)
    assert tool.status == "interrupted"
