"""Transcripts on a real server: however long, whoever writes, whatever has been archived."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from analytics import DirectoryStorage
from analytics.past import ArchivedPast
from bridge.erasing import erase
from bridge.transcripts import TranscriptStore
from bridge.values import ValueStore
from eventlog.errors import HistoryGap
from eventlog.log import EventLog
from eventlog.vocabulary import MessageReceived, TranscriptPopped
from projections.projecting.projector import Projector
from projections.storing.redis_models import RedisModels
from projections.storing.store import FeedReply
from tests.archives import ArchivedWorld

PLACE = "telegram:42", "agent"
HOT = 20


class World(ArchivedWorld):
    """A log with few hot appends, an archive, and transcripts over both."""

    def __init__(self, log: EventLog, storage: DirectoryStorage) -> None:
        super().__init__(log, storage)
        self.store = TranscriptStore(log, past=ArchivedPast(storage))
        self.made: list[int] = []
        self.next = 0

    async def write(self, rnd: random.Random, count: int) -> None:
        """Append, pop and clear, with as much of others in between."""
        for _ in range(count):
            await self.log.append(MessageReceived(conversation=PLACE[0], text="noise"))
            await self.store.append(PLACE[0], "another", ["noise"])
            chance = rnd.random()
            if chance < 0.7:
                items = [*range(self.next, self.next + rnd.randrange(1, 4))]
                self.next += len(items)
                self.made += items
                await self.store.append(*PLACE, items)
            elif chance < 0.98:
                assert await self.store.pop(*PLACE) == (self.made.pop() if self.made else None)
            else:
                self.made.clear()
                await self.store.clear(PLACE)


@pytest.fixture
async def world(server_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with EventLog.open(
        server_url, key_prefix=tmp_path.name, partition_count=2, transcript_limit=HOT
    ) as log:
        yield World(log, DirectoryStorage(tmp_path / "archive"))


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_transcript_is_whole_wherever_its_pieces_lie(world: World, seed: int) -> None:
    rnd = random.Random(seed)
    for _ in range(6):
        await world.write(rnd, rnd.randrange(10, 40))
        for step in (world.project, world.archive, world.trim):
            if rnd.random() < 0.6:
                await step()
        assert (await world.store.items(*PLACE)).items == world.made
        limit = rnd.randrange(1, 60)
        assert (await world.store.items(*PLACE, limit)).items == world.made[-limit:]
    known = await world.store.get(*PLACE)
    assert known is not None
    assert known.item_count == len(world.made)


async def test_without_an_archive_it_is_read_from_the_log_and_a_gap_is_said(world: World) -> None:
    store = TranscriptStore(world.log)
    for n in range(3 * HOT):
        await store.append(*PLACE, [n])
    await world.project()
    assert (await store.items(*PLACE)).items == [*range(3 * HOT)]
    await world.archive()
    await world.trim()
    assert (await store.items(*PLACE, 5)).items == [*range(3 * HOT - 5, 3 * HOT)]
    with pytest.raises(HistoryGap):
        await store.items(*PLACE)
    assert (await world.store.items(*PLACE)).items == [*range(3 * HOT)]
    await store.clear(PLACE)
    assert (await store.items(*PLACE)).items == []


async def test_the_last_items_of_a_long_transcript_cost_one_short_read(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = TranscriptStore(log)
    await store.append(*PLACE, [{"n": n, "text": "x" * 1000} for n in range(2000)])
    await Projector(log).run_until_caught_up()
    replies: list[FeedReply] = []
    original = RedisModels.read_feed

    async def counted(*args: Any) -> FeedReply:
        replies.append(await original(*args))
        return replies[-1]

    monkeypatch.setattr(RedisModels, "read_feed", counted)
    assert [item["n"] for item in (await store.items(*PLACE, 3)).items] == [1997, 1998, 1999]
    assert len(replies) == 1
    assert sum(map(len, replies[0].items)) < 4 * 70_000

    popped = [TranscriptPopped(conversation=PLACE[0], transcript=PLACE[1]) for _ in range(500)]
    await log.append(popped)
    replies.clear()
    assert (await store.items(*PLACE, 1)).items[0]["n"] == 1499
    assert len(replies) < 2 * 10, "where much was popped, each step reads twice as much"


async def test_each_of_many_who_pop_gets_another_item(log: EventLog) -> None:
    stores = [TranscriptStore(log) for _ in range(4)]
    await stores[0].append(*PLACE, [*range(16)])
    got = await asyncio.gather(*(stores[n % 4].pop(*PLACE, "none") for n in range(20)))
    assert Counter(got) == Counter([*range(16), *["none"] * 4])


POPPING = """
import asyncio, sys
from bridge.erasing import erase
from bridge.transcripts import TranscriptStore
from eventlog import EventLog

