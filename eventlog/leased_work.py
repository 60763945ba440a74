"""Work on the partitions of a group, shared with its like by lease: one task for each that is held."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from eventlog.errors import EventLogError, Fenced, LogUnavailable
from eventlog.lease import Lease, LeaseKeeper
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.tasks import end

RETRY_FIRST_S = 0.1
RETRY_LONGEST_S = 5.0

_log = get_logger("leases")


class Job(NamedTuple):
    """What is done with a partition."""

    serve: Callable[[Lease, asyncio.Event], Awaitable[None]]
    """Works on a partition until the event is set, at most until it is cancelled. Called again after
    every error of the product but Fenced, by which the work ends."""
    fail: Callable[[int, EventLogError], None]
    """Takes note of a partition's fault that will be tried again."""
    beat: Callable[[], Awaitable[None]]
    """Does what is to be done after each renewal of the leases."""


class _Assignment(NamedTuple):
    """A partition at work."""

    lease: Lease
    task: asyncio.Task[None]
    leaving: asyncio.Event


class LeasedWork:
    """Keeps a task at work on each partition that this process holds.

    Partitions are taken and handed over as members come and go. Work that is to end has `grace_s`
    to do so, during which its lease is renewed; then it is cancelled.
    """

    def __init__(self, log: EventLog, keeper: LeaseKeeper, job: Job, *, grace_s: float = 0) -> None:
        self._log = log
        self._keeper = keeper
        self._job = job
        self._grace_s = grace_s
        self._assignments: dict[int, _Assignment] = {}
        self._endings: dict[int, asyncio.Task[None]] = {}
        self.is_running = False

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions at work here."""
        return frozenset(self._assignments)

    async def run(
        self, stop: asyncio.Event, *others: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Work until `stop` is set, then give every lease back.

        `others` run beside it. An error of theirs, or one of the work that is not the product's, ends
        the run and is raised.
        """
        if self.is_running:
            raise EventLogError("this worker is running already.", remedy="Make another one.")
        self.is_running = True
        stopping = asyncio.create_task(stop.wait())
        beside = [asyncio.create_task(other()) for other in others]
        try:
            while not stop.is_set():
                await self._refresh()
                await self._until_next_beat(stopping, beside)
            await self._leave(beside)
        finally:
            self.is_running = False
            working = (each.task for each in self._assignments.values())
            await end(stopping, *beside, *self._endings.values(), *working)
            self._assignments.clear()
            self._endings.clear()
            with suppress(LogUnavailable):  # leases that cannot be given back lapse by themselves
                await self._keeper.release_all()

    async def _leave(self, beside: Sequence[asyncio.Task[None]]) -> None:
        """Let all work end, renewing what is still at work meanwhile."""
        with suppress(LogUnavailable):
            await self._keeper.leave()
        for partition in list(self._assignments):
            self._hand_over(partition)
        while self._endings:
            ended = asyncio.create_task(asyncio.wait(set(self._endings.values())))
            try:
                await self._until_next_beat(ended, beside)
            finally:
                await end(ended)
            self._forget_ended()
            await self._told(self._keeper.renew)

    async def _until_next_beat(
        self, stopping: asyncio.Task[Any], beside: Sequence[asyncio.Task[None]]
    ) -> None:
        """Return at the next beat or when `stopping` is done; raise what a task could not handle."""
        beat = asyncio.create_task(self._log.clock.sleep(self._keeper.beat_s))
        watched: set[asyncio.Task[Any]] = {*beside, *self._endings.values()}
        watched |= {each.task for each in self._assignments.values()}
        try:
            while not (stopping.done() or beat.done()):
                await asyncio.wait({stopping, beat, *watched}, return_when=asyncio.FIRST_COMPLETED)
                done = {task for task in watched if task.done()}
                watched -= done
                for task in done:
                    if not task.cancelled():
                        task.result()
        finally:
            await end(beat)

    async def _refresh(self) -> None:
        """Renew and take leases; start and end work accordingly."""
        self._forget_ended()
        if not await self._told(self._renewed):
            return
        held = self._keeper.held
        for partition, assignment in list(self._assignments.items()):
            if held.get(partition) != assignment.lease or assignment.task.done():
                await end(self._assignments.pop(partition).task)
            elif partition in self._keeper.surplus:
                self._hand_over(partition)
        for partition, lease in held.items():
            if partition not in self._assignments.keys() | self._endings.keys():
                leaving = asyncio.Event()
                task = asyncio.create_task(self._serve(lease, leaving))
                self._assignments[partition] = _Assignment(lease, task, leaving)

    async def _renewed(self) -> None:
        await self._keeper.refresh(releases=False)
        for partition in self._keeper.surplus - self._assignments.keys() - self._endings.keys():
            await self._keeper.release(partition)
        await self._job.beat()

    async def _told(self, call: Callable[[], Awaitable[None]]) -> bool:
        """Return whether the call reached the server.

        The leases held are kept where it did not: should they lapse, their work is fenced.
        """
        try:
            await call()
        except LogUnavailable as error:
            _log.warning("lease_refresh_failed", group=self._keeper.group, error=str(error))
            with suppress(LogUnavailable):
                await self._log.heads()  # brings a dead embedded server back
            return False
        return True

    def _hand_over(self, partition: int) -> None:
        if partition not in self._endings:
            self._endings[partition] = asyncio.create_task(self._end(partition))

    async def _end(self, partition: int) -> None:
        """Let the work on a partition end, then give its lease back."""
        assignment = self._assignments[partition]
        assignment.leaving.set()
        if self._grace_s:
            await asyncio.wait({assignment.task}, timeout=self._grace_s)
        await end(assignment.task)
        if self._assignments.get(partition) is assignment:
            del self._assignments[partition]
        if self._keeper.held.get(partition) == assignment.lease:  # or it was lost meanwhile
            with suppress(LogUnavailable):
                await self._keeper.release(partition)

    def _forget_ended(self) -> None:
        for partition, ending in list(self._endings.items()):
            if ending.done():
                ending.result()
                del self._endings[partition]

    async def _serve(self, lease: Lease, leaving: asyncio.Event) -> None:
        """Work on one partition, beginning anew after faults, until it is to be left or was lost."""
        delay_s = RETRY_FIRST_S
        while not leaving.is_set():
            started_s = self._log.clock.monotonic_s()
            try:
                await self._job.serve(lease, leaving)
            except Fenced:
                _log.info("lease_lost", partition=lease.partition, generation=lease.generation)
                return
            except EventLogError as error:
                self._job.fail(lease.partition, error)
            if leaving.is_set():
                return
            if self._log.clock.monotonic_s() - started_s > RETRY_LONGEST_S:
                delay_s = RETRY_FIRST_S
            await self._pause(leaving, delay_s)
            delay_s = min(2 * delay_s, RETRY_LONGEST_S)

    async def _pause(self, leaving: asyncio.Event, duration_s: float) -> None:
        """Return after that time, or when the partition is to be left."""
        pausing = asyncio.create_task(self._log.clock.sleep(duration_s))
        told = asyncio.create_task(leaving.wait())
        try:
            await asyncio.wait({pausing, told}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(pausing, told)
