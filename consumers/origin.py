"""Where a dead letter came from, and finding it again: in the log, or in the archive."""

from __future__ import annotations

from contextlib import aclosing
from typing import NamedTuple, Self

from eventlog.entry import RawEntry
from eventlog.ids import EntryId
from eventlog.log import EventLog
from eventlog.past import Past


class Origin(NamedTuple):
    """An entry's place in the log."""

    partition: int
    id: EntryId

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the origin written as `partition/ms-n`; ValueError on anything else."""
        partition, _, entry_id = text.partition("/")
        return cls(int(partition), EntryId.parse(entry_id))

    def __str__(self) -> str:
        return f"{self.partition}/{self.id}"


async def read_origin(log: EventLog, origin: Origin, past: Past | None = None) -> RawEntry | None:
    """Return the entry as it stands there; None where it is neither in the log nor in `past`.

    Raises LogUnavailable, and HistoryGap for an archive that is damaged there.
    """
    partition, entry_id = origin
    after = EntryId(entry_id.ms, entry_id.n - 1)
    for entry in await log.read_raw(partition, after, 1, entry_id):
        return entry
    if past is None or (await past.position(partition)).n < entry_id.n:
        return None
    async with aclosing(past.read(partition, after, entry_id)) as stretches:
        async for stretch in stretches:
            for entry in stretch.entries:
                return entry
    return None
