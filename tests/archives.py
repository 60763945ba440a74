"""Archives: read back, and what moves from a log into one."""

from __future__ import annotations

from analytics import Archiver
from analytics.catalogue import Catalogue
from analytics.past import ArchivedPast
from analytics.storage import Storage
from eventlog.entry import RawEntry
from eventlog.ids import EntryId
from eventlog.log import EventLog
from projections.projecting.projector import Projector


def archived(
    storage: Storage, partition: int, after_n: int = 0, until_n: int | None = None
) -> list[RawEntry]:
    """Return the entries of a partition after one sequence and up to another, or all there are."""
    until = None if until_n is None else EntryId(0, until_n)
    stretches = Catalogue(storage).stretches(partition, EntryId(0, after_n), until)
    return [entry for stretch in stretches for entry in stretch.entries]


class ArchivedWorld:
    """A log and its archive, into which its entries move when they are told to."""

    def __init__(self, log: EventLog, storage: Storage) -> None:
        self.log = log
        self.storage = storage

    async def project(self) -> None:
        await Projector(self.log).run_until_caught_up()

    async def archive(self) -> None:
        async with Archiver(self.log, self.storage) as archiver:
            await archiver.run_once()

    async def trim(self) -> None:
        """Trim all that is archived, having projected it, as nothing else may be trimmed."""
        await self.project()
        past = ArchivedPast(self.storage)
        for partition in range(self.log.partition_count):
            position = await past.position(partition)
            following = EntryId(position.ms, position.n + 1)
            stream = self.log.keys.stream(partition)
            await self.log.client.xtrim(stream, minid=str(following), approximate=False)
