"""aiogram's storage and event isolation, kept in the log."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiogram.exceptions import DataNotDictLikeError
from aiogram.fsm.context import FSMContext
from aiogram.fsm.state import State, StatesGroup
from aiogram.fsm.storage.base import StorageKey

from bridge.adapters.aiogram import EventLogEventIsolation, EventLogStorage
from eventlog.errors import EventTooLarge, InvalidEvent
from eventlog.log import EventLog
from eventlog.named_lock import NamedLock
from tests.support import turns

KEY = StorageKey(bot_id=1, chat_id=-42, user_id=7)


class Order(StatesGroup):
    size = State()


async def test_states_and_data_survive_a_restart(log: EventLog, server_url: str) -> None:
    context = FSMContext(EventLogStorage(log), KEY)
    await context.set_state(Order.size)
    await context.set_data({"size": "🦜", "count": 10**30, "parts": [1.5, None]})
    async with EventLog.open(server_url, key_prefix=log.settings.key_prefix) as again:
        context = FSMContext(EventLogStorage(again), KEY)
        assert await context.get_state() == "Order:size"
        assert await context.get_data() == {"size": "🦜", "count": 10**30, "parts": [1.5, None]}
        assert await context.get_value("size") == "🦜"
        assert await context.get_value("colour", "red") == "red"
        assert await context.update_data(size="l") == {
            "size": "l", "count": 10**30, "parts": [1.5, None],
        }  # fmt: skip
        await context.clear()
        assert (await context.get_state(), await context.get_data()) == (None, {})


async def test_keys_that_differ_anywhere_keep_apart(any_log: EventLog) -> None:
    storage = EventLogStorage(any_log)
    keys = [
        KEY,
        StorageKey(bot_id=2, chat_id=-42, user_id=7),
        StorageKey(bot_id=1, chat_id=7, user_id=-42),
        StorageKey(bot_id=1, chat_id=-42, user_id=7, thread_id=0),
        StorageKey(bot_id=1, chat_id=-42, user_id=7, thread_id=5),
        StorageKey(bot_id=1, chat_id=-42, user_id=7, business_connection_id='5,"'),
        StorageKey(bot_id=1, chat_id=-42, user_id=7, destiny="scene:a"),
    ]
    for n, key in enumerate(keys):
        await storage.set_state(key, f"state {n}")
        await storage.set_data(key, {"n": n})
    for n, key in enumerate(keys):
        assert await storage.get_state(key) == f"state {n}"
        assert await storage.get_data(key) == {"n": n}


async def test_one_conversation_for_several_bots_still_keeps_them_apart(any_log: EventLog) -> None:
    storage = EventLogStorage(any_log, conversation=lambda key: f"telegram:{key.chat_id}")
    other = StorageKey(bot_id=2, chat_id=-42, user_id=7)
    await storage.set_state(KEY, "one")
    await storage.set_state(other, "two")
    assert (await storage.get_state(KEY), await storage.get_state(other)) == ("one", "two")
    assert len(await any_log.read(conversation="telegram:-42")) == 2


async def test_updates_at_once_all_stay(log: EventLog) -> None:
    storages = [EventLogStorage(log) for _ in range(3)]
    returned = await asyncio.gather(
        *(storages[n % 3].update_data(KEY, {f"k{n}": n}) for n in range(40))
    )
    assert await storages[0].get_data(KEY) == {f"k{n}": n for n in range(40)}
    for n, seen in enumerate(returned):
        assert seen[f"k{n}"] == n, "whoever updates sees its own"


async def test_what_is_returned_is_the_caller_s_own(any_log: EventLog) -> None:
    storage = EventLogStorage(any_log)
    given: dict[str, Any] = {"list": [1]}
    await storage.set_data(KEY, given)
    given["list"].append(2)
    (await storage.get_data(KEY))["list"].append(3)
    assert await storage.get_data(KEY) == {"list": [1]}


@pytest.mark.parametrize("data", [{"a": b"bytes"}, {"a": {1: 2}}, {"a": float("nan")}])
async def test_garbage_is_refused_and_nothing_changes(any_log: EventLog, data: Any) -> None:
    storage = EventLogStorage(any_log)
    await storage.set_data(KEY, {"a": "good"})
    for call in (storage.set_data, storage.update_data):
        with pytest.raises(InvalidEvent, match="value 'a' does not fit into JSON"):
            await call(KEY, {"b": 1, **data})
        with pytest.raises(EventTooLarge):
            await call(KEY, {"a": "x" * 1_100_000})
        with pytest.raises(DataNotDictLikeError):
            await call(KEY, [1])  # type: ignore[arg-type]
    assert await storage.get_data(KEY) == {"a": "good"}


async def test_two_hundred_thousand_characters_are_kept(any_log: EventLog) -> None:
    storage = EventLogStorage(any_log)
    await storage.set_data(KEY, {"draft": "é" * 200_000})
    assert await storage.get_value(KEY, "draft") == "é" * 200_000


async def test_updates_of_one_user_are_handled_one_by_one(any_log: EventLog) -> None:
    isolation, order = EventLogEventIsolation(any_log), list[str]()

    async def handle(number: int) -> None:
        async with isolation.lock(KEY):
            order.append(f"begin {number}")
            await turns(3)
            order.append(f"end {number}")

    await asyncio.gather(*(handle(n) for n in range(5)))
    assert order == [f"{what} {n}" for n in range(5) for what in ("begin", "end")]


async def test_other_users_are_not_waited_for(any_log: EventLog) -> None:
    isolation = EventLogEventIsolation(any_log)
    other = StorageKey(bot_id=1, chat_id=-42, user_id=8)
    async with asyncio.timeout(5), isolation.lock(KEY), isolation.lock(other):
        await isolation.close()


async def test_the_lock_is_one_over_all_logs_of_a_server(log: EventLog, server_url: str) -> None:
    async with EventLog.open(server_url, key_prefix=log.settings.key_prefix) as elsewhere:
        entered = asyncio.Event()

        async def handle() -> None:
            async with EventLogEventIsolation(elsewhere).lock(KEY):
                entered.set()

        async with EventLogEventIsolation(log).lock(KEY):
            handling = asyncio.create_task(handle())
            assert not await NamedLock(elsewhere, "aiogram:1:-42", _lock_name())._take()
            assert not entered.is_set()
        await handling
        assert entered.is_set()


def _lock_name() -> str:
    return 'aiogram:["lock",7,null,null,"default",1,-42]'
