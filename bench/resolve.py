"""Resolve: what a bot's two calls per message cost beside a plain session map.

Returning users write in many chats: `resolve` finds each one's session, `received` records the
message. The limit is the session map that bots keep in Redis otherwise, with redis-py: GET the user's
session, SET when it was last used; it records no message. Both run in the same run, in turn, one
request after the other and many at once; their medians are compared. The read models are kept up to
date by the bridge itself, beside its calls, as in a bot of one process; then by another process.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context

from redis.asyncio import Redis

from bench.alone import measured_alone
from bench.round_trips import counted_round_trips
from bench.row import Row, row_of
from bridge import Bridge
from eventlog import EventLog

PREFIX = "bench-resolve"
USERS = 2000
TASKS = 64
ROUNDS = 5
ONE_BY_ONE_SHARE = 4
"""One request after the other is slow; a fourth of the requests tells its rate."""
MOST_ROUND_TRIPS = 2.0

Request = Callable[[int], Awaitable[object]]
"""Takes the number of a request."""


async def serve(request: Request, request_count: int, task_count: int) -> float:
    """Return how many requests a second so many tasks serve."""

    async def task(first: int) -> None:
        for number in range(first, request_count, task_count):
            await request(number)

    started_s = time.perf_counter()
    await asyncio.gather(*(task(first) for first in range(task_count)))
    return request_count / (time.perf_counter() - started_s)


def with_bridge(bridge: Bridge) -> Request:
    """Return a request that resolves a session and records a message."""

    async def request(number: int) -> None:
        user = number % USERS
        session = await bridge.sessions.resolve("telegram", user)
        await bridge.received(session, "hello, is anybody there?", message_id=uuid.uuid4().hex)

    return request


def with_map(client: Redis) -> Request:
    """Return a request that looks up a session and notes that it was used."""

    async def request(number: int) -> None:
        key = f"session:telegram:{number % USERS}"
        session = await client.get(key)
        if session is None:
            session = uuid.uuid4().hex
            await client.set(key, session, nx=True)
        await client.set(f"last_activity:{session!s}", time.time_ns())

    return request


async def measure(request_count: int, log: EventLog) -> list[Row]:
    """Return the rows: one request after the other, and many at once."""
    async with Redis.from_url(log.server_url) as client:
        async with Bridge.open(log.server_url, key_prefix=PREFIX) as bridge:
            rows = await _compared("resolve", with_bridge(bridge), with_map(client), request_count)
        with _projecting_elsewhere(log.server_url):
            async with Bridge.open(log.server_url, key_prefix=PREFIX, projections=None) as bridge:
                ours = with_bridge(bridge)
                name = "resolve, projected elsewhere"
                rows += await _compared(name, ours, with_map(client), request_count)
                with counted_round_trips() as trips:
                    await serve(ours, USERS, 1)
    each = trips.count / USERS
    print(f"resolve + received: {each:g} round trips per message", file=sys.stderr)
    assert each <= MOST_ROUND_TRIPS
    return rows


async def _compared(name: str, ours: Request, plain: Request, request_count: int) -> list[Row]:
    """Return a row for one request after the other, and one for many at once."""
    for request in (ours, plain):  # every user's first message
        await serve(request, USERS, TASKS)
    rows: list[Row] = []
    for how, tasks in (("one by one", 1), (f"{TASKS} at once", TASKS)):
        count = request_count // (ONE_BY_ONE_SHARE if tasks == 1 else 1)
        rates: list[float] = []
        limits: list[float] = []
        for _ in range(ROUNDS):
            limits.append(await serve(plain, count, tasks))
            rates.append(await serve(ours, count, tasks))
        _tell_spread(f"{name}, {how}", rates)
        _tell_spread(f"GET + SET, {how}", limits)
        rows.append(row_of(f"{name}, {how}", rates, "GET + SET", limits))
    return rows


@contextmanager
def _projecting_elsewhere(url: str) -> Iterator[None]:
    """Have another process keep the read models up to date."""
    process = get_context("spawn").Process(target=_project, args=(url,))
    process.start()
    try:
        yield
    finally:
        process.terminate()  # its server ends with the benchmark
        process.join()


def _project(url: str) -> None:
    async def project() -> None:
        async with Bridge.open(url, key_prefix=PREFIX):
            await asyncio.Event().wait()

    asyncio.run(project())


def _tell_spread(name: str, rates: list[float]) -> None:
    print(f"{name}: {min(rates):,.0f} to {max(rates):,.0f} per second", file=sys.stderr)


def run(request_count: int) -> list[Row]:
    """Return the rows, measured on a server of its own."""
    return measured_alone(measure, request_count)
