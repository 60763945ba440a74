"""Taking entries out of lines whose turn has come."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from consumers.group_partition import GroupPartition
from consumers.ordering import Item, Order
from consumers.record import NO_RECORD, Record
from consumers.settlement import Settlement
from consumers.work import Work
from eventlog.entry import RawEntry

LOADED_ENTRIES = 1000
"""Entries of a partition's lines that a process has loaded, beside those in hand."""

LINE_PAGE_ENTRIES = 16
"""Entries of a line that are loaded together."""

LINES_AT_ONCE = 32
"""Lines whose first entries are read in one step."""

LOOK_AGAIN_MS = 20
"""After which a line that could not be loaded is looked at again."""


class LineLoader:
    """Loads lines of a partition into its order.

    A suspect, whose last strike it would be, is tried alone among its like in the process: it may kill
    it, so that its strikes must not fall on another one, nor another's on it.
    """

    def __init__(self, work: Work, place: GroupPartition, order: Order) -> None:
        self._work = work
        self._place = place
        self._order = order
        self._partition = place.lease.partition
        self._read: list[tuple[str, list[Item]]] = []
        """Lines that were read, to be loaded with the next settlement."""
        self._suspect: Item | None = None

    @property
    def has_room(self) -> bool:
        """Whether more may be loaded."""
        return self._order.loaded_count < LOADED_ENTRIES

    async def read_due(self) -> bool:
        """Read the first entries of lines that are due; return whether there were any."""
        if not self.has_room:
            return False
        now_ms = self._work.now_ms()
        due = self._order.pop_due(now_ms, LINES_AT_ONCE)
        if not due:
            return False
        pages = await self._work.insist(
            self._partition, partial(self._place.read_lines, due, LINE_PAGE_ENTRIES)
        )
        for conversation, page in zip(due, pages, strict=True):
            if items := self._together(page):
                self._read.append((conversation, items))
            else:  # what it has is still to be written, or a suspect is to wait for another one
                self._order.put_off(conversation, now_ms + LOOK_AGAIN_MS)
        return True

    def settle_into(self, settlement: Settlement) -> None:
        """Have the lines that were read loaded with the settlement."""
        for conversation, items in self._read:
            # What waited only for room is handled as fluently as if it had not; where an attempt failed
            # or died, one entry is begun after the other, each when that is written down.
            if all(item.record == NO_RECORD for item in items):
                for item in items:
                    item.is_begun, item.record = True, NO_RECORD.doubtful()
                    settlement.remember(item.id, item.record)
            settlement.loads.append((conversation, items))
        self._read.clear()

    def ended(self, item: Item) -> None:
        """An attempt at an entry has ended, and the process lives."""
        if item is self._suspect:
            self.let_go()

    def let_go(self) -> None:
        """Let other suspects be tried."""
        if self._suspect is not None:
            self._work.slots.clear(self._suspect)
            self._suspect = None

    def _together(self, page: Sequence[tuple[RawEntry, Record]]) -> list[Item]:
        """Return the entries of a page that may be loaded together; a suspect first and alone."""
        items: list[Item] = []
        for raw, record in page:
            item = self._work.item(self._partition, raw)
            item.in_line, item.record = True, record
            if not record.strikes or record.strikes + 1 < self._work.max_strikes:
                items.append(item)
                continue
            if not items and self._suspect is None and self._work.slots.suspect(item):
                self._suspect = item
                return [item]
            return items
        return items
