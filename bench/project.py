"""Project: how close to a consumer that reads and acknowledges and does nothing else.

All views are folded. The limit is XREADGROUP and XACK, 500 entries at a time, by one client, over
the same entries in the same run; the two take turns and their medians are compared.
"""

from __future__ import annotations

import time
from typing import Any

from bench.alone import measured_alone
from bench.events import fill
from bench.row import Row, row_of
from eventlog import EventLog
from projections.builtin import DEFAULT_PROJECTIONS
from projections.folding.letters import GROUP
from projections.projecting.projector import Projector
from projections.storing.redis_models import RedisModels

BATCH_ENTRIES = 500
ROUNDS = 5
AIM = 0.50


async def drain(log: EventLog, group: str) -> int:
    """Return how many entries were read and acknowledged, with no work done on them."""
    client, total = log.client, 0
    for partition in range(log.partition_count):
        stream = log.keys.stream(partition)
        await client.xgroup_create(stream, group, "0", mkstream=True)
        read = ("XREADGROUP", "GROUP", group, "c", "COUNT", BATCH_ENTRIES, "STREAMS", stream, ">")
        while reply := await client.execute_command(*read):
            entries: list[Any] = reply[0][1]
            await client.execute_command("XACK", stream, group, *(entry[0] for entry in entries))
            total += len(entries)
        await client.execute_command("XGROUP", "DESTROY", stream, group)
    return total


async def forget(log: EventLog) -> None:
    """Delete every read model, so that the next round folds from the start."""
    store = RedisModels(log)
    for partition in range(log.partition_count):
        await log.client.unlink(log.keys.shelf(partition))
        await log.client.execute_command("XGROUP", "DESTROY", log.keys.stream(partition), GROUP)
    for projection in DEFAULT_PROJECTIONS:
        await store.sweep(projection.name)


async def measure(event_count: int, log: EventLog) -> list[Row]:
    """Return the row, folding and draining in turn."""
    await fill(log, event_count)
    rates: list[float] = []
    limits: list[float] = []
    for number in range(ROUNDS):
        started_s = time.perf_counter()
        drained = await drain(log, f"bench-drain-{number}")
        limits.append(drained / (time.perf_counter() - started_s))
        started_s = time.perf_counter()
        await Projector(log).run_until_caught_up()
        rates.append(drained / (time.perf_counter() - started_s))
        await forget(log)
    return [row_of("project, all views", rates, "XREADGROUP + XACK", limits, AIM)]


def run(event_count: int) -> list[Row]:
    """Return the rows, measured on a server of its own."""
    return measured_alone(measure, event_count)
