"""How far the archive is, partition by partition; needs no lease."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from analytics.catalogue import Catalogue
from analytics.segment import cover
from eventlog.ids import EntryId
from eventlog.log import EventLog


class PartitionStatus(NamedTuple):
    """How far one partition is archived."""

    partition: int
    position: EntryId
    head: EntryId
    lag_count: int
    oldest_age_ms: int
    """Age of the oldest unarchived entry; 0 where there is none."""
    segment_count: int
    is_whole: bool
    """No gap: every published segment can be reached."""
    lost_count: int
    """Entries after the position that were trimmed from the log before they were archived."""
    error: str | None
    """What stopped this process's last attempt."""


async def archive_status(
    log: EventLog, catalogue: Catalogue, errors: Mapping[int, str] | None = None
) -> list[PartitionStatus]:
    """Return the status of every partition of the log, by partition."""
    heads = await log.heads()
    there = await asyncio.to_thread(catalogue.scan)
    found = []
    for partition, head in enumerate(heads):
        coverage = there.get(partition, cover(()))
        position = coverage.position
        oldest = await log.read_raw(partition, position, 1) if position.n < head.n else []
        next_n = oldest[0].id.n if oldest else head.n + 1
        found.append(
            PartitionStatus(
                partition,
                position,
                head,
                max(0, head.n - position.n),
                await oldest_age_ms(log, partition, position, head),
                len(coverage.chosen),
                not coverage.gaps,
                max(0, next_n - position.n - 1),
                (errors or {}).get(partition),
            )
        )
    return found


async def oldest_age_ms(log: EventLog, partition: int, position: EntryId, head: EntryId) -> int:
    """Return the age of the first entry after `position`; 0 where there is none."""
    oldest = await log.read_raw(partition, position, 1) if position < head else []
    return max(0, log.clock.now_us() // 1000 - oldest[0].id.ms) if oldest else 0
