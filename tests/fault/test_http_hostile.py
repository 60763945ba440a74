"""What a hostile or broken client, and a server that dies, may do to the HTTP API: not much."""

from __future__ import annotations

import asyncio
import random
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx2 as httpx
import pytest

from service.http import protocol
from service.http.reading import Limits
from tests.http_service import Running, running
from tests.logs import message
from tests.sse import Source
from tests.support import RawServer, eventually

EVENT = {"events": [{"type": "message.received", "conversation": "a:1", "text": "x"}]}
HEALTH_WITHIN_S = 2.0
"""A shared machine may be busy; what would make it wait waits for much longer."""


async def is_well(api: Running) -> bool:
    begun_s = time.monotonic()
    answer = await api.http.get("/health")
    return answer.status_code == 200 and time.monotonic() - begun_s < HEALTH_WITHIN_S


@asynccontextmanager
async def raw(
    api: Running, data: bytes = b""
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*api.address)
    writer.write(data)
    try:
        yield reader, writer
    finally:
        writer.close()


def post(length: int | str, body: bytes = b"") -> bytes:
    head = (
        "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    return head.encode() + body


async def test_garbage_is_refused_and_nothing_written(server_url):
    chance = random.Random(8)
    bodies = [
        b"", b"{", b"null", b"[]", b"\xff\xfe", b'"\\ud800"', b'{"events":[{"type":7}]}',
        b'{"events":[{"type":"message.received","conversation":"\\ud800","text":"x"}]}',
        b'{"events":[{"type":"message.received","conversation":"","text":"x"}]}',
        b'{"events":[{"type":"message.received","conversation":"a","text":"x","id":""}]}',
        b'{"events":[{"type":"message.received","conversation":"a","text":"x","schema":1e400}]}',
        b'{"events":' + b"[" * 100_000, b'{"a":' * 10_000, b"{" + b" " * 100_000,
        *(chance.randbytes(chance.randrange(1, 300)) for _ in range(30)),
    ]  # fmt: skip
    async with running(server_url) as api:
        for body in bodies:
            answer = await api.http.post(
                "/v1/events", content=body, headers={"Content-Type": "application/json"}
            )
            assert 400 <= answer.status_code < 500, (body[:80], answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
        for path in ("/v1/sessions/%ff", "/v1/sessions?status=%ff", "/v1/conversations?cursor=%00"):
            assert (await api.http.get(path)).status_code == 400, path
        assert (await api.http.get("/v1/sessions/a%00b")).status_code == 404
        nul = {**EVENT["events"][0], "conversation": "a\0b", "text": "\0"}
        assert (await api.http.post("/v1/events", json={"events": [nul]})).status_code == 201
        messages = (await api.http.get("/v1/conversations/a%00b/messages")).json()["messages"]
        assert [each["event"]["text"] for each in messages] == ["\0"]
        assert sum(head.n for head in await api.log.heads()) == 1
        async with raw(api, b"\x16\x03\x01 not http\r\n\r\n") as (reader, _):
            assert (await reader.read()).startswith(b"HTTP/1.1 400")
        assert await is_well(api)


async def test_a_hundred_megabytes_are_refused_unread(server_url):
    async with running(server_url) as api:
        begun_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        async with raw(api, post(100_000_000, b"[" * 65_536)) as (reader, _):
            assert b" 413 " in await reader.readuntil(b"\r\n")
        chunked = (
            b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        async with raw(api, chunked) as (reader, writer):
            answered = asyncio.create_task(reader.readuntil(b"\r\n"))
            sent_count = 0
            while not answered.done() and sent_count < 100:
                writer.write(b"100000\r\n" + b" " * 0x100000 + b"\r\n")
                sent_count += 1
                await asyncio.wait({answered, asyncio.ensure_future(_drained(writer))},
                                   return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
            assert b" 413 " in await answered
            assert sent_count < 30
        assert await is_well(api)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun_kb < 100_000


async def _drained(writer: asyncio.StreamWriter) -> None:
    try:
        await writer.drain()
    except ConnectionError:
        return


async def test_a_thousand_slow_connections_hold_up_nobody(server_url, monkeypatch):
    monkeypatch.setattr(protocol, "HEADERS_WITHIN_S", 4.0)
    async with running(server_url, limits=Limits(body_timeout_s=4.0, running_count=8)) as api:
        opened = [await asyncio.open_connection(*api.address) for _ in range(1000)]
        for number, (_, writer) in enumerate(opened):
            # A third says nothing, a third half a request, a third half a body.
            writer.write((b"", b"GET /health HTTP/1.1\r\nHo", post(50, b'{"ev'))[number % 3])
        assert await is_well(api)
        assert (await api.http.post("/v1/events", json=EVENT)).status_code == 201
        ends = await asyncio.wait_for(asyncio.gather(*(r.read() for r, _ in opened)), 30)
        assert {end[:12] for end in ends[2::3]} == {b"HTTP/1.1 408"}
        assert set(ends[0::3]) == {b""}, "closed without a word"
        for _, writer in opened:
            writer.close()
        assert await is_well(api)


async def test_what_is_too_much_at_once_is_told_to_come_again(server_url):
    async with running(server_url, limits=Limits(running_count=1, waiting_count=0)) as api:
        slow = {"sql": "SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b"}
        running_query = asyncio.create_task(
            api.http.post("/v1/query", json={**slow, "timeout_s": 3})
        )
        slots = api.app.state.shared.slots
        await eventually(lambda: slots.free_count == 0)
        refused = await api.http.get("/v1/sessions")
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert await is_well(api)
        running_query.cancel()  # the client goes, and its query with it
        await eventually(lambda: slots.free_count == 1, timeout_s=2)
        assert (await api.http.get("/v1/sessions")).status_code == 200


async def test_a_reader_that_takes_nothing_is_cut_off(server_url, monkeypatch):
    monkeypatch.setattr(protocol, "TAKEN_WITHIN_S", 0.2)
    async with running(server_url) as api:
        async with raw(api, b"GET /v1/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n") as (
            reader,
            writer,
        ):
            await reader.readuntil(b"event: state")
            writer.transport.pause_reading()
            text = "x" * 100_000
            for n in range(100):
                await api.log.append(message("a:1", f"{n}{text}"))
            await eventually(lambda: api.hub.followed_count == 0)
        assert await is_well(api)


async def test_while_the_log_is_away_it_says_so_and_recovers(tmp_path):
    with RawServer(tmp_path, appendonly="yes", appendfsync="always") as server:
        async with running(server.url, max_retries=0, command_timeout_s=1.0) as api:
            assert (await api.http.post("/v1/events", json=EVENT)).status_code == 201
            stream = await Source(api.url, "/v1/events/stream").open()
            events = stream.events()
            assert (await anext(events)).event == "state"
            server.kill()
            for method, path, body in (
                ("POST", "/v1/events", EVENT),
                ("GET", "/v1/sessions", None),
                ("GET", "/v1/sessions/s/stream", None),
            ):
                answer = await api.http.request(method, path, json=body)
                assert (answer.status_code, answer.json()["code"]) == (503, "log_unavailable")
                assert int(answer.headers["retry-after"]) > 0
            ready = await api.http.get("/ready")
            assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
            assert await is_well(api)
            server.start()
            await eventually(lambda: _answers(api))
            again = await api.http.post("/v1/events", json=EVENT)
            assert again.status_code == 201
            sent = await asyncio.wait_for(anext(events), 10)
            assert sent.event == "entry", "the stream outlived it"
            assert sent.data["sequence"] == again.json()["results"][0]["sequence"]
            await stream.close()


async def _answers(api: Running) -> bool:
    return (await api.http.get("/ready")).status_code == 200


async def test_with_a_spool_appends_are_taken_meanwhile(tmp_path):
    (tmp_path / "raw").mkdir()
    with RawServer(tmp_path / "raw", appendonly="yes", appendfsync="always") as server:
        spool = {"spool_dir": str(tmp_path / "spool"), "max_retries": 0}
        async with running(server.url, command_timeout_s=1.0, **spool) as api:
            server.kill()
            answer = await api.http.post("/v1/events", json=EVENT)
            assert answer.status_code == 202
            assert answer.json()["results"][0]["spooled"]
            server.start()

            async def is_drained() -> bool:
                return not api.log.is_degraded and await _answers(api)

            await eventually(is_drained)
            page = (await api.http.get("/v1/conversations/a:1/messages")).json()
            assert len(page["messages"]) == 1


async def test_connections_beyond_what_it_may_open_are_closed(server_url):
    async with running(server_url, limits=Limits(connection_count=3)) as api:
        opened = [await asyncio.open_connection(*api.address) for _ in range(3)]
        reader, writer = await asyncio.open_connection(*api.address)
        with suppress(ConnectionError):
            assert await reader.read() == b""
        for _, each in (*opened, (reader, writer)):
            each.close()
        await eventually(lambda: _is_alive(api))


async def _is_alive(api: Running) -> bool:
    with suppress(httpx.TransportError):
        return (await api.http.get("/health")).status_code == 200
    return False


@pytest.mark.parametrize("client_ends", [True, False])
async def test_the_service_ends_promptly_whoever_is_connected(server_url, client_ends):
    async with running(server_url) as api:
        streams = [await Source(api.url, "/v1/events/stream").open() for _ in range(5)]
        for each in streams:
            await anext(each.events())
        if client_ends:
            for each in streams:
                await each.close()
        begun_s = time.monotonic()
    assert time.monotonic() - begun_s < 4
    for each in streams:
        await each.close()
