from __future__ import annotations

import asyncio
import multiprocessing
from pathlib import Path

from analytics.past import ArchivedPast
from bridge.erasing import ERASURES_CONVERSATION, erase, ledger_of
from eventlog import EventLog
from projections.building.verifying import verify
from projections.builtin import DEFAULT_PROJECTIONS
from tests.erasing import (
    CHAT,
    NEIGHBOUR,
    SECRET,
    USER,
    archive,
    is_nowhere,
    life_of,
    opened,
    places,
    project,
    storage_of,
)
from tests.fault.erasing_process import KILLED, erase_until

STEPS = (
    "surveyed",
    "recorded",
    "copied",
    "swapped",
    "plan_written",
    "segment_replaced",
    "model_renewed",
    "model_renewed",
    "files_rewritten",
    "told",
)
"""Each of them is the end of one process; the next goes on from there."""


async def test_killed_at_every_step_it_is_gone_on_with_to_the_end(server_url, tmp_path: Path):
    async with opened(server_url, tmp_path, lease_ttl_ms=300) as log:
        await log.append([*life_of(CHAT, USER, SECRET), *life_of(NEIGHBOUR, "8", "badger")])
        await archive(log)
        await log.append(life_of(CHAT, USER, SECRET))
        await project(log)
        await _planned_by_a_dead_archiver(log)
        before = await places(log)
        for step in STEPS:
            assert await asyncio.to_thread(_killed_at, log, step), f"{step} was not reached"
            assert await places(log) == before or step == "told"
        assert not ledger_of(log).read()[0].is_completed
        report = await erase(log, chat=CHAT)
        assert report.is_complete
        await is_nowhere(log)
        assert ledger_of(log).read()[0].is_completed
        assert len(ledger_of(log).read()) == 1
        assert len(await log.read(conversation=ERASURES_CONVERSATION)) == 1
        for projection in DEFAULT_PROJECTIONS:
            async for each in verify(log, projection, past=ArchivedPast(storage_of(log))):
                assert each.difference is None


async def _planned_by_a_dead_archiver(log: EventLog) -> None:
    """Leave a plan of a segment that nobody is writing."""
    partition = log.partition_of(CHAT)
    position = await ArchivedPast(storage_of(log)).position(partition)
    head = (await log.heads())[partition]
    key = log.keys.archive_plan(partition)
    await log.client.hset(key, str(position.n), str(head.n))


def _killed_at(log: EventLog, step: str) -> bool:
    settings = log.settings
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.fault.erasing_process"])
    process = context.Process(target=erase_until, args=(settings, CHAT, step))
    process.start()
    process.join(30)
    return process.exitcode == KILLED
