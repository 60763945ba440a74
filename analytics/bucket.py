"""A bucket of segments: an object appears whole, durable and once, or not at all.

A segment is written to this machine's disk and then *put* on condition that its name is free, which
two writers of one segment cannot both do. Where a server does not know that condition (it is tried
before the first put) the name is looked at before; two may then put the same rows one after the other.
Segments are read from copies on this machine (`segment_cache.py`), each of one version of its object.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from analytics.bucket_objects import BucketObjects, Stored
from analytics.segment import Segment
from analytics.segment_cache import SegmentCache, unusable
from analytics.steps import Reached, go_on
from analytics.storage import SWEEP_AGE_S
from eventlog.clock import SYSTEM_CLOCK, Clock
from eventlog.errors import ArchiveUnavailable, HistoryGap
from eventlog.logs import get_logger

FETCHES_AT_ONCE = 8
KNOWN_FOR_S = 5.0
"""How long a listing is believed about which version of a segment is the one to read."""

_log = get_logger("bucket")


class BucketStorage:
    """Segments in a bucket, read through a cache. Raises ArchiveUnavailable where either is away."""

    def __init__(
        self, objects: BucketObjects, cache: SegmentCache, *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.objects = objects
        self._cache = cache
        self._clock = clock
        self._lock = threading.Lock()
        self._fetching: dict[Segment, threading.Lock] = {}
        self._known: dict[Segment, Stored] = {}
        self._known_s = float("-inf")
        self._has_listed = False
        self._write_count = 0
        self._enforces_absence: bool | None = None

    # --- reading -----------------------------------------------------------------------------------

    def segments(self) -> list[Segment]:
        """Return every published segment, in no order."""
        started_s, write_count = self._clock.monotonic_s(), self._write_count
        found = {
            segment: stored
            for name, stored in self.objects.listing()
            if (segment := Segment.parse(name)) is not None
        }
        with self._lock:
            if self._write_count == write_count:
                has_changed = self._known != found or not self._has_listed
                self._has_listed = True
                self._known, self._known_s = found, started_s
            else:  # it may show what was before our own write
                has_changed = False
        if has_changed:
            self._cache.keep({segment.name: stored.version for segment, stored in found.items()})
        return list(found)

    def path(self, segment: Segment) -> Path:
        """Return a copy of a published segment, fetched if it is not there.

        It stays for as long as it takes to open it. Of a segment that the bucket does not have,
        the path is one where no file is.
        """
        try:
            stored = self._stored(segment)
            # A version that goes while it is fetched was replaced: that is rare, twice never.
            for _ in range(3):
                if stored is None:
                    break
                path = self._fetched(segment, stored)
                if path is not None:
                    return path
                stored = self._stored(segment, anew=True)
        except OSError as error:
            raise unusable(self._cache.root, error) from None
        return self._cache.absent(segment.name)

    def paths(self, segments: Sequence[Segment]) -> list[Path]:
        """Return copies of segments, fetched several at a time; they stay until the next call.

        Raises HistoryGap where one is gone.
        """
        for _ in range(3):  # another process may have deleted one before it was pinned
            with ThreadPoolExecutor(FETCHES_AT_ONCE, "fetch") as pool:
                held = self._cache.pin(list(pool.map(self.path, segments)))
            gone = [each for each, path in zip(segments, held, strict=True) if not path.exists()]
            if not gone:
                return held
        raise HistoryGap(
            f"{gone[0].name} is gone from {self.objects.place}.",
            remedy="Ask again, another object may hold the same; else restore it from a backup.",
        )

    def _stored(self, segment: Segment, *, anew: bool = False) -> Stored | None:
        """Return which version of a segment is the one to read, None where it is gone."""
        with self._lock:
            is_known = self._clock.monotonic_s() - self._known_s <= KNOWN_FOR_S
            if is_known and not anew and segment in self._known:
                return self._known[segment]
        return self.objects.look(segment.name)

    def _fetched(self, segment: Segment, stored: Stored) -> Path | None:
        """Return the copy of that version, None where the bucket has it no more."""
        name, version = segment.name, stored.version
        found = self._cache.find(name, version, stored.size_bytes)
        if found is not None:
            return found
        with self._lock:
            turn = self._fetching.setdefault(segment, threading.Lock())
        with turn:  # of many threads that want it one fetches it
            found = self._cache.find(name, version, stored.size_bytes)
            if found is not None:
                return found
            arriving = self._cache.new_path(name, "arriving")
            try:
                with arriving.open("wb") as file:
                    if not self.objects.fetch(name, version, file):
                        return None
                    file.flush()
                    os.fsync(file.fileno())
                return self._cache.adopt(arriving, name, version)
            finally:
                arriving.unlink(missing_ok=True)
                with self._lock:
                    self._fetching.pop(segment, None)

    # --- writing -----------------------------------------------------------------------------------

    def stage(self, segment: Segment) -> Path:
        """Return a new temporary path on this machine's disk."""
        return self._cache.new_path(segment.name, "staging")

    def publish(self, staged: Path, segment: Segment, reached: Reached = go_on) -> bool:
        """Put the staged file under its name; return False where the name was taken.

        Either way the segment is durable afterwards and the temporary file is gone. A put whose reply
        was lost, and that finds the same content there, has succeeded.
        """
        try:
            if self.enforces_absence():
                stored = self.objects.put(segment.name, staged, if_absent=True)
            elif self.objects.look(segment.name) is None:
                stored = self.objects.put(segment.name, staged)
            else:
                stored = None
            reached("linked")
            self._take(staged, segment, stored)
        except Exception:
            staged.unlink(missing_ok=True)
            raise
        return stored is not None

    def sync(self, segment: Segment) -> None:
        """Do nothing: an object that can be listed is durable."""

    def replace(self, staged: Path, segment: Segment) -> None:
        """Put the staged file in the place of the published one. Copies of that are not used again."""
        self._take(staged, segment, self.objects.put(segment.name, staged))

    def remove(self, segment: Segment) -> None:
        """Delete a published segment; nothing happens where it is gone."""
        self.objects.delete(segment.name)
        with self._lock:
            self._write_count += 1
            self._known.pop(segment, None)

    def _take(self, staged: Path, segment: Segment, stored: Stored | None) -> None:
        """Keep what was put as the copy of it: it need not be fetched."""
        with self._lock:
            self._write_count += 1
            self._known_s = float("-inf")
        if stored is None:
            staged.unlink(missing_ok=True)
        else:
            self._cache.adopt(staged, segment.name, stored.version)

    def enforces_absence(self) -> bool:
        """Return whether the server puts an object only where none is; tried once, then known."""
        if self._enforces_absence is None:
            self._enforces_absence = self.objects.enforces_absence()
            if not self._enforces_absence:
                _log.warning(
                    "bucket_ignores_if_none_match",
                    archive=str(self.objects.place),
                    remedy="Rival archivers may put a segment twice, with the same rows. Stop the "
                    "archivers while you erase.",
                )
        return self._enforces_absence

    # --- what is left over -------------------------------------------------------------------------

    def sweep(self, age_s: float = SWEEP_AGE_S) -> int:
        """Delete temporary files older than `age_s`; return how many.

        Uploads of that age that never ended are given up too, where the bucket can be reached.
        """
        try:
            self.objects.abort_uploads(age_s, self._clock)
        except ArchiveUnavailable as error:
            _log.warning("uploads_not_swept", error=str(error))
        return self._cache.sweep(age_s)

    def temporary_count(self) -> int:
        """Return how many temporary files this machine has: being written, or left by a crash."""
        return self._cache.temporary_count()
