"""Reports say what a loop over the events says, wherever the events are."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from analytics import Reports, Warehouse
from analytics.reports import question
from eventlog import Event, EventLog, MessageReceived, MessageSent, SessionTouched
from tests.compacting import archive, compact, put_on_days, storage_in, with_short_files

HOUR_US = 3_600_000_000


def talk(rnd: random.Random, count: int) -> list[Event]:
    """Messages in a few sessions and in none; now and then one whose producer's clock is wrong."""
    made: list[Event] = []
    now_us = 1_735_689_600_000_000
    for _ in range(count):
        now_us += rnd.randrange(HOUR_US)
        chat = rnd.randrange(4)
        base: dict[str, Any] = {
            "conversation": f"chat:{chat}",
            "session": rnd.choice([None, f"s{chat}", f"s{chat + 4}"]),
            "occurred_at": now_us - (rnd.randrange(5) == 0) * rnd.randrange(9 * HOUR_US),
        }
        kind = rnd.choice([MessageReceived, MessageReceived, MessageSent])
        made.append(kind(**base, text="x"))
        if base["session"] is not None and rnd.randrange(9) == 0:
            made.append(SessionTouched(**base))
    return made


def waited(events: Sequence[Event]) -> dict[str, tuple[int, float, float]]:
    """Return how many answers each session had, their median wait and the longest, in seconds."""
    asked: dict[str, int] = {}
    waits: defaultdict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.session is None:
            continue
        if isinstance(event, MessageReceived):
            asked.setdefault(event.session, event.occurred_at)
        elif isinstance(event, MessageSent) and event.session in asked:
            wait_us = event.occurred_at - asked.pop(event.session)
            if wait_us >= 0:
                waits[event.session].append(wait_us / 1e6)
    return {session: (len(all_), median(all_), max(all_)) for session, all_ in waits.items()}


def by_hour(events: Sequence[Event]) -> dict[str, tuple[int, int]]:
    """Return how many messages fell into each hour of the day, and of how many chats."""
    messages = [e for e in events if isinstance(e, MessageReceived | MessageSent)]
    hours = [f"{e.occurred_at // HOUR_US % 24:02}:00" for e in messages]
    chats = Counter(
        hour for hour, _ in {(h, e.conversation) for h, e in zip(hours, messages, strict=True)}
    )
    return {hour: (count, chats[hour]) for hour, count in Counter(hours).items()}


async def told(log: EventLog, folder: Path, name: str) -> list[dict[str, Any]]:
    async with Warehouse.open(log, folder) as warehouse:
        table = await warehouse.query(*question(Reports().get(name), {}, 0))
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows


async def check(log: EventLog, folder: Path, events: Sequence[Event]) -> None:
    latency = await told(log, folder, "response-latency")
    found = {r["session"]: (r["answers"], r["p50_s"], r["longest_s"]) for r in latency}
    expected = waited(events)
    assert found.keys() == expected.keys()
    assert all(found[session] == pytest.approx(expected[session], abs=0.001) for session in found)
    hours = await told(log, folder, "busiest-hours")
    assert {
        r["hour"]: (r["messages"], r["conversations"]) for r in hours if r["messages"]
    } == by_hour(events)


@pytest.mark.parametrize("seed", range(3))
async def test_they_say_what_a_loop_says_before_and_after_compaction(
    log: EventLog, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_short_files(monkeypatch)
    rnd = random.Random(seed)
    storage, events = storage_in(tmp_path), talk(rnd, 300)
    await put_on_days(log, events)
    await check(log, storage.root, events)
    await archive(log, storage)
    await check(log, storage.root, events)
    assert (await compact(log, storage)).written
    fresh = talk(rnd, 60)
    await log.append(fresh)
    await check(log, storage.root, events + fresh)
