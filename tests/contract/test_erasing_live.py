"""Erasing while everything runs: workers, projectors, archivers, readers, writers."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from analytics import DirectoryStorage, Warehouse
from analytics.archiver import Archiver, Rolling
from analytics.past import ArchivedPast
from analytics.segment import Segment
from bridge.erasing import erase, erase_again
from consumers import Context, Worker
from consumers.delivery import DeliveryHandlers
from consumers.handler import Handlers
from consumers.retry import Retry
from eventlog import Event, EventLog, MessageQueued, MessageReceived
from eventlog.tasks import end
from projections.building.verifying import verify
from projections.builtin import DEFAULT_PROJECTIONS
from projections.projecting.projector import Projector
from tests.erasing import (
    CHAT,
    NEIGHBOUR,
    SECRET,
    USER,
    archive,
    in_files,
    in_sql,
    is_nowhere,
    life_of,
    on_server,
    opened,
    places,
    storage_of,
)
from tests.querying import rows
from tests.support import eventually
from tests.working import all_handled, at_work, killed_at_the_end


@pytest.fixture
async def log(server_url: str, tmp_path: Path) -> AsyncIterator[EventLog]:
    async with opened(server_url, tmp_path) as log:
        yield log


def messages(chat: str, words: str, count: int) -> list[Event]:
    return [
        MessageReceived(conversation=chat, text=f"{words} {n}", sender=USER) for n in range(count)
    ]


@asynccontextmanager
async def service(log: EventLog) -> AsyncIterator[None]:
    """Have a projector and an archiver of short segments run."""
    stop = asyncio.Event()
    archiver = Archiver(log, storage_of(log), rolling=Rolling(rows=20))
    running = [
        asyncio.create_task(Projector(log, past=ArchivedPast(storage_of(log))).run(stop)),
        asyncio.create_task(archiver.run(stop)),
    ]
    try:
        yield
        stop.set()
        await asyncio.gather(*running)
    finally:
        await end(*running)
        await archiver.close()


class Held:
    """A handler that keeps the first messages of a chat in its hands until it is let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.count: Counter[str] = Counter()

    async def __call__(self, event: Any, context: Context) -> None:
        if event.conversation == CHAT and not self.go.is_set():
            await self.go.wait()
        self.count[f"{context.partition}/{context.id}"] += 1


async def test_with_all_at_work_nothing_is_lost_doubled_or_left(log):
    handler, tailed = Held(), list[str]()
    handlers = Handlers(timeout_s=60)
    handlers.on(MessageReceived)(handler)
    worker = Worker(log, "w", handlers)
    tail = await log.tail("start")

    async def follow() -> None:
        async for entry in tail:
            tailed.append(f"{entry.partition}/{entry.id}")

    async def write() -> None:
        for n in range(100_000):
            await log.append(MessageReceived(conversation=NEIGHBOUR, text=f"badger {n}"))

    await log.append([*life_of(CHAT, USER, SECRET), *messages(CHAT, SECRET, 40)])
    await log.append(messages(NEIGHBOUR, "badger", 10))
    async with service(log), at_work(worker):
        beside = [asyncio.create_task(follow()), asyncio.create_task(write())]
        await eventually(lambda: len(handler.count) > 10)
        report = await erase(log, chat=CHAT)
        assert report.in_hand_count >= 1
        assert report.is_complete
        handler.go.set()
        beside[1].cancel()
        await asyncio.gather(beside[1], return_exceptions=True)
        await all_handled(worker)
        heads = await log.heads()
        await eventually(lambda: len(tailed) == sum(head.n for head in heads))
        await end(*beside)
    await is_nowhere(log)
    assert set(handler.count.values()) == {1}
    found = [item for partition in (await places(log)).values() for item in partition]
    assert len(handler.count) == sum(kind == "message.received" for _, kind in found)
    assert sorted(tailed) == sorted(set(tailed))
    for projection in DEFAULT_PROJECTIONS:
        async for each in verify(log, projection, past=ArchivedPast(storage_of(log))):
            assert each.difference is None


async def test_a_warehouse_that_is_open_forgets_its_tail_and_the_files_it_read(log):
    await log.append(messages(CHAT, SECRET, 30))
    await archive(log)
    await log.append(messages(CHAT, SECRET, 3))
    async with Warehouse.open(log) as warehouse:
        sql = "SELECT count(*), count(*) FILTER (text LIKE '%wolverine%') FROM messages"
        assert await rows(warehouse, sql) == [(33, 33)]
        await erase(log, chat=CHAT)
        assert await rows(warehouse, sql) == [(33, 0)]
        marked = "SELECT DISTINCT is_erased, text, sender FROM messages"
        assert await rows(warehouse, marked) == [(True, "", None)]


