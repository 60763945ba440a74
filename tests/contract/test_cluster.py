"""The log on a Redis Cluster of three primaries with a replica each."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest

from eventlog.cluster import ClusterClient
from eventlog.log import EventLog
from eventlog.tasks import end
from eventlog.vocabulary import MessageReceived
from projections import History, Projector
from tests.clusters import Cluster
from tests.support import eventually

pytestmark = pytest.mark.cluster

PARTITIONS = 6
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
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
