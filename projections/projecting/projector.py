"""The projector: keeps all read models up to date, sharing partitions with its like by lease."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from eventlog.clock import Clock
from eventlog.errors import (
    ConfigurationError,
    EventLogError,
    HistoryGap,
    ProjectionStopped,
)
from eventlog.ids import START, EntryId
from eventlog.lease import Lease, LeaseKeeper
from eventlog.leased_work import Job, LeasedWork
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.past import Past
from eventlog.tasks import end
from projections.builtin import DEFAULT_PROJECTIONS
from projections.folding.letters import GROUP
from projections.projecting.reports import Report, Reports
from projections.projecting.status import PartitionStatus, RateMeter, lowest_position, models_on
from projections.projecting.tending import Tending
from projections.projecting.worker import TURNS_AT_ONCE, Work, project_partition
from projections.projection import Projection, check_projections
from projections.storing.default_store import default_store
from projections.storing.store import ModelStore

OTHERS_POLL_S = 0.05
"""How often a caller who waits for the end looks at partitions that others project."""

_log = get_logger("projector")


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
        self._leased = LeasedWork(log, self._keeper, Job(self._serve, self._fail, self._tell))
        self._progress: dict[int, _Progress] = {}
        self._moved = asyncio.Event()

    @property
    def owner(self) -> str:
        """This projector's name among the group's members."""
        return self._keeper.owner

    async def run(self, stop: asyncio.Event) -> None:
        """Project until `stop` is set, then give every lease back.

        An unreachable server and a gap in history are reported by `status` and the log, and tried
        again; what is in hand is never lost by it.
        """
        await self._leased.run(stop, self._tending.run)

    async def run_until_caught_up(self) -> None:
        """Project until every model has all that is in the log at the time of the call.

        What other projectors hold, and this one where it runs already, is waited for. Raises
        HistoryGap, ProjectionStopped, ConfigurationError, and LogUnavailable where run would try
        again.
        """
        missing = {p: head for p, head in enumerate(await self._log.heads()) if head > START}
        stop = asyncio.Event()
        running: asyncio.Task[Any] = asyncio.create_task(
            stop.wait() if self._leased.is_running else self.run(stop)
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

    # --- the work on a partition ---------------------------------------------------------------

    async def _serve(self, lease: Lease, leaving: asyncio.Event) -> None:  # noqa: ARG002 - it is cancelled
        """Project one partition until cancelled: what is in hand then is read again."""
        progress = self._progress_of(lease.partition)
        progress.stopped.clear()
        try:
            await project_partition(self._work, self._projections, lease, progress)
        finally:
            progress.position = None

    def _fail(self, partition: int, error: EventLogError) -> None:
        self._progress_of(partition).fail(partition, error)

    async def _tell(self) -> None:
        """Tell others how the partitions here are getting on."""
        await self._reports.write({p: self._report(p) for p in self._keeper.held})

    def _progress_of(self, partition: int) -> _Progress:
        return self._progress.setdefault(partition, _Progress(self._log.clock, moved=self._moved))

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
            if partition not in self._leased.partitions or reached is None or reached >= head:
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
        pause = asyncio.create_task(self._log.clock.sleep(OTHERS_POLL_S))
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
