"""Seeded events that resemble a busy bridge: Zipf chats, sessions with tools, failed deliveries."""

from __future__ import annotations

import random
from itertools import accumulate
from typing import Any

from eventlog import (
    DeliveryFailed,
    Event,
    EventLog,
    MessageReceived,
    MessageSent,
    SessionStarted,
    SessionTransitioned,
    ToolCalled,
    ToolReturned,
)

CHAT_COUNT = 2000
CHUNK_EVENTS = 20_000
START_US = 1_735_689_600_000_000
WORDS = [
    "ok",
    "thanks",
    "for",
    "the",
    "log",
    "can",
    "you",
    "try",
    "again",
    "with",
    "that",
    "flag",
    "I",
    "see",
    "it",
    "now",
    "what",
    "does",
    "it",
    "say",
    "when",
    "you",
    "run",
    "this",
    "on",
    "the",
    "other",
    "machine",
    "because",
    "mine",
    "works",
    "since",
    "yesterday's",
    "update",
]


def chat_events(count: int, seed: int = 7) -> list[Event]:
    """Return `count` events: about 80 % messages, the rest sessions, tool calls and failures."""
    rnd = random.Random(seed)
    chats = [f"telegram:{100_000 + n}" for n in range(CHAT_COUNT)]
    weights = list(accumulate((n + 3.7) ** -1.1 for n in range(CHAT_COUNT)))
    events: list[Event] = []
    now_us = START_US
    while len(events) < count:
        now_us += rnd.randrange(2_000_000)
        chat = rnd.choices(chats, cum_weights=weights)[0]
        events.append(
            MessageReceived(
                conversation=chat,
                id=f"{chat}:{len(events)}",
                occurred_at=now_us,
                sender=f"u{rnd.randrange(50):03d}",
                text=_text(rnd),
            )
        )
        if rnd.random() < 0.012:
            events += _session(rnd, chat, now_us, len(events))
    return events[:count]


async def fill(log: EventLog, count: int) -> None:
    """Append `chat_events(count)`."""
    producer = await log.producer("bench")
    events = chat_events(count)
    for start in range(0, count, CHUNK_EVENTS):
        chunk = events[start : start + CHUNK_EVENTS]
        await producer.append([(start + i + 1, event) for i, event in enumerate(chunk)])


def _session(rnd: random.Random, chat: str, now_us: int, number: int) -> list[Event]:
    session = f"s-{number}"
    base: dict[str, Any] = {"conversation": chat, "session": session}
    made: list[Event] = [
        SessionStarted(**base, id=f"{session}:0", occurred_at=now_us, platform="telegram")
    ]
    for turn in range(rnd.randint(3, 9)):
        now_us += 1_000_000
        call, marker = f"{session}-{turn}", f"{session}:{turn}"
        made.append(
            ToolCalled(**base, id=f"{marker}:c", occurred_at=now_us, call=call, name="find")
        )
        made.append(
            ToolReturned(**base, id=f"{marker}:r", occurred_at=now_us, call=call, result=_text(rnd))
        )
        made.append(MessageSent(**base, id=f"{marker}:s", occurred_at=now_us, text=_text(rnd)))
    if rnd.random() < 0.3:
        made.append(
            DeliveryFailed(**base, id=f"{session}:f", occurred_at=now_us, reason="mailboxfull")
        )
    made.append(
        SessionTransitioned(**base, id=f"{session}:e", occurred_at=now_us, to_status="completed")
    )
    return made


def _text(rnd: random.Random) -> str:
    return " ".join(rnd.choices(WORDS, k=rnd.randint(4, 24)))
