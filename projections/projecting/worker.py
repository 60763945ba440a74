"""One partition's projecting, for as long as its lease is held."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from eventlog.errors import ProjectionStopped
from eventlog.group import GroupReader
from eventlog.ids import START, EntryId
from eventlog.lease import Lease
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.past import Past
from eventlog.tasks import end
from projections.folding.following import NOTHING, fold_on, fold_until, next_batch
from projections.folding.leaving import leaving_of
from projections.folding.letters import GROUP
from projections.folding.pipeline import BATCH_ENTRIES, BeginAnew, Pipeline
from projections.folding.target import Target
from projections.projecting.status import lowest_position
from projections.projection import Projection
from projections.storing.build import Build, Shelf
from projections.storing.store import ModelStore

TURN_BATCHES = 4
"""Batches that a partition with a backlog folds before others have their turn."""

TURNS_AT_ONCE = 2
"""Partitions of a process that are folding or committing: one folds while the others wait for the
server. More of them crowd each other out of the processor's cache, which measured a third more time
with eight."""

LOOK_INTERVAL_S = 0.5
"""How often a partition's worker looks whether other builds serve than those it folds, and whether
the log still has what they have."""

ANEW_AFTER_S = 0.02
"""Before a worker begins anew: two writers that are in each other's way are not to spin."""

NEAR_ENTRIES = 4 * BATCH_ENTRIES
"""A model that is behind the others by less catches up while they wait, which takes no time that
anybody notices; one further behind does so beside them."""


_log = get_logger("projector")


class Work(NamedTuple):
    """What the partitions of a process have in common."""

    log: EventLog
    store: ModelStore
    turns: asyncio.Semaphore
    past: Past | None = None


def targets_on(shelf: Shelf, projections: Sequence[Projection]) -> list[Target]:
    """Return the builds on a shelf that these projections keep up to date. Pure.

    One that is being rolled back to is its builder's.
    """
    found = []
    for projection in projections:
        role = shelf.role_of(projection.name, projection.version)
        if role is not None:
            build = shelf.builds[projection.name, role]
            if build != shelf.get(projection.name, "building"):
                found.append(Target(projection, build, role))
    return found


class Listener(Protocol):
    """Who is told how the projecting of a partition goes."""

    def on_commit(self, position: EntryId, count: int) -> None:
        """All models have reached a position, which took that many entries."""

    def on_stop(self, stopped: ProjectionStopped) -> None:
        """A projection stopped at a poison entry; the others go on."""


async def project_partition(
    work: Work, projections: Sequence[Projection], lease: Lease, listener: Listener
) -> None:
    """Fold the partition into the builds that serve, from where they stand, until cancelled.

    All go on together. One that is far behind the others, having been rolled back to, catches up
    beside them first; one that stops at a poison entry stays behind. Work is done in turns, which
    the partitions of a process share. Raises Fenced, HistoryGap, LogUnavailable; whoever calls again
    continues exactly there.
    """
    going = list(projections)
    while True:
        shelf = await _claimed(work, projections, lease.partition)
        targets = targets_on(shelf, going)
        changed = asyncio.create_task(_changed(work, going, lease.partition, targets))
        projecting = asyncio.create_task(_project(work, shelf, targets, lease, listener))
        try:
            await asyncio.wait({changed, projecting}, return_when=asyncio.FIRST_COMPLETED)
            for task in (projecting, changed):
                if task.done():
                    task.result()
        except BeginAnew as reason:
            _log.info("began_anew", partition=lease.partition, reason=str(reason))
            await work.log.clock.sleep(ANEW_AFTER_S)
        except ProjectionStopped as stopped:
            going = [each for each in going if each.model != stopped.model]
            listener.on_stop(stopped)
        finally:
            await end(changed, projecting)


async def _changed(
    work: Work, projections: Sequence[Projection], partition: int, targets: Sequence[Target]
) -> None:
    """Return when the shelf names other builds to keep up to date than these.

    Raises HistoryGap when the log ends before what has been folded: it was put back to an older state.
    """
    reader = GroupReader(work.log, GROUP, partition)
    while targets_on(shelf := await work.store.shelf(partition), projections) == targets:
        await reader.check(max((shelf.checkpoint(t.build) for t in targets), default=START))
        await work.log.clock.sleep(LOOK_INTERVAL_S)


