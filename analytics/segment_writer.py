"""Writing one segment file: row group by row group, synced and checked before it may be published.

Synchronous: call `add` in order and `finish` once, in a thread where others must not wait.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from analytics.columns import SCHEMA, ColumnBuilder
from analytics.pages import Page
from analytics.segment import Segment
from analytics.steps import Reached, go_on
from eventlog.codec import Codec
from eventlog.errors import EventLogError
from eventlog.logs import get_logger

ROW_GROUP_ROWS = 25_000
ROW_GROUP_BYTES = 8 * 1024 * 1024
"""Of JSON: large events make shorter row groups, so that memory stays flat."""

FORMAT = "1"
"""Of the file's layout: written into its metadata under `eventlog.format`."""

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
        self._writer.add_key_value_metadata({"eventlog.format": FORMAT})
        self._writer.close()
        descriptor = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
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
    """Ensure that the file holds each sequence of the segment once, in order.

    Raises EventLogError where it does not: the file must not be published.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            row_count = file.metadata.num_rows
            sequence = file.read(columns=["sequence"]).column(0).combine_chunks()
    except (OSError, pa.ArrowException) as error:
        raise _unfit(segment, f"cannot be read: {error}") from None
    if row_count != segment.row_count or not sequence.equals(
        pa.arange(segment.first, segment.last + 1)
    ):
        raise _unfit(
            segment,
            f"holds {row_count:,} rows instead of sequences {segment.first} to {segment.last} "
            "once each",
        )


def _unfit(segment: Segment, why: str) -> EventLogError:
    return EventLogError(
        f"the file written for {segment.name} {why}.",
        remedy="Nothing was published. Look for a damaged disk or a log edited by hand.",
    )
