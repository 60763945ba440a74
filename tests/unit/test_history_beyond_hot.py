"""History beyond what is hot: on into the log and the archive, by hand-moved projector and archiver."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.entry import RawEntry
from eventlog.errors import HistoryGap
from eventlog.event import Event
from eventlog.ids import START
from eventlog.log import EventLog
from eventlog.memory_store import MemoryStore
from eventlog.vocabulary import MessageQueued, MessageReceived, MessageSent
from projections.reading import cold
from projections.storing.memory_models import MemoryModels
from projections.storing.store import FeedReply, FeedRequest, Tail
from projections.views import history as history_module
from projections.views.history import HISTORY, History
from tests.histories import TEXTS, said, ten_texts
from tests.projecting import ListedPast


class World(MemoryModels):
    """A log of one partition whose projector, archiver and trimmer are moved by hand."""

    def __init__(self, log: EventLog, hot_limit: int = 3) -> None:
        super().__init__(log)
        self.log = log
        self.hot_limit = hot_limit
        self.past = ListedPast()
        self.history = History(log, self, past=self.past)
        self.reads = 0
        self.said: dict[str, list[RawEntry]] = {}
        self._checkpoint = START

    def _entries(self) -> list[RawEntry]:
        store = self.log._store
        assert isinstance(store, MemoryStore)
        return store._partitions[0].entries

    async def project(self, count: int = 1_000_000) -> None:
        """Fold up to `count` entries more."""
        page = await self.log.read_raw(0, self._checkpoint, count)
        if page and page[0].id.n == self._checkpoint.n + 1:
            for raw in page:
                event = self.log.codec.decode(raw.raw)
                if isinstance(event, HISTORY.types):
                    self.said.setdefault(event.conversation, []).append(raw)
            self._checkpoint = page[-1].id

    async def archive(self, count: int = 1_000_000) -> None:
        """Archive up to `count` entries more, of those that are projected."""
        position = await self.past.position(0)
        page = await self.log.read_raw(0, position, count)
        self.past.entries += [raw for raw in page if raw.id <= self._checkpoint]

    async def trim(self) -> None:
        """Trim what is archived, but for the last entry, by which a log in memory knows its head."""
        position = await self.past.position(0)
        entries = self._entries()
        entries[:-1] = [raw for raw in entries[:-1] if raw.id > position]

    async def read_feed(self, partition: int, request: FeedRequest) -> FeedReply:
        self.reads += 1
        assert partition == 0
        items = self.said.get(request.feed, [])
        total = len(items)
        dropped = max(0, total - self.hot_limit)
        upto = min(request.before - 1, total) if request.before else total
        first = max(upto - request.limit, dropped) + 1
        tail = Tail(self._checkpoint, self._checkpoint, [])
        if request.tail_limit:
            head = (await self.log.heads())[0]
            entries = await self.log.read_raw(0, self._checkpoint, request.tail_limit)
            tail = Tail(self._checkpoint, head, entries)
        page = [b"%s %s" % (str(raw.id).encode(), raw.raw) for raw in items[first - 1 : upto]]
        return FeedReply(tail, total, dropped + 1, first, page)


@contextmanager
def small_steps() -> Iterator[None]:
    """Let one call look through little, so that few entries show what becomes of many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cold, "SCANNED_ENTRIES", 7)
        patch.setattr(cold, "SCAN_PAGE_ENTRIES", 4)
        patch.setattr(history_module, "FILTERED_MESSAGES", 4)
        yield


async def test_what_is_hot_costs_one_read_and_what_is_not_asked_for_none() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        await log.append(ten_texts())
        world = World(log)
        await world.project()
        await world.archive()
        world.past.reads = 0
        assert said(await world.history.last("chat", 3)) == TEXTS[-3:]
        assert (world.reads, world.past.reads) == (1, 0)
        assert said(await world.history.last("nobody", 3)) == []
        assert (world.reads, world.past.reads) == (2, 0)


async def test_a_filter_that_finds_enough_of_what_is_hot_looks_no_further() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        await log.append(ten_texts())
        world = World(log, hot_limit=6)
        await world.project()
        page = await world.history.last("chat", 2, sender="u1")
        assert (said(page), world.reads, world.past.reads) == (["text 7", "text 9"], 1, 0)
        assert said(await world.history.last("chat", 4, sender="u1")) == TEXTS[3::2]
        assert world.past.reads > 0


async def test_without_an_archive_history_ends_where_what_is_hot_ends() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        await log.append(ten_texts())
        world = World(log)
        await world.project()
        history = History(log, world)
        page = await history.last("chat", 5)
        assert (said(page), page.older, page.earlier_count) == (TEXTS[-3:], None, 7)
        page = await history.first("chat", 2)
        assert (said(page), page.older, page.earlier_count) == (TEXTS[7:9], None, 7)
        assert said(await history.page(page.newer)) == TEXTS[9:]


async def test_one_page_goes_from_what_is_hot_through_the_log_into_the_archive() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        await log.append(ten_texts())
        world = World(log)
        await world.project()
        await world.archive(10)
        await world.trim()
        page = await world.history.last("chat", 100)
        assert (said(page), page.older, page.earlier_count) == (TEXTS, None, 0)
        page = await world.history.first("chat", 100)
        assert (said(page), page.older, page.later_count) == (TEXTS, None, 0)


