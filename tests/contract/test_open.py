"""Opening a log on a server: what is fixed at creation, and what makes it refuse."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import msgspec
import pytest

from eventlog import EventLog, MessageReceived, Settings
from eventlog.errors import (
    AuthenticationFailed,
    ConfigurationError,
    LogNotOpen,
    LogUnavailable,
    PartitionMismatch,
    UnsafeEviction,
)
from tests.support import RawServer

_numbers = itertools.count(1)


@pytest.fixture
def prefix() -> str:
    return f"open{next(_numbers)}"


def message() -> MessageReceived:
    return MessageReceived(conversation="c", text="x")


async def test_the_partition_count_is_fixed_by_the_first(server_url, prefix):
    async with EventLog.open(server_url, key_prefix=prefix, partition_count=3) as log:
        assert log.partition_count == 3
    async with EventLog.open(server_url, key_prefix=prefix) as log:
        assert log.partition_count == 3
    with pytest.raises(PartitionMismatch, match=r"3 partitions, not 5\b.*key_prefix"):
        await EventLog.open(server_url, key_prefix=prefix, partition_count=5)


async def test_it_is_8_where_nobody_says(server_url, prefix):
    async with EventLog.open(server_url, key_prefix=prefix) as log:
        assert log.partition_count == 8


async def test_of_many_who_create_it_at_once_one_decides(server_url, prefix):
    outcomes = await asyncio.gather(
        *(
            EventLog.open(server_url, key_prefix=prefix, partition_count=n).__aenter__()
            for n in range(1, 9)
        ),
        return_exceptions=True,
    )
    opened = [o for o in outcomes if isinstance(o, EventLog)]
    assert len(opened) == 1
    assert sum(isinstance(o, PartitionMismatch) for o in outcomes) == 7
    await opened[0].close()


async def test_a_newer_format_is_left_alone(server_url, prefix):
    async with EventLog.open(server_url, key_prefix=prefix) as log:
        await log.client.hset(log.keys.meta(), "format", "2")
    with pytest.raises(ConfigurationError, match="Upgrade"):
        await EventLog.open(server_url, key_prefix=prefix)


async def test_it_is_the_same_log_after_closing_and_opening(server_url, prefix):
    log = EventLog.open(server_url, key_prefix=prefix)
    for n in range(1, 4):
        async with log:
            assert (await log.append(message())).sequence == n


async def test_awaiting_opens_it_too(server_url, prefix):
    log = await EventLog.open(server_url, key_prefix=prefix)
    try:
        assert await log.ping() is True
    finally:
        await log.close()


async def test_the_servers_address_is_known_while_it_is_open(server_url, prefix):
    log = EventLog.open(server_url, key_prefix=prefix)
    async with log:
        assert log.server_url == server_url
    with pytest.raises(LogNotOpen):
        _ = log.server_url


async def test_settings_and_arguments_together(server_url, prefix):
    settings = Settings(key_prefix="other", partition_count=2)
    log = EventLog.open(server_url, settings=settings, key_prefix=prefix)
    assert log.settings == msgspec.structs.replace(settings, url=server_url, key_prefix=prefix)
    async with log:
        assert log.partition_count == 2


async def test_logs_of_two_prefixes_share_nothing(server_url, prefix):
    async with (
        EventLog.open(server_url, key_prefix=prefix) as one,
        EventLog.open(server_url, key_prefix=f"{prefix}:0") as two,
    ):
        event = message()
        assert not (await one.append(event)).duplicate
        assert not (await two.append(event)).duplicate


async def test_nobody_there(tmp_path: Path):
    with pytest.raises(LogUnavailable, match=r"none\.sock"):
        await EventLog.open(f"unix://{tmp_path}/none.sock")


async def test_a_wrong_password(tmp_path: Path):
    with RawServer(tmp_path, requirepass="right") as server:
        for password in ("s3cret", None):
            with pytest.raises(AuthenticationFailed, match="REDIS_PASSWORD") as caught:
                await EventLog.open(server.url, password=password)
            assert "s3cret" not in str(caught.value)
        async with EventLog.open(server.url, password="right") as log:
            assert await log.ping() is True


async def test_a_server_that_may_evict(tmp_path: Path):
    server = RawServer(tmp_path, maxmemory_policy="allkeys-lru")
    with server, pytest.raises(UnsafeEviction, match="noeviction"):
        await EventLog.open(server.url)


async def test_an_idle_tail_outlives_the_shortest_of_time_outs(server_url, prefix):
    async with EventLog.open(
        server_url, key_prefix=prefix, command_timeout_s=0.15, max_retries=0
    ) as log:
        tail = await log.tail()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(tail), 0.5)
        result = await log.append(message())
        assert (await anext(tail)).id == result.id


async def test_a_server_that_goes_away_and_comes_back(tmp_path: Path):
    with RawServer(tmp_path, appendonly="yes", appendfsync="always") as server:
        async with EventLog.open(server.url, max_retries=0) as log:
            event = message()
            await log.append(event)
            server.kill()
            assert await log.ping() is False
            with pytest.raises(LogUnavailable, match=r"raw\.sock"):
                await log.append(message())
            with pytest.raises(LogUnavailable):
                await log.heads()
            server.start()
            assert await log.ping() is True
            assert (await log.append(event)).duplicate
            assert (await log.append(message())).sequence == 2
