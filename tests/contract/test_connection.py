from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import pytest
import redis.asyncio
from redis import exceptions as redis_errors
from redis.connection import AbstractConnection

from eventlog import clients
from eventlog.clients import connect_in_bulk, new_client
from eventlog.connection import (
    check_server,
    in_our_words,
    parse_server,
    require_fit,
    translate,
)
from eventlog.errors import (
    AuthenticationFailed,
    ConfigurationError,
    EventLogError,
    LogUnavailable,
    OutOfMemory,
    UnsafeEviction,
    UnsupportedServer,
)
from eventlog.settings import Settings
from tests.support import RawServer, eventually, free_port

PASSWORD = "s3c/r@t pass:word"
PASSWORD_ENCODED = "s3c%2Fr%40t%20pass%3Aword"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawServer]:
    with RawServer(tmp_path_factory.mktemp("raw"), tcp=True) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawServer]:
    folder = tmp_path_factory.mktemp("guarded")
    with RawServer(folder, tcp=True, requirepass=PASSWORD) as running:
        yield running


@asynccontextmanager
async def client_of(url: str, **settings: object) -> AsyncIterator[redis.asyncio.Redis]:
    client = new_client(msgspec.convert({"url": url, **settings}, Settings), url)
    try:
        yield client
    finally:
        await client.aclose()


async def failure(url: str, **settings: object) -> EventLogError:
    """Return what a first command's failure is translated to."""
    async with client_of(url, **settings) as client:
        with pytest.raises((redis_errors.RedisError, OSError)) as caught:
            await client.xadd("s", {"e": "1"})
    translated = translate(caught.value, url)
    assert translated is not None
    return translated


class TestReplies:
    async def test_bulk_replies_are_the_servers_own_lists_of_bytes(self, server):
        async with client_of(server.url) as client:
            await client.flushdb()
            await client.execute_command("XADD", "s", "5-1", "e", "é")
            await client.xgroup_create("s", "g", id="0")
            entries = [[b"5-1", [b"e", "é".encode()]]]
            assert await client.xrange("s") == entries
            assert await client.xrevrange("s") == entries
            assert await client.xread({"s": "0"}) == [[b"s", entries]]
            assert await client.xreadgroup("g", "c", {"s": ">"}) == [[b"s", entries]]
            assert (await client.xinfo_stream("s"))[:2] == [b"length", 1]

    async def test_the_url_cannot_change_protocol_decoding_or_retries(self, server):
        url = f"{server.url}?protocol=3&decode_responses=true&retry_on_timeout=true"
        async with client_of(url) as client:
            await client.hset("h", "f", "v")
            # In RESP3 it were a map.
            port = str(server.port).encode()
            assert await client.execute_command("CONFIG", "GET", "port") == [b"port", port]
            assert await client.hget("h", "f") == b"v"
            assert client.get_retry().get_retries() == 0

    async def test_the_database_of_the_url_wins_over_the_setting(self, server):
        async with client_of(server.url, db=2) as two, client_of(f"{server.url}/3", db=2) as three:
            await two.set("where", "two")
            await three.set("where", "three")
        async with client_of(f"{server.url}/2") as two, client_of(f"{server.url}/3") as three:
            assert [await two.get("where"), await three.get("where")] == [b"two", b"three"]

    async def test_commands_wait_for_a_connection_rather_than_open_more(self, server, monkeypatch):
        monkeypatch.setattr(clients, "MAX_CONNECTION_COUNT", 2)
        async with client_of(server.url) as client:
            ids = await asyncio.gather(*(client.client_id() for _ in range(50)))
        assert len(set(ids)) <= 2

    async def test_a_cancelled_command_leaves_no_reply_behind_for_the_next(self, server):
        async with client_of(server.url) as client:
            await client.set("mine", "right")
            waiting = asyncio.create_task(client.blpop(["never"], timeout=1))
            async with client_of(server.url) as other:
                await eventually(lambda: _blocked(other))
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                await other.rpush("never", "late")
            assert await client.get("mine") == b"right"


async def _blocked(client: redis.asyncio.Redis) -> bool:
    return bool((await client.info("clients"))["blocked_clients"])


