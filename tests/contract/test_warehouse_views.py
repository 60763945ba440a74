"""The views of the warehouse: folded in SQL as the code folds them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from analytics import Archiver, DirectoryStorage, Warehouse
from eventlog import (
    BridgeEvent,
    DeadLetterDiscarded,
    DeadLetterParked,
    DeadLetterReplayed,
    DeadLetterReplayRequested,
    DeadLetterResolved,
    DeliveryFailed,
    Event,
    EventLog,
    FailedAttempt,
    MessageQueued,
    MessageReceived,
    MessageSent,
    SessionStarted,
    SessionTouched,
    SessionTransitioned,
    ToolCalled,
    ToolReturned,
)
from eventlog.session import TERMINAL, SessionStatus, next_status
from projections.views.dead_letters import DeadLetter, DeadLetters
from tests.projecting import random_events
from tests.querying import rows


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def random_sessions(seed: int) -> list[Event]:
    rnd = random.Random(seed)
    statuses: list[SessionStatus] = ["pending", "active", "dormant", "completed", "failed"]
    made: list[Event] = []
    for number in range(60):
        base: dict[str, Any] = {"conversation": f"chat:{number}", "session": f"s{number}"}
        for _ in range(rnd.randint(1, 7)):
            base["occurred_at"] = rnd.randrange(1, 10**12)  # clocks jump: order is the log's
            choices: list[Event] = [
                SessionStarted(**base, status=rnd.choice(statuses), project="p"),
                SessionTransitioned(**base, to_status=rnd.choice(statuses)),
                SessionTransitioned(**base, to_status=rnd.choice(statuses)),
                SessionTouched(**base),
                ToolCalled(**base, call="k", name="n"),
                ToolReturned(**base, call="k", is_error=rnd.random() < 0.5),
                MessageSent(**base, text="t"),
            ]
            made.append(rnd.choice(choices))
    return made


def folded(events: list[Event]) -> dict[str, tuple[Any, ...]]:
    """Sessions as eventlog/session.py folds them."""
    status: dict[str, SessionStatus] = {}
    counts: Counter[tuple[str, str]] = Counter()
    ended: dict[str, int] = {}
    active: dict[str, int] = {}
    for event in events:
        session = event.session
        assert session is not None
        if isinstance(event, SessionStarted):
            status[session] = next_status(status.get(session), event.status)
        elif isinstance(event, SessionTransitioned):
            status[session] = next_status(status.get(session), event.to_status)
        elif isinstance(event, SessionTouched):
            status.setdefault(session, "active")
        if status.get(session) in TERMINAL:
            ended.setdefault(session, event.occurred_at)
        asleep = isinstance(event, SessionTransitioned) and event.to_status == "dormant"
        active.setdefault(session, event.occurred_at)
        if not asleep:
            active[session] = max(active[session], event.occurred_at)
        counts[session, event.type] += 1
        counts[session, "errors"] += isinstance(event, ToolReturned) and event.is_error
    return {
        session: (
            value,
            counts[session, "tool.called"],
            counts[session, "errors"],
            counts[session, "message.sent"],
            ended.get(session),
            active[session],
        )
        for session, value in status.items()
    }


@pytest.mark.parametrize("seed", range(5))
async def test_sessions_are_folded_as_the_code_folds_them(
    log: EventLog, archive: Path, seed: int
) -> None:
    events = random_sessions(seed)
    await log.append(events[: len(events) // 2])
    archiver = Archiver(log, DirectoryStorage(archive))
    await archiver.run_once()
    await archiver.close()
    await log.append(events[len(events) // 2 :])
    async with Warehouse.open(log, archive) as warehouse:
        found = await rows(
            warehouse,
            "SELECT session, status, tool_call_count, tool_error_count, message_count, "
            "epoch_us(ended_at), epoch_us(last_activity_at) FROM sessions",
        )
    assert {row[0]: row[1:] for row in found} == folded(events)
    assert len(found) == len({event.session for event in events if event.VERSIONED})


async def test_a_session_says_when_it_ran_and_for_whom(log: EventLog, archive: Path) -> None:
    base: dict[str, Any] = {"conversation": "c", "session": "s"}
    await log.append(
        [
            SessionStarted(
                **base, occurred_at=1_000_000, project="web", user="ann", branch_name="b", text="go"
            ),
            SessionTouched(**base, occurred_at=2_500_000),
            SessionTransitioned(**base, occurred_at=4_000_000, to_status="failed"),
            SessionTouched(**base, occurred_at=9_000_000),
        ]
    )
    async with Warehouse.open(log, archive) as warehouse:
        assert await rows(
            warehouse,
            'SELECT project, "user", branch_name, text, mode, duration_s, epoch(started_at), '
            "epoch(last_activity_at), epoch(ended_at) FROM sessions",
        ) == [("web", "ann", "b", "go", "chat", 3.0, 1.0, 9.0, 4.0)]


async def test_messages_have_a_direction_and_queued_ones_are_not_yet_messages(
    log: EventLog, archive: Path
) -> None:
    await log.append(
        [
            MessageReceived(conversation="c", sender="ann", text="hi"),
            MessageQueued(conversation="c", id="q1", text="hello"),
            MessageSent(conversation="c", delivery="q1", text="hello"),
        ]
    )
    async with Warehouse.open(log, archive) as warehouse:
        assert await rows(
            warehouse, "SELECT direction, sender, text FROM messages ORDER BY sequence"
        ) == [("in", "ann", "hi"), ("out", None, "hello")]


async def test_deliveries_tell_how_each_outbound_message_fared(
    log: EventLog, archive: Path
) -> None:
    c: dict[str, Any] = {"conversation": "c"}
    await log.append(
        [
            *(MessageQueued(**c, id=name, text=name, recipient="r") for name in "abcde"),
            DeliveryFailed(**c, delivery="e", reason="busy"),
            DeadLetterParked(**c, letter="l", group="g", reason="busy", causation_id="e"),
            DeadLetterParked(**c, letter="m", group="g", reason="busy", causation_id="elsewhere"),
            DeliveryFailed(**c, delivery="a", reason="busy", attempt=1),
            MessageSent(**c, delivery="a", text="a", attempt=2),
            DeliveryFailed(**c, delivery="b", reason="busy"),
            DeliveryFailed(**c, delivery="c", reason="gone", permanent=True),
            MessageSent(**c, id="direct", text="no queue"),
            DeliveryFailed(**c, delivery="direct", reason="bounced", permanent=True),
            DeliveryFailed(**c, id="stray", reason="unknown", permanent=True),
        ]
    )
    async with Warehouse.open(log, archive) as warehouse:
        found = await rows(
            warehouse, "SELECT delivery, status, failure_count, reason FROM deliveries ORDER BY 1"
        )
    assert found == [
        ("a", "sent", 1, "busy"),
        ("b", "retrying", 1, "busy"),
        ("c", "failed", 1, "gone"),
        ("d", "queued", 0, None),
        ("direct", "failed", 1, "bounced"),
        ("e", "failed", 1, "busy"),
        ("stray", "failed", 1, "unknown"),
    ]


async def test_dead_letters_have_their_latest_status_and_the_first_closing_is_final(
    log: EventLog, archive: Path
) -> None:
    c: dict[str, Any] = {"conversation": "c", "group": "g"}
    await log.append(
        [
            *(DeadLetterParked(**c, letter=n, reason="boom", attempts=3, text=n) for n in "abc"),
            DeadLetterReplayed(**c, letter="a", attempt=4, error="still"),
            DeadLetterResolved(**c, letter="b"),
            DeadLetterDiscarded(**c, letter="b", reason="late"),
            DeadLetterReplayed(**c, letter="b", attempt=9),
            DeadLetterDiscarded(**c, letter="c", reason="spam"),
        ]
    )
    async with Warehouse.open(log, archive) as warehouse:
        found = await rows(
            warehouse,
            "SELECT letter, status, attempts, replay_count, reason, consumer_group, text "
            "FROM dead_letters ORDER BY letter",
        )
    assert found == [
        ("a", "parked", 4, 1, "boom", "g", "a"),
        ("b", "resolved", 3, 0, "boom", "g", "b"),
        ("c", "discarded", 3, 0, "boom", "g", "c"),
    ]


async def test_a_letter_is_replaying_until_it_is_parked_or_settled(
    log: EventLog, archive: Path
) -> None:
    c: dict[str, Any] = {"conversation": "c", "group": "g"}
    tried = [FailedAttempt(1, 1000, "gone", "404"), FailedAttempt(2, 2000, "still gone")]
    await log.append(
        [
            *(DeadLetterParked(**c, letter=n, reason="boom", attempts=2, text=n) for n in "abcd"),
            *(DeadLetterReplayRequested(**c, letter=n, version=2) for n in "abcd"),
            DeadLetterParked(**c, letter="b", reason="bang", attempts=5, failures=tried),
            DeadLetterResolved(**c, letter="c"),
            DeadLetterReplayRequested(**c, letter="c", version=4),
            DeadLetterReplayed(**c, letter="d", attempt=3, error="no"),
            DeadLetterReplayed(**c, letter="d", attempt=4),
        ]
    )
    async with Warehouse.open(log, archive) as warehouse:
        found = await rows(
            warehouse,
            "SELECT letter, status, attempts, replay_count, reason, text, error, "
            "failures ->> '$[1].error', json_array_length(failures) "
            "FROM dead_letters ORDER BY letter",
        )
    assert found == [
        ("a", "replaying", 2, 1, "boom", "a", None, None, None),
        ("b", "parked", 5, 1, "bang", "b", None, "still gone", 2),
        ("c", "resolved", 2, 1, "boom", "c", None, None, None),
        ("d", "parked", 4, 2, "boom", "d", "no", None, None),
    ]


@pytest.mark.parametrize("seed", range(3))
async def test_dead_letters_are_folded_as_the_code_folds_them(
    log: EventLog, archive: Path, seed: int
) -> None:
    events = [e for e in random_events(random.Random(seed), 800) if e.type.startswith("dead_")]
    await log.append(events)
    views = {each.letter: each async for each in _all_letters(log)}
    async with Warehouse.open(log, archive) as warehouse:
        found = await rows(
            warehouse,
            "SELECT letter, conversation, status, attempts, replay_count, coalesce(reason, ''), "
            "error, epoch_us(parked_at), epoch_us(settled_at) FROM dead_letters",
        )
    assert {row[0]: row[1:] for row in found} == {
        name: (
            each.conversation,
            each.status,
            each.attempts,
            each.replay_count,
            each.reason,
            each.error,
            each.parked_at,
            each.settled_at,
        )
        for name, each in views.items()
    }


async def _all_letters(log: EventLog) -> AsyncIterator[DeadLetter]:
    page = await DeadLetters(log).list(limit=1000)
    for letter in page.items:
        yield letter


async def test_tool_calls_pair_the_nth_answer_with_the_nth_call(
    log: EventLog, archive: Path
) -> None:
    base: dict[str, Any] = {"conversation": "c", "session": "s"}
    await log.append(
        [
            ToolCalled(**base, call="1", name="read", arguments="{}", occurred_at=1_000_000),
            ToolReturned(**base, call="1", result="one", occurred_at=1_250_000),
            ToolCalled(**base, call="1", name="read", occurred_at=2_000_000),
            ToolReturned(**base, call="1", result="two", is_error=True, duration_ms=7),
            ToolCalled(**base, call="2", name="write"),
            ToolReturned(**base, call="3", name="lost"),
        ]
    )
    async with Warehouse.open(log, archive) as warehouse:
        found = await rows(
            warehouse,
            "SELECT call, name, status, result, duration_ms, called_at IS NULL FROM tool_calls "
            "ORDER BY sequence",
        )
    assert found == [
        ("1", "read", "ok", "one", 250, False),
        ("1", "read", "error", "two", 7, False),
        ("2", "write", "pending", None, None, False),
        ("3", "lost", "ok", None, None, True),
    ]


async def test_bridge_events_can_be_asked_for_their_data(log: EventLog, archive: Path) -> None:
    await log.append(BridgeEvent(conversation="c", event_type="error", data={"code": 5}))
    async with Warehouse.open(log, archive) as warehouse:
        assert await rows(warehouse, "SELECT event_type, data ->> '$.code' FROM bridge_events") == [
            ("error", "5")
        ]
