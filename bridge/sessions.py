"""Sessions as a bot or agent calls them: resolve, start, look up, change, end.

A decider at the log's edge (the idea is Emmett's): read the session, decide whether the change is
allowed, append it with the version that was read. Where somebody else was first, read and decide
again. So two programs never contradict each other, and what has ended stays ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from bridge.allowing import AllowLists
from bridge.deciding import until_decided
from bridge.given import Id, check_status, optional_id_text, session_id_of
from bridge.place import place_of
from bridge.resolving import Resolver
from bridge.session_start import SessionStart, folded
from bridge.session_tail import SessionTail
from bridge.starting import Starter
from eventlog.batch import Fence
from eventlog.cursor import Cursor
from eventlog.errors import SessionMissing, VersionConflict
from eventlog.ids import START
from eventlog.log import EventLog
from eventlog.named_lock import NamedLock
from eventlog.session import TERMINAL, SessionMode, SessionStatus, check_transition
from eventlog.vocabulary import SessionTouched, SessionTransitioned, session_entity
from projections.reading.paging import Page
from projections.views.sessions import Session, Sessions

DORMANT_PAGE_SESSIONS = 200


class SessionCalls:
    """The calls of `bridge.sessions`. Each may raise LogUnavailable and may then be repeated.

    A `Session` is what the log said when it was returned; it does not change by itself. Where the id
    of a session is asked for, the session itself will do.
    """

    def __init__(
        self, log: EventLog, owner: str | None = None, allowed: AllowLists | None = None
    ) -> None:
        self.owner = owner
        """Who serves the sessions that are started or resumed here, where the call does not say."""
        self._log = log
        self._allowed = allowed or AllowLists()
        self._view = Sessions(log)
        self._starter = Starter(log, self._view)
        self.resolver = Resolver(log, self._view, self._starter)

    async def resolve(
        self,
        platform: str,
        user_id: str | int,
        chat_id: str | int | None = None,
        *,
        shared: bool = False,
        session_id: str | None = None,
        mode: SessionMode = "chat",
        project: str | None = None,
        agent: str | None = None,
        text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Session:
        """Return the user's session in that chat, started on the first message ever.

        Of any number of programs that ask at once, all get the same one. It is the same after
        restarts, until it has ended: then a new one begins. Without `chat_id` it is the one the user
        has wherever they write; in a chat of many, each user has one, or with `shared` all have one
        together. What follows `session_id` is said of a session that starts here.

        While the server is away it is the one resolved last, or one made up for the time being.
        Raises InvalidEvent, SessionExists where a session of that id is somewhere else, and where
        the bridge has allow-lists UserNotAllowed and UnknownPlatform.
        """
        await self._allowed.check(platform, user_id)
        start = SessionStart(
            mode=mode,
            platform=platform,
            project=project,
            user=str(user_id),
            agent=agent,
            text=text,
            owner=self.owner,
            metadata=metadata or {},
        )
        place = place_of(platform, user_id, chat_id, is_shared=shared)
        return await self.resolver.resolve(place, start, session_id)

    async def start(
        self,
        conversation: str | None = None,
        *,
        session_id: str | None = None,
        status: SessionStatus = "active",
        mode: SessionMode = "chat",
        platform: str | None = None,
        project: str | None = None,
        user: Id | None = None,
        agent: str | None = None,
        branch_name: str | None = None,
        text: str | None = None,
        owner: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Session:
        """Return a new session, of a conversation or its own, under your id or a new UUID.

        The conversation goes on in whatever session it is mapped to: see `bridge.conversations.set`.
        Raises SessionExists for an id that was used before, InvalidEvent.
        """
        start = SessionStart(
            status=status,
            mode=mode,
            platform=platform,
            project=project,
            user=optional_id_text("user", user),
            agent=agent,
            branch_name=branch_name,
            text=text,
            owner=owner or self.owner,
            metadata=metadata or {},
        )
        return await self._starter.start(start, conversation=conversation, session_id=session_id)

    async def get(self, session: str | Session) -> Session | None:
        """Return the session as of now, or None."""
        return await self._view.get(session_id_of(session))

    async def list(
        self,
        *,
        status: SessionStatus | None = None,
        project: str | None = None,
        conversation: str | None = None,
        user: Id | None = None,
        owner: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Session]:
        """Return the sessions that all given words fit, by latest activity, newest first.

        Pass a page's `cursor` on, with the same words, until it is None. Raises InvalidQuery,
        InvalidCursor.
        """
        if status is not None:
            check_status(status)
        return await self._view.list(
            status=status,
            project=project,
            conversation=conversation,
            user=optional_id_text("user", user),
            owner=owner,
            limit=limit,
            cursor=cursor,
        )

    async def counts(self) -> dict[SessionStatus, int]:
        """Return how many sessions each status has."""
        return await self._view.counts()

    async def touch(self, session: str | Session, reason: str | None = None) -> Session:
        """Return the session with its time of activity moved up to now; its status stays.

        Raises SessionMissing, and IllegalTransition where it has ended.
        """
        current = await self._existing(session)
        if current.status in TERMINAL:
            check_transition(current.id, current.status, "active")
        event = SessionTouched(
            conversation=current.conversation,
            session=current.id,
            reason=reason,
            occurred_at=self._log.clock.now_us(),
        )
        return folded(current, event, await self._log.append(event))

    async def transition(
        self,
        session: str | Session,
        to: SessionStatus,
        *,
        expected: int | None = None,
        reason: str | None = None,
        owner: str | None = None,
        fence: Fence | None = None,
    ) -> Session:
        """Return the session in the status `to`, served by `owner`; one that is so already stays.

        With `expected`, a `version` that was read before, it changes only if nobody else changed it
        meanwhile; with the `fence` of its lock only if nobody else took that. Raises SessionMissing,
        IllegalTransition, VersionConflict, Fenced.
        """
        check_status(to)

        async def decide() -> Session:
            current = await self._existing(session)
            if expected is not None and current.version != expected:
                raise VersionConflict(session_entity(current.id), expected, current.version)
            assert current.status is not None
            if current.status != to:
                check_transition(current.id, current.status, to)
            elif to in TERMINAL or owner in (None, current.owner):
                return current
            event = SessionTransitioned(
                conversation=current.conversation,
                session=current.id,
                from_status=current.status,
                to_status=to,
                reason=reason,
                owner=owner,
                occurred_at=self._log.clock.now_us(),
            )
            result = await self._log.append(event, expected_version=current.version, fence=fence)
            return folded(current, event, result)

        changed = await (decide() if expected is not None else until_decided(decide))
        self.resolver.changed(changed)
        return changed

    async def complete(
        self, session: str | Session, *, expected: int | None = None, reason: str | None = None
    ) -> Session:
        """Return the session, completed for good; raises as `transition`."""
        return await self.transition(session, "completed", expected=expected, reason=reason)

    async def fail(
        self, session: str | Session, reason: str | None = None, *, expected: int | None = None
    ) -> Session:
        """Return the session, failed for good; raises as `transition`."""
        return await self.transition(session, "failed", expected=expected, reason=reason)

    async def resume(self, session: str | Session, *, owner: str | None = None) -> Session:
        """Return the session, active, served by `owner` or this bridge; raises as `transition`.

        One that is active in other hands changes hands: so whoever takes over after a crash keeps
        it when the other shuts down.
        """
        return await self.transition(session, "active", owner=owner or self.owner)

    async def dormant_all(self, owner: str | None = None, *, reason: str = "shutdown") -> int:
        """Put the active sessions of an owner to sleep and return how many; for a clean shutdown.

        Without an owner those of this bridge's; where it has none either, those that have none.
        """
        owner = owner or self.owner
        count, cursor = 0, None
        while True:
            page = await self._view.list(
                status="active", owner=owner, limit=DORMANT_PAGE_SESSIONS, cursor=cursor
            )
            slept = await asyncio.gather(
                *(self._put_to_sleep(each, owner, reason) for each in page.items)
            )
            count += sum(slept)
            # From the top again: whoever was touched meanwhile has moved there.
            cursor = None if any(slept) else page.cursor
            if cursor is None and not any(slept):
                return count

    async def _put_to_sleep(self, session: Session, owner: str | None, reason: str) -> bool:
        """Return whether it fell asleep; one that changed hands or ended meanwhile is left alone."""
        while session.status == "active" and session.owner == owner:
            try:
                await self.transition(
                    session.id, "dormant", expected=session.version, reason=reason
                )
            except VersionConflict:
                session = await self._existing(session.id)
            else:
                return True
        return False

    async def tail(self, session: str | Session, after: Cursor | str | None = None) -> SessionTail:
        """Return an async iterator over what happens in the session, until it ends.

        From now on, or after a cursor of an earlier tail. Raises SessionMissing, InvalidCursor.

        >>> async for entry in await bridge.sessions.tail(session.id):
        ...     print(entry.event.type)
        """
        current = await self._existing(session)
        partition = self._log.partition_of(current.conversation)
        # In this order: an end that comes between is seen by the tail.
        tail = await self._log.tail(after, partition=partition)
        current = await self._existing(session)
        until = None
        if current.status in TERMINAL:
            until = START if after is None else (await self._log.heads())[partition]
        return SessionTail(tail, current.id, partition, until)

    @asynccontextmanager
    async def lock(self, session: str | Session) -> AsyncIterator[NamedLock]:
        """Hold the session's lock: one program at a time works on it, whoever asks for the lock.

        It is renewed meanwhile and lapses `lease_ttl_ms` after its holder died. A holder that slept
        longer is fenced: what it says with `fence=lock.fence` raises Fenced and is not recorded.
        Raises SessionMissing.

        >>> async with bridge.sessions.lock(session.id) as lock:
        ...     await bridge.sent(session, await agent(text), fence=lock.fence)
        """
        current = await self._existing(session)
        lock = NamedLock(self._log, current.conversation, f"session:{current.id}")
        async with lock.hold():
            yield lock

    async def _existing(self, session: str | Session) -> Session:
        session_id = session_id_of(session)
        found = await self._view.get(session_id)
        if found is None:
            raise SessionMissing(session_id)
        return found
