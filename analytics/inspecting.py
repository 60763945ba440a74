"""Reading segments through: which files are damaged, and how. Synchronous."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analytics.columns import SCHEMA
from analytics.sealing import broken_seal
from analytics.segment import Segment
from analytics.segment_facts import FORMAT, Facts
from analytics.segment_writer import misfit
from analytics.storage import Storage
from eventlog.errors import HistoryGap

_NEEDED = ("partition", "sequence", "appended_at", "type")


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
            remedy="Restore it with `eventlog archive restore`: from a backup, or from the log.",
        )


def inspect(storage: Storage, segment: Segment) -> Damage | None:
    """Return what is wrong with a segment, None where nothing is. All of it is read.

    Found are changed bytes, a file that was cut short or is another's, rows that are too many, too few
    or not those of its name.
    """
    try:
        path = storage.path(segment)
        why = broken_seal(path, is_whole=True)
        if why is None:
            with pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
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
    columns = {field.name: field.type for field in file.schema_arrow}
    for name in _NEEDED:
        if columns.get(name) != SCHEMA.field(name).type:
            return f"has no column {name!r}, or one of another type"
    sequences: list[pa.Array] = []
    for number in range(file.metadata.num_row_groups):
        table = file.read_row_group(number, use_threads=False)
        if not pc.all(pc.equal(table["partition"], segment.partition)).as_py():
            return "holds rows of another partition"
        if pc.max(table["appended_at"].cast(pa.int64())).as_py() > segment.last_ms * 1000:
            return "holds rows from after the time in its name"
        sequences += table["sequence"].chunks
    return misfit(pa.chunked_array(sequences, pa.int64()).combine_chunks(), segment, facts)
