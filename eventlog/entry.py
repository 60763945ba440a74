"""An entry: an event as it stands in the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

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


def raw_entries(reply: Iterable[Any]) -> list[RawEntry]:
    """Return the entries of a stream reply, `[[b"ms-n", [b"e", raw]], ...]`.

    Made without the classes' own constructors, and a run of equal ms parsed once: half the time.
    """
    new: Callable[[type[Any], tuple[Any, ...]], Any] = tuple.__new__
    entries: list[RawEntry] = []
    last_ms, ms = b"", 0
    for entry_id, fields in reply:
        this_ms, _, n = entry_id.partition(b"-")
        if this_ms != last_ms:
            last_ms, ms = this_ms, int(this_ms)
        entries.append(new(RawEntry, (new(EntryId, (ms, int(n))), fields[1])))
    return entries
