"""HTTP: what an append over HTTP and a stream to many readers cost beside the least one could write.

The server is a process of its own; the clients are plain sockets in this one. The limit is a bare
Starlette route on the same uvicorn that sends one XADD, and a bare stream from one XREAD. Both run in
the same run, in turn; medians are compared. Latencies are the clients', 99th percentiles.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from statistics import median, quantiles

import msgspec

from bench.alone import measured_alone
from bench.http_server import run as run_server
from bench.row import Row
from eventlog import EventLog
from eventlog.settings import load_settings

ROUNDS = 3
READERS = 500
TASKS = 32
DELIVERIES = 50
"""Entries that each of the readers is sent in a round."""
PACE_S = 0.02
"""Between two of them, where latency is measured."""
GIVE_UP_S = 60.0
BATCH = 500
SHARE_ONE_BY_ONE = 8


def post(port: int, count: int, number: int) -> bytes:
    """Return a request that appends so many events."""
    event = {"type": "message.received", "conversation": f"web:{number % 500}", "sender": "ada",
             "text": "hello, is anybody there? I have a question about my order."}  # fmt: skip
    body = msgspec.json.encode({"events": [event] * count})
    head = (
        f"POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def appended(port: int, requests: int, tasks: int, batch: int = 1) -> tuple[float, float]:
    """Return requests a second, and the 99th percentile of their times in ms."""
    times_s: list[float] = []

    async def task(first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(first, requests, tasks):
            started_s = time.perf_counter()
            writer.write(post(port, batch, number))
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 201 " in head[:16], head
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            times_s.append(time.perf_counter() - started_s)
        writer.close()

    started_s = time.perf_counter()
    await asyncio.gather(*(task(first) for first in range(tasks)))
    elapsed_s = time.perf_counter() - started_s
    return requests / elapsed_s, quantiles(times_s, n=100)[98] * 1000


class Reader(asyncio.Protocol):
    """Counts the events of one stream, and notes when each came."""

    def __init__(self) -> None:
        self.came_s: list[float] = []
        self.is_ready = asyncio.Event()
        self.has_all = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(b"GET /v1/events/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")

    def data_received(self, data: bytes) -> None:
        """Note what came."""
        if b"event: state" in data:
            self.is_ready.set()
        if count := data.count(b'"message.received"'):
            self.came_s += [time.perf_counter()] * count
            if len(self.came_s) >= DELIVERIES:
                self.has_all.set()

    def close(self) -> None:
        """Go."""
        assert self._transport is not None
        self._transport.abort()


async def fanned_out(port: int, pace_s: float) -> tuple[float, float]:
    """Return deliveries a second, and the 99th percentile in ms from an append's begin to a reader."""
    loop = asyncio.get_running_loop()
    readers = [(await loop.create_connection(Reader, "127.0.0.1", port))[1] for _ in range(READERS)]
    async with asyncio.timeout(GIVE_UP_S):
        await asyncio.gather(*(each.is_ready.wait() for each in readers))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent_s: list[float] = []
    for _ in range(DELIVERIES):
        sent_s.append(time.perf_counter())
        writer.write(post(port, 1, 0))
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        if pace_s:
            await asyncio.sleep(pace_s)
    async with asyncio.timeout(GIVE_UP_S):
        await asyncio.gather(*(each.has_all.wait() for each in readers))
    last_s = max(each.came_s[-1] for each in readers)
    late_s = [
        came - sent for each in readers for sent, came in zip(sent_s, each.came_s, strict=True)
    ]
    writer.close()
    for each in readers:
        each.close()
    return READERS * DELIVERIES / (last_s - sent_s[0]), quantiles(late_s, n=100)[98] * 1000


async def measure(request_count: int, log: EventLog) -> list[Row]:
    """Return the rows."""
    with _served(log.server_url) as (ours, bare):
        rows = []
        for name, tasks, share in (
            ("one by one", 1, SHARE_ONE_BY_ONE),
            (f"{TASKS} at once", TASKS, 1),
        ):
            count = request_count // share
            found = [
                (await appended(bare, count, tasks), await appended(ours, count, tasks))
                for _ in range(ROUNDS)
            ]
            rows.append(_row(f"HTTP append, {name}", "bare route, XADD", found))
        batches = max(20, request_count // 100)
        found = [
            (await appended(bare, batches, 4), await appended(ours, batches, 4, BATCH))
            for _ in range(ROUNDS)
        ]
        rate, limit = (median(pair[side][0] for pair in found) for side in (1, 0))
        name = f"HTTP append, {BATCH} a request, events"
        rows.append(Row(name, rate * BATCH, "bare route, XADD", limit, rate * BATCH / limit, None))
        for name, pace_s in (
            ("as fast as it goes", 0.0),
            (f"one each {PACE_S * 1000:.0f} ms", PACE_S),
        ):
            found = [
                (await fanned_out(bare, pace_s), await fanned_out(ours, pace_s))
                for _ in range(ROUNDS)
            ]
            rows.append(_row(f"SSE to {READERS} readers, {name}", "bare stream", found))
    return rows


def _row(
    name: str, limit_name: str, found: list[tuple[tuple[float, float], tuple[float, float]]]
) -> Row:
    """Return the row of rates; the latencies go to standard error."""
    limit, rate = (median(pair[side][0] for pair in found) for side in (0, 1))
    limit_ms, ours_ms = (median(pair[side][1] for pair in found) for side in (0, 1))
    print(f"{name}: p99 {ours_ms:.1f} ms; {limit_name} {limit_ms:.1f} ms", file=sys.stderr)
    return Row(name, rate, limit_name, limit, rate / limit, None)


@contextmanager
def _served(url: str) -> Iterator[tuple[int, int]]:
    """Give the ports of the API and of the bare routes, both served by one other process."""
    context = get_context("spawn")
    here, there = context.Pipe()
    settings = load_settings(environment={}, url=url, key_prefix="bench-http", http_port=0)
    process = context.Process(target=run_server, args=(settings, there))
    process.start()
    try:
        ours, bare = here.recv()
        yield ours, bare
    finally:
        process.terminate()
        process.join()


def run(request_count: int) -> list[Row]:
    """Return the rows, measured on a server of its own."""
    return measured_alone(measure, request_count)
