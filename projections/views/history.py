"""Chat history: the messages of each conversation, in both directions, in log order.

The last few are hot: one round trip. Older ones come from the archive, and where that ends, from
the log; the same call goes on there, without seam or repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from eventlog.entry import Entry
from eventlog.errors import InvalidCursor, InvalidQuery
from eventlog.event import Event
from eventlog.log import EventLog
from eventlog.past import Past
from eventlog.settings import Settings
from eventlog.vocabulary import MessageReceived, MessageSent, MessageType
from projections.projection import FeedProjection
from projections.reading.live import Consistency
from projections.reading.long_feeds import LongFeeds, Passage, Place
from projections.reading.paging import check_limit, decode_cursor, encode_cursor
from projections.storing.store import ModelStore

MAX_PAGE_MESSAGES = 10_000
FILTERED_MESSAGES = 1000
"""Messages that one call with a filter looks through at least, and but for a larger page at most."""


class HistoryProjection(FeedProjection):
    """Keeps what was said; a message that is only queued has not been said yet."""

    name = "history"
    types = (MessageReceived, MessageSent)

    def key(self, event: Event) -> str:
        """Return the conversation."""
        return event.conversation

    def limit(self, settings: Settings) -> int:
        """Return how many messages of a conversation stay hot."""
        return settings.chat_history_limit


HISTORY = HistoryProjection()


class HistoryPage(NamedTuple):
    """Messages of one conversation, oldest first.

    A page may be shorter than asked for, even empty, where a filter or a long way to the next
    message is in between; its cursors go on nevertheless.
    """

    entries: list[Entry]
    cursor: str | None
    """Fetches what follows the way this page went, from `last` back, from `first` on; None at the
    end."""
    older: str | None
    """Fetches the page before this one; None where there is none."""
    newer: str
    """Fetches the page after this one, also what is yet to be said: it is empty until then."""
    earlier_count: int
    """How many messages came before this page, filtered or not."""
    later_count: int
    """How many messages came after it."""


class _Filter(NamedTuple):
    sender: str | None = None
    message_type: str | None = None
    event_type: str | None = None

    def takes(self, event: Event) -> bool:
        """Return whether a message passes."""
        assert isinstance(event, MessageReceived | MessageSent)
        return (
            (self.sender is None or event.sender == self.sender)
            and (self.message_type is None or event.message_type == self.message_type)
            and (self.event_type is None or event.type == self.event_type)
        )


_EVERYTHING = _Filter()


class _Cursor(NamedTuple):
    conversation: str
    towards: Literal["older", "newer"]
    place: Place
    filter: _Filter


class History:
    """Questions about what was said. Every call may raise LogUnavailable.

    With `past`, the archive, it reaches back to the first message; without it to the oldest hot one.
    A cursor stays good while messages are added and while they move to the archive. A call that
    needs messages which neither archive nor log has raises HistoryGap.

    >>> page = await history.last("telegram:42", 20)
    >>> if page.cursor:
    ...     page = await history.page(page.cursor, 20)
    """

    def __init__(
        self, log: EventLog, store: ModelStore | None = None, *, past: Past | None = None
    ) -> None:
        self._log = log
        self._feeds = LongFeeds(log, HISTORY, store, past)

    async def last(
        self,
        conversation: str,
        limit: int = 50,
        *,
        cursor: str | None = None,
        sender: str | None = None,
        message_type: MessageType | None = None,
        event_type: str | None = None,
        consistency: Consistency = "live",
    ) -> HistoryPage:
        """Return the last messages, or the page that a cursor of this conversation stands for.

        Only those by `sender`, of `message_type`, of `event_type` (`message.received` or
        `message.sent`), where given; a cursor keeps its page's filter. Raises InvalidQuery,
        InvalidCursor.
        """
        wanted = self._filter(sender, message_type, event_type)
        begin = _Cursor(conversation, "older", Place(), wanted)
        if cursor is not None:
            return await self._read(_belonging(cursor, begin), limit, consistency)
        return await self._read(begin, limit, consistency, at_end=True)

    async def first(
        self,
        conversation: str,
        limit: int = 50,
        *,
        cursor: str | None = None,
        sender: str | None = None,
        message_type: MessageType | None = None,
        event_type: str | None = None,
        consistency: Consistency = "live",
    ) -> HistoryPage:
        """Return the first messages there are; all else as `last`.

        >>> page = await history.first("telegram:42", 1000)
        >>> while page.cursor:
        ...     page = await history.page(page.cursor, 1000)
        """
        wanted = self._filter(sender, message_type, event_type)
        begin = _Cursor(conversation, "newer", Place(), wanted)
        chosen = begin if cursor is None else _belonging(cursor, begin)
        return await self._read(chosen, limit, consistency)

    async def page(
        self, cursor: str, limit: int = 50, *, consistency: Consistency = "live"
    ) -> HistoryPage:
        """Return the page that another page's `older` or `newer` stands for, filter and all.

        Raises InvalidQuery, InvalidCursor.
        """
        return await self._read(decode_cursor(cursor, _Cursor), limit, consistency)

    async def count(self, conversation: str, *, consistency: Consistency = "live") -> int:
        """Return how many messages the conversation ever had, the archived included."""
        return await self._feeds.count(conversation, consistency)

    def _filter(
        self, sender: str | None, message_type: str | None, event_type: str | None
    ) -> _Filter:
        known = [n for n, t in self._log.codec.types.items() if issubclass(t, HISTORY.types)]
        for given, possible in ((message_type, get_args(MessageType)), (event_type, known)):
            if given is not None and given not in possible:
                raise InvalidQuery(
                    f"no message is a {given!r}.", remedy=f"One of {', '.join(possible)}."
                )
        return _Filter(sender, message_type, event_type)

    async def _read(
        self, begin: _Cursor, limit: int, consistency: Consistency, *, at_end: bool = False
    ) -> HistoryPage:
        check_limit(limit, MAX_PAGE_MESSAGES)
        chat, towards, place, wanted = begin
        window = limit if wanted == _EVERYTHING else max(limit, FILTERED_MESSAGES)
        if towards == "older":
            end = None if at_end else place

            def is_enough(hot: Sequence[Entry]) -> bool:
                return sum(wanted.takes(entry.event) for entry in hot) >= limit

            read = await self._feeds.older(chat, end, window, consistency, is_enough)
            read = _newest(read, wanted, limit)
        else:
            read = await self._feeds.newer(chat, place, window, consistency)
            read = _oldest(read, wanted, limit)
        older = _encoded(chat, "older", read.left, wanted) if read.has_older else None
        newer = _encoded(chat, "newer", read.right, wanted)
        later_count = max(0, read.total - read.right.before_count)
        following = older if towards == "older" else newer if later_count else None
        return HistoryPage(
            read.entries, following, older, newer, read.left.before_count, later_count
        )


def _newest(read: Passage, wanted: _Filter, limit: int) -> Passage:
    """Return the stretch's end with `limit` messages that pass, or all that do."""
    found: list[Entry] = []
    for number in range(len(read.entries) - 1, -1, -1):
        entry = read.entries[number]
        if wanted.takes(entry.event):
            found.append(entry)
            if len(found) == limit and number:
                left = Place.before(entry, read.left.before_count + number)
                return read._replace(entries=found[::-1], left=left, has_older=True)
    return read._replace(entries=found[::-1])


def _oldest(read: Passage, wanted: _Filter, limit: int) -> Passage:
    """Return the stretch's beginning with `limit` messages that pass, or all that do."""
    found: list[Entry] = []
    for number, entry in enumerate(read.entries, read.left.before_count + 1):
        if wanted.takes(entry.event):
            found.append(entry)
            if len(found) == limit and entry is not read.entries[-1]:
                return read._replace(entries=found, right=Place.after(entry, number))
    return read._replace(entries=found)


def _encoded(chat: str, towards: Literal["older", "newer"], place: Place, wanted: _Filter) -> str:
    return encode_cursor(_Cursor(chat, towards, place, wanted))


def _belonging(cursor: str, begin: _Cursor) -> _Cursor:
    """Return the cursor's content. Raises InvalidCursor where it is of another question."""
    found = decode_cursor(cursor, _Cursor)
    both = zip(begin.filter, found.filter, strict=True)
    asked = _Filter(*(kept if given is None else given for given, kept in both))
    if (found.conversation, found.filter) != (begin.conversation, asked):
        raise InvalidCursor(
            f"the cursor belongs to another list, of {found.conversation!r}.",
            remedy="Pass it on with the conversation and the filter that its page had, or to `page`.",
        )
    return found