async def test_what_neither_archive_nor_log_has_is_an_error_and_never_skipped() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        await log.append(ten_texts())
        world = World(log)
        await world.project()
        await world.archive(20)
        await world.trim()
        del world.past.entries[9:]
        hot = await world.history.last("chat", 100)
        assert said(hot) == TEXTS[-3:]  # what is there is given out first
        assert hot.older
        with pytest.raises(HistoryGap, match="entry 20 is neither"):
            await world.history.page(hot.older)
        old = await world.history.first("chat", 100)
        assert said(old) == TEXTS[:3]
        with pytest.raises(HistoryGap, match="entry 10 is neither"):
            await world.history.page(old.newer)


async def test_a_chat_that_is_no_longer_hot_at_all_is_read_from_the_archive() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        await log.append(ten_texts())
        world = World(log, hot_limit=0)
        await world.project()
        await world.archive()
        await world.trim()
        page = await world.history.last("chat", 4)
        assert (said(page), page.earlier_count, page.later_count) == (TEXTS[-4:], 6, 0)
        assert said(await world.history.first("chat", 4)) == TEXTS[:4]
        await log.append(MessageReceived(conversation="chat", text="new"))
        assert said(await world.history.page(page.newer)) == ["new"]


async def test_a_page_that_was_numbered_otherwise_is_found_by_its_id() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        await log.append(ten_texts())
        world = World(log, hot_limit=8)
        await world.project()
        page = await world.history.last("chat", 3)
        # Made anew by a fold that takes one message less.
        del world.said["chat"][0]
        assert page.older
        assert said(await world.history.page(page.older, 3)) == TEXTS[4:7]
        older = await world.history.page(page.older, 3)
        assert said(await world.history.page(older.newer, 3)) == TEXTS[7:]
        # Or one that takes many more.
        page = await world.history.first("chat", 5)
        first = world.said["chat"][0]
        world.said["chat"][:0] = [first] * 30
        assert said(page) == TEXTS[:5]  # the log still has the first
        assert said(await world.history.page(page.newer, 3)) == TEXTS[5:8]


async def test_filters_choose_by_sender_kind_and_direction() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        await log.append(ten_texts())
        await log.append(MessageSent(conversation="chat", text="waves", message_type="action"))
        world = World(log)
        await world.project()
        await world.archive(12)
        history = world.history
        assert said(await history.last("chat", sender="u1")) == TEXTS[1::2]
        assert said(await history.last("chat", event_type="message.sent")) == [
            *TEXTS[2::3],
            "waves",
        ]
        assert said(await history.first("chat", message_type="action")) == ["waves"]
        both = await history.first("chat", sender="u0", event_type="message.sent")
        assert said(both) == ["text 2", "text 8"]
        two = await history.last("chat", 2, sender="u1")
        assert (said(two), two.earlier_count) == (["text 7", "text 9"], 7)


async def test_a_filter_that_finds_nothing_ends_after_bounded_steps() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        await log.append(ten_texts())
        world = World(log)
        await world.project()
        await world.archive(12)
        with small_steps():
            page = await world.history.last("chat", 2, sender="nobody")
            pages = 1
            while page.older:
                before = world.reads
                page = await world.history.page(page.older, 2)
                assert (said(page), world.reads - before) == ([], 1)
                pages += 1
            assert pages in (3, 4, 5)
            assert page.earlier_count == 0
            while page.later_count:
                page = await world.history.page(page.newer, 2)
                assert said(page) == []
                pages += 1
            assert pages < 12


seeds = st.integers(0, 2**32)


@settings(max_examples=60, deadline=None)
@given(seed=seeds, filtered=st.booleans(), from_first=st.booleans())
async def test_pages_never_repeat_or_miss_while_messages_move_on(
    seed: int, filtered: bool, from_first: bool
) -> None:
    rnd = random.Random(seed)
    async with EventLog.in_memory(partition_count=1) as log:
        world = World(log, hot_limit=rnd.randrange(1, 6))
        numbers = iter(range(1_000_000))

        async def live_on() -> None:
            for _ in range(rnd.randrange(3)):
                await rnd.choice([more, world.project, partly, world.archive, world.trim])()

        async def partly() -> None:
            await world.archive(rnd.randrange(1, 9))

        async def more() -> None:
            for _ in range(rnd.randrange(1, 12)):
                await log.append(message(rnd, next(numbers)))

        def is_wanted(event: Event) -> bool:
            is_said = isinstance(event, HISTORY.types) and event.conversation == "chat"
            return is_said and (not filtered or event.sender == "u1")  # type: ignore[attr-defined]

        for _ in range(6):
            await more()
            await live_on()
        sender = "u1" if filtered else None
        everything = [
            *world.past.entries,
            *await log.read_raw(0, await world.past.position(0), 999),
        ]
        before = [log.codec.decode(raw.raw) for raw in everything]
        begin = world.history.first if from_first else world.history.last
        with small_steps():
            page = await begin("chat", rnd.randrange(1, 6), sender=sender)
            told = said(page)
            while page.cursor:
                await live_on()
                limit = rnd.randrange(1, 6)
                page = await world.history.page(page.cursor, limit)
                assert len(page.entries) <= limit
                told = told + said(page) if from_first else said(page) + told
        expected = [event.text for event in before if is_wanted(event)]  # type: ignore[attr-defined]
        if from_first:
            assert told[: len(expected)] == expected
            assert [text for text in told if told.count(text) > 1] == []
        else:
            assert told == expected


def message(rnd: random.Random, number: int) -> Event:
    made = rnd.choice((MessageReceived, MessageSent, MessageQueued))
    return made(
        conversation=rnd.choice(["chat", "other"]),
        text=str(number),
        **({} if made is MessageQueued else {"sender": rnd.choice(["u1", "u2"])}),
    )
