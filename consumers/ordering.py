"""Which entries of a partition may be handled now: many conversations at once, each in order. Pure.

A conversation is in one of three states. *Free*: its entries, if any, wait here, and the first is
being handled or ready to be. *In a line*: its entries wait in Redis, in order, because the first is
to be tried again later, because there were too many to be kept here, or because whoever had them in
hand died. *Loaded*: the first entries of its line are here and handled as if it were free, while what
arrives goes to the line's end. An entry leaves when its settlement is written, and only then may the
next of its conversation begin.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable

from consumers.handler import Handler
from consumers.record import Record
from eventlog.event import Event
from eventlog.ids import EntryId

NOW_MS = 0
"""Due at once. All other times are of this process's clock that never goes back."""


class Item:
    """An entry on its way through its handler."""

    __slots__ = (
        "conversation",
        "event",
        "handler",
        "id",
        "in_line",
        "is_begun",
        "is_passed",
        "record",
    )

    def __init__(
        self,
        entry_id: EntryId,
        event: Event,
        handler: Handler | None,
        *,
        record: Record | None = None,
        in_line: bool = False,
    ) -> None:
        self.id = entry_id
        self.event = event
        self.conversation = event.conversation
        self.handler = handler
        self.record = record
        """What is known of earlier attempts; None before the first."""
        self.is_begun = False
        """Whether the record says that an attempt is under way, or may be."""
        self.is_passed = False
        """Whether it was handled, and the next of its conversation may begin before it is settled."""
        self.in_line = in_line
        """Whether it stands in its conversation's line in Redis."""


class Line:
    """A conversation's line in Redis, as its owner knows it."""

    __slots__ = ("due_ms", "length")

    def __init__(self, due_ms: int | None, length: int) -> None:
        self.due_ms = due_ms
        """None while its first entries are loaded."""
        self.length = length


class _Lane:
    """A conversation's entries here."""

    __slots__ = ("queue", "unsettled_count")

    def __init__(self) -> None:
        self.queue: deque[Item] = deque()
        """The first is being handled, or ready to be."""
        self.unsettled_count = 0
        """Entries before the first that were handled and are not settled."""


