from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventlog import EventLog
from eventlog.errors import LogUnavailable
from eventlog.lease import Lease, LeaseKeeper
from eventlog.scripts import load_script
from tests.support import RawServer, eventually

_numbers = itertools.count(1)


@pytest.fixture
async def quick(server_url: str) -> AsyncIterator[EventLog]:
    """A log whose leases lapse after a tenth of a second."""
    prefix = f"lease{next(_numbers)}"
    async with EventLog.open(
        server_url, key_prefix=prefix, partition_count=4, lease_ttl_ms=100
    ) as log:
        yield log


async def settle(*keepers: LeaseKeeper) -> None:
    """Three rounds of heartbeats: all are known, what is too much is given up, and is taken."""
    for keeper in keepers * 3:
        await keeper.refresh()


async def forget(log: EventLog, keeper: LeaseKeeper) -> None:
    """Let a member's time run out, as it does for a process that is paused or gone."""
    await log.client.zrem(log.keys.members(keeper.group), keeper.owner)
    for partition in range(log.partition_count):
        key = log.keys.lease(partition, keeper.group)
        if await log.client.hget(key, "owner") == keeper.owner.encode():
            await log.client.hset(key, "expires_ms", "0")


async def test_one_alone_takes_all(log):
    keeper = LeaseKeeper(log, "g")
    assert keeper.held == {}
    await keeper.refresh()
    assert keeper.held == {p: Lease("g", p, keeper.owner, 1) for p in range(4)}


async def test_renewing_changes_nothing(log):
    keeper = LeaseKeeper(log, "g")
    await keeper.refresh()
    before = dict(keeper.held)
    await settle(keeper)
    assert keeper.held == before


@pytest.mark.parametrize(("count", "sizes"), [(2, [2, 2]), (3, [1, 1, 2]), (5, [0, 1, 1, 1, 1])])
async def test_members_share_fairly(log, count, sizes):
    keepers = [LeaseKeeper(log, "g") for _ in range(count)]
    await settle(*keepers)
    assert sorted(len(k.held) for k in keepers) == sizes
    assert sorted(p for k in keepers for p in k.held) == [0, 1, 2, 3]


async def test_a_newcomer_gets_its_share_only_when_it_is_given_up(log):
    first, second = LeaseKeeper(log, "g"), LeaseKeeper(log, "g")
    await first.refresh()
    await second.refresh()
    assert (len(first.held), len(second.held)) == (4, 0)
    await first.refresh()
    await second.refresh()
    assert (len(first.held), len(second.held)) == (2, 2)
    assert {lease.generation for lease in second.held.values()} == {2}


async def test_groups_do_not_disturb_each_other(log):
    a, b = LeaseKeeper(log, "a"), LeaseKeeper(log, "b")
    await settle(a, b)
    assert len(a.held) == len(b.held) == 4


async def test_owners_are_unlike_even_in_one_process(log):
    assert LeaseKeeper(log, "g").owner != LeaseKeeper(log, "g").owner


async def test_what_is_released_is_taken_over_at_once(log):
    first, second = LeaseKeeper(log, "g"), LeaseKeeper(log, "g")
    await settle(first, second)
    await first.release_all()
    assert first.held == {}
    await second.refresh()
    assert set(second.held) == {0, 1, 2, 3}
    await first.release_all()
    await second.refresh()
    assert set(second.held) == {0, 1, 2, 3}


async def test_what_is_not_renewed_lapses(quick):
    dead, alive = LeaseKeeper(quick, "g"), LeaseKeeper(quick, "g")
    await dead.refresh()

    async def taken() -> bool:
        await alive.refresh()
        return len(alive.held) == 4

    assert not await taken(), "the dead one's leases still run"
    assert await eventually(taken, timeout_s=5)
    assert {lease.generation for lease in alive.held.values()} == {2}


async def test_whoever_was_away_learns_that_it_lost_its_leases(log):
    paused, other = LeaseKeeper(log, "g"), LeaseKeeper(log, "g")
    await paused.refresh()
    await forget(log, paused)
    await other.refresh()
    assert len(other.held) == len(paused.held) == 4
    await settle(paused, other)
    assert not paused.held.keys() & other.held.keys()
    assert len(paused.held) == len(other.held) == 2


async def test_a_stale_generation_releases_nothing(log):
    paused, other = LeaseKeeper(log, "g"), LeaseKeeper(log, "g")
    await paused.refresh()
    await forget(log, paused)
    await other.refresh()
    await paused.release_all()
    before = dict(other.held)
    await other.refresh()
    assert other.held == before


async def test_a_late_owner_keeps_what_nobody_took(log):
    keeper = LeaseKeeper(log, "g")
    await keeper.refresh()
    before = dict(keeper.held)
    await forget(log, keeper)
    await keeper.refresh()
    assert keeper.held == before


async def test_releasing_and_taking_again_is_a_new_generation(log):
    keeper = LeaseKeeper(log, "g")
    for generation in (1, 2, 3):
        await keeper.refresh()
        assert {lease.generation for lease in keeper.held.values()} == {generation}
        await keeper.release_all()


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_happens_one_generation_has_one_owner(log, seed):
    rng = random.Random(seed)
    keepers = [LeaseKeeper(log, "g", f"owner{n}") for n in range(4)]
    owners: dict[tuple[int, int], str] = {}
    newest = dict.fromkeys(range(4), 0)
    for _ in range(120):
        keeper = rng.choice(keepers)
        happening = rng.random()
        if happening < 0.1:
            await keeper.release_all()
        elif happening < 0.25:
            await forget(log, keeper)
        else:
            await keeper.refresh()
            for partition, lease in keeper.held.items():
                assert (
                    owners.setdefault((partition, lease.generation), keeper.owner) == keeper.owner
                )
                assert lease.generation >= newest[partition]
                newest[partition] = lease.generation
    await settle(*keepers)
    assert [len(k.held) for k in keepers] == [1, 1, 1, 1]


async def test_the_scripts_answer_what_their_headers_say(log):
    acquire, release = (
        load_script("eventlog", "lease_acquire"),
        load_script("eventlog", "lease_release"),
    )
    key = log.keys.lease(0, "g")
    assert await release(log.client, [key], [1]) == 0, "nobody ever held it"
    assert await acquire(log.client, [key], ["a", 10_000]) == 1
    assert await acquire(log.client, [key], ["b", 10_000]) == 0
    assert await release(log.client, [key], [2]) == 0
    assert await release(log.client, [key], [1]) == 1
    assert await acquire(log.client, [key], ["b", 10_000]) == 2


async def test_without_a_server(tmp_path: Path):
    with RawServer(tmp_path) as server:
        async with EventLog.open(server.url) as log:
            keeper = LeaseKeeper(log, "g")
            await keeper.refresh()
            server.kill()
            for call in (keeper.refresh, keeper.release_all):
                with pytest.raises(LogUnavailable):
                    await call()
