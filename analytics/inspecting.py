"""Reading segments through: which files are damaged, and how. Synchronous.

A page's bytes are covered by its checksum. The footer has none, so what it says is compared: the name
with the rows, the statistics with the values they are of.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analytics.columns import SCHEMA
from analytics.segment import Segment
from analytics.segment_facts import FORMAT, Facts
from analytics.segment_writer import misfit
from analytics.storage import Storage
from eventlog.errors import HistoryGap


class Damage(NamedTuple):
    """What is wrong with one file."""

    segment: Segment
    why: str

    def as_error(self) -> HistoryGap:
        """Return it as what a reader of the file would raise."""
        segment = self.segment
        return HistoryGap(
            f"the archive's file {segment.name} {self.why}: sequences {segment.first:,} to "
            f"{segment.last:,} of partition {segment.partition} are missing.",
            remedy="`eventlog archive restore` brings it back from a backup or from the log.",
        )


def inspect(storage: Storage, segment: Segment) -> Damage | None:
    """Return what is wrong with a segment, None where nothing is. All of it is read."""
    try:
        with pq.ParquetFile(
            storage.path(segment), pre_buffer=False, page_checksum_verification=True
        ) as file:
            why = _fault(file, segment)
    except MemoryError:
        raise
    except FileNotFoundError:
        why = "is gone"
    except (OSError, ValueError, pa.ArrowException) as error:
        why = f"cannot be read ({error})"
    return Damage(segment, why) if why else None


def _fault(file: pq.ParquetFile, segment: Segment) -> str | None:
    facts = Facts.read(file.metadata.metadata)
    if facts.format != FORMAT:
        return f"is of format {facts.format!r}, which this program does not know"
    if bool(facts.compacted_at_ms) != segment.is_compacted:
        return "is not the file that its name says"
    odd = [
        field.name
        for field in file.schema_arrow
        if field.name in SCHEMA.names and field.type != SCHEMA.field(field.name).type
    ]
    lacking = {"partition", "sequence", "appended_at", "type"} - set(file.schema_arrow.names)
    if odd or lacking:
        return f"has no usable column {(odd or sorted(lacking))[0]!r}"
    sequences: list[pa.Array] = []
    for number in range(file.metadata.num_row_groups):
        table = file.read_row_group(number, use_threads=False)
        why = _group_fault(file, number, table, segment)
        if why:
            return why
        sequences += table["sequence"].chunks
    return misfit(pa.chunked_array(sequences, pa.int64()).combine_chunks(), segment, facts)


def _group_fault(
    file: pq.ParquetFile, number: int, table: pa.Table, segment: Segment
) -> str | None:
    if not pc.all(pc.equal(table["partition"], segment.partition)).as_py():
        return "holds rows of another partition"
    latest = pc.max(table["appended_at"].cast(pa.int64())).as_py()
    if latest > segment.last_ms * 1000:
        return "holds rows from after the time in its name"
    group = file.metadata.row_group(number)
    if group.num_rows != len(table):
        return "says otherwise than it holds how many rows there are"
    for place, name in enumerate(file.schema_arrow.names):
        if not _agrees(group.column(place).statistics, table[name]):
            return f"has wrong statistics of column {name!r}, so that queries would pass over rows"
    return None


def _agrees(statistics: Any, column: pa.ChunkedArray) -> bool:
    """Return whether a column chunk's statistics are those of its values."""
    if statistics is None:
        return True
    if statistics.has_null_count and statistics.null_count != column.null_count:
        return False
    if not statistics.has_min_max or column.null_count == len(column):
        return True
    bounds = pc.min_max(column).as_py()
    return bool((statistics.min, statistics.max) == (bounds["min"], bounds["max"]))