async def main(url, prefix):
    async with EventLog.open(url, key_prefix=prefix) as log:
        store = TranscriptStore(log)
        print(await store.pop("telegram:42", "agent"), flush=True)
        sys.stdin.readline()  # until the other has had one as well
        while (item := await store.pop("telegram:42", "agent")) is not None:
            print(item, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def python(code: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


async def test_two_processes_that_pop_share_the_items(log: EventLog, server_url: str) -> None:
    await TranscriptStore(log).append(*PLACE, [*range(1, 81)])
    prefix = log.settings.key_prefix
    processes = [await python(POPPING, server_url, prefix) for _ in range(2)]
    first = [await each.stdout.readline() for each in processes if each.stdout is not None]
    told = await asyncio.gather(*(each.communicate(b"go\n") for each in processes))
    outputs = [[n, *rest.split()] for n, (rest, _) in zip(first, told, strict=True)]
    assert sorted(int(n) for output in outputs for n in output) == [*range(1, 81)]
    for output in outputs:
        assert [int(n) for n in output] == sorted(map(int, output), reverse=True)


async def test_popping_goes_on_where_the_read_model_counts_from_elsewhere(log: EventLog) -> None:
    store = TranscriptStore(log)
    await store.append(*PLACE, [1, 2])
    entity = TranscriptPopped(conversation=PLACE[0], transcript=PLACE[1]).entity
    partition = log.partition_of(PLACE[0])
    await log.client.hincrby(log.keys.versions(partition), entity, 5)
    assert [await store.pop(*PLACE) for _ in range(3)] == [2, 1, None]


async def test_metadata_of_many_who_append_counts_each(log: EventLog) -> None:
    stores = [TranscriptStore(log) for _ in range(3)]

    def count(former: dict[str, Any]) -> dict[str, Any]:
        return {"count": former.get("count", 0) + 1}

    await asyncio.gather(*(stores[n % 3].append(*PLACE, [n], describe=count) for n in range(20)))
    known = await stores[0].get(*PLACE)
    assert known is not None
    assert (known.metadata, known.item_count) == ({"count": 20}, 20)


async def test_more_than_one_step_takes_is_added_in_order(log: EventLog) -> None:
    store = TranscriptStore(log)
    items = [{"n": n, "text": "é" * 200_000} for n in range(20)]
    await store.append(*PLACE, items, describe=lambda former: {"had": len(former)})
    assert (await store.items(*PLACE)).items == items
    known = await store.get(*PLACE)
    assert known is not None
    assert (known.item_count, known.metadata) == (20, {"had": 0})


async def test_another_log_object_sees_all(log: EventLog, server_url: str) -> None:
    await TranscriptStore(log).append(*PLACE, ["🦜", {"a": None}])
    await ValueStore(log).replace("c", "v", {"🦜": [1.5]})
    async with EventLog.open(server_url, key_prefix=log.settings.key_prefix) as again:
        assert (await TranscriptStore(again).items(*PLACE)).items == ["🦜", {"a": None}]
        assert await ValueStore(again).get("c", "v") == {"🦜": [1.5]}


async def test_changes_of_many_at_once_all_stay(log: EventLog) -> None:
    stores = [ValueStore(log) for _ in range(4)]
    await asyncio.gather(*(stores[n % 4].update("c", "v", {f"k{n}": n}) for n in range(60)))
    assert await stores[0].get("c", "v") == {f"k{n}": n for n in range(60)}
    await Projector(log).run_until_caught_up()
    assert await stores[0].get("c", "v") == {f"k{n}": n for n in range(60)}
    await stores[0].replace("c", "v", {})
    await Projector(log).run_until_caught_up()
    assert await stores[0].get("c", "v") == {}


async def test_what_is_erased_is_gone_and_what_follows_is_right(
    world: World, tmp_path: Path
) -> None:
    user = str(7)
    async with EventLog.open(
        world.log.server_url, key_prefix=f"{tmp_path.name}-erased", data_dir=str(tmp_path)
    ) as log:
        store, values = TranscriptStore(log), ValueStore(log)
        await store.append("other", "agent", ["kept"])
        await store.append(*PLACE, ["a secret", "another", "third"], project="p")
        assert await store.pop(*PLACE) == "third"
        await values.update("group", "7", {"a": "secret"}, user=user)
        await values.update("group", "8", {"a": "kept"}, user="8")
        await Projector(log).run_until_caught_up()
        await erase(log, chat=PLACE[0])
        await erase(log, user=user)
        assert (await store.items(*PLACE)).items == []
        assert await store.pop(*PLACE) is None
        assert [each.name for each in (await store.list()).items] == ["agent"]
        await store.append(*PLACE, ["new", "newer"])
        assert await store.pop(*PLACE) == "newer"
        assert (await store.items(*PLACE)).items == ["new"]
        assert (await store.items("other", "agent")).items == ["kept"]
        known = await store.get(*PLACE)
        assert known is not None
        assert (known.item_count, known.version) == (1, 4)
        assert (await values.get("group", "7"), await values.get("group", "8")) == (
            {},
            {"a": "kept"},
        )
