"""Sessions: one document each, found by status, project, conversation and user.

A document lives with its conversation's partition. Where one session id is used in conversations of
several partitions, each of them has a record of it; the one last active stands for the session (of
equals that of the lowest partition), and the others show up in no list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import get_args

import msgspec

from eventlog.entry import Entry
from eventlog.event import Event
from eventlog.log import EventLog
from eventlog.session import TERMINAL, SessionMode, SessionStatus, next_status
from eventlog.vocabulary import (
    MessageReceived,
    MessageSent,
    SessionStarted,
    SessionTransitioned,
    ToolCalled,
    ToolReturned,
)
from projections.projection import DocumentProjection, IndexEntry
from projections.reading.live import Consistency, LiveDocuments, one_index
from projections.reading.paging import Page
from projections.storing.store import ModelStore

IDLE = "idle"
"""Index of active sessions by time since they were touched, longest first."""

STATUSES: tuple[SessionStatus, ...] = get_args(SessionStatus)


class Session(msgspec.Struct, omit_defaults=True):
    """A session as the log tells it. Times are µs UTC by the producers' clocks."""

    id: str
    conversation: str = ""
    status: SessionStatus | None = None
    """None only before the first event."""
    mode: SessionMode = "chat"
    platform: str | None = None
    project: str | None = None
    user: str | None = None
    agent: str | None = None
    branch_name: str | None = None
    text: str | None = None
    started_at: int = 0
    last_activity_at: int = 0
    ended_at: int | None = None
    message_count: int = 0
    tool_call_count: int = 0
    tool_error_count: int = 0
    version: int = 0
    """How often session.* events changed it: what `append(expected_version=…)` compares."""


class SessionsProjection(DocumentProjection[Session]):
    """Folds every event that names a session into that session."""

    name = "sessions"
    types = (Event,)
    state_type = Session
    facets = ("status",)

    def key(self, event: Event) -> str | None:
        """Return the session."""
        return event.session

    def initial(self, key: str) -> Session:
        """Return a session without events."""
        return Session(key)

    def apply(self, state: Session, entry: Entry) -> Session:
        """Return the session after the entry.

        One first seen through another event than its start is active: somebody is using it.
        """
        event = entry.event
        if not state.conversation:
            state.conversation = event.conversation
            state.started_at = state.last_activity_at = event.occurred_at
        # Producers' clocks may disagree; activity never goes back. Falling asleep is none.
        if not (isinstance(event, SessionTransitioned) and event.to_status == "dormant"):
            state.last_activity_at = max(state.last_activity_at, event.occurred_at)
        if isinstance(event, MessageReceived | MessageSent):
            state.message_count += 1
        elif isinstance(event, ToolCalled):
            state.tool_call_count += 1
        elif isinstance(event, ToolReturned):
            state.tool_error_count += event.is_error
        elif isinstance(event, SessionStarted):
            _start(state, event)
        elif isinstance(event, SessionTransitioned):
            _move(state, event.to_status, event.occurred_at)
        if event.VERSIONED == "session":
            state.version += 1
        if state.status is None:
            state.status = "active"
        return state

    def index(self, key: str, state: Session) -> Iterator[IndexEntry]:  # noqa: ARG002 - the state has it
        """Return the lists the session is in, all by latest activity in ms."""
        activity_ms = state.last_activity_at // 1000
        yield "all", activity_ms
        yield f"status:{state.status}", activity_ms
        yield f"conversation:{state.conversation}", activity_ms
        if state.project is not None:
            yield f"project:{state.project}", activity_ms
        if state.user is not None:
            yield f"user:{state.user}", activity_ms
        if state.status == "active":
            yield IDLE, -activity_ms


