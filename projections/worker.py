"""One partition's projecting, for as long as its lease is held."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from eventlog.entry import RawEntry
from eventlog.group import GroupReader
from eventlog.ids import EntryId
from eventlog.lease import Lease
from eventlog.log import EventLog
from projections.letters import GROUP
from projections.pipeline import Pipeline
from projections.projection import Projection
from projections.reader import read_on
from projections.store import ModelStore
from projections.tasks import end_calls

TURN_BATCHES = 4
"""Batches that a partition with a backlog folds before others have their turn."""

TURNS_AT_ONCE = 2
"""Partitions of a process that are folding or committing: one folds while the others wait for the
server. More of them crowd each other out of the processor's cache, which measured a third more time
with eight."""


async def project_partition(
    log: EventLog,
    store: ModelStore,
    projections: Sequence[Projection],
    lease: Lease,
    turns: asyncio.Semaphore,
    on_commit: Callable[[EntryId, int], None],
) -> None:
    """Fold the partition into all its read models until cancelled, from where they stand.

    Models behind the others catch up first, each alone; then all go on together. Work is done in
    `turns`, which the partitions of a process share. `on_commit` is told the position that all have
    reached, and how many entries that took. Raises Fenced, HistoryGap, LogUnavailable; whoever
    calls again continues exactly there.
    """
    partition = lease.partition
    checkpoints = await store.checkpoints(partition, [p.model for p in projections])
    position = max(checkpoints)
    await GroupReader(log, GROUP, partition).ensure(position)
    for projection, checkpoint in zip(projections, checkpoints, strict=True):
        if checkpoint < position:
            await _catch_up(log, store, projection, lease, checkpoint, position)
    on_commit(position, 0)
    pipeline = Pipeline(log, store, projections, lease, position, on_commit)
    batch = _NOTHING
    try:
        while True:
            while not batch.raws:
                batch = await _next_entries(log, pipeline, partition)
            async with turns:
                batch = await _take_turn(log, pipeline, partition, batch)
    finally:
        await pipeline.abandon()


class _Batch(NamedTuple):
    """Entries that were read together."""

    raws: list[RawEntry]
    is_full: bool
    """Whether there is probably more behind them."""


_NOTHING = _Batch([], is_full=False)


async def _read(
    log: EventLog, partition: int, after: EntryId, limit: int, *, waits: bool
) -> _Batch:
    raws = await read_on(log, partition, after, limit, waits=waits)
    return _Batch(raws, is_full=len(raws) == limit)


async def _next_entries(log: EventLog, pipeline: Pipeline, partition: int) -> _Batch:
    """Return what is appended within a second."""
    reading = asyncio.create_task(
        _read(log, partition, pipeline.position, pipeline.batch_limit, waits=True)
    )
    try:
        return await reading
    finally:
        await end_calls(reading)


async def _take_turn(log: EventLog, pipeline: Pipeline, partition: int, batch: _Batch) -> _Batch:
    """Return what was read but not folded; all before it is committed.

    What is behind a full batch is read while that one is folded and the one before is committed.
    """
    for _ in range(TURN_BATCHES):
        reading: asyncio.Task[_Batch] | None = None
        try:
            if batch.is_full:
                after, limit = batch.raws[-1].id, pipeline.batch_limit
                reading = asyncio.create_task(_read(log, partition, after, limit, waits=False))
            await pipeline.put(batch.raws)
            batch = await pipeline.until(reading) if reading else _NOTHING
        finally:
            await end_calls(reading)
        if not batch.raws:
            break
    await pipeline.flush()
    return batch


async def _catch_up(
    log: EventLog,
    store: ModelStore,
    projection: Projection,
    lease: Lease,
    checkpoint: EntryId,
    until: EntryId,
) -> None:
    pipeline = Pipeline(log, store, [projection], lease, checkpoint, moves_group=False)
    try:
        while pipeline.position < until:
            limit = pipeline.batch_limit
            await pipeline.put(await log.read_raw(lease.partition, pipeline.position, limit, until))
        await pipeline.flush()
    finally:
        await pipeline.abandon()
