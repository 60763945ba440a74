"""Retention at work: looking at every partition, trimming what may go, saying who keeps the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from analytics.archiver import GROUP as ARCHIVER
from analytics.catalogue import Catalogue
from analytics.retention import Facts, Held, PartitionPlan, Plan, Policy, decide
from analytics.storage import Storage
from analytics.trim import Slice, trim
from eventlog.connection import in_our_words
from eventlog.errors import EventLogError
from eventlog.exclusive_lease import ExclusiveLease
from eventlog.ids import START, EntryId
from eventlog.lease import new_owner
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.tasks import end

LEASE_GROUP = "retention"
"""Whose lease of partition 0 makes one process do it. Two at once would do no harm."""

INTERVAL_S = 10.0

SLICE_ENTRIES = 5000
SLICE_BYTES = 4 * 1024 * 1024
"""Trimmed in one call, during which the server answers nobody else: some 2 ms."""

MEMORY_SAMPLES = 1000
"""Nodes of a stream that the server looks at to tell what it takes."""

_log = get_logger("retention")


class Applied(NamedTuple):
    """What was planned, and how much of it was trimmed."""

    plan: Plan
    trimmed: dict[int, int]
    """Partition → entries."""

    @property
    def trimmed_count(self) -> int:
        """Entries trimmed."""
        return sum(self.trimmed.values())


class Retention:
    """Trims one log by one policy, the settings' unless another is given.

    >>> plan = await Retention(log, storage).plan()
    >>> print(plan.goes_count, plan.frees_bytes, [held.pin.name for held in plan.holders])
    """

    def __init__(
        self,
        log: EventLog,
        storage: Storage,
        policy: Policy | None = None,
        *,
        slice_entries: int = SLICE_ENTRIES,
        reached: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._log = log
        self._catalogue = Catalogue(storage)
        self._policy = policy or Policy.of(log.settings)
        self._slice_entries = slice_entries
        self._reached = reached
        self._told: frozenset[tuple[str, str]] = frozenset()

    async def plan(self) -> Plan:
        """Return what would go now, and who holds back what is to go. Trims nothing."""
        return await self._planned(await self._groups(), await self._archived())

    async def apply(self) -> Applied:
        """Trim what may go, and return what became of it.

        Killed at any moment it leaves less trimmed and nothing else undone; call it again.
        """
        groups, archived = await self._groups(), await self._archived()
        plan = await self._planned(groups, archived)
        self._reached("planned")
        trimmed: dict[int, int] = {}
        for each in plan.partitions:
            partition = each.facts.partition
            trimmed[partition] = await self._trim(each, archived.get(partition, START), groups)
        return Applied(plan, trimmed)

    async def run(self, stop: asyncio.Event) -> None:
        """Apply it every few seconds until `stop` is set, in one process of all that run it."""
        working = asyncio.create_task(self._work())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            await end(working, stopping)

    async def _work(self) -> None:
        lease = ExclusiveLease(self._log, LEASE_GROUP, 0, new_owner())
        while True:
            with suppress(EventLogError):  # the server is away: said by everybody else
                async with lease.hold():
                    while await lease.is_ours():
                        await self._round()
                        await self._log.clock.sleep(INTERVAL_S)
            await self._log.clock.sleep(INTERVAL_S)

    async def _round(self) -> None:
        try:
            applied = await self.apply()
        except (EventLogError, OSError) as error:
            _log.warning("retention_failed", error=str(error))
            return
        if applied.trimmed_count:
            _log.info("retention_trimmed", entries=applied.trimmed_count)
        self._tell(applied.plan)

    def _tell(self, plan: Plan) -> None:
        """Say who holds entries back, whenever it is somebody else than before."""
        holders = plan.holders if plan.held_count else []
        who = frozenset((held.pin.kind, held.pin.name) for held in holders)
        if who and who != self._told:
            _log.warning(
                "retention_pinned",
                by=[" ".join(filter(None, held.pin[:2])) for held in holders],
                entries=plan.held_count,
                over_budget_bytes=plan.over_bytes,
            )
        self._told = who

    # --- looking -------------------------------------------------------------------------------

    async def _groups(self) -> list[str]:
        """Return who must have read an entry: the archiver, and the groups that are registered."""
        with in_our_words(self._log.settings):
            names: list[bytes] = await self._log.client.execute_command(
                "HKEYS", self._log.keys.groups()
            )
        return sorted({ARCHIVER, *(name.decode() for name in names)})

    async def _archived(self) -> Mapping[int, EntryId]:
        """Return the archive position of each partition that has any segment."""
        there = await asyncio.to_thread(self._catalogue.scan)
        return {partition: coverage.position for partition, coverage in there.items()}

    async def _planned(self, groups: list[str], archived: Mapping[int, EntryId]) -> Plan:
        heads = enumerate(await self._log.heads())
        facts = await asyncio.gather(
            *(self._facts(p, head, archived.get(p, START), groups) for p, head in heads)
        )
        plan = decide(self._policy, facts)
        dated = [each._replace(held=await self._dated(each.held)) for each in plan.partitions]
        return plan._replace(partitions=tuple(dated))

    async def _facts(
        self, partition: int, head: EntryId, archived: EntryId, groups: list[str]
    ) -> Facts:
        found = await self._ask(partition, 0, archived, 0, groups)
        stream, now_ms = self._log.keys.stream(partition), self._log.clock.now_us() // 1000
        pipeline = self._log.client.pipeline(transaction=False)
        for age_ms in (self._policy.age_ms, self._policy.recent_ms):
            since_ms = max(0, now_ms - age_ms)
            pipeline.execute_command("XRANGE", stream, since_ms, "+", "COUNT", 1)
        pipeline.execute_command("MEMORY USAGE", stream, "SAMPLES", MEMORY_SAMPLES)
        with in_our_words(self._log.settings):
            aged, recent, stream_bytes = await pipeline.execute()
        if found.first is None or found.last is None:
            beyond = head.n + 1
            return Facts(partition, beyond, head.n, beyond, beyond, stream_bytes or 0, found.pins)
        beyond = found.last.n + 1
        return Facts(
            partition,
            found.first.n,
            found.last.n,
            EntryId.parse(aged[0][0]).n if aged else beyond,
            EntryId.parse(recent[0][0]).n if recent else beyond,
            stream_bytes or 0,
            found.pins,
        )

    async def _dated(self, held: tuple[Held, ...]) -> tuple[Held, ...]:
        """Return them with the time of the oldest entry that each holds back."""
        dated = []
        for each in held:
            needs = each.pin.needs
            # Ids and sequences rise together: the entry is the first that is not below this id.
            after = EntryId(needs.ms, max(0, needs.n - 1))
            oldest = await self._log.read_raw(each.partition, after, 1)
            dated.append(each._replace(since_ms=oldest[0].id.ms if oldest else None))
        return tuple(dated)

    # --- trimming ------------------------------------------------------------------------------

    async def _trim(self, plan: PartitionPlan, archived: EntryId, groups: list[str]) -> int:
        """Return how many entries were trimmed of a partition, a slice after the other."""
        facts, count = plan.facts, 0
        most = max(1, min(self._slice_entries, int(SLICE_BYTES / max(1.0, facts.entry_bytes))))
        while count < plan.goes_count:
            done = await self._ask(facts.partition, plan.keep_n, archived, most, groups)
            self._reached("trimmed")
            count += done.trimmed_count
            if not done.trimmed_count or done.first is None:
                break
        return count

    async def _ask(
        self, partition: int, keep_n: int, archived: EntryId, most: int, groups: list[str]
    ) -> Slice:
        return await trim(
            self._log, partition, keep_n=keep_n, archived=archived, most=most, groups=groups
        )
