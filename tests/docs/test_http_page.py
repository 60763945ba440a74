"""The commands of the page about HTTP, sent to a service as curl would send them."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from tests.docs.pages import ROOT, blocks, commands
from tests.http_service import Running, running
from tests.sse import Source

PAGE = ROOT / "docs" / "howto" / "http.md"
ADDRESS = "http://127.0.0.1:8420"


class Call(NamedTuple):
    """What a curl command asks."""

    path: str
    method: str = "GET"
    body: str | None = None
    is_stream: bool = False


def call_of(words: list[str]) -> Call:
    """Return what the words after `curl` ask; fail for an option that this does not know."""
    call, rest = Call(""), iter(words)
    for word in rest:
        if word == "--json":
            call = call._replace(method="POST", body=next(rest))
        elif word == "-X":
            call = call._replace(method=next(rest))
        elif word == "-N":
            call = call._replace(is_stream=True)
        else:
            assert word.startswith(ADDRESS), word
            call = call._replace(path=word.removeprefix(ADDRESS))
    return call


async def answer(api: Running, call: Call) -> int:
    if call.is_stream:
        source = await Source(api.url, call.path).open()
        async with asyncio.timeout(5):
            first = await anext(source.events())
        assert first.event == "state"
        await source.close()
        return source.status
    headers = {"Content-Type": "application/json"} if call.body else {}
    sent = await api.http.request(call.method, call.path, content=call.body, headers=headers)
    assert sent.status_code < 300, (call, sent.text)
    return sent.status_code


async def test_every_call_of_the_page_is_answered(server_url):
    shown = [w for b in blocks(PAGE) if b.language == "console" for w in commands(b)]
    calls = [call_of(words[1:]) for words in shown if words[0] == "curl"]
    async with running(server_url) as api:
        statuses = [await answer(api, call) for call in calls]
    assert len(statuses) > 20
    assert {200, 201, 202} <= set(statuses)
