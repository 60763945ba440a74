"""JSON lines of a bridge: dead letters and bridge events, as older bridges append them to files.

A line says by its keys which it is. Two writers at once leave lines that are joined, torn or there
twice: joined ones are taken apart, torn ones refused, repeated ones dropped and counted as
`duplicates`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from bridge.importers.fingerprint import fingerprint
from bridge.importers.items import UNREADABLE, Imported, Item, Rejected, Unit
from bridge.importers.migration.layout import SPELLINGS, Kind
from bridge.importers.migration.records import LEFT, Reading, bridge_event, dead_letter
from bridge.importers.neutral import RecentIds
from bridge.importers.records import BadRecord
from bridge.importers.source import Source
from eventlog.event import Event

_LETTER_KEYS = frozenset({"letter_id", "letter", "attempts", "retries", "retry_count", "reply_to"})
_OWNER_KEYS = frozenset({"chat_id", "chat", "project_key", "project", "session_id", "sender"})
_TIME_KEYS = frozenset(SPELLINGS["bridge_event"]["time"])
_TORN = "two lines torn into each other, or one cut off"

_json = json.JSONDecoder()


def kind_of(document: dict[str, Any]) -> Kind | None:
    """Return what the document is a record of, None for neither of the two."""
    keys = document.keys()
    has_time = not _TIME_KEYS.isdisjoint(keys)
    if "event_type" in keys:
        return "bridge_event" if has_time else None
    if "text" in keys and not _LETTER_KEYS.isdisjoint(keys) and keys & {"chat_id", "chat"}:
        return "dead_letter"
    if "type" in keys and has_time and not _OWNER_KEYS.isdisjoint(keys):
        return "bridge_event"
    return None


def is_bridge_line(line: bytes) -> bool:
    """Return whether the line is a record of either kind."""
    try:
        return any(kind_of(document) for document in _documents(line))
    except (BadRecord, UnicodeDecodeError):
        return False


def parse(source: Source) -> Iterator[Item]:
    """Yield the items of the file; positions are line numbers."""
    names = source.names("bridge", is_bridge_line)
    yield Unit(names)
    reading = source.mapping.reading
    recent = RecentIds()
    for number, line in source.lines():
        try:
            yield _item(number, line, f"{names[0]}:{number}", reading, recent)
        except UnicodeDecodeError:
            yield Rejected(number, number, UNREADABLE)
        except BadRecord as error:
            yield Rejected(number, number, str(error))


def _item(number: int, line: bytes, origin: str, reading: Reading, recent: RecentIds) -> Imported:
    events: list[Event] = []
    kinds: list[str] = []
    for index, document in enumerate(_documents(line)):
        kind = kind_of(document)
        if kind is None:
            raise BadRecord("neither a dead letter nor a bridge event")
        build = dead_letter if kind == "dead_letter" else bridge_event
        place = f"{origin}:{index}" if index else origin
        event = build(_by_field(document, kind), place, reading)
        digest = fingerprint(msgspec.json.encode(document, order="sorted"))
        if recent.seen(digest, event.occurred_at // 1000):
            kinds.append("duplicates")
        else:
            events.append(event)
            kinds.append(kind)
    return Imported(number, number, tuple(events), tuple(kinds))


def _documents(line: bytes) -> list[dict[str, Any]]:
    """Return the objects on the line: one, or several joined. Raises BadRecord."""
    text = line.decode().strip().strip("\0")
    found: list[dict[str, Any]] = []
    place = 0
    while place < len(text):
        try:
            document, place = _json.raw_decode(text, place)
        except (ValueError, RecursionError):
            is_object = text.startswith("{")
            raise BadRecord(_TORN if is_object else "not a JSON object") from None
        if not isinstance(document, dict):
            raise BadRecord("not a JSON object")
        found.append(document)
    return found


def _by_field(document: dict[str, Any], kind: Kind) -> dict[str, Any]:
    """Return the record by field, as the layout spells fields, and what is left."""
    left = dict(document)
    values: dict[str, Any] = {}
    for field, spellings in SPELLINGS[kind].items():
        spelling = next((name for name in spellings if name in left), None)
        if spelling is not None:
            values[field] = left.pop(spelling)
    return {**values, LEFT: left}
