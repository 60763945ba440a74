"""What is restored: a backup, or an archive alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from analytics.backup.manifest import Manifest
from analytics.backup.registries import Registries, load_registries
from analytics.backup.standing import Positions
from analytics.backup.state import Group, Line, read_lines
from analytics.rows import rebuild
from analytics.segment import Segment
from analytics.segment_reader import SegmentReader
from eventlog.entry import RawEntry
from eventlog.ids import START, EntryId


class Piece(NamedTuple):
    """A file with entries."""

    path: Path
    segment: Segment


class Base(NamedTuple):
    """A partition as the source has it, beside what the target's archive has beyond."""

    head: EntryId
    first_n: int
    pieces: tuple[Piece, ...]
    state: Path | None
    ids: Path | None
    archived_count: int = 0
    """Of the pieces, those that are segments of the archive; the rest is the tail."""

    @property
    def archived(self) -> tuple[Piece, ...]:
        """The segments of the archive."""
        return self.pieces[: self.archived_count]

    def entries(self, after_n: int) -> Iterator[list[RawEntry]]:
        """Yield what follows a sequence, in order, of what the stream had. Synchronous."""
        after_n = max(after_n, self.first_n - 1)
        for path, segment in self.pieces:
            if segment.last <= after_n:
                continue
            with SegmentReader(path, segment) as reader:
                for table in reader.pieces(after_n, segment.last):
                    yield rebuild(table)
            after_n = segment.last

    def id_at(self, n: int) -> EntryId | None:
        """Return the id of an entry, None where it is not here."""
        for path, segment in self.pieces:
            if segment.first <= n <= segment.last:
                if n == segment.last:
                    return segment.end
                with SegmentReader(path, segment) as reader:
                    found = [
                        entry.id for table in reader.pieces(n - 1, n) for entry in rebuild(table)
                    ]
                return found[0] if found else None
        return None

    def lines(self) -> Iterator[Line]:
        """Yield the state beside the entries. Raises BackupDamaged."""
        for path in (self.state, self.ids):
            if path is not None:
                yield from read_lines(path)


NOTHING = Base(START, 1, (), None, None)


class Source(NamedTuple):
    """What is restored."""

    id: str
    """Of the backup; `archive` for the archive alone."""
    epoch: str | None
    """None where it is not known."""
    created_ms: int
    registries: Registries
    bases: list[Base]
    """By partition."""
    has_stream: bool
    """Whether entries beyond a base are put into the stream, for groups that go on there."""

    def positions(self) -> Positions:
        """Return how far its groups are."""
        return {
            (partition, line.name): EntryId.parse(line.work["delivered"])
            for partition, base in enumerate(self.bases)
            for line in base.lines()
            if isinstance(line, Group) and "delivered" in line.work
        }


def backup_source(folder: Path, manifest: Manifest) -> Source:
    """Return a backup as a source."""
    bases = [
        Base(
            each.head,
            each.first_n,
            tuple(Piece(folder / piece.file.path, piece.segment) for piece in each.pieces),
            folder / each.state.path,
            folder / each.ids.path,
            len(each.segments),
        )
        for each in manifest.partitions
    ]
    registries = load_registries(folder / manifest.registries.path)
    return Source(manifest.id, manifest.epoch, manifest.created_ms, registries, bases, True)


def archive_source(partition_count: int, created_ms: int) -> Source:
    """Return a source that is the target's archive and nothing else."""
    return Source("archive", None, created_ms, Registries(), [NOTHING] * partition_count, False)
