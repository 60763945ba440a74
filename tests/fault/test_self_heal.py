"""What a server may forget, and what the projectors do then: go on from what agrees, or stop and say."""

from __future__ import annotations

import random
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest

from eventlog.event import Event
from eventlog.ids import START
from eventlog.log import EventLog
from projections.folding.letters import GROUP
from projections.projecting.projector import Projector
from projections.storing.redis_models import RedisModels
from tests.building import projecting
from tests.projecting import chats_of, oracle, random_events, read_out
from tests.support import RawServer, eventually


@asynccontextmanager
async def opened(server: RawServer) -> AsyncIterator[tuple[EventLog, Projector]]:
    """A log on that server, and a projector at work."""
    log = EventLog.open(server.url, partition_count=4, lease_ttl_ms=400)
    async with log, projecting(log) as projector:
        yield log, projector


async def is_level(projector: Projector) -> bool:
    return not any(each.lag_count for each in await projector.status())


async def says(projector: Projector, words: str) -> bool:
    return any(words in (each.last_error or "") for each in await projector.status())


def renamed(events: list[Event], prefix: str) -> list[Event]:
    return [msgspec.structs.replace(event, id=f"{prefix}-{event.id}") for event in events]


async def expect(log: EventLog, events: list[Event]) -> None:
    told = await read_out(log, chats_of(events), "stored", page_size=50)
    assert told == oracle(events)


async def test_a_destroyed_group_is_made_again_at_the_checkpoint(log: EventLog) -> None:
    events = random_events(random.Random(31), 300, chat_count=20)
    async with projecting(log) as projector:
        await log.append([*events[:200]])
        await eventually(partial(is_level, projector))
        for partition in range(log.partition_count):
            await log.client.xgroup_destroy(log.keys.stream(partition), GROUP)
        await log.append([*events[200:]])
        await eventually(partial(is_level, projector))
        await expect(log, events)
        for partition, head in enumerate(await log.heads()):
            [group] = await log.client.xinfo_groups(log.keys.stream(partition))
            assert group["last-delivered-id"] == str(head).encode()


async def test_lost_checkpoints_are_not_folded_over_what_was_stored(log: EventLog) -> None:
    events = random_events(random.Random(32), 300, chat_count=20)
    async with projecting(log) as projector:
        await log.append([*events[:200]])
        await eventually(partial(is_level, projector))
        for partition in range(log.partition_count):
            await log.client.delete(log.keys.shelf(partition))
        # Readers see nothing stored, and fold the log.
        assert await read_out(log, chats_of(events), "live", page_size=50) == oracle(events[:200])
        await log.append([*events[200:]])
        await eventually(partial(is_level, projector))
        await expect(log, events)


async def test_a_flushed_server_begins_a_new_log(tmp_path: Path) -> None:
    before = random_events(random.Random(33), 200, chat_count=20)
    after = renamed(random_events(random.Random(34), 200, chat_count=20), "after")
    with RawServer(tmp_path) as server:
        async with opened(server) as (log, projector):
            await log.append([*before])
            await eventually(partial(is_level, projector))
            await log.client.flushall()
            await log.append([*after])
            await eventually(partial(is_level, projector))
            await expect(log, after)


async def test_a_log_older_than_its_models_stops_and_names_what_is_missing(log: EventLog) -> None:
    events = random_events(random.Random(35), 80, chat_count=20)
    async with projecting(log) as projector:
        await log.append([*events])
        await eventually(partial(is_level, projector))
        heads = await log.heads()
        # The streams are put back as they were after their first entry; the models are not.
        for partition in range(log.partition_count):
            [first] = await log.read_raw(partition, START, 1)
            stream, head = log.keys.stream(partition), log.keys.head(partition)
            await log.client.delete(stream)
            await log.client.xadd(stream, {"e": first.raw}, id=str(first.id))
            await log.client.set(head, str(first.id))
        await eventually(partial(says, projector, f"entries 2 to {heads[0].n} are missing"))
    models = RedisModels(log)
    for partition, head in enumerate(heads):
        shelf = await models.shelf(partition)
        assert {shelf.checkpoint(build) for build in shelf.builds.values()} == {head}


async def test_a_server_restored_from_an_older_backup_goes_on_from_there(tmp_path: Path) -> None:
    events = random_events(random.Random(36), 300, chat_count=20)
    lost, more = events[150:220], renamed(events[220:], "more")
    with RawServer(tmp_path) as server:
        async with opened(server) as (log, projector):
            await log.append([*events[:150]])
            await eventually(partial(is_level, projector))
            await log.client.save()
            shutil.copy(tmp_path / "dump.rdb", tmp_path / "backup.rdb")
            await log.append([*lost])
            await eventually(partial(is_level, projector))
            server.kill()
            shutil.copy(tmp_path / "backup.rdb", tmp_path / "dump.rdb")
            server.start()
            await eventually(log.ping)
            await log.append([*more])
            await eventually(partial(is_level, projector))
            await expect(log, [*events[:150], *more])


@pytest.mark.parametrize("key", ["shelf", "group"])
async def test_the_next_projector_heals_as_well_as_the_running_one(log: EventLog, key: str) -> None:
    events = random_events(random.Random(37), 200, chat_count=20)
    await log.append([*events[:100]])
    await Projector(log).run_until_caught_up()
    for partition in range(log.partition_count):
        if key == "shelf":
            await log.client.delete(log.keys.shelf(partition))
        else:
            await log.client.xgroup_destroy(log.keys.stream(partition), GROUP)
    await log.append([*events[100:]])
    await Projector(log).run_until_caught_up()
    await expect(log, events)
