"""Which session does this message belong to? One answer, however many ask at once.

One round trip, whether the chat's session goes on, has ended or never was: a start travels along
with the question, and counts only where the log knows that nobody holds the place.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import Generic, TypeVar

import msgspec

from bridge.deciding import until_decided
from bridge.place import Place
from bridge.session_start import SessionStart, folded
from bridge.starting import Starter
from eventlog.clock import Clock
from eventlog.errors import LogUnavailable, SessionExists, VersionConflict
from eventlog.event import Event
from eventlog.ids import START
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.repeated import Repeated
from eventlog.session import TERMINAL
from eventlog.vocabulary import BridgeEvent, ConversationMapped, session_entity
from eventlog.writer import AppendResult
from projections.reading.linked import Link, LinkedDocuments
from projections.views.conversations import CONVERSATIONS, Conversation
from projections.views.sessions import SESSIONS, Session, Sessions

REMEMBERED_PLACES = 10_000

SHORTEST_ABSENCE_S, LONGEST_ABSENCE_S = 1.0, 30.0

_log = get_logger("bridge")

K = TypeVar("K")
V = TypeVar("V")


class Resolver:
    """Finds or starts the session of a place."""

    def __init__(self, log: EventLog, sessions: Sessions, starter: Starter) -> None:
        self._log = log
        self._sessions = sessions
        self._starter = starter
        self._links = LinkedDocuments(log, CONVERSATIONS, "session", SESSIONS)
        self._remembered: _Recent[Place, Session] = _Recent(REMEMBERED_PLACES)
        self._places: _Recent[str, Place] = _Recent(REMEMBERED_PLACES)
        """By session: where it was resolved last."""
        self._improvised: _Recent[Place, str] = _Recent(REMEMBERED_PLACES)
        self._failures = Repeated(log.clock)
        self._absence = _Absence(log.clock)

    async def prepare(self) -> None:
        """Find out where the read models are, so that no message waits for it."""
        if self._log.was_reached:
            with suppress(LogUnavailable):  # gone again: the first message says so
                await self._links.prepare()

    async def resolve(
        self, place: Place, start: SessionStart, session_id: str | None = None
    ) -> Session:
        """Return the place's session, started if there is none or the last one has ended.

        While the server is away it is the one that was resolved last, or a new one that the place
        is mapped to afterwards, unless it has one in the log. Raises SessionExists where a
        caller's id is that of a session elsewhere.
        """
        if self._absence.is_on:
            return await self._improvise(place, start, session_id)
        self._absence.asked()
        try:
            session = await self._asked_twice(place, start, session_id)
        except LogUnavailable as error:
            self._absence.began()
            if (count := self._failures.told("resolve")) is not None:
                _log.warning("redis_error", function="resolve", error=str(error), count=count)
            return await self._improvise(place, start, session_id)
        self._absence.ended()
        self._remembered[place] = session
        self._places[session.id] = place
        self._improvised.pop(place)
        return session

    def changed(self, session: Session) -> None:
        """Take note of a session's new status, for as long as the server cannot be asked."""
        place = self._places.get(session.id)
        known = None if place is None else self._remembered.get(place)
        if place is None or known is None or known.id != session.id:
            return
        if session.status in TERMINAL:
            self._remembered.pop(place)
        else:
            self._remembered[place] = msgspec.structs.replace(known, status=session.status)

    async def _asked_twice(
        self, place: Place, start: SessionStart, session_id: str | None
    ) -> Session:
        """Return the session, after one lost reply too: whatever was begun is found and gone on with."""
        try:
            return await self._resolve(place, start, session_id)
        except LogUnavailable:
            if self._log.is_degraded:
                raise
            return await self._resolve(place, start, session_id)

    async def _resolve(self, place: Place, start: SessionStart, session_id: str | None) -> Session:
        # What still waits in a spool was said before, and may be of this place.
        if session_id is None and place not in self._improvised and not self._log.is_degraded:
            found = await self._take_or_read(place, start)
            if isinstance(found, Session):
                return found
            link = found
        else:
            link = await self._read(place)
        try:
            return await self._decide(place, link, start, session_id)
        except VersionConflict:

            async def decide() -> Session:
                return await self._decide(place, await self._read(place), start, session_id)

            return await until_decided(decide)

    async def _read(self, place: Place) -> Link[Conversation, Session]:
        """Return the place's mapping and its session."""
        partition = self._log.partition_of(place.conversation)
        return await self._links.get(partition, place.key, place.entity)

    async def _take_or_read(
        self, place: Place, start: SessionStart
    ) -> Session | Link[Conversation, Session]:
        """Return the place's new session, or where another one may hold the place, what it is."""
        session = self._starter.new_id(place.conversation)
        started = self._started(place, start, session)
        events = [started, self._mapped(place, session)]
        partition = self._log.partition_of(place.conversation)
        found = await self._links.take_or_get(partition, place.key, place.entity, events)
        if isinstance(found, Link):
            return found
        if self._log.settings.durability != "memory":
            await self._log.append(events)  # they are there: this waits until they are durable
        return folded(Session(session), started, found[0])

    async def _decide(
        self,
        place: Place,
        link: Link[Conversation, Session],
        start: SessionStart,
        session_id: str | None,
    ) -> Session:
        """Return the session, given what the log said. Raises VersionConflict where it says more now."""
        mapping = link.document or Conversation(place.conversation)
        if mapping.session is None:
            return await self._fresh(place, start, session_id, mapping.version)
        session = link.linked
        if session is None or session.status is None:
            session = await self._sessions.get(mapping.session)
        if session is None:
            return await self._again(place, start, mapping)
        if session.status in TERMINAL:
            return await self._fresh(place, start, session_id, mapping.version)
        if session.conversation != place.conversation:
            # What is said here belongs to this chat, wherever the session lives.
            session = msgspec.structs.replace(
                session, conversation=place.conversation, home=session.conversation
            )
        return session

    async def _fresh(
        self, place: Place, start: SessionStart, session_id: str | None, mapped_version: int
    ) -> Session:
        """Return a session that the place is mapped to from now on."""
        improvised = self._improvised.get(place)
        if improvised is not None:
            session = await self._sessions.get(improvised, conversation=place.conversation)
            if session is not None and session.status not in TERMINAL:
                await self._log.append(
                    self._mapped(place, improvised),
                    expected_version={place.entity: mapped_version},
                )
                return session
        if session_id is None:
            session_id = improvised or self._starter.new_id(place.conversation)
            return await self._start_mapped(place, start, session_id, mapped_version)
        try:
            await self._starter.claim(session_id, place.conversation)
            return await self._start_mapped(place, start, session_id, mapped_version)
        except SessionExists:
            found = await self._sessions.get(session_id)
            if found is None or found.conversation != place.conversation:
                raise
            is_others = place.user is not None and found.user != place.user
            if is_others or found.status in TERMINAL:
                raise
            session = found
        await self._log.append(
            self._mapped(place, session_id), expected_version={place.entity: mapped_version}
        )
        return session

    async def _again(self, place: Place, start: SessionStart, mapping: Conversation) -> Session:
        """Return the session that the place is mapped to but that was never started, started."""
        assert mapping.session is not None
        warning = BridgeEvent(
            conversation=place.conversation,
            session=mapping.session,
            event_type="session_recreated",
            occurred_at=self._log.clock.now_us(),
            data={"reason": "the conversation knew it, the log had no such session"},
        )
        _log.warning("session_recreated", session=mapping.session, conversation=place.conversation)
        try:
            await self._starter.claim(mapping.session, place.conversation)
            return await self._starter.append(
                self._started(place, start, mapping.session), [warning]
            )
        except SessionExists as exists:  # somebody else did
            raise VersionConflict(session_entity(exists.session), 0, 1) from None

    async def _start_mapped(
        self, place: Place, start: SessionStart, session: str, mapped_version: int
    ) -> Session:
        return await self._starter.append(
            self._started(place, start, session),
            [self._mapped(place, session)],
            {place.entity: mapped_version},
        )

    def _started(self, place: Place, start: SessionStart, session: str) -> Event:
        return start.event(place.conversation, session, self._log.clock.now_us())

    def _mapped(self, place: Place, session: str) -> ConversationMapped:
        return ConversationMapped(
            conversation=place.conversation,
            user=place.user,
            session=session,
            occurred_at=self._log.clock.now_us(),
        )

    # --- while the server is away ----------------------------------------------------------------

    async def _improvise(
        self, place: Place, start: SessionStart, session_id: str | None
    ) -> Session:
        """Return a session without asking the log; its start goes to the spool, where there is one."""
        if (remembered := self._remembered.get(place)) is not None:
            return remembered
        improvised = self._improvised.get(place)
        session = improvised or session_id or self._starter.new_id(place.conversation)
        event = self._started(place, start, session)
        if improvised is None:
            _log.warning("redis_degraded_mode", session=session, conversation=place.conversation)
            self._improvised[place] = session
            with suppress(LogUnavailable):  # said above: no server, and no spool
                await self._log.append(event)
        return folded(Session(session), event, AppendResult(0, START, None, False))


class _Absence:
    """How long not to ask a server that did not answer: the longer, the longer it took to learn it.

    One that refuses is asked again in a second; one that hangs must not hold every message up.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asked_at_s = 0.0
        self._until_s = float("-inf")

    @property
    def is_on(self) -> bool:
        return self._clock.monotonic_s() < self._until_s

    def asked(self) -> None:
        self._asked_at_s = self._clock.monotonic_s()

    def began(self) -> None:
        now_s = self._clock.monotonic_s()
        took_s = now_s - self._asked_at_s
        self._until_s = now_s + min(max(SHORTEST_ABSENCE_S, 5 * took_s), LONGEST_ABSENCE_S)

    def ended(self) -> None:
        self._until_s = float("-inf")


class _Recent(Generic[K, V]):
    """What was last said of something, the oldest forgotten first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[K, V] = OrderedDict()

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def __setitem__(self, key: K, value: V) -> None:
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._limit:
            self._values.popitem(last=False)

    def get(self, key: K) -> V | None:
        return self._values.get(key)

    def pop(self, key: K) -> V | None:
        return self._values.pop(key, None)
