"""A chat platform on this machine that misbehaves as it is told, and counts what it was sent.

What it does with each request is data:

    Answer(200, {"message_id": 7})   status, body, headers
    Cut(after_bytes=5)               the connection ends within the reply; unset: before it
    Drip(interval_s=0.02)            the reply comes a byte at a time
    Garbage(b"...")                  bytes that are not HTTP
    Hold()                           no reply until `release()`

All but the last are taken in turn, one a request; the last one stays.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiohttp import web

from tests.support import eventually


class Request(NamedTuple):
    """A request as it came. Header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """A whole reply; a body that is neither bytes nor text is sent as JSON."""

    status: int = 200
    body: object = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        text = self.body if isinstance(self.body, str) else json.dumps(self.body)
        return text.encode()

    @property
    def is_taken(self) -> bool:
        """Whether the platform did what it was asked, whatever becomes of the reply."""
        return self.status // 100 == 2


OK = Answer(200, {"ok": True})


@dataclass(frozen=True)
class Cut:
    """The connection ends after so many bytes of the body; None: before the status line."""

    answer: Answer = OK
    after_bytes: int | None = None


@dataclass(frozen=True)
class Drip:
    """The body comes a byte at a time."""

    answer: Answer = OK
    interval_s: float = 0.02


@dataclass(frozen=True)
class Garbage:
    """Bytes in place of a reply, then the connection ends."""

    content: bytes = b"\x00\xff what is this\r\n\r\n"
    answer: Answer = Answer(500)


@dataclass(frozen=True)
class Hold:
    """Nothing is said until `release()`; then the answer."""

    answer: Answer = OK


Behaviour = Answer | Cut | Drip | Garbage | Hold
Script = Callable[[Request], Behaviour]


class Platform:
    """An HTTP server on a free port of this machine, from `async with` to its end.

    >>> async with Platform(Answer(503), Answer(200)) as platform:  # fails once
    ...     await post(platform.url)
    ...     assert platform.taken == {"the key": 1}

    Instead of behaviours in turn it takes one function from request to behaviour. `key_of` tells
    the idempotency key of a request; by default that is its header `webhook-id`.
    """

    def __init__(
        self,
        *behaviours: Behaviour | Script,
        key_of: Callable[[Request], str] = lambda request: request.headers.get("webhook-id", ""),
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.port = port
        """As given, or a free one from `start` on."""
        self.requests: list[Request] = []
        self.received: Counter[str] = Counter()
        """Requests by idempotency key."""
        self.taken: Counter[str] = Counter()
        """Of these, the ones that were acted on, whether or not the reply got through."""
        self.client_ports: set[int] = set()
        """One a connection."""
        self._key_of = key_of
        self._tls = tls
        self._script: list[Behaviour | Script] = list(behaviours) or [OK]
        self._released = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def then(self, *behaviours: Behaviour | Script) -> None:
        """Behave like this from now on."""
        self._script = list(behaviours)

    def release(self) -> None:
        """Let what is held, now or later, be answered."""
        self._released.set()

    async def requested(self, count: int = 1) -> None:
        """Return when so many requests have come."""
        await eventually(lambda: len(self.requests) >= count)

    async def start(self) -> None:
        """Listen."""
        application = web.Application(client_max_size=1 << 26)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """End every connection and refuse new ones, until `start`."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    @asynccontextmanager
    async def refusing(self) -> AsyncIterator[None]:
        """Refuse connections for a while."""
        await self.stop()
        try:
            yield
        finally:
            await self.start()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
        await self.stop()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        got = Request(request.method, request.path_qs, headers, await request.read())
        chosen = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        behaviour = chosen(got) if callable(chosen) else chosen
        answer = behaviour if isinstance(behaviour, Answer) else behaviour.answer
        self.received[self._key_of(got)] += 1
        if answer.is_taken:
            self.taken[self._key_of(got)] += 1
        self.client_ports.add(_client_port(request))
        self.requests.append(got)  # last: who waits for it finds it counted
        if isinstance(behaviour, Hold):
            await self._released.wait()
        if isinstance(behaviour, Garbage):
            return await _ended(request, behaviour.content)
        if isinstance(behaviour, Cut) and behaviour.after_bytes is None:
            return await _ended(request, b"")
        return await _replied(request, answer, behaviour)


def _client_port(request: web.Request) -> int:
    assert request.transport is not None
    port: int = request.transport.get_extra_info("peername")[1]
    return port


async def _ended(request: web.Request, content: bytes) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(content)
    request.transport.close()
    return web.Response()  # goes nowhere


async def _replied(
    request: web.Request, answer: Answer, behaviour: Behaviour
) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.content)
    await response.prepare(request)
    match behaviour:
        case Cut(after_bytes=count):
            await response.write(answer.content[:count])
            assert request.transport is not None
            request.transport.close()
        case Drip(interval_s=interval_s):
            for byte in answer.content:
                if request.transport is None or request.transport.is_closing():
                    break
                await response.write(bytes([byte]))
                await asyncio.sleep(interval_s)
        case _:
            await response.write(answer.content)
    return response
