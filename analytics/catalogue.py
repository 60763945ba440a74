"""What the archive holds: positions, gaps, spare files; and its entries, given back as they were."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Generator
from operator import attrgetter

from analytics.rows import rebuild
from analytics.segment import Coverage, Range, Segment, cover
from analytics.segment_reader import SegmentGone, SegmentReader
from analytics.storage import Storage
from eventlog.errors import HistoryGap
from eventlog.ids import EntryId
from eventlog.past import Stretch

_NOTHING = cover(())


class Catalogue:
    """The segments of one storage. Synchronous: call it from a thread."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def scan(self) -> dict[int, Coverage]:
        """Return what there is of each partition that has any segment, by one listing."""
        by_partition: defaultdict[int, list[Segment]] = defaultdict(list)
        for segment in self.storage.segments():
            by_partition[segment.partition].append(segment)
        return {partition: cover(found) for partition, found in sorted(by_partition.items())}

    def coverage(self, partition: int) -> Coverage:
        """Return what there is of one partition."""
        return self.scan().get(partition, _NOTHING)

    def open(self, segment: Segment, *, for_search: bool = False) -> SegmentReader:
        """Return a reader of the segment, to be closed; SegmentGone where it is not there."""
        return SegmentReader(self.storage.path(segment), segment, for_search=for_search)

    def stretches(
        self,
        partition: int,
        after: EntryId,
        until: EntryId | None = None,
        types: Collection[str] | None = None,
    ) -> Generator[Stretch]:
        """Yield what was archived after `after`, up to and with `until` or the position, in order.

        With `types` only entries of these types, and those that cannot be decoded. What there is
        is settled once, at the start. Raises HistoryGap where the archive ends before `until`, or
        a file is missing or damaged.
        """
        coverage = self.coverage(partition)
        until = until or coverage.position
        gone: Segment | None = None
        while after.n < until.n:
            require(coverage, partition, until.n)
            segment = coverage.holding(Range(after.n + 1, until.n))[0]
            try:
                reader = self.open(segment)
            except SegmentGone:
                if segment == gone:  # listed again, and gone again: it is no compaction
                    raise
                # Another file may hold the same by now.
                gone, coverage = segment, self.coverage(partition)
                continue
            end = min(segment.end, until, key=attrgetter("n"))
            with reader:
                for table in reader.pieces(after.n, end.n, types):
                    entries = rebuild(table)
                    after = entries[-1].id
                    yield Stretch(entries, after)
            if after.n < end.n:
                yield Stretch([], end)
            after = end


def require(coverage: Coverage, partition: int, until_n: int) -> None:
    """Ensure that a partition can be read up to `until_n`; raises HistoryGap where it cannot."""
    end = coverage.position.n
    if until_n <= end:
        return
    if coverage.gaps:
        gap = coverage.gaps[0]
        raise HistoryGap(
            f"the archive of partition {partition} lacks the sequences {gap.first:,} to "
            f"{gap.last:,}.",
            remedy="Restore them with `eventlog archive restore`: from a backup, or from the log.",
        )
    raise HistoryGap(
        f"the archive of partition {partition} ends at sequence {end:,}, not at {until_n:,}.",
        remedy="Read what follows from the log, or archive it first.",
    )
