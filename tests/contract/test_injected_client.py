"""A log over a client of yours, which stays as it was."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import unquote

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from eventlog import BlockingEventLog, EventLog
from tests.conftest import IS_CLUSTER
from tests.logs import all_texts, message, messages

pytestmark = pytest.mark.skipif(
    IS_CLUSTER, reason="the clients are of one server; test_cluster has one of a cluster"
)

_numbers = itertools.count(1)


@pytest.fixture
def path(server_url: str) -> str:
    return unquote(server_url.removeprefix("unix://"))


@pytest.fixture
def prefix() -> str:
    return f"injected{next(_numbers)}"


@pytest.mark.parametrize("decode_responses", [True, False])
@pytest.mark.parametrize("retry", [None, AsyncRetry(NoBackoff(), 5)])
async def test_an_async_one_is_neither_closed_nor_changed(
    path: str, prefix: str, decode_responses: bool, retry: Any
):
    client = redis.asyncio.Redis(
        unix_socket_path=path, db=5, decode_responses=decode_responses, retry=retry
    )
    kept = dict(client.connection_pool.connection_kwargs)
    await client.set(f"{prefix}:mine", "x")
    async with EventLog.open(client=client, key_prefix=prefix) as log:
        await log.append(messages("c", 5))
        assert await all_texts(log, "c") == list("01234")
        entry = await anext(await log.tail("start"))
        assert entry.event == (await log.read(conversation="c"))[0].event
        assert (await log.heads())[log.partition_of("c")].n == 5
    assert client.connection_pool.connection_kwargs == kept
    assert await client.get(f"{prefix}:mine") == ("x" if decode_responses else b"x")
    [stream] = [k async for k in client.scan_iter(f"{{{prefix}:*}}:stream")]
    assert await client.xlen(stream) == 5, "in the client's database"
    await client.aclose()


@pytest.mark.parametrize("decode_responses", [True, False])
def test_a_blocking_one(path: str, prefix: str, decode_responses: bool):
    with redis.Redis(
        unix_socket_path=path, decode_responses=decode_responses, retry=Retry(NoBackoff(), 3)
    ) as client:
        with BlockingEventLog.open(client=client, key_prefix=prefix) as log:
            log.append(message("c", "hello"))
            [entry] = log.read(conversation="c")
            assert entry.event.text == "hello"  # type: ignore[attr-defined]
        assert client.ping()
