from __future__ import annotations

from typing import Any

import pytest

from eventlog.errors import InvalidCursor, InvalidQuery
from eventlog.log import EventLog
from eventlog.settings import Settings
from eventlog.vocabulary import MessageReceived
from projections.storing.memory_models import MemoryModels
from projections.views.history import HISTORY, History
from tests.histories import TEXTS, said, ten_texts


async def filled(log: EventLog) -> History:
    await log.append(ten_texts())
    return History(log, MemoryModels(log))


async def test_what_was_said_is_told_in_the_order_it_was_appended() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        history = await filled(log)
        page = await history.last("chat")
        assert said(page) == TEXTS
        assert (page.older, page.cursor, page.earlier_count, page.later_count) == (None, None, 0, 0)
        assert await history.count("chat") == 10


async def test_pages_run_back_without_gap_or_repeat_while_messages_arrive() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        history = await filled(log)
        first = await history.last("chat", 4)
        await log.append(MessageReceived(conversation="chat", text="new"))
        second = await history.last("chat", 4, cursor=first.cursor)
        assert second.older
        third = await history.page(second.older, 4)
        assert said(third) + said(second) + said(first) == TEXTS
        assert (first.earlier_count, second.earlier_count, third.older) == (6, 2, None)
        assert (first.later_count, second.later_count, third.later_count) == (0, 5, 9)
        assert await history.count("chat") == 11


async def test_pages_run_on_from_the_first_and_wait_at_the_end_for_what_is_said_next() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        history = await filled(log)
        page = await history.first("chat", 4)
        assert (page.older, page.earlier_count, page.later_count) == (None, 0, 6)
        told = said(page)
        while page.cursor:
            page = await history.page(page.cursor, 4)
            told += said(page)
        assert (told, page.later_count) == (TEXTS, 0)
        page = await history.page(page.newer)
        assert (said(page), page.earlier_count) == ([], 10)
        await log.append(MessageReceived(conversation="chat", text="new"))
        page = await history.page(page.newer)
        assert said(page) == ["new"]
        assert page.older
        assert said(await history.page(page.older, 2)) == TEXTS[-2:]


async def test_a_silent_chat_has_an_empty_history_and_can_be_waited_on() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        history = await filled(log)
        for page in (await history.last("nobody"), await history.first("nobody")):
            assert (page.entries, page.older, page.earlier_count) == ([], None, 0)
        assert await history.count("nobody") == 0
        await log.append(MessageReceived(conversation="nobody", text="new"))
        assert said(await history.page(page.newer)) == ["new"]


@pytest.mark.parametrize("cursor", ["WzEsInMiLDJd", "!", "", "é", "A" * 5000])
async def test_a_cursor_of_another_list_is_refused(cursor: str) -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        history = History(log, MemoryModels(log))
        for call in (history.last, history.first):
            with pytest.raises(InvalidCursor):
                await call("chat", cursor=cursor)
        with pytest.raises(InvalidCursor):
            await history.page(cursor)


async def test_a_cursor_of_another_conversation_or_filter_is_refused() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        history = await filled(log)
        cursor = (await history.last("chat", 2, sender="u0")).older
        with pytest.raises(InvalidCursor):
            await history.last("other", cursor=cursor)
        with pytest.raises(InvalidCursor):
            await history.last("chat", cursor=cursor, sender="u1")
        same = [await history.last("chat", 2, cursor=cursor, sender="u0")]
        same.append(await history.last("chat", 2, cursor=cursor))  # it knows its filter
        assert [said(page) for page in same] == [["text 2", "text 4"]] * 2


async def test_what_no_page_can_be_is_refused() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        history = History(log, MemoryModels(log))
        wrong: list[dict[str, Any]] = [
            {"limit": 0},
            {"limit": 10_001},
            {"limit": 0, "sender": "u0"},
            {"message_type": "song"},
            {"event_type": "message.queued"},
        ]
        for arguments in wrong:
            with pytest.raises(InvalidQuery):
                await history.last("chat", **arguments)


def test_the_setting_says_how_much_stays_hot() -> None:
    assert HISTORY.limit(Settings(chat_history_limit=3)) == 3
