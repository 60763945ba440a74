"""The composition root: the one place where log, read models, archive and workers meet."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress

from analytics.archiver import Archiver
from analytics.compaction import GRACE_S, Compactor
from analytics.copiers import Copiers
from analytics.opening import storage_of
from analytics.past import ArchivedPast
from analytics.sandbox.sandbox import Sandbox
from analytics.trimmer import Retention
from analytics.warehouse import Warehouse
from consumers.sweeper import IdleSession, IdleSweeper
from eventlog.errors import EventLogError
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.settings import Settings
from projections.builtin import DEFAULT_PROJECTIONS
from projections.projecting.projector import Projector
from projections.projection import Projection
from projections.registry import event_types_of
from projections.views.sessions import Sessions

SWEEP_INTERVAL_S = 30.0

MAX_ARCHIVE_PROCESSES = 4
"""Where the settings name no number: each takes up to 230 MB, and a backlog is rare."""

_log = get_logger("service")


def new_archiver(log: EventLog, copiers: Copiers | None = None) -> Archiver:
    """Return an archiver of the log into the archive its settings name."""
    return Archiver(log, storage_of(log.settings, clock=log.clock), copiers=copiers)


def new_compactor(log: EventLog, grace_s: float = GRACE_S) -> Compactor:
    """Return a compactor of the log's archive, with the rules of its settings."""
    return Compactor(log, storage_of(log.settings, clock=log.clock), grace_s=grace_s)


def new_past(log: EventLog) -> ArchivedPast:
    """Return what the log's archive holds, for whoever needs entries that left the log."""
    return ArchivedPast(storage_of(log.settings, clock=log.clock))


def new_retention(log: EventLog) -> Retention:
    """Return what trims the log as its settings say, once it is archived and read by everybody."""
    return Retention(log, storage_of(log.settings, clock=log.clock))


def open_log(settings: Settings, projections: Iterable[Projection]) -> EventLog:
    """Return the log, not yet open, that knows the event types of these projections as well."""
    return EventLog.open(settings=settings, types=event_types_of(projections))


def new_copiers(settings: Settings) -> Copiers:
    """Return what copies a backlog on as many cores as the settings allow."""
    if settings.archive_process_count is not None:
        return Copiers(settings.archive_process_count)
    return Copiers(min(MAX_ARCHIVE_PROCESSES, os.cpu_count() or 1))


@asynccontextmanager
async def open_archiver(log: EventLog) -> AsyncIterator[Archiver]:
    """Give an archiver that copies a backlog in processes."""
    async with new_copiers(log.settings) as copiers, new_archiver(log, copiers) as archiver:
        yield archiver


@asynccontextmanager
async def open_warehouse(log: EventLog, *, skip_damaged: bool = False) -> AsyncIterator[Warehouse]:
    """Give a warehouse over the log and its archive."""
    warehouse = await Warehouse.open(log, skip_damaged=skip_damaged)
    try:
        yield warehouse
    finally:
        await warehouse.close()


@asynccontextmanager
async def open_sandbox(log: EventLog, *, spare_count: int = 1) -> AsyncIterator[Sandbox]:
    """Give a sandbox for untrusted SQL over the log and its archive."""
    async with Sandbox(
        log, storage_of(log.settings, clock=log.clock), spare_count=spare_count
    ) as sandbox:
        yield sandbox


def new_sweeper(log: EventLog) -> IdleSweeper:
    """Return a sweeper that finds idle sessions in the sessions view."""
    sessions = Sessions(log)

    async def find_idle(before_us: int, limit: int) -> list[IdleSession]:
        idle = await sessions.idle(before_us, limit=limit)
        return [IdleSession(each.id, each.conversation, each.version) for each in idle]

    return IdleSweeper(log, find_idle)


class Workers:
    """Projector, archiver, compactor, sweeper and retention in one process."""

    def __init__(
        self, log: EventLog, projections: Sequence[Projection] = DEFAULT_PROJECTIONS
    ) -> None:
        self.log = log
        self.projector = Projector(log, projections, past=new_past(log))
        self.copiers = new_copiers(log.settings)
        self.archiver = new_archiver(log, self.copiers)
        self.compactor = new_compactor(log)
        self.sweeper = new_sweeper(log)
        self.retention = new_retention(log)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then hand everything back.

        A fault that a worker could not handle stops all, and is raised as it is.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                works = (
                    self.projector.run, self.archiver.run, self.compactor.run, self._sweep,
                    self.retention.run,
                )  # fmt: skip
                for work in works:
                    tasks.create_task(self._until_stopped(work, stop))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            with suppress(EventLogError):  # the server may be gone: leases then lapse
                await self.archiver.close()
            await self.copiers.close()

    @staticmethod
    async def _until_stopped(
        work: Callable[[asyncio.Event], Awaitable[None]], stop: asyncio.Event
    ) -> None:
        try:
            await work(stop)
        finally:
            stop.set()

    async def _sweep(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                count = await self.sweeper.run_once()
                if count:
                    _log.info("sessions_dormant", count=count)
            except EventLogError as error:
                _log.warning("sweep_failed", error=str(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), SWEEP_INTERVAL_S)
