"""The bridge: all that a bot or an agent calls, on one object."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, NamedTuple, Self

from analytics.opening import storage_of
from analytics.past import ArchivedPast
from bridge.allowing import Allowed, AllowLists
from bridge.conversations import ConversationCalls
from bridge.erasing import Report as ErasureReport
from bridge.erasing import erase
from bridge.event_buffer import EventBuffer
from bridge.given import Id, optional_id_text
from bridge.jobs import queue_job
from bridge.messages import MessageCalls
from bridge.projecting import Projecting
from bridge.sessions import SessionCalls
from bridge.tickets import Tickets
from consumers.dead_letters import persist_failed_delivery
from consumers.delivery import DELIVERY_GROUP
from consumers.replaying import ReplayReport, Send, replay_dead_letters
from eventlog.errors import UserNotAllowed
from eventlog.event import Event
from eventlog.log import EventLog
from eventlog.session import SessionMode
from eventlog.writer import AppendResult
from projections.builtin import DEFAULT_PROJECTIONS
from projections.projection import Projection
from projections.registry import event_types_of
from projections.views.dead_letters import DeadLetters
from projections.views.sessions import Session


class Received(NamedTuple):
    """A message that came in: whose session it is in, and where it stands."""

    session: Session
    result: AppendResult


class Bridge(MessageCalls):
    """A log, as a bot uses it. Every call may raise LogUnavailable; what raised it may be repeated.

    >>> async with Bridge.open() as bridge:
    ...     session = await bridge.sessions.resolve("telegram", 7)
    ...     await bridge.received(session, "hello", message_id=991)
    ...     await bridge.send(session, "hello yourself")
    """

    def __init__(
        self,
        log: EventLog,
        *,
        owner: str | None = None,
        projections: Sequence[Projection] | None = DEFAULT_PROJECTIONS,
        platforms: Mapping[str, Allowed] | None = None,
    ) -> None:
        past = ArchivedPast(storage_of(log.settings, clock=log.clock))
        self.log = log
        """The log beneath: whatever has no call of its own here."""
        allowed = AllowLists(platforms)
        self.allow = allowed.allow
        """Says who may use the bot on a platform: `AllowLists.allow`."""
        self._events = EventBuffer(log)
        self.log_event = self._events.put
        """Records a bridge event soon; never waits, never raises: `EventBuffer.put`."""
        self.sessions = SessionCalls(log, owner, allowed)
        self.conversations = ConversationCalls(log, owner)
        self.tickets = Tickets(log, self.sessions, past)
        self.dead_letters = DeadLetters(log)
        """What was given up on: list, get, count."""
        super().__init__(log, self.sessions, past)
        self._projections = projections or DEFAULT_PROJECTIONS
        self._projecting = Projecting(log, projections, past) if projections else None
        self._is_open = False
        log.on_move.append(self._begin_tasks)

    @classmethod
    def open(
        cls,
        url: str | None = None,
        *,
        owner: str | None = None,
        projections: Sequence[Projection] | None = DEFAULT_PROJECTIONS,
        platforms: Mapping[str, Allowed] | None = None,
        types: Iterable[type[Event]] = (),
        **arguments: Any,
    ) -> Self:
        """Return the bridge, to be entered with `async with` or awaited.

        `owner` names this program, for `sessions.dormant_all`. The bridge keeps the read models up
        to date as long as it is open, together with all other programs that do; `projections` must
        be the same in all of them, None leaves it to the others. `platforms` names the platforms and
        who may use the bot there, as `allow` does. All else as for `EventLog.open`.
        """
        known = (*event_types_of(projections or ()), *types)
        log = EventLog.open(url, types=known, **arguments)
        return cls(log, owner=owner, projections=projections, platforms=platforms)

    async def __aenter__(self) -> Self:
        await self.log.__aenter__()
        self._is_open = True
        self._begin_tasks()
        await self.sessions.resolver.prepare()
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Answer what is queued, flush bridge events, let go of the server; idempotent.

        Cancelled, it skips the step it is at and still takes those after it.
        """
        self._is_open = False
        async with AsyncExitStack() as last_to_first:
            last_to_first.push_async_callback(self.log.close)
            if self._projecting is not None:
                last_to_first.push_async_callback(self._projecting.stop)
            last_to_first.push_async_callback(self._events.close)

    def _begin_tasks(self) -> None:
        """Begin what runs beside the calls, in this event loop; a log that moved calls it again."""
        if not self._is_open:
            return
        if self._projecting is not None:
            self._projecting.start()
        self._events.start()

    @property
    def dropped_event_count(self) -> int:
        """Bridge events that could not be recorded, each told of by `bridge_events_dropped`."""
        return self._events.dropped_count

    async def ping(self) -> bool:
        """Return whether the server answers; False, never an error, where it does not."""
        return await self.log.ping()

    async def receive(
        self,
        /,
        platform: str,
        user_id: str | int,
        text: str,
        *,
        chat_id: str | int | None = None,
        message_id: str | int | None = None,
        shared: bool = False,
        **message: Any,
    ) -> Received | None:
        """Return the user's session and where their message stands: `resolve`, then `received`.

        None, and nothing is recorded, for a user who may not use the bot. `message` are further
        arguments of `received`. Where `result.duplicate` is true, the platform delivered the
        message before.
        """
        try:
            session = await self.sessions.resolve(platform, user_id, chat_id, shared=shared)
        except UserNotAllowed:  # logged where it was found
            return None
        message.setdefault("sender", user_id)
        result = await self.received(session, text, message_id=message_id, **message)
        return Received(session, result)

    async def queue_job(
        self,
        agent: str,
        text: str,
        *,
        session: Session | str | None = None,
        conversation: str | None = None,
        mode: SessionMode = "job",
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> AppendResult:
        """Queue a job for `agent` and return where it stands in the log.

        A worker that handles `job.queued` does it, after the earlier jobs of its conversation; after
        so many attempts as its Retry says it is parked as a dead letter, and the next job goes on.
        Without a `conversation` it is that of the `session`; a job without either waits for no other.
        With an `idempotency_key` of yours a repeated call queues nothing. Raises InvalidEvent and its
        kin.
        """
        return await queue_job(
            self.log,
            agent,
            text,
            session=session,
            conversation=conversation,
            mode=mode,
            metadata=metadata,
            idempotency_key=idempotency_key,
        )

    async def persist_failed_delivery(
        self,
        conversation: str,
        text: str,
        *,
        letter: str | None = None,
        reply_to: str | int | None = None,
        recipient: str | None = None,
        session: str | None = None,
        attempts: int = 0,
        reason: str = "failed",
        error: str | None = None,
    ) -> str:
        """Record a message that a bot could not deliver by itself; return the letter's name.

        It is replayed like any other dead letter. With a name of yours a repeated call records
        nothing. Raises InvalidEvent and its kin.
        """
        return await persist_failed_delivery(
            self.log,
            conversation=conversation,
            text=text,
            letter=letter,
            reply_to=reply_to,
            recipient=recipient,
            session=session,
            attempts=attempts,
            reason=reason,
            error=error,
        )

    async def replay_dead_letters(
        self, send: Send, *, group: str = DELIVERY_GROUP, limit: int | None = None
    ) -> ReplayReport:
        """Try a group's parked letters again with `send`, the oldest of a conversation first.

        Success resolves a letter, a failure counts one attempt more. Of several processes that
        replay at once, one sends a letter.
        """
        return await replay_dead_letters(
            self.log, send, self.dead_letters.unsettled, group=group, limit=limit
        )

    async def erase(
        self,
        *,
        chat: str | None = None,
        user: Id | None = None,
        platform: str | None = None,
        reason: str | None = None,
        operator: str | None = None,
        dry_run: bool = False,
    ) -> ErasureReport:
        """Return what was erased of a chat, or of a person on one platform or all, up to this call.

        The content goes from log, archive and read models, and an audit event stays: see
        `bridge.erasing.erase`, which says what it raises, whose events these are and what of them
        remains. Called again it goes on where it was interrupted.
        """
        return await erase(
            self.log,
            chat=chat,
            user=optional_id_text("user", user),
            platform=platform,
            reason=reason,
            operator=operator,
            dry_run=dry_run,
            projections=self._projections,
        )
