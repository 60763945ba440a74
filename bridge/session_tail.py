"""Following one session: what happens in it from now on, or from a cursor on, until it ends."""

from __future__ import annotations

from typing import Self

from eventlog.cursor import Cursor
from eventlog.entry import Entry
from eventlog.ids import EntryId
from eventlog.session import TERMINAL
from eventlog.tail import Tail
from eventlog.vocabulary import SessionTransitioned


class SessionTail:
    """An async iterator over the entries of one session, which ends with the one that ends it.

    Keep `str(tail.cursor)` and pass it as `after` to resume. Raises HistoryGap when entries were
    trimmed unseen.
    """

    def __init__(self, tail: Tail, session: str, partition: int, until: EntryId | None) -> None:
        self._tail = tail
        self._session = session
        self._partition = partition
        self._until = until  # where the log was when the session was known to have ended
        self._has_ended = False

    @property
    def cursor(self) -> Cursor:
        """The place after the last entry given out."""
        return self._tail.cursor

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Entry:
        while not self._has_ended:
            if self._until is not None and self.cursor[self._partition] >= self._until:
                break
            entry = await anext(self._tail)
            if entry.event.session != self._session:
                continue
            event = entry.event
            self._has_ended = isinstance(event, SessionTransitioned) and event.to_status in TERMINAL
            return entry
        raise StopAsyncIteration