class TestOnce:
    async def test_a_write_whose_reply_is_lost_is_sent_once(self, server):
        proxy = await asyncio.start_server(_dropping_replies_to(b"XADD", server.port), "127.0.0.1")
        port = proxy.sockets[0].getsockname()[1]
        async with proxy, client_of(server.url) as direct:
            await direct.delete("s")
            lost = await failure(f"redis://127.0.0.1:{port}")
            assert isinstance(lost, LogUnavailable)
            assert await direct.xlen("s") == 1


def _dropping_replies_to(command: bytes, port: int):
    """Return a handler that passes everything on, and hangs up when `command` was answered."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while request := await reader.read(65536):
                up_writer.write(request)
                reply = await up_reader.read(65536)
                if command in request:
                    break
                writer.write(reply)
        finally:
            for stream in (writer, up_writer):
                stream.close()
                await stream.wait_closed()

    return serve


class TestUnreachable:
    async def test_nobody_listens(self):
        port = free_port()
        error = await failure(f"redis://bot:{PASSWORD_ENCODED}@127.0.0.1:{port}")
        assert type(error) is LogUnavailable
        assert f"***@127.0.0.1:{port}" in str(error)
        _shows_no_secret(error)

    async def test_no_such_socket(self, tmp_path: Path):
        error = await failure(f"unix://{tmp_path}/none.sock")
        assert type(error) is LogUnavailable
        assert "none.sock" in str(error)

    async def test_a_server_that_never_answers_is_given_up_in_time(self):
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(-1)
            writer.close()

        listener = await asyncio.start_server(silent, "127.0.0.1")
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            began_s = time.monotonic()
            error = await failure(f"redis://127.0.0.1:{port}", command_timeout_s=0.2)
            assert type(error) is LogUnavailable
            assert time.monotonic() - began_s < 3

    async def test_tls_where_the_server_speaks_none(self, server):
        error = await failure(f"rediss://127.0.0.1:{server.port}", connect_timeout_s=0.3)
        assert type(error) is LogUnavailable
        assert "TLS" in error.remedy

    async def test_a_replica(self, tmp_path: Path):
        with RawServer(tmp_path) as replica:
            async with client_of(replica.url) as client:
                await client.execute_command("REPLICAOF", "127.0.0.1", "1")
                assert (await check_server(client)).is_replica
            error = await failure(replica.url)
            assert type(error) is LogUnavailable
            assert "primary" in error.remedy
            async with client_of(replica.url) as client:
                await client.config_set("replica-serve-stale-data", "no")
                with pytest.raises(redis_errors.RedisError) as caught:
                    await client.get("k")
            assert "MASTERDOWN" in str(translate(caught.value, replica.url))


class TestCredentials:
    async def test_the_right_password_by_setting_and_by_url(self, guarded):
        port = guarded.port
        async with client_of(guarded.url, password=PASSWORD) as client:
            assert await client.ping()
        async with client_of(f"redis://:{PASSWORD_ENCODED}@127.0.0.1:{port}") as client:
            assert await client.ping()
        async with client_of(f"redis://127.0.0.1:{port}?password={PASSWORD_ENCODED}") as client:
            assert await client.ping()

    async def test_the_embedded_server_is_not_sent_the_password(self, server):
        client = new_client(Settings(password="for another"), server.url)
        assert await client.ping()
        await client.aclose()

    @pytest.mark.parametrize("is_tcp", [True, False])  # redis-py's errors differ between the two
    @pytest.mark.parametrize("password", [None, "s3c-wrong"])
    async def test_no_or_a_wrong_password(self, tmp_path, password, is_tcp):
        with RawServer(tmp_path, tcp=is_tcp, requirepass=PASSWORD) as guarded:
            error = await failure(guarded.url, password=password)
        assert type(error) is AuthenticationFailed
        assert "REDIS_PASSWORD" in error.remedy
        _shows_no_secret(error)

    async def test_a_wrong_password_in_the_url_is_not_shown(self, guarded):
        error = await failure(f"redis://s3cuser:s3c%2Fwrong@127.0.0.1:{guarded.port}")
        assert type(error) is AuthenticationFailed
        _shows_no_secret(error)

    async def test_a_user_without_the_right(self, server):
        async with client_of(server.url) as client:
            await client.execute_command(
                "ACL", "SETUSER", "s3creader", "on", ">pw", "~*", "+@read", "+info", "-xadd"
            )
        url = f"redis://s3creader:pw@127.0.0.1:{server.port}"
        error = await failure(url)
        assert type(error) is AuthenticationFailed
        assert "eventlog acl" in error.remedy
        _shows_no_secret(error)
        async with client_of(url) as client:
            assert (await check_server(client)).name in ("redis", "valkey")  # CONFIG is forbidden

    @pytest.mark.parametrize(
        "url",
        [
            "redis://:s3c/ret@host:1",
            "redis://host/0?password=s3cret&colour=1",
            "redis://:s3cret@host/0?db=one",
            "http://:s3cret@host",
            "redis://:s3c ret@host:port",
        ],
    )
    async def test_an_address_that_cannot_be_parsed_is_not_shown_in_full(self, url):
        with pytest.raises(ConfigurationError, match="percent-encoded") as caught:
            new_client(Settings(url=url), url)
        with pytest.raises(ConfigurationError, match="percent-encoded") as in_bulk:
            connect_in_bulk(Settings(url=url), url, "k")
        for error in (caught.value, in_bulk.value):
            _shows_no_secret(error)
            assert error.__cause__ is None
            assert error.__suppress_context__

    @pytest.mark.parametrize("spelling", [PASSWORD, PASSWORD_ENCODED, "s3c%2Fr%40t+pass%3Aword"])
    def test_no_spelling_of_the_password_passes(self, spelling):
        url = f"redis://bot:{PASSWORD_ENCODED}@db:6379"
        error = translate(redis_errors.ConnectionError(f"Error 8 at {spelling}, bot."), url)
        assert error is not None
        assert "s3c" not in str(error)
        assert "bot" not in str(error)


class TestInBulk:
    """The blocking connection: the same options, and replies for whoever sent the commands."""

    def test_it_takes_password_and_database_as_the_client_does(self, guarded):
        with bulk_of(f"{guarded.url}/3", password=PASSWORD, db=2) as connection:
            connection.send_command("CLIENT", "INFO")
            assert b" db=3 " in connection.read_response()
        with (
            pytest.raises(AuthenticationFailed) as caught,
            in_our_words(Settings(url=guarded.url)),
            bulk_of(guarded.url, password="s3c-wrong") as connection,
        ):
            connection.send_command("PING")
        _shows_no_secret(caught.value)

    def test_the_url_cannot_change_protocol_or_decoding(self, server):
        with bulk_of(f"{server.url}?protocol=3&decode_responses=true") as connection:
            connection.send_command("DEL", "bulk")
            connection.send_command("XADD", "bulk", "5-1", "e", "é")
            connection.send_command("XRANGE", "bulk", "-", "+")
            connection.send_command("CONFIG", "GET", "port")
            replies = [connection.read_response() for _ in range(4)]
        assert replies[2:] == [
            [[b"5-1", [b"e", "é".encode()]]],
            [b"port", str(server.port).encode()],
        ]

    def test_a_server_that_never_answers_is_given_up_in_time(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
            with (
                pytest.raises(LogUnavailable),
                in_our_words(Settings(url=url)),
                bulk_of(url, command_timeout_s=0.2) as connection,
            ):
                connection.send_command("PING")  # it connects first, and says who it is


@contextmanager
def bulk_of(url: str, **settings: object) -> Iterator[AbstractConnection]:
    made = msgspec.convert({"url": url, **settings}, Settings)
    connection = connect_in_bulk(made, url, "k")
    try:
        yield connection
    finally:
        connection.disconnect()


def _shows_no_secret(error: EventLogError) -> None:
    for text in (str(error), repr(error), error.message, error.remedy):
        assert "s3c" not in text


class TestFitness:
    async def test_what_the_server_is(self, server):
        async with client_of(server.url) as client:
            found = await check_server(client)
        assert found.name in ("redis", "valkey")
        assert found.version >= (7, 0)
        assert found.eviction_policy == "noeviction"
        assert not found.is_appendonly
        assert not found.is_cluster
        assert not found.is_replica

    async def test_an_append_only_cluster_node(self, tmp_path: Path):
        with RawServer(tmp_path, tcp=True, appendonly="yes", cluster_enabled="yes") as node:
            async with client_of(node.url) as client:
                found = await check_server(client)
        assert (found.is_appendonly, found.is_cluster) == (True, True)

    async def test_eviction_is_refused_with_the_command_that_mends_it(self, tmp_path: Path):
        with RawServer(tmp_path, maxmemory_policy="allkeys-lru") as evicting:
            async with client_of(evicting.url) as client:
                with pytest.raises(UnsafeEviction, match="allkeys-lru") as caught:
                    await check_server(client)
                command = caught.value.remedy.split("`")[1]
                await client.execute_command(*command.split())
                assert (await check_server(client)).eviction_policy == "noeviction"

    async def test_a_full_server(self, tmp_path: Path):
        with RawServer(tmp_path, maxmemory="100kb") as full:
            error = await failure(full.url)
            assert type(error) is OutOfMemory
            assert "maxmemory" in error.remedy
            async with client_of(full.url) as client:
                with pytest.raises(redis_errors.RedisError) as caught:
                    await client.eval("return redis.call('SET', KEYS[1], 'x')", 1, "k")
            assert type(translate(caught.value, full.url)) is OutOfMemory

    async def test_a_check_fails_in_our_words(self, guarded, tmp_path):
        for url, kind in (
            (f"redis://bot:s3c@127.0.0.1:{guarded.port}", AuthenticationFailed),
            (f"redis://bot:s3c@127.0.0.1:{free_port()}", LogUnavailable),
            (f"unix://bot:s3c@{tmp_path}/none.sock", LogUnavailable),
        ):
            async with client_of(url) as client:
                with pytest.raises(LogUnavailable, match=url.rpartition("@")[2]) as caught:
                    await check_server(client)
            assert type(caught.value) is kind
            _shows_no_secret(caught.value)

    @pytest.mark.parametrize(
        ("info", "is_fit", "has_waitaof"),
        [
            ({"redis_version": "6.2.14"}, False, False),
            ({"redis_version": "7.0.15"}, True, False),
            ({"redis_version": "7.2.5"}, True, True),
            ({"redis_version": "7.4.2"}, True, False),
            ({"redis_version": "8.4.0"}, True, True),
            ({"redis_version": "7.2.4", "valkey_version": "7.2.9"}, False, False),
            ({"redis_version": "7.2.4", "valkey_version": "8.0.0"}, True, False),
            ({"redis_version": "7.2.4", "valkey_version": "9.1.2-rc1"}, True, False),
        ],
    )
    def test_versions(self, info, is_fit, has_waitaof):
        server = parse_server({"maxmemory_policy": "noeviction", **info})
        assert server.has_waitaof is has_waitaof
        if is_fit:
            require_fit(server)
        else:
            with pytest.raises(UnsupportedServer, match=r"Redis 7\.0 or newer or Valkey 8"):
                require_fit(server)


class TestTranslate:
    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (redis_errors.BusyLoadingError("loading", status_code="LOADING"), LogUnavailable),
            (redis_errors.ResponseError("MISCONF Errors writing to the AOF file"), LogUnavailable),
            (redis_errors.ResponseError("NOREPLICAS Not enough good replicas"), LogUnavailable),
            (redis_errors.ResponseError("BUSY a script is running"), LogUnavailable),
            (redis_errors.TimeoutError("Timeout reading from socket"), LogUnavailable),
            (redis_errors.MaxConnectionsError("Too many connections"), LogUnavailable),
            (ConnectionResetError(104, "reset by peer"), LogUnavailable),
            (TimeoutError(), LogUnavailable),
            (OSError(-2, "Name or service not known"), LogUnavailable),
        ],
    )
    def test_faults_of_the_way_to_the_server(self, error, kind):
        translated = translate(error, "redis://:secret@db:6379")
        assert type(translated) is kind
        assert translated.remedy
        assert "redis://***@db:6379" in str(translated)

    @pytest.mark.parametrize(
        "error",
        [
            redis_errors.ResponseError("WRONGTYPE Operation against a key"),
            redis_errors.NoScriptError("No matching script."),
            redis_errors.DataError("Invalid input"),
            ValueError("bug"),
        ],
    )
    def test_a_bug_is_not_dressed_up(self, error):
        assert translate(error, "redis://db") is None