def _start(state: Session, event: SessionStarted) -> None:
    """Take what the start says; a session that has started keeps what it has."""
    if state.version == 0:
        state.started_at = event.occurred_at
        state.mode = event.mode
    state.platform = state.platform or event.platform
    state.project = state.project or event.project
    state.user = state.user or event.user
    state.agent = state.agent or event.agent
    state.branch_name = state.branch_name or event.branch_name
    state.text = state.text or event.text
    _move(state, event.status, event.occurred_at)


def _move(state: Session, target: SessionStatus, at_us: int) -> None:
    state.status = next_status(state.status, target)
    if state.status in TERMINAL and state.ended_at is None:
        state.ended_at = at_us


SESSIONS = SessionsProjection()


class Sessions:
    """Questions about sessions. Every call may raise LogUnavailable."""

    def __init__(self, log: EventLog, store: ModelStore | None = None) -> None:
        self._log = log
        self._documents = LiveDocuments(log, SESSIONS, store)

    async def get(
        self,
        session: str,
        *,
        conversation: str | None = None,
        consistency: Consistency = "live",
    ) -> Session | None:
        """Return the session, or None: of several records the one that stands for it.

        Naming its conversation saves asking every partition and gives the record of that one, by
        whose version `append(expected_version=…)` to that conversation is checked.
        """
        if conversation is not None:
            partition = self._log.partition_of(conversation)
            return await self._documents.get(partition, session, consistency)
        found = await self._documents.find(session, consistency)  # in order of partitions
        return _standing(dict(enumerate(found))) if found else None

    async def list(
        self,
        *,
        status: SessionStatus | None = None,
        project: str | None = None,
        conversation: str | None = None,
        user: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
        consistency: Consistency = "live",
    ) -> Page[Session]:
        """Return sessions by latest activity, newest first, by at most one of the four.

        Each is there once, in the list that the record which stands for it belongs to. A page is
        shorter than asked for where others were left out; its cursor goes on nevertheless. Raises
        InvalidQuery, InvalidCursor.
        """
        index = one_index(
            {"status": status, "project": project, "conversation": conversation, "user": user}
        )
        page = await self._documents.page(index, limit, cursor, consistency)
        return page._replace(items=list(await self._only_standing(page.items, consistency)))

    async def idle(self, before_us: int, *, limit: int = 500) -> Sequence[Session]:
        """Return active sessions last active before a time in µs, the longest idle first.

        Every record on its own, since each falls asleep in its own partition.
        """
        page = await self._documents.page(IDLE, limit, lowest_score=-before_us / 1000)
        return page.items

    async def counts(self, *, consistency: Consistency = "live") -> dict[SessionStatus, int]:
        """Return how many records each status has, which costs the same for any number of them.

        A session whose id is used in conversations of several partitions counts in each of them.
        """
        found = await self._documents.counts("status", consistency)
        return {status: found.get(status, 0) for status in STATUSES}

    async def _only_standing(
        self, found: Sequence[Session], consistency: Consistency
    ) -> Sequence[Session]:
        """Return those that stand for their session, in order.

        Each partition is asked once, for the sessions of which the page has no record from there.
        """
        records: dict[str, dict[int, Session]] = {}
        for session in found:
            place = self._log.partition_of(session.conversation)
            records.setdefault(session.id, {})[place] = session
        wanted = {
            partition: [session for session, here in records.items() if partition not in here]
            for partition in range(self._log.partition_count)
        }
        asked = {partition: ids for partition, ids in wanted.items() if ids}
        reads = (self._documents.get_many(p, ids, consistency) for p, ids in asked.items())
        for (partition, ids), others in zip(
            asked.items(), await asyncio.gather(*reads), strict=True
        ):
            for session_id, other in zip(ids, others, strict=True):
                if other is not None:
                    records[session_id][partition] = other
        return [each for each in found if each is _standing(records[each.id])]


def _standing(records: Mapping[int, Session]) -> Session:
    """Return the record last active, of equals that of the lowest partition."""
    return records[max(records, key=lambda place: (records[place].last_activity_at, -place))]
