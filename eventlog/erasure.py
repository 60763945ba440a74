"""What is left of an event whose content was erased. Pure.

The fact stays: the envelope, and of the type's own fields those that say what happened, not what was
said or by whom. So sequences, versions and counts hold, and every fold gives the same counts and
statuses as before. Erasing what is erased changes nothing.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import inspect

from eventlog.codec import Codec
from eventlog.entry import RawEntry
from eventlog.errors import UndecodablePayload
from eventlog.event import MAX_NAME_CHARACTERS, Event, UnknownEvent
from eventlog.vocabulary import (
    VOCABULARY,
    ConversationCleared,
    ConversationCompacted,
    ConversationMapped,
    DeadLetterParked,
    DeliveryFailed,
    EventErased,
    FailedAttempt,
)

UNDECODABLE_CONVERSATION = "eventlog:undecodable"
"""Of an entry that names none."""

_ENVELOPE = frozenset(Event.__struct_fields__)

_KEPT = frozenset(
    {
        # what links an event to others
        "letter", "group", "origin", "version", "delivery", "call", "previous_session", "runner",
        "home", "owner", "transcript",
        # what kind of thing happened, how often, for how long
        "name", "agent", "project", "platform", "event_type", "was", "attempt", "attempts",
        "duration_ms", "unhandled_count", "erasure", "entry_count", "row_count", "segment_count",
        "partition_count", "scope",
    }
)  # fmt: skip
"""Fields of the vocabulary that are no content."""

_KEPT_OF: dict[type[Event], frozenset[str]] = {
    ConversationMapped: frozenset({"user"}),
    ConversationCleared: frozenset({"user"}),
    ConversationCompacted: frozenset({"user"}),
}
"""Fields that are content in other types: a member's mapping in a group is found by who that is."""

_CODES: dict[type[Event], frozenset[str]] = {
    DeliveryFailed: frozenset({"reason", "code"}),
    DeadLetterParked: frozenset({"reason"}),
}
"""Fields in which programs put a word for programs: it stays, and what is more than a word goes."""

_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


def redacted(event: Event) -> Event:
    """Return the event without its content, marked `is_erased`.

    It is of the same type, and valid. An event that this program does not know, or whose type cannot
    be blank, becomes an EventErased, so that nobody fails on what is missing from it.
    """
    if isinstance(event, UnknownEvent):
        return _nothing_but_envelope(event)
    changes: dict[str, Any] = {name: blank() for name, blank in _blanks(type(event)).items()}
    for name in _CODES.get(type(event), ()):
        if is_word(getattr(event, name)):
            del changes[name]
    if isinstance(event, DeadLetterParked):
        changes["failures"] = [_without_error(failure) for failure in event.failures]
    erased = msgspec.structs.replace(event, **changes, extra={}, is_erased=True)
    return erased if _is_valid(erased) else _nothing_but_envelope(event)


def is_word(value: object) -> bool:
    """Return whether the value is a word for programs, like `timeout`, rather than a text."""
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def without_errors(failures: tuple[FailedAttempt, ...]) -> tuple[FailedAttempt, ...]:
    """Return failed attempts without the texts of their errors, which may quote the event."""
    return tuple(map(_without_error, failures))


def event_in(codec: Codec, partition: int, entry: RawEntry) -> Event | None:
    """Return the event of an entry, read as well as it can be; None where it holds no JSON object."""
    try:
        return codec.decode(entry.raw)
    except UndecodablePayload:
        pass
    try:
        document = msgspec.json.decode(entry.raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    occurred_at = document.get("occurred_at")
    return UnknownEvent(
        type=_name(document.get("type")) or "undecodable",
        id=_name(document.get("id")) or f"{partition}/{entry.id}",
        conversation=_name(document.get("conversation")) or UNDECODABLE_CONVERSATION,
        session=_name(document.get("session")),
        occurred_at=occurred_at if isinstance(occurred_at, int) else entry.id.ms * 1000,
        extra={key: value for key, value in document.items() if key not in _ENVELOPE},
    )


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARACTERS else None


def _nothing_but_envelope(event: Event) -> EventErased:
    kept = {name: getattr(event, name) for name in _ENVELOPE - {"extra", "schema", "is_erased"}}
    return EventErased(**kept, is_erased=True, was=_name(event.type))


def _without_error(failure: FailedAttempt) -> FailedAttempt:
    code = failure.code if is_word(failure.code) else None
    return msgspec.structs.replace(failure, error="", code=code)


def _is_valid(event: Event) -> bool:
    try:
        return msgspec.convert(msgspec.to_builtins(event), type(event)) == event
    except msgspec.ValidationError:
        return False


@functools.cache
def _blanks(event_type: type[Event]) -> dict[str, Callable[[], Any]]:
    """Return the fields that hold content, each with what gives its blank value."""
    kept = event_type.KEPT_WHEN_ERASED
    if event_type in VOCABULARY:
        kept = _KEPT | _KEPT_OF.get(event_type, frozenset())
    return {
        field.name: functools.partial(_blank, field)
        for field in msgspec.structs.fields(event_type)
        if field.name not in _ENVELOPE | kept and not _says_which(inspect.type_info(field.type))
    }


def _says_which(info: inspect.Type) -> bool:
    """Return whether a field can only be one of a few values: then it is no content."""
    if isinstance(info, inspect.UnionType):
        return all(map(_says_which, info.types))
    return isinstance(
        info, inspect.BoolType | inspect.LiteralType | inspect.EnumType | inspect.NoneType
    )


def _blank(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return _blank_of(inspect.type_info(field.type))


def _blank_of(info: inspect.Type) -> Any:
    """Return a value of that kind that says nothing; None where there may be none such."""
    match info:
        case inspect.UnionType(types=types):
            return None if info.includes_none else _blank_of(types[0])
        case inspect.StrType(min_length=length):
            return "-" * (length or 0)
        case inspect.IntType() | inspect.FloatType():
            return _lowest(info)
        case inspect.BoolType():
            return False
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.ListType(item_type=item, min_length=length):
            return [_blank_of(item) for _ in range(length or 0)]
        case inspect.DictType():
            return {}
        case inspect.StructType(cls=cls, fields=fields):
            return cls(**{field.name: _blank_of(field.type) for field in fields if field.required})
        case _:
            return None


def _lowest(info: inspect.IntType | inspect.FloatType) -> int | float:
    """Return zero, or the number nearest above it that is allowed."""
    low = info.ge if info.ge is not None else None if info.gt is None else info.gt + 1
    return 0 if low is None or low <= 0 else low
