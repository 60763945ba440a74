"""Flat: what an event and a page cost in a large log, compared with a small one.

Both logs are on one server. Sessions and dead letters grow with the log, one each per 80 events, so
that nothing can hide behind a fixed number of them. Both have 10,000 chats: a batch of events from a
handful of chats changes a handful of documents, which is cheaper however long the log is, up to where
each event is of another chat. Small and large take turns in every round, and medians are compared. A
ratio of 1 is flat.

Writes: rounds are spread over the large log's last doubling. In each, the large log and a small one
made anew for the round take 20,000 events, half of them in either way of appending, and project
them. What costs much for a while each time something has doubled (a table of the server that grows,
that of event ids above all) is thus in the doubling once, as it is in the long run; appending by
id, which it concerns, is compared by the mean of the whole doubling.

Reads: after that, with the read models caught up. They ask for full pages, of things drawn anew
each time.

The server does not rewrite its append-only file meanwhile, which is the work of another process
and would fall on one of the logs by chance.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import islice
from statistics import fmean, median
from typing import Any, NamedTuple

from bench.events import endless_bridge_events
from bench.row import Row
from eventlog import Event, EventLog, MessageReceived, MessageSent, SessionStarted
from eventlog.collector import spared_collector
from projections import Activity, Conversations, DeadLetters, History, Projector, Sessions

SMALL_EVENTS = 10_000
CHUNK_EVENTS = 10_000
CHAT_COUNT = 10_000
PAGE_ITEMS = 50
WRITE_ROUNDS = 15
READ_ROUNDS = 25
CALLS = 20
"""Calls of one kind in a row; one alone is too short to be timed."""
HOUR_US = 3600 * 1_000_000
AIM = 1.2

Call = Callable[[], Awaitable[Any]]


class Bridge:
    """A log, the source of its events, and what was put into it so far."""

    def __init__(self, log: EventLog, seed: int) -> None:
        self.log = log
        self.sessions: list[SessionStarted] = []
        self.last_us = 0
        self._message_counts: Counter[str] = Counter()
        self._events = endless_bridge_events(seed, CHAT_COUNT)
        self._position = 0

    def take(self, count: int) -> list[Event]:
        """Return the next events."""
        events = list(islice(self._events, count))
        for event in events:
            if isinstance(event, MessageReceived | MessageSent):
                self._message_counts[event.conversation] += 1
            elif isinstance(event, SessionStarted):
                self.sessions.append(event)
        self.last_us = max(self.last_us, events[-1].occurred_at)
        return events

    def chats_with(self, message_count: int) -> list[str]:
        """Return the chats that have at least so many messages."""
        return [chat for chat, count in self._message_counts.items() if count >= message_count]

    def place(self, events: list[Event]) -> list[tuple[int, Event]]:
        """Return the events with a producer's positions."""
        first = self._position + 1
        self._position += len(events)
        return list(enumerate(events, first))

    async def grow(self, event_count: int) -> list[float]:
        """Append so many events, in whole chunks, by id, and project them.

        Return the seconds per event that appending each chunk took.
        """
        costs_s = []
        for _ in range(event_count // CHUNK_EVENTS):
            events = self.take(CHUNK_EVENTS)
            costs_s.append(await seconds(self.log.append(events), CHUNK_EVENTS))
        await self.project()
        return costs_s

    async def project(self) -> None:
        """Bring the read models up to date."""
        await Projector(self.log).run_until_caught_up()


class Costs(NamedTuple):
    """Seconds per piece of one kind of work, in either log."""

    small_s: list[float]
    large_s: list[float]

    def row(self, name: str, middle: Callable[[list[float]], float] = median) -> Row:
        """Return the rates and what one piece costs in the large log, in small ones."""
        rate_per_s, small_per_s = 1 / middle(self.large_s), 1 / middle(self.small_s)
        beside = f"the same in {SMALL_EVENTS:,} events"
        return Row(name, rate_per_s, beside, small_per_s, small_per_s / rate_per_s, AIM, True)


async def seconds(work: Awaitable[Any], count: int) -> float:
    """Await the work and return what one of its `count` pieces took."""
    started_s = time.perf_counter()
    await work
    return (time.perf_counter() - started_s) / count


async def settle(log: EventLog) -> None:
    """Return when the server does nothing in the background."""
    while True:
        about = await log.client.info("everything")
        if not (
            about["aof_rewrite_in_progress"]
            or about["aof_pending_bio_fsync"]
            or about["lazyfree_pending_objects"]
        ):
            return
        await asyncio.sleep(0.05)


# --- reads ---------------------------------------------------------------------------------------


async def history_last(bridge: Bridge, rnd: random.Random) -> Call:
    """Return a call for the last page of a chat."""
    chat, history = rnd.choice(bridge.chats_with(2 * PAGE_ITEMS)), History(bridge.log)
    return lambda: history.last(chat, PAGE_ITEMS)


async def history_next(bridge: Bridge, rnd: random.Random) -> Call:
    """Return a call for the page before the last of a chat."""
    chat, history = rnd.choice(bridge.chats_with(2 * PAGE_ITEMS)), History(bridge.log)
    page = await history.last(chat, PAGE_ITEMS)
    return lambda: history.last(chat, PAGE_ITEMS, cursor=page.cursor)


async def sessions_first(bridge: Bridge, _rnd: random.Random) -> Call:
    """Return a call for the first page of all sessions."""
    sessions = Sessions(bridge.log)
    return lambda: sessions.list(limit=PAGE_ITEMS)


async def sessions_by_status(bridge: Bridge, _rnd: random.Random) -> Call:
    """Return a call for the first page of the sessions that are over."""
    sessions = Sessions(bridge.log)
    return lambda: sessions.list(status="completed", limit=PAGE_ITEMS)


async def sessions_second(bridge: Bridge, _rnd: random.Random) -> Call:
    """Return a call for the second page of all sessions."""
    sessions = Sessions(bridge.log)
    page = await sessions.list(limit=PAGE_ITEMS)
    return lambda: sessions.list(limit=PAGE_ITEMS, cursor=page.cursor)


async def session_get(bridge: Bridge, rnd: random.Random) -> Call:
    """Return a call for a session whose conversation is not known."""
    sessions, session = Sessions(bridge.log), rnd.choice(bridge.sessions).session
    return lambda: sessions.get(session)


async def letters_parked(bridge: Bridge, _rnd: random.Random) -> Call:
    """Return a call for the first page of the parked dead letters."""
    letters = DeadLetters(bridge.log)
    return lambda: letters.list(status="parked", limit=PAGE_ITEMS)


async def conversation_get(bridge: Bridge, rnd: random.Random) -> Call:
    """Return a call for a conversation."""
    conversations = Conversations(bridge.log)
    conversation = rnd.choice(bridge.sessions).conversation
    return lambda: conversations.get(conversation)


async def activity_hour(bridge: Bridge, _rnd: random.Random) -> Call:
    """Return a call for the minutes of the last hour."""
    activity, end_us = Activity(bridge.log), bridge.last_us
    return lambda: activity.per_minute(end_us - HOUR_US, end_us)


QUESTIONS: dict[str, Callable[[Bridge, random.Random], Awaitable[Call]]] = {
    "History.last": history_last,
    "History.last, next page": history_next,
    "Sessions.list": sessions_first,
    "Sessions.list, by status": sessions_by_status,
    "Sessions.list, second page": sessions_second,
    "Sessions.get": session_get,
    "DeadLetters.list, by status": letters_parked,
    "Conversations.get": conversation_get,
    "Activity.per_minute, an hour": activity_hour,
}


async def in_a_row(calls: list[Call]) -> None:
    """Await one call after the other."""
    for call in calls:
        await call()


async def measure_reads(small: Bridge, large: Bridge) -> list[Row]:
    """Ask every question of both logs, over and over."""
    rnd = random.Random(7)
    costs = {name: Costs([], []) for name in QUESTIONS}
    for number in range(READ_ROUNDS):
        for name, question in QUESTIONS.items():
            for which in in_turn(number):
                calls = [await question((small, large)[which], rnd) for _ in range(CALLS)]
                costs[name][which].append(await seconds(in_a_row(calls), CALLS))
    return [cost.row(name) for name, cost in costs.items()]


def in_turn(number: int) -> tuple[int, int]:
    """Return small and large, in a round's order."""
    return (0, 1) if number % 2 else (1, 0)


# --- writes --------------------------------------------------------------------------------------


class Writes(NamedTuple):
    """Costs of an event."""

    append_by_id: Costs
    append_by_position: Costs
    project: Costs


async def measure_writes(large: Bridge, event_count: int, settings: dict[str, Any]) -> list[Row]:
    """Append to and project both logs, over and over, until the large one has so many by id."""
    writes = Writes(Costs([], []), Costs([], []), Costs([], []))
    missing_chunks = event_count // 2 / CHUNK_EVENTS
    round_count = max(1, min(WRITE_ROUNDS, int(missing_chunks / 2)))
    growth_chunks = max(0, round(missing_chunks / round_count) - 1)
    for number in range(round_count):
        async with EventLog.open(**settings, key_prefix=f"small-{number}") as log:
            small = Bridge(log, seed=number)
            await small.grow(SMALL_EVENTS)
            for which in in_turn(number):
                await measure_chunks(writes, (small, large)[which], which)
            doomed = [key async for key in log.client.scan_iter(f"{{small-{number}[:}}]*", 10_000)]
            await log.client.unlink(*doomed)
        writes.append_by_id.large_s.extend(await large.grow(growth_chunks * CHUNK_EVENTS))
    return [
        writes.append_by_id.row("append, by id", fmean),
        writes.append_by_position.row("append, producer sequence"),
        writes.project.row("project, all views"),
    ]


async def measure_chunks(writes: Writes, bridge: Bridge, which: int) -> None:
    """Append a chunk in either way, and project both."""
    by_id = bridge.take(CHUNK_EVENTS)
    placed = bridge.place(bridge.take(CHUNK_EVENTS))
    producer = await bridge.log.producer("bench")
    await settle(bridge.log)
    writes.append_by_id[which].append(await seconds(bridge.log.append(by_id), len(by_id)))
    cost_s = await seconds(producer.append(placed), len(placed))
    writes.append_by_position[which].append(cost_s)
    await settle(bridge.log)
    writes.project[which].append(await seconds(bridge.project(), 2 * CHUNK_EVENTS))


async def measure(event_count: int, folder: str) -> list[Row]:
    """Return the rows."""
    settings: dict[str, Any] = {"data_dir": folder, "partition_count": 8}
    async with (
        EventLog.open(**settings, key_prefix="small") as small_log,
        EventLog.open(**settings, key_prefix="large") as large_log,
    ):
        await large_log.client.config_set("auto-aof-rewrite-percentage", 0)
        small, large = Bridge(small_log, 7), Bridge(large_log, 8)
        await small.grow(SMALL_EVENTS)
        await large.grow(event_count // 2)
        rows = await measure_writes(large, event_count, settings)
        await settle(large_log)
        return rows + await measure_reads(small, large)


def run(event_count: int) -> list[Row]:
    """Return the rows, measured on a server of their own."""
    with spared_collector(), tempfile.TemporaryDirectory(prefix="eventlog-bench-") as folder:
        return asyncio.run(measure(event_count, folder))
