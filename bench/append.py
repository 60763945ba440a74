"""Append: how close to a raw socket that blasts prepared XADDs."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable

from bench.events import chat_events
from bench.row import Row, row_of
from eventlog import Event, EventLog, Settings
from eventlog.collector import spared_collector

BATCH_EVENTS = 500
ROUNDS = 5


def raw_limit_per_s(socket_path: str, stream: str, payloads: list[bytes]) -> float:
    """Return XADDs per second of one socket, prepared bytes, 500 in flight."""
    blocks = []
    for start in range(0, len(payloads), BATCH_EVENTS):
        part = payloads[start : start + BATCH_EVENTS]
        blocks.append((b"".join(_xadd(stream.encode(), payload) for payload in part), len(part)))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(socket_path)
        started = time.perf_counter()
        for block, count in blocks:
            connection.sendall(block)
            _await_replies(connection, count)
        return len(payloads) / (time.perf_counter() - started)


def _xadd(stream: bytes, payload: bytes) -> bytes:
    words = (b"XADD", stream, b"*", b"e", payload)
    return b"*5\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def _await_replies(connection: socket.socket, count: int) -> None:
    """Read until `count` bulk replies have ended; each is `$len`, then the id: two line ends."""
    ends = 0
    while ends < 2 * count:
        ends += connection.recv(1 << 16).count(b"\n")


async def _timed(work: Awaitable[None], count: int) -> float:
    started = time.perf_counter()
    await work
    return count / (time.perf_counter() - started)


async def append_lists(log: EventLog, events: list[Event], callers: int) -> None:
    """Append lists of 500 from several concurrent callers."""

    async def caller(first: int) -> None:
        for start in range(first * BATCH_EVENTS, len(events), callers * BATCH_EVENTS):
            await log.append(events[start : start + BATCH_EVENTS])

    await asyncio.gather(*(caller(n) for n in range(callers)))


async def append_singly(log: EventLog, events: list[Event], tasks: int) -> None:
    """Append events one by one from many tasks."""

    async def task(first: int) -> None:
        for index in range(first, len(events), tasks):
            await log.append(events[index])

    await asyncio.gather(*(task(n) for n in range(tasks)))


async def produce(log: EventLog, events: list[Event], name: str) -> None:
    """Append through a producer, two calls of 2,000 under way."""
    producer = await log.producer(name)
    size = 2000
    under_way: list[asyncio.Task[int]] = []
    for start in range(0, len(events), size):
        items = [(start + i + 1, e) for i, e in enumerate(events[start : start + size])]
        under_way.append(asyncio.create_task(producer.append(items)))
        if len(under_way) == 2:
            await under_way.pop(0)
        else:
            await asyncio.sleep(0)
    for task in under_way:
        await task


async def measure(event_count: int, log: EventLog, socket_path: str) -> list[Row]:
    """Return the rows, each kind interleaved with the limit and the medians taken."""
    events = chat_events(event_count)
    payloads = [log.codec.encode(event) for event in events]
    kinds: dict[str, tuple[float | None, Callable[[int], Awaitable[None]]]] = {
        "append, 32 tasks, lists of 500, by id": (0.40, lambda _: append_lists(log, events, 32)),
        "append, producer sequence": (0.55, lambda n: produce(log, events, f"bench-{n}")),
        "append, 1,000 tasks one by one": (None, lambda _: append_singly(log, events, 1000)),
    }
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    limits: list[float] = []
    for number in range(ROUNDS):
        await log.client.flushdb()
        limits.append(
            await asyncio.to_thread(raw_limit_per_s, socket_path, log.keys.stream(0), payloads)
        )
        for name, (_, work) in kinds.items():
            await log.client.flushdb()
            rates[name].append(await _timed(work(number), event_count))
    return [
        row_of(name, rates[name], "raw socket, prepared XADDs", limits, aim)
        for name, (aim, _) in kinds.items()
    ]


def run(event_count: int) -> list[Row]:
    """Return the append rows, measured on a server of their own."""
    with spared_collector(), tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_run(event_count, folder))


async def _run(event_count: int, folder: str) -> list[Row]:
    async with EventLog.open(settings=Settings(data_dir=folder)) as log:
        socket_path = log.client.connection_pool.connection_kwargs["path"]
        return await measure(event_count, log, socket_path)
