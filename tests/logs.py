"""Events to append, and what a log must look like afterwards."""

from __future__ import annotations

import itertools
from typing import Any

from eventlog import (
    START,
    Event,
    EventLog,
    MessageReceived,
    SessionTouched,
)


def message(conversation: str, text: object = "", **fields: Any) -> MessageReceived:
    return MessageReceived(conversation=conversation, text=str(text), **fields)


def messages(conversation: str, count: int) -> list[Event]:
    return [message(conversation, n) for n in range(count)]


def touched(session: str, **fields: Any) -> SessionTouched:
    return SessionTouched(conversation="c", session=session, **fields)


def conversation_in(log: EventLog, partition: int, number: int = 0) -> str:
    """Return the number-th conversation of a partition."""
    names = (f"chat:{n}" for n in itertools.count())
    fitting = (name for name in names if log.partition_of(name) == partition)
    return next(itertools.islice(fitting, number, None))


async def all_texts(log: EventLog, conversation: str) -> list[str]:
    entries = await log.read(conversation=conversation, limit=100_000)
    return [entry.event.text for entry in entries if isinstance(entry.event, MessageReceived)]


async def assert_gapless(log: EventLog) -> int:
    """Check sequences 1, 2, … in every partition, and heads; return how many entries there are."""
    total = 0
    for partition, head in enumerate(await log.heads()):
        entries = await log.read_raw(partition, START, 1_000_000)
        assert [entry.id.n for entry in entries] == list(range(1, len(entries) + 1))
        assert [e.id for e in entries] == sorted(e.id for e in entries)
        assert head == (entries[-1].id if entries else START)
        total += len(entries)
    return total
