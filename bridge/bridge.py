"""The bridge: all that a bot or an agent calls, on one object."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from analytics.past import ArchivedPast
from analytics.storage import DirectoryStorage
from bridge.conversations import ConversationCalls
from bridge.messages import MessageCalls
from bridge.projecting import Projecting
from bridge.sessions import SessionCalls
from bridge.tickets import Tickets
from consumers.dead_letters import persist_failed_delivery
from consumers.delivery import DELIVERY_GROUP
from consumers.replaying import ReplayReport, Send, replay_dead_letters
from eventlog.log import EventLog
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
    ) -> None:
        past = ArchivedPast(DirectoryStorage(log.settings.archive_path, clock=log.clock))
        self.log = log
        """The log beneath: whatever has no call of its own here."""
        self.sessions = SessionCalls(log, owner)
        self.conversations = ConversationCalls(log)
        self.tickets = Tickets(log, self.sessions)
        self.dead_letters = DeadLetters(log)
        """What was given up on: list, get, count."""
        super().__init__(log, self.sessions, past)
        self._projecting = Projecting(log, projections, past) if projections else None

    @classmethod
    def open(
        cls,
        url: str | None = None,
        *,
        owner: str | None = None,
        projections: Sequence[Projection] | None = DEFAULT_PROJECTIONS,
        **arguments: Any,
    ) -> Self:
        """Return the bridge, to be entered with `async with` or awaited.

        `owner` names this program, for `sessions.dormant_all`. The bridge keeps the read models up
        to date as long as it is open, together with all other programs that do; `projections` must
        be the same in all of them, None leaves it to the others. All else as for `EventLog.open`.
        """
        log = EventLog.open(url, types=event_types_of(projections or ()), **arguments)
        return cls(log, owner=owner, projections=projections)

    async def __aenter__(self) -> Self:
        await self.log.__aenter__()
        if self._projecting is not None:
            self._projecting.start()
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
        """Answer what is queued and let go of the server; idempotent."""
        if self._projecting is not None:
            await self._projecting.stop()
        await self.log.close()

    async def ping(self) -> bool:
        """Return whether the server answers; False, never an error, where it does not."""
        return await self.log.ping()

    async def receive(
        self,
        platform: str,
        user_id: str | int,
        text: str,
        *,
        chat_id: str | int | None = None,
        message_id: str | int | None = None,
        shared: bool = False,
        **message: Any,
    ) -> Received:
        """Return the user's session and where their message stands: `resolve`, then `received`.

        `message` are further arguments of `received`. Where `result.duplicate` is true, the platform
        delivered the message before.
        """
        session = await self.sessions.resolve(platform, user_id, chat_id, shared=shared)
        message.setdefault("sender", user_id)
        result = await self.received(session, text, message_id=message_id, **message)
        return Received(session, result)

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
