"""Restoring: the archive's segments first, then the log's metadata, then partition by partition.

A mark in the metadata says that the log is not whole, and a guard stands in place of each head, until
`complete` is called. Whenever it is cut short, the same restore goes on: what is in the archive stays, a
partition that has its head is whole, the stream of another is filled on from its end.

What the target's archive has beyond the source is restored as well: it would otherwise be numbered twice.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from analytics.backup.counting import Counted
from analytics.backup.files import sync
from analytics.backup.manifest import read_manifest
from analytics.backup.partition_count import find_partition_count
from analytics.backup.refilling import Refill, Window
from analytics.backup.registries import merge_erasures, write_registries
from analytics.backup.source import Base, Source, archive_source, backup_source
from analytics.backup.standing import Kind, Standing, judge, read_standing
from analytics.backup.steps import Progress, Reached, Tell, go_on, tell_nobody
from analytics.backup.verifying import require_whole
from analytics.catalogue import Catalogue
from analytics.segment import Segment, cover
from analytics.storage import Storage
from eventlog.clock import SYSTEM_CLOCK
from eventlog.codec import Codec
from eventlog.connection import in_our_words
from eventlog.entry import RawEntry
from eventlog.errors import HistoryGap, RestoreRefused
from eventlog.ids import EntryId, new_event_id
from eventlog.keys import Keys, is_of_whole, leased_group, log_pattern, partition_in
from eventlog.log import EventLog
from eventlog.metadata import FORMAT
from eventlog.restoring import FIELD, GUARD, Marker, encode_marker, reached_server
from eventlog.scripts import load_script
from eventlog.settings import Settings

UNLINKED_AT_ONCE = 1000


class PartitionRestored(NamedTuple):
    """What a partition is now."""

    partition: int
    head: EntryId
    """The last entry ever, from which sequences go on."""
    archived: EntryId
    """The last entry in the archive."""
    beyond_count: int
    """Entries that only the archive had: groups stand before them."""
    lost_count: int | None
    """Entries that the server said it had had, and that are nowhere; None where nobody knows."""


class Restored(NamedTuple):
    """What was restored. The log is not whole before `complete`."""

    token: str
    """Opens the log until then: `EventLog.open(restoring=token)`."""
    kind: Kind
    """What was on the server before."""
    source: str
    partitions: list[PartitionRestored]
    erasure_count: int
    """Erasures that only the backup's ledger knew."""
    unknown_types: list[str]
    """Event types of which this program cannot tell whether they advance versions."""


async def restore(
    settings: Settings,
    storage: Storage,
    folder: Path | None,
    codec: Codec,
    *,
    overwrite: bool = False,
    on_progress: Tell = tell_nobody,
    reached: Reached = go_on,
) -> Restored:
    """Return what was restored of a backup, or with no folder from the archive alone.

    It may be called again where it was cut short. Raises BackupDamaged and RestoreRefused before
    anything is changed; HistoryGap for an archive that is damaged, Fenced where another restore took
    over, LogUnavailable, OSError.
    """
    async with reached_server(settings) as server:
        work = _Restoring(settings, storage, server.client, codec, on_progress, reached)
        with _server_words(settings):
            source = await work.source(folder)
            return await work.run(source, overwrite=overwrite)


@contextmanager
def _server_words(settings: Settings) -> Iterator[None]:
    """Put what the server says in our words; a full disk is not a server out of reach."""
    try:
        yield
    except RedisError:
        with in_our_words(settings):
            raise


async def complete(log: EventLog) -> None:
    """Say that a restored log is whole: from now on everybody may open it."""
    with in_our_words(log.settings):
        await log.client.hdel(log.keys.meta(), FIELD)


