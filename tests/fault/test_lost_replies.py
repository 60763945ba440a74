"""Requests and replies get lost on the way; what was sent is in the log once, in order."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from typing import Any
from urllib.parse import unquote

import pytest

from eventlog import AppendResult, Entry, EventLog, MessageReceived, SessionTouched
from eventlog.clock import SystemClock
from tests.proxy import FAULTS, FaultyProxy

PARTITION_COUNT = 4
_numbers = itertools.count(1)


class Hurried(SystemClock):
    """Does not wait before it tries again."""

    async def sleep(self, duration_s: float) -> None:
        assert duration_s > 0


def message(conversation: str, number: int) -> MessageReceived:
    return MessageReceived(conversation=conversation, text=str(number))


async def whole_log(server_url: str, prefix: str) -> list[Entry]:
    """Return every entry, read over a sound connection, having checked the sequences."""
    found: list[Entry] = []
    async with EventLog.open(server_url, key_prefix=prefix) as log:
        for partition, head in enumerate(await log.heads()):
            entries = await log.read(partition=partition, limit=1_000_000)
            assert [e.id.n for e in entries] == list(range(1, head.n + 1))
            found += entries
    return found


def numbers_by_conversation(entries: list[Entry]) -> dict[str, list[int]]:
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for entry in entries:
        if isinstance(entry.event, MessageReceived):
            numbers[entry.event.conversation].append(int(entry.event.text))
    return dict(numbers)


@pytest.mark.parametrize("seed", range(3))
async def test_every_append_is_there_once_and_in_order(server_url: str, seed: int):
    prefix = f"lost{next(_numbers)}"
    results: dict[str, AppendResult] = {}

    async def bot(log: EventLog, name: str) -> None:
        for number in range(0, 120, 3):
            alone, *listed = events = [message(name, number + i) for i in range(3)]
            answers = [await log.append(alone), *await log.append([*listed])]
            results.update(zip((e.id for e in events), answers, strict=True))

    async def watchdog(log: EventLog) -> None:
        for version in range(40):
            touched = SessionTouched(conversation="watched", session="s")
            results[touched.id] = result = await log.append(touched, expected_version=version)
            assert result.version == version + 1

    async def importer(log: EventLog) -> None:
        producer = await log.producer("import")
        for first in range(1, 601, 60):
            positions = range(first, first + 60)
            added = await producer.append([(n, message(f"file:{n % 7}", n)) for n in positions])
            assert added == 60

    async def follow(log: EventLog, count: int) -> list[Entry]:
        tail = await log.tail("start")
        return [await anext(tail) for _ in range(count)]

    async with (
        FaultyProxy(unquote(server_url.removeprefix("unix://")), seed=seed, fault_rate=0.15) as way,
        EventLog.open(
            way.url,
            key_prefix=prefix,
            partition_count=PARTITION_COUNT,
            max_retries=40,
            clock=Hurried(),
        ) as log,
    ):
        way.is_armed = True
        followed, *_ = await asyncio.gather(
            follow(log, 10 * 120 + 40 + 600),
            *(bot(log, f"chat:{n}") for n in range(10)),
            watchdog(log),
            importer(log),
        )
        way.is_armed = False
    assert set(way.faults) == set(FAULTS), "every kind of fault struck"

    entries = await whole_log(server_url, prefix)
    assert len(entries) == len({e.event.id for e in entries}) == 10 * 120 + 40 + 600
    assert numbers_by_conversation(entries) == {
        **{f"chat:{n}": list(range(120)) for n in range(10)},
        **{f"file:{n}": [i for i in range(1, 601) if i % 7 == n] for n in range(7)},
    }
    places = {e.event.id: (e.partition, e.id) for e in entries}
    assert {k: (r.partition, r.id) for k, r in results.items()} == {k: places[k] for k in results}
    assert sorted((e.partition, e.id) for e in followed) == sorted(places.values())


@pytest.mark.parametrize("fault_rate", [1.0])
async def test_when_nothing_comes_through_the_caller_hears_of_it(
    server_url: str, fault_rate: float
):
    from eventlog.errors import LogUnavailable

    prefix = f"lost{next(_numbers)}"
    socket_path = unquote(server_url.removeprefix("unix://"))
    events = [message("c", n) for n in range(50)]
    async with (
        FaultyProxy(socket_path, seed=1, fault_rate=fault_rate) as way,
        EventLog.open(way.url, key_prefix=prefix, max_retries=5, clock=Hurried()) as log,
    ):
        way.is_armed = True
        with pytest.raises(LogUnavailable, match=r"127\.0\.0\.1"):
            await log.append(events)
        assert await log.ping() is False
        way.is_armed = False
        await log.append(events)
    entries: list[Any] = await whole_log(server_url, prefix)
    assert numbers_by_conversation(entries) == {"c": list(range(50))}
