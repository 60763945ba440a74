"""What the archive holds: positions, gaps, spare files; and its entries, given back as they were."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from analytics.rows import rebuild
from analytics.segment import Coverage, Segment, cover
from analytics.storage import Storage
from eventlog.entry import RawEntry
from eventlog.errors import HistoryGap

ROWS_PER_STEP = 4000
"""Rows rebuilt at a time: bounds memory whatever the size of a segment."""

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

    def read_entries(
        self, partition: int, after_n: int = 0, until_n: int | None = None
    ) -> Iterator[RawEntry]:
        """Return the entries after sequence `after_n` up to and with `until_n`, in order.

        Without `until_n`, up to the archive position. Raises HistoryGap where the archive ends
        before `until_n`.
        """
        coverage = self.coverage(partition)
        end = coverage.position.n
        if until_n is not None and until_n > end:
            raise HistoryGap(
                f"the archive of partition {partition} ends at sequence {end:,}, "
                f"not at {until_n:,}.",
                remedy="Read what follows from the log, or archive it first.",
            )
        last = end if until_n is None else until_n
        for segment in coverage.chosen:
            if segment.last > after_n and segment.first <= last:
                yield from self._entries_of(segment, after_n, last)

    def _entries_of(self, segment: Segment, after_n: int, until_n: int) -> Iterator[RawEntry]:
        if segment.is_compacted:
            # Sorted by type and conversation: the sequence has to be restored in one piece.
            table = pq.read_table(
                self.storage.path(segment),
                filters=[("sequence", ">", after_n), ("sequence", "<=", until_n)],
                partitioning=None,
            )
            yield from rebuild(table.sort_by("sequence"))
            return
        with pq.ParquetFile(self.storage.path(segment), pre_buffer=False) as file:
            first = segment.first
            for batch in file.iter_batches(batch_size=ROWS_PER_STEP):
                rows = batch.slice(max(0, after_n + 1 - first), None)
                rows = rows.slice(0, max(0, until_n + 1 - max(first, after_n + 1)))
                first += len(batch)
                if len(rows):
                    yield from rebuild(pa.Table.from_batches([rows]))
                if first > until_n:
                    return