class _Restoring:
    """One run."""

    def __init__(
        self,
        settings: Settings,
        storage: Storage,
        client: Redis,
        codec: Codec,
        tell: Tell,
        reached: Reached,
    ) -> None:
        self._settings = settings
        self._storage = storage
        self._catalogue = Catalogue(storage)
        self._client = client
        self._codec = codec
        self._keys = Keys(settings.key_prefix)
        self._tell = tell
        self._reached = reached
        self._guard = load_script("analytics", "restore_guard")
        self._unknown: set[str] = set()

    async def source(self, folder: Path | None) -> Source:
        """Return what is to be restored, checked byte for byte."""
        if folder is not None:
            manifest = read_manifest(folder)
            await asyncio.to_thread(require_whole, folder, manifest, on_progress=self._tell)
            return backup_source(folder, manifest)
        found = await read_standing(self._client, self._keys, 0)
        wanted = found.partition_count or self._settings.partition_count
        count = await asyncio.to_thread(find_partition_count, self._catalogue, wanted)
        return archive_source(count, SYSTEM_CLOCK.now_us() // 1000)

    async def run(self, source: Source, *, overwrite: bool) -> Restored:
        """Return what was restored."""
        standing = await read_standing(self._client, self._keys, len(source.bases))
        await asyncio.to_thread(self._check_archive, source)
        ends = await asyncio.to_thread(self._ends, source)
        kind = judge(
            standing,
            source=source.id,
            epoch=source.epoch,
            heads=ends,
            positions={} if standing.is_empty else await asyncio.to_thread(source.positions),
            overwrite=overwrite,
        )
        await asyncio.to_thread(self._publish, source)
        marker = await self._mark(source, standing, kind)
        erasures = merge_erasures(self._settings, source.registries)
        todo = await self._guarded(marker, source, is_new=kind != "unfinished")
        leased = await self._wipe(todo, len(source.bases))
        await write_registries(self._client, self._keys, source.registries)
        self._reached("wiped")
        for done, partition in enumerate(todo):
            self._tell(Progress("log", done, len(todo)))
            end = ends[partition]
            await self._fill(source, partition, end, marker, leased.get(partition, set()))
        return Restored(
            marker.token,
            kind,
            source.id,
            [self._told(source, standing, p, end) for p, end in enumerate(ends)],
            erasures,
            sorted(self._unknown),
        )

    def _told(
        self, source: Source, standing: Standing, partition: int, end: EntryId
    ) -> PartitionRestored:
        known = standing.heads[partition] if partition < len(standing.heads) else None
        lost = max(0, known.n - end.n) if known is not None and not standing.is_empty else None
        position = self._catalogue.coverage(partition).position
        beyond = max(0, end.n - source.bases[partition].head.n)
        return PartitionRestored(partition, end, position, beyond, lost)

    # --- the archive -----------------------------------------------------------------------------

    def _check_archive(self, source: Source) -> None:
        """Ensure that the target's archive is of the same log. Raises RestoreRefused."""
        for partition, coverage in self._catalogue.scan().items():
            if partition >= len(source.bases):
                raise _foreign(partition, "the backup's log has no such partition")
            base = source.bases[partition]
            found: EntryId | None
            for segment in coverage.chosen:
                if segment.first <= base.head.n < segment.last:
                    found, expected = self._archived_id(partition, base.head.n), base.head
                else:
                    found, expected = segment.end, base.id_at(segment.last) or segment.end
                if found is not None and found != expected:
                    raise _foreign(
                        partition, f"entry {expected.n} is {found} there, not {expected}"
                    )

    def _archived_id(self, partition: int, n: int) -> EntryId | None:
        """Return the id of an entry of the target's archive; None where its row is gone."""
        stretches = self._catalogue.stretches(partition, EntryId(0, n - 1), EntryId(0, n))
        return next((entry.id for stretch in stretches for entry in stretch.entries), None)

    def _ends(self, source: Source) -> list[EntryId]:
        """Return where each partition will end."""
        there = self._catalogue.scan()
        positions = [there.get(p, cover(())).position for p in range(len(source.bases))]
        return [
            max(base.head, position, key=lambda each: each.n)
            for base, position in zip(source.bases, positions, strict=True)
        ]

    def _publish(self, source: Source) -> None:
        """Put the backup's segments into the archive, except what it has.

        What it has is as it was, or was rewritten since, by erasing; what cannot be read is replaced.
        """
        there = self._catalogue.scan()
        present = set(self._storage.segments())
        pieces = [piece for base in source.bases for piece in base.archived]
        for done, (path, segment) in enumerate(pieces):
            self._tell(Progress("archive", done, len(pieces)))
            is_damaged = segment in present and self._is_damaged(segment)
            if is_damaged or segment.last > there.get(segment.partition, cover(())).position.n:
                self._put(path, segment, replace=is_damaged)

    def _put(self, path: Path, segment: Segment, *, replace: bool) -> None:
        staged = self._storage.stage(segment)
        try:
            shutil.copyfile(path, staged)
            sync(staged)
            if replace:
                self._storage.replace(staged, segment)
            else:
                self._storage.publish(staged, segment)
        finally:
            staged.unlink(missing_ok=True)
        self._reached("published")

    def _is_damaged(self, segment: Segment) -> bool:
        try:
            with self._catalogue.open(segment):
                return False
        except HistoryGap:
            return True

    # --- the log as a whole ----------------------------------------------------------------------

    async def _mark(self, source: Source, standing: Standing, kind: Kind) -> Marker:
        """Return the mark in the log's metadata, which are made where there are none."""
        marker = Marker(source.id, new_event_id(), is_guarded=kind == "unfinished")
        epoch = source.epoch or standing.epoch or new_event_id()
        stored: dict[Any, Any] = {
            "format": str(FORMAT),
            "partition_count": str(len(source.bases)),
            "epoch": epoch,
            "created_ms": str(source.created_ms),
            FIELD: encode_marker(marker),
        }
        pipeline = self._client.pipeline(transaction=True)
        pipeline.delete(self._keys.meta())
        pipeline.hset(self._keys.meta(), mapping=stored)
        await pipeline.execute()
        self._reached("marked")
        return marker

    async def _guarded(self, marker: Marker, source: Source, *, is_new: bool) -> list[int]:
        """Return the partitions that are to be filled: those that have our guard now."""
        todo = []
        for partition in range(len(source.bases)):
            keys = [self._keys.head(partition), self._keys.stream(partition)]
            if await self._guard(self._client, keys, [marker.guard, "" if is_new else GUARD]):
                todo.append(partition)
        marker = msgspec.structs.replace(marker, is_guarded=True)
        await self._client.hset(self._keys.meta(), FIELD, encode_marker(marker))
        self._reached("guarded")
        return todo

    async def _wipe(self, todo: list[int], count: int) -> dict[int, set[str]]:
        """Delete all that the log had; return the groups of the leases found, by partition.

        Leases stay, since their generations must go on.
        """
        leased: dict[int, set[str]] = {}
        pattern, keys = log_pattern(self._keys.log), self._keys
        gone: list[str] = []
        async for name in self._client.scan_iter(pattern, count=UNLINKED_AT_ONCE):
            key = name.decode() if isinstance(name, bytes) else str(name)
            partition = partition_in(keys.log, key)
            if partition is None:
                if key != keys.meta() and is_of_whole(keys.log, key):
                    gone.append(key)
            elif partition in todo or partition >= count:
                if group := leased_group(key):
                    leased.setdefault(partition, set()).add(group)
                elif (
                    key not in (keys.head(partition), keys.stream(partition)) or partition >= count
                ):
                    gone.append(key)
            if len(gone) >= UNLINKED_AT_ONCE:
                await self._unlink(gone)
                gone.clear()
        await self._unlink(gone)
        return leased

    async def _unlink(self, keys: list[str]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:  # one by one: in a cluster they are of several slots
            pipeline.unlink(key)
        await pipeline.execute()

    # --- a partition -----------------------------------------------------------------------------

    async def _fill(
        self, source: Source, partition: int, end: EntryId, marker: Marker, leased: set[str]
    ) -> None:
        base = source.bases[partition]
        refill = Refill(self._client, self._keys, partition, marker)
        seconds, _ = await self._client.time()
        window = Window(int(seconds) * 1000, self._settings.dedup_window_s * 1000)
        position = await refill.end()
        async for entries in _in_thread(base.entries(position.n)):
            position = await refill.add(position, entries)
            self._reached("entries")
        remember_from_ms = (end.ms // window.window_ms - 1) * window.window_ms
        counted = Counted(self._codec, remember_from_ms)
        async for entries in _in_thread(self._beyond(partition, base, end)):
            counted.add(entries)
            if source.has_stream:
                new = [entry for entry in entries if entry.id > position]
                position = await refill.add(position, new)
                self._reached("entries")
        self._unknown |= counted.unknown_types
        groups = await refill.set_state(base.lines(), counted, end, window)
        self._reached("state")
        registered = source.registries.groups
        await refill.finish(end, sorted({*groups, *registered, *leased}), window.now_ms)
        self._reached("finished")

    def _beyond(self, partition: int, base: Base, end: EntryId) -> Iterator[list[RawEntry]]:
        """Yield the entries that only the target's archive has."""
        if end.n > base.head.n:
            for stretch in self._catalogue.stretches(partition, base.head, end):
                yield stretch.entries


async def _in_thread(
    pieces: Iterator[list[RawEntry]],
) -> AsyncGenerator[list[RawEntry]]:
    """Yield the pieces, the next one being made in a thread meanwhile."""
    coming = _next(pieces)
    try:
        while (piece := await coming) is not None:
            coming = _next(pieces)
            yield piece
    finally:
        await asyncio.wait({coming})


def _next(pieces: Iterator[list[RawEntry]]) -> asyncio.Task[list[RawEntry] | None]:
    return asyncio.create_task(asyncio.to_thread(next, pieces, None))


def _foreign(partition: int, why: str) -> RestoreRefused:
    return RestoreRefused(
        f"the archive is of another log: partition {partition}, {why}.",
        remedy="Move it away, or name another: `--archive-dir`.",
    )
