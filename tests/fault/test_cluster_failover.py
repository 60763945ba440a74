"""A cluster that loses a primary, and one whose slots move, while bots append."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

import pytest

from eventlog.errors import LogUnavailable
from eventlog.log import EventLog
from eventlog.settings import Durability
from eventlog.vocabulary import MessageReceived
from tests.clusters import Cluster
from tests.fault.loads import Load, check_history, entries_of, lost
from tests.support import RawServer, eventually

pytestmark = pytest.mark.cluster

PARTITIONS = 6
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster"), appendfsync="always") as running:
        yield running


def opened(cluster: Cluster, **settings: Any) -> EventLog:
    cluster.mend()
    return EventLog.open(
        cluster.url,
        key_prefix=f"f{next(_numbers)}",
        partition_count=PARTITIONS,
        max_retries=1,
        **settings,
    )


@pytest.fixture
async def log(cluster: Cluster) -> AsyncIterator[EventLog]:
    async with opened(cluster) as log:
        yield log


@pytest.mark.parametrize("durability", ["memory", "replicated"])
async def test_a_primary_dies_under_load(
    log: EventLog, cluster: Cluster, durability: Durability, record_property
):
    primary = cluster.primary_of(log.keys.stream(0))
    served = [p for p in range(PARTITIONS) if cluster.primary_of(log.keys.stream(p)) is primary]
    async with Load(log, durability) as load:
        await eventually(lambda: load.acknowledged_in(served) > 200)
        primary.kill()
        before = set(load.acknowledged)
        if durability == "replicated":
            # Who took over has no replica until the dead one is back.
            stream = log.keys.stream(0)
            await eventually(lambda: cluster.primary_of(stream) is not primary, timeout_s=20)
            primary.start()
        await eventually(lambda: load.acknowledged_in(served) > 400, timeout_s=30)
    entries = await entries_of(log)
    check_history(entries)
    gone = lost(entries, load.acknowledged)
    record_property("lost", gone)
    assert load.refused_count
    if durability == "replicated":
        assert gone == []
    else:
        # What replication had not sent yet: of this node alone, and acknowledged before it died.
        assert set(gone) <= before
        assert {load.acknowledged[each] for each in gone} <= set(served)


async def test_what_no_replica_had_is_lost_and_was_acknowledged_by_memory_alone(cluster: Cluster):
    async with opened(cluster, command_timeout_s=0.5) as log:
        chat = next(f"chat:{n}" for n in itertools.count() if log.partition_of(f"chat:{n}") == 0)

        def message(name: str) -> MessageReceived:
            return MessageReceived(id=name, conversation=chat, text="x")

        primary = cluster.primary_of(log.keys.stream(0))
        replica = cluster.replica_of(primary)
        await log.append(message("before"), durability="replicated")
        os.kill(replica.pid, signal.SIGSTOP)
        cluster.ask(primary, "CLIENT", "KILL", "TYPE", "replica")
        await log.append(message("memory"), durability="memory")
        with pytest.raises(LogUnavailable, match="not confirmed"):
            await log.append(message("replicated"), durability="replicated")
        primary.kill()
        os.kill(replica.pid, signal.SIGCONT)
        stream = log.keys.stream(0)
        await eventually(lambda: cluster.primary_of(stream) is replica, timeout_s=20)
        await eventually(lambda: _is_appended(log, message("after")), timeout_s=20)
        assert [entry.event.id for entry in await log.read(partition=0)] == ["before", "after"]


async def _is_appended(log: EventLog, event: MessageReceived) -> bool:
    try:
        return (await log.append(event)).sequence > 0
    except LogUnavailable:
        return False


MOVES: dict[str, Callable[[Cluster, str, RawServer], Iterator[int]]] = {
    "key by key": partial(Cluster.move, chunk=1),
    "by the servers": Cluster.move_at_once,
}


@pytest.mark.parametrize("way", MOVES)
async def test_slots_move_while_bots_append(log: EventLog, cluster: Cluster, way: str):
    known = str(cluster.ask(cluster.nodes[0], "CLUSTER", "HELP"))
    if way == "by the servers" and "MIGRATESLOTS" not in known:
        pytest.skip("these servers move no slots by themselves")
    streams = [log.keys.stream(p) for p in range(PARTITIONS)]
    tail = await log.tail("start")
    followed: list[str] = []

    async def follow() -> None:
        async for entry in tail:
            followed.append(entry.event.id)  # noqa: PERF401 - it is looked at while it grows

    following = asyncio.create_task(follow())
    async with Load(log, "memory") as load:
        for stream in streams:
            await load.more(60)
            source = cluster.primary_of(stream)
            target = next(node for node in cluster.primaries() if node is not source)
            for _ in MOVES[way](cluster, stream, target):
                await load.more(3)  # some of other partitions, while this one is between the two
            assert cluster.primary_of(stream) is target
        await load.more(60)
    entries = await entries_of(log)
    check_history(entries)
    assert lost(entries, load.acknowledged) == []
    assert load.refused_count == 0
    await eventually(lambda: len(followed) == len(entries))
    following.cancel()
    assert sorted(followed) == sorted(entry.event.id for entry in entries)
