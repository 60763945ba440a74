"""Entries to Arrow columns: exact, fast and flat in memory.

A page of entries is decoded in one call and sorted by type; each type gives only the columns it
has; the columns of a row group are then laid together in the order of the sequence. Measured on
chat events: 0.9 µs an event, against 1.8 µs for one flat struct, 1.8 µs for pyarrow's JSON reader,
and neither of those tells an event that the columns cannot hold from one that they can.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, groupby
from operator import attrgetter
from types import NoneType
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from analytics.mirror import (
    ABSENT,
    FIELD_KINDS,
    MAX_INTEGER,
    MAX_TIME_US,
    MIN_INTEGER,
    MIN_TIME_US,
    MIRROR_UNION,
    MIRRORS,
    Kind,
    Mirror,
)
from analytics.pages import Page, PageSize
from eventlog.codec import Codec
from eventlog.entry import RawEntry
from eventlog.errors import UndecodablePayload

PAGE_ENTRIES = PageSize.MAX_ENTRIES
"""Entries turned into columns at a time: larger pages leave the processor's cache and are slower."""

_US_PER_MS = pa.scalar(1000, pa.int64())

_ARROW: dict[Kind, pa.DataType] = {
    "text": pa.string(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "json": pa.string(),
    "time": pa.timestamp("us"),
}

SCHEMA: pa.Schema = pa.schema(
    [
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("appended_at", pa.timestamp("us"), nullable=False),
        pa.field("type", pa.string()),
        *(pa.field(name, _ARROW[kind]) for name, kind in FIELD_KINDS.items()),
        pa.field("raw", pa.binary()),
    ]
)
"""The columns of every segment and of the live tail. Times are naive UTC; lists and dicts are JSON
text; `raw` is the whole entry where the other columns cannot give it back exactly."""

_FIELD_TYPES: dict[str, pa.DataType] = {name: _ARROW[kind] for name, kind in FIELD_KINDS.items()}
_DEFAULTS: dict[type, list[tuple[str, Any]]] = {
    mirror.struct: [(field.name, field.default) for field in msgspec.structs.fields(mirror.struct)]
    for mirror in MIRRORS
}
_MIRROR_OF: dict[type, Mirror] = {mirror.struct: mirror for mirror in MIRRORS}
_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(MIRROR_UNION)
_NOT_EXACT = (msgspec.MsgspecError, UnicodeDecodeError)


class Group(NamedTuple):
    """Rows that have the same columns; a column not named is null."""

    name: str
    """What the rows have in common: their type, or that they are kept whole."""
    positions: Sequence[int]
    """Where each row stands among the entries, from 0."""
    columns: dict[str, pa.Array]


class _Waiting(NamedTuple):
    """Decoded events of one type that are not yet columns."""

    positions: list[int]
    events: list[Any]


class ColumnBuilder:
    """Turns pages of one partition into a table of SCHEMA, in order.

    Events become columns a type at a time, as soon as there are enough of the type: converting a
    handful costs as much as converting a hundred.
    """

    ENOUGH_EVENTS = 1000

    def __init__(self, partition: int, codec: Codec) -> None:
        self.byte_count = 0
        """Of the entries' JSON."""
        self._partition = partition
        self._codec = codec
        self._ids: list[tuple[pa.Array, pa.Array]] = []
        self._raws: list[bytes] = []
        self._waiting = {struct: _Waiting([], []) for struct in (*_MIRROR_OF, NoneType)}
        self._groups: list[Group] = []

    @property
    def row_count(self) -> int:
        """How many entries were added."""
        return len(self._raws)

    def add(self, page: Page) -> None:
        """Take the next entries. What the columns cannot hold is read by the codec."""
        waiting = self._waiting
        for position, event in enumerate(_decode_exactly(page.raws), self.row_count):
            of_type = waiting[type(event)]
            of_type.positions.append(position)
            of_type.events.append(event)
        self._ids.append((page.ms, page.n))
        self._raws += page.raws
        self.byte_count += page.byte_count
        for struct in _MIRROR_OF:
            if len(waiting[struct].events) >= self.ENOUGH_EVENTS:
                self._convert(struct)

    def build(self) -> pa.Table:
        """Return everything added as one table."""
        for struct in _MIRROR_OF:
            self._convert(struct)
        whole = sorted(self._waiting[NoneType].positions)
        if whole:
            self._groups.append(_kept_whole(whole, [self._raws[i] for i in whole], self._codec))
        if not self.row_count:
            return SCHEMA.empty_table()
        columns = _in_order(self._groups)
        ms, n = zip(*self._ids, strict=True)
        appended_at = pc.multiply(pa.chunked_array(ms), _US_PER_MS).cast(pa.timestamp("us"))
        columns["partition"] = pa.repeat(pa.scalar(self._partition, pa.int32()), self.row_count)
        columns["sequence"] = pa.chunked_array(n)
        columns["appended_at"] = appended_at
        for field in SCHEMA:
            if field.name not in columns:
                columns[field.name] = pa.nulls(self.row_count, field.type)
        return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)

    def _convert(self, struct: type) -> None:
        """Turn the waiting events of a type into columns; those that do not fit are kept whole."""
        positions, events = self._waiting[struct]
        if not events:
            return
        self._waiting[struct] = _Waiting([], [])
        mirror = _MIRROR_OF[struct]
        values = _transposed(events)
        unsound = _unsound(mirror, values)
        if unsound:
            self._waiting[NoneType].positions.extend(positions[i] for i in unsound)
            sound = [i for i in range(len(events)) if i not in unsound]
            positions = [positions[i] for i in sound]
            values = _transposed([events[i] for i in sound])
        if positions:
            self._groups.append(Group(mirror.name, positions, _columns(mirror, values)))


