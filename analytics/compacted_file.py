"""Writing one compacted file: a stretch of a day, sorted by type and conversation.

Its rows are held in memory, so its length is bounded: whoever reads it in the order of the log has to
hold them as well. Synchronous.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analytics.catalogue import Catalogue
from analytics.columns import SCHEMA
from analytics.keeping import is_removable
from analytics.sealing import seal
from analytics.segment import Segment
from analytics.segment_facts import Facts, digest_of
from analytics.segment_writer import check_segment, parquet_options
from analytics.steps import Reached, go_on

ROW_GROUP_ROWS = 20_000
"""Measured best all round, for look-ups of a conversation and for scans of a type."""

ROW_GROUP_BYTES = 16 * 1024 * 1024
"""Of a group in memory: large events make shorter row groups."""


class Work(NamedTuple):
    """What is to be written: a file, out of others that together hold all its sequences."""

    target: Segment
    sources: tuple[Segment, ...]
    removing: tuple[str, ...] = ()
    """Types whose rows are left out where `keeping.is_removable` says so."""


def write_compacted(
    catalogue: Catalogue, work: Work, now_ms: int, reached: Reached = go_on
) -> Facts | None:
    """Return what the published file says of itself; None where it was there already.

    It is whole, synced and checked before it gets its name. Raises HistoryGap where a source is
    damaged, SegmentGone where it is not there, EventLogError, OSError; then nothing is left of it.
    """
    storage = catalogue.storage
    rows, facts = _gather(catalogue, work)
    facts = facts._replace(compacted_at_ms=now_ms)
    staged = storage.stage(work.target)
    try:
        _write(staged, rows, facts, reached)
        del rows
        check_segment(staged, work.target)
        reached("written")
        return facts if storage.publish(staged, work.target, reached) else None
    except Exception:
        staged.unlink(missing_ok=True)
        raise


def count_removable(catalogue: Catalogue, segment: Segment, types: Collection[str]) -> int:
    """Return how many rows of a segment a rule on these types would take out."""
    with catalogue.open(segment) as reader:
        if not reader.may_hold_type(types):
            return 0
        tables = reader.pieces(segment.first - 1, segment.last, types)
        return sum(pc.sum(is_removable(table, types)).as_py() or 0 for table in tables)


def _gather(catalogue: Catalogue, work: Work) -> tuple[pa.Table, Facts]:
    """Return the rows that are to be in the file, in the order of the log, and what is not there."""
    target, removed = work.target, Counter[str]()
    tables: list[pa.Table] = []
    after_n = target.first - 1
    for source in work.sources:
        until_n = min(source.last, target.last)
        with catalogue.open(source) as reader:
            # Only whole: of a part nobody could say which of the rows removed before were in it.
            if reader.facts.removed:
                assert after_n < source.first
                assert until_n == source.last
                removed.update(reader.facts.removed)
            pieces = reader.pieces(after_n, until_n)
            tables += [_without(table, work.removing, removed) for table in pieces]
        after_n = until_n
    whole = _in_one_piece(tables)
    digest = digest_of(whole["sequence"].chunk(0)) if removed else ""
    return whole, Facts(removed=dict(removed), digest=digest)


def _without(table: pa.Table, types: Collection[str], removed: Counter[str]) -> pa.Table:
    """Return the table without what a rule on these types takes out, which is counted."""
    if not types:
        return table
    is_gone = is_removable(table, types)
    counts = pc.value_counts(table["type"].filter(is_gone))
    removed.update({str(each["values"]): each["counts"].as_py() for each in counts})
    return table.filter(pc.invert(is_gone))


def _in_one_piece(tables: list[pa.Table]) -> pa.Table:
    """Return the tables' rows as one table of SCHEMA and what columns they have beyond it.

    The list is emptied, and column by column what it held is let go: both never are in memory whole.
    """
    empty = SCHEMA.empty_table()
    whole = pa.concat_tables([empty, *tables], promote_options="default")
    tables.clear()
    columns, names = [], whole.column_names
    for _ in names:
        columns.append(pa.chunked_array([whole.column(0).combine_chunks()]))
        whole = whole.remove_column(0)
    return pa.table(columns, names=names)


def _write(path: Path, rows: pa.Table, facts: Facts, reached: Reached) -> None:
    schema = pa.schema([SCHEMA.field(f.name) if f.name in SCHEMA.names else f for f in rows.schema])
    order = _order(rows)
    sorting = pq.SortingColumn.from_ordering(schema, [("type", "ascending")])
    options = {**parquet_options(schema), "sorting_columns": sorting}
    with pq.ParquetWriter(path, schema, **options) as writer:
        for group in _groups(rows, order):
            writer.write_table(group.cast(schema), row_group_size=len(group))
            reached("writing")
        writer.add_key_value_metadata(facts.metadata())
    seal(path)


def _order(rows: pa.Table) -> pa.Array:
    """Return where the rows stand that come first, second, ...

    By type; those with a session first, so that what asks for sessions passes over row groups of all
    the others; by conversation; by sequence. Texts are ranked once each, so that rows are compared by
    numbers.
    """
    keys = {
        "type": _ranks(rows["type"].chunk(0)),
        "lacks_session": rows["session"].is_null().cast(pa.int8()),
        "conversation": _ranks(rows["conversation"].chunk(0)),
        "sequence": rows["sequence"],
    }
    return pc.sort_indices(pa.table(keys), sort_keys=[(name, "ascending") for name in keys])


def _ranks(texts: pa.Array) -> pa.Array:
    encoded = texts.dictionary_encode()
    return pc.rank(encoded.dictionary, "ascending", tiebreaker="first").take(encoded.indices)


def _groups(rows: pa.Table, order: pa.Array) -> Iterator[pa.Table]:
    start = 0
    while start < len(order):
        group = rows.take(order.slice(start, ROW_GROUP_ROWS))
        while len(group) > 1 and group.nbytes > ROW_GROUP_BYTES:
            group = group.slice(0, len(group) // 2)
        start += len(group)
        yield group
