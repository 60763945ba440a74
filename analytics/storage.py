"""A directory of segments: a file appears whole, durable and once, or not at all.

A file is written under a dot-name in its own folder, synced, and then *linked* to its name, which
fails where the name exists: create-if-absent, so two writers of one segment cannot harm each other.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from analytics.segment import Segment
from analytics.steps import Reached, go_on
from eventlog.clock import SYSTEM_CLOCK, Clock
from eventlog.ids import new_event_id

TEMPORARY_SUFFIX = ".tmp"
SWEEP_AGE_S = 24 * 3600
"""Older than any write could be: a younger temporary file may have a living writer."""


class Storage(Protocol):
    """Where segments are kept."""

    def segments(self) -> list[Segment]:
        """Return every published segment, in no order."""
        ...

    def path(self, segment: Segment) -> Path:
        """Return where a published segment can be read."""
        ...

    def paths(self, segments: Sequence[Segment]) -> list[Path]:
        """Return where published segments can be read, all of them until the next such call."""
        ...

    def stage(self, segment: Segment) -> Path:
        """Return a new temporary place to write the segment to."""
        ...

    def publish(self, staged: Path, segment: Segment, reached: Reached = go_on) -> bool:
        """Give the staged file its name, durably; return False where the name was taken."""
        ...

    def sync(self, segment: Segment) -> None:
        """Make a published segment durable, whose writer may have died before it came to that."""
        ...

    def replace(self, staged: Path, segment: Segment) -> None:
        """Put the staged file in the place of a published one, durably and in one step."""
        ...

    def remove(self, segment: Segment) -> None:
        """Delete a published segment, durably; nothing happens where it is gone."""
        ...

    def sweep(self, age_s: float = SWEEP_AGE_S) -> int:
        """Delete temporary files older than `age_s`; return how many."""
        ...

    def temporary_count(self) -> int:
        """Return how many temporary files there are: being written, or left by a crash."""
        ...


class DirectoryStorage:
    """Segments in a directory of a file system that has hard links."""

    def __init__(self, root: Path, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self.root = root
        self._clock = clock

    def segments(self) -> list[Segment]:
        """Return every published segment, in no order; none where the directory is missing."""
        found = []
        for folder in self._folders():
            with os.scandir(folder) as files:
                for file in files:
                    segment = Segment.parse(f"{folder.name}/{file.name}")
                    if segment is not None:
                        found.append(segment)
        return found

    def path(self, segment: Segment) -> Path:
        """Return where a published segment can be read."""
        return self.root / segment.name

    def paths(self, segments: Sequence[Segment]) -> list[Path]:
        """Return where published segments can be read."""
        return [self.path(segment) for segment in segments]

    def stage(self, segment: Segment) -> Path:
        """Return a new temporary path in the segment's folder, which is created and synced."""
        final = self._place(segment)
        return final.with_name(f".{final.name}.{new_event_id()}{TEMPORARY_SUFFIX}")

    def publish(self, staged: Path, segment: Segment, reached: Reached = go_on) -> bool:
        """Give the staged file, already synced, its name; return False where the name was taken.

        Either way the segment is durable afterwards and the temporary name is gone.
        """
        final = self._place(segment)
        try:
            os.link(staged, final)
            is_new = True
        except FileExistsError:
            is_new = False
        reached("linked")
        # Also where another writer linked it: that one may have died before it came to sync.
        _sync(final.parent)
        staged.unlink()
        return is_new

    def sync(self, segment: Segment) -> None:
        """Make a published segment durable: its content was synced before it had a name."""
        folder = self.path(segment).parent
        for each in (folder, self.root, self.root.parent):
            _sync(each)

    def replace(self, staged: Path, segment: Segment) -> None:
        """Put the staged file, already synced, in the place of the published one.

        Who has that open reads on in what it was.
        """
        final = self.path(segment)
        staged.replace(final)
        _sync(final.parent)

    def remove(self, segment: Segment) -> None:
        """Delete a published segment, durably; nothing happens where it is gone.

        Who has it open reads on in it.
        """
        final = self.path(segment)
        try:
            final.unlink()
        except FileNotFoundError:
            return
        _sync(final.parent)

    def temporary_count(self) -> int:
        """Return how many temporary files there are: being written, or left by a crash."""
        return sum(1 for folder in self._folders() for _ in folder.glob(f".*{TEMPORARY_SUFFIX}"))

    def sweep(self, age_s: float = SWEEP_AGE_S) -> int:
        """Delete temporary files whose last write is older than `age_s`; return how many."""
        swept = 0
        for folder in self._folders():
            for file in folder.glob(f".*{TEMPORARY_SUFFIX}"):
                if self._clock.now_us() / 1e6 - file.stat().st_mtime > age_s:
                    file.unlink(missing_ok=True)
                    swept += 1
        return swept

    def _place(self, segment: Segment) -> Path:
        """Return the segment's path, its folder being there."""
        final = self.path(segment)
        if not final.parent.is_dir():
            final.parent.mkdir(parents=True, exist_ok=True)
            _sync(self.root)
            _sync(self.root.parent)
        return final

    def _folders(self) -> list[Path]:
        try:
            with os.scandir(self.root) as found:
                return [Path(f.path) for f in found if f.name.startswith("day=") and f.is_dir()]
        except FileNotFoundError:
            return []


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
