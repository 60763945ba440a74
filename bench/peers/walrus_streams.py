"""walrus: streams and consumer groups as Python objects."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from walrus import Database

from bench.peers.peer import BATCH_MESSAGES, Kind, Peer, Place, Stopwatch, Way
from eventlog import MessageReceived

STREAM = "messages"


async def one_by_one(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
    """`Stream.add`, one after the other."""
    stream = Database(unix_socket_path=place.socket_path).Stream(STREAM)
    with watch.running():
        for message in messages:
            stream.add({"e": msgspec.json.encode(message)})


async def pipelined(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
    """A pipeline of its database, 500 at a time; its streams have none of their own."""
    database = Database(unix_socket_path=place.socket_path)
    with watch.running():
        for start in range(0, len(messages), BATCH_MESSAGES):
            with database.pipeline(transaction=False) as pipeline:
                for message in messages[start : start + BATCH_MESSAGES]:
                    pipeline.xadd(STREAM, {"e": msgspec.json.encode(message)})
                pipeline.execute()


async def handle(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
    """`ConsumerGroup.read`, then `ack`, one after the other."""
    await pipelined(place, messages, Stopwatch())
    group = Database(unix_socket_path=place.socket_path).consumer_group("workers", [STREAM])
    group.create()
    group.set_id("0")
    with watch.running():
        while found := group.read(count=1):
            entries = found.values() if isinstance(found, dict) else [each[1] for each in found]
            for entry_id, fields in next(iter(entries)):
                msgspec.json.decode(fields[b"e"], type=MessageReceived)
                group.messages.ack(entry_id)


PEER = Peer(
    "walrus",
    ("walrus",),
    "repeats are recorded again; no expected version; workers: no order across several, no "
    "attempts, no dead letters",
    {
        Kind.ONE: Way("Stream.add", one_by_one, 0.5),
        Kind.BATCH: Way("pipeline, 500 XADDs", pipelined),
        Kind.WORK: Way("ConsumerGroup.read, ack", handle, 0.25),
    },
)
