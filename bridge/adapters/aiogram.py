"""aiogram's states, data and event isolation, kept in the log. Needs `eventlog[aiogram]`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from bridge.adapters.missing_extra import missing_extra
from bridge.values import ValueStore
from eventlog.json_text import to_json_text
from eventlog.log import EventLog
from eventlog.named_lock import NamedLock

try:
    from aiogram.exceptions import DataNotDictLikeError
    from aiogram.fsm.state import State
    from aiogram.fsm.storage.base import BaseEventIsolation, BaseStorage, StateType, StorageKey
except ImportError as error:
    raise missing_extra("aiogram", error) from None

Conversation = Callable[[StorageKey], str]
"""Says which conversation a key belongs to."""


def conversation_of_chat(key: StorageKey) -> str:
    """Return the conversation of a bot's chat: `aiogram:BOT:CHAT`."""
    return f"aiogram:{key.bot_id}:{key.chat_id}"


class EventLogStorage(BaseStorage):
    """A storage for `Dispatcher(storage=EventLogStorage(log))`.

    `conversation` says where a key's state lies; with the chat's own it lies beside the chat's
    messages: `lambda key: f"telegram:{key.chat_id}"`. Data is JSON: a tuple comes back as a list,
    and what JSON has no place for raises InvalidEvent.
    """

    def __init__(self, log: EventLog, *, conversation: Conversation = conversation_of_chat) -> None:
        self._values = ValueStore(log)
        self._conversation = conversation

    async def set_state(self, key: StorageKey, state: StateType = None) -> None:
        """Keep the state; None forgets it."""
        text = state.state if isinstance(state, State) else state
        values = {} if text is None else {"state": text}
        await self._values.replace(*self._place(key, "state"), values, user=str(key.user_id))

    async def get_state(self, key: StorageKey) -> str | None:
        """Return the state, or None."""
        state: str | None = (await self._values.get(*self._place(key, "state"))).get("state")
        return state

    async def set_data(self, key: StorageKey, data: Mapping[str, Any]) -> None:
        """Keep this data and no other. Raises DataNotDictLikeError, InvalidEvent."""
        place = self._place(key, "data")
        await self._values.replace(*place, _checked(data), user=str(key.user_id))

    async def get_data(self, key: StorageKey) -> dict[str, Any]:
        """Return the data, empty where there is none."""
        return await self._values.get(*self._place(key, "data"))

    async def update_data(self, key: StorageKey, data: Mapping[str, Any]) -> dict[str, Any]:
        """Keep this data beside what there is and return all; what others keep at once stays too."""
        place = self._place(key, "data")
        return await self._values.update(*place, _checked(data), user=str(key.user_id))

    async def close(self) -> None:
        """Do nothing: the log belongs to whoever opened it."""

    def _place(self, key: StorageKey, part: str) -> tuple[str, str]:
        return self._conversation(key), _name(key, part)


class EventLogEventIsolation(BaseEventIsolation):
    """One update of a user and chat at a time, over all processes of the bot.

    For `Dispatcher(events_isolation=EventLogEventIsolation(log))`. The lock of a process that dies
    lapses after `lease_ttl_ms`.
    """

    def __init__(self, log: EventLog, *, conversation: Conversation = conversation_of_chat) -> None:
        self._log = log
        self._conversation = conversation

    @asynccontextmanager
    async def lock(self, key: StorageKey) -> AsyncGenerator[None, None]:
        """Wait until nobody else handles an update of this key."""
        name = _name(key, "lock")
        async with NamedLock(self._log, self._conversation(key), name).hold():
            yield

    async def close(self) -> None:
        """Do nothing: the log belongs to whoever opened it."""


def _name(key: StorageKey, part: str) -> str:
    """Return the name of a part of a key: no other pair has it, whatever its ids hold."""
    parts = part, key.user_id, key.thread_id, key.business_connection_id, key.destiny
    return f"aiogram:{to_json_text([*parts, key.bot_id, key.chat_id])}"


def _checked(data: object) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise DataNotDictLikeError(f"data must be like a dict, not {type(data).__name__}")
    return data
