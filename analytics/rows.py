"""Rows back to entries: the inverse of `columns`, byte for byte. Pure.

Arrow lays each type's JSON together a column at a time, as msgspec would have written it: a third
of the cost of a struct a row, and most of it without the interpreter's lock.
"""

from __future__ import annotations

from itertools import repeat
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from analytics.mirror import ABSENT, MIRRORS, Kind, Mirror, is_optional
from eventlog.entry import RawEntry
from eventlog.ids import EntryId

_ENCODE = msgspec.json.Encoder().encode
_ESCAPED = r'["\\\x00-\x1f]'
"""What JSON text writes otherwise than it is."""


def _text(value: str) -> pa.Scalar:
    # Typed: pyarrow guesses the type of a bare value anew at each call, for 30 µs.
    return pa.scalar(value, pa.string())


class _Member(NamedTuple):
    """How a field stands in its type's JSON."""

    name: str
    kind: Kind
    key: pa.Scalar
    """`,"name":`, and the quote of a text."""
    null: pa.Scalar | None
    """`,"name":null`; None where null is the default, hence not written."""
    default: pa.Scalar | None
    """The value that is not written, where it is another than null."""

    @classmethod
    def of(cls, field: msgspec.structs.FieldInfo, kind: Kind) -> _Member:
        key, default = f',"{field.name}":', field.default
        start = _text(f'{key}"' if kind == "text" else key)
        if default is None or default is ABSENT:
            return cls(field.name, kind, start, None, None)
        # A field that is never null has null in rows from before there was the field.
        null = _text(f"{key}null") if is_optional(field.type) else None
        skipped = None if default is msgspec.NODEFAULT else pa.scalar(default)
        return cls(field.name, kind, start, null, skipped)

    def written(self, column: pa.Array) -> list[Any]:
        """Return what makes up `,"name":value` of each row: one null part where it is left out."""
        if self.kind == "text":
            parts = [self.key, _escaped(column), _QUOTE]
        else:
            values = column.cast(pa.int64()) if self.kind == "time" else column
            parts = [self.key, values.cast(pa.string())]
        if not column.null_count and self.default is None:
            return parts
        whole = pc.binary_join_element_wise(*parts, _NOTHING)
        if self.null is not None and column.null_count:
            whole = whole.fill_null(self.null)
        if self.default is not None:
            is_default = pc.equal(column, self.default).fill_null(_FALSE)
            whole = pc.if_else(is_default, _NULL, whole)
        return [whole]


_NOTHING, _QUOTE, _END = _text(""), _text('"'), _text("}")
_NULL, _FALSE = pa.scalar(None, pa.string()), pa.scalar(False, pa.bool_())
_US_PER_MS = pa.scalar(1000, pa.int64())


def _members(mirror: Mirror) -> list[_Member]:
    fields = msgspec.structs.fields(mirror.struct)
    return [_Member.of(field, mirror.fields[field.name]) for field in fields]


_MEMBERS = {mirror.name: _members(mirror) for mirror in MIRRORS}


def rebuild(table: pa.Table) -> list[RawEntry]:
    """Return the entries of a table of `columns.SCHEMA`, in the table's order.

    A column that the table lacks is null in every row.
    """
    if not len(table):
        return []
    columns = {
        name: column.combine_chunks()
        for name, column in zip(table.column_names, table.columns, strict=True)
        if column.null_count < len(column)
    }
    raws = _raws(columns, len(table))
    times_ms = pc.divide(columns["appended_at"].cast(pa.int64()), _US_PER_MS).to_pylist()
    ids = zip(times_ms, columns["sequence"].to_pylist(), strict=True)
    # The classes' own constructors, called from a loop, take three times as long.
    new: Any = tuple.__new__
    pairs = zip(map(new, repeat(EntryId), ids), raws, strict=True)
    return list(map(new, repeat(RawEntry), pairs))


def _raws(columns: dict[str, pa.Array], row_count: int) -> list[Any]:
    raws: list[Any] = [None] * row_count
    types = columns.get("type")
    if "raw" in columns:
        raws = columns["raw"].to_pylist()
        if types is not None:
            types = pc.if_else(columns["raw"].is_valid(), _NULL, types)
    for name in types.unique().drop_null() if types is not None else ():
        places = pc.indices_nonzero(pc.equal(types, name).fill_null(_FALSE))
        rebuilt = _of_type(name.as_py(), columns, places).to_pylist()
        for place, raw in zip(places.to_pylist(), rebuilt, strict=True):
            raws[place] = raw
    return raws


def _of_type(name: str, columns: dict[str, pa.Array], places: pa.Array) -> pa.Array:
    """Return the JSON of the rows at `places`, which are all of one type."""
    parts = [_text(f'{{"type":{_ENCODE(name).decode()}')]
    for member in _MEMBERS[name]:
        if member.name in columns:
            column = columns[member.name].take(places)
            if column.null_count < len(column) or member.null is not None:
                parts += member.written(column)
    joined = pc.binary_join_element_wise(*parts, _END, _NOTHING, null_handling="skip")
    return joined.cast(pa.binary())


def _escaped(column: pa.Array) -> pa.Array:
    data = column.buffers()[2]
    # Mostly nothing is to be escaped: to see that so is ten times faster than to search.
    if data is None or len(_ENCODE(str(data, "utf-8"))) == data.size + 2:
        return column
    is_escaped = pc.match_substring_regex(column, _ESCAPED).fill_null(_FALSE)
    texts = [_ENCODE(text)[1:-1] for text in column.filter(is_escaped).to_pylist()]
    return pc.replace_with_mask(column, is_escaped, pa.array(texts, pa.string()))
