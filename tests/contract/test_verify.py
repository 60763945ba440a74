"""Verifying read models on a real server, against the archive and the log."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from analytics import DirectoryStorage
from analytics.past import ArchivedPast
from eventlog.errors import BuildMissing, HistoryGap
from eventlog.log import EventLog
from eventlog.vocabulary import MessageReceived
from projections.building.rebuilding import rebuild
from projections.building.verifying import Verified, verify
from projections.builtin import DEFAULT_PROJECTIONS
from projections.projecting.projector import Projector
from projections.projection import Projection
from projections.views.history import HISTORY
from tests.building import archive, entry_count, in_role, projecting, trim
from tests.own_projections import TOOLS, calls
from tests.projecting import random_events


async def first_difference(log: EventLog, projection: Projection, **more: Any) -> Verified:
    found = [each async for each in verify(log, projection, **more) if not each.agrees]
    [verified] = found
    assert verified.stored_digest != verified.folded_digest
    return verified


async def test_verify_names_what_differs_first_and_the_entries_that_touched_it(
    log: EventLog, storage: DirectoryStorage, past: ArchivedPast
) -> None:
    await log.append(calls(160))
    await Projector(log, [TOOLS]).run_until_caught_up()
    await archive(log, storage)
    await trim(log, kept_count=3)
    with pytest.raises(HistoryGap):
        _ = [each async for each in verify(log, TOOLS)]
    partition = log.partition_of("chat:0")
    build = (await in_role(log, "tools", "serving"))[partition]
    assert build is not None
    documents = log.keys.documents(partition, build.model)
    index = log.keys.index(partition, build.model, "all")
    right = await log.client.hget(documents, "chat:0")

    async def look() -> tuple[str, str, str | None, str | None, int]:
        difference = (await first_difference(log, TOOLS, past=past)).difference
        assert difference is not None
        assert difference.touched.last == sorted(difference.touched.last)
        count = difference.touched.entry_count
        return difference.kind, difference.key, difference.stored, difference.folded, count

    told = '{"chat":"chat:0","count":20}'
    await log.client.hset(documents, "chat:0", b'{"chat":"chat:0","count":21}')
    assert await look() == ("document", "chat:0", told.replace("20", "21"), told, 20)
    await log.client.hdel(documents, "chat:0")
    assert await look() == ("document", "chat:0", None, told, 20)
    await log.client.hset(documents, mapping={"chat:0": right, "!ghost": b'{"chat":"g"}'})
    assert await look() == ("document", "!ghost", '{"chat":"g"}', None, 0)
    await log.client.hdel(documents, "!ghost")
    await log.client.zadd(index, {"ghost": 99})
    kind, key, *_, count = await look()
    assert (kind, key, count) == ("index", "ghost", 0)
    await log.client.zrem(index, "ghost")
    await log.client.zadd(log.keys.index(partition, build.model, "#tool"), {"any": 77})
    assert (await look())[0] == "count"
    assert await rebuild(log, TOOLS, past=past)
    assert [each.difference async for each in verify(log, TOOLS, past=past)] == [None] * 4


async def test_verify_finds_a_wrong_feed(log: EventLog) -> None:
    await log.append([MessageReceived(conversation="c", text=f"{n}") for n in range(30)])
    await Projector(log).run_until_caught_up()
    partition = log.partition_of("c")
    build = (await in_role(log, "history", "serving"))[partition]
    assert build is not None
    await log.client.lset(log.keys.feed(partition, build.model, "c"), 3, b"5-5 {}")
    difference = (await first_difference(log, HISTORY)).difference
    assert difference is not None
    assert (difference.kind, difference.key) == ("feed", "c")
    assert difference.touched.entry_count == 30


async def test_verify_works_while_a_projector_does(log: EventLog) -> None:
    events = random_events(random.Random(5), 600)
    await log.append([*events[:100]])
    await Projector(log).run_until_caught_up()
    async with projecting(log):

        async def append() -> None:
            for start in range(100, 600, 20):
                await log.append([*events[start : start + 20]])

        appending = asyncio.create_task(append())
        while not appending.done():
            for projection in DEFAULT_PROJECTIONS:
                async for verified in verify(log, projection):
                    assert verified.agrees, verified
        await appending
    assert await entry_count(log) == 600


async def test_verify_says_that_there_is_nothing_to_verify(log: EventLog) -> None:
    await log.append(calls(1))
    with pytest.raises(BuildMissing, match="tools@1"):
        _ = [each async for each in verify(log, TOOLS)]
