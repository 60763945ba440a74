"""The process that `bench.http` measures: the HTTP API, and beside it the least that one could write.

The bare routes are Starlette on the same uvicorn: one XADD per request through redis-py, and a stream
that hands each entry of one XREAD to a queue per reader. They check, remember and resume nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from multiprocessing.connection import Connection

import msgspec
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from eventlog.collector import spared_collector
from eventlog.settings import Settings
from service.http.app import new_app
from service.http.reading import Limits
from service.http.serving import listen, serve
from service.http.tokens import Tokens
from service.wiring import open_service

STREAM = "bench-bare"


class Bare:
    """The bare routes, on a stream of their own. `shared` is what `serve` asks of an application."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self.limits = Limits()
        self._queues: set[asyncio.Queue[bytes]] = set()

    async def append(self, request: Request) -> Response:
        """Append what the body says."""
        event = (await request.json())["events"][0]
        entry = await self._client.xadd(STREAM, {"e": msgspec.json.encode(event)})
        return JSONResponse({"entry": str(entry)}, 201)

    async def stream(self, request: Request) -> Response:  # noqa: ARG002 - as Starlette calls it
        """Follow the stream."""
        return StreamingResponse(self._frames(), media_type="text/event-stream")

    async def _frames(self) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._queues.add(queue)
        try:
            yield b"event: state\ndata: {}\n\n"
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)

    async def follow(self) -> None:
        """Hand out what is appended."""
        last = "$"
        while True:
            read = ("XREAD", "COUNT", 500, "BLOCK", 1000, "STREAMS", STREAM, last)
            reply = await self._client.execute_command(*read)
            for _, entries in reply or ():
                for entry_id, fields in entries:
                    last = entry_id.decode()
                    frame = f"id: {last}\ndata: {fields[1].decode()}\n\n".encode()
                    for queue in self._queues:
                        queue.put_nowait(frame)

    def stop(self) -> None:
        """Nothing is to be told."""

    async def close(self) -> None:
        """Nothing is to be closed."""


def run(settings: Settings, told: Connection) -> None:
    """Serve both until the process is ended; tell their ports."""
    with spared_collector(), suppress(KeyboardInterrupt):
        asyncio.run(_run(settings, told))


async def _run(settings: Settings, told: Connection) -> None:
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(open_service(settings))
        bare = Bare(service.log.client)
        routes = [
            Route("/v1/events", bare.append, methods=["POST"]),
            Route("/v1/events/stream", bare.stream),
        ]
        bare_app = Starlette(routes=routes)
        bare_app.state.shared = bare
        sockets = [stack.enter_context(listen(settings, Tokens())) for _ in range(2)]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(bare.follow())
            tasks.create_task(serve(new_app(service), sockets[0], stop))
            tasks.create_task(serve(bare_app, sockets[1], stop))
            told.send([each.getsockname()[1] for each in sockets])