def encode_pages(partition: int, pages: Iterable[Page], codec: Codec) -> pa.Table:
    """Return the pages' entries as a table of SCHEMA, in order."""
    builder = ColumnBuilder(partition, codec)
    for page in pages:
        builder.add(page)
    return builder.build()


def encode_entries(partition: int, entries: Sequence[RawEntry], codec: Codec) -> pa.Table:
    """Return the entries as a table of SCHEMA, in order."""
    starts = range(0, len(entries), PAGE_ENTRIES)
    pages = (Page.of_entries(entries[start : start + PAGE_ENTRIES]) for start in starts)
    return encode_pages(partition, pages, codec)


def _in_order(groups: list[Group]) -> dict[str, Any]:
    """Return the groups' columns, each row in its place."""
    # Side by side, the groups of a type lack the same columns: those nulls are one piece.
    groups = sorted(groups, key=attrgetter("name"))
    places = pa.array(list(chain.from_iterable(group.positions for group in groups)), pa.int64())
    present = {name for group in groups for name in group.columns}
    pieces = {name: _in_pieces(name, groups) for name in SCHEMA.names if name in present}
    ordered = pa.table(pieces).take(pc.inverse_permutation(places))
    return dict(zip(pieces, ordered.columns, strict=True))


def _in_pieces(name: str, groups: list[Group]) -> pa.ChunkedArray:
    kind = SCHEMA.field(name).type
    pieces: list[pa.Array] = []
    for is_missing, run in groupby(groups, lambda group: name not in group.columns):
        if is_missing:
            pieces.append(pa.nulls(sum(len(group.positions) for group in run), kind))
        else:
            pieces.extend(group.columns[name] for group in run)
    return pa.chunked_array(pieces, kind)


def _decode_exactly(raws: Sequence[bytes]) -> list[Any]:
    """Return each entry's mirror, or None where there is none that holds all of it."""
    try:
        return list(map(_DECODER.decode, raws))
    except _NOT_EXACT:
        return list(map(_decode_one, raws))


def _decode_one(raw: bytes) -> Any:
    try:
        return _DECODER.decode(raw)
    except _NOT_EXACT:
        return None


def _transposed(events: list[Any]) -> list[tuple[Any, ...]]:
    """Return the events' values field by field."""
    return list(zip(*map(msgspec.structs.astuple, events), strict=True))


def _unsound(mirror: Mirror, values: list[tuple[Any, ...]]) -> set[int]:
    """Return which events have JSON text that their own type would not take."""
    unsound = set()
    for (name, _), texts in zip(_DEFAULTS[mirror.struct], values, strict=True):
        decoder = mirror.json_decoders.get(name)
        if decoder is None or texts.count(ABSENT) == len(texts):
            continue
        for index, text in enumerate(texts):
            if text is not ABSENT:
                try:
                    decoder.decode(text)
                except _NOT_EXACT:
                    unsound.add(index)
    return unsound


def _columns(mirror: Mirror, values: list[tuple[Any, ...]]) -> dict[str, pa.Array]:
    """Return the columns of events of one type, given field by field."""
    row_count = len(values[0])
    columns = {"type": pa.repeat(pa.scalar(mirror.name, pa.string()), row_count)}
    for (name, default), column in zip(_DEFAULTS[mirror.struct], values, strict=True):
        kind, first = _FIELD_TYPES[name], column[0]
        # Most columns hold nothing but their default, which costs less to find than to convert.
        if first == default and column.count(default) == row_count:
            if default is not None and default is not ABSENT:
                columns[name] = pa.repeat(pa.scalar(default, kind), row_count)
        elif name == "schema":  # a mirror takes one version
            columns[name] = pa.repeat(pa.scalar(first, kind), row_count)
        elif isinstance(first, msgspec.Raw):
            texts = [None if text is ABSENT else bytes(text) for text in column]
            columns[name] = pa.array(texts, kind)
        elif name == "occurred_at":  # three quarters of the time of making times one by one
            columns[name] = pa.array(column, pa.int64()).view(kind)
        else:
            columns[name] = pa.array(column, kind)
    return columns


def _kept_whole(positions: Sequence[int], raws: Sequence[bytes], codec: Codec) -> Group:
    """Return rows with `raw` filled, and of the other columns those that can be read from it."""
    rows = [_legible(raw, codec) for raw in raws]
    columns: dict[str, pa.Array] = {
        name: pa.array([row.get(name) for row in rows], kind)
        for name, kind in (("type", pa.string()), *_FIELD_TYPES.items())
    }
    columns["raw"] = pa.array(raws, pa.binary())
    return Group("", positions, columns)


def _legible(raw: bytes, codec: Codec) -> dict[str, Any]:
    """Return what the columns can show of an entry: its current schema, and nothing of a wreck."""
    try:
        event = codec.decode(raw)
    except UndecodablePayload:
        return {}
    row: dict[str, Any] = {"type": event.type}
    for name, kind in FIELD_KINDS.items():
        value = getattr(event, name) if hasattr(event, name) else event.extra.get(name)
        if value is not None and value not in ([], {}):
            row[name] = _fitted(value, kind)
    return row


def _fitted(value: Any, kind: Kind) -> Any:
    """Return the value as its column wants it, None where it is of another kind."""
    if kind == "json":
        return msgspec.json.encode(value).decode() if isinstance(value, list | dict) else None
    if kind == "text":
        return value if isinstance(value, str) else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    low, high = (MIN_TIME_US, MAX_TIME_US) if kind == "time" else (MIN_INTEGER, MAX_INTEGER)
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return value if is_integer and low <= value <= high else None
