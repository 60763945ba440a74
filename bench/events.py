"""Seeded events that resemble a busy bridge: Zipf chats, sessions with tools, failed deliveries."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import accumulate, count, islice
from typing import Any

from eventlog import (
    ConversationMapped,
    DeadLetterParked,
    DeadLetterResolved,
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
SESSION_SHARE = 0.012
"""Messages that start a session, of all."""
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


def chat_events(event_count: int, seed: int = 7) -> list[Event]:
    """Return `event_count` events: about 80 % messages, the rest sessions, tool calls, failures."""
    return list(islice(endless_chat_events(seed), event_count))


def endless_chat_events(
    seed: int = 7, chat_count: int = CHAT_COUNT, session_share: float = SESSION_SHARE
) -> Iterator[Event]:
    """Yield events of `chat_count` chats; every so many messages, one starts a session."""
    rnd = random.Random(seed)
    chats = [f"telegram:{100_000 + n}" for n in range(chat_count)]
    weights = list(accumulate((n + 3.7) ** -1.1 for n in range(chat_count)))
    number, now_us = 0, START_US
    while True:
        now_us += rnd.randrange(2_000_000)
        chat = rnd.choices(chats, cum_weights=weights)[0]
        yield MessageReceived(
            conversation=chat,
            id=f"{chat}:{number}",
            occurred_at=now_us,
            sender=f"u{rnd.randrange(50):03d}",
            text=_text(rnd),
        )
        number += 1
        if rnd.random() < session_share:
            made = _session(rnd, chat, now_us, number)
            yield from made
            number += len(made)


def endless_bridge_events(seed: int, chat_count: int) -> Iterator[Event]:
    """Yield the same with what every read model wants: mappings, open sessions, dead letters.

    A session and a dead letter in 80 events; a fifth of the sessions stay open, a third of the
    letters are resolved.
    """
    sessions = count(1)
    for event in endless_chat_events(seed, chat_count, session_share=1 / 57):
        base: dict[str, Any] = {
            "conversation": event.conversation,
            "occurred_at": event.occurred_at,
        }
        if isinstance(event, SessionTransitioned):
            number = next(sessions)
            letter: dict[str, Any] = {"letter": f"letter-{number}", "group": "delivery"}
            yield DeadLetterParked(**base, **letter, reason=f"reason-{number % 7}", attempts=5)
            if number % 3 == 0:
                yield DeadLetterResolved(**base, **letter)
            if number % 5 == 0:
                continue
        yield event
        if isinstance(event, SessionStarted):
            yield ConversationMapped(**base, session=event.session)


async def fill(log: EventLog, event_count: int) -> None:
    """Append `chat_events(event_count)`."""
    producer = await log.producer("bench")
    events = chat_events(event_count)
    for start in range(0, event_count, CHUNK_EVENTS):
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
