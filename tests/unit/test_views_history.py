from __future__ import annotations

import pytest

from eventlog.errors import InvalidCursor
from eventlog.log import EventLog
from eventlog.settings import Settings
from eventlog.vocabulary import MessageQueued, MessageReceived, MessageSent
from projections.memory_models import MemoryModels
from projections.views.history import HISTORY, History

TEXTS = [f"text {n}" for n in range(10)]


async def filled(log: EventLog) -> History:
    for n, text in enumerate(TEXTS):
        message = MessageSent if n % 3 == 2 else MessageReceived
        await log.append(message(conversation="chat", text=text, occurred_at=100 - n))
        await log.append(MessageReceived(conversation="other", text="noise"))
        await log.append(MessageQueued(conversation="chat", text="not said yet"))
    return History(log, MemoryModels(log))


async def test_what_was_said_is_told_in_the_order_it_was_appended() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        history = await filled(log)
        page = await history.last("chat")
        assert [entry.event.text for entry in page.entries] == TEXTS  # type: ignore[attr-defined]
        assert (page.cursor, page.earlier_count) == (None, 0)
        assert await history.count("chat") == 10


async def test_pages_run_back_without_gap_or_repeat_while_messages_arrive() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        history = await filled(log)
        first = await history.last("chat", 4)
        await log.append(MessageReceived(conversation="chat", text="new"))
        second = await history.last("chat", 4, cursor=first.cursor)
        third = await history.last("chat", 4, cursor=second.cursor)
        entries = [*third.entries, *second.entries, *first.entries]
        assert [entry.event.text for entry in entries] == TEXTS  # type: ignore[attr-defined]
        assert (first.earlier_count, second.earlier_count, third.cursor) == (6, 2, None)
        assert await history.count("chat") == 11


async def test_a_silent_chat_has_an_empty_history() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        history = await filled(log)
        assert await history.last("nobody") == ([], None, 0)
        assert await history.count("nobody") == 0


async def test_a_cursor_of_another_list_is_refused() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        with pytest.raises(InvalidCursor):
            await History(log, MemoryModels(log)).last("chat", cursor="WzEsInMiLDJd")


def test_the_setting_says_how_much_stays_hot() -> None:
    assert HISTORY.limit(Settings(chat_history_limit=3)) == 3