async def _claimed(work: Work, projections: Sequence[Projection], partition: int) -> Shelf:
    """Return the shelf; one that is empty gets a build of every projection, from the start.

    Where the log no longer reaches back to the start, they are to be built from the archive.
    """
    shelf = await work.store.shelf(partition)
    if not shelf.is_empty:
        return shelf
    now_us = work.log.clock.now_us()
    builds = [Build.begin(each.name, each.version, now_us) for each in projections]
    head = (await work.log.heads())[partition]
    oldest = await work.log.read_raw(partition, START, 1)
    is_trimmed = head > START and (not oldest or oldest[0].id.n > 1)
    if work.past is not None and is_trimmed:
        for build in builds:
            await work.store.begin(partition, build)
    else:
        await work.store.claim(partition, builds)
    return await work.store.shelf(partition)


async def _project(
    work: Work, shelf: Shelf, targets: Sequence[Target], lease: Lease, listener: Listener
) -> None:
    """Project the targets that are near the front; return when those far behind are near as well."""
    if not targets:  # all are being built, or have stopped
        listener.on_commit(START, 0)
        await asyncio.Event().wait()
    position = max(shelf.checkpoint(target.build) for target in targets)
    near = [t for t in targets if position.n - shelf.checkpoint(t.build).n <= NEAR_ENTRIES]
    far = [t for t in targets if t not in near]
    lowest = min(position, lowest_position(shelf))
    await GroupReader(work.log, GROUP, lease.partition).ensure(position, lowest)
    for target in near:
        if (checkpoint := shelf.checkpoint(target.build)) < position:
            await _catch_up(work, target, lease, checkpoint, position)
    if not far:
        listener.on_commit(position, 0)
    following = asyncio.create_task(_follow(work, near, lease, position, listener))
    closing = [
        asyncio.create_task(_close_in(work, target, shelf.checkpoint(target.build), near[0], lease))
        for target in far
    ]
    try:
        await asyncio.wait({following, *closing}, return_when=asyncio.FIRST_COMPLETED)
        for task in (following, *closing):
            if task.done():
                task.result()
    finally:
        await end(following, *closing)


async def _close_in(
    work: Work, target: Target, checkpoint: EntryId, front: Target, lease: Lease
) -> None:
    """Bring a target up to where the front stands, again and again until that is near."""
    while True:
        until = (await work.store.shelf(lease.partition)).checkpoint(front.build)
        if until.n - checkpoint.n <= NEAR_ENTRIES:
            return
        await _catch_up(work, target, lease, checkpoint, until)
        checkpoint = until


async def _follow(
    work: Work,
    targets: Sequence[Target],
    lease: Lease,
    position: EntryId,
    listener: Listener,
) -> None:
    """Fold what the log has after `position`, and whatever comes, into all targets.

    In between, what is idle leaves them.
    """
    log, store, turns, past = work
    pipeline = Pipeline(log, store, targets, lease, position, listener.on_commit)
    leaving = leaving_of(log, store, past, pipeline)
    batch = NOTHING
    try:
        while True:
            while not batch.stretch.entries:
                if leaving is not None:
                    await leaving.step()
                is_idle = leaving is None or not leaving.is_busy
                batch = await next_batch(log, pipeline, lease.partition, waits=is_idle)
            async with turns:
                batch = await fold_on(log, pipeline, lease.partition, batch, TURN_BATCHES)
            if leaving is not None:
                await leaving.step()
    finally:
        await pipeline.abandon()


async def _catch_up(
    work: Work, target: Target, lease: Lease, checkpoint: EntryId, until: EntryId
) -> None:
    pipeline = Pipeline(work.log, work.store, [target], lease, checkpoint, moves_group=False)
    try:
        await fold_until(work.log, work.past, pipeline, target.projection, lease.partition, until)
    finally:
        await pipeline.abandon()
