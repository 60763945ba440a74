"""What a session is at, whatever kind it is: a ticket's, or a chat's."""

from __future__ import annotations

import msgspec

from bridge.live_state import ChatMessage, LiveStatus, messages_in, shown_status
from projections.views.history import History
from projections.views.sessions import Session
from projections.views.tickets import RunningTool, ticket_of
from service.wiring import Service

STATE_MESSAGES = 50
"""The last of a conversation that the state of a session is made of."""


class SessionDocument(msgspec.Struct, frozen=True):
    """What a session is at. Times are µs UTC."""

    session: Session
    status: LiveStatus
    """In the words of a page: `running` until it has ended, also while nobody speaks."""
    ticket: str | None
    messages: list[ChatMessage]
    """The last ones, oldest first."""
    running_tools: list[RunningTool]
    error: str | None
    started_at: int
    updated_at: int


async def state_of_session(service: Service, session_id: str) -> SessionDocument | None:
    """Return what the session is at; None where there is none."""
    session = await service.bridge.sessions.get(session_id)
    if session is None or session.status is None:
        return None
    ticket = ticket_of(session.conversation)
    if ticket is not None:
        state = await service.bridge.tickets.state(session_id)
        if state is not None:
            return SessionDocument(
                session,
                state.status,
                ticket,
                state.messages,
                state.running_tools,
                state.error,
                state.started_at,
                state.updated_at,
            )
    view = History(service.log, past=service.past)
    page = await view.last(session.conversation, STATE_MESSAGES)
    said = [entry for entry in page.entries if entry.event.session == session_id]
    return SessionDocument(
        session,
        shown_status(session.status),
        ticket,
        messages_in(said),
        [],
        None,
        session.started_at,
        session.last_activity_at,
    )
