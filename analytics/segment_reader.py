"""Reading one segment file: only the row groups, columns and rows that were asked for.

Synchronous: use it in a thread where others must not wait.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analytics.columns import SCHEMA
from analytics.mirror import MIRRORS
from analytics.sealing import broken_seal
from analytics.segment import Range, Segment
from analytics.segment_facts import FORMAT, Facts
from analytics.segment_writer import parquet_options
from eventlog.errors import HistoryGap

ROWS_PER_PIECE = 5000
"""Rows given at a time: fewer cost more each, more leave the processor's cache."""

_FIELDS = {mirror.name: frozenset(mirror.fields) for mirror in MIRRORS}
_OF_EVERY_ROW = frozenset({"sequence", "appended_at", "type", "raw"})
_DICTIONARIES = [
    name for name in parquet_options()["use_dictionary"] if SCHEMA.field(name).type == pa.string()
]
_FALSE = pa.scalar(False, pa.bool_())


class SegmentGone(HistoryGap):
    """There is no such file: perhaps another holds the same by now."""


class Wanted(NamedTuple):
    """Which of a conversation's entries are looked for."""

    conversation: str
    types: frozenset[str]
    within: Range
    newest_first: bool


class _Group(NamedTuple):
    """A row group of the file."""

    number: int
    held: Range
    """The sequences in it; of a compacted file, those between which they lie."""


class _Hit(NamedTuple):
    """A row that was looked for."""

    n: int
    group: int
    row: int


