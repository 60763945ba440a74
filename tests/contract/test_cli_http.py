"""`eventlog serve` and `eventlog up`, as a stranger starts them."""

from __future__ import annotations

import re
import signal

import httpx2 as httpx
import pytest

from tests.cli import Cli, processes_of
from tests.cli import Running as Command
from tests.support import free_port

EVENT = {"type": "message.received", "conversation": "web:1", "text": "hello"}


@pytest.fixture
def cli(tmp_path):
    yield Cli(tmp_path)
    assert processes_of(tmp_path) == []


async def address(running: Command) -> str:
    told = await running.said("HTTP on ")
    found = re.search(r"http://[\w.:\[\]]+", told)
    assert found, told
    return found[0].rstrip(".,")


async def test_serve_answers_until_it_is_stopped(cli):
    async with cli.running("serve") as serve:
        url = await address(serve)
        async with httpx.AsyncClient(base_url=url) as http:
            appended = await http.post("/v1/events", json={"events": [EVENT]})
            assert appended.status_code == 201
            async with http.stream("GET", "/v1/events/stream") as stream:
                assert stream.status_code == 200
                stopped = await serve.stop(signal.SIGINT)
        assert stopped.code == 0
        assert "stopped" in stopped.err


async def test_up_serves_and_projects_what_it_takes(cli):
    async with cli.running("up") as up:
        url = await address(up)
        await up.said("are running")
        async with httpx.AsyncClient(base_url=url) as http:
            body = {"message": "hello", "user_id": "7", "channel": "web"}
            accepted = (await http.post("/v1/chat", json=body)).json()
            page = (await http.get(accepted["history"])).json()
            assert [each["event"]["text"] for each in page["messages"]] == ["hello"]
        assert (await up.stop(signal.SIGTERM)).code == 0


async def test_of_two_on_one_port_the_second_works_without_http(cli):
    port = str(free_port())
    async with (
        cli.running("up", EVENTLOG_HTTP_PORT=port) as one,
        cli.running("up", EVENTLOG_HTTP_PORT=port) as other,
    ):
        told = [await each.said("HTTP") for each in (one, other)]
        for each in (one, other):
            await each.said("are running")
            assert (await each.stop(signal.SIGINT)).code == 0
    assert sum("no HTTP here" in line for line in told) == 1


async def test_a_port_that_is_taken_or_an_open_address_is_refused(cli):
    port = str(free_port())
    async with cli.running("serve", "--port", port) as serve:
        await address(serve)
        taken = await cli.run("serve", "--port", port)
        assert (taken.code, "Choose another" in taken.err) == (2, True)
        assert (await serve.stop(signal.SIGINT)).code == 0
    exposed = await cli.run("serve", "--host", "0.0.0.0")
    assert exposed.code == 2
    assert "EVENTLOG_HTTP_TOKENS" in exposed.err
