"""Sessions: list, start, look up, speak in, change."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.responses import Response

from eventlog.errors import IllegalTransition, SessionMissing
from eventlog.event import Name
from eventlog.session import TERMINAL, SessionMode, SessionStatus
from projections.views.sessions import Session
from projections.views.tickets import ticket_of
from service.http.appending import Appended, appended, status_of
from service.http.endpoint import json_response
from service.http.listing import OfSession, OnPage
from service.http.operation import Routes
from service.http.session_state import SessionDocument, state_of_session
from service.wiring import Service

routes = Routes("sessions")

Text = Annotated[str, Meta(min_length=1)]


class WhichSessions(OnPage, frozen=True, kw_only=True):
    """Which sessions: those that all given words fit."""

    status: SessionStatus | None = None
    project: str | None = None
    conversation: str | None = None
    user: str | None = None
    owner: str | None = None


class SessionList(msgspec.Struct, frozen=True):
    """Sessions, last active first. A page may be shorter than asked for and go on nevertheless."""

    sessions: list[Session]
    cursor: str | None


class StartSession(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A session to start."""

    conversation: Name | None = None
    """None: the session is its own."""
    session_id: Name | None = None
    """Yours; None is a new UUID."""
    status: Literal["pending", "active"] = "active"
    mode: SessionMode = "chat"
    platform: str | None = None
    project: str | None = None
    user: Name | None = None
    agent: str | None = None
    branch_name: str | None = None
    text: str | None = None
    metadata: dict[str, Any] = {}


class Say(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something said in a session."""

    text: Text
    sender: Name | None = None
    message_id: Name | None = None
    """Yours: said again, it is recorded once."""


class Transition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The status that a session is to have."""

    to: SessionStatus
    reason: str | None = None
    owner: str | None = None
    expected_version: Annotated[int, Meta(ge=0)] | None = None
    """A version that was read before: changed only if nobody else did meanwhile."""


@routes.get("/v1/sessions")
async def list_sessions(service: Service, asked: WhichSessions) -> SessionList:
    """List sessions, last active first."""
    page = await service.bridge.sessions.list(
        status=asked.status,
        project=asked.project,
        conversation=asked.conversation,
        user=asked.user,
        owner=asked.owner,
        limit=asked.limit,
        cursor=asked.cursor,
    )
    return SessionList(page.items, page.cursor)


@routes.post("/v1/sessions", statuses=(201,))
async def start_session(service: Service, body: StartSession) -> Session:
    """Start a session, of a conversation or its own.

    To find a user's session, or start it on their first message, use the chat endpoint; for a coding
    agent's, a ticket.
    """
    return await service.bridge.sessions.start(**msgspec.structs.asdict(body))


@routes.get("/v1/sessions/{session}")
async def get_session(service: Service, asked: OfSession) -> Session:
    """Return a session as of now."""
    return await existing(service, asked.session)


@routes.get("/v1/sessions/{session}/state")
async def get_session_state(service: Service, asked: OfSession) -> SessionDocument:
    """Return what a session is at: status, the last that was said, running tools."""
    found = await state_of_session(service, asked.session)
    if found is None:
        raise SessionMissing(asked.session)
    return found


@routes.post("/v1/sessions/{session}/messages", answer=Appended, statuses=(201, 200, 202))
async def say_in_session(service: Service, asked: OfSession, body: Say) -> Response:
    """Record what somebody says in a session, and return at once; workers act on it.

    A session that was dormant is active again; one that has ended takes nothing more.
    """
    session = await existing(service, asked.session)
    if ticket_of(session.conversation) is not None:
        result = await service.bridge.tickets.send(
            session.id, body.text, sender=body.sender, message_id=body.message_id
        )
    else:
        if session.status in TERMINAL:
            raise IllegalTransition(session.id, str(session.status), "active")
        result = await service.bridge.received(
            session,
            body.text,
            sender=body.sender,
            message_id=body.message_id,
        )
    return json_response(appended(None, result), status_of([result]))


@routes.post("/v1/sessions/{session}/transition")
async def change_session(service: Service, asked: OfSession, body: Transition) -> Session:
    """Change a session's status; one that has it already stays as it is."""
    return await service.bridge.sessions.transition(
        asked.session,
        body.to,
        expected=body.expected_version,
        reason=body.reason,
        owner=body.owner,
    )


async def existing(service: Service, session_id: str) -> Session:
    """Return the session. Raises SessionMissing."""
    found = await service.bridge.sessions.get(session_id)
    if found is None:
        raise SessionMissing(session_id)
    return found