class Order:
    """The entries in hand, and the lines."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}
        self._ready: deque[str] = deque()
        self._due: list[tuple[int, str]] = []
        self.lines: dict[str, Line] = {}
        self.loaded_count = 0
        """Entries of lines that are here."""
        self.waiting_count = 0
        """Entries in lines, loaded or not."""

    # --- what comes in -------------------------------------------------------------------------

    def arrive(self, item: Item) -> bool:
        """Return whether the entry is kept here; if not, it belongs to the end of its line."""
        conversation = item.conversation
        if (line := self.lines.get(conversation)) is not None:
            line.length += 1
            self.waiting_count += 1
            return False
        lane = self._lanes.get(conversation)
        if lane is None:
            lane = self._lanes[conversation] = _Lane()
        lane.queue.append(item)
        if len(lane.queue) == 1:
            self._ready.append(conversation)
        return True

    def found(self, conversation: str, due_ms: int, length: int) -> None:
        """Take note of a line that is there already."""
        line = self.lines[conversation] = Line(due_ms, length)
        self.waiting_count += length
        self._set_due(conversation, line, due_ms)

    def load(self, conversation: str, items: Iterable[Item]) -> None:
        """Take in the first entries of a line, whose turn has come."""
        lane = self._lanes[conversation] = _Lane()
        lane.queue.extend(items)
        self.loaded_count += len(lane.queue)
        self._ready.append(conversation)

    # --- what goes on --------------------------------------------------------------------------

    @property
    def ready_count(self) -> int:
        """Entries that may begin now."""
        return len(self._ready)

    def take(self) -> Item | None:
        """Return an entry to begin with, of the conversation that has been ready longest."""
        if not self._ready:
            return None
        return self._lanes[self._ready.popleft()].queue[0]

    def pass_on(self, item: Item) -> None:
        """Let the next entry begin, though this one, being handled, is not yet settled.

        Nothing hangs on its settlement; only an entry of a line must be written down to begin.
        """
        lane = self._lanes[item.conversation]
        following = lane.queue[1] if len(lane.queue) > 1 else None
        if following is not None and following.in_line and not following.is_begun:
            return
        item.is_passed = True
        lane.queue.popleft()
        lane.unsettled_count += 1
        if lane.queue:
            self._ready.append(item.conversation)

    def finish(self, item: Item) -> None:
        """Take out an entry whose settlement is written; the next of its conversation may begin."""
        conversation = item.conversation
        if item.in_line:
            self.lines[conversation].length -= 1
            self.loaded_count -= 1
            self.waiting_count -= 1
        lane = self._lanes.get(conversation)
        if lane is None:  # it was blocked meanwhile
            return
        if item.is_passed:
            lane.unsettled_count -= 1
        else:
            lane.queue.popleft()
            if lane.queue:
                self._ready.append(conversation)
        if not (lane.queue or lane.unsettled_count):
            del self._lanes[conversation]
            self._load_next(conversation)

    def block(self, item: Item, due_ms: int) -> list[Item]:
        """Put a conversation off until it is due; return its entries that are here, in order.

        `item` is its first, that was taken. Those that stand in no line yet come before the rest of
        the line.
        """
        conversation = item.conversation
        items = list(self._lanes.pop(conversation).queue)
        fresh_count = sum(not each.in_line for each in items)
        self.loaded_count -= len(items) - fresh_count
        line = self._lengthen(conversation, fresh_count)
        self._set_due(conversation, line, due_ms)
        return items

    def spill(self, kept_count: int) -> dict[str, list[EntryId]]:
        """Make room: return what goes to the end of lines, of conversations that have more here."""
        spilled: dict[str, list[EntryId]] = {}
        for conversation, lane in self._lanes.items():
            # What is in a line already comes after what is here.
            if len(lane.queue) > kept_count and conversation not in self.lines:
                entries = [lane.queue.pop() for _ in range(len(lane.queue) - kept_count)]
                spilled[conversation] = [each.id for each in reversed(entries)]
                self._lengthen(conversation, len(entries))
        return spilled

    def firsts(self) -> list[Item]:
        """Return the first entry of each conversation that has any here."""
        return [lane.queue[0] for lane in self._lanes.values() if lane.queue]

    def _lengthen(self, conversation: str, count: int) -> Line:
        """Return the conversation's line, so much longer, which is new where it had none."""
        line = self.lines.setdefault(conversation, Line(None, 0))
        line.length += count
        self.waiting_count += count
        return line

    def _load_next(self, conversation: str) -> None:
        """Have what is left of a line loaded; one that is empty is no line."""
        line = self.lines.get(conversation)
        if line is None:
            return
        if line.length:
            self._set_due(conversation, line, NOW_MS)
        else:
            del self.lines[conversation]

    def _set_due(self, conversation: str, line: Line, due_ms: int) -> None:
        line.due_ms = due_ms
        heapq.heappush(self._due, (due_ms, conversation))

    # --- whose turn it is ----------------------------------------------------------------------

    def next_due_ms(self) -> int | None:
        """Return when the next line is due, None where there is none that waits."""
        while self._due:
            due_ms, conversation = self._due[0]
            line = self.lines.get(conversation)
            if line is not None and line.due_ms == due_ms:
                return due_ms
            heapq.heappop(self._due)
        return None

    def pop_due(self, now_ms: int, limit: int) -> list[str]:
        """Return up to `limit` conversations whose lines are due; they are to be loaded."""
        due: list[str] = []
        while len(due) < limit and (at_ms := self.next_due_ms()) is not None and at_ms <= now_ms:
            conversation = heapq.heappop(self._due)[1]
            self.lines[conversation].due_ms = None
            due.append(conversation)
        return due

    def put_off(self, conversation: str, due_ms: int) -> None:
        """Have a line that was to be loaded wait."""
        self._set_due(conversation, self.lines[conversation], due_ms)
