"""History on a real server: from what is hot through the log into the archive, whatever moves."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from analytics import DirectoryStorage
from analytics.past import ArchivedPast
from eventlog.errors import HistoryGap
from eventlog.event import Event
from eventlog.log import EventLog
from eventlog.vocabulary import MessageQueued, MessageReceived, MessageSent
from projections.storing.redis_models import RedisModels
from projections.storing.store import FeedReply, FeedRequest
from projections.views.history import History, HistoryPage
from tests.archives import ArchivedWorld

CHAT = "chat"
HOT = 20


class Counted(RedisModels):
    """Read models that count how often they are asked."""

    reads = 0

    async def read_feed(self, partition: int, request: FeedRequest) -> FeedReply:
        self.reads += 1
        return await super().read_feed(partition, request)


class World(ArchivedWorld):
    """A log with few hot messages, an archive, and the history over both."""

    def __init__(self, log: EventLog, storage: DirectoryStorage) -> None:
        super().__init__(log, storage)
        self.store = Counted(log)
        self.history = History(log, self.store, past=ArchivedPast(storage))
        self.said = 0

    async def say(self, count: int) -> None:
        """Append messages of one chat, and as much of others."""
        events: list[Event] = []
        for _ in range(count):
            made = MessageSent if self.said % 3 == 2 else MessageReceived
            sender = f"u{self.said % 2}"
            events += [
                made(conversation=CHAT, text=str(self.said), sender=sender),
                MessageQueued(conversation=CHAT, text="not said yet"),
                MessageReceived(conversation=f"other:{self.said % 7}", text="noise"),
            ]
            self.said += 1
        await self.log.append(events)


@pytest.fixture
async def world(server_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with EventLog.open(
        server_url, key_prefix=tmp_path.name, partition_count=2, chat_history_limit=HOT
    ) as log:
        yield World(log, DirectoryStorage(tmp_path / "archive"))


def texts(page: HistoryPage) -> list[str]:
    return [entry.event.text for entry in page.entries]  # type: ignore[attr-defined]


def numbers(*places: int) -> list[str]:
    return [str(n) for n in range(*places)]


async def test_history_goes_on_from_hot_through_the_log_into_the_archive(world: World) -> None:
    await world.say(100)
    await world.project()
    await world.archive()
    await world.trim()
    await world.say(50)
    await world.project()
    page = await world.history.last(CHAT, 7)
    assert world.store.reads == 1
    assert (texts(page), page.earlier_count) == (numbers(143, 150), 143)
    told = texts(page)
    while page.cursor:
        page = await world.history.page(page.cursor, 7)
        told = texts(page) + told
        assert page.earlier_count + len(told) == 150
    assert told == numbers(150)
    page = await world.history.first(CHAT, 11)
    told = texts(page)
    while page.cursor:
        page = await world.history.page(page.cursor, 11)
        told += texts(page)
    assert told == numbers(150)
    assert texts(await world.history.last(CHAT, 1000)) == numbers(150)
    assert texts(await world.history.first(CHAT, 1000)) == numbers(150)


async def test_a_cursor_stays_good_while_its_page_goes_cold(world: World) -> None:
    await world.say(40)
    hot = await world.history.last(CHAT, 5)
    oldest = await world.history.first(CHAT, 5)
    await world.project()
    await world.say(40)
    await world.project()
    await world.archive()
    await world.trim()
    assert hot.older
    assert texts(await world.history.page(hot.older, 5)) == numbers(30, 35)
    assert texts(await world.history.page(hot.newer, 50)) == numbers(40, 80)
    assert texts(await world.history.page(oldest.newer, 5)) == numbers(5, 10)
    back = await world.history.page(oldest.newer, 5)
    assert back.older
    assert texts(await world.history.page(back.older, 50)) == numbers(5)


async def test_filters_go_on_into_the_archive(world: World) -> None:
    await world.say(100)
    await world.project()
    await world.archive()
    await world.trim()
    page = await world.history.last(CHAT, 8, sender="u1", event_type="message.sent")
    told = texts(page)
    while page.cursor:
        page = await world.history.page(page.cursor, 8)
        told = texts(page) + told
    assert told == numbers(5, 100, 6)


async def test_pages_fit_together_whatever_moves_between_them(world: World) -> None:
    rnd = random.Random(5)
    for _ in range(4):
        await world.say(rnd.randrange(10, 40))
        for step in (world.project, world.archive, world.trim):
            if rnd.random() < 0.7:
                await step()
    count = world.said
    older = await world.history.last(CHAT, 6)
    newer = await world.history.first(CHAT, 6)
    back, forth = texts(older), texts(newer)
    while older.cursor or newer.cursor:
        if older.cursor:
            older = await world.history.page(older.cursor, rnd.randrange(1, 20))
            back = texts(older) + back
        if newer.cursor:
            newer = await world.history.page(newer.cursor, rnd.randrange(1, 20))
            forth += texts(newer)
        await world.say(1)
        for step in (world.project, world.archive, world.trim):
            if rnd.random() < 0.2:
                await step()
    assert back == numbers(count)
    assert forth == numbers(world.said)[: len(forth)]
    assert len(forth) >= count


async def test_what_neither_has_is_a_gap_and_what_is_there_is_shown(world: World) -> None:
    await world.say(60)
    await world.project()
    stream = world.log.keys.stream(world.log.partition_of(CHAT))
    await world.log.client.xtrim(stream, maxlen=3, approximate=False)
    page = await world.history.last(CHAT, 50)
    assert texts(page) == numbers(60 - HOT, 60)
    assert page.older
    with pytest.raises(HistoryGap, match="neither in the archive nor in the log"):
        await world.history.page(page.older)
    with pytest.raises(HistoryGap):
        await world.history.first(CHAT)
