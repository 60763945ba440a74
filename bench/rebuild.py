"""Rebuild: every read model built anew under load, beside the projecting that goes on meanwhile.

First a projector alone folds the whole log, which is the live rate. Then nine tenths of the log are
archived and trimmed away, 1,000 events a second are appended, a projector in a process of its own
keeps up with them, and each read model in turn is rebuilt from archive and stream by the command
that a user would type, its start included. Meanwhile somebody looks every 20 ms how old the oldest
entry is that some live model lacks. In the end both builds of each model are verified against a fold
of the log, and their digests compared.

The server does not rewrite its append-only file meanwhile, which is the work of another process and
would fall on one of them by chance.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from statistics import quantiles
from typing import NamedTuple

from bench.beside import beside
from bench.events import CHUNK_EVENTS, chat_events
from bench.row import Row
from eventlog import EventLog
from eventlog.collector import spared_collector
from projections.building.rebuilding import rollback
from projections.building.verifying import verify
from projections.builtin import DEFAULT_PROJECTIONS
from projections.projecting.projector import Projector
from projections.projecting.status import lowest_position
from projections.projection import Projection
from projections.storing.redis_models import RedisModels
from service.wiring import new_past, open_archiver

ARCHIVED_PART = 0.9
LOAD_PER_S = 1000
LOOK_INTERVAL_S = 0.02
AIM = 1.3


class Rebuilding(NamedTuple):
    """One model's rebuild."""

    model: str
    rate_per_s: float
    lag_p99_ms: float
    lag_longest_ms: float


async def measure(event_count: int, log: EventLog) -> tuple[float, list[Rebuilding]]:
    """Return the live rate and the rebuilds."""
    await log.client.config_set("auto-aof-rewrite-percentage", 0)
    live_rate = await _fill_and_project(log, event_count)
    async with beside(log, "bench.live"), beside(log, "bench.load", str(LOAD_PER_S)):
        await _warmed_up(log)
        rebuilds = [await _rebuild(log, projection) for projection in DEFAULT_PROJECTIONS]
    await Projector(log).run_until_caught_up()
    for projection in DEFAULT_PROJECTIONS:
        new = await _digest(log, projection)
        await rollback(log, projection, past=new_past(log))
        if new != await _digest(log, projection):
            raise AssertionError(f"the builds of {projection.model} differ")
    return live_rate, rebuilds


async def _fill_and_project(log: EventLog, event_count: int) -> float:
    """Fill log and archive; return how many entries a second a projector folds on its own."""
    producer = await log.producer("bench")
    events = chat_events(event_count)
    archived_count = int(event_count * ARCHIVED_PART)
    for first, end in ((0, archived_count), (archived_count, event_count)):
        for start in range(first, end, CHUNK_EVENTS):
            chunk = events[start : min(start + CHUNK_EVENTS, end)]
            await producer.append([(start + i + 1, event) for i, event in enumerate(chunk)])
        if end == archived_count:
            async with open_archiver(log) as archiver:
                await archiver.archive_until(await log.heads())
    del events
    started_s = time.perf_counter()
    await Projector(log).run_until_caught_up()
    live_rate = event_count / (time.perf_counter() - started_s)
    past = new_past(log)
    for partition in range(log.partition_count):
        following = await log.read_raw(partition, await past.position(partition), 1)
        stream = log.keys.stream(partition)
        await log.client.execute_command("XTRIM", stream, "MINID", str(following[0].id))
    return live_rate


async def _warmed_up(log: EventLog) -> None:
    """Return when events are being appended and somebody projects them."""
    before = sum(head.n for head in await log.heads())
    projector = Projector(log)
    while True:
        statuses = await projector.status()
        appended = sum(status.head.n for status in statuses) - before
        if appended > LOAD_PER_S and all(status.owner for status in statuses):
            return
        await asyncio.sleep(LOOK_INTERVAL_S)


async def _rebuild(log: EventLog, projection: Projection) -> Rebuilding:
    """Return how one rebuild went, and how far the live models were behind meanwhile."""
    total = sum(head.n for head in await log.heads())
    ages_ms: list[float] = []
    looking = asyncio.create_task(_look(log, ages_ms))
    started_s = time.perf_counter()
    command = [
        *(sys.executable, "-m", "service", "--url", log.server_url, "--key-prefix"),
        *(log.settings.key_prefix, "--archive-dir", log.settings.archive_place),
        *("projections", "rebuild", projection.name, "--json"),
    ]
    rebuilding = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    code = await rebuilding.wait()
    took_s = time.perf_counter() - started_s
    looking.cancel()
    assert code == 0
    p99_ms = quantiles(ages_ms, n=100)[-1]
    return Rebuilding(projection.model, total / took_s, p99_ms, max(ages_ms))


async def _look(log: EventLog, ages_ms: list[float]) -> None:
    """Note again and again the age of the oldest entry that some live model lacks."""
    models = RedisModels(log)

    async def age_ms(partition: int) -> float:
        position = lowest_position(await models.shelf(partition))
        following = await log.read_raw(partition, position, 1)
        return max(0.0, time.time() * 1000 - following[0].id.ms) if following else 0.0

    while True:
        ages_ms.append(max(await asyncio.gather(*map(age_ms, range(log.partition_count)))))
        await asyncio.sleep(LOOK_INTERVAL_S)


async def _digest(log: EventLog, projection: Projection) -> list[str]:
    """Return the digest of each partition's serving build, having compared it with the fold."""
    digests = []
    async for outcome in verify(log, projection, past=new_past(log)):
        if not outcome.agrees:
            raise AssertionError(f"{outcome.model} is not the fold: {outcome.difference}")
        digests.append(outcome.stored_digest)
    return digests


async def _measure_alone(event_count: int) -> list[Row]:
    with spared_collector(), tempfile.TemporaryDirectory() as folder:
        async with EventLog.open(data_dir=folder, key_prefix="bench") as log:
            live_rate, rebuilds = await measure(event_count, log)
    return [
        Row(
            f"rebuild {each.model}, live lag p99 {each.lag_p99_ms:.0f} ms",
            each.rate_per_s,
            "projecting all views, alone",
            live_rate,
            each.rate_per_s / live_rate,
            AIM,
        )
        for each in rebuilds
    ]


def run(event_count: int) -> list[Row]:
    """Return a row for each read model, measured on a server of its own."""
    return asyncio.run(_measure_alone(event_count))
