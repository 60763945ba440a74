"""The log on a Redis Cluster of three primaries with a replica each."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis.asyncio

from analytics import Archiver, DirectoryStorage
from analytics.past import ArchivedPast
from analytics.retention import Policy
from analytics.trimmer import Retention
from bridge.erasing import erase
from consumers import Worker
from consumers.groups import groups
from eventlog.cluster import ClusterClient, nodes_of
from eventlog.errors import ConfigurationError, VersionConflict
from eventlog.log import EventLog
from eventlog.settings import Durability
from eventlog.tasks import end
from eventlog.vocabulary import MessageReceived, SessionTouched
from projections import History, Projector
from projections.building.rebuilding import begin, finish, rebuild
from projections.building.verifying import verify
from projections.storing.redis_models import RedisModels
from projections.views.history import HISTORY
from service.checks import examine
from tests.backups import Place, bring_back, history, take, talk
from tests.clusters import Cluster
from tests.erasing import (
    CHAT,
    NEIGHBOUR,
    SECRET,
    USER,
    archive,
    is_nowhere,
    life_of,
    on_server,
    opened,
    project,
)
from tests.support import RawServer, eventually
from tests.working import QUICK, Seen, all_handled, at_work, nothing_is_left

pytestmark = pytest.mark.cluster

PARTITIONS = 6
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with Cluster(folder, cluster_node_timeout=15_000) as running:
        yield running


@pytest.fixture
async def log(cluster: Cluster) -> AsyncIterator[EventLog]:
    async with EventLog.open(
        cluster.url, key_prefix=f"c{next(_numbers)}", partition_count=PARTITIONS
    ) as opened:
        yield opened


def message(number: int, chat_count: int = 12) -> MessageReceived:
    return MessageReceived(
        id=f"m{number}", conversation=f"chat:{number % chat_count}", text=f"text {number}"
    )


# First, because it looks into every key of every node.
async def test_what_is_erased_is_gone_from_every_node(cluster: Cluster, tmp_path: Path):
    async with opened(cluster.url, tmp_path) as log:
        await log.append([*life_of(CHAT, USER, SECRET), *life_of(NEIGHBOUR, "8", "badger")])
        await archive(log)
        await project(log)
        assert await on_server(log.client)
        report = await erase(log, chat=CHAT, reason="asked", operator="Ann")
        assert report.is_complete
        await is_nowhere(log)


@pytest.mark.parametrize("kind", [redis.asyncio.RedisCluster, redis.asyncio.Redis])
async def test_over_a_client_of_yours_of_the_cluster_or_of_one_of_its_nodes(
    cluster: Cluster, kind: type[redis.asyncio.RedisCluster | redis.asyncio.Redis]
):
    client = kind(host="127.0.0.1", port=cluster.nodes[0].port, decode_responses=True)
    async with EventLog.open(client=client, key_prefix=f"c{next(_numbers)}") as log:
        assert isinstance(log.client, ClusterClient)
        await log.append([message(n) for n in range(30)])
        assert sum(head.n for head in await log.heads()) == 30
    assert await client.ping()
    await client.aclose()


async def test_what_is_appended_is_read_back_and_projected(log: EventLog, cluster: Cluster):
    assert isinstance(log.client, ClusterClient)
    results = await asyncio.gather(*(log.append(message(n)) for n in range(300)))
    again = await log.append([message(n) for n in range(300)])
    assert [each.id for each in again] == [each.id for each in results]
    assert all(each.duplicate for each in again)
    assert len({cluster.primary_of(log.keys.stream(p)).port for p in range(PARTITIONS)}) > 1
    entries = [e for p in range(PARTITIONS) for e in await log.read(partition=p, limit=1000)]
    assert Counter(e.event.conversation for e in entries) == {f"chat:{n}": 25 for n in range(12)}
    await Projector(log).run_until_caught_up()
    for chat in range(12):
        page = await History(log).first(f"chat:{chat}", limit=100, consistency="stored")
        assert [each.event.text for each in page.entries] == [
            f"text {n}" for n in range(chat, 300, 12)
        ]


async def test_a_plain_address_of_any_node_leads_to_the_cluster(cluster: Cluster):
    for node in cluster.nodes:
        async with EventLog.open(node.url, key_prefix="detected", partition_count=8) as log:
            assert log.server_url.startswith("redis+cluster://")
            await log.append([message(n) for n in range(20)])
            assert sum(head.n for head in await log.heads()) == 20


async def test_a_tail_follows_partitions_of_several_nodes(log: EventLog):
    tail = await log.tail("start")
    seen: list[str] = []

    async def follow() -> None:
        async for entry in tail:
            seen.append(entry.event.id)  # noqa: PERF401 - it is looked at while it grows

    following = asyncio.create_task(follow())
    for start in range(0, 60, 20):
        await log.append([message(n) for n in range(start, start + 20)])
        await eventually(lambda upto=start + 20: len(seen) == upto)
    await end(following)
    assert sorted(seen) == sorted(f"m{n}" for n in range(60))


@pytest.mark.parametrize("durability", ["fsync", "replicated"])
async def test_an_append_is_confirmed_by_the_node_that_took_it(
    log: EventLog, durability: Durability
):
    nodes = await nodes_of(log.client)
    for node in nodes:  # what confirms `fsync` on any server
        await node.config_set("appendfsync", "always")
    results = await asyncio.gather(
        *(log.append(message(n), durability=durability) for n in range(30))
    )
    for node in nodes:
        await node.config_set("appendfsync", "everysec")
    assert len({each.partition for each in results}) == PARTITIONS


async def test_versions_hold_and_producers_have_their_positions(log: EventLog):
    for chat in range(12):
        touched = SessionTouched(conversation=f"chat:{chat}", session=f"s{chat}")
        assert (await log.append(touched, expected_version=0)).version == 1
        with pytest.raises(VersionConflict):
            await log.append(
                touched.__class__(conversation=f"chat:{chat}", session=f"s{chat}"),
                expected_version=0,
            )
    producer = await log.producer("bulk")
    assert await producer.append([(n, message(n)) for n in range(1, 101)]) == 100
    assert await (await log.producer("bulk")).append([(n, message(n)) for n in range(1, 101)]) == 0


async def test_a_worker_handles_all_in_order(log: EventLog):
    await log.append([message(n) for n in range(120)])
    seen, worker = Seen(), Worker(log, "helpers")
    worker.on("message.received", retry=QUICK)(seen)
    async with at_work(worker):
        await all_handled(worker)
    assert seen.texts == {
        f"chat:{chat}": [f"text {n}" for n in range(chat, 120, 12)] for chat in range(12)
    }
    await nothing_is_left(log, "helpers")
    [status] = [each for each in await groups(log) if each.name == "helpers"]
    assert status.lag_count == 0


async def test_archived_trimmed_and_built_anew(log: EventLog, tmp_path: Path):
    storage = DirectoryStorage(tmp_path)
    await log.append([message(n) for n in range(240)])
    await Projector(log).run_until_caught_up()
    async with Archiver(log, storage) as archiver:
        await archiver.run_once()
    nothing_kept = Policy(age_ms=0, recent_ms=0)
    applied = await Retention(log, storage, nothing_kept).apply()
    assert applied.trimmed_count == 240
    await log.append([message(n) for n in range(240, 300)])
    past = ArchivedPast(storage)
    rebuilt = await rebuild(log, HISTORY, past=past)
    assert rebuilt.position_count == 300
    for chat in range(12):
        page = await History(log, past=past).last(f"chat:{chat}", 100)
        assert [each.event.text for each in page.entries] == [
            f"text {n}" for n in range(chat, 300, 12)
        ]
    async for verified in verify(log, HISTORY, past=past):
        assert verified.difference is None


async def test_a_swap_that_was_cut_short_is_gone_on_with(log: EventLog):
    await log.append([message(n) for n in range(120)])
    await Projector(log).run_until_caught_up()
    await begin(log, HISTORY)
    store = RedisModels(log)
    first = (await store.shelf(0)).get(HISTORY.name, "building")
    assert first is not None
    await store.swap({0: first})  # and here its builder died
    roles = [(await store.shelf(p)).get(HISTORY.name, "building") for p in range(PARTITIONS)]
    assert [build is None for build in roles] == [True, *[False] * (PARTITIONS - 1)]
    for chat in range(12):
        page = await History(log).last(f"chat:{chat}", 100)
        assert len(page.entries) == 10
    await finish(log, HISTORY)
    for partition in range(PARTITIONS):
        shelf = await store.shelf(partition)
        assert shelf.get(HISTORY.name, "building") is None
        assert shelf.get(HISTORY.name, "serving") is not None
    async for verified in verify(log, HISTORY):
        assert verified.difference is None


async def test_backed_up_and_restored(cluster: Cluster, tmp_path: Path):
    place, there = (Place.at(cluster.url, tmp_path, name) for name in ("kept", "back"))
    async with place.new() as kept:
        await kept.append(talk(60))
        await archive(kept)
        await take(kept, tmp_path / "backup")
        await bring_back(there, tmp_path / "backup", kept)
        async with there.open() as back:
            assert await history(back) == await history(kept)


async def test_doctor_looks_at_every_node(cluster: Cluster, tmp_path: Path):
    url = cluster.nodes[0].url
    async with EventLog.open(url, key_prefix="doctor", data_dir=str(tmp_path)) as log:
        findings = {each.check: each for each in await examine(log)}
        assert "a cluster of 3 primaries with 3 replicas" in findings["server"].seen
        assert findings["server"].verdict == "fine"
        limited = cluster.nodes[1]
        cluster.ask(limited, "CONFIG", "SET", "maxmemory", "4mb")
        try:
            found = {each.check: each for each in await examine(log)}["memory"]
        finally:
            cluster.ask(limited, "CONFIG", "SET", "maxmemory", "0")
    assert found.verdict != "fine"
    assert f":{limited.port}: " in found.seen


async def test_a_database_of_a_cluster_is_refused(cluster: Cluster):
    for url, settings in ((f"{cluster.url}/2", {}), (cluster.nodes[0].url, {"db": 1})):
        with pytest.raises(ConfigurationError, match="database"):
            await EventLog.open(url, **settings)


async def test_a_single_server_named_as_a_cluster(tmp_path: Path):
    with (
        RawServer(tmp_path, tcp=True) as server,
        pytest.raises(ConfigurationError, match="not a node of a cluster"),
    ):
        await EventLog.open(server.url.replace("redis://", "redis+cluster://"))
