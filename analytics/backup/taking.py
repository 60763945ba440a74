"""Taking a backup while everything runs.

First the archive's segments, which do not change; then each partition's moment, one right after the
other; then what the stream has between the two. A file gets its name when it is whole, and the manifest
is written last: until then the backup before is the one there is, and what a killed one has copied is
not copied again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from analytics.backup import folder as folders
from analytics.backup.files import sync, write_private
from analytics.backup.manifest import (
    NAME,
    STATES,
    FileRecord,
    Manifest,
    PartitionRecord,
    SegmentRecord,
    read_manifest,
    write_manifest,
)
from analytics.backup.planning import Known, check_successor, place_of, unneeded
from analytics.backup.registries import read_registries
from analytics.backup.snapshot import Snapshot, Snapshots
from analytics.backup.state import LINE_ITEMS, Ids, Line, LineFile
from analytics.backup.steps import Progress, Reached, Tell, go_on, tell_nobody
from analytics.catalogue import Catalogue
from analytics.copiers import Copiers
from analytics.copying import Copy
from analytics.segment import Coverage, Segment, cover
from analytics.segment_reader import SegmentGone
from analytics.storage import Storage
from eventlog.connection import check_server, in_our_words
from eventlog.errors import ConfigurationError, EventLogError, HistoryGap
from eventlog.ids import START, EntryId, new_event_id
from eventlog.log import EventLog
from eventlog.metadata import open_metadata

TRIES = 10
"""Of a partition that is archived and trimmed while it is read, or of files that are replaced."""


async def back_up(
    log: EventLog,
    storage: Storage,
    folder: Path,
    *,
    on_progress: Tell = tell_nobody,
    reached: Reached = go_on,
) -> Manifest:
    """Return the manifest of a backup of the log and its archive, complete in the directory.

    Appends, workers, projectors and archivers go on meanwhile; memory is bounded whatever the length.
    Into the directory of an earlier backup only new segments are copied. Raises ConfigurationError for
    a directory of something else, RestoreRefused for a log that ends before its last backup, HistoryGap
    where entries are nowhere, LogUnavailable, OSError. Whenever it ends, the backup before is whole.
    """
    if log.is_in_memory:
        raise ConfigurationError("a log in memory is forgotten when it is closed.")
    with folders.taken_folder(folder):
        async with Copiers() as copiers:
            taking = _Taking(log, storage, folder, copiers, on_progress, reached)
            return await taking.run()


class _Taking:
    """One backup."""

    def __init__(
        self,
        log: EventLog,
        storage: Storage,
        folder: Path,
        copiers: Copiers,
        tell: Tell,
        reached: Reached,
    ) -> None:
        self._log = log
        self._storage = storage
        self._catalogue = Catalogue(storage)
        self._folder = folder
        self._copiers = copiers
        self._tell = tell
        self._reached = reached
        self._id = new_event_id()
        self._snapshots = Snapshots(log)
        self._known = Known({})

    async def run(self) -> Manifest:
        """Return the manifest, written."""
        log = self._log
        begun_at = log.clock.now_us()
        last = read_manifest(self._folder) if (self._folder / NAME).exists() else None
        with in_our_words(log.settings):
            metadata = await open_metadata(log.client, log.keys, log.settings, log.clock)
            server = await check_server(log.client)
        heads = dict(enumerate(await log.heads()))
        check_successor(last, log.keys.log, metadata.epoch, heads)
        self._known = Known.of(last)
        # Before the moments: a group is registered once every partition has it.
        registries = self._write("registries.json", msgspec.json.encode(await read_registries(log)))
        await self._archive()
        partitions = await self._partitions()
        manifest = Manifest(
            id=self._id,
            log=log.keys.log,
            epoch=metadata.epoch,
            created_ms=metadata.created_ms,
            begun_at=begun_at,
            completed_at=log.clock.now_us(),
            server=f"{server.name} {'.'.join(map(str, server.version))}",
            settings=log.settings.masked(),
            registries=registries,
            partitions=partitions,
        )
        sync(self._folder / STATES / self._id)
        sync(self._folder / STATES)
        write_manifest(self._folder, manifest)
        self._reached("manifest")
        spare = unneeded(folders.present_files(self._folder), manifest.files)
        await asyncio.to_thread(folders.delete, self._folder, spare)
        self._reached("swept")
        return manifest

    # --- the archive -----------------------------------------------------------------------------

    async def _archive(self) -> None:
        """Copy the segments there are, and those that came meanwhile as far as that is little."""
        for _ in range(2):
            coverages = await asyncio.to_thread(self._catalogue.scan)
            chosen = [segment for each in coverages.values() for segment in each.chosen]
            for done, segment in enumerate(chosen):
                self._tell(Progress("archive", done, len(chosen)))
                try:
                    await self._copied(segment)
                except SegmentGone:  # another has the same by now: the next listing shows it
                    break

    async def _coverage(self, partition: int) -> tuple[Coverage, list[SegmentRecord]]:
        """Return what the archive has of a partition now, all of it copied."""
        for _ in range(TRIES):
            scanned = await asyncio.to_thread(self._catalogue.scan)
            coverage = scanned.get(partition, cover(()))
            try:
                return coverage, [await self._copied(each) for each in coverage.chosen]
            except SegmentGone as error:
                gone = error
        raise gone

    async def _copied(self, segment: Segment) -> SegmentRecord:
        """Return the segment's copy. Raises SegmentGone, HistoryGap where the file is damaged."""
        return await asyncio.to_thread(self._copy, segment)

    def _copy(self, segment: Segment) -> SegmentRecord:
        source = self._storage.path(segment)
        try:
            stat = source.stat()
            stamp = f"{stat.st_mtime_ns:x}-{stat.st_size:x}"
            known = self._known.find(segment, stamp)
            if known is not None and (self._folder / known.file.path).exists():
                return known
            # Opened, because a damaged file must not take the place of a good copy.
            with self._catalogue.open(segment):
                pass
            file = folders.copy_in(source, self._folder, place_of(segment, stamp))
        except FileNotFoundError:
            raise SegmentGone(f"the archive's file {segment.name} is gone.") from None
        record = SegmentRecord(segment.name, stamp, file)
        self._known.records[segment.name, stamp] = record
        self._reached("copied")
        return record

    # --- partitions ------------------------------------------------------------------------------

    async def _partitions(self) -> list[PartitionRecord]:
        count = self._log.partition_count
        # Moments first, one right after the other: what follows takes longer.
        moments = []
        for partition in range(count):
            self._tell(Progress("state", partition, count))
            moments.append(await self._moment(partition))
        found = []
        for partition, (head, first_n, state) in enumerate(moments):
            self._tell(Progress("tail", partition, count))
            found.append(await self._rest(partition, head, first_n, state))
        return found

    async def _moment(self, partition: int) -> tuple[EntryId, int, FileRecord]:
        """Return head, first sequence and state of a partition, written."""
        snapshot: Snapshot = await self._snapshots.take(partition)
        path = self._path(partition, "state.jsonl.zst")
        await asyncio.to_thread(_write_lines, self._folder / path, snapshot.lines())
        self._reached("moment")
        return snapshot.head, snapshot.first_n, folders.record_of(self._folder, path)

    async def _rest(
        self, partition: int, head: EntryId, first_n: int, state: FileRecord
    ) -> PartitionRecord:
        """Return the partition's record, once archive and tail meet and end at its head.

        Where the archive has passed the head by now, a later moment is taken.
        """
        for attempt in range(TRIES):
            if attempt:
                head, first_n, state = await self._moment(partition)
            coverage, segments = await self._coverage(partition)
            if coverage.position.n > head.n:
                # What was archived before the moment is enough, if it ends at a file's end.
                kept = [each for each in segments if each.segment.last <= head.n]
                position = kept[-1].segment.end if kept else START
            else:
                kept, position = segments, coverage.position
            try:
                tail = await self._tail(partition, position, head)
            except HistoryGap as gap:
                lost = gap
                continue
            ids = await self._ids(partition, head)
            return PartitionRecord(head, first_n, kept, state, ids, tail)
        raise lost

    async def _tail(self, partition: int, after: EntryId, head: EntryId) -> SegmentRecord | None:
        """Return the entries after the archive up to the head, as a segment of their own."""
        if after.n >= head.n:
            return None
        first = await self._log.read_raw(partition, after, 1)
        if not first or first[0].id.n != after.n + 1:
            raise HistoryGap(
                f"partition {partition}: entry {after.n + 1} is neither in the log nor in the archive.",
                remedy="Restore the missing segment from an earlier backup.",
            )
        draft = Segment(partition, after.n + 1, head.n, head.ms)
        path = self._path(partition, f"tail-{draft.first:012d}.parquet")
        copy = Copy(
            settings=self._log.settings,
            server_url=self._log.server_url,
            stream=self._log.keys.stream(partition),
            after=after,
            draft=draft,
            path=str(self._folder / path),
        )
        try:
            await self._copiers.copy(copy, self._log.codec)
        except EventLogError as error:
            # Trimmed while it was read: the archive has it by now.
            again = await self._log.read_raw(partition, after, 1)
            if again[:1] != first[:1]:
                raise HistoryGap(error.message, remedy=error.remedy) from None
            raise
        (self._folder / path).chmod(0o600)
        self._reached("tail")
        file = await asyncio.to_thread(folders.record_of, self._folder, path)
        return SegmentRecord(draft.name, "", file)

    async def _ids(self, partition: int, head: EntryId) -> FileRecord:
        """Write the event ids that are remembered of entries up to the head."""
        path = self._path(partition, "ids.jsonl.zst")
        with LineFile(self._folder / path) as file:
            for key in self._log.keys.dedup(partition):
                cursor = -1
                while cursor:
                    with in_our_words(self._log.settings):
                        reply: Any = await self._log.client.hscan(
                            key, max(cursor, 0), count=LINE_ITEMS
                        )
                    cursor, found = reply
                    ids = {name.decode(): entry_id.decode() for name, entry_id in found.items()}
                    # Others come in meanwhile: an id's value says which entry it is of.
                    file.add(Ids({n: e for n, e in ids.items() if EntryId.parse(e).n <= head.n}))
        self._reached("ids")
        return await asyncio.to_thread(folders.record_of, self._folder, path)

    # --- files -----------------------------------------------------------------------------------

    def _path(self, partition: int, name: str) -> str:
        path = f"{STATES}/{self._id}/p{partition:04d}.{name}"
        folders.place(self._folder, path)
        return path

    def _write(self, name: str, content: bytes) -> FileRecord:
        path = f"{STATES}/{self._id}/{name}"
        write_private(folders.place(self._folder, path), content)
        return folders.record_of(self._folder, path)


def _write_lines(path: Path, lines: Iterable[Line]) -> None:
    with LineFile(path) as file:
        for line in lines:
            file.add(line)
