"""Tickets: live sessions of coding agents, as a page or a bot works with them.

A ticket is a conversation; its sessions live in it. Every call returns at once: what takes long, a
worker does (`bridge.coding_agent.following`), and `state` tells how far it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from bridge.live_state import ChatMessage, SessionState, ToolCall, chat_items, state_of
from eventlog.errors import EmptyConversation, InvalidEvent
from eventlog.ids import new_event_id
from eventlog.log import EventLog
from eventlog.session import TERMINAL, SessionStatus, check_transition
from eventlog.vocabulary import (
    JobQueued,
    MessageReceived,
    SessionStarted,
    SessionTransitioned,
)
from eventlog.writer import AppendResult
from projections.reading.live import LiveDocuments
from projections.reading.live_feeds import LiveFeeds
from projections.reading.paging import Page
from projections.views.sessions import Sessions
from projections.views.tickets import (
    TICKET_FEED,
    TICKETS,
    TicketKind,
    TicketSession,
    conversation_of,
)

STATE_MESSAGES = 100
"""Entries of a session that its state is made of, where nobody says."""


class Chat(NamedTuple):
    """What was said and done in a session, oldest first."""

    items: list[ChatMessage | ToolCall]
    earlier_count: int
    """Entries that came before."""


class Tickets:
    """The sessions of tickets. Every call returns at once and may raise LogUnavailable.

    >>> session = await tickets.start("T-1", "Why does the build fail?")
    >>> (await tickets.state(session)).status
    'pending'
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._documents = LiveDocuments(log, TICKETS)
        self._feeds = LiveFeeds(log, TICKET_FEED)
        self._sessions = Sessions(log)

    async def start(
        self,
        ticket: str,
        text: str,
        *,
        kind: TicketKind = "chat",
        agent: str = "coder",
        session: str | None = None,
        sender: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the id of a new session, in which `text` waits for the agent.

        It is pending until a worker of the agent has taken its job. With a `session` id of yours a
        repeated call starts nothing more. Raises InvalidEvent and its kin.
        """
        if not ticket or not text:
            raise EmptyConversation("a session is started with the name of a ticket and a text.")
        session_id = session or new_event_id()
        common: dict[str, Any] = {
            "conversation": conversation_of(ticket),
            "session": session_id,
            "occurred_at": self._log.clock.now_us(),
        }
        await self._log.append(
            [
                SessionStarted(
                    **common,
                    id=f"ticket:{session_id}:started",
                    status="pending",
                    mode="chat" if kind == "chat" else "job",
                    platform="ticket",
                    user=sender,
                    agent=agent,
                    text=text,
                    metadata={**(metadata or {}), "kind": kind},
                ),
                MessageReceived(**common, id=f"ticket:{session_id}:text", text=text, sender=sender),
                JobQueued(
                    **common, id=f"ticket:{session_id}:job", agent=agent, text=text, mode="job"
                ),
            ]
        )
        return session_id

    async def ask(self, ticket: str, text: str, **arguments: Any) -> str:
        """Start a session that answers one question; all else as `start`."""
        return await self.start(ticket, text, kind="ask", **arguments)

    async def send(
        self,
        session: str,
        text: str,
        *,
        sender: str | None = None,
        message_id: str | int | None = None,
        ticket: str | None = None,
    ) -> AppendResult:
        """Say something in a session; whoever follows its agent hands it on.

        With a `message_id` of yours a repeated call says nothing more. Raises IllegalTransition where
        the session has ended, VersionConflict where it changed in the same moment, InvalidEvent
        where there is none.
        """
        standing = await self._existing(session, ticket)
        if standing.status in TERMINAL:
            check_transition(session, standing.status, "active")
        named: dict[str, Any] = {} if message_id is None else {"id": f"ticket:{session}:{message_id}"}
        message = MessageReceived(
            **named,
            conversation=conversation_of(standing.ticket),
            session=session,
            text=text,
            sender=sender,
            message_id=None if message_id is None else str(message_id),
            occurred_at=self._log.clock.now_us(),
        )
        return await self._log.append(message)

    async def complete(self, session: str, *, ticket: str | None = None) -> None:
        """End a session; whoever follows its agent stops it. Raises IllegalTransition, InvalidEvent."""
        await self._end(session, "completed", None, ticket)

    async def fail(self, session: str, reason: str, *, ticket: str | None = None) -> None:
        """End a session and say why; all else as `complete`."""
        await self._end(session, "failed", reason, ticket)

    async def active(self, ticket: str) -> TicketSession | None:
        """Return the ticket's session that has not ended, of several the one begun last."""
        partition = self._log.partition_of(conversation_of(ticket))
        whenever = float("-inf"), float("inf")
        found = await self._documents.partition_page(partition, f"active:{ticket}", 1, whenever)
        return found[0] if found else None

    async def state(
        self, session: str, *, limit: int = STATE_MESSAGES, ticket: str | None = None
    ) -> SessionState | None:
        """Return what a session is at, with what was said in its last `limit` entries.

        None where there is no such session. It costs two reads, and finding the session one of each
        partition, which naming its ticket saves.
        """
        standing = await self._find(session, ticket)
        if standing is None:
            return None
        partition = self._log.partition_of(conversation_of(standing.ticket))
        page = await self._feeds.page(partition, session, limit)
        return state_of(standing, page.entries)

    async def chat(
        self, session: str, *, limit: int = 500, ticket: str | None = None
    ) -> Chat | None:
        """Return the last of what was said and done in a session, live or ended; None for no session."""
        standing = await self._find(session, ticket)
        if standing is None:
            return None
        partition = self._log.partition_of(conversation_of(standing.ticket))
        page = await self._feeds.page(partition, session, limit)
        has_ended = standing.ended_at is not None
        return Chat(chat_items(page.entries, has_ended=has_ended), page.first - 1)

    async def history(
        self, ticket: str, *, limit: int = 50, cursor: str | None = None
    ) -> Page[TicketSession]:
        """Return the ticket's sessions that have ended, the last one first.

        Raises InvalidQuery, InvalidCursor.
        """
        return await self._documents.page(f"ended:{ticket}", limit, cursor)

    async def _find(self, session: str, ticket: str | None) -> TicketSession | None:
        if ticket is not None:
            partition = self._log.partition_of(conversation_of(ticket))
            return await self._documents.get(partition, session)
        found = await self._documents.find(session)
        return found[0] if found else None

    async def _existing(self, session: str, ticket: str | None) -> TicketSession:
        found = await self._find(session, ticket)
        if found is None:
            raise InvalidEvent(
                f"there is no session {session!r} in a ticket.",
                remedy="Start one: `Tickets.start`.",
            )
        return found

    async def _end(
        self, session: str, to: SessionStatus, reason: str | None, ticket: str | None
    ) -> None:
        standing = await self._existing(session, ticket)
        conversation = conversation_of(standing.ticket)
        current = await self._sessions.get(session, conversation=conversation)
        assert current is not None
        assert current.status is not None
        check_transition(session, current.status, to)
        await self._log.append(
            SessionTransitioned(
                conversation=conversation,
                session=session,
                from_status=current.status,
                to_status=to,
                reason=reason,
                occurred_at=self._log.clock.now_us(),
            ),
            expected_version=current.version,
        )
