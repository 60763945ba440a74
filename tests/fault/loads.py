"""Bots that append while servers fail, and what must hold of the log afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from eventlog.entry import Entry
from eventlog.errors import LogUnavailable
from eventlog.log import EventLog
from eventlog.settings import Durability
from eventlog.tasks import end
from eventlog.vocabulary import MessageReceived
from tests.support import eventually


class Load:
    """Appends one by one for each of several chats, again what was not acknowledged, until it is left."""

    def __init__(self, log: EventLog, durability: Durability, *, chat_count: int = 12) -> None:
        self._log = log
        self._durability: Durability = durability
        self._chat_count = chat_count
        self._tasks: list[asyncio.Task[None]] = []
        self.acknowledged: dict[str, int] = {}
        """Event id → partition."""
        self.refused_count = 0

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._chat(n)) for n in range(self._chat_count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            if task.done():
                task.result()  # a fault other than the server's absence
        await end(*self._tasks)

    def acknowledged_in(self, partitions: Sequence[int]) -> int:
        """Return how many events of these partitions are acknowledged."""
        return sum(partition in partitions for partition in self.acknowledged.values())

    async def more(self, count: int) -> None:
        """Return when so many more are acknowledged."""
        goal = len(self.acknowledged) + count
        await eventually(lambda: len(self.acknowledged) >= goal, timeout_s=30)

    async def _chat(self, number: int) -> None:
        count = 0
        while True:
            event = MessageReceived(id=f"{number}-{count}", conversation=f"chat:{number}", text="x")
            await self._until_acknowledged(event)
            count += 1

    async def _until_acknowledged(self, event: MessageReceived) -> None:
        while True:
            try:
                result = await self._log.append(event, durability=self._durability)
            except LogUnavailable:
                self.refused_count += 1
                await asyncio.sleep(0.02)
            else:
                self.acknowledged[event.id] = result.partition
                return


async def entries_of(log: EventLog) -> list[Entry]:
    """Return all that is in the log."""
    return [
        entry
        for partition in range(log.partition_count)
        for entry in await log.read(partition=partition, limit=1_000_000)
    ]


def lost(entries: Sequence[Entry], acknowledged: dict[str, Any]) -> list[str]:
    """Return which acknowledged events are not in the log."""
    return sorted(acknowledged.keys() - {entry.event.id for entry in entries})


def check_history(entries: Sequence[Entry]) -> None:
    """Check that nothing is there twice, sequences have no gap and each chat is in its order."""
    ids = [entry.event.id for entry in entries]
    assert len(ids) == len(set(ids))
    by_partition: dict[int, list[int]] = {}
    by_chat: dict[str, list[int]] = {}
    for entry in entries:
        by_partition.setdefault(entry.partition, []).append(entry.id.n)
        chat, number = entry.event.id.split("-")
        by_chat.setdefault(chat, []).append(int(number))
    for sequences in by_partition.values():
        assert sequences == list(range(1, len(sequences) + 1))
    for numbers in by_chat.values():
        assert numbers == sorted(numbers)