class SegmentReader:
    """One open segment. Use it as a context manager.

    Opening raises SegmentGone where there is no such file; opening and reading raise HistoryGap
    where it is damaged. For `find` open it `for_search`: most texts then stay undecoded.
    """

    def __init__(self, path: Path, segment: Segment, *, for_search: bool = False) -> None:
        self._segment = segment
        with self._sound():
            why = broken_seal(path, is_whole=False)
            if why:
                raise _missing(segment, why)
            self._file = pq.ParquetFile(
                path,
                pre_buffer=False,
                page_checksum_verification=True,
                read_dictionary=_DICTIONARIES if for_search else None,
            )
        self._metadata = self._file.metadata
        self._places = {name: i for i, name in enumerate(self._metadata.schema.names)}
        try:
            self.facts = self._stated()
        except HistoryGap:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _stated(self) -> Facts:
        """Return what the file says of itself, having compared it with what is there."""
        with self._sound():
            facts = Facts.read(self._metadata.metadata)
        if facts.format != FORMAT:
            raise HistoryGap(
                f"the archive's file {self._segment.name} is of format {facts.format!r}, of which "
                f"this program knows only {FORMAT!r}.",
                remedy="Use the version of eventlog that wrote it, or a later one.",
            )
        if self._metadata.num_rows + facts.removed_count != self._segment.row_count:
            raise _missing(self._segment, f"holds {self._metadata.num_rows:,} rows")
        return facts

    @property
    def byte_count(self) -> int:
        """How large the row groups are, not compressed."""
        groups = range(self._metadata.num_row_groups)
        return sum(self._metadata.row_group(number).total_byte_size for number in groups)

    def may_hold_type(self, types: Collection[str]) -> bool:
        """Return whether the statistics admit a row of one of these types."""
        groups = range(self._metadata.num_row_groups)
        return any(self._may_hold(number, "type", types) for number in groups)

    def pieces(
        self, after_n: int, until_n: int, types: Collection[str] | None = None
    ) -> Iterator[pa.Table]:
        """Yield the rows after sequence `after_n` up to and with `until_n`, in order.

        With `types` only rows of these types and those without one. No table is empty, and each
        lacks columns in which it has no value. What a rule removed is not there.
        """
        within = Range(after_n + 1, until_n)
        tables: Iterator[pa.Table]
        tables = (self._rows(group, within, types) for group in self._groups(within))
        if self._segment.is_compacted:
            # Sorted by type and conversation: the sequence has to be restored in one piece.
            whole = _together(list(tables))
            tables = iter([whole.sort_by("sequence") if len(whole) else whole])
        for table in tables:
            for start in range(0, len(table), ROWS_PER_PIECE):
                yield table.slice(start, ROWS_PER_PIECE)

    def find(self, wanted: Wanted, limit: int) -> pa.Table:
        """Return up to `limit` rows of a conversation, the nearest of them, in their order."""
        groups = self._groups(wanted.within)
        hits: list[_Hit] = []
        for group in reversed(groups) if wanted.newest_first else groups:
            hits += self._hits(group, wanted, limit)
            if len(hits) >= limit and not self._segment.is_compacted:
                break
        hits = sorted(hits, reverse=wanted.newest_first)[:limit]
        if not hits:
            return pa.table({})
        rows: dict[int, list[int]] = {}
        for hit in hits:
            rows.setdefault(hit.group, []).append(hit.row)
        tables = [
            self._read(group, self._filled(group, wanted.types)).take(pa.array(places))
            for group, places in rows.items()
        ]
        found = _together([_decoded(table) for table in tables])
        # Of a compacted file the groups were read one after the other.
        order = "descending" if wanted.newest_first else "ascending"
        return found.sort_by([("sequence", order)]) if self._segment.is_compacted else found

    def _groups(self, within: Range) -> list[_Group]:
        """Return the row groups with any of these sequences."""
        found = []
        start = self._segment.first
        for number in range(self._metadata.num_row_groups):
            if self._segment.is_compacted:
                held = self._between(number)
            else:
                held = Range(start, start + self._metadata.row_group(number).num_rows - 1)
                start = held.last + 1
            if held.last >= within.first and held.first <= within.last:
                found.append(_Group(number, held))
        return found

    def _between(self, group: int) -> Range:
        statistics = self._statistics(group, "sequence")
        if statistics is None or not statistics.has_min_max:
            return Range(self._segment.first, self._segment.last)
        return Range(statistics.min, statistics.max)

    def _rows(self, group: _Group, within: Range, types: Collection[str] | None) -> pa.Table:
        if types is not None and not self._may_hold(group.number, "type", types, or_null=True):
            return pa.table({})
        if types is None and within.first <= group.held.first and group.held.last <= within.last:
            return self._read(group.number, self._filled(group.number, types))
        heads = self._read(group.number, ["sequence", "type"])
        is_wanted = _is_within(heads["sequence"], within)
        if types is not None:
            is_typed = pc.is_in(heads["type"], _names(types))
            is_wanted = pc.and_(is_wanted, pc.or_(is_typed, heads["type"].is_null()))
        if not pc.any(is_wanted).as_py():
            return pa.table({})
        return self._read(group.number, self._filled(group.number, types)).filter(is_wanted)

    def _hits(self, group: _Group, wanted: Wanted, limit: int) -> list[_Hit]:
        """Return the nearest `limit` hits of a row group."""
        number = group.number
        if not self._may_hold(number, "conversation", [wanted.conversation]):
            return []
        if not self._may_hold(number, "type", wanted.types):
            return []
        conversations = self._read(number, ["conversation"]).column(0).combine_chunks()
        place = conversations.dictionary.index(pa.scalar(wanted.conversation, pa.string()))
        if place.as_py() < 0:
            return []
        rows = pc.indices_nonzero(pc.equal(conversations.indices, place).fill_null(_FALSE))
        heads = self._read(number, ["sequence", "type"]).take(rows)
        is_wanted = pc.and_(
            _is_within(heads["sequence"], wanted.within),
            pc.is_in(heads["type"].cast(pa.string()), _names(wanted.types)),
        )
        nearest = slice(-limit, None) if wanted.newest_first else slice(limit)
        sequences = heads["sequence"].filter(is_wanted).to_pylist()
        hits = zip(sequences, rows.filter(is_wanted).to_pylist(), strict=True)
        return sorted(_Hit(n, number, row) for n, row in hits)[nearest]

    def _filled(self, group: int, types: Collection[str] | None) -> list[str]:
        """Return the columns that have any value in the group, and may have one for the types."""
        names = list(self._places)
        if types is not None:
            fields = _OF_EVERY_ROW.union(*(_FIELDS.get(name, ()) for name in types))
            names = [name for name in names if name in fields]
        row_count = self._metadata.row_group(group).num_rows
        return [name for name in names if self._null_count(group, name) < row_count]

    def _null_count(self, group: int, name: str) -> int:
        statistics = self._statistics(group, name)
        known = statistics is not None and statistics.has_null_count
        return int(statistics.null_count) if known else 0

    def _may_hold(
        self, group: int, name: str, values: Collection[str], *, or_null: bool = False
    ) -> bool:
        """Return whether a column's statistics admit any of the values."""
        statistics = self._statistics(group, name)
        if statistics is None or not statistics.has_min_max:
            return True
        if or_null and (not statistics.has_null_count or statistics.null_count):
            return True
        return any(statistics.min <= value <= statistics.max for value in values)

    def _statistics(self, group: int, name: str) -> Any:
        return self._metadata.row_group(group).column(self._places[name]).statistics

    def _read(self, group: int, names: list[str]) -> pa.Table:
        with self._sound():
            # More threads cost as much processor time and each keeps memory of its own.
            return self._file.read_row_group(group, columns=names, use_threads=False)

    @contextmanager
    def _sound(self) -> Iterator[None]:
        try:
            yield
        except MemoryError:
            raise
        except FileNotFoundError:
            raise _missing(self._segment, "is gone", SegmentGone) from None
        except (OSError, ValueError, pa.ArrowException) as error:
            raise _missing(self._segment, f"cannot be read ({error})") from None


def _is_within(sequences: pa.ChunkedArray, within: Range) -> pa.ChunkedArray:
    first, last = pa.scalar(within.first, pa.int64()), pa.scalar(within.last, pa.int64())
    return pc.and_(pc.greater_equal(sequences, first), pc.less_equal(sequences, last))


def _names(types: Collection[str]) -> pa.Array:
    return pa.array(list(types), pa.string())


def _together(tables: list[pa.Table]) -> pa.Table:
    """Return the tables' rows as one table; what a table lacks is null."""
    return pa.concat_tables(tables, promote_options="default") if tables else pa.table({})


def _decoded(table: pa.Table) -> pa.Table:
    fields = [
        field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def _missing(segment: Segment, why: str, error: type[HistoryGap] = HistoryGap) -> HistoryGap:
    return error(
        f"the archive's file {segment.name} {why}: sequences {segment.first:,} to "
        f"{segment.last:,} of partition {segment.partition} are missing.",
        remedy="Restore it with `eventlog archive restore`: from a backup, or from the log.",
    )
