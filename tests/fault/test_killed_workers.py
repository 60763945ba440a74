"""Workers that are killed, paused and released under load lose and repeat nothing."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import get_args

import pytest

from eventlog import EventLog
from eventlog.event import Event
from projections.folding.letters import GROUP
from projections.projecting.projector import Projector
from projections.storing.batch import Commit, CommitOutcome
from projections.storing.redis_models import RedisModels
from tests.fault.killed_workers import TAKEOVER_LIMIT_S, run
from tests.fault.processes import StrikeKind
from tests.fault.worker_fleet import Plan, strikes
from tests.projecting import chats_of, oracle, random_events, read_out
from tests.support import eventually

KINDS = get_args(StrikeKind)
SHORT = {"seconds": 4, "events_per_s": 3000, "shortest_gap_s": 0.1, "longest_gap_s": 0.5}


def test_a_seed_says_who_is_struck_how_and_when():
    plan = Plan(seed=3)
    assert [*strikes(plan)] == [*strikes(plan)]
    assert [*strikes(plan)] != [*strikes(Plan(seed=4))]
    assert {strike.kind for strike in strikes(plan)} == {*KINDS}
    pauses = [strike.pause_s for strike in strikes(plan)]
    assert min(pauses) * 1000 > plan.lease_ttl_ms


async def test_killed_workers_lose_and_repeat_nothing(tmp_path: Path) -> None:
    report = await run(Plan(seed=5, lease_ttl_ms=400, **SHORT), tmp_path)
    assert not report.differences, str(report)
    assert all(report.strikes[kind] for kind in KINDS), str(report)
    assert max(report.takeover_times_s("kill"), default=0) < TAKEOVER_LIMIT_S, str(report)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_minute_of_killing_at_the_default_lease(tmp_path: Path, seed: int) -> None:
    report = await run(Plan(seed), tmp_path)
    print(report)  # noqa: T201 - `pytest -s` shows it
    assert not report.differences, str(report)
    assert max(report.takeover_times_s(*KINDS), default=0) < TAKEOVER_LIMIT_S, str(report)


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_one_fault_at_a_time_is_made_good_within_the_promise(tmp_path: Path) -> None:
    # A pause is of two leases at most, so each worker is back before the next one is struck.
    report = await run(Plan(seed=3, shortest_gap_s=6.5, longest_gap_s=8), tmp_path)
    print(report)  # noqa: T201
    assert not report.differences, str(report)
    assert max(each.took_s for each in report.takeovers) < TAKEOVER_LIMIT_S, str(report)


# --- a commit that comes too late -----------------------------------------------------------------


class HeldModels(RedisModels):
    """Read models of which a commit to partition 0 waits, once `gate` is closed, until it opens."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_holding = False
        self.outcomes: list[str] = []
        """What became of the commits that were held."""

    async def commit(self, commit: Commit) -> CommitOutcome:
        if commit.partition or self.gate.is_set():
            return await super().commit(commit)
        self.is_holding = True
        await self.gate.wait()
        outcome = await super().commit(commit)
        self.is_holding = False
        self.outcomes.append(outcome.outcome)
        return outcome


async def stored(log: EventLog) -> dict[bytes, bytes]:
    """Return every key of the log with its content: documents, feeds, checkpoints, stream, lease."""
    keys = [key async for key in log.client.scan_iter(match=f"{{{log.keys.log}*")]
    return {key: await log.client.dump(key) for key in keys}


async def is_level(projector: Projector, partition: int) -> bool:
    status = (await projector.status())[partition]
    return status.owner == projector.owner and not status.lag_count


@pytest.mark.parametrize("successor", ["has applied the batch", "has it in hand too"])
async def test_a_commit_after_the_lease_went_to_another_is_fenced_and_changes_nothing(
    server_url: str, caplog: pytest.LogCaptureFixture, successor: str
) -> None:
    caplog.set_level("INFO", "eventlog.leases")
    events = random_events(random.Random(6), 300, chat_count=40)
    parts: list[list[Event]] = [events[:100], events[100:200], events[200:]]
    async with EventLog.open(
        server_url,
        key_prefix=f"late-{successor.replace(' ', '-')}",
        partition_count=2,
        lease_ttl_ms=60_000,  # nobody renews, or loses a lease to the clock, while this test runs
    ) as log:
        slow, quick = HeldModels(log), HeldModels(log)
        first = Projector(log, owner="b", store=slow)
        second = Projector(log, owner="a", store=quick)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            try:
                tasks.create_task(first.run(stop))
                await log.append([*parts[0]])
                await eventually(lambda: is_level(first, 0))
                await eventually(lambda: is_level(first, 1))

                slow.gate.clear()
                await log.append([*parts[1]])
                await eventually(lambda: slow.is_holding)
                await eventually(lambda: is_level(first, 1))
                await log.client.hset(log.keys.lease(0, GROUP), "expires_ms", 0)
                if successor == "has it in hand too":
                    quick.gate.clear()
                tasks.create_task(second.run(stop))
                if successor == "has it in hand too":
                    await eventually(lambda: quick.is_holding)
                else:
                    await eventually(lambda: is_level(second, 0))

                before = await stored(log)
                slow.gate.set()
                await eventually(lambda: bool(slow.outcomes))
                assert slow.outcomes == ["fenced"]
                assert await stored(log) == before
                await eventually(lambda: "lease_lost partition=0" in caplog.text)

                quick.gate.set()
                await log.append([*parts[2]])
                await eventually(lambda: is_level(first, 1))
                await eventually(lambda: is_level(second, 0))
                assert slow.outcomes == ["fenced"], "the first one let go of the partition"
                assert set(quick.outcomes) <= {"committed"}
                assert caplog.text.count("lease_lost") == 1
            finally:
                slow.gate.set()
                quick.gate.set()
                stop.set()
        assert await read_out(log, chats_of(events), "stored", page_size=50) == oracle(events)
