"""The vocabulary as columns: which there are, and how each type's events lie in them. Pure.

Every field of every type is a column; equal names are one column, so they must be of one kind. A
mirror is a type's struct as the archive sees it: the same fields, order, defaults and checks, but
lists and dicts stay JSON text and every part of the envelope must be written out. Hence an event
that its mirror takes lies in the columns whole and comes back byte for byte; any other is kept in
`raw`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Raw
from msgspec.inspect import BoolType, DictType, IntType, ListType, LiteralType, StrType, UnionType

from eventlog.event import Event, current_schema
from eventlog.vocabulary import VOCABULARY

Kind = Literal["text", "integer", "boolean", "json", "time"]

ABSENT = Raw(b"")
"""What a mirror holds where a list or dict was not written that need not be."""

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1
MIN_TIME_US, MAX_TIME_US = -9_223_372_022_400_000_000, 2**63 - 2
"""What a TIMESTAMP of DuckDB can hold; the value above is its `infinity`."""

_Integer = Annotated[int, Meta(ge=MIN_INTEGER, le=MAX_INTEGER)]
_Time = Annotated[int, Meta(ge=MIN_TIME_US, le=MAX_TIME_US)]
_ALWAYS_WRITTEN = frozenset({"conversation", "id", "schema", "occurred_at"})


class Mirror(NamedTuple):
    """One event type: its name, its fields by kind, and a struct that decodes and encodes it."""

    name: str
    fields: dict[str, Kind]
    struct: type[msgspec.Struct]
    json_decoders: dict[str, msgspec.json.Decoder[Any]]
    """By JSON field: what refuses the texts that the event's own type would refuse."""


def mirror_of(event_type: type[Event]) -> Mirror:
    """Return the mirror of an event type. Raises TypeError for a field no column can hold."""
    name = str(event_type.__struct_config__.tag)
    kinds: dict[str, Kind] = {}
    decoders: dict[str, msgspec.json.Decoder[Any]] = {}
    fields: list[Any] = []
    for field in msgspec.structs.fields(event_type):
        if field.name == "extra":
            continue
        kind = kinds[field.name] = kind_of(field.name, field.type)
        if kind == "json":
            decoders[field.name] = msgspec.json.Decoder(field.type)
        fields.append(_mirrored(event_type, field, kind))
    struct = msgspec.defstruct(
        event_type.__name__,
        fields,
        tag_field="type",
        tag=name,
        kw_only=True,
        gc=False,
        omit_defaults=True,
        forbid_unknown_fields=True,
    )
    return Mirror(name, kinds, struct, decoders)


def kind_of(name: str, annotation: Any) -> Kind:
    """Return the kind of column that a field of that type needs; raises TypeError if none does."""
    if name == "occurred_at":
        return "time"
    info = msgspec.inspect.type_info(annotation)
    parts = info.types if isinstance(info, UnionType) else (info,)
    kinds = {_KINDS.get(type(part)) for part in parts if type(part) is not msgspec.inspect.NoneType}
    if len(kinds) != 1 or None in kinds:
        raise TypeError(f"field {name!r} of type {annotation} fits no kind of column")
    return kinds.pop()  # type: ignore[return-value] # None was just excluded


_KINDS: dict[type, Kind] = {
    StrType: "text",
    LiteralType: "text",
    IntType: "integer",
    BoolType: "boolean",
    ListType: "json",
    DictType: "json",
}


def _mirrored(event_type: type[Event], field: msgspec.structs.FieldInfo, kind: Kind) -> Any:
    if field.name == "schema":
        return field.name, Literal[current_schema(event_type)]
    if kind == "json":
        return (field.name, Raw) if field.required else (field.name, Raw, ABSENT)
    annotation: Any = field.type
    if kind == "time":
        annotation = _Time
    elif kind == "integer":
        annotation = _Integer | None if is_optional(field.type) else _Integer
    if field.required or field.name in _ALWAYS_WRITTEN:
        return field.name, annotation
    return field.name, annotation, field.default


def is_optional(annotation: Any) -> bool:
    """Return whether a field of that type may be null."""
    info = msgspec.inspect.type_info(annotation)
    return isinstance(info, UnionType) and info.includes_none


def merge_kinds(mirrors: Iterable[Mirror]) -> dict[str, Kind]:
    """Return every field's kind; raises TypeError where two types disagree about a name."""
    merged: dict[str, Kind] = {}
    for mirror in mirrors:
        for name, kind in mirror.fields.items():
            if merged.setdefault(name, kind) != kind:
                raise TypeError(
                    f"{mirror.name}.{name} is {kind}, another type's is {merged[name]}: "
                    "one name is one column"
                )
    return merged


MIRRORS: tuple[Mirror, ...] = tuple(mirror_of(event_type) for event_type in VOCABULARY)
FIELD_KINDS: dict[str, Kind] = merge_kinds(MIRRORS)
MIRROR_UNION: Any = reduce(or_, (mirror.struct for mirror in MIRRORS))
