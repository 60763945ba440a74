"""The worker: runs handlers on what is appended, sharing the partitions with its like."""

from __future__ import annotations

import asyncio
import itertools
import random
from difflib import get_close_matches
from functools import partial
from typing import NamedTuple

from consumers.attempt import Attempts
from consumers.group_partition import GroupPartition
from consumers.group_status import GroupStatus, group_status
from consumers.handler import ANY, Handlers
from consumers.partition_work import HAND_OVER_S, PartitionWork
from consumers.patience import insist
from consumers.registration import Start, register
from consumers.slots import Slots
from consumers.special import Origins
from consumers.time_limit import TimeLimits
from consumers.work import Work
from eventlog.errors import ConfigurationError, EventLogError, GroupMissing, HistoryGap
from eventlog.lease import Lease, LeaseKeeper
from eventlog.leased_work import Job, LeasedWork
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.past import Past
from eventlog.tasks import end

CONCURRENCY = 100
"""Handlers that run at once in a worker, where it is not told otherwise."""

MAX_STRIKES = 3
"""An entry that was taken over from a dead worker, and whose handler was begun so often since without
coming to an end, is parked."""

STOP_TIMEOUT_S = 10.0
"""What runs when a worker stops has so long to end."""

CAUGHT_UP_POLL_S = 0.02
"""How often `run_once` looks whether all is handled."""

_settlement_numbers = itertools.count(1)
_log = get_logger("worker")


class Limits(NamedTuple):
    """How much a worker does at once, and how patient it is."""

    concurrency: int = CONCURRENCY
    """Handlers that run at once in the worker."""
    partition_concurrency: int | None = None
    """Of these, how many in one partition; None sets no bound of its own."""
    stop_timeout_s: float = STOP_TIMEOUT_S
    max_strikes: int = MAX_STRIKES


LIMITS = Limits()


