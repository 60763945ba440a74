"""Deliveries: queued messages to their platforms, in order, and what became of each.

`message.queued` is handled by the sender of its platform. Success is recorded as `message.sent`, each
failed attempt as `delivery.failed`; one that is given up is parked as a dead letter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from consumers.context import Context
from consumers.handler import Failure, Handlers
from consumers.retry import Retry, reason_of
from consumers.senders.sender import Delivery, Sender, recipient_of
from consumers.telling import told
from eventlog.errors import SendFailed
from eventlog.event import Event
from eventlog.vocabulary import DeliveryFailed, MessageQueued, MessageSent

DELIVERY_GROUP = "delivery"
"""The group of workers that deliver, where it is not named otherwise."""

DELIVERY_RETRY = Retry(attempts=8, first_delay_s=1.0, longest_delay_s=600.0)
"""Some ten minutes of a platform being down."""

TIMEOUT_S = 60.0
"""Longer than the built-in senders wait for their platform."""


class DeliveryHandlers(Handlers):
    """Handlers that deliver: `Worker(log, "delivery", DeliveryHandlers({"telegram": sender}))`.

    The platform is `message.platform`, else what precedes the first colon of the conversation. A
    message whose platform has no sender is parked at once. Close the senders with `close` when the
    worker has ended.
    """

    def __init__(
        self,
        senders: Mapping[str, Sender],
        *,
        retry: Retry = DELIVERY_RETRY,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        super().__init__(timeout_s=timeout_s, retry=retry)
        self._senders = dict(senders)
        self.on(MessageQueued, record=_failed)(self._deliver)

    async def close(self) -> None:
        """Let go of the senders' connections."""
        for sender in self._senders.values():
            await sender.close()

    async def _deliver(self, message: MessageQueued, context: Context) -> None:
        if message.is_erased:
            return  # there is nothing left to send
        platform = platform_of(message)
        sender = self._senders.get(platform)
        if sender is None:
            raise SendFailed(
                f"there is no sender for {platform!r}.",
                reason="no_sender",
                permanent=True,
                remedy="Give the delivery worker one, then replay the letter.",
            )
        receipt = await sender.send(
            message,
            Delivery(context.idempotency_key, context.attempt, message.correlation_id),
        )
        context.append(
            MessageSent(
                conversation=message.conversation,
                session=message.session,
                occurred_at=context.log.clock.now_us(),
                text=message.text,
                sender=message.sender,
                message_id=receipt.message_id,
                message_type=message.message_type,
                reply_to=message.reply_to,
                platform=platform,
                attachments=message.attachments,
                metadata=message.metadata,
                delivery=message.id,
                attempt=context.attempt,
            )
        )


def platform_of(message: MessageQueued) -> str:
    """Return the platform that a message is for."""
    return message.platform or message.conversation.partition(":")[0]


def _failed(failure: Failure) -> Iterator[Event]:
    """Yield what records a failed attempt."""
    message, error = failure.context.event, failure.error
    assert isinstance(message, MessageQueued)
    yield DeliveryFailed(
        conversation=message.conversation,
        session=message.session,
        occurred_at=failure.context.log.clock.now_us(),
        reason=reason_of(error),
        delivery=message.id,
        recipient=recipient_of(message),
        code=error.status if isinstance(error, SendFailed) else None,
        attempt=failure.context.attempt,
        permanent=failure.permanent,
        platform=platform_of(message),
        error=told(error),
    )
