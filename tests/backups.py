"""What tests of backups need: a log that has everything, and a picture of it to compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from analytics import Archiver, DirectoryStorage, Rolling
from analytics.backup import Manifest, Restored, back_up, complete, restore
from analytics.backup.snapshot import Snapshots
from analytics.backup.steps import Reached, go_on
from analytics.past import ArchivedPast
from eventlog import EventLog, MessageReceived, SessionStarted
from eventlog.entry import RawEntry
from eventlog.ids import EntryId
from eventlog.settings import Settings
from tests.archives import archived

PARTITIONS = 4


class Place(NamedTuple):
    """A log on a server, its archive and its ledger."""

    settings: Settings

    @classmethod
    def at(cls, url: str, folder: Path, name: str) -> Place:
        data = str(folder / name)
        return cls(Settings(url=url, key_prefix=name, data_dir=data, lease_ttl_ms=400))

    @property
    def storage(self) -> DirectoryStorage:
        return DirectoryStorage(self.settings.archive_path)

    def open(self, **how: Any) -> EventLog:
        return EventLog.open(settings=self.settings, **how)

    def new(self) -> EventLog:
        return EventLog.open(
            settings=msgspec.structs.replace(self.settings, partition_count=PARTITIONS)
        )


async def take(log: EventLog, folder: Path, reached: Reached = go_on) -> Manifest:
    return await back_up(log, storage_of(log), folder, reached=reached)


async def bring_back(
    place: Place, folder: Path | None, log: EventLog, *, whole: bool = True, **how: Any
) -> Restored:
    """Restore to a place; `log` gives the event types. Without `whole` the mark stays."""
    restored = await restore(place.settings, place.storage, folder, log.codec, **how)
    if whole:
        async with place.open(restoring=restored.token) as there:
            await complete(there)
    return restored


def storage_of(log: EventLog) -> DirectoryStorage:
    return DirectoryStorage(log.settings.archive_path)


async def archive(log: EventLog, max_rows: int = 1_000_000) -> None:
    async with Archiver(log, storage_of(log), rolling=Rolling(max_rows=max_rows)) as archiver:
        await archiver.run_once()


async def trim_archived(log: EventLog, keep: int = 0) -> None:
    """Trim all that is archived, but for the last `keep` entries of each partition."""
    past = ArchivedPast(storage_of(log))
    for partition in range(log.partition_count):
        position = await past.position(partition)
        following = EntryId(0, max(1, position.n + 1 - keep))
        entries = await log.client.xrange(log.keys.stream(partition))
        found = next((e for e, _ in entries if EntryId.parse(e).n >= following.n), None)
        if found is None:
            await log.client.xtrim(log.keys.stream(partition), maxlen=0, approximate=False)
        else:
            await log.client.xtrim(log.keys.stream(partition), minid=found, approximate=False)


def talk(count: int, *, chats: int = 8, begin: int = 0) -> list[MessageReceived]:
    """Return messages `begin` to `begin + count` with ids of their own, over some chats."""
    return [
        MessageReceived(conversation=f"telegram:{n % chats}", id=f"m{n}", text=f"text {n}")
        for n in range(begin, begin + count)
    ]


def sessions(count: int) -> list[SessionStarted]:
    return [
        SessionStarted(conversation=f"telegram:{n}", session=f"s{n}", id=f"start{n}")
        for n in range(count)
    ]


class Picture(NamedTuple):
    """All that a partition has, but for leases and read models."""

    head: EntryId
    entries: list[RawEntry]
    versions: dict[str, str]
    producers: dict[str, str]
    groups: list[Any]
    ids: dict[bytes, bytes]


async def picture(log: EventLog, partition: int) -> Picture:
    snapshot = await Snapshots(log).take(partition)
    ids: dict[bytes, bytes] = {}
    for key in log.keys.dedup(partition):
        ids |= await log.client.hgetall(key)
    return Picture(
        snapshot.head,
        await log.read_raw(partition, EntryId(0, 0), 1_000_000),
        snapshot.versions,
        snapshot.producers,
        snapshot.groups,
        ids,
    )


async def pictures(log: EventLog) -> list[Picture]:
    return [await picture(log, partition) for partition in range(log.partition_count)]


async def history(log: EventLog) -> list[list[RawEntry]]:
    """Return each partition's entries from the first one ever, whether archived or in the log."""
    found = []
    for partition in range(log.partition_count):
        old = archived(storage_of(log), partition)
        after = old[-1].id if old else EntryId(0, 0)
        found.append(old + await log.read_raw(partition, after, 1_000_000))
    return found
