"""Archivers that die at every step, alone and beside rivals, leave each entry archived once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from analytics import Archiver, Catalogue, DirectoryStorage, Rolling, Segment, Storage
from analytics.archiver import GROUP
from analytics.steps import STEPS, Reached, Step
from bench.events import chat_events
from eventlog import EventLog
from eventlog.ids import START
from tests.archives import archived
from tests.buckets import Bucket, Exchange, front, ignoring_conditions

DEATHS_PER_STEP = 10
"""Of each of the six steps, for each of the six seeds: 360 crashes at least."""


class Crash(BaseException):
    """The process is gone: nothing that catches errors may tidy up."""


def dying(at: Step, times: int, deaths: Counter[Step]) -> Reached:
    """Return the hook of a process that dies when it reaches step `at` for the `times`-th time."""
    left = times

    def reached(step: Step) -> None:
        nonlocal left
        left -= step == at
        if left <= 0:
            deaths[step] += 1
            raise Crash(step)

    return reached


@pytest.mark.parametrize("seed", range(6))
async def test_each_sequence_is_archived_once_however_often_archivers_die(
    log: EventLog, tmp_path: Path, seed: int
) -> None:
    await die_often(log, DirectoryStorage(tmp_path), seed, DEATHS_PER_STEP)


async def test_what_a_dead_one_left_without_a_sync_is_synced_by_the_next(
    log: EventLog, tmp_path: Path
) -> None:
    class Watched(DirectoryStorage):
        def sync(self, segment: Segment) -> None:
            super().sync(segment)
            synced.append(segment)

    synced: list[Segment] = []
    storage = Watched(tmp_path)
    await log.append([*chat_events(1, seed=1)])
    dead = Archiver(log, storage, owner="same", reached=dying("linked", 1, Counter()))
    with pytest.raises(Crash):
        await dead.run_once()
    [segment] = storage.segments()
    async with Archiver(log, storage, owner="same") as survivor:
        assert await survivor.run_once() == []
    assert synced == [segment]
    [group] = await log.client.xinfo_groups(log.keys.stream(partition=segment.partition))
    assert group["last-delivered-id"].decode() == str(segment.end)


@pytest.mark.parametrize("knows_conditions", [True, False])
async def test_the_same_holds_in_a_bucket_whatever_its_server_knows(
    log: EventLog, bucket: Bucket, knows_conditions: bool
) -> None:
    rnd = random.Random(7)

    def unreliable(exchange: Exchange) -> Exchange | None:
        if rnd.random() < 0.05:
            return None
        return exchange if knows_conditions else ignoring_conditions(exchange)

    with front(bucket.endpoint_url, unreliable) as url:
        await die_often(log, bucket.storage(url), 6, deaths_per_step=1 + knows_conditions)


async def die_often(log: EventLog, storage: Storage, seed: int, deaths_per_step: int) -> None:
    """Have archivers die at each step that often, then see that a last one leaves all as it should."""
    rnd = random.Random(seed)
    catalogue = Catalogue(storage)
    deaths: Counter[Step] = Counter()
    positions = [0] * log.partition_count
    source = iter(chat_events(20_000, seed=seed))
    while (step := min(STEPS, key=deaths.__getitem__)) and deaths[step] < deaths_per_step:
        await log.append([next(source) for _ in range(rnd.randint(1, 80))])
        # The same owner name gives rivals the same leases: each believes that it is alone.
        archivers = [
            Archiver(
                log,
                storage,
                owner="same",
                rolling=Rolling(max_rows=rnd.randint(5, 60)),
                reached=dying(step, rnd.randint(1, 3), deaths),
            )
            for _ in range(rnd.choice([1, 1, 2, 3]))
        ]
        done = await asyncio.gather(*(a.run_once() for a in archivers), return_exceptions=True)
        assert all(isinstance(outcome, list | Crash) for outcome in done), done
        for partition, coverage in catalogue.scan().items():
            assert coverage.position.n >= positions[partition]
            assert coverage.stranded == ()
            positions[partition] = coverage.position.n
    survivor = Archiver(log, storage, owner="same")
    await survivor.run_once()
    await survivor.close()
    heads = await log.heads()
    for partition, head in enumerate(heads):
        entries = archived(storage, partition)
        assert [entry.id.n for entry in entries] == list(range(1, head.n + 1))
        assert entries == await log.read_raw(partition, START, head.n)
        [group] = await log.client.xinfo_groups(log.keys.stream(partition))
        assert group["name"] == GROUP.encode()
        assert group["last-delivered-id"] == str(head).encode()
        assert not await log.client.exists(log.keys.archive_plan(partition))
        assert catalogue.coverage(partition).spare == ()


async def test_a_lost_group_is_set_where_the_files_end(log: EventLog, tmp_path: Path) -> None:
    await log.append(chat_events(400))
    storage = DirectoryStorage(tmp_path)
    archiver = Archiver(log, storage)
    await archiver.run_once()
    await archiver.close()
    for partition in range(log.partition_count):
        await log.client.xgroup_destroy(log.keys.stream(partition), GROUP)
    again = Archiver(log, storage)
    assert await again.run_once() == []
    await again.close()
    for partition, head in enumerate(await log.heads()):
        [group] = await log.client.xinfo_groups(log.keys.stream(partition))
        assert group["last-delivered-id"] == str(head).encode()
