"""Sessions: those that go on told apart from those that are over; one of them live; starting one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

from starlette.responses import RedirectResponse, Response

from bridge.tickets import DEFAULT_AGENT
from eventlog.errors import IllegalTransition, InvalidEvent, InvalidQuery
from eventlog.ids import new_event_id
from eventlog.session import TERMINAL, SessionStatus
from projections.views.sessions import STATUSES, Session, Sessions
from projections.views.tickets import TicketKind, TicketSession, ticket_of
from service.http.dashboard import chats, words
from service.http.dashboard.page import Ask, not_found
from service.http.dashboard.transcript import items_of
from service.http.links import segment
from service.wiring import Service

PAGE_SESSIONS = 50
EARLIER_SESSIONS = 8
LIVE: tuple[SessionStatus, ...] = ("active", "pending")
KINDS: tuple[TicketKind, ...] = get_args(TicketKind)


class Filters(NamedTuple):
    """Which sessions are listed."""

    status: SessionStatus | None
    project: str | None
    user: str | None
    conversation: str | None

    @property
    def is_any(self) -> bool:
        """Whether there are none."""
        return not any(self)


class SessionLists(NamedTuple):
    """The page."""

    live: Sequence[Session]
    """Of a list without filters; else empty."""
    rest: Sequence[Session]
    cursor: str | None
    counts: Mapping[SessionStatus, int]


async def gather(service: Service, filters: Filters, cursor: str | None) -> SessionLists:
    """Return the sessions of a page."""
    view = Sessions(service.log)
    counts = await view.counts()
    if not filters.is_any:
        page = await view.list(**filters._asdict(), limit=PAGE_SESSIONS, cursor=cursor)
        return SessionLists((), page.items, page.cursor, counts)
    page = await view.list(limit=PAGE_SESSIONS, cursor=cursor)
    live: list[Session] = []
    if cursor is None:
        pages = await asyncio.gather(*(view.list(status=s, limit=PAGE_SESSIONS) for s in LIVE))
        live = sorted((s for p in pages for s in p.items), key=lambda s: -s.last_activity_at)
    rest = [each for each in page.items if each.status not in LIVE]
    return SessionLists(live[:PAGE_SESSIONS], rest, page.cursor, counts)


def sentence(counts: Mapping[SessionStatus, int]) -> str:
    """Return how things are. Pure."""
    total = sum(counts.values())
    if not total:
        return "No session yet. A bot's first message starts one, and so does the form below."
    live = sum(counts.get(status, 0) for status in LIVE)
    waiting = counts.get("pending", 0)
    going = "Nothing goes on" if not live else f"{live:,} {'goes' if live == 1 else 'go'} on now"
    pending = f", {waiting:,} of them wait for their agent" if waiting else ""
    failed = counts.get("failed", 0)
    ended = (
        f"{words.count(total - live, 'session')} asleep or over" if total > live else "none is over"
    )
    return f"{going}{pending}; {ended}" + (f", {failed:,} failed." if failed else ".")


async def sessions_page(ask: Ask) -> Response:
    """Return the lists."""
    status = ask.query("status")
    if status is not None and status not in STATUSES:
        raise InvalidQuery(f"no session is {status!r}.", remedy=f"One of {', '.join(STATUSES)}.")
    filters = Filters(
        next((each for each in STATUSES if each == status), None),
        ask.query("project"),
        ask.query("user"),
        ask.query("conversation"),
    )
    found = await gather(ask.service, filters, ask.query("cursor"))
    return await ask.page(
        "sessions.html",
        found=found,
        filters=filters,
        statuses=STATUSES,
        kinds=KINDS,
        agent=DEFAULT_AGENT,
        sentence=sentence(found.counts),
        cursor=ask.query("cursor"),
        new_id=new_event_id(),
    )


async def session_page(ask: Ask) -> Response:
    """Return one session: its transcript, what it is at, and what was before on its ticket."""
    service = ask.service
    session = await _existing(service, ask.path("session"))
    # Before the transcript: what is appended in between is in both, and shown once.
    place = await chats.stream_place(ask.shared, session.conversation)
    cursor = ask.query("cursor")
    passage = await chats.of_session(service, session, cursor)
    has_ended = session.status in TERMINAL
    ticket = ticket_of(session.conversation)
    items = items_of(passage.happened, has_ended=has_ended)
    return await ask.page(
        "session.html",
        session=session,
        ticket=ticket,
        items=items,
        older=passage.older,
        earlier_count=passage.earlier_count,
        cursor=cursor,
        is_live=not has_ended and cursor is None,
        place=place,
        earlier=await _earlier(service, ticket, session.id),
        idle_s=service.settings.session_ttl_s,
        message_id=new_event_id(),
    )


async def start_session(ask: Ask) -> Response:
    """Start a session of a ticket, in which the text waits for its agent."""
    form = ask.form
    kind: TicketKind = next((each for each in KINDS if each == form.get("kind")), "chat")
    if not form.get("ticket") or not form.get("text"):
        raise InvalidEvent(
            "a session needs a ticket and a text.", remedy="Go back and fill in both."
        )
    session = await ask.service.bridge.tickets.start(
        form.get("ticket"),
        form.get("text"),
        kind=kind,
        agent=form.get("agent") or DEFAULT_AGENT,
        sender=form.get("sender") or None,
        session_id=form.get("session_id") or None,
    )
    return RedirectResponse(f"/sessions/{segment(session)}", 303)


async def say_in_session(ask: Ask) -> Response:
    """Record what was typed into a session."""
    bridge = ask.service.bridge
    session = await _existing(ask.service, ask.path("session"))
    if session.status in TERMINAL:
        raise IllegalTransition(session.id, str(session.status), "active")
    text = ask.form.get("text")
    if not text:
        raise InvalidEvent(
            "nothing is said with an empty text.", remedy="Go back and say something."
        )
    common: dict[str, Any] = {
        "sender": ask.form.get("sender") or None,
        "message_id": ask.form.get("message_id") or None,
    }
    if ticket_of(session.conversation) is not None:
        await bridge.tickets.send(session.id, text, **common)
    else:
        await bridge.received(session, text, **common)
    return RedirectResponse(f"/sessions/{segment(session.id)}", 303)


async def _existing(service: Service, session_id: str) -> Session:
    found = await service.bridge.sessions.get(session_id)
    if found is None:
        raise not_found(f"there is no session {session_id!r}.", "The list has those there are.")
    return found


async def _earlier(service: Service, ticket: str | None, own: str) -> Sequence[TicketSession]:
    if ticket is None:
        return ()
    page = await service.bridge.tickets.history(ticket, limit=EARLIER_SESSIONS + 1)
    return [each for each in page.items if each.id != own][:EARLIER_SESSIONS]