class Worker:
    """Handles the entries of a log as a consumer group, many conversations at once, each in order.

    Every entry is handled at least once: what a handler appends and its acknowledgement are written
    together, and what was not written is handled again, with the same idempotency key. A failed
    attempt is made again as its Retry says, and only its conversation waits; an entry that is given
    up is parked as a dead letter. Run as many workers of a group as you like, in one process or
    several: they share the partitions, and take over from one that dies.

    >>> worker = Worker(log, "greeter")
    >>> @worker.on("message.received")
    ... async def greet(event, context):
    ...     context.append(MessageQueued(conversation=event.conversation, text="hello"))
    >>> await worker.run()
    """

    def __init__(
        self,
        log: EventLog,
        group: str,
        handlers: Handlers | None = None,
        *,
        start: Start = "beginning",
        limits: Limits = LIMITS,
        past: Past | None = None,
        owner: str | None = None,
    ) -> None:
        """Raise ConfigurationError for limits that cannot be kept.

        `start` counts for a group that the log does not have yet. `past` is where replays find
        entries that have left the log.
        """
        in_partition = limits.partition_concurrency or limits.concurrency
        if (
            min(limits.concurrency, in_partition) < 1
            or limits.max_strikes < 1
            or limits.stop_timeout_s < 0
        ):
            raise ConfigurationError(f"a worker cannot keep to {limits}.")
        if log.is_in_memory:
            raise ConfigurationError(
                "a worker needs a log on a server.", remedy="Open it with EventLog.open()."
            )
        self.log = log
        self.group = group
        self.handlers = handlers or Handlers()
        self.on = self.handlers.on
        """Makes a function the handler of event types: `Handlers.on`."""
        self.settled_count = 0
        """Entries this worker has acknowledged, those that nobody handles included."""
        self._start: Start = start
        self._stop = asyncio.Event()
        self._faults: dict[int, EventLogError] = {}
        self._ended_by: GroupMissing | None = None
        self._rnd = random.Random()  # noqa: S311 - it only spreads retries
        self._time_limits = TimeLimits()
        self._keeper = LeaseKeeper(log, group, owner)
        self._work = Work(
            log=log,
            group=group,
            handlers=self.handlers,
            slots=Slots(limits.concurrency),
            origins=Origins(log, group, self.handlers, past),
            attempts=self._attempts_in,
            is_fresh=lambda: self._keeper.is_fresh,
            next_number=partial(next, _settlement_numbers),
            partition_concurrency=in_partition,
            stop_timeout_s=limits.stop_timeout_s,
            max_strikes=limits.max_strikes,
            on_settled=self._on_settled,
            on_fault=self._on_fault,
        )
        job = Job(self._serve, self._on_fault, self._beat)
        # Handlers that are called off may take a moment to clean up.
        grace_s = limits.stop_timeout_s + 2 * HAND_OVER_S
        self._leased = LeasedWork(log, self._keeper, job, grace_s=grace_s)

    async def run(self, stop: asyncio.Event | None = None) -> None:
        """Handle entries until `stop` is set or `stop()` is called; a server away is waited for.

        What runs then is waited for, what did not begin is returned, and all leases are given back.
        Raises GroupMissing where the group is retired meanwhile.
        """
        self._warn_of_unknown_types()
        passing_on = asyncio.create_task(self._stop_with(stop)) if stop else None
        try:
            await self._register()
            await self._leased.run(self._stop)
            if self._ended_by is not None:
                raise self._ended_by
        finally:
            self._ended_by = None
            self._stop.clear()
            await end(passing_on)

    def stop(self) -> None:
        """Have `run` come to an end. Call it in the loop that runs it."""
        self._stop.set()

    async def run_once(self) -> int:
        """Handle all that is in the log now and return how many entries were acknowledged.

        Conversations that wait for another attempt are not waited for, nor is what comes meanwhile;
        what other workers of the group have in hand is. Raises HistoryGap.
        """
        await register(self.log, self.group, self._start)
        heads = await self.log.heads()
        before = self.settled_count
        running = asyncio.create_task(self.run())
        try:
            while not running.done():
                status = await group_status(self.log, self.group)
                for fault in self._faults.values():
                    if isinstance(fault, HistoryGap):
                        raise fault
                if all(
                    part.head.n >= part.delivered.n >= head.n and part.is_quiet
                    for part, head in zip(status.partitions, heads, strict=True)
                ):
                    break
                await self.log.clock.sleep(CAUGHT_UP_POLL_S)
        finally:
            self.stop()
            await running
        return self.settled_count - before

    async def status(self) -> GroupStatus:
        """Return how far the group is, the part of other workers included."""
        return await group_status(self.log, self.group)

    def _warn_of_unknown_types(self) -> None:
        """Say which handlers are for types that this program does not know: perhaps mistyped."""
        known = self.log.codec.types
        for name in self.handlers.by_type.keys() - known.keys() - {ANY}:
            alike = get_close_matches(name, known, n=1)
            _log.warning("unknown_event_type", type=name, perhaps=alike[0] if alike else None)

    async def _register(self) -> None:
        """Make sure of the group, waiting for a server that is away, but not when told to stop."""
        asking = partial(register, self.log, self.group, self._start)
        registering = asyncio.create_task(insist(self.log, asking, partial(self._on_fault, 0)))
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({registering, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if registering.done():
                registering.result()
        finally:
            await end(registering, stopping)

    # --- the work on a partition ---------------------------------------------------------------

    async def _serve(self, lease: Lease, leaving: asyncio.Event) -> None:
        await PartitionWork(self._work, GroupPartition(self.log, lease), leaving).run()

    def _attempts_in(self, partition: int) -> Attempts:
        return Attempts(
            self.log,
            self.group,
            partition,
            max_strikes=self._work.max_strikes,
            limits=self._time_limits,
            rnd=self._rnd,
        )

    def _on_settled(self, partition: int, count: int) -> None:
        self.settled_count += count
        self.log.measures.group(self.group).acknowledged_count += count
        self._faults.pop(partition, None)

    def _on_fault(self, partition: int, error: EventLogError) -> None:
        if str(error) != str(self._faults.get(partition)):
            _log.warning("handling_failed", group=self.group, partition=partition, error=str(error))
        self._faults[partition] = error
        if isinstance(
            error, GroupMissing
        ):  # it was retired while we were away: nothing is to be done
            self._ended_by = error
            self._stop.set()

    async def _beat(self) -> None:
        """Nothing is to be told with each renewal of the leases."""

    async def _stop_with(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._stop.set()
