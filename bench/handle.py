"""Handle: what ordered concurrency, retries and settlement cost beside reading and acknowledging.

Every entry has a handler, which does nothing. The limit is XREADGROUP and XACK, 500 entries at a
time, by one client; beside it a plain loop reads, handles and acknowledges one entry after the other.
All go over the same entries in the same run, in turn; their medians are compared.
"""

from __future__ import annotations

import time

from bench.alone import measured_alone
from bench.events import fill
from bench.project import drain
from bench.row import Row, row_of
from consumers.context import Context
from consumers.groups import forget
from consumers.handler import ANY, Handlers
from consumers.worker import Worker
from eventlog import Event, EventLog

ROUNDS = 5
AIM = 0.25
LOOP_AIM = 3.0
LOOP_ENTRIES = 20_000
"""Entries that the plain loop takes: it is slow, and its rate does not depend on their number."""


async def do_nothing(event: Event, context: Context) -> None:
    """Handle an event."""


async def one_by_one(log: EventLog, group: str, most: int) -> int:
    """Return how many entries were read, handled and acknowledged, each before the next."""
    client, total = log.client, 0
    for partition in range(log.partition_count):
        stream = log.keys.stream(partition)
        await client.xgroup_create(stream, group, "0", mkstream=True)
        read = ("XREADGROUP", "GROUP", group, "c", "COUNT", 1, "STREAMS", stream, ">")
        while total < most and (reply := await client.execute_command(*read)):
            entry_id, fields = reply[0][1][0]
            await do_nothing(log.codec.decode(fields[1]), None)  # type: ignore[arg-type] # unused
            await client.execute_command("XACK", stream, group, entry_id)
            total += 1
        await client.execute_command("XGROUP", "DESTROY", stream, group)
    return total


async def measure(event_count: int, log: EventLog) -> list[Row]:
    """Return the rows: the worker against the limit, and against the plain loop."""
    await fill(log, event_count)
    handlers = Handlers()
    handlers.on(ANY)(do_nothing)
    rates: list[float] = []
    limits: list[float] = []
    loops: list[float] = []
    for number in range(ROUNDS):
        started_s = time.perf_counter()
        drained = await drain(log, f"bench-drain-{number}")
        limits.append(drained / (time.perf_counter() - started_s))

        started_s = time.perf_counter()
        looped = await one_by_one(log, f"bench-loop-{number}", LOOP_ENTRIES)
        loops.append(looped / (time.perf_counter() - started_s))

        group = f"bench-{number}"
        started_s = time.perf_counter()
        handled = await Worker(log, group, handlers).run_once()
        rates.append(handled / (time.perf_counter() - started_s))
        await forget(log, group)
    return [
        row_of("handle, no-op", rates, "XREADGROUP + XACK", limits, AIM),
        row_of("handle, no-op", rates, "one by one", loops, LOOP_AIM),
    ]


def run(event_count: int) -> list[Row]:
    """Return the rows, measured on a server of its own."""
    return measured_alone(measure, event_count)
