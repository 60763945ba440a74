"""What becomes of entries, gathered for one step of `settle.lua`. Pure."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from consumers.context import Result
from consumers.hand import Hand
from consumers.ordering import Item
from consumers.record import Record, encode_record
from eventlog.batch import Batch, batch_parts
from eventlog.entity import Advance
from eventlog.ids import EntryId
from eventlog.shares import MAX_BATCH_CHARACTERS, MAX_BATCH_EVENTS

MAX_ENTRIES = MAX_BATCH_EVENTS
"""Entries settled in one step, for the reason that bounds a batch of events."""


class LineChange:
    """What happens to one conversation's line."""

    __slots__ = ("back", "front", "popped", "wait_ms")

    def __init__(self) -> None:
        self.popped: list[str] = []
        self.front: list[str] = []
        """Come before what stands there, in order."""
        self.back: list[str] = []
        self.wait_ms: int | None = None
        """After which it is due; None leaves that as it is."""


class Settlement:
    """Acknowledgements, results, records and lines that are written together or not at all."""

    def __init__(self, number: int) -> None:
        self.number = number
        """Grows from one to the next, so that a repetition is known, however late it comes."""
        self.loads: list[tuple[str, list[Item]]] = []
        """Lines whose first entries are loaded once this is written."""
        self.begun: list[asyncio.Future[None]] = []
        """Whoever waits to begin until that is written."""
        self.expected: Sequence[tuple[str, int]] = ()
        """Entities and the versions they must have: then only one entry is settled here."""
        self._acks: list[str] = []
        self._records: dict[str, str] = {}
        self._forgotten: list[str] = []
        self._lines: dict[str, LineChange] = {}
        self._texts: list[str] = []
        self._ids: dict[str, None] = {}
        self._entities: list[Advance] = []
        self._character_count = 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self._acks or self._records or self._lines or self._texts or self._forgotten)

    @property
    def ack_count(self) -> int:
        """How many entries are done with."""
        return len(self._acks)

    @property
    def is_full(self) -> bool:
        """Whether more should go into the next one."""
        return (
            len(self._acks) >= MAX_ENTRIES
            or len(self._texts) >= MAX_BATCH_EVENTS
            or self._character_count >= MAX_BATCH_CHARACTERS
        )

    def has_room_for(
        self, results: Sequence[Result], expected: Sequence[tuple[str, int]] = ()
    ) -> bool:
        """Return whether these results can be written in the same step.

        Two events with one id cannot (the second is then found to be a duplicate), and an expected
        version is checked alone, so that its conflict is nobody else's.
        """
        if self.expected or (expected and not self.is_empty):
            return False
        return not any(each.event.id in self._ids for each in results)

    def acknowledge(self, item: Item, results: Iterable[Result] = ()) -> None:
        """The entry is done with; `results` are appended."""
        self._acks.append(str(item.id))
        self._forget(item)
        if item.in_line:
            self._line(item.conversation).popped.append(str(item.id))
        self.append(results)

    def pass_over(self, entry_id: EntryId) -> None:
        """Nobody handles the entry: it is acknowledged as it is."""
        self._acks.append(str(entry_id))

    def append(self, results: Iterable[Result]) -> None:
        """Events are appended."""
        for event, text, _ in results:
            if event.VERSIONED and event.entity:
                self._entities.append(Advance(len(self._texts), event.entity, event.entity_mark))
            self._texts.append(text)
            self._ids[event.id] = None
            self._character_count += len(text)

    def remember(self, entry_id: EntryId, record: Record) -> None:
        """The entry's record is kept."""
        self._records[str(entry_id)] = encode_record(record)

    def line_up(
        self,
        conversation: str,
        *,
        front: Iterable[EntryId] = (),
        back: Iterable[EntryId] = (),
        wait_ms: int | None = None,
    ) -> None:
        """Entries join a conversation's line, which is due after that."""
        change = self._line(conversation)
        change.front += map(str, front)
        change.back += map(str, back)
        if wait_ms is not None:
            change.wait_ms = wait_ms

    def _forget(self, item: Item) -> None:
        if item.record is not None:
            self._forgotten.append(str(item.id))

    def _line(self, conversation: str) -> LineChange:
        change = self._lines.get(conversation)
        if change is None:
            change = self._lines[conversation] = LineChange()
        return change

    # --- as the script takes it ----------------------------------------------------------------

    @property
    def conversations(self) -> Sequence[str]:
        """The conversations whose lines change; their keys follow the fixed ones, in this order."""
        return tuple(self._lines)

    def packed(self, generation: int, group: str, hand: Hand, dedup_window_ms: int) -> bytes:
        """Return the last argument of `settle.lua`, whose header gives the layout."""
        lines = [
            (
                place,
                conversation,
                c.popped,
                c.front,
                c.back,
                False if c.wait_ms is None else c.wait_ms,
            )
            for place, (conversation, c) in enumerate(self._lines.items())
        ]
        batch: Any = False
        if self._texts:
            events = Batch(self._texts, list(self._ids), self._entities, self.expected)
            batch = batch_parts(events, dedup_window_ms)
        return msgspec.msgpack.encode(
            (
                generation,
                group,
                self.number,
                self._acks,
                [text for pair in self._records.items() for text in pair],
                self._forgotten,
                lines,
                batch,
                hand.text(),
            )
        )
