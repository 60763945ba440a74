"""The manifest: which files make up a backup, and what they hold. It is written last.

DIR/manifest.json       the only truth: a file that it does not name is no part of the backup
segments/day=…/…    the archive's segments, each copied once and named by all later manifests
states/ID/          what one backup took of each partition: state, tail, event ids
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from analytics.backup.files import sync, write_private
from analytics.segment import Segment
from eventlog.errors import BackupDamaged, ConfigurationError
from eventlog.ids import EntryId

FORMAT = 1
"""Grows with a change that older programs cannot restore."""

NAME = "manifest.json"
SEGMENTS, STATES = "segments", "states"


class FileRecord(msgspec.Struct, frozen=True):
    """A file of the backup."""

    path: str
    """Under the backup's directory, with `/`."""
    size_bytes: int
    sha256: str


class SegmentRecord(msgspec.Struct, frozen=True):
    """A segment of the archive."""

    name: str
    """In the archive."""
    stamp: str
    """What tells the archive's file from one that takes its place."""
    file: FileRecord

    @property
    def segment(self) -> Segment:
        """What the name says. Raises BackupDamaged."""
        found = Segment.parse(self.name)
        if found is None:
            raise BackupDamaged(f"the backup names a segment {self.name!r}, which is none.")
        return found


class PartitionRecord(msgspec.Struct, frozen=True):
    """A partition as of one moment."""

    head: EntryId
    first_n: int
    """The first sequence that the stream had; one more than the head's where it had none."""
    segments: list[SegmentRecord]
    """In order, without a gap."""
    state: FileRecord
    """Versions, producers, groups."""
    ids: FileRecord
    """Event ids that are remembered."""
    tail: SegmentRecord | None
    """The entries from the last segment to the head; None where there are none."""

    @property
    def pieces(self) -> list[SegmentRecord]:
        """The files that hold its entries, in order."""
        return [*self.segments, *([self.tail] if self.tail else [])]

    @property
    def files(self) -> list[FileRecord]:
        """All its files."""
        return [*(piece.file for piece in self.pieces), self.state, self.ids]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A backup."""

    format: int = FORMAT
    id: str
    """Drawn anew for each."""
    log: str
    """The key prefix."""
    epoch: str
    created_ms: int
    """Of the log."""
    begun_at: int
    """µs UTC. Nothing that was appended before is missing."""
    completed_at: int
    server: str
    settings: dict[str, Any]
    """As of then, credentials masked: for people to read."""
    registries: FileRecord
    """What belongs to no partition."""
    partitions: list[PartitionRecord]

    @property
    def files(self) -> list[FileRecord]:
        """All files that make it up."""
        return [self.registries, *(file for each in self.partitions for file in each.files)]

    @property
    def entry_count(self) -> int:
        """Entries ever appended."""
        return sum(each.head.n for each in self.partitions)

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(file.size_bytes for file in self.files)


class _Sealed(msgspec.Struct):
    sha256: str
    """Of the manifest's JSON, byte for byte."""
    manifest: msgspec.Raw


class _Format(msgspec.Struct):
    format: int


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest as it lies in its file."""
    text = msgspec.json.encode(manifest)
    return msgspec.json.encode(_Sealed(hashlib.sha256(text).hexdigest(), msgspec.Raw(text))) + b"\n"


def decode_manifest(content: bytes) -> Manifest:
    """Return the manifest that a file holds. Raises BackupDamaged, ConfigurationError."""
    try:
        sealed = msgspec.json.decode(content, type=_Sealed)
        if hashlib.sha256(sealed.manifest).hexdigest() != sealed.sha256:
            raise BackupDamaged("its checksum differs")
        written = msgspec.json.decode(sealed.manifest, type=_Format).format
        if written > FORMAT:
            raise ConfigurationError(
                f"the backup has format {written}; this program knows {FORMAT}.",
                remedy="Upgrade eventlog.",
            )
        manifest = msgspec.json.decode(sealed.manifest, type=Manifest)
        _check(manifest)
    except (msgspec.MsgspecError, BackupDamaged, UnicodeDecodeError) as error:
        raise BackupDamaged(
            f"the manifest is damaged ({str(error).rstrip('.')}).",
            remedy="Restore another backup; or take a new one into an empty directory.",
        ) from None
    return manifest


def _check(manifest: Manifest) -> None:
    """Ensure that the entries have no gap and the paths lead nowhere else. Raises BackupDamaged."""
    for file in manifest.files:
        path = Path(file.path)
        if (
            path.is_absolute()
            or ".." in path.parts
            or path.parts[:1] not in ((SEGMENTS,), (STATES,))
        ):
            raise BackupDamaged(f"it names a file {file.path!r} outside of the backup")
    for number, partition in enumerate(manifest.partitions):
        end = EntryId(0, 0)
        for piece in partition.pieces:
            segment = piece.segment
            if segment.partition != number or segment.first != end.n + 1:
                raise BackupDamaged(f"partition {number} has a gap after {end.n}")
            end = segment.end
        if end != partition.head or not 1 <= partition.first_n <= end.n + 1:
            raise BackupDamaged(f"partition {number} does not end at its head")


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of the backup in a directory. Raises BackupDamaged where there is none."""
    try:
        content = (folder / NAME).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise BackupDamaged(
            f"{folder} holds no complete backup.",
            remedy="Name the directory that `eventlog backup` was given; it writes manifest.json last.",
        ) from None
    return decode_manifest(content)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put the manifest in the place of the one before, durably and in one step."""
    path = folder / f".{NAME}.tmp"
    write_private(path, encode_manifest(manifest))
    path.replace(folder / NAME)
    sync(folder)
