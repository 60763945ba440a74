"""popoto: models as hashes with indexes, as bridges keep messages and sessions with it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import popoto
from popoto.redis_db import set_REDIS_DB_settings
from redis import UnixDomainSocketConnection

from bench.peers.peer import BATCH_MESSAGES, TASKS, Kind, Peer, Place, Stopwatch, Way
from eventlog import MessageReceived


class Message(popoto.Model):
    """A chat's message, listed by time."""

    message_id = popoto.UniqueKeyField()
    chat_id = popoto.KeyField()
    sender = popoto.Field(type=str)
    content = popoto.Field(type=str)
    timestamp = popoto.SortedField(type=float, partition_by="chat_id")


def fields(message: MessageReceived) -> dict[str, object]:
    """Return the model's fields; `:` separates the parts of popoto's keys."""
    return {
        "message_id": message.id.replace(":", "-"),
        "chat_id": message.conversation.replace(":", "-"),
        "sender": message.sender,
        "content": message.text,
        "timestamp": message.occurred_at / 1e6,
    }


async def one_by_one(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
    """`Model.create`, one after the other."""
    set_REDIS_DB_settings(path=place.socket_path, connection_class=UnixDomainSocketConnection)
    with watch.running():
        for message in messages:
            Message.create(**fields(message))


async def from_tasks(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
    """`Model.async_create` by 1,000 tasks."""

    async def task(first: int) -> None:
        for message in messages[first::TASKS]:
            await Message.async_create(**fields(message))

    set_REDIS_DB_settings(path=place.socket_path, connection_class=UnixDomainSocketConnection)
    with watch.running():
        await asyncio.gather(*(task(n) for n in range(TASKS)))


async def in_bulk(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
    """`Model.bulk_create`."""
    set_REDIS_DB_settings(path=place.socket_path, connection_class=UnixDomainSocketConnection)
    with watch.running():
        instances = [Message(**fields(message)) for message in messages]
        Message.bulk_create(instances, batch_size=BATCH_MESSAGES)


PEER = Peer(
    "popoto",
    ("popoto",),
    "no log: a model is its last state; order is a timestamp's; no expected version; not one step: "
    "a crash leaves a hash without its indexes",
    {
        Kind.ONE: Way("Model.create", one_by_one, 0.05),
        Kind.TASKS: Way("Model.async_create", from_tasks, 0.1),
        Kind.BATCH: Way("Model.bulk_create", in_bulk, 0.1),
    },
)
