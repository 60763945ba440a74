"""Rows back to entries: the inverse of `columns`, byte for byte. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Raw

from analytics.mirror import ABSENT, MIRRORS, Mirror
from eventlog.entry import RawEntry
from eventlog.ids import EntryId

_BY_TYPE = {mirror.name: mirror for mirror in MIRRORS}
_ENCODER = msgspec.json.Encoder()


def rebuild(table: pa.Table) -> Iterator[RawEntry]:
    """Return the entries of a table of `columns.SCHEMA`, in the table's order."""
    is_kept = table["raw"].is_valid()
    raws: list[bytes | None] = table["raw"].to_pylist()
    for name in pc.unique(table["type"].filter(pc.invert(is_kept))).to_pylist():
        mine = pc.and_not(pc.equal(table["type"], name), is_kept).fill_null(False)
        places = pc.indices_nonzero(mine).to_pylist()
        for place, rebuilt in zip(
            places, _of_type(_BY_TYPE[name], table.filter(mine)), strict=True
        ):
            raws[place] = rebuilt
    times = table["appended_at"].cast(pa.int64()).to_pylist()
    for time_us, n, raw in zip(times, table["sequence"].to_pylist(), raws, strict=True):
        assert raw is not None
        yield RawEntry(EntryId(time_us // 1000, n), raw)


def _of_type(mirror: Mirror, table: pa.Table) -> Iterator[bytes]:
    fields = msgspec.structs.fields(mirror.struct)
    columns = [_values(mirror, field, table[field.name]) for field in fields]
    names = [field.name for field in fields]
    for values in zip(*columns, strict=True):
        yield _ENCODER.encode(mirror.struct(**dict(zip(names, values, strict=True))))


def _values(mirror: Mirror, field: msgspec.structs.FieldInfo, column: pa.ChunkedArray) -> list[Any]:
    kind = mirror.fields[field.name]
    if kind == "json":
        return [ABSENT if text is None else Raw(text.encode()) for text in column.to_pylist()]
    if kind == "time":
        column = column.cast(pa.int64())  # `datetime` covers fewer years than the column
    values: list[Any] = column.to_pylist()
    if isinstance(field.default, str):
        # msgspec leaves a default out only where it is the very same object.
        return [field.default if value == field.default else value for value in values]
    return values
