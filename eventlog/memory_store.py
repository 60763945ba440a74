"""The log's partitions in memory: for tests of programs that use a log, never for keeping.

It takes the same decisions as `append.lua`, shown by the contract suite that runs on both.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from eventlog.batch import Appended, Batch, Conflict, Gap, Outcome
from eventlog.clock import Clock
from eventlog.entity import FREE, OVER, EntityState, holder_of
from eventlog.entry import RawEntry
from eventlog.errors import LogNotOpen
from eventlog.ids import START, EntryId
from eventlog.settings import Durability


@dataclass
class _Partition:
    entries: list[RawEntry] = field(default_factory=list)
    seen: dict[str, tuple[EntryId, int]] = field(default_factory=dict)
    entities: defaultdict[str, EntityState] = field(
        default_factory=lambda: defaultdict(EntityState)
    )
    producers: dict[str, tuple[int, str, Appended]] = field(default_factory=dict)

    @property
    def head(self) -> EntryId:
        return self.entries[-1].id if self.entries else START

    def is_free(self, entity: str) -> bool:
        """Return whether nobody holds the entity, as far as this partition knows."""
        version, mark = self.entities[entity]
        holder = holder_of(mark)
        if holder is not None:
            return self.entities[holder].mark == OVER
        return mark == FREE or version == 0


class MemoryStore:
    """Partitions as lists."""

    def __init__(self, partition_count: int, clock: Clock, dedup_window_s: int) -> None:
        self._partitions = [_Partition() for _ in range(partition_count)]
        self._clock = clock
        self._window_ms = dedup_window_s * 1000
        self._grown = asyncio.Condition()
        self._closed = False

    async def append(self, partition: int, batch: Batch, durability: Durability) -> Outcome:  # noqa: ARG002 - memory has one durability
        """Return what became of the batch."""
        self._require_open()
        outcome = self._append(self._partitions[partition], batch)
        async with self._grown:
            self._grown.notify_all()
        return outcome

    def _append(self, part: _Partition, batch: Batch) -> Outcome:
        ms = max(self._clock.now_us() // 1000, part.head.ms)
        duplicates: dict[int, EntryId | None] = {}
        if batch.producer:
            stamp = batch.producer
            last, token, outcome = part.producers.get(stamp.name, (0, "", None))
            if token == stamp.token and outcome:
                return outcome
            if last < stamp.previous:
                return Gap(last)
            duplicates = {i: None for i, position in enumerate(stamp.positions) if position <= last}
        for index, event_id in enumerate(batch.ids or ()):
            known = part.seen.get(event_id)
            # A bucket is as wide as the window and lives through the next one.
            if known and ms // self._window_ms - known[1] <= 1:
                duplicates.setdefault(index, known[0])
        fresh = [i for i in range(len(batch.events)) if i not in duplicates]
        for entity, version in batch.expected if fresh else ():
            actual = part.entities[entity].version
            if actual != version and not (version == FREE and part.is_free(entity)):
                return Conflict(entity, actual)
        return self._write(part, batch, ms, fresh, duplicates)

    def _write(
        self,
        part: _Partition,
        batch: Batch,
        ms: int,
        fresh: list[int],
        duplicates: dict[int, EntryId | None],
    ) -> Appended:
        first_n = part.head.n + 1
        for n, index in enumerate(fresh, first_n):
            part.entries.append(RawEntry(EntryId(ms, n), batch.events[index].encode()))
            if batch.ids:
                part.seen[batch.ids[index]] = (EntryId(ms, n), ms // self._window_ms)
        versions = {}
        for index, entity, mark in batch.entities:
            if index not in duplicates:
                part.entities[entity] = part.entities[entity].then(EntityState(1, mark))
            versions[index] = part.entities[entity].version
        outcome = Appended(ms, first_n, len(fresh), duplicates, versions)
        stamp = batch.producer
        if stamp and stamp.positions[-1] > part.producers.get(stamp.name, (0,))[0]:
            part.producers[stamp.name] = (stamp.positions[-1], stamp.token, outcome)
        return outcome

    async def read(
        self, partition: int, after: EntryId, before: EntryId | None, limit: int
    ) -> list[RawEntry]:
        """Return up to `limit` entries after `after` and before `before`, both exclusive."""
        return self._range(partition, after, before)[:limit]

    async def read_back(
        self, partition: int, after: EntryId, before: EntryId | None, limit: int
    ) -> list[RawEntry]:
        """Return the same range from its end, newest first."""
        return self._range(partition, after, before)[::-1][:limit]

    def _range(self, partition: int, after: EntryId, before: EntryId | None) -> list[RawEntry]:
        entries = self._partitions[partition].entries
        return [e for e in entries if e.id > after and (before is None or e.id < before)]

    async def wait(
        self, cursor: Mapping[int, EntryId], limit: int, timeout_ms: int
    ) -> list[tuple[int, RawEntry]]:
        """Return new entries after the cursor of each partition, or none after `timeout_ms`."""

        def grown() -> list[tuple[int, RawEntry]]:
            return [
                (p, e) for p, after in cursor.items() for e in self._range(p, after, None)[:limit]
            ]

        try:
            async with asyncio.timeout(timeout_ms / 1000), self._grown:
                await self._grown.wait_for(lambda: self._closed or bool(grown()))
        except TimeoutError:
            return []
        self._require_open()
        return grown()

    async def heads(self) -> list[EntryId]:
        """Return the last entry id of every partition."""
        return [part.head for part in self._partitions]

    async def producer_positions(self, name: str) -> dict[int, int]:
        """Return the last position of a producer by partition."""
        parts = enumerate(self._partitions)
        return {p: part.producers[name][0] for p, part in parts if name in part.producers}

    async def ping(self) -> bool:
        """Return True."""
        return True

    async def close(self) -> None:
        """Wake who waits; the entries go with the object."""
        self._closed = True
        async with self._grown:
            self._grown.notify_all()

    def move(self) -> None:
        """Serve another event loop from now on; who waited in the former waits in vain."""
        self._grown = asyncio.Condition()

    def _require_open(self) -> None:
        if self._closed:
            raise LogNotOpen("the log is closed.", remedy="Open it again.")
