"""The projector: keeps all read models up to date, sharing partitions with its like by lease."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from eventlog.clock import Clock
from eventlog.errors import (
    ConfigurationError,
    EventLogError,
    Fenced,
    HistoryGap,
    LogUnavailable,
    ProjectionStopped,
)
from eventlog.ids import START, EntryId
from eventlog.lease import Lease, LeaseKeeper
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.past import Past
from projections.builtin import DEFAULT_PROJECTIONS
from projections.folding.letters import GROUP
from projections.projecting.reports import Report, Reports
from projections.projecting.status import PartitionStatus, RateMeter, lowest_position, models_on
from projections.projecting.tending import Tending
from projections.projecting.worker import TURNS_AT_ONCE, Work, project_partition
from projections.projection import Projection, check_projections
from projections.storing.default_store import default_store
from projections.storing.store import ModelStore
from projections.tasks import end

RETRY_FIRST_S = 0.1
RETRY_LONGEST_S = 5.0
OTHERS_POLL_S = 0.05
"""How often a caller who waits for the end looks at partitions that others project."""

_log = get_logger("projector")


@dataclass
class _Assignment:
    """A partition that this process projects."""

    lease: Lease
    task: asyncio.Task[None]


@dataclass
class _Progress:
    """What this process knows of a partition; outlives its leases."""

    clock: Clock
    position: EntryId | None = None
    """Reached by all models; None until they stand together."""
    rate: RateMeter = field(default_factory=RateMeter)
    error: EventLogError | None = None
    stopped: dict[str, ProjectionStopped] = field(default_factory=dict)
    """By model."""
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    def on_commit(self, position: EntryId, count: int) -> None:
        self.position = position
        self.error = None
        self.rate.add(self.clock.monotonic_s(), count)
        self.moved.set()

    def on_stop(self, stopped: ProjectionStopped) -> None:
        _log.error("projection_stopped", model=stopped.model, error=str(stopped))
        self.stopped[stopped.model] = stopped
        self.moved.set()

    def fail(self, partition: int, error: EventLogError) -> None:
        if str(error) != str(self.error):
            _log.warning("projecting_failed", partition=partition, error=str(error))
        self.error = error
        self.moved.set()

    @property
    def told_error(self) -> EventLogError | None:
        """What a person should know of."""
        return self.error or next(iter(self.stopped.values()), None)


class Projector:
    """Folds the log into every read model. Run as many as you like, in one process or several.

    The live projectors share the partitions; one that dies is replaced when its leases lapse
    (`settings.lease_ttl_ms`), and nothing it has in hand can be committed any more. A projection
    that is new to a log with a history is built beside the others, from the archive where `past`
    gives it, and joins them when it has caught up.

    >>> projector = Projector(log)
    >>> await projector.run(stop)
    """

    def __init__(
        self,
        log: EventLog,
        projections: Sequence[Projection] = DEFAULT_PROJECTIONS,
        owner: str | None = None,
        *,
        past: Past | None = None,
        store: ModelStore | None = None,
    ) -> None:
        check_projections(projections)
        self._log = log
        self._projections = tuple(projections)
        self._store: ModelStore = store or default_store(log)
        self._keeper = LeaseKeeper(log, GROUP, owner)
        self._reports = Reports(log)
        self._tending = Tending(log, self._projections, self._store, past)
        self._work = Work(log, self._store, asyncio.Semaphore(TURNS_AT_ONCE), past)
        self._assignments: dict[int, _Assignment] = {}
        self._progress: dict[int, _Progress] = {}
        self._moved = asyncio.Event()
        self._is_running = False

    @property
    def owner(self) -> str:
        """This projector's name among the group's members."""
        return self._keeper.owner

    async def run(self, stop: asyncio.Event) -> None:
        """Project until `stop` is set, then give every lease back.

        An unreachable server and a gap in history are reported by `status` and the log, and tried
        again; what is in hand is never lost by it.
        """
        if self._is_running:
            raise EventLogError("this projector is running already.", remedy="Make another one.")
        self._is_running = True
        stopping = asyncio.create_task(stop.wait())
        tending = asyncio.create_task(self._tending.run())
        try:
            while not stop.is_set():
                await self._refresh()
                beat = asyncio.create_task(self._sleep(self._keeper.beat_s))
                try:
                    await self._watch(stopping, beat, tending)
                finally:
                    await end(beat)
        finally:
            self._is_running = False
            working = (each.task for each in self._assignments.values())
            await end(stopping, tending, *working)
            self._assignments.clear()
            with suppress(LogUnavailable):  # leases that cannot be given back lapse by themselves
                await self._keeper.release_all()

    async def run_until_caught_up(self) -> None:
        """Project until every model has all that is in the log at the time of the call.

        What other projectors hold, and this one where it runs already, is waited for. Raises
        HistoryGap, ProjectionStopped, ConfigurationError, and LogUnavailable where run would try
        again.
        """
        missing = {p: head for p, head in enumerate(await self._log.heads()) if head > START}
        stop = asyncio.Event()
        running: asyncio.Task[Any] = asyncio.create_task(
            stop.wait() if self._is_running else self.run(stop)
        )
        try:
            while missing and not running.done():
                await self._forget_reached(missing)
                if missing:
                    await self._next_move(running)
        finally:
            stop.set()
            await running

    async def status(self) -> list[PartitionStatus]:
        """Return how far each partition is, those of other processes included."""
        heads = await self._log.heads()
        reads = (self._partition_status(p, head) for p, head in enumerate(heads))
        return list(await asyncio.gather(*reads))

    # --- leases and the tasks that work under them ---------------------------------------------

    async def _refresh(self) -> None:
        """Renew and take leases; start and stop work accordingly."""
        try:
            await self._keeper.refresh()
            reports = {partition: self._report(partition) for partition in self._keeper.held}
            await self._reports.write(reports)
        except LogUnavailable as error:
            # The leases held are kept for now: should they lapse, their work is fenced.
            _log.warning("lease_refresh_failed", error=str(error))
            with suppress(LogUnavailable):
                await self._log.heads()  # brings a dead embedded server back
            return
        held = self._keeper.held
        for partition, assignment in list(self._assignments.items()):
            if held.get(partition) != assignment.lease or assignment.task.done():
                await self._withdraw(partition)
        for partition, lease in held.items():
            if partition not in self._assignments:
                task = asyncio.create_task(self._serve(lease))
                self._assignments[partition] = _Assignment(lease, task)

    async def _withdraw(self, partition: int) -> None:
        await end(self._assignments.pop(partition).task)

    async def _watch(
        self, stopping: asyncio.Task[bool], beat: asyncio.Task[None], tending: asyncio.Task[None]
    ) -> None:
        """Return at the next beat or stop; raise what a task could not handle."""
        working = [tending, *(assignment.task for assignment in self._assignments.values())]
        while not (stopping.done() or beat.done()):
            await asyncio.wait({stopping, beat, *working}, return_when=asyncio.FIRST_COMPLETED)
            for task in working:
                if task.done():
                    task.result()
            working = [task for task in working if not task.done()]

    async def _serve(self, lease: Lease) -> None:
        """Project one partition, beginning anew after faults, until its lease is lost."""
        progress = self._progress_of(lease.partition)
        progress.stopped.clear()
        delay_s = RETRY_FIRST_S
        while True:
            started_s = self._log.clock.monotonic_s()
            try:
                await project_partition(self._work, self._projections, lease, progress)
            except Fenced:
                _log.info("lease_lost", partition=lease.partition, generation=lease.generation)
                return
            except EventLogError as error:
                progress.fail(lease.partition, error)
            finally:
                progress.position = None
            if self._log.clock.monotonic_s() - started_s > RETRY_LONGEST_S:
                delay_s = RETRY_FIRST_S
            await self._sleep(delay_s)
            delay_s = min(2 * delay_s, RETRY_LONGEST_S)

    def _progress_of(self, partition: int) -> _Progress:
        return self._progress.setdefault(partition, _Progress(self._log.clock, moved=self._moved))

    async def _sleep(self, duration_s: float) -> None:
        await self._log.clock.sleep(duration_s)

    # --- waiting for the end -------------------------------------------------------------------

    async def _forget_reached(self, missing: dict[int, EntryId]) -> None:
        for failed in self._tending.errors.values():
            if isinstance(failed, HistoryGap | ConfigurationError | ProjectionStopped):
                raise failed
        for partition, head in list(missing.items()):
            error = self._progress_of(partition).told_error
            if isinstance(error, HistoryGap | ConfigurationError | ProjectionStopped):
                raise error
            reached = self._progress_of(partition).position
            if partition not in self._assignments or reached is None or reached >= head:
                # Asked of the store, since another owner's progress, and whether a projection that
                # is new to this log has been built, is known there.
                reached = await self._reached(partition)
            if reached and reached >= head:
                del missing[partition]

    async def _reached(self, partition: int) -> EntryId:
        """Return how far all of this projector's models are in a partition."""
        shelf = await self._store.shelf(partition)
        builds = [shelf.readable(each.name, each.version) for each in self._projections]
        return min(shelf.checkpoint(build) if build else START for build in builds)

    async def _next_move(self, running: asyncio.Task[Any]) -> None:
        """Return when a commit was made here, or it is time to look at the others."""
        self._moved.clear()
        moved = asyncio.create_task(self._moved.wait())
        pause = asyncio.create_task(self._sleep(OTHERS_POLL_S))
        try:
            await asyncio.wait({moved, pause, running}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(moved, pause)

    # --- status ----------------------------------------------------------------------------------

    async def _partition_status(self, partition: int, head: EntryId) -> PartitionStatus:
        shelf = await self._store.shelf(partition)
        position = lowest_position(shelf)
        following = []
        if position < head:
            following = await self._log.read_raw(partition, position, 1)
        now_ms = self._log.clock.now_us() // 1000
        owner = await self._keeper.owner_of(partition)
        is_ours = owner == self.owner or (owner is None and partition in self._progress)
        report = self._report(partition) if is_ours else await self._reports.read(partition)
        return PartitionStatus(
            partition=partition,
            head=head,
            models=models_on(shelf, head, (each.name for each in self._projections)),
            lag_count=max(0, head.n - position.n),
            oldest_age_ms=max(0, now_ms - following[0].id.ms) if following else 0,
            owner=owner,
            rate_per_s=report.rate_per_s if report else 0.0,
            last_error=report.error if report else None,
        )

    def _report(self, partition: int) -> Report:
        progress = self._progress_of(partition)
        rate_per_s = progress.rate.per_second(self._log.clock.monotonic_s())
        error = progress.told_error or next(iter(self._tending.errors.values()), None)
        return Report(rate_per_s, str(error) if error else None)
