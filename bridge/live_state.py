"""A session as a page shows it: what it is at, and what was said and done in it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from eventlog.entry import Entry
from eventlog.session import SessionStatus
from eventlog.vocabulary import MessageReceived, MessageSent, ToolCalled, ToolReturned
from projections.views.tickets import RunningTool, TicketKind, TicketSession

LiveStatus = Literal["pending", "running", "completed", "error"]

_SHOWN: dict[SessionStatus, LiveStatus] = {
    "pending": "pending",
    "active": "running",
    # Nobody has said anything for a while; it goes on all the same.
    "dormant": "running",
    "completed": "completed",
    "failed": "error",
}


class ChatMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something said in a session."""

    id: str
    role: Literal["user", "agent"]
    text: str
    at: int
    """µs UTC."""
    sender: str | None = None


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tool that the agent used."""

    call: str
    name: str
    arguments: str | None = None
    result: str | None = None
    status: Literal["running", "completed", "error", "interrupted"] = "running"
    """`interrupted`: the session ended before the tool returned."""
    called_at: int = 0
    """µs UTC."""
    duration_ms: int | None = None


class SessionState(msgspec.Struct, frozen=True):
    """What a session is at. Times are µs UTC."""

    session: str
    ticket: str
    kind: TicketKind
    status: LiveStatus
    messages: list[ChatMessage]
    """The last ones, oldest first."""
    running_tools: list[RunningTool]
    error: str | None
    started_at: int
    updated_at: int


def shown_status(status: SessionStatus) -> LiveStatus:
    """Return a session's status in the words of a page."""
    return _SHOWN[status]


def state_of(session: TicketSession, entries: Sequence[Entry]) -> SessionState:
    """Return the state of a session, given the last entries of its feed."""
    said = messages_in(entries)
    latest = entries[-1].event.occurred_at if entries else 0
    return SessionState(
        session.id,
        session.ticket,
        session.kind,
        shown_status(session.status),
        said,
        session.tools,
        session.error,
        session.started_at,
        max(session.updated_at, latest),
    )


def messages_in(entries: Sequence[Entry]) -> list[ChatMessage]:
    """Return what was said, in the order of the log."""
    return [
        ChatMessage(
            entry.event.id,
            "user" if isinstance(entry.event, MessageReceived) else "agent",
            entry.event.text,
            entry.event.occurred_at,
            entry.event.sender,
        )
        for entry in entries
        if isinstance(entry.event, MessageReceived | MessageSent)
    ]


def chat_items(
    entries: Sequence[Entry], *, has_ended: bool = False
) -> list[ChatMessage | ToolCall]:
    """Return what was said and done in order, each tool where it was called, with what came of it."""
    items: list[ChatMessage | ToolCall] = []
    places: dict[str, int] = {}
    for entry in entries:
        event = entry.event
        if isinstance(event, ToolCalled):
            places[event.call] = len(items)
            items.append(
                ToolCall(
                    event.call,
                    event.name,
                    event.arguments,
                    status="interrupted" if has_ended else "running",
                    called_at=event.occurred_at,
                )
            )
        elif isinstance(event, ToolReturned):
            place = places.pop(event.call, None)
            # The call itself may lie before the first entry.
            call = ToolCall(event.call, event.name or "unknown")
            if place is not None:
                found = items[place]
                assert isinstance(found, ToolCall)
                call = found
            done = msgspec.structs.replace(
                call,
                result=event.result,
                status="error" if event.is_error else "completed",
                duration_ms=event.duration_ms,
            )
            if place is None:
                items.append(done)
            else:
                items[place] = done
        else:
            items += messages_in([entry])
    return items
