"""Which entries had to do with one key of a read model."""

from __future__ import annotations

from contextlib import aclosing
from typing import NamedTuple

from eventlog.entry import RawEntry
from eventlog.errors import UndecodablePayload
from eventlog.ids import START, EntryId
from eventlog.log import EventLog
from eventlog.past import Past
from projections.folding.source import archived, types_of
from projections.projection import Projection

PAGE_ENTRIES = 1000
LAST_KEPT = 20


class Touched(NamedTuple):
    """Entries that a projection folds into one key."""

    entry_count: int
    last: list[EntryId]
    """The last few of them, in order."""


async def entries_that_touched(
    log: EventLog, projection: Projection, partition: int, key: str, past: Past | None = None
) -> Touched:
    """Return the entries of a partition that the projection folds into the key."""
    count, last, position = 0, list[EntryId](), START

    def take(entries: list[RawEntry]) -> None:
        nonlocal count
        for entry in entries:
            if _belongs(log, projection, key, entry):
                count += 1
                last.append(entry.id)
                del last[:-LAST_KEPT]

    types = types_of(log, projection)
    async with aclosing(archived(log, past, partition, START, None, types)) as stretches:
        async for stretch in stretches:
            take(stretch.entries)
            position = stretch.end
    while page := await log.read_raw(partition, position, PAGE_ENTRIES):
        take(page)
        position = page[-1].id
    return Touched(count, last)


def _belongs(log: EventLog, projection: Projection, key: str, entry: RawEntry) -> bool:
    try:
        event = log.codec.decode(entry.raw)
        return isinstance(event, projection.types) and projection.key(event) == key
    except UndecodablePayload:
        return False
    except Exception:  # noqa: BLE001 - anybody's code; the projector is who parks the entry
        return False
