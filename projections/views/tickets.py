"""Tickets: the coding-agent sessions of a ticket, each with what it is at and what was said in it.

A ticket is a conversation, `ticket:T-1`, and only such conversations are looked at: other chats pay
nothing for these models. What a session is at (status, error, running tools) is one small document;
what was said and done in it is a feed of its own, so that reading one session costs what that
session holds, whatever else its partition has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from eventlog.entry import Entry
from eventlog.event import Event
from eventlog.scoped import conversation_of, scoped
from eventlog.session import TERMINAL, SessionStatus, next_status
from eventlog.settings import Settings
from eventlog.vocabulary import (
    BridgeEvent,
    MessageReceived,
    MessageSent,
    SessionStarted,
    SessionTransitioned,
    ToolCalled,
    ToolReturned,
)
from projections.projection import DocumentProjection, FeedProjection, IndexEntry

TicketKind = Literal["chat", "ask", "admin"]

PREFIX = "ticket:"
KIND = "kind"
"""Key in the metadata of a session's start."""
AGENT_SESSION_OPENED = "agent_session_opened"
"""`event_type` of the bridge event that names the session's counterpart in the agent."""

RUNNING_TOOL_LIMIT = 20
"""Running tools named in a session's document; the feed has them all."""
MAX_ARGUMENT_CHARACTERS = 500
"""Of a running tool's arguments; the feed has them whole."""


def conversation_of_ticket(ticket: str) -> str:
    """Return the conversation that a ticket is."""
    return PREFIX + ticket


def ticket_of(conversation: str) -> str | None:
    """Return the ticket that a conversation is, None where it is none."""
    return conversation.removeprefix(PREFIX) if conversation.startswith(PREFIX) else None


class RunningTool(msgspec.Struct, omit_defaults=True):
    """A tool that was called and has not returned."""

    call: str
    name: str
    arguments: str | None = None
    """The beginning of them."""
    called_at: int = 0
    """µs UTC."""


class TicketSession(msgspec.Struct, omit_defaults=True):
    """What a session of a ticket is at. Times are µs UTC by the producers' clocks."""

    id: str
    ticket: str = ""
    kind: TicketKind = "chat"
    status: SessionStatus = "pending"
    error: str | None = None
    """Why it failed."""
    agent: str | None = None
    agent_session: str | None = None
    """What the agent calls it."""
    tools: list[RunningTool] = []
    """Running, the oldest first; none once the session has ended."""
    started_at: int = 0
    updated_at: int = 0
    """Of its last change of status or tool."""
    ended_at: int | None = None
    is_started: bool = False
    """False only before its first session.* event."""


class TicketsProjection(DocumentProjection[TicketSession]):
    """Folds the sessions of tickets: their changes of status and their tools."""

    name = "tickets"
    types = (SessionStarted, SessionTransitioned, ToolCalled, ToolReturned, BridgeEvent)
    state_type = TicketSession

    def key(self, event: Event) -> str | None:
        """Return the session, where it is one of a ticket."""
        return _session_of(event)

    def initial(self, key: str) -> TicketSession:
        """Return a session without events."""
        return TicketSession(key)

    def apply(self, state: TicketSession, entry: Entry) -> TicketSession | None:
        """Return the session after the entry; None before its first session.* event."""
        event = entry.event
        if not state.is_started:
            if event.VERSIONED != "session":
                return None
            state.started_at = event.occurred_at
            state.ticket = ticket_of(event.conversation) or ""
        state.updated_at = max(state.updated_at, event.occurred_at)
        if isinstance(event, SessionStarted):
            _start(state, event)
        elif isinstance(event, SessionTransitioned):
            _move(state, event.to_status, event)
        elif isinstance(event, ToolCalled):
            _begin_tool(state, event)
        elif isinstance(event, ToolReturned):
            state.tools = [tool for tool in state.tools if tool.call != event.call]
        elif isinstance(event, BridgeEvent) and event.event_type == AGENT_SESSION_OPENED:
            named = event.data.get("agent_session")
            state.agent_session = named if isinstance(named, str) else state.agent_session
        state.is_started = True
        return state

    def index(self, key: str, state: TicketSession) -> Iterator[IndexEntry]:  # noqa: ARG002 - the state has it
        """Return the lists the session is in: active ones by start, ended ones by end, in ms."""
        if state.ended_at is None:
            yield "active", state.started_at // 1000
            yield f"active:{state.ticket}", state.started_at // 1000
        else:
            yield f"ended:{state.ticket}", state.ended_at // 1000

    def idle_since(self, state: TicketSession) -> int | None:
        """Return when a session last changed that has ended."""
        return None if state.ended_at is None else max(state.ended_at, state.updated_at)


def _start(state: TicketSession, event: SessionStarted) -> None:
    if not state.is_started:
        state.status = event.status
        kind = event.metadata.get(KIND)
        if kind == "ask" or kind == "admin":
            state.kind = kind
    state.agent = state.agent or event.agent


def _move(state: TicketSession, target: SessionStatus, event: SessionTransitioned) -> None:
    state.status = next_status(state.status if state.is_started else None, target)
    if state.status in TERMINAL and state.ended_at is None:
        state.ended_at = event.occurred_at
        state.error = event.reason if state.status == "failed" else None
        state.tools = []


def _begin_tool(state: TicketSession, event: ToolCalled) -> None:
    if state.ended_at is None and len(state.tools) < RUNNING_TOOL_LIMIT:
        beginning = event.arguments and event.arguments[:MAX_ARGUMENT_CHARACTERS]
        state.tools.append(RunningTool(event.call, event.name, beginning, event.occurred_at))


class TicketFeedProjection(FeedProjection):
    """Keeps what was said and done in a session of a ticket."""

    name = "ticket_feed"
    types = (MessageReceived, MessageSent, ToolCalled, ToolReturned)

    def key(self, event: Event) -> str | None:
        """Return the session within its ticket."""
        session = _session_of(event)
        return None if session is None else scoped(event.conversation, session)

    def conversation(self, key: str) -> str:
        """Return the ticket's conversation."""
        return conversation_of(key)

    def limit(self, settings: Settings) -> int:
        """Return how many entries of a session stay hot."""
        return settings.chat_history_limit


def _session_of(event: Event) -> str | None:
    return event.session if event.conversation.startswith(PREFIX) else None


TICKETS = TicketsProjection()
TICKET_FEED = TicketFeedProjection()
