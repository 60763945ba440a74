"""What the log has beyond a read model's checkpoint, as far as a projection is concerned."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from eventlog.entry import Entry, RawEntry
from eventlog.errors import HistoryGap
from eventlog.log import EventLog
from projections.projection import Projection
from projections.storing.store import Tail

TAIL_PAGE_ENTRIES = 1000
"""Entries after the checkpoint fetched per step, the first such page along with the stored state."""


async def follow(
    log: EventLog, projection: Projection, partition: int, tail: Tail
) -> AsyncIterator[tuple[str, Entry]]:
    """Yield the tail's entries that concern the projection, each with its key."""
    async for page in tail_pages(log, projection, partition, tail):
        for keyed in page:
            yield keyed


async def tail_pages(
    log: EventLog, projection: Projection, partition: int, tail: Tail
) -> AsyncIterator[list[tuple[str, Entry]]]:
    """Yield the same in pages, which bounds memory. Raises HistoryGap where entries are gone."""
    async for page in tail_entries(log, projection, partition, tail):
        yield _keyed(projection, page)


async def tail_entries(
    log: EventLog, projection: Projection, partition: int, tail: Tail
) -> AsyncIterator[list[Entry]]:
    """Yield the tail's entries that can be decoded, in pages. Raises HistoryGap.

    The projection is only named where entries are gone.
    """
    position, entries = tail.checkpoint, tail.entries
    while position < tail.head:
        if not entries or entries[0].id.n != position.n + 1:
            raise HistoryGap(
                f"{projection.model} stands at {position} in partition {partition}, but what "
                f"follows is no longer in the log.",
                remedy="Rebuild the projection from the archive, or read with consistency='stored'.",
            )
        # Not beyond the head of the moment: the caller compares with it.
        yield _decoded(log, partition, (e for e in entries if e.id <= tail.head))
        position = entries[-1].id
        if position < tail.head:
            entries = await log.read_raw(partition, position, TAIL_PAGE_ENTRIES, tail.head)


def _decoded(log: EventLog, partition: int, entries: Iterable[RawEntry]) -> list[Entry]:
    decoded = []
    for raw in entries:
        try:
            decoded.append(Entry(partition, raw.id, log.codec.decode(raw.raw), raw.raw))
        except Exception:  # noqa: BLE001, S112 - upcasters are anybody's code; the projector parks it
            continue
    return decoded


def _keyed(projection: Projection, entries: Iterable[Entry]) -> list[tuple[str, Entry]]:
    keyed = []
    for entry in entries:
        try:
            event = entry.event
            key = projection.key(event) if isinstance(event, projection.types) else None
        except Exception:  # noqa: BLE001, S112 - anybody's code; the projector is who parks the entry
            continue
        if key is not None:
            keyed.append((key, entry))
    return keyed
