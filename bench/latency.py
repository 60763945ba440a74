"""Latency: how long an append takes its caller, and how soon what was appended is in the read models.

An append is timed beside a plain `await redis.xadd` of the same bytes, in turn, one after the other:
once with nothing else going on, once while another process appends 1,000 events a second. Then events
are appended one by one at 1,000 a second while a projector in a process of its own folds them into all
views; each event is timed from the call of `append` until the stored checkpoint has reached it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from statistics import quantiles

from bench.alone import measured_alone
from bench.beside import beside
from bench.events import chat_events
from bench.row import Row, cost_row
from eventlog import Event, EventLog
from eventlog.ids import EntryId
from eventlog.tasks import end
from projections.projecting.status import lowest_position
from projections.storing.redis_models import RedisModels

LOAD_PER_S = 1000
BLOCK = 100
"""Calls of one kind before the other kind's turn."""
ROUNDS = 5
VISIBLE_WITHIN_S = 0.050
BEAT_S = 0.002
"""Between two looks at the checkpoints, and between two calls of the producer at the least."""

Call = Callable[[Event], Awaitable[object]]


async def each_s(events: list[Event], call: Call) -> list[float]:
    """Return what each call took, one after the other."""
    took_s = []
    for event in events:
        started_s = time.perf_counter()
        await call(event)
        took_s.append(time.perf_counter() - started_s)
    return took_s


async def append_rows(log: EventLog, events: list[Event], when: str) -> list[Row]:
    """Return the rows of an append beside a plain XADD, at the median and the 99th percentile."""
    stream = log.keys.stream(0) + ":plain"

    async def plain(event: Event) -> None:
        await log.client.xadd(stream, {"e": log.codec.encode(event)})

    ours: list[list[float]] = []
    theirs: list[list[float]] = []
    share = max(len(events) // ROUNDS, 2)
    for first in range(0, share * ROUNDS, share):
        part, mine, other = events[first : first + share], [], []
        for start in range(0, len(part), BLOCK):
            mine += await each_s(part[start : start + BLOCK], log.append)
            other += await each_s(part[start : start + BLOCK], plain)
        ours.append(mine)
        theirs.append(other)
    return [
        cost_row(
            f"append latency, {when}, p{percent}",
            [percentile(each, percent) for each in ours],
            "await redis.xadd",
            [percentile(each, percent) for each in theirs],
            None,
        )
        for percent in (50, 99)
    ]


def percentile(values: list[float], percent: int) -> float:
    """Return what so many of a hundred values are at most."""
    return quantiles(values, n=100, method="inclusive")[percent - 1]


class Watch:
    """Events on their way into the read models, by partition, oldest first."""

    def __init__(self, partition_count: int) -> None:
        self._under_way: list[deque[tuple[int, float]]] = [deque() for _ in range(partition_count)]
        self.took_s: list[float] = []

    def note(self, partition: int, n: int, started_s: float) -> None:
        """An event of this sequence was handed to `append` at that time."""
        self._under_way[partition].append((n, started_s))

    def look(self, positions: list[EntryId], now_s: float) -> None:
        """So far have the read models come."""
        for waiting, position in zip(self._under_way, positions, strict=True):
            # Sequences are noted in the order of answers, which within a partition is their own.
            while waiting and waiting[0][0] <= position.n:
                self.took_s.append(now_s - waiting.popleft()[1])


async def positions(log: EventLog, models: RedisModels) -> list[EntryId]:
    """Return how far the stored read models are, by partition."""
    shelves = await asyncio.gather(*map(models.shelf, range(log.partition_count)))
    return [lowest_position(shelf) for shelf in shelves]


async def visible_s(log: EventLog, events: list[Event]) -> list[float]:
    """Return how long each event took from its append until a read model had it."""
    watch, models = Watch(log.partition_count), RedisModels(log)

    async def append(event: Event) -> None:
        started_s = time.perf_counter()
        result = await log.append(event)
        watch.note(result.partition, result.sequence, started_s)

    async def produce() -> None:
        started_s, count = time.perf_counter(), 0
        async with asyncio.TaskGroup() as group:
            while count < len(events):
                due = min(int((time.perf_counter() - started_s) * LOAD_PER_S), len(events))
                for event in events[count:due]:
                    group.create_task(append(event))
                count = due
                await asyncio.sleep(BEAT_S)

    producing = asyncio.create_task(produce())
    try:
        while len(watch.took_s) < len(events):
            watch.look(await positions(log, models), time.perf_counter())
            if producing.done():
                producing.result()
            await asyncio.sleep(BEAT_S)
    finally:
        await end(producing)
    return watch.took_s


async def visible_rows(log: EventLog, events: list[Event]) -> list[Row]:
    """Return the rows of append → visible, against what we want at most."""
    models = RedisModels(log)
    async with beside(log, "bench.live"):
        await log.append(events[0])
        while True:  # the projector is at work once it has come to the end
            heads = await log.heads()
            if await positions(log, models) == heads:
                break
            await asyncio.sleep(BEAT_S)
        share = max((len(events) - 1) // ROUNDS, 2)
        rounds = [
            await visible_s(log, events[first : first + share])
            for first in range(1, 1 + share * ROUNDS, share)
            if len(events[first : first + share]) > 1
        ]
    return [
        cost_row(
            f"append → visible, {LOAD_PER_S:,}/s, p{percent}",
            [percentile(took_s, percent) for took_s in rounds],
            f"{VISIBLE_WITHIN_S * 1000:.0f} ms",
            [VISIBLE_WITHIN_S] * len(rounds),
            1.0 if percent == 99 else None,
        )
        for percent in (50, 99)
    ]


async def measure(event_count: int, log: EventLog) -> list[Row]:
    """Return the rows: an append idle and loaded, then the way into the read models."""
    events = chat_events(3 * event_count)
    idle, loaded, shown = (events[n::3] for n in range(3))
    rows = await append_rows(log, idle, "idle")
    async with beside(log, "bench.load", str(LOAD_PER_S)):
        heads = await log.heads()
        while await log.heads() == heads:  # noqa: ASYNC110 - another process appends
            await asyncio.sleep(BEAT_S)
        rows += await append_rows(log, loaded, f"beside {LOAD_PER_S:,}/s")
    return rows + await visible_rows(log, shown)


def run(event_count: int) -> list[Row]:
    """Return the rows, measured on a server of their own."""
    return measured_alone(measure, event_count)
