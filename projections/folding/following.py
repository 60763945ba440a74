"""Feeding a pipeline: reading ahead while it folds, from the archive and then from the log."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import NamedTuple

from eventlog.ids import START, EntryId
from eventlog.log import EventLog
from eventlog.past import Past, Stretch
from eventlog.tasks import end_calls
from projections.folding.pipeline import Pipeline
from projections.folding.source import archived, read_on, types_of
from projections.projection import Projection


class Batch(NamedTuple):
    """Entries of the stream that were read together."""

    stretch: Stretch
    is_full: bool
    """Whether there is probably more behind them."""


NOTHING = Batch(Stretch([], START), is_full=False)


async def next_batch(
    log: EventLog, pipeline: Pipeline, partition: int, *, waits: bool = True
) -> Batch:
    """Return what is appended after the pipeline's position within a second, or what was already."""
    reading = asyncio.create_task(
        _read(log, partition, pipeline.position, pipeline.batch_limit, waits=waits)
    )
    try:
        await asyncio.wait({reading})  # ends at once when cancelled, whatever the call does
        return reading.result()
    finally:
        await end_calls(reading)


async def fold_on(
    log: EventLog, pipeline: Pipeline, partition: int, batch: Batch, most_batches: int
) -> Batch:
    """Fold up to `most_batches`; return what was read but not folded. All before it is committed.

    What is behind a full batch is read while that one is folded and the one before is committed.
    """
    for _ in range(most_batches):
        reading: asyncio.Task[Batch] | None = None
        try:
            if batch.is_full:
                after, limit = batch.stretch.end, pipeline.batch_limit
                reading = asyncio.create_task(_read(log, partition, after, limit, waits=False))
            await pipeline.put(batch.stretch)
            batch = await pipeline.until(reading) if reading else NOTHING
        finally:
            await end_calls(reading)
        if not batch.stretch.entries:
            break
    await pipeline.flush()
    return batch


async def fold_until(
    log: EventLog,
    past: Past | None,
    pipeline: Pipeline,
    projection: Projection,
    partition: int,
    until: EntryId,
) -> None:
    """Fold everything up to and with `until`, from the archive as far as it goes; all is committed.

    Raises HistoryGap where an entry is neither there nor in the log.
    """
    types = types_of(log, projection)
    old = archived(log, past, partition, pipeline.position, until, types)
    async with aclosing(old) as stretches:
        async for stretch in stretches:
            await pipeline.put(stretch, in_stream=False)
    while pipeline.position < until:
        entries = await log.read_raw(partition, pipeline.position, pipeline.batch_limit, until)
        await pipeline.put(Stretch(entries, entries[-1].id if entries else until))
    await pipeline.flush()


async def _read(log: EventLog, partition: int, after: EntryId, limit: int, *, waits: bool) -> Batch:
    entries = await read_on(log, partition, after, limit, waits=waits)
    if not entries:
        return NOTHING
    return Batch(Stretch(entries, entries[-1].id), is_full=len(entries) == limit)
