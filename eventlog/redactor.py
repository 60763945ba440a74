"""Which entries are to be rewritten, and as what. Pure; shown the entries of a partition in order."""

from __future__ import annotations

from eventlog.codec import Codec
from eventlog.entry import RawEntry
from eventlog.erasure import event_in, redacted
from eventlog.erasure_scope import Selection
from eventlog.event import Event
from eventlog.vocabulary import (
    DeadLetterDiscarded,
    DeadLetterParked,
    DeadLetterReplayed,
    DeadLetterReplayRequested,
    DeadLetterResolved,
    DeliveryFailed,
    MessageSent,
)

_LETTER_EVENTS = (
    DeadLetterParked,
    DeadLetterReplayRequested,
    DeadLetterReplayed,
    DeadLetterResolved,
    DeadLetterDiscarded,
)

COPY_TYPES = frozenset(
    str(each.__struct_config__.tag) for each in (MessageSent, DeliveryFailed, *_LETTER_EVENTS)
)
"""Types whose events may be copies of others: each of them has to be looked at."""


class Redactor:
    """Finds what a selection takes, and the copies of it.

    Copies are the deliveries of an erased message and the letters of an erased entry. What was erased
    before counts as erased, so that a copy that comes late is found.
    """

    def __init__(self, codec: Codec, selection: Selection) -> None:
        self.selection = selection
        self.erased: set[tuple[int, int]] = set()
        """Partition and sequence of every entry seen that is erased, or is to be."""
        self.changed: set[tuple[int, int]] = set()
        """Those of them that had content."""
        self.unreadable: set[tuple[int, int]] = set()
        """Entries that hold no event and no JSON object: whose they are cannot be told."""
        self._codec = codec
        self._ids: set[str] = set()
        self._letters: set[str] = set()

    def redaction(self, partition: int, entry: RawEntry) -> bytes | None:
        """Return the entry's JSON without its content; None where nothing is to be changed."""
        event = event_in(self._codec, partition, entry)
        place = partition, entry.id.n
        if event is None:
            self.unreadable.add(place)
            return None
        if not (self.selection.takes(event, entry.id.ms) or self._is_copy(event)):
            if event.is_erased:
                self._note(place, event)
            return None
        self._note(place, event)
        raw = self._codec.encode(redacted(event))
        if raw == entry.raw:
            return None
        self.changed.add(place)
        return raw

    def concerns(self, field: str, name: str) -> bool:
        """Return whether an event with that name in that field may be one that is meant.

        Neither, and not of COPY_TYPES, erased or unreadable: then `redaction` need not be asked.
        """
        return self.selection.concerns(field, name)

    def learn(self, partition: int, entry: RawEntry) -> bool:
        """Take note of the sessions of the people sought; return whether one was news."""
        event = event_in(self._codec, partition, entry)
        return event is not None and self.selection.learn(event, entry.id.ms)

    def _note(self, place: tuple[int, int], event: Event) -> None:
        self.erased.add(place)
        self._ids.add(event.id)
        if isinstance(event, DeadLetterParked):
            self._letters.add(event.letter)

    def _is_copy(self, event: Event) -> bool:
        if isinstance(event, MessageSent | DeliveryFailed):
            return event.delivery in self._ids
        if isinstance(event, DeadLetterParked) and _place(event.origin) in self.erased:
            return True
        return isinstance(event, _LETTER_EVENTS) and event.letter in self._letters


def _place(origin: str | None) -> tuple[int, int] | None:
    """Return the place of an origin `partition/ms-n`; None where it is no such place."""
    partition, _, entry_id = (origin or "").partition("/")
    try:
        return int(partition), int(entry_id.rpartition("-")[2])
    except ValueError:
        return None
