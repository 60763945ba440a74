"""Work under leases: begun, handed over, begun anew after errors, ended."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from eventlog import EventLog
from eventlog.errors import EventLogError, Fenced, HistoryGap
from eventlog.lease import Lease, LeaseKeeper
from eventlog.leased_work import Job, LeasedWork
from eventlog.tasks import end
from tests.support import eventually, turns


@pytest.fixture
async def brisk(log: EventLog) -> AsyncIterator[EventLog]:
    """The same log with leases that soon lapse."""
    async with EventLog.open(
        settings=log.settings, url=log.settings.url, lease_ttl_ms=300
    ) as opened:
        yield opened


class Team:
    """Members that note who is at work on what."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.at_work: dict[int, str] = {}
        self.begun: Counter[int] = Counter()
        self.faults: list[tuple[int, str]] = []
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.beats = 0
        self.errors: dict[int, list[Exception]] = {}
        """Raised at the beginning of the work on a partition, one each time."""

    def member(self, name: str, grace_s: float = 10) -> LeasedWork:
        async def serve(lease: Lease, leaving: asyncio.Event) -> None:
            self.begun[lease.partition] += 1
            assert lease.partition not in self.at_work, "one at a time"
            self.at_work[lease.partition] = name
            try:
                if self.errors.get(lease.partition):
                    raise self.errors[lease.partition].pop(0)
                await leaving.wait()
                await self.may_end.wait()
            finally:
                del self.at_work[lease.partition]

        def fail(partition: int, error: EventLogError) -> None:
            self.faults.append((partition, error.code))

        async def beat() -> None:
            self.beats += 1

        keeper = LeaseKeeper(self.log, "g", name)
        return LeasedWork(self.log, keeper, Job(serve, fail, beat), grace_s=grace_s)

    def has(self, **counts: int) -> bool:
        """Return whether each is at work on so many partitions."""
        return Counter(self.at_work.values()) == counts


@pytest.fixture
def team(brisk: EventLog) -> Team:
    return Team(brisk)


class Running:
    """A member that runs for the time of a `with`."""

    def __init__(self, work: LeasedWork, *others: object) -> None:
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(work.run(self.stop, *others))

    async def __aenter__(self) -> Running:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop.set()
        await asyncio.wait({self.task}, timeout=5)
        await end(self.task)


async def test_one_alone_works_on_all(team):
    work = team.member("one")
    async with Running(work):
        await eventually(lambda: team.has(one=4))
        assert work.partitions == {0, 1, 2, 3}
    assert team.at_work == {}
    assert team.beats > 0
    owners = [await LeaseKeeper(team.log, "g").owner_of(p) for p in range(4)]
    assert owners == [None] * 4


async def test_what_is_surplus_goes_over_only_when_its_work_has_ended(team):
    async with Running(team.member("one")):
        await eventually(lambda: team.has(one=4))
        team.may_end.clear()
        async with Running(team.member("two")):
            members = LeaseKeeper(team.log, "g")

            async def both() -> bool:
                return set(await members.members()) == {"one", "two"}

            await eventually(both)
            beats = team.beats
            # Long enough for a lease that nobody renews to lapse.
            await eventually(lambda: team.beats > beats + 20)
            assert team.has(one=4)
            team.may_end.set()
            await eventually(lambda: team.has(one=2, two=2))
        await eventually(lambda: team.has(one=4))
    assert team.faults == []


async def test_work_that_does_not_end_is_called_off_after_its_grace(team):
    team.may_end.clear()
    async with Running(team.member("one", grace_s=0.1)) as one:
        await eventually(lambda: team.has(one=4))
        one.stop.set()
        await asyncio.wait_for(one.task, 3)
    assert team.at_work == {}


async def test_without_grace_it_is_called_off_at_once(team):
    team.may_end.clear()
    async with Running(team.member("one", grace_s=0)) as one:
        await eventually(lambda: team.has(one=4))
        one.stop.set()
        await asyncio.wait_for(one.task, 3)


async def test_leases_are_renewed_while_work_comes_to_its_end(team):
    async with Running(team.member("one")) as one:
        await eventually(lambda: team.has(one=4))
        team.may_end.clear()
        one.stop.set()
        async with Running(team.member("two")):
            beats = team.beats
            await eventually(lambda: team.beats > beats + 10)
            assert team.has(one=4)
            team.may_end.set()
            await eventually(lambda: team.has(two=4))


async def test_errors_of_the_product_are_told_and_tried_again(team):
    team.errors[2] = [HistoryGap("gone."), EventLogError("odd.")]
    async with Running(team.member("one")):
        await eventually(lambda: team.has(one=4))
        await eventually(lambda: team.begun[2] == 3)
    assert team.faults == [(2, "history_gap"), (2, "eventlog")]
    assert team.begun[1] == 1


async def test_a_fenced_one_begins_anew_if_it_has_the_lease(team):
    team.errors[1] = [Fenced("went.")]
    async with Running(team.member("one")):
        await eventually(lambda: team.begun[1] == 2)
        await eventually(lambda: team.has(one=4))
    assert team.faults == []


async def test_a_lease_that_another_took_ends_the_work(team):
    async with Running(team.member("one")):
        await eventually(lambda: team.has(one=4))
        lease = team.log.keys.lease(3, "g")
        await team.log.client.hset(lease, mapping={"owner": "thief", "generation": 99,
                                                   "expires_ms": 10**14})  # fmt: skip
        await eventually(lambda: team.has(one=3))
        await team.log.client.hset(lease, "expires_ms", 0)
        await eventually(lambda: team.has(one=4))


async def test_any_other_error_of_the_work_ends_the_run(team):
    team.errors[0] = [KeyError("x")]
    async with Running(team.member("one")) as one:
        with pytest.raises(KeyError):
            await asyncio.wait_for(one.task, 5)
    assert team.at_work == {}


async def test_so_does_one_of_a_task_beside(team):
    async def fails() -> None:
        await turns(5)
        raise KeyError("beside")

    async with Running(team.member("one"), fails) as one:
        with pytest.raises(KeyError, match="beside"):
            await asyncio.wait_for(one.task, 5)
    assert team.at_work == {}


async def test_a_task_beside_ends_with_the_run(team):
    ended = []

    async def beside() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async with Running(team.member("one"), beside):
        await eventually(lambda: team.has(one=4))
    assert ended == [True]


async def test_a_run_that_is_cancelled_gives_all_back(team):
    async with Running(team.member("one")) as one:
        await eventually(lambda: team.has(one=4))
        await end(one.task)
        assert team.at_work == {}
        owners = [await LeaseKeeper(team.log, "g").owner_of(p) for p in range(4)]
        assert owners == [None] * 4


async def test_it_runs_once_at_a_time_and_may_run_again(team):
    work = team.member("one")
    async with Running(work):
        await eventually(lambda: team.has(one=4))
        with pytest.raises(EventLogError, match="already"):
            await work.run(asyncio.Event())
    async with Running(work):
        await eventually(lambda: team.has(one=4))


async def test_stopping_does_not_wait_for_the_next_try(team):
    team.errors[2] = [EventLogError("odd.") for _ in range(100)]
    async with Running(team.member("one")) as one:
        await eventually(lambda: team.begun[2] == 3)
        one.stop.set()
        await asyncio.wait_for(one.task, 0.3)
