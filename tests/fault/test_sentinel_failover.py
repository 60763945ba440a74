"""A primary behind Sentinel that dies, and one that is demoted, while bots append."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analytics import Archiver, DirectoryStorage
from analytics.past import ArchivedPast
from eventlog.errors import LogUnavailable
from eventlog.log import EventLog
from eventlog.sentinel import SentinelClient
from eventlog.settings import Durability
from eventlog.vocabulary import MessageReceived
from service.checks import examine
from tests.clusters import PASSWORD, SENTINEL_PASSWORD, SentinelSet
from tests.fault.loads import Load, check_history, entries_of, lost
from tests.support import eventually, eventually_sync

pytestmark = pytest.mark.sentinel

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelSet]:
    with SentinelSet(tmp_path_factory.mktemp("sentinel")) as running:
        yield running


def opened(servers: SentinelSet, **settings: Any) -> EventLog:
    for server in servers.servers:
        if not server.is_running:
            server.start()
            servers.follow(server)
    eventually_sync(servers.is_whole, timeout_s=20)
    return EventLog.open(
        servers.url,
        key_prefix=f"s{next(_numbers)}",
        partition_count=3,
        command_timeout_s=0.5,
        max_retries=1,
        **settings,
    )


@pytest.mark.parametrize(
    "durability", ["memory", pytest.param("replicated", marks=pytest.mark.soak)]
)
async def test_the_primary_dies_under_load(servers: SentinelSet, durability: Durability):
    async with opened(servers) as log:
        assert isinstance(log.client, SentinelClient)
        primary = servers.primary
        async with Load(log, durability) as load:
            await load.more(200)
            primary.kill()
            before = set(load.acknowledged)
            await eventually(lambda: servers.primary is not primary, timeout_s=30)
            if durability == "replicated":
                primary.start()
                servers.follow(primary)  # who took over has no replica until the dead one is back
            await load.more(200)
        entries = await entries_of(log)
    check_history(entries)
    gone = lost(entries, load.acknowledged)
    assert load.refused_count
    assert set(gone) <= (before if durability == "memory" else set())


@pytest.mark.soak
async def test_a_primary_that_wakes_up_demoted_takes_nothing(servers: SentinelSet):
    async with opened(servers) as log:
        primary = servers.primary
        async with Load(log, "replicated") as load:
            await load.more(100)
            os.kill(primary.pid, signal.SIGSTOP)
            await eventually(lambda: servers.primary is not primary, timeout_s=30)
            os.kill(primary.pid, signal.SIGCONT)
            servers.follow(primary)
            await load.more(200)
        entries = await entries_of(log)
    check_history(entries)
    assert lost(entries, load.acknowledged) == []


async def test_all_programs_find_it_by_its_sentinels(servers: SentinelSet, tmp_path: Path):
    async with opened(servers, data_dir=str(tmp_path)) as log:
        for secret in (PASSWORD, "s3c%2Fret", SENTINEL_PASSWORD):
            assert secret not in repr(log.settings)
        await log.append([MessageReceived(conversation="chat:1", text=str(n)) for n in range(50)])
        storage = DirectoryStorage(log.settings.archive_path)
        async with Archiver(log, storage) as archiver:
            await archiver.run_once()
        position = await ArchivedPast(storage).position(log.partition_of("chat:1"))
        assert position.n == 50
        findings = {each.check: each for each in await examine(log)}
        assert findings["server"].verdict == "fine"


async def test_a_service_that_no_sentinel_knows(servers: SentinelSet):
    url = servers.url.replace("/main?", "/other?")
    with pytest.raises(LogUnavailable, match="'other'") as caught:
        await EventLog.open(url)
    assert SENTINEL_PASSWORD not in str(caught.value)


async def test_a_wrong_password_for_the_sentinels(servers: SentinelSet):
    url = servers.url.replace(SENTINEL_PASSWORD, "wr0ng")
    with pytest.raises(LogUnavailable) as caught:
        await EventLog.open(url)
    assert "wr0ng" not in str(caught.value)