async def test_a_segment_being_copied_is_not_published_with_what_was_erased(log):
    await log.append(messages(CHAT, SECRET, 30))
    copied, go = threading.Event(), threading.Event()

    def wait(step: str) -> None:
        if step == "written":
            copied.set()
            assert go.wait(20)

    def archive_slowly() -> None:
        async def work() -> None:
            async with (
                EventLog.open(settings=log.settings) as other,
                Archiver(other, storage_of(other), reached=wait) as archiver,
            ):
                await archiver.run_once()

        asyncio.run(work())

    archiving = asyncio.create_task(asyncio.to_thread(archive_slowly))
    try:
        await eventually(copied.is_set)
        assert any(name.endswith(".tmp") for name in in_files(log.settings.data_path))
        await erase(log, chat=CHAT)
    finally:
        go.set()
        await archiving
    await is_nowhere(log)
    assert len(storage_of(log).segments()) >= 1


async def test_errors_that_quote_a_message_go_and_the_retry_goes_on(log):
    attempts: list[tuple[int, bool]] = []
    is_failing = True

    async def fail(event: Any, context: Context) -> None:
        attempts.append((context.attempt, event.is_erased))
        if is_failing:
            raise RuntimeError(f"cannot digest {event.text}")

    handlers = Handlers(timeout_s=5, retry=Retry(attempts=50, first_delay_s=0.2, jitter=0))
    handlers.on(MessageReceived)(fail)
    worker = Worker(log, "w", handlers)
    await log.append(messages(CHAT, SECRET, 1))
    async with killed_at_the_end(worker):
        await eventually(lambda: len(attempts) >= 2)
    assert any(":attempts:" in key for key in await on_server(log.client))
    report = await erase(log, chat=CHAT)
    assert report.record_count == 1
    assert await on_server(log.client) == []
    before, is_failing = len(attempts), False
    await log.client.hset(log.keys.lease(log.partition_of(CHAT), "w"), "expires_ms", "0")
    async with at_work(Worker(log, "w", handlers)):
        await eventually(lambda: len(attempts) > before)
    assert attempts[-1][0] > attempts[before - 1][0] - 1
    assert attempts[-1][1]


async def test_what_a_handler_in_flight_writes_of_it_is_found_by_the_next_call(log):
    begun, go = asyncio.Event(), asyncio.Event()

    async def give_up(event: Any, _context: Context) -> None:
        begun.set()
        await go.wait()
        raise RuntimeError(f"cannot digest {event.text}")

    handlers = Handlers(timeout_s=60, retry=Retry(attempts=1))
    handlers.on(MessageReceived)(give_up)
    worker = Worker(log, "w", handlers)
    group = "telegram:-100"  # by the sender alone, without a session
    await log.append(messages(group, SECRET, 1))
    async with at_work(worker):
        await begun.wait()
        report = await erase(log, user=USER)
        assert report.in_hand_count == 1
        go.set()
        await all_handled(worker)
    assert await in_sql(log) > 0  # the letter quotes it
    report = await erase_again(log)
    assert (report.event_count, report.in_hand_count) == (1, 0)
    await is_nowhere(log)


async def test_an_erased_message_is_not_delivered(log):
    sent: list[str] = []

    class Sender:
        async def send(self, message: MessageQueued, _delivery: Any) -> Any:
            sent.append(message.text)
            raise AssertionError("sent")

        async def close(self) -> None:
            return None

    await log.append(MessageQueued(conversation=CHAT, text=SECRET, recipient=USER))
    await erase(log, chat=CHAT)
    worker = Worker(log, "delivery", DeliveryHandlers({"telegram": Sender()}))
    async with at_work(worker):
        await all_handled(worker)
    assert sent == []
    await is_nowhere(log)


class SlowToReplace(DirectoryStorage):
    """An archive whose files are replaced only when the test says so."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked, self.go = threading.Event(), threading.Event()

    def replace(self, staged: Path, segment: Segment) -> None:
        self.asked.set()
        assert self.go.wait(20)
        super().replace(staged, segment)


async def test_two_who_erase_at_once_do_not_bring_back_each_other_s(log):
    other = "telegram:49"
    assert log.partition_of(CHAT) == log.partition_of(other)
    await log.append([*life_of(CHAT, USER, SECRET), *life_of(other, "8", SECRET)])
    await archive(log)
    storage = SlowToReplace(log.settings.archive_path)
    first = asyncio.create_task(erase(log, chat=CHAT, storage=storage))
    await eventually(
        storage.asked.is_set
    )  # it has read the segment, and what it wrote is not in its place
    second = asyncio.create_task(erase(log, user="8"))
    await asyncio.wait({second}, timeout=0.7)  # it would be done by then
    storage.go.set()
    reports = await asyncio.gather(first, second)
    assert all(report.is_complete for report in reports)
    await is_nowhere(log)
    await places(log)
