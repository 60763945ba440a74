"""The projector: keeps all read models up to date, sharing partitions with its like by lease."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from eventlog.connection import in_our_words
from eventlog.errors import ConfigurationError, EventLogError, Fenced, HistoryGap, LogUnavailable
from eventlog.ids import START, EntryId
from eventlog.lease import Lease, LeaseKeeper
from eventlog.log import EventLog
from eventlog.logs import get_logger
from projections.builtin import DEFAULT_PROJECTIONS
from projections.default_store import default_store
from projections.letters import GROUP
from projections.projection import Projection
from projections.status import PartitionStatus, RateMeter
from projections.store import ModelStore
from projections.tasks import end
from projections.worker import TURNS_AT_ONCE, project_partition

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

    position: EntryId | None = None
    """Reached by all models; None until they stand together."""
    rate: RateMeter = field(default_factory=RateMeter)
    error: EventLogError | None = None


class Projector:
    """Folds the log into every read model. Run as many as you like, in one process or several.

    Partitions are dealt to the live projectors; one that dies is replaced when its leases lapse
    (`settings.lease_ttl_ms`), and nothing it has in hand can be committed any more.

    >>> projector = Projector(log)
    >>> await projector.run(stop)
    """

    def __init__(
        self,
        log: EventLog,
        projections: Sequence[Projection] = DEFAULT_PROJECTIONS,
        owner: str | None = None,
        *,
        store: ModelStore | None = None,
    ) -> None:
        models = [projection.model for projection in projections]
        if not models or len(set(models)) != len(models):
            raise ConfigurationError(
                f"projections are {', '.join(models) or 'none'}.",
                remedy="Give at least one, each with a name and version of its own.",
            )
        self._log = log
        self._projections = tuple(projections)
        self._models = models
        self._store: ModelStore = store or default_store(log)
        self._keeper = LeaseKeeper(log, GROUP, owner)
        self._assignments: dict[int, _Assignment] = {}
        self._progress: dict[int, _Progress] = {}
        self._moved = asyncio.Event()
        self._turns = asyncio.Semaphore(TURNS_AT_ONCE)
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
        try:
            while not stop.is_set():
                await self._refresh()
                beat = asyncio.create_task(self._sleep(self._log.settings.lease_ttl_ms / 3000))
                try:
                    await self._watch(stopping, beat)
                finally:
                    await end(beat)
        finally:
            self._is_running = False
            await end(stopping, *(each.task for each in self._assignments.values()))
            self._assignments.clear()
            with suppress(LogUnavailable):  # leases that cannot be given back lapse by themselves
                await self._keeper.release_all()

    async def run_until_caught_up(self) -> None:
        """Project until every model has all that is in the log at the time of the call.

        What other projectors hold, and this one where it runs already, is waited for. Raises HistoryGap, ConfigurationError, and
        LogUnavailable where run would try again.
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

    async def _watch(self, stopping: asyncio.Task[bool], beat: asyncio.Task[None]) -> None:
        """Return at the next beat or stop; raise what a task could not handle."""
        working = [assignment.task for assignment in self._assignments.values()]
        while not (stopping.done() or beat.done()):
            await asyncio.wait({stopping, beat, *working}, return_when=asyncio.FIRST_COMPLETED)
            for task in working:
                if task.done():
                    task.result()
            working = [task for task in working if not task.done()]

    async def _serve(self, lease: Lease) -> None:
        """Project one partition, beginning anew after faults, until its lease is lost."""
        progress = self._progress.setdefault(lease.partition, _Progress())
        delay_s = RETRY_FIRST_S
        while True:
            started_s = self._log.clock.monotonic_s()
            try:
                await project_partition(
                    self._log,
                    self._store,
                    self._projections,
                    lease,
                    self._turns,
                    lambda position, count: self._on_commit(progress, position, count),
                )
            except Fenced:
                _log.info("lease_lost", partition=lease.partition, generation=lease.generation)
                return
            except EventLogError as error:
                if str(error) != str(progress.error):
                    _log.warning("projecting_failed", partition=lease.partition, error=str(error))
                progress.error = error
                self._moved.set()
            finally:
                progress.position = None
            if self._log.clock.monotonic_s() - started_s > RETRY_LONGEST_S:
                delay_s = RETRY_FIRST_S
            await self._sleep(delay_s)
            delay_s = min(2 * delay_s, RETRY_LONGEST_S)

    def _on_commit(self, progress: _Progress, position: EntryId, count: int) -> None:
        progress.position = position
        progress.error = None
        progress.rate.add(self._log.clock.monotonic_s(), count)
        self._moved.set()

    async def _sleep(self, duration_s: float) -> None:
        await self._log.clock.sleep(duration_s)

    # --- waiting for the end -------------------------------------------------------------------

    async def _forget_reached(self, missing: dict[int, EntryId]) -> None:
        for partition, head in list(missing.items()):
            progress = self._progress.get(partition)
            if progress and isinstance(progress.error, HistoryGap | ConfigurationError):
                raise progress.error
            if partition in self._assignments:
                reached = progress and progress.position
            else:
                reached = min(await self._store.checkpoints(partition, self._models))
            if reached and reached >= head:
                del missing[partition]

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
        checkpoints = await self._store.checkpoints(partition, self._models)
        position = min(checkpoints)
        now_ms = self._log.clock.now_us() // 1000
        following = []
        if position < head:
            following = await self._log.read_raw(partition, position, 1)
        progress = self._progress.get(partition, _Progress())
        return PartitionStatus(
            partition=partition,
            head=head,
            checkpoints=dict(zip(self._models, checkpoints, strict=True)),
            lag_count=max(0, head.n - position.n),
            oldest_age_ms=max(0, now_ms - following[0].id.ms) if following else 0,
            owner=await self._owner_of(partition, now_ms),
            rate_per_s=progress.rate.per_second(self._log.clock.monotonic_s()),
            last_error=str(progress.error) if progress.error else None,
        )

    async def _owner_of(self, partition: int, now_ms: int) -> str | None:
        key = self._log.keys.lease(partition, GROUP)
        with in_our_words(self._log.settings):
            command = "HMGET", key, "owner", "expires_ms"
            owner, expires_ms = await self._log.client.execute_command(*command)
        return owner.decode() if owner and int(expires_ms) > now_ms else None
