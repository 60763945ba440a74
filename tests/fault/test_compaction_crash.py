"""Compactors that die at every step, alone and beside rivals, an archiver and readers: nothing is lost."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from analytics import Archiver, Catalogue, Rolling, Warehouse
from analytics.compaction import Compactor
from analytics.past import ArchivedPast
from analytics.steps import COMPACTION_STEPS, Step
from bench.events import chat_events
from eventlog import EventLog
from eventlog.entry import RawEntry
from eventlog.ids import START
from tests.archives import archived
from tests.compacting import put_on_days, storage_in, with_short_files
from tests.fault.test_archiver_crash import Crash, dying
from tests.querying import rows

DEATHS_PER_STEP = 3
"""Of each of the seven steps, for each of the two seeds: 42 crashes at least."""

GAPLESS = """
    SELECT partition, count(*), count(DISTINCT sequence), max(sequence) FROM events GROUP BY partition
"""


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.soak)])
async def test_each_sequence_is_there_once_however_often_compactors_die(
    log: EventLog, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rnd = random.Random(seed)
    with_short_files(monkeypatch)
    storage = storage_in(tmp_path)
    catalogue = Catalogue(storage)
    deaths: Counter[Step] = Counter()
    source = iter(chat_events(40_000, seed=seed))
    past = ArchivedPast(storage)
    ago = 900.0
    async with Warehouse.open(log, storage.root) as warehouse:
        while (step := min(COMPACTION_STEPS, key=deaths.__getitem__)) and deaths[
            step
        ] < DEATHS_PER_STEP:
            if rnd.random() < 0.3:
                events = [next(source) for _ in range(rnd.randint(30, 150))]
                await put_on_days(log, events, ago=ago, days=0.4)
                ago -= 0.4
            # The same owner name gives rivals the same leases: each believes that it is alone.
            compactors = [
                Compactor(
                    log,
                    storage,
                    owner="same",
                    grace_s=rnd.choice([-1, -1, 3600]),
                    reached=dying(step, rnd.randint(1, 3), deaths),
                ).run_once()
                for _ in range(rnd.choice([1, 1, 2, 3]))
            ]
            archiver = Archiver(log, storage, rolling=Rolling(max_rows=rnd.randint(5, 60)))
            done = await asyncio.gather(
                *compactors,
                archiver.run_once(),
                rows(warehouse, GAPLESS),
                in_order(past, log),
                return_exceptions=True,
            )
            await archiver.close()
            *outcomes, _, counted, _ = done
            assert all(isinstance(each, tuple | Crash) for each in outcomes), done
            assert not [each for each in done[-3:] if isinstance(each, BaseException)], done
            for _, count, distinct, last in counted:
                assert count == distinct == last
            for each in outcomes:
                assert isinstance(each, Crash) or not each.failures
            for coverage in catalogue.scan().values():
                assert coverage.stranded == ()
    await Compactor(log, storage, owner="same", grace_s=-1).run_once()
    for partition in range(log.partition_count):
        coverage = catalogue.coverage(partition)
        assert coverage.spare == coverage.stranded == ()
        entries = archived(storage, partition, until_n=coverage.position.n)
        assert entries == await log.read_raw(partition, START, coverage.position.n)
        assert not await log.client.exists(log.keys.compaction_plan(partition))


async def in_order(past: ArchivedPast, log: EventLog) -> list[RawEntry]:
    """Read every partition's past, in order and without a hole."""
    found: list[RawEntry] = []
    for partition in range(log.partition_count):
        entries = [e async for stretch in past.read(partition, START) for e in stretch.entries]
        assert [entry.id.n for entry in entries] == list(range(1, len(entries) + 1))
        found += entries
    return found
