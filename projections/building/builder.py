"""Building a read model beside the one that serves, and swapping it in.

Builders of one model share the partitions by lease, as projectors do, but in a group of their own:
whoever serves goes on undisturbed, and a builder that dies is replaced where its build stands. A
build is folded from the archive as far as that goes, then from the log, and follows it until all
partitions have come near the end; then all are swapped in one step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import NamedTuple

from eventlog.errors import Fenced, LogUnavailable
from eventlog.ids import EntryId
from eventlog.lease import Lease, LeaseKeeper
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.past import Past
from eventlog.tasks import end
from projections.building.unknown_letters import UnknownLetters
from projections.folding.following import NOTHING, fold_on, next_batch
from projections.folding.leaving import leaving_of
from projections.folding.pipeline import BeginAnew, Pipeline
from projections.folding.source import archived, types_of
from projections.folding.target import Target
from projections.projection import Projection
from projections.storing.build import Build, Shelf
from projections.storing.default_store import default_store
from projections.storing.store import ModelStore

BATCH_ENTRIES = 4000
"""Entries per commit: nobody waits for a build's, and the more there are, the fewer documents are
written more than once."""

BATCHES_AT_ONCE = 1000
"""Batches folded without looking up: nobody waits for a turn."""

PASS_ENTRIES = 200_000
"""Entries of the archive folded before what is idle leaves the build: bounds what it takes of Redis
however long the archive is. What is left then leaves when the build serves."""

BEAT_S = 0.1
"""How often a builder looks for partitions to work on: a build is short, and who joins it is to have
a share at once."""

POLL_S = 0.05
"""How often a builder looks whether all have come to the end."""

UNREACHABLE_PAUSE_S = 0.5

NEAR_ENTRIES = 500
NEAR_POLLS = 1
"""Where more is appended all the time, builds need not stand at the very end to be swapped in: having
everything that was there at first, and near the end for that many looks in a row, will do. Projectors
take them on from there."""

_log = get_logger("builder")


class Progress(NamedTuple):
    """How far a build is, over all partitions."""

    done_count: int
    """Entries folded, or passed over because the projection is not shown them."""
    total_count: int
    """Entries in the log."""


class Builder:
    """Makes builds of one projection's version, as one of any number of builders of it."""

    def __init__(
        self,
        log: EventLog,
        projection: Projection,
        *,
        past: Past | None = None,
        store: ModelStore | None = None,
        owner: str | None = None,
    ) -> None:
        self._log = log
        self._projection = projection
        self._past = past
        self._store: ModelStore = store or default_store(log)
        self._keeper = LeaseKeeper(log, builders_of(projection), owner)
        self._tasks: dict[int, tuple[Lease, asyncio.Task[None]]] = {}
        self._moved = asyncio.Event()
        self._said = ""

    async def run(self, on_progress: Callable[[Progress], None] = lambda _: None) -> bool:
        """Return when no partition has a build of this version in the making any more.

        True where this builder swapped it in, False where there was none or another one did. Raises
        HistoryGap where entries are neither in the archive nor in the log, and ProjectionStopped; the
        build stays as it is, and whoever runs next resumes it. An unreachable server is waited for.
        """
        goal: list[EntryId] | None = None
        has_swapped, near_polls = False, 0
        beat = asyncio.create_task(self._beat())
        try:
            while True:
                try:
                    shelves, heads = await self._shelves(), await self._log.heads()
                    building = self._in_making(shelves)
                    if not building:
                        return has_swapped
                    on_progress(_progress(building, shelves, heads))
                    goal = goal or heads
                    is_near = not _longest_lag(building, shelves, goal)
                    lag_count = _longest_lag(building, shelves, heads)
                    near_polls = near_polls + 1 if is_near and lag_count <= NEAR_ENTRIES else 0
                    if lag_count == 0 or near_polls > NEAR_POLLS:
                        await self._store.swap(building)
                        has_swapped = True
                        continue
                    await self._share_out(building)
                except LogUnavailable as error:
                    self._say("build_interrupted", error)
                    await self._log.clock.sleep(UNREACHABLE_PAUSE_S)
                else:
                    self._said = ""
                    await self._wait(beat)
        finally:
            await end(beat, *(task for _, task in self._tasks.values()))
            self._tasks.clear()
            with suppress(LogUnavailable):  # leases that cannot be given back lapse by themselves
                await self._keeper.release_all()

    def _say(self, what: str, error: LogUnavailable) -> None:
        """Log a fault, once for as long as it lasts."""
        if not self._said:
            _log.warning(what, model=self._projection.model, error=str(error))
        self._said = str(error)

    async def _shelves(self) -> list[Shelf]:
        partitions = range(self._log.partition_count)
        return list(await asyncio.gather(*(self._store.shelf(p) for p in partitions)))

    def _in_making(self, shelves: list[Shelf]) -> dict[int, Build]:
        found = {p: shelf.get(self._projection.name, "building") for p, shelf in enumerate(shelves)}
        version = self._projection.version
        return {p: build for p, build in found.items() if build and build.version == version}

    async def _beat(self) -> None:
        """Keep this builder's share of the partitions."""
        while True:
            try:
                await self._keeper.refresh()
                self._moved.set()
            except LogUnavailable as error:
                self._say("lease_refresh_failed", error)
            await self._log.clock.sleep(min(BEAT_S, self._keeper.beat_s))

    async def _share_out(self, building: dict[int, Build]) -> None:
        """Start and stop work so that it is what is held and in the making."""
        held = self._keeper.held
        for partition, (lease, task) in list(self._tasks.items()):
            if held.get(partition) != lease or partition not in building or task.done():
                await end(task)
                del self._tasks[partition]
                if not task.cancelled():
                    _raise_unless_passing(task)
        for partition, lease in held.items():
            if partition in building and partition not in self._tasks:
                target = Target(self._projection, building[partition], "building")
                self._tasks[partition] = lease, asyncio.create_task(self._build(target, lease))

    async def _wait(self, beat: asyncio.Task[None]) -> None:
        """Return when there is something to look at."""
        self._moved.clear()
        pause = asyncio.create_task(self._log.clock.sleep(POLL_S))
        moved = asyncio.create_task(self._moved.wait())
        working = [task for _, task in self._tasks.values()]
        try:
            await asyncio.wait({pause, moved, beat, *working}, return_when=asyncio.FIRST_COMPLETED)
            if beat.done():
                beat.result()
        finally:
            await end(pause, moved)

    async def _build(self, target: Target, lease: Lease) -> None:
        """Fold one partition into its build and follow the log, until cancelled or superseded."""
        log, partition = self._log, lease.partition
        checkpoint = (await self._store.shelf(partition)).checkpoint(target.build)
        pipeline = Pipeline(
            log,
            self._store,
            [target],
            lease,
            checkpoint,
            moves_group=False,
            parks=UnknownLetters(log, self._store),
            batch_entries=BATCH_ENTRIES,
        )
        try:
            types = types_of(log, target.projection)
            old = archived(log, self._past, partition, checkpoint, None, types)
            leaving = leaving_of(log, self._store, self._past, pipeline)
            passed = pipeline.position.n
            async with aclosing(old) as stretches:
                async for stretch in stretches:
                    await pipeline.put(stretch, in_stream=False)
                    if leaving is not None and pipeline.position.n - passed >= PASS_ENTRIES:
                        await leaving.whole_pass()
                        passed = pipeline.position.n
            batch = NOTHING
            while True:
                while not batch.stretch.entries:
                    await pipeline.flush()
                    self._moved.set()
                    batch = await next_batch(log, pipeline, partition)
                batch = await fold_on(log, pipeline, partition, batch, BATCHES_AT_ONCE)
        finally:
            await pipeline.abandon()


def builders_of(projection: Projection) -> str:
    """Return the group of a model's builders."""
    return f"build:{projection.model}"


def _raise_unless_passing(task: asyncio.Task[None]) -> None:
    """Raise what ended a task, unless trying again is all it takes."""
    error = task.exception()
    if isinstance(error, Fenced | BeginAnew | LogUnavailable):
        _log.info("build_interrupted", error=str(error))
    elif error is not None:
        raise error


def _longest_lag(building: dict[int, Build], shelves: list[Shelf], heads: list[EntryId]) -> int:
    lags = (heads[p].n - shelves[p].checkpoint(build).n for p, build in building.items())
    return max(0, *lags)


def _progress(building: dict[int, Build], shelves: list[Shelf], heads: list[EntryId]) -> Progress:
    reached = (
        shelves[p].checkpoint(building[p]).n if p in building else head.n
        for p, head in enumerate(heads)
    )
    return Progress(sum(reached), sum(head.n for head in heads))
