"""Events to bytes and back: JSON, readable in redis-cli and queryable as it is.

Known types take msgspec's tagged-union decoder. Whatever that refuses (an unknown type, an unknown
key, an old schema) takes a slower way that loses nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_
from typing import Any, cast

import msgspec

from eventlog.errors import (
    ConfigurationError,
    EmptyConversation,
    EventTooLarge,
    InvalidEvent,
    UndecodablePayload,
)
from eventlog.event import MAX_NAME_CHARACTERS, Event, UnknownEvent, current_schema
from eventlog.upcast import Upcasters, check_chains, upcast
from eventlog.vocabulary import VOCABULARY

MAX_EVENT_BYTES = 1024 * 1024
_MALFORMED = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)
"""What msgspec raises for data: text that is not Unicode and numbers or nesting without measure."""

_UNKNOWN_NESTED = re.compile(r"unknown field .* at `\$\.(\w+)")
_NO_EVENT = "an entry holds no event: "
_EXTRA = b'"extra":'
_ENVELOPE = frozenset(UnknownEvent.__struct_fields__)


class Codec:
    """Encodes and decodes the types it was given, upcasting old schemas.

    Raises UpcasterGap when a type's older schemas have no chain to its current one, and
    ConfigurationError when two classes claim one type.
    """

    def __init__(
        self,
        types: Iterable[type[Event]] = (),
        *,
        upcasters: Upcasters | None = None,
        max_event_bytes: int = MAX_EVENT_BYTES,
    ) -> None:
        self.types = _by_name((*VOCABULARY, *types))
        self.upcasters: Upcasters = upcasters or {}
        self.max_event_bytes = max_event_bytes
        self._schemas = {t: current_schema(t) for t in self.types.values()}
        check_chains({name: self._schemas[t] for name, t in self.types.items()}, self.upcasters)
        self._plain = {stamp for stamp in self._schemas.items() if _is_checked_whole(stamp[0])}
        """Types and schemas of which an event that reads back equal is in order."""
        self._encoder = msgspec.json.Encoder()
        union: Any = reduce(or_, self.types.values())
        self._decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(union)
        self._list_decoder: msgspec.json.Decoder[list[Event]] = msgspec.json.Decoder(list[union])

    @property
    def is_builtin(self) -> bool:
        """Whether it knows the built-in vocabulary and nothing else, as every process does."""
        return not self.upcasters and set(self.types.values()) == set(VOCABULARY)

    def encode_all(self, events: Sequence[Event]) -> list[str]:
        """Return each event as JSON text, having checked that all read back equal.

        Raises as `encode` does, for the first bad event.
        """
        try:
            raws = [self._encoder.encode(event) for event in events]
            together = b"[" + b",".join(raws) + b"]"
            if (
                _EXTRA not in together
                and max(map(len, raws), default=0) <= self.max_event_bytes
                and self._list_decoder.decode(together) == events
                and {(type(event), event.schema) for event in events} <= self._plain
            ):
                return [raw.decode() for raw in raws]
        except (TypeError, *_MALFORMED):
            # One of them is out of the ordinary, or bad: one by one the bad one is named.
            return [self.encode(event).decode() for event in events]
        return [self.encode(event).decode() for event in events]

    def encode(self, event: Event) -> bytes:
        """Return the event as JSON, having checked that it reads back equal.

        Raises EmptyConversation, EventTooLarge, or InvalidEvent for a field of the wrong type, text
        that is not Unicode, or an unregistered class.
        """
        try:
            raw = self._encoder.encode(event)
            if (
                self._decoder.decode(raw) == event
                and not event.extra
                and (type(event), event.schema) in self._plain
                and len(raw) <= self.max_event_bytes
            ):
                return raw
        except (TypeError, *_MALFORMED):
            return self._encode_slowly(event)
        return self._encode_slowly(event)

    def _encode_slowly(self, event: Event) -> bytes:
        """Return the event that is out of the ordinary, or say what is bad about it."""
        try:
            _check_names(event)
            raw = self._encoder.encode(event) if not event.extra else _flatten(event)
            back = self.decode(raw)
        except UnicodeEncodeError as error:
            raise InvalidEvent(
                f"event {event.id!r} holds text that is not valid Unicode ({error.reason}).",
                remedy="Decode bytes with errors='replace' before you append them.",
            ) from None
        except (UndecodablePayload, TypeError, *_MALFORMED) as error:
            reason = getattr(error, "message", str(error)).removeprefix(_NO_EVENT).rstrip(".")
            raise InvalidEvent(
                f"event {event.id!r} of type {event.type} is malformed: {reason}."
            ) from None
        if back != event:
            raise self._difference(event, back)
        if len(raw) > self.max_event_bytes:
            raise EventTooLarge(
                f"event {event.id!r} takes {len(raw):,} bytes; the limit is {self.max_event_bytes:,}.",
                remedy="Keep files in object storage and append a reference, or raise max_event_bytes.",
            )
        return raw

    def decode(self, raw: bytes | str) -> Event:
        """Return the event; of an unknown type or newer schema as UnknownEvent, never dropped.

        Raises UndecodablePayload for bytes that are no event at all.
        """
        try:
            event = self._decoder.decode(raw)
        except _MALFORMED:
            return self._decode_slowly(raw)
        if event.schema != self._schemas[type(event)] or event.extra:
            return self._decode_slowly(raw)
        return event

    def _decode_slowly(self, raw: bytes | str) -> Event:
        try:
            document = msgspec.json.decode(raw)
            if not isinstance(document, dict):
                raise TypeError("not a JSON object")
            return self._from_document(document)
        except (TypeError, KeyError, *_MALFORMED) as error:
            raise UndecodablePayload(
                f"{_NO_EVENT}{error}.",
                remedy="It stays in the log; readers report it and go on.",
            ) from None

    def _from_document(self, document: dict[str, Any]) -> Event:
        known = self.types.get(document["type"])
        if known is None or document.get("schema", 1) > self._schemas[known]:
            return _split(document, UnknownEvent, _ENVELOPE - {"extra"})
        document = self._upcast(document, self._schemas[known])
        fields = frozenset(known.__struct_fields__) - {"extra"} | {"type"}
        return _split(document, known, fields)

    def _upcast(self, document: dict[str, Any], current: int) -> dict[str, Any]:
        try:
            return upcast(document, current, self.upcasters)
        except Exception as error:  # foreign code: one old entry must not stop a reader
            raise UndecodablePayload(
                f"{document['type']} of schema {document.get('schema')!r} cannot be upcast: {error!r}.",
                remedy="Mend its upcaster and read the entry again.",
            ) from error

    def _difference(self, event: Event, back: Event) -> InvalidEvent:
        if event.schema != self._schemas.get(type(event), event.schema):
            return InvalidEvent(
                f"event {event.id!r} of type {event.type} claims schema {event.schema}, "
                f"which is not its class's.",
                remedy="Leave `schema` out; an event is written as its class is now.",
            )
        if type(event) is not type(back):
            return InvalidEvent(
                f"{type(event).__name__} ({event.type}) is not registered with this log.",
                remedy="Pass it in `types=` when you open the log.",
            )
        for name in event.__struct_fields__:
            if getattr(event, name) != getattr(back, name):
                given = type(getattr(event, name)).__name__
                return InvalidEvent(
                    f"event {event.id!r}: field {name!r} ({given}) does not survive JSON.",
                    remedy="Use text, numbers, booleans, lists and dicts with text keys.",
                )
        return InvalidEvent(f"event {event.id!r} does not survive JSON.")


def _by_name(types: Iterable[type[Event]]) -> dict[str, type[Event]]:
    named: dict[str, type[Event]] = {}
    for event_type in types:
        name = str(event_type.__struct_config__.tag)
        if named.setdefault(name, event_type) is not event_type:
            raise ConfigurationError(
                f"two classes claim the event type {name!r}: {named[name].__name__} "
                f"and {event_type.__name__}.",
                remedy="Give each its own `tag`.",
            )
    return named


def _is_checked_whole(event_type: type[Event]) -> bool:
    """Return whether decoding checks all that `_check_names` does: a session may be missing unnoticed."""
    is_required = {known.name: known.required for known in msgspec.structs.fields(event_type)}
    return event_type.VERSIONED != "session" or is_required["session"]


def _check_names(event: Event) -> None:
    if (
        0 < len(event.conversation) <= MAX_NAME_CHARACTERS
        and 0 < len(event.id) <= MAX_NAME_CHARACTERS
        and len(event.session or "") <= MAX_NAME_CHARACTERS
        and (event.session or event.VERSIONED != "session")
    ):
        return
    if not event.conversation:
        raise EmptyConversation(
            f"event {event.id!r} has no conversation.",
            remedy="Give the chat's id (`telegram:12345`), or the session's where there is no chat.",
        )
    if not event.id:
        raise InvalidEvent("an event's id is empty.", remedy="Leave it out to get a UUIDv7.")
    if event.VERSIONED == "session" and not event.session:
        raise InvalidEvent(f"{event.type} {event.id!r} names no session.")
    longest = max(len(event.id), len(event.conversation), len(event.session or ""))
    raise InvalidEvent(
        f"an id, conversation or session of {longest:,} characters; "
        f"the limit is {MAX_NAME_CHARACTERS}."
    )


def _split(document: dict[str, Any], target: type[Event], fields: frozenset[str]) -> Event:
    known = {key: value for key, value in document.items() if key in fields}
    known["extra"] = {key: value for key, value in document.items() if key not in fields}
    try:
        return msgspec.convert(known, target)
    except msgspec.ValidationError as error:
        nested = _UNKNOWN_NESTED.search(str(error))
        if nested is None:
            raise
        # A newer producer's key inside a field: the field is kept whole in `extra`.
        return _split(document, target, fields - {nested[1]})


def _flatten(event: Event) -> bytes:
    document = cast("dict[str, Any]", msgspec.to_builtins(event))
    document.pop("extra")
    return msgspec.json.encode({**event.extra, **document})
