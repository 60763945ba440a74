"""One partition's projecting, for as long as its lease is held."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

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


async def project_partition(
    log: EventLog,
    store: ModelStore,
    projections: Sequence[Projection],
    lease: Lease,
    on_commit: Callable[[EntryId, int], None],
) -> None:
    """Fold the partition into all its read models until cancelled, from where they stand.

    Models behind the others catch up first, each alone; then all go on together. `on_commit` is
    told the position that all have reached, and how many entries that took. Raises Fenced,
    HistoryGap, LogUnavailable; whoever calls again continues exactly there.
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
    reading: asyncio.Task[list[RawEntry]] | None = None
    raws: list[RawEntry] = []
    try:
        while True:
            # Under way while the batch before is folded and committed.
            after = raws[-1].id if raws else pipeline.position
            reading = asyncio.create_task(read_on(log, partition, after, pipeline.batch_limit))
            if raws:
                await pipeline.put(raws)
            raws = await pipeline.until(reading)
    finally:
        await end_calls(reading)
        await pipeline.abandon()


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
