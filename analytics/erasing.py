"""Rewriting segments: the same rows under the same name, some of them without their content.

A segment is written anew beside itself and put in its own place, which nobody can see by half. Rows
that do not change are carried over as they are; so is the order, also that of a compacted file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analytics.catalogue import Catalogue
from analytics.columns import SCHEMA, encode_entries
from analytics.copying import Copy, copy_segment
from analytics.rows import rebuild
from analytics.sealing import seal
from analytics.segment import Segment
from analytics.segment_facts import Facts
from analytics.segment_writer import parquet_options
from analytics.storage import Storage
from eventlog.codec import Codec
from eventlog.connection import in_our_words
from eventlog.entry import RawEntry
from eventlog.erasure_scope import PERSON_FIELDS
from eventlog.errors import EventLogError, HistoryGap
from eventlog.log import EventLog
from eventlog.redactor import COPY_TYPES

Change = Callable[[RawEntry], bytes | None]
"""Gives the JSON that is to stand in place of an entry's; None leaves it as it is."""

Concerns = Callable[[str, str], bool]
"""Says of a field and a name in it whether a row with that name has to be looked at."""

Changes = Mapping[int, Mapping[int, RawEntry]]
"""What is to be changed of a file: by row group, by row in it."""

_NAMING = ("conversation", "session", *PERSON_FIELDS)
_TELLING = (*_NAMING, "type", "is_erased", "raw")
"""Columns that tell whether a row has to be looked at."""

_FALSE = pa.scalar(False, pa.bool_())
_ARROW_SCHEMA = b"ARROW:schema"


def segment_changes(
    storage: Storage, segment: Segment, change: Change, concerns: Concerns
) -> Changes:
    """Return what `change` changes of a segment, shown the rows that may be meant, in order.

    Most row groups have none: then only a few columns are read. Nothing of a file that is gone: what
    took its place was there before it went. Raises HistoryGap where the file is damaged.
    """
    try:
        return _changes_in(storage, segment, change, concerns)
    except FileNotFoundError:
        return {}


def _changes_in(storage: Storage, segment: Segment, change: Change, concerns: Concerns) -> Changes:
    found: dict[int, dict[int, RawEntry]] = {}
    with _sound(segment), pq.ParquetFile(storage.path(segment), **_READING) as file:
        for number in range(file.metadata.num_row_groups):
            rows = _looked_at(_group(file, number, _TELLING), concerns)
            if not len(rows):
                continue
            entries = rebuild(_group(file, number).take(rows))
            for row, entry in zip(rows.to_pylist(), entries, strict=True):
                raw = change(entry)
                if raw is not None:
                    found.setdefault(number, {})[row] = RawEntry(entry.id, raw)
    return found


def rewrite_segment(storage: Storage, segment: Segment, changes: Changes, codec: Codec) -> None:
    """Write the segment anew with the changes and put it in its own place.

    Whenever this ends, there is the old file or the new one, whole. Raises HistoryGap where the old
    one is damaged, EventLogError where the new one does not hold the same rows, OSError.
    """
    staged = storage.stage(segment)
    try:
        with _sound(segment), pq.ParquetFile(storage.path(segment), **_READING) as file:
            _write(staged, file, _changed(file, segment.partition, changes, codec))
            _check(staged, file, segment)
        storage.replace(staged, segment)
    finally:
        staged.unlink(missing_ok=True)


def forget_temporary(storage: Storage, age_s: float) -> int:
    """Delete what crashed writers left, if older than that; return how many files are left."""
    storage.sweep(age_s)
    return storage.temporary_count()


async def write_planned(log: EventLog, storage: Storage, partition: int) -> Callable[[], bool]:
    """Return what publishes the segment that is being written of a partition, from the log as it is.

    A copy that was begun before the log was rewritten may hold the old entries, and its archiver may
    publish it at any time. Segments are created if absent: once there is one, that copy is thrown
    away. The result writes and publishes in a thread; it says whether there was anything to do.
    """
    position = Catalogue(storage).coverage(partition).position
    with in_our_words(log.settings):
        planned = await log.client.hget(log.keys.archive_plan(partition), str(position.n))
    head = (await log.heads())[partition]
    first = await log.read_raw(partition, position, 1)
    if planned is None or int(planned) > head.n or not first or first[0].id.n != position.n + 1:
        return lambda: False
    draft = Segment(partition, first[0].id.n, int(planned), first[0].id.ms)
    copy = Copy(
        settings=log.settings,
        server_url=log.server_url,
        stream=log.keys.stream(partition),
        after=position,
        draft=draft,
        path=str(storage.stage(draft)),
    )
    return lambda: _publish(storage, copy, log.codec)


