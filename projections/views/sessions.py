"""Sessions: one document each, found by status, project, conversation, user and owner.

A session exists from its first `session.*` event on; an event that merely names one makes none. Its
document lives with its conversation's partition. A session made through the bridge is found from its
id: it lives in the partition that its id falls into, or `session.placed` stands there and says where.
One made otherwise may live anywhere. Where such a one has records in several partitions, the one
last active stands for the session (of equals that of the lowest partition), and the others show up
in no list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

import msgspec

from eventlog.entry import Entry
from eventlog.event import Event
from eventlog.log import EventLog
from eventlog.session import TERMINAL, SessionMode, SessionStatus, next_status
from eventlog.vocabulary import (
    MessageReceived,
    MessageSent,
    SessionPlaced,
    SessionStarted,
    SessionTouched,
    SessionTransitioned,
    ToolCalled,
    ToolReturned,
)
from projections.projection import DocumentProjection, IndexEntry
from projections.reading.live import Consistency, LiveDocuments
from projections.reading.paging import Page, check_limit
from projections.storing.store import ModelStore

MAX_PAGES_READ = 10
"""Pages that one list call looks through for what its words fit."""

IDLE = "idle"
"""Index of active sessions by time since they were touched, longest first."""

STATUSES: tuple[SessionStatus, ...] = get_args(SessionStatus)


class Session(msgspec.Struct, omit_defaults=True):
    """A session as the log tells it. Times are µs UTC by the producers' clocks."""

    id: str
    conversation: str = ""
    status: SessionStatus | None = None
    """None until there is a `session.*` event, hence a session."""
    mode: SessionMode = "chat"
    platform: str | None = None
    project: str | None = None
    user: str | None = None
    agent: str | None = None
    branch_name: str | None = None
    text: str | None = None
    owner: str | None = None
    """Which program serves it."""
    metadata: dict[str, Any] = {}
    home: str | None = None
    """The conversation that the session lives in, where `conversation` is another one: the place of
    its id, or a chat that is mapped to it."""
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
    version = 2
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
        """Return the session after the entry; one that begins otherwise than by a start is active."""
        event = entry.event
        is_first = not state.conversation
        if is_first or (state.version == 0 and event.VERSIONED == "session"):
            state.conversation = event.conversation
        if is_first:
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
            state.owner = event.owner or state.owner
        elif isinstance(event, SessionPlaced):
            state.home = event.home
        elif isinstance(event, SessionTouched) and state.status is None:
            state.status = "active"
        if event.VERSIONED == "session":
            state.version += 1
        return state

    def index(self, key: str, state: Session) -> Iterator[IndexEntry]:  # noqa: ARG002 - the state has it
        """Return the lists the session is in, all by latest activity in ms."""
        if state.status is None:
            return
        activity_ms = state.last_activity_at // 1000
        yield "all", activity_ms
        yield f"status:{state.status}", activity_ms
        yield f"conversation:{state.conversation}", activity_ms
        if state.project is not None:
            yield f"project:{state.project}", activity_ms
        if state.user is not None:
            yield f"user:{state.user}", activity_ms
        if state.owner is not None:
            yield f"owner:{state.owner}", activity_ms
        if state.status == "active":
            yield IDLE, -activity_ms
            if state.owner is not None:
                yield f"serving:{state.owner}", activity_ms

    def idle_since(self, state: Session) -> int | None:
        """Return when there was last activity in a session that has ended, or sleeps."""
        is_live = state.status in ("pending", "active")
        return None if is_live else max(state.last_activity_at, state.ended_at or 0)


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
    state.owner = state.owner or event.owner
    state.metadata = state.metadata or event.metadata
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

        It costs one read where its id tells where it lives, two where it was placed elsewhere, and
        one more of every partition where nothing is known of it there. Naming its conversation makes
        it one read of the record there, by whose version `append(expected_version=…)` to that
        conversation is checked.
        """
        if conversation is not None:
            return await self._record(self._log.partition_of(conversation), session, consistency)
        own_place = self._log.partition_of(session)
        own = await self._documents.get(own_place, session, consistency)
        if own is not None and own.home is not None:
            return await self._record(self._log.partition_of(own.home), session, consistency)
        if own is not None and own.status is not None:
            return own
        places = [p for p in range(self._log.partition_count) if p != own_place]
        found = await asyncio.gather(*(self._record(p, session, consistency) for p in places))
        records = {p: record for p, record in zip(places, found, strict=True) if record}
        return self._standing(records) if records else None

    async def home(self, session: str) -> str | None:
        """Return the conversation that the session of an id was placed in, None where it was not."""
        place = self._log.partition_of(session)
        record = await self._documents.get(place, session)
        return None if record is None else record.home

    async def list(
        self,
        *,
        status: SessionStatus | None = None,
        project: str | None = None,
        conversation: str | None = None,
        user: str | None = None,
        owner: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
        consistency: Consistency = "live",
    ) -> Page[Session]:
        """Return the sessions that all given words fit, by latest activity, newest first.

        One list is read, that of the first word given of conversation, user, owner, status and
        project; the others filter it. So a page may be shorter
        than asked for, and its cursor goes on nevertheless: with the same words. Each session is
        there once. Raises InvalidQuery, InvalidCursor.
        """
        check_limit(limit)
        wanted = {
            name: value
            for name, value in (
                ("conversation", conversation),
                ("user", user),
                ("owner", owner),
                ("status", status),
                ("project", project),
            )
            if value is not None
        }
        index = next((f"{name}:{value}" for name, value in wanted.items()), "all")
        if index.startswith("owner:") and status == "active":
            index = f"serving:{owner}"
        found: list[Session] = []
        for _ in range(MAX_PAGES_READ):
            page = await self._documents.page(index, limit - len(found), cursor, consistency)
            fitting = [
                session
                for session in page.items
                if all(getattr(session, name) == value for name, value in wanted.items())
            ]
            found += await self._only_standing(fitting, consistency)
            cursor = page.cursor
            if cursor is None or len(found) == limit:
                break
        return Page(found, cursor)

    async def idle(self, before_us: int, *, limit: int = 500) -> Sequence[Session]:
        """Return active sessions last active before a time in µs, the longest idle first.

        Every record on its own, since each falls asleep in its own partition.
        """
        page = await self._documents.page(IDLE, limit, lowest_score=-before_us / 1000)
        return page.items

    async def counts(self, *, consistency: Consistency = "live") -> dict[SessionStatus, int]:
        """Return how many records each status has, which costs the same for any number of them.

        A session whose id was started in conversations of several partitions, which the bridge does
        not do, counts in each of them.
        """
        found = await self._documents.counts("status", consistency)
        return {status: found.get(status, 0) for status in STATUSES}

    async def _record(
        self, partition: int, session: str, consistency: Consistency
    ) -> Session | None:
        """Return what a partition has of the session, None where it never began there."""
        record = await self._documents.get(partition, session, consistency)
        return record if record and record.status is not None else None

    async def _only_standing(
        self, found: Sequence[Session], consistency: Consistency
    ) -> Sequence[Session]:
        """Return those that stand for their session, in order.

        One that is where its id says stands for it; for the others each partition is asked once.
        """
        records: dict[str, dict[int, Session]] = {}
        for session in found:
            place = self._log.partition_of(session.conversation)
            records.setdefault(session.id, {})[place] = session
        doubtful = [
            each for each, here in records.items() if self._log.partition_of(each) not in here
        ]
        wanted = {
            partition: [session for session in doubtful if partition not in records[session]]
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
        return [each for each in found if each is self._standing(records[each.id])]

    def _standing(self, records: Mapping[int, Session]) -> Session:
        """Return the record of the place that the id tells, else the one last active.

        Of equals that of the lowest partition.
        """
        some = next(iter(records.values()))
        place = self._log.partition_of(some.id)
        own = records.get(place)
        if own is not None and own.home is not None:
            place = self._log.partition_of(own.home)
        told = records.get(place)
        if told is not None and told.status is not None:
            return told
        begun = {p: record for p, record in records.items() if record.status is not None}
        return begun[max(begun, key=lambda p: (begun[p].last_activity_at, -p))]
