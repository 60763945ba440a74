"""Tickets: live sessions of coding agents, as a page or a bot works with them.

A ticket is a conversation; its sessions live in it. Every call returns at once: what takes long, a
worker does (`bridge.coding_agent.following`), and `state` tells how far it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bridge.deciding import until_decided
from bridge.given import id_text
from bridge.live_state import ChatMessage, SessionState, ToolCall, chat_items, state_of
from bridge.place import message_event_id
from bridge.session_start import SessionStart
from bridge.sessions import SessionCalls
from bridge.starting import Starter
from eventlog.entry import Entry
from eventlog.errors import InvalidEvent, InvalidQuery, SessionExists, SessionMissing
from eventlog.event import Event
from eventlog.log import EventLog
from eventlog.past import Past
from eventlog.scoped import scoped
from eventlog.session import TERMINAL, check_transition
from eventlog.vocabulary import (
    JobQueued,
    MessageReceived,
    SessionTouched,
    SessionTransitioned,
    session_entity,
)
from eventlog.writer import AppendResult
from projections.reading.live import LiveDocuments
from projections.reading.long_feeds import LongFeeds, Place
from projections.reading.paging import Page, decode_cursor, encode_cursor
from projections.views.sessions import Session, Sessions
from projections.views.tickets import (
    KIND,
    TICKET_FEED,
    TICKETS,
    TicketKind,
    TicketSession,
    conversation_of_ticket,
    ticket_of,
)

DEFAULT_AGENT = "coder"
"""Whose workers take the jobs, where nobody says."""

MAX_PAGE_ENTRIES = 10_000

STATE_ENTRIES = 100
"""Entries of a session that its state is made of, where nobody says."""


class Chat(NamedTuple):
    """What was said and done in a session, oldest first.

    A tool that returned after the page it was called in is there in both: running, and returned.
    """

    items: list[ChatMessage | ToolCall]
    cursor: str | None
    """Fetches what came before; None at the beginning."""
    earlier_count: int
    """Entries that came before."""


class Tickets:
    """The sessions of tickets. Every call returns at once and may raise LogUnavailable.

    >>> session = await tickets.start("T-1", "Why does the build fail?")
    >>> (await tickets.state(session)).status
    'pending'
    """

    def __init__(self, log: EventLog, sessions: SessionCalls, past: Past | None = None) -> None:
        """With `past`, the archive, `chat` reaches back to a session's first word."""
        self._log = log
        self._sessions = sessions
        self._view = Sessions(log)
        self._starter = Starter(log, self._view)
        self._documents = LiveDocuments(log, TICKETS)
        self._feeds = LongFeeds(log, TICKET_FEED, past=past)

    async def start(
        self,
        ticket: str,
        text: str,
        *,
        kind: TicketKind = "chat",
        agent: str = DEFAULT_AGENT,
        session_id: str | None = None,
        sender: str | None = None,
        project: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the id of a new session, in which `text` waits for the agent.

        It is pending until a worker of the agent has taken its job. With an id of yours a repeated
        call starts nothing more. Raises SessionExists where that id is a session elsewhere,
        InvalidEvent and its kin.
        """
        if not ticket or not text or not agent:
            raise InvalidEvent("a session is started with a ticket, a text and an agent's name.")
        conversation = conversation_of_ticket(ticket)
        common: dict[str, Any] = {
            "conversation": conversation,
            "occurred_at": self._log.clock.now_us(),
        }

        def work(session: str) -> list[Event]:
            return [
                MessageReceived(**common, session=session, text=text, sender=sender),
                JobQueued(**common, session=session, agent=agent, text=text, mode="job"),
            ]

        start = SessionStart(
            status="pending",
            mode="chat" if kind == "chat" else "job",
            platform="ticket",
            project=project,
            user=sender,
            agent=agent,
            text=text,
            owner=self._sessions.owner,
            metadata={**(metadata or {}), KIND: kind},
        )
        try:
            started = await self._starter.start(
                start, conversation=conversation, session_id=session_id, also=work
            )
        except SessionExists as exists:
            found = await self._view.get(exists.session, conversation=conversation)
            if found is None or found.conversation != conversation:
                raise
            return found.id
        return started.id

    async def ask(self, /, ticket: str, text: str, **arguments: Any) -> str:
        """Start a session that answers one question; all else as `start`."""
        return await self.start(ticket, text, kind="ask", **arguments)

    async def send(
        self,
        session: str,
        text: str,
        *,
        sender: str | None = None,
        message_id: str | int | None = None,
    ) -> AppendResult:
        """Say something in a session; whoever follows its agent hands it on.

        With a `message_id` of yours a repeated call says nothing more. Raises IllegalTransition where
        the session has ended, SessionMissing, InvalidEvent and its kin.
        """
        if not text:
            raise InvalidEvent("nothing is said with an empty text.")
        named: dict[str, Any] = {}

        async def decide() -> AppendResult:
            current = await self._sessions.get(session)
            if current is None or ticket_of(current.conversation) is None:
                raise SessionMissing(session)
            if message_id is not None:
                named["id"] = message_event_id(current.conversation, id_text("message", message_id))
                named["message_id"] = str(message_id)
            common: dict[str, Any] = {
                "conversation": current.conversation,
                "session": session,
                "occurred_at": self._log.clock.now_us(),
            }
            said = MessageReceived(**common, **named, text=text, sender=sender)
            # What ends the session and what is said in it know of each other by its version.
            results = await self._log.append(
                [_awake(current, common), said],
                expected_version={session_entity(session): current.version},
            )
            return results[1]

        return await until_decided(decide)

    async def complete(self, session: str) -> None:
        """End a session; whoever follows its agent stops it.

        Raises SessionMissing, IllegalTransition.
        """
        await self._sessions.complete(session)

    async def fail(self, session: str, reason: str) -> None:
        """End a session and say why; all else as `complete`."""
        await self._sessions.fail(session, reason)

    async def active(self, ticket: str) -> TicketSession | None:
        """Return the ticket's session that has not ended, of several the one begun last."""
        partition = self._log.partition_of(conversation_of_ticket(ticket))
        whenever = float("-inf"), float("inf")
        found = await self._documents.partition_page(partition, f"active:{ticket}", 1, whenever)
        return found[0] if found else None

    async def state(self, session: str, *, limit: int = STATE_ENTRIES) -> SessionState | None:
        """Return what a session is at, with what was said in its last `limit` entries.

        None where no ticket has such a session. It costs three reads, however long the session is,
        and for one that left Redis what its last entries cost in the archive.
        """
        standing = await self._find(session)
        if standing is None:
            return None
        recent = await self._feeds.older(_feed(standing), None, limit, "live", _is_enough)
        return state_of(standing, recent.entries)

    async def chat(
        self, session: str, *, limit: int = 100, cursor: str | None = None
    ) -> Chat | None:
        """Return the last of what was said and done in a session, live or ended; None for no session.

        `limit` counts entries: a message is one, a tool's call and its return are two. What is no
        longer hot comes from the archive. Raises InvalidQuery, InvalidCursor, and HistoryGap where
        neither archive nor log has what is asked for.
        """
        if not 1 <= limit <= MAX_PAGE_ENTRIES:
            raise InvalidQuery(
                f"a page of {limit} entries.", remedy=f"Ask for 1 to {MAX_PAGE_ENTRIES:,}."
            )
        standing = await self._find(session)
        if standing is None:
            return None
        place = None if cursor is None else decode_cursor(cursor, Place)
        page = await self._feeds.older(_feed(standing), place, limit, "live")
        return Chat(
            chat_items(page.entries, has_ended=cursor is None and standing.ended_at is not None),
            encode_cursor(page.left) if page.has_older else None,
            page.left.before_count,
        )

    async def history(
        self, ticket: str, *, limit: int = 50, cursor: str | None = None
    ) -> Page[TicketSession]:
        """Return the ticket's sessions that have ended, the last one first.

        Raises InvalidQuery, InvalidCursor.
        """
        return await self._documents.page(f"ended:{ticket}", limit, cursor)

    async def _find(self, session: str) -> TicketSession | None:
        found = await self._view.get(session)
        if found is None:
            return None
        return await self._documents.get(self._log.partition_of(found.conversation), session)


def _feed(session: TicketSession) -> str:
    return scoped(conversation_of_ticket(session.ticket), session.id)


def _is_enough(hot: Sequence[Entry]) -> bool:
    """Say that what is hot is all that a state is made of, unless all of it has left Redis."""
    return bool(hot)


def _awake(session: Session, common: Mapping[str, Any]) -> Event:
    """Return the event that says of a session that somebody speaks in it."""
    if session.status in TERMINAL:
        check_transition(session.id, session.status, "active")
    if session.status == "dormant":
        return SessionTransitioned(
            **common, from_status="dormant", to_status="active", reason="message"
        )
    return SessionTouched(**common, reason="message")
