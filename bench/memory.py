"""Memory: what an event takes in the server, log and remembered id together, over its bytes as JSON.

Measured by the server's MEMORY USAGE of every key, which counts what is allocated: the slack of the
streams' nodes and of the hashes of ids is in it. Beside it the same events as plain XADDs, which
remember no id and give no sequence.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bench.alone import measured_alone
from bench.append import append_lists, produce
from bench.events import CHUNK_EVENTS, chat_events
from bench.row import Row, cost_row
from eventlog import Event, EventLog

AIM = 1.6
CALLERS = 8


async def taken_bytes(log: EventLog, work: Callable[[], Awaitable[None]]) -> float:
    """Return what the keys take that the work leaves behind in an empty server."""
    await log.client.flushdb()
    await work()
    keys = [key async for key in log.client.scan_iter(count=1000)]
    sizes = [await log.client.memory_usage(key, samples=0) for key in keys]
    return float(sum(size for size in sizes if size))


async def plain(log: EventLog, events: list[Event]) -> None:
    """Append with XADD alone, to as many streams."""
    for start in range(0, len(events), CHUNK_EVENTS):
        pipeline = log.client.pipeline(transaction=False)
        for event in events[start : start + CHUNK_EVENTS]:
            stream = log.keys.stream(log.partition_of(event.conversation))
            pipeline.xadd(stream, {"e": log.codec.encode(event)})
        await pipeline.execute()


async def measure(event_count: int, log: EventLog) -> list[Row]:
    """Return the rows; a count of bytes does not wander, so there is one round."""
    events = chat_events(event_count)
    payload = float(sum(len(log.codec.encode(event)) for event in events))
    kinds: list[tuple[str, float | None, Callable[[], Awaitable[None]]]] = [
        ("memory, by id", AIM, lambda: append_lists(log, events, CALLERS)),
        ("memory, producer sequence", None, lambda: produce(log, events, "bench")),
        ("memory, plain XADD", None, lambda: plain(log, events)),
    ]
    return [
        cost_row(
            f"{name}, {(taken := await taken_bytes(log, work)) / event_count:.0f} B an event",
            [taken],
            f"the JSON, {payload / event_count:.0f} B an event",
            [payload],
            aim,
        )
        for name, aim, work in kinds
    ]


def run(event_count: int) -> list[Row]:
    """Return the rows, measured on a server of their own."""
    return measured_alone(measure, event_count)
