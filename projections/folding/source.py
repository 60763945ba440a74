"""Where a fold takes its entries from: the archive as far as it goes, then the log."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing

from eventlog.connection import in_our_words
from eventlog.entry import RawEntry, raw_entries
from eventlog.errors import HistoryGap
from eventlog.event import UnknownEvent
from eventlog.ids import EntryId
from eventlog.log import EventLog
from eventlog.past import Past, Stretch
from projections.projection import Projection

BLOCK_MS = 1000


async def archived(
    log: EventLog,
    past: Past | None,
    partition: int,
    after: EntryId,
    until: EntryId | None = None,
    types: Collection[str] | None = None,
) -> AsyncGenerator[Stretch]:
    """Yield what the archive has after `after` and up to `until`; nothing where it has no more.

    Raises HistoryGap where the archive is not this log's past.
    """
    if past is None:
        return
    position = await past.position(partition)
    head = (await log.heads())[partition]
    if position.n > head.n:
        raise HistoryGap(
            f"the archive of partition {partition} goes to {position}, but the log ends at {head}: "
            f"entries {head.n + 1} to {position.n} are not in it.",
            remedy="Restore the server's data to the archive's age, or name the archive that "
            "belongs to this log.",
        )
    end = position if until is None else min(position, until)
    if after.n < end.n:
        async with aclosing(past.read(partition, after, end, types)) as stretches:
            async for stretch in stretches:
                yield stretch


async def read_on(
    log: EventLog, partition: int, after: EntryId, limit: int, *, waits: bool
) -> list[RawEntry]:
    """Return up to `limit` entries after `after`, or none; `waits` a second for the first.

    The group delivers nothing here: its position follows the checkpoint in the commit instead, so
    there is one truth, no pending list to drain, and a lost reply loses nothing. Raises
    LogUnavailable.
    """
    block = ("BLOCK", min(BLOCK_MS, log.settings.longest_block_ms)) if waits else ()
    stream = log.keys.stream(partition)
    with in_our_words(log.settings):
        reply = await log.client.execute_command(
            "XREAD", "COUNT", limit, *block, "STREAMS", stream, str(after)
        )
    return raw_entries(reply[0][1]) if reply else []


def types_of(log: EventLog, projection: Projection) -> frozenset[str] | None:
    """Return the event types that a projection is shown; None where it is shown all of them."""
    if issubclass(UnknownEvent, projection.types):
        return None
    return frozenset(
        name for name, known in log.codec.types.items() if issubclass(known, projection.types)
    )
