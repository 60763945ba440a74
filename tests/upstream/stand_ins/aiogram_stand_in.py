"""A pytest plugin: aiogram's own tests find our storage and isolation where its own were.

Its conftest wants MongoDB's client, so it is left out and what its tests need of it is here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiogram.dispatcher.dispatcher as dispatcher_module
import pytest
from aiogram.fsm.storage import memory
from aiogram.fsm.storage.base import BaseEventIsolation, BaseStorage, StorageKey
from stand_in_log import new_prefix, open_log, passing_on

from bridge.adapters.aiogram import EventLogEventIsolation, EventLogStorage
from eventlog.log import EventLog


class Storage(BaseStorage):
    """Our storage, made as `MemoryStorage` is."""

    def __init__(self) -> None:
        self.prefix = new_prefix()

    def real(self, log: EventLog) -> EventLogStorage:
        return EventLogStorage(log)

    set_state = passing_on("set_state")
    get_state = passing_on("get_state")
    set_data = passing_on("set_data")
    get_data = passing_on("get_data")
    get_value = passing_on("get_value")
    update_data = passing_on("update_data")
    close = passing_on("close")


class Isolation(BaseEventIsolation):
    """Our isolation, made as `SimpleEventIsolation` is; its log is opened for the first lock."""

    def __init__(self) -> None:
        self.log = open_log(new_prefix())

    @asynccontextmanager
    async def lock(self, key: StorageKey) -> AsyncGenerator[None, None]:
        async with OPENING:
            if not self.log.partition_count:
                await self.log
        async with EventLogEventIsolation(self.log).lock(key):
            yield

    async def close(self) -> None:
        await self.log.close()


OPENING = asyncio.Lock()
memory.SimpleEventIsolation = Isolation  # type: ignore[misc, assignment]
memory.MemoryStorage = Storage  # type: ignore[misc, assignment]
dispatcher_module.MemoryStorage = Storage  # type: ignore[misc, assignment, attr-defined]


@pytest.fixture
def bot():
    from tests.mocked_bot import MockedBot  # upstream's

    return MockedBot()


@pytest.fixture
def storage_key(bot):
    return StorageKey(chat_id=-42, user_id=42, bot_id=bot.id)


@pytest.fixture
def storage():
    """Ours, whichever of upstream's was asked for."""
    return Storage()


@pytest.fixture
async def isolation():
    made = Isolation()
    yield made
    await made.close()