def _publish(storage: Storage, copy: Copy, codec: Codec) -> bool:
    end = copy_segment(copy, codec)
    assert end is not None  # nobody here stops wanting it
    storage.publish(Path(copy.path), copy.draft._replace(last_ms=end.ms))
    return True


# --- files


_READING: dict[str, Any] = {"pre_buffer": False, "page_checksum_verification": True}


class _sound:  # noqa: N801 - reads as a word where it is used
    """Turns an error of reading a file into HistoryGap, naming the segment."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: object, _traceback: object) -> None:
        if isinstance(error, pa.ArrowException) and not isinstance(error, MemoryError):
            raise HistoryGap(
                f"the archive's file {self._segment.name} cannot be read ({error}).",
                remedy="Restore it with `eventlog archive restore`, then erase again.",
            ) from error


def _group(file: pq.ParquetFile, number: int, names: Sequence[str] | None = None) -> pa.Table:
    """Return a row group with every column there is: the file's own, and those of today.

    With `names`, those.
    """
    table = file.read_row_group(number, columns=names, use_threads=False)
    for field in SCHEMA:
        if field.name not in table.column_names and (names is None or field.name in names):
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table


def _looked_at(table: pa.Table, concerns: Concerns) -> pa.Array:
    """Return which rows of a group have to be looked at, by number."""
    is_meant = pc.or_(
        pc.is_in(table["type"], pa.array(sorted(COPY_TYPES), pa.string())),
        pc.or_(table["raw"].is_valid(), table["is_erased"].fill_null(_FALSE)),
    )
    for name in _NAMING:
        wanted = [
            each for each in table[name].unique().drop_null().to_pylist() if concerns(name, each)
        ]
        if wanted:
            is_meant = pc.or_(is_meant, pc.is_in(table[name], pa.array(wanted, pa.string())))
    return pc.indices_nonzero(is_meant)


def _changed(
    file: pq.ParquetFile, partition: int, changes: Changes, codec: Codec
) -> Iterator[pa.Table]:
    """Yield the row groups, changed rows in the place of the old ones."""
    for number in range(file.metadata.num_row_groups):
        table = _group(file, number)
        here = changes.get(number)
        if here:
            instead = encode_entries(partition, list(here.values()), codec)
            places = list(range(len(table)))
            for offset, row in enumerate(here):
                places[row] = len(table) + offset
            both = pa.concat_tables([table, instead], promote_options="default")
            table = both.take(pa.array(places, pa.int64())).cast(table.schema)
        yield table


def _write(path: Path, file: pq.ParquetFile, groups: Iterator[pa.Table]) -> None:
    kept = dict(file.metadata.metadata or {})
    kept.pop(_ARROW_SCHEMA, None)
    schema = _group(file, 0).schema.remove_metadata()
    with pq.ParquetWriter(path, schema, **parquet_options(schema)) as writer:
        for table in groups:
            writer.write_table(table.cast(schema), row_group_size=len(table))
        ours = {key.encode(): value.encode() for key, value in Facts().metadata().items()}
        writer.add_key_value_metadata({**ours, **kept})
    seal(path)


def _check(path: Path, old: pq.ParquetFile, segment: Segment) -> None:
    """Ensure that the new file has the old one's sequences in the old order."""
    with pq.ParquetFile(path, page_checksum_verification=True) as new:
        pairs = [file.read(columns=["sequence", "appended_at"]) for file in (old, new)]
    if not pairs[0].combine_chunks().equals(pairs[1].combine_chunks()):
        raise EventLogError(
            f"the file written for {segment.name} does not hold the rows of the one before.",
            remedy="Nothing was replaced. Look for a damaged disk.",
        )
