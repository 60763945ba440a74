"""An entry: an event as it stands in the log."""

from __future__ import annotations

from typing import NamedTuple

from eventlog.event import Event
from eventlog.ids import EntryId


class Entry(NamedTuple):
    """An event with its place: `partition`, and `id` whose `n` is the gapless sequence."""

    partition: int
    id: EntryId
    event: Event
    raw: bytes
    """The event's JSON, byte for byte as in the log."""

    @property
    def sequence(self) -> int:
        """The gapless integer of this entry within its partition, from 1."""
        return self.id.n


class RawEntry(NamedTuple):
    """An entry before decoding, as bulk readers want it."""

    id: EntryId
    raw: bytes
