"""The bridge: what a bot calls to have its messages delivered, and to see to those that were not."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from consumers.dead_letters import persist_failed_delivery
from consumers.delivery import DELIVERY_GROUP
from consumers.replaying import ReplayReport, Send, replay_dead_letters
from eventlog.log import EventLog
from eventlog.vocabulary import Attachment, MessageQueued, MessageType
from eventlog.writer import AppendResult
from projections.views.dead_letters import DeadLetters


class Bridge:
    """A log, as a bot uses it. Every call may raise LogUnavailable; what raised it may be repeated.

    >>> async with Bridge.open() as bridge:
    ...     await bridge.send("telegram:42", "hello")

    `await Bridge.open()` works as well; call `close` then.
    """

    def __init__(self, log: EventLog) -> None:
        self.log = log
        """The log beneath: whatever has no call of its own here."""
        self.dead_letters = DeadLetters(log)
        """What was given up on: list, get, count."""

    @classmethod
    def open(cls, url: str | None = None, **arguments: Any) -> Self:
        """Return the bridge, to be entered with `async with` or awaited; arguments as for EventLog."""
        return cls(EventLog.open(url, **arguments))

    async def __aenter__(self) -> Self:
        await self.log.__aenter__()
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
        await self.log.close()

    async def send(
        self,
        conversation: str,
        text: str,
        *,
        idempotency_key: str | None = None,
        session: str | None = None,
        recipient: str | None = None,
        reply_to: str | int | None = None,
        platform: str | None = None,
        message_type: MessageType = "text",
        attachments: Sequence[Attachment] = (),
        metadata: Mapping[str, Any] | None = None,
        sender: str | None = None,
    ) -> AppendResult:
        """Queue a message for delivery and return where it stands in the log.

        A worker of the delivery group sends it, after what was queued before in the conversation.
        With an `idempotency_key` of yours a repeated call queues nothing, and the platform is handed it.
        Raises InvalidEvent and its kin.
        """
        named: dict[str, Any] = {} if idempotency_key is None else {"id": idempotency_key}
        return await self.log.append(
            MessageQueued(
                **named,
                conversation=conversation,
                text=text,
                session=session,
                recipient=recipient,
                reply_to=None if reply_to is None else str(reply_to),
                platform=platform,
                message_type=message_type,
                attachments=list(attachments),
                metadata=dict(metadata or {}),
                sender=sender,
                occurred_at=self.log.clock.now_us(),
            )
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
