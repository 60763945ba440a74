"""Entries as the API tells them."""

from __future__ import annotations

from typing import Any

import msgspec

from eventlog.entry import Entry
from eventlog.errors import InvalidEvent
from eventlog.event import UnknownEvent
from eventlog.log import EventLog


class EntryDocument(msgspec.Struct, frozen=True):
    """An event with its place."""

    partition: int
    entry: str
    """The entry id, `ms-n`."""
    sequence: int
    event: dict[str, Any]
    """As one flat JSON object, brought to its type's current schema."""


def entry_json(log: EventLog, entry: Entry) -> msgspec.Raw:
    """Return an entry as the JSON of an EntryDocument."""
    place = f'{{"partition":{entry.partition},"entry":"{entry.id}","sequence":{entry.sequence}'
    return msgspec.Raw(b'%s,"event":%s}' % (place.encode(), _event_json(log, entry)))


def _event_json(log: EventLog, entry: Entry) -> bytes:
    event = entry.event
    if isinstance(event, UnknownEvent):
        try:
            return log.codec.encode(event)
        except InvalidEvent:  # what stands there would not be taken today; it is told all the same
            return msgspec.json.encode(event)
    return msgspec.json.encode(event) if not event.extra else log.codec.encode(event)
