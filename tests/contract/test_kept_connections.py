"""Connections that appends keep: closed by the server, too slow, cancelled, too many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import exceptions as redis_errors
from redis.asyncio import Redis

from eventlog import EventLog
from eventlog.cancellation import CancellableClient
from eventlog.clients import new_client
from eventlog.errors import LogUnavailable
from eventlog.kept_connections import MAX_KEPT_COUNT, KeptConnections
from eventlog.settings import Settings
from tests.logs import message
from tests.support import RawServer, eventually, turns


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawServer]:
    with RawServer(tmp_path_factory.mktemp("raw")) as running:
        yield running


@pytest.fixture
async def other(server: RawServer) -> AsyncIterator[Redis]:
    """Return somebody else's client."""
    client = new_client(Settings(), server.url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def pool_owner(server: RawServer) -> AsyncIterator[CancellableClient]:
    client = new_client(Settings(), server.url)
    assert isinstance(client, CancellableClient)
    yield client
    await client.aclose()


async def connection_count(client: Redis) -> int:
    return len(await client.client_list())


async def test_a_connection_that_the_server_closed_costs_no_try(server: RawServer, other: Redis):
    async with EventLog.open(server.url, max_retries=0) as log:
        for number in range(3):
            assert (await log.append(message("c", number))).sequence == number + 1
            await other.client_kill_filter(_type="normal", skipme=True)
            await eventually(lambda: _is_alone(other))


async def _is_alone(client: Redis) -> bool:
    return await connection_count(client) == 1


async def test_a_reply_that_is_late_is_nobody_elses(server: RawServer, other: Redis):
    async with EventLog.open(
        server.url, max_retries=0, command_timeout_s=0.15, partition_count=1
    ) as log:
        await log.append(message("c", 0))
        await other.client_pause(400)
        with pytest.raises(LogUnavailable, match=r"no answer within 0\.15 s"):
            await log.append(message("c", 1))
        await other.client_unpause()
        results = [await log.append(message("c", number)) for number in (1, 2)]
        assert [result.sequence for result in results] == [2, 3]


async def test_at_any_moment_a_cancelled_call_leaves_no_reply_behind(
    pool_owner: CancellableClient,
):
    kept = KeptConnections(pool_owner, timeout_s=3)
    for moment in range(40):
        call = asyncio.create_task(kept.execute_command("ECHO", f"cancelled {moment}"))
        await turns(moment)
        call.cancel()
        await asyncio.wait([call])
        assert await kept.execute_command("ECHO", f"{moment}") == b"%d" % moment


async def test_of_many_calls_at_once_few_connections_are_kept(pool_owner: CancellableClient):
    kept = KeptConnections(pool_owner, timeout_s=3)
    calls = [kept.execute_command("ECHO", str(n)) for n in range(3 * MAX_KEPT_COUNT)]
    assert await asyncio.gather(*calls) == [b"%d" % n for n in range(3 * MAX_KEPT_COUNT)]
    in_use: Any = pool_owner.connection_pool
    assert len(in_use._in_use_connections) == MAX_KEPT_COUNT


async def test_an_error_of_the_server_is_raised(pool_owner: CancellableClient):
    kept = KeptConnections(pool_owner, timeout_s=3)
    with pytest.raises(redis_errors.NoScriptError):
        await kept.execute_command("EVALSHA", "0" * 40, 0)
    assert await kept.execute_command("PING") == b"PONG"


async def test_a_server_that_was_started_anew(tmp_path: Path):
    with RawServer(tmp_path, appendonly="yes", appendfsync="always") as server:
        async with EventLog.open(server.url, max_retries=0, partition_count=1) as log:
            await asyncio.gather(*(log.append(message("c", number)) for number in range(5)))
            server.kill()
            server.start()
            await turns(3)  # the ends of the connections arrive
            assert (await log.append(message("c", 5))).sequence == 6
