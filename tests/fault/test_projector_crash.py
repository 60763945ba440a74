"""Projectors die, stall and lose replies around every commit; the read models stay the fold."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
import pytest

from eventlog.errors import Fenced, HistoryGap, LogUnavailable, ProjectionStopped
from eventlog.ids import START, EntryId
from eventlog.lease import Lease, LeaseKeeper
from eventlog.log import EventLog
from eventlog.tasks import end
from projections.builtin import DEFAULT_PROJECTIONS
from projections.folding.letters import GROUP
from projections.projecting.projector import Projector
from projections.projecting.worker import Work, project_partition
from projections.storing.batch import Commit, CommitOutcome, LeaseLost
from projections.storing.redis_models import RedisModels
from tests.projecting import oracle, random_events, read_out
from tests.support import eventually

FAULTS = ("none", "none", "lost_before", "lost_after", "cancelled", "stalled")


class FaultyModels(RedisModels):
    """Read models whose commits meet the faults that a seed says, as data."""

    def __init__(self, log: EventLog, rnd: random.Random, faults: Sequence[str]) -> None:
        super().__init__(log)
        self._rnd = rnd
        self._faults = faults
        self.met: Counter[str] = Counter()
        self.worker: asyncio.Task[None] | None = None
        self.stolen = asyncio.Event()

    async def commit(self, commit: Commit) -> CommitOutcome:
        fault = self._rnd.choice(self._faults)
        self.met[fault] += 1
        if fault == "lost_before":
            raise LogUnavailable("the request was lost")
        if fault == "cancelled" and self.worker:
            self.worker.cancel()
        if fault == "stalled":
            await self.stolen.wait()
        outcome = await super().commit(commit)
        if fault == "stalled":
            assert outcome == LeaseLost(), "a batch was applied without the lease"
        if fault == "lost_after":
            raise LogUnavailable("the reply was lost")
        return outcome


class Chaos:
    """Workers of one partition, one after the other, and sometimes two that both think it theirs."""

    def __init__(self, log: EventLog, partition: int, rnd: random.Random) -> None:
        self._log = log
        self._partition = partition
        self._rnd = rnd
        self._running: list[tuple[FaultyModels, asyncio.Task[None]]] = []
        self._position = START
        self.met: Counter[str] = Counter()

    async def steal(self, owner: str) -> Lease:
        """Return the lease, as taken over by an owner who found it lapsed."""
        await self._log.client.hset(self._log.keys.lease(self._partition, GROUP), "expires_ms", 0)
        await self._log.client.delete(self._log.keys.members(GROUP))
        keeper = LeaseKeeper(self._log, GROUP, owner)
        await keeper.refresh()
        for models, _ in self._running:
            models.stolen.set()
        return keeper.held[self._partition]

    async def round(self, number: int) -> None:
        """Let a new owner work until it dies, stalls or has done something."""
        lease = await self.steal(f"owner-{number}")
        head = (await self._log.heads())[self._partition]
        if self._rnd.random() < 0.5:
            await self.bury()  # else the last one goes on, unaware that its lease is gone
        for _ in range(self._rnd.randint(1, 3)):  # a process may begin anew under the same lease
            models = FaultyModels(self._log, self._rnd, FAULTS)
            task = asyncio.create_task(
                project_partition(
                    Work(self._log, models, asyncio.Semaphore()),
                    DEFAULT_PROJECTIONS,
                    lease,
                    self,
                )
            )
            models.worker = task
            self._running.append((models, task))
            await eventually(partial(self._has_settled, models, task, head))
            if not task.done():
                return
            assert task.cancelled() or isinstance(task.exception(), LogUnavailable | Fenced)

    def _has_settled(self, models: FaultyModels, task: asyncio.Task[None], head: EntryId) -> bool:
        return task.done() or self._position >= head or bool(models.met["stalled"])

    def on_commit(self, position: EntryId, _count: int) -> None:
        self._position = max(self._position, position)

    def on_stop(self, stopped: ProjectionStopped) -> None:
        raise AssertionError(stopped)

    async def bury(self) -> None:
        """End everything that still runs, in order, with whatever it had in hand."""
        for models, task in self._running:
            models.stolen.set()
            await end(task)
            self.met += models.met
            if not task.cancelled() and (error := task.exception()):
                assert isinstance(error, LogUnavailable | Fenced), error
        self._running.clear()


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_around_a_commit_each_entry_is_folded_once(
    server_url: str, seed: int
) -> None:
    rnd = random.Random(seed)
    events = random_events(rnd, 1500)
    async with EventLog.open(server_url, key_prefix=f"chaos{seed}", partition_count=1) as log:
        chaos = Chaos(log, 0, rnd)
        for number, start in enumerate(range(0, len(events), 50)):
            await log.append([*events[start : start + 50]])
            await chaos.round(number)
        await chaos.bury()
        assert set(chaos.met) == set(FAULTS), "the seed must meet every fault"
        await log.client.hset(log.keys.lease(0, GROUP), "expires_ms", 0)
        await log.client.delete(log.keys.members(GROUP))
        await Projector(log).run_until_caught_up()
        chats = sorted({event.conversation for event in events})
        assert await read_out(log, chats, "stored", page_size=50) == oracle(events)
        pending = await log.client.xpending(log.keys.stream(0), GROUP)
        assert pending["pending"] == 0


class Flaky(RedisModels):
    """Read models whose first few commits fail, half of them after they were applied."""

    def __init__(self, log: EventLog, failures: int) -> None:
        super().__init__(log)
        self.failures = failures

    async def commit(self, commit: Commit) -> CommitOutcome:
        self.failures -= 1
        if self.failures >= 0 and self.failures % 2:
            raise LogUnavailable("the request was lost")
        outcome = await super().commit(commit)
        if self.failures >= 0:
            raise LogUnavailable("the reply was lost")
        return outcome


async def test_projectors_come_and_go_and_recover_by_themselves(server_url: str) -> None:
    events = random_events(random.Random(12), 1200, chat_count=40)
    async with EventLog.open(
        server_url, key_prefix="come-and-go", partition_count=4, lease_ttl_ms=400
    ) as log:
        stores = [Flaky(log, failures=3) for _ in range(3)]
        stops = [asyncio.Event() for _ in stores]
        projectors = [Projector(log, owner=f"p{n}", store=s) for n, s in enumerate(stores)]
        running = [
            asyncio.create_task(projector.run(stop))
            for projector, stop in zip(projectors, stops, strict=True)
        ]
        try:
            await eventually(lambda: _are_all_at_work(projectors))
            for start in range(0, 900, 100):
                await log.append([*events[start : start + 100]])
                await eventually(lambda: _is_level(projectors[0]))
            assert all(store.failures < 0 for store in stores)
            stops[0].set()
            await running[0]
            await end(running[1])
            await log.append([*events[900:]])
            await eventually(lambda: _is_level(projectors[2]))
        finally:
            await end(*running)
        chats = sorted({event.conversation for event in events})
        assert await read_out(log, chats, "stored", page_size=50) == oracle(events)


async def _are_all_at_work(projectors: list[Projector]) -> bool:
    owners = {each.owner for each in await projectors[0].status()}
    return owners == {projector.owner for projector in projectors}


async def _is_level(projector: Projector) -> bool:
    return not any(each.lag_count for each in await projector.status())


async def test_models_ahead_of_a_restored_log_stop_with_the_reason(log: EventLog) -> None:
    events = random_events(random.Random(1), 40, chat_count=20)
    await log.append([*events])
    await Projector(log).run_until_caught_up()
    for partition in range(4):
        history = (await RedisModels(log).shelf(partition)).builds["history", "serving"]
        await log.client.hset(log.keys.shelf(partition), history.model, "9999999999999-999999")
    await log.append([msgspec.structs.replace(event, id=f"more-{event.id}") for event in events])
    projector = Projector(log)
    with pytest.raises(HistoryGap, match="ends at"):
        await projector.run_until_caught_up()
    assert any("ends at" in (each.last_error or "") for each in await projector.status())


async def test_a_killed_server_comes_back_and_nothing_is_folded_twice(tmp_path: Path) -> None:
    events = random_events(random.Random(21), 600, chat_count=20)
    async with EventLog.open(
        data_dir=str(tmp_path), key_prefix="killed", partition_count=4, lease_ttl_ms=600
    ) as log:
        projector = Projector(log)
        stop = asyncio.Event()
        running = asyncio.create_task(projector.run(stop))
        try:
            for start in range(0, 600, 100):
                await log.append([*events[start : start + 100]])
                if start in (200, 400):
                    server = await log.client.info("server")
                    os.kill(server["process_id"], signal.SIGKILL)
            await eventually(lambda: _is_level(projector))
        finally:
            stop.set()
            await running
        chats = sorted({event.conversation for event in events})
        assert await read_out(log, chats, "stored", page_size=50) == oracle(events)
