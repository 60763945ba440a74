"""The composition root: the one place where log, read models, archive and workers meet."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from analytics.archiver import Archiver, Rolling
from analytics.compaction import GRACE_S, Compactor
from analytics.copiers import Copiers
from analytics.opening import storage_of
from analytics.past import ArchivedPast
from analytics.reports import Reports
from analytics.retention import Policy
from analytics.sandbox.sandbox import Sandbox
from analytics.trimmer import Retention
from analytics.warehouse import Warehouse
from bridge import Bridge
from consumers.sweeper import IdleSession, IdleSweeper
from eventlog.errors import EventLogError
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.measures import Measures
from eventlog.settings import Settings
from projections.builtin import DEFAULT_PROJECTIONS
from projections.projecting.projector import Projector
from projections.projection import Projection
from projections.registry import event_types_of
from projections.views.sessions import Sessions

SWEEP_INTERVAL_S = 30.0

WAITING_SHARE = 4
"""A fourth of the memory budget may wait to be archived."""

MAX_ARCHIVE_PROCESSES = 4
"""Where the settings name no number: each takes up to 230 MB, and a backlog is rare."""

_log = get_logger("service")


def new_archiver(log: EventLog, copiers: Copiers | None = None) -> Archiver:
    """Return an archiver of the log into the archive its settings name."""
    storage = storage_of(log.settings, clock=log.clock)
    return Archiver(log, storage, rolling=rolling_within(log), copiers=copiers)


def rolling_within(log: EventLog) -> Rolling:
    """Return when segments are due, so that retention can keep to its budget: what waits stays."""
    budget_bytes = log.settings.retention_memory_bytes
    if budget_bytes is None:
        return Rolling()
    share_bytes = budget_bytes // (WAITING_SHARE * log.partition_count)
    return Rolling(bytes=min(Rolling().bytes, share_bytes))


def new_compactor(log: EventLog, grace_s: float = GRACE_S) -> Compactor:
    """Return a compactor of the log's archive, with the rules of its settings."""
    return Compactor(log, storage_of(log.settings, clock=log.clock), grace_s=grace_s)


def new_past(log: EventLog) -> ArchivedPast:
    """Return what the log's archive holds, for whoever needs entries that left the log."""
    return ArchivedPast(storage_of(log.settings, clock=log.clock))


def new_retention(log: EventLog, policy: Policy | None = None) -> Retention:
    """Return what trims the log as its settings say, once it is archived and read by everybody."""
    return Retention(log, storage_of(log.settings, clock=log.clock), policy)


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


class Service:
    """What the HTTP API calls: a bridge on a log, and what is asked about both."""

    def __init__(
        self, bridge: Bridge, projections: Sequence[Projection] = DEFAULT_PROJECTIONS
    ) -> None:
        self.bridge = bridge
        self.log = bridge.log
        self.settings = bridge.log.settings
        self.projections = tuple(projections)
        self.past = new_past(self.log)
        self.projector = Projector(self.log, projections, past=self.past)
        self.reports = Reports([self.settings.reports_path])
        self.is_stopping = False
        self._opened = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._sandbox: Sandbox | None = None
        self._warehouse: Warehouse | None = None

    async def is_ready(self) -> bool:
        """Return whether the log answers; never raises."""
        return await self.log.ping()

    async def sandbox(self) -> Sandbox:
        """Return the sandbox for SQL that comes from outside, opened at the first call."""
        async with self._opening:
            if self._sandbox is None:
                self._sandbox = await self._opened.enter_async_context(open_sandbox(self.log))
            return self._sandbox

    async def warehouse(self) -> Warehouse:
        """Return the warehouse for reports, opened at the first call."""
        async with self._opening:
            if self._warehouse is None:
                self._warehouse = await self._opened.enter_async_context(open_warehouse(self.log))
            return self._warehouse

    async def close(self) -> None:
        """Close what was opened here; idempotent."""
        await self._opened.aclose()


@asynccontextmanager
async def open_service(
    settings: Settings,
    projections: Sequence[Projection] = DEFAULT_PROJECTIONS,
    measures: Measures | None = None,
) -> AsyncIterator[Service]:
    """Give what the HTTP API calls, on a log of its own. Raises as `EventLog.open`.

    It projects nothing: `Workers` do, in whatever process. What is done is counted in `measures`.
    """
    log = open_log(settings, projections)
    log.measures = measures or log.measures
    bridge = Bridge(log, projections=None)
    async with bridge:
        service = Service(bridge, projections)
        try:
            yield service
        finally:
            await service.close()
