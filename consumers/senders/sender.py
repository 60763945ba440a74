"""What sends a message: the protocol between the delivery handler and a platform."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from eventlog.vocabulary import MessageQueued


class Delivery(NamedTuple):
    """What a sender is told beside the message."""

    idempotency_key: str
    """The queued event's id, the same at every attempt."""
    attempt: int
    """From 1."""
    correlation_id: str | None = None
    """What the message has to do with: the queued event's, for the platform's own logs."""


class Receipt(NamedTuple):
    """The platform has taken the message."""

    message_id: str | None = None
    """The platform's own, where it gives one."""


class Sender(Protocol):
    """Takes messages to one platform.

    A sender is used from one event loop at a time and by many deliveries at once. It may be used
    again after `close`, also in another loop.
    """

    async def send(self, message: MessageQueued, delivery: Delivery) -> Receipt:
        """Return when the platform has taken the message; raise SendFailed where it has not.

        Whatever else is raised counts as a failure worth another attempt. Cancelled, it ends
        without waiting for the platform.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


def recipient_of(message: MessageQueued) -> str | None:
    """Return the platform's name for who is to get it, or None where nobody is named.

    It is `recipient`, else what follows the first colon of the conversation.

    >>> recipient_of(MessageQueued(conversation="telegram:12345", text="hi"))
    '12345'
    """
    return message.recipient or message.conversation.partition(":")[2] or None


def text_of(message: MessageQueued) -> str:
    """Return the text with the URL of each attachment on a line of its own.

    For a platform, or a sender, that knows nothing but text.
    """
    lines = [message.text, *(attachment.url for attachment in message.attachments)]
    return "\n".join(line for line in lines if line)
