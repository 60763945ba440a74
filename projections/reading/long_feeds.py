"""Feeds of conversations beyond what is hot of them: on into the log and the archive, either way."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple, Self

from msgspec import Meta

from eventlog.entry import Entry
from eventlog.errors import HistoryGap
from eventlog.ids import EntryId
from eventlog.log import EventLog
from eventlog.past import Past
from projections.projection import FeedProjection
from projections.reading.cold import Cold, ColdReader, just_after
from projections.reading.live import Consistency
from projections.reading.live_feeds import FeedPage, LiveFeeds
from projections.storing.store import ModelStore

_Count = Annotated[int, Meta(ge=0, le=2**53)]


class Place(NamedTuple):
    """A place between two entries of a feed: after `before_count` of them, those with ids below `ms-n`.

    By its number it is found among what is hot, by its id in archive and log.
    """

    before_count: _Count = 0
    ms: _Count = 0
    n: _Count = 0

    @classmethod
    def before(cls, entry: Entry, before_count: int) -> Self:
        """Return the place before an entry, which so many precede."""
        return cls(before_count, *entry.id)

    @classmethod
    def after(cls, entry: Entry, before_count: int) -> Self:
        """Return the place after an entry, itself counted."""
        return cls(before_count, *just_after(entry.id))

    @property
    def id(self) -> EntryId:
        """Where it is in archive and log: what is newer begins with this id."""
        return EntryId(self.ms, self.n)


class Passage(NamedTuple):
    """All entries of a feed between two places, in order."""

    entries: list[Entry]
    left: Place
    right: Place
    has_older: bool
    """Whether there may be any left of it; to the right there may always be more to come."""
    total: int
    """How many entries the feed ever took."""


def _never(_entries: Sequence[Entry]) -> bool:
    return False


class LongFeeds:
    """Reads the feeds of a projection, each of one conversation.

    What is hot costs one round trip. Without `past` there is nothing else.
    """

    def __init__(
        self,
        log: EventLog,
        projection: FeedProjection,
        store: ModelStore | None = None,
        past: Past | None = None,
    ) -> None:
        self._log = log
        self._projection = projection
        self._feeds = LiveFeeds(log, projection, store)
        self._cold = None if past is None else ColdReader(log, past, projection)

    async def count(self, feed: str, consistency: Consistency) -> int:
        """Return how many entries the feed ever took."""
        return (await self._hot(feed, 1, None, consistency)).total

    async def older(
        self,
        feed: str,
        place: Place | None,
        window: int,
        consistency: Consistency,
        is_enough: Callable[[Sequence[Entry]], bool] = _never,
    ) -> Passage:
        """Return the last `window` entries before a place, or of all.

        Fewer, where those that are hot are enough. Raises HistoryGap where neither archive nor log has what is asked for.
        """
        if place is None:
            hot = await self._hot(feed, window, None, consistency)
            place = await self._end(feed, hot)
        else:
            hot, place = await self._around(feed, place, (window, 1), consistency)
        entries = hot.entries[: max(0, place.before_count - hot.first + 1)][-window:]
        left = Place.before(entries[0], place.before_count - len(entries)) if entries else place
        if self._cold is None:
            has_older = left.before_count >= hot.oldest
            return Passage(entries, left, place, has_older, hot.total)
        has_older = left.before_count > 0
        if has_older and len(entries) < window and not is_enough(entries):
            try:
                cold = await self._cold.older(feed, left.id, window - len(entries))
            except HistoryGap:
                if not entries:
                    raise
                # What is there is given out first; whoever goes on learns of the gap.
                return Passage(entries, left, place, has_older, hot.total)
            entries = [*cold.entries, *entries]
            left = Place(max(0, left.before_count - len(cold.entries)), *cold.edge)
            has_older = left.before_count > 0 and not cold.is_all
        return Passage(entries, left, place, has_older, hot.total)

    async def newer(
        self, feed: str, place: Place, window: int, consistency: Consistency
    ) -> Passage:
        """Return the first `window` entries after a place. Raises HistoryGap."""
        hot, place = await self._around(feed, place, (1, window), consistency)
        cold = Cold([], place.id, is_all=True)
        if place.before_count < hot.oldest - 1:
            hot = await self._oldest_hot(feed, window, hot, consistency)
            if hot.entries and hot.entries[0].id.n < place.n:
                place = await self._renumbered(feed, place, hot, consistency)
                return await self.newer(feed, place, window, consistency)
            if self._cold is None:
                place = Place.before(hot.entries[0], hot.first - 1) if hot.entries else place
            else:
                until = hot.entries[0].id if hot.entries else None
                cold = await self._cold.newer(feed, place.id, until, window)
            start = hot.first
        else:
            start = place.before_count + 1
        entries, right = cold.entries, Place(place.before_count + len(cold.entries), *cold.edge)
        room = window - len(entries)
        more = hot.entries[max(0, start - hot.first) :][:room] if cold.is_all else []
        if more:
            right = Place.after(more[-1], start - 1 + len(more))
        has_older = place.before_count >= (hot.oldest if self._cold is None else 1)
        return Passage([*entries, *more], place, right, has_older, hot.total)

    async def _hot(
        self, feed: str, limit: int, end: int | None, consistency: Consistency
    ) -> FeedPage:
        partition = self._log.partition_of(self._projection.conversation(feed))
        return await self._feeds.page(partition, feed, limit, end, consistency)

    async def _end(self, feed: str, hot: FeedPage) -> Place:
        """Return the place after the last entry of all."""
        if hot.entries:
            return Place.after(hot.entries[-1], hot.total)
        if not hot.total:
            return Place()
        if hot.left_at is not None:
            return Place(hot.total, *just_after(hot.left_at))
        head = (await self._log.heads())[
            self._log.partition_of(self._projection.conversation(feed))
        ]
        return Place(hot.total, *just_after(head))

    async def _around(
        self, feed: str, place: Place, counts: tuple[int, int], consistency: Consistency
    ) -> tuple[FeedPage, Place]:
        """Return what is hot of so many entries before a place and so many after it.

        Numbers differ where the read model was made anew by another rule: then the place is looked
        up by its id, and returned as it is numbered now.
        """
        end = place.before_count + counts[1] + 1
        hot = await self._hot(feed, sum(counts), end, consistency)
        if all(
            (entry.id.n < place.n) == (number <= place.before_count)
            for number, entry in enumerate(hot.entries, hot.first)
        ):
            return hot, place
        place = await self._renumbered(feed, place, hot, consistency)
        end = place.before_count + counts[1] + 1
        return await self._hot(feed, sum(counts), end, consistency), place

    async def _renumbered(
        self, feed: str, place: Place, hot: FeedPage, consistency: Consistency
    ) -> Place:
        everything = await self._hot(feed, hot.total - hot.oldest + 1, None, consistency)
        sequences = [entry.id.n for entry in everything.entries]
        return place._replace(before_count=everything.first - 1 + bisect_left(sequences, place.n))

    async def _oldest_hot(
        self, feed: str, limit: int, hot: FeedPage, consistency: Consistency
    ) -> FeedPage:
        """Return the oldest entries that are hot; `hot` is any page of late."""
        while hot.oldest <= hot.total:
            oldest = hot.oldest
            hot = await self._hot(feed, limit, oldest + limit, consistency)
            if hot.oldest == oldest:
                return hot
        return hot._replace(entries=[])
