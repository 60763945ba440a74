"""Tickets: live sessions of coding agents. Each call returns at once; workers do what takes long."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from bridge.live_state import ChatMessage, ToolCall
from bridge.tickets import DEFAULT_AGENT
from eventlog.errors import SessionMissing
from eventlog.event import Name
from projections.views.tickets import TicketKind, TicketSession
from service.http.links import session_link
from service.http.listing import Asked, OnPage
from service.http.operation import Routes
from service.http.refusal import Refusal
from service.wiring import Service

routes = Routes("tickets")

Ticket = Annotated[str, Meta(min_length=1, max_length=400)]


class OfTicket(Asked, frozen=True):
    """A ticket by its name."""

    ticket: Ticket


class TicketPage(OnPage, frozen=True, kw_only=True):
    """Which of a ticket's ended sessions."""

    ticket: Ticket


class StartTicketSession(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Work for an agent."""

    text: Annotated[str, Meta(min_length=1)]
    kind: TicketKind = "chat"
    agent: Annotated[str, Meta(min_length=1)] = DEFAULT_AGENT
    """Whose workers take it."""
    session_id: Name | None = None
    """Yours: asked again, it starts nothing more."""
    sender: Name | None = None
    project: str | None = None
    metadata: dict[str, Any] = {}


class StartedTicketSession(msgspec.Struct, frozen=True):
    """A session that waits for its agent."""

    session: str
    stream: str
    """The path of its stream."""


class TicketHistory(msgspec.Struct, frozen=True):
    """A ticket's sessions that have ended, the last one first."""

    sessions: list[TicketSession]
    cursor: str | None


class WhichChat(OnPage, frozen=True, kw_only=True):
    """Which entries of a session; a tool's call and its return are two."""

    session: Name


class SessionChat(msgspec.Struct, frozen=True):
    """What was said and done in a session, oldest first."""

    items: list[ChatItem]
    cursor: str | None
    """Fetches what came before."""
    earlier_count: int


class ChatItem(msgspec.Struct, frozen=True):
    """A message, or a tool that was used."""

    message: ChatMessage | None = None
    tool: ToolCall | None = None


@routes.post("/v1/tickets/{ticket}/sessions", statuses=(202,))
async def start_ticket_session(
    service: Service, asked: OfTicket, body: StartTicketSession
) -> StartedTicketSession:
    """Start a session in which `text` waits for the agent; its id is there immediately."""
    session = await service.bridge.tickets.start(asked.ticket, **msgspec.structs.asdict(body))
    return StartedTicketSession(session, f"{session_link(session)}/stream")


@routes.get("/v1/tickets/{ticket}/sessions")
async def list_ticket_sessions(service: Service, asked: TicketPage) -> TicketHistory:
    """List a ticket's sessions that have ended, the last one first."""
    page = await service.bridge.tickets.history(
        asked.ticket, limit=asked.limit, cursor=asked.cursor
    )
    return TicketHistory(page.items, page.cursor)


@routes.get("/v1/tickets/{ticket}/active")
async def get_active_session(service: Service, asked: OfTicket) -> TicketSession:
    """Return the ticket's session that has not ended, of several the one begun last."""
    found = await service.bridge.tickets.active(asked.ticket)
    if found is None:
        raise Refusal(
            "not_found",
            f"ticket {asked.ticket!r} has no session that goes on.",
            remedy="Start one, or list those that have ended.",
        )
    return found


@routes.get("/v1/sessions/{session}/chat")
async def get_session_chat(service: Service, asked: WhichChat) -> SessionChat:
    """Return what was said and done in a ticket's session, live or ended, back into the archive."""
    found = await service.bridge.tickets.chat(asked.session, limit=asked.limit, cursor=asked.cursor)
    if found is None:
        raise SessionMissing(asked.session)
    items = [
        ChatItem(tool=each) if isinstance(each, ToolCall) else ChatItem(message=each)
        for each in found.items
    ]
    return SessionChat(items, found.cursor, found.earlier_count)
