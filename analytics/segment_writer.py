"""Writing one segment file: row group by row group, synced and checked before it may be published.

Synchronous: call `add` in order and `finish` once, in a thread where others must not wait.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from analytics.columns import SCHEMA, ColumnBuilder
from analytics.pages import Page
from analytics.sealing import broken_seal, seal
from analytics.segment import Segment
from analytics.segment_facts import Facts, digest_of
from analytics.steps import Reached, go_on
from eventlog.codec import Codec
from eventlog.errors import EventLogError
from eventlog.logs import get_logger

ROW_GROUP_ROWS = 25_000
ROW_GROUP_BYTES = 8 * 1024 * 1024
"""Of JSON: large events make shorter row groups, so that memory stays flat."""

_HIGH_CARDINALITY = frozenset(
    {"sequence", "id", "occurred_at", "causation_id", "text", "arguments", "result", "raw"}
)

_LOOKED_FOR = ("conversation", "session")
"""Columns with a bloom filter, by which a query passes over row groups without the one it asks for:
all of other partitions, and most where the conversation is a rare one. 2 % of the time, 0.3 % of the
size; filters for more distinct values than a row group usually has would only be larger."""
_BLOOM = {"ndv": 8192, "fpp": 0.01}

_log = get_logger("segment_writer")


def parquet_options(schema: pa.Schema = SCHEMA) -> dict[str, Any]:
    """Return the options every segment is written with, for `ParquetWriter` or `write_table`."""
    return {
        "compression": "zstd",
        "compression_level": 3,
        "use_dictionary": [name for name in schema.names if name not in _HIGH_CARDINALITY],
        "column_encoding": {
            "sequence": "DELTA_BINARY_PACKED",
            "occurred_at": "DELTA_BINARY_PACKED",
        },
        "bloom_filter_options": {name: _BLOOM for name in _LOOKED_FOR if name in schema.names},
        "write_statistics": True,
        "write_page_checksum": True,
    }


class SegmentWriter:
    """Writes one segment to a temporary path. Close it with `finish` or `abandon`."""

    def __init__(
        self,
        path: Path,
        segment: Segment,
        codec: Codec,
        reached: Reached = go_on,
    ) -> None:
        self._path = path
        self._segment = segment
        self._codec = codec
        self._reached = reached
        self._rows = ColumnBuilder(segment.partition, codec)
        try:
            self._writer = pq.ParquetWriter(path, SCHEMA, **parquet_options())
        except OSError:
            path.unlink(missing_ok=True)
            raise

    def add(self, page: Page) -> None:
        """Take the next entries of the partition, in order."""
        self._rows.add(page)
        if self._rows.row_count >= ROW_GROUP_ROWS or self._rows.byte_count >= ROW_GROUP_BYTES:
            self._flush()

    def finish(self) -> None:
        """Complete the file, sync it and check that it holds exactly the segment's entries."""
        self._flush()
        self._writer.add_key_value_metadata(Facts().metadata())
        self._writer.close()
        seal(self._path)
        check_segment(self._path, self._segment)

    def abandon(self) -> None:
        """Stop writing and delete the temporary file."""
        try:
            self._writer.close()
        except (OSError, pa.ArrowException) as error:
            # It writes the footer: what made the writing fail, a full disk perhaps, fails it again.
            _log.debug("footer_not_written", path=str(self._path), error=str(error))
        finally:
            self._path.unlink(missing_ok=True)

    def _flush(self) -> None:
        rows, self._rows = self._rows, ColumnBuilder(self._segment.partition, self._codec)
        if rows.row_count:
            self._writer.write_table(rows.build(), row_group_size=rows.row_count)
            self._reached("writing")


def check_segment(path: Path, segment: Segment) -> None:
    """Ensure that the file holds each sequence of the segment once, but for those it says it lacks.

    Raises EventLogError where it does not: the file must not be published.
    """
    try:
        why = broken_seal(path, is_whole=True)
        if why:
            raise _unfit(segment, why)
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            facts = Facts.read(file.metadata.metadata)
            sequences = file.read(columns=["sequence"]).column(0).combine_chunks()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _unfit(segment, f"cannot be read: {error}") from None
    why = misfit(sequences, segment, facts)
    if why:
        raise _unfit(segment, why)


def misfit(sequences: pa.Array, segment: Segment, facts: Facts) -> str | None:
    """Return what is wrong with a file's sequences, None where nothing is."""
    if segment.is_compacted:
        sequences = sequences.sort()
    if facts.removed_count:
        is_fit = len(
            sequences
        ) == segment.row_count - facts.removed_count and facts.digest == digest_of(sequences)
    else:
        is_fit = sequences.equals(pa.arange(segment.first, segment.last + 1))
    if is_fit:
        return None
    removed = f" but {facts.removed_count:,} removed by rule" if facts.removed_count else ""
    return (
        f"holds {len(sequences):,} rows instead of sequences {segment.first} to {segment.last} "
        f"once each{removed}"
    )


def _unfit(segment: Segment, why: str) -> EventLogError:
    return EventLogError(
        f"the file written for {segment.name} {why}.",
        remedy="Nothing was published. Look for a damaged disk or a log edited by hand.",
    )
