"""Which files a backup still has to copy, and which it no longer needs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from analytics.backup.manifest import SEGMENTS, FileRecord, Manifest, SegmentRecord
from analytics.segment import Segment
from eventlog.errors import ConfigurationError, RestoreRefused
from eventlog.ids import EntryId


class Known(NamedTuple):
    """The segments that are in the backup already, by name and stamp."""

    records: dict[tuple[str, str], SegmentRecord]

    @classmethod
    def of(cls, manifest: Manifest | None) -> Known:
        """Return those that the last backup names."""
        found = (each for p in manifest.partitions for each in p.segments) if manifest else ()
        return cls({(each.name, each.stamp): each for each in found})

    def find(self, segment: Segment, stamp: str) -> SegmentRecord | None:
        """Return the copy of just that file."""
        return self.records.get((segment.name, stamp))


def place_of(segment: Segment, stamp: str) -> str:
    """Return where in the backup a segment's copy lies.

    A segment that was rewritten under its name, as erasing does, has another stamp, hence another
    place: the copy that the last manifest names stays until there is a new one.
    """
    stem, _, suffix = segment.name.rpartition(".")
    return f"{SEGMENTS}/{stem}.{stamp}.{suffix}"


def unneeded(present: Iterable[str], files: Iterable[FileRecord]) -> list[str]:
    """Return the paths that are present and that no record names, in order."""
    return sorted(set(present) - {file.path for file in files})


def check_successor(
    manifest: Manifest | None, log: str, epoch: str, heads: Mapping[int, EntryId]
) -> None:
    """Ensure that the directory's last backup is of this log, and not of more than it has.

    Raises ConfigurationError for another log, RestoreRefused for one that ends before the backup:
    a lost server must not cost the backup as well.
    """
    if manifest is None:
        return
    if manifest.epoch != epoch:
        raise ConfigurationError(
            f"the directory holds a backup of another log ({manifest.log!r}, epoch "
            f"{manifest.epoch}); log {log!r} has epoch {epoch}.",
            remedy="If the server lost its data, `eventlog restore` it; else take another directory.",
        )
    for partition, record in enumerate(manifest.partitions):
        head = heads.get(partition, EntryId(0, 0))
        if head.n < record.head.n or head.ms < record.head.ms:
            raise RestoreRefused(
                f"partition {partition} ends at {head}, but the backup in the directory has it up to "
                f"{record.head}: the log lost what the backup still has.",
                remedy="`eventlog restore` it; or take another directory for what is left.",
            )
