"""What a log needs of the place that keeps its partitions.

Redis in earnest (`redis_store`), memory for tests (`memory_store`); one contract suite runs on both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from eventlog.batch import Batch, Outcome
from eventlog.entry import RawEntry
from eventlog.ids import EntryId
from eventlog.settings import Durability


class Store(Protocol):
    """Partitions of entries. Every method may raise LogUnavailable."""

    async def append(self, partition: int, batch: Batch, durability: Durability) -> Outcome:
        """Return what became of the batch, which is safe to send again."""
        ...

    async def read(
        self, partition: int, after: EntryId, before: EntryId | None, limit: int
    ) -> list[RawEntry]:
        """Return up to `limit` entries after `after` and before `before`, both exclusive."""
        ...

    async def read_back(
        self, partition: int, after: EntryId, before: EntryId | None, limit: int
    ) -> list[RawEntry]:
        """Return the same range from its end, newest first."""
        ...

    async def wait(
        self, cursor: Mapping[int, EntryId], limit: int, timeout_ms: int
    ) -> Sequence[tuple[int, RawEntry]]:
        """Return new entries after the cursor of each partition, or none after `timeout_ms`."""
        ...

    async def heads(self) -> list[EntryId]:
        """Return the last entry id of every partition, START for one that never had any."""
        ...

    async def producer_positions(self, name: str) -> dict[int, int]:
        """Return the last position of a producer by partition, without those it never wrote to."""
        ...

    async def ping(self) -> bool:
        """Return whether the store answers; never raises."""
        ...

    async def close(self) -> None:
        """Let go of connections; idempotent."""
        ...
