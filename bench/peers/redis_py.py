"""redis-py by itself: XADD one after the other, pipelined and from 1,000 tasks; XREADGROUP and XACK."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from redis import Redis
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis

from bench.peers.peer import BATCH_MESSAGES, TASKS, Kind, Peer, Place, Stopwatch, Way
from eventlog import MessageReceived

STREAM = "messages"
GROUP = "workers"
CONNECTIONS = 100
"""As many as its pool makes at most; the plain pool raises at the next one."""


async def one_by_one(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
    """XADD, awaited, one after the other."""
    async with AsyncRedis.from_url(place.url) as client:
        with watch.running():
            for message in messages:
                await client.xadd(STREAM, {"e": msgspec.json.encode(message)})


async def from_tasks(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
    """XADD, awaited by 1,000 tasks."""

    async def task(first: int) -> None:
        for message in messages[first::TASKS]:
            await client.xadd(STREAM, {"e": msgspec.json.encode(message)})

    pool = BlockingConnectionPool.from_url(place.url, max_connections=CONNECTIONS, timeout=None)
    async with AsyncRedis.from_pool(pool) as client:
        with watch.running():
            await asyncio.gather(*(task(n) for n in range(TASKS)))


async def pipelined(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
    """XADD, 500 in a pipeline, by the blocking client, which is the quicker of the two."""
    with Redis.from_url(place.url) as client, watch.running():
        for start in range(0, len(messages), BATCH_MESSAGES):
            pipeline = client.pipeline(transaction=False)
            for message in messages[start : start + BATCH_MESSAGES]:
                pipeline.xadd(STREAM, {"e": msgspec.json.encode(message)})
            pipeline.execute()


async def following(client: Any) -> Any:
    """Return the reply with the next entry: `[[stream, [(id, fields)]]]`, empty at the end."""
    return await client.xreadgroup(GROUP, "c", {STREAM: ">"}, count=1)


async def handle(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
    """Read, decode and acknowledge one entry after the other."""
    await pipelined(place, messages, Stopwatch())
    async with AsyncRedis.from_url(place.url) as client:
        await client.xgroup_create(STREAM, GROUP, "0")
        with watch.running():
            while reply := await following(client):
                [[_, [[entry_id, fields]]]] = reply
                msgspec.json.decode(fields[b"e"], type=MessageReceived)
                await client.xack(STREAM, GROUP, entry_id)


PEER = Peer(
    "redis-py",
    ("redis",),
    "repeats are recorded again; no expected version; no sequence without holes; workers: no order "
    "across several, no attempts, no dead letters",
    {
        Kind.ONE: Way("await xadd", one_by_one, 0.5),
        Kind.TASKS: Way("await xadd", from_tasks),
        Kind.BATCH: Way("pipeline, 500 XADDs", pipelined),
        Kind.WORK: Way("XREADGROUP, XACK one by one", handle, 0.25),
    },
)
