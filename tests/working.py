"""What tests of workers need: one at work for a while, and what it left in the log."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from consumers import Context, Retry, Worker
from consumers.group_partition import GroupPartition
from eventlog import START, Event, EventLog
from eventlog.clock import SystemClock
from eventlog.lease import LeaseKeeper
from eventlog.tasks import end
from tests.support import eventually

QUICK = Retry(attempts=3, first_delay_s=0.02, jitter=0)
"""Three attempts, at once but for a moment."""

E = TypeVar("E", bound=Event)


class Seen:
    """A handler that takes note of what it was called with."""

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = defaultdict(list)
        """By conversation."""
        self.attempts: dict[str, list[int]] = defaultdict(list)
        """By text."""

    def note(self, event: Any, context: Context) -> None:
        self.texts[event.conversation].append(event.text)
        self.attempts[event.text].append(context.attempt)

    async def __call__(self, event: Any, context: Context) -> None:
        self.note(event, context)

    @property
    def count(self) -> int:
        return sum(map(len, self.texts.values()))


class AdjustableClock(SystemClock):
    """The machine's clock, which can be put forward; who sleeps then wakes in time."""

    def __init__(self) -> None:
        self._ahead_s = 0.0
        self._moved = asyncio.Event()

    def now_us(self) -> int:
        return super().now_us() + round(self._ahead_s * 1e6)

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self._ahead_s

    async def sleep(self, duration_s: float) -> None:
        until_s = self.monotonic_s() + duration_s
        while (left_s := until_s - self.monotonic_s()) > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), left_s)
        await asyncio.sleep(0)

    def put_forward(self, duration_s: float) -> None:
        self._ahead_s += duration_s
        self._moved.set()
        self._moved = asyncio.Event()


class AstrayClock(SystemClock):
    """The machine's clock, whose wall clock is wrong."""

    def __init__(self, ahead_s: float = 7200.0) -> None:
        self.ahead_s = ahead_s

    def now_us(self) -> int:
        return super().now_us() + round(self.ahead_s * 1e6)


@asynccontextmanager
async def at_work(*workers: Worker) -> AsyncIterator[None]:
    """Have workers run; stop them in order at the end."""
    running = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        yield
        for worker in workers:
            worker.stop()
        await asyncio.gather(*running)
    finally:
        await end(*running)


@asynccontextmanager
async def killed_at_the_end(worker: Worker) -> AsyncIterator[None]:
    """Have a worker run; end it without any settlement."""
    running = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        await end(running)


async def all_handled(worker: Worker, timeout_s: float = 10) -> None:
    """Return when the worker's group has nothing left."""

    async def is_done() -> bool:
        status = await worker.status()
        return status.lag_count == 0 and not any(each.is_missing for each in status.partitions)

    await eventually(is_done, timeout_s)


async def events(log: EventLog, event_type: type[E]) -> list[E]:
    """Return all events of a type, by partition, in order."""
    found: list[E] = []
    for partition in range(log.partition_count):
        for entry in await log.read_raw(partition, START, 1_000_000):
            event = log.codec.decode(entry.raw)
            if isinstance(event, event_type):
                found.append(event)
    return found


async def nothing_is_left(log: EventLog, group: str) -> None:
    """Check that a group has nothing pending, and no line, no record."""
    for partition in range(log.partition_count):
        stream, keys = log.keys.stream(partition), log.keys
        assert (await log.client.xpending(stream, group))["pending"] == 0
        assert await log.client.zcard(keys.blocked(partition, group)) == 0
        assert await log.client.hlen(keys.attempts(partition, group)) == 0
        pattern = keys.line(partition, group, "").replace("[", "\\[") + "*"
        assert [key async for key in log.client.scan_iter(pattern)] == []


async def lease_on(log: EventLog, group: str, partition: int) -> GroupPartition:
    """Return a partition of a group, held by an owner of its own that takes it from whoever has it."""
    await log.client.hset(log.keys.lease(partition, group), "expires_ms", "0")
    keeper = LeaseKeeper(log, group)
    await keeper._acquire_all([partition])
    return GroupPartition(log, keeper.held[partition])
