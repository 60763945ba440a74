"""The log doing the peers' work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bench.append import append_lists, append_singly, produce
from bench.handle import do_nothing
from bench.peers.peer import TASKS, Kind, Place, Stopwatch, Way, Work
from consumers.handler import ANY, Handlers
from consumers.worker import Worker
from eventlog import Event, EventLog, MessageReceived
from eventlog.settings import Durability

CALLERS = 32


@asynccontextmanager
async def opened(place: Place, durability: Durability) -> AsyncIterator[EventLog]:
    """Open a log on the peers' server."""
    async with EventLog.open(place.url, key_prefix="ours", durability=durability) as log:
        yield log


def recording(callers: int, *, in_lists: bool, durability: Durability = "memory") -> Work:
    """Return the work of so many callers."""

    async def work(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
        events: list[Event] = list(messages)
        append = append_lists if in_lists else append_singly
        async with opened(place, durability) as log:
            with watch.running():
                await append(log, events, callers)

    return work


async def by_sequence(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
    """Record as a bulk producer."""
    async with opened(place, "memory") as log:
        with watch.running():
            await produce(log, list(messages), "bench")


async def handle(place: Place, messages: Sequence[MessageReceived], watch: Stopwatch) -> None:
    """Handle all with a worker."""
    async with opened(place, "memory") as log:
        await append_lists(log, list(messages), CALLERS)
        handlers = Handlers()
        handlers.on(ANY)(do_nothing)
        with watch.running():
            handled = await Worker(log, "bench", handlers).run_once()
        assert handled == len(messages), handled


OURS: dict[Kind, list[Way]] = {
    Kind.ONE: [Way("log.append", recording(1, in_lists=False), 0.25)],
    Kind.ONE_SYNCED: [
        Way("log.append", recording(1, in_lists=False, durability="fsync"), 0.0, least=20),
    ],
    Kind.TASKS: [Way("log.append", recording(TASKS, in_lists=False))],
    Kind.BATCH: [
        Way("log.append, by id", recording(CALLERS, in_lists=True)),
        Way("producer.append", by_sequence),
    ],
    Kind.BATCH_SYNCED: [
        Way("log.append", recording(CALLERS, in_lists=True, durability="fsync")),
    ],
    Kind.WORK: [Way("Worker", handle)],
}
