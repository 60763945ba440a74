"""Segments: what a Parquet file's name says, and what a set of names covers. Pure.

    day=2026-11-20/p0003-000000000001-000000012345-1795132800123.parquet
        UTC day    partition  first       last      ms of the last entry's id; then -c if compacted,
                                                    -c1, -c2, ... if rules took rows out of that

The day is that of the entry ids, the day of *appending*: it never steps back within a partition, so
a segment of one day is one contiguous range, and a late or imported event (an old `occurred_at`)
never reopens a closed day. The name alone gives the archive position, gaps and overlaps.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple, Self

from eventlog.ids import START, EntryId

DAY_MS = 24 * 3600 * 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAME = re.compile(
    r"day=\d{4,}-\d\d-\d\d/p(?P<partition>\d{4,})-(?P<first>\d{12,})-(?P<last>\d{12,})"
    r"-(?P<last_ms>\d+)(?P<compacted>-c(?P<revision>[1-9]\d{0,5})?)?\.parquet"
)


class Segment(NamedTuple):
    """One file: the entries `first` to `last` of a partition, both included."""

    partition: int
    first: int
    last: int
    last_ms: int
    is_compacted: bool = False
    revision: int = 0
    """Of a compacted file: how often rules took rows out, each time into a file of a new name."""

    @property
    def end(self) -> EntryId:
        """The id of the last entry."""
        return EntryId(self.last_ms, self.last)

    @property
    def row_count(self) -> int:
        """How many entries the file holds, those included that a rule removed from it."""
        return self.last - self.first + 1

    @property
    def day(self) -> date:
        """The UTC day of its entries."""
        return (_EPOCH + timedelta(milliseconds=self.last_ms)).date()

    @property
    def name(self) -> str:
        """The path under the archive's root, with `/`."""
        kind = f"-c{self.revision or ''}" if self.is_compacted else ""
        return (
            f"day={self.day}/p{self.partition:04d}-{self.first:012d}-{self.last:012d}"
            f"-{self.last_ms}{kind}.parquet"
        )

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Return the segment of that name, None for any other file."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        partition, first, last, last_ms = map(int, match.group(1, 2, 3, 4))
        kind = match["compacted"] is not None, int(match["revision"] or 0)
        segment = cls(partition, first, last, last_ms, *kind)
        # A name that is not exactly the one we would write is not ours.
        is_ours = 1 <= first <= last and last_ms <= _LATEST_MS and segment.name == name
        return segment if is_ours else None


_LATEST_MS = 253_402_300_799_999
"""The end of the year 9999, where `datetime` ends."""


class Range(NamedTuple):
    """Sequences `first` to `last`, both included."""

    first: int
    last: int


class Coverage(NamedTuple):
    """What the segments of one partition say when they are read from the start."""

    chosen: tuple[Segment, ...]
    """The files to read, in order: each begins where the one before ends."""
    gaps: tuple[Range, ...]
    """Sequences that no file has although a later one has more."""
    spare: tuple[Segment, ...]
    """Files not read because others hold the same: safe to delete once they are old."""
    stranded: tuple[Segment, ...]
    """Files beyond a gap, which nothing can read before the gap is closed."""

    @property
    def position(self) -> EntryId:
        """The archive position: the id of the last entry reached without a gap."""
        return self.chosen[-1].end if self.chosen else START

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Every file there is."""
        return (*self.chosen, *self.spare, *self.stranded)

    @property
    def superseded(self) -> tuple[Segment, ...]:
        """Spare files that compacted ones have taken the place of."""
        return tuple(
            spare for spare in self.spare if all(s.is_compacted for s in self.holding_of(spare))
        )

    def holding(self, within: Range) -> tuple[Segment, ...]:
        """Return the chosen files that hold any of these sequences, in order."""
        start = bisect_left(self.chosen, within.first, key=lambda segment: segment.last)
        stop = bisect_right(self.chosen, within.last, key=lambda segment: segment.first)
        return self.chosen[start:stop]

    def holding_of(self, segment: Segment) -> tuple[Segment, ...]:
        """Return the chosen files that hold any of a segment's sequences, in order."""
        return self.holding(Range(segment.first, segment.last))

    @property
    def overlaps(self) -> tuple[Segment, ...]:
        """Spare files that no chosen file contains: two writers cut differently."""
        superseded = set(self.superseded)
        return tuple(
            spare
            for spare in self.spare
            if spare not in superseded
            and not any(s.first <= spare.first and spare.last <= s.last for s in self.chosen)
        )


def cover(segments: Iterable[Segment], after: int = 0) -> Coverage:
    """Return which of one partition's segments to read, and what is wrong with the rest.

    From the start, or the sequence `after`, follow the (after → last] edges, always the one from which most can be reached;
    of those a compacted one; then the one that itself reaches furthest; the latest revision on ties.
    """
    edges: defaultdict[int, list[Segment]] = defaultdict(list)
    for segment in sorted(set(segments), key=lambda s: s.last, reverse=True):
        edges[segment.first - 1].append(segment)
    reach: dict[Segment, int] = {}
    # In falling order of `last`, all that may follow a segment has been seen before it.
    for segment in sorted((s for found in edges.values() for s in found), key=lambda s: -s.last):
        reach[segment] = max((reach[s] for s in edges.get(segment.last, ())), default=segment.last)
    chosen: list[Segment] = []
    end = after
    while following := edges.get(end):
        best = max(following, key=lambda s: (reach[s], s.is_compacted, s.last, s.revision))
        chosen.append(best)
        end = best.last
    spare = (s for s in reach.keys() - set(chosen) if s.last <= end)
    beyond = sorted(s for s in reach if s.last > end)
    return Coverage(tuple(chosen), _gaps(end, beyond), tuple(sorted(spare)), tuple(beyond))


def _gaps(end: int, beyond: list[Segment]) -> tuple[Range, ...]:
    gaps = []
    for segment in beyond:
        if segment.first > end + 1:
            gaps.append(Range(end + 1, segment.first - 1))
        end = max(end, segment.last)
    return tuple(gaps)


def day_end_ms(ms: int) -> int:
    """Return the first millisecond of the UTC day after the one that `ms` falls in."""
    return (ms // DAY_MS + 1) * DAY_MS
