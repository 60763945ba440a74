"""A real HTTP service on a free port of this machine, on a log of its own."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2 as httpx
from starlette.routing import BaseRoute

from eventlog.settings import load_settings
from service.http.app import new_app
from service.http.reading import Limits
from service.http.serving import address_of, listen, serve
from service.http.tokens import Tokens
from service.wiring import Service, open_service

_numbers = itertools.count(1)


class Running:
    """A service that runs: `http` calls it, `service` is what it works with."""

    def __init__(self, service: Service, app: Any, listening: socket.socket) -> None:
        self.service = service
        self.log = service.log
        self.bridge = service.bridge
        self.app = app
        self.hub = getattr(app.state.shared, "hub", None)
        self.url = address_of(listening)
        self.address: tuple[str, int] = listening.getsockname()[:2]
        self.http = httpx.AsyncClient(base_url=self.url, timeout=20)


@asynccontextmanager
async def running(
    url: str | None,
    *,
    limits: Limits | None = None,
    pages: Sequence[BaseRoute] = (),
    **settings: Any,
) -> AsyncIterator[Running]:
    """Give a service on a fresh log of 4 partitions on the server at `url`; the API alone without `pages`."""
    given = {
        "key_prefix": f"http{next(_numbers)}",
        "partition_count": 4,
        "http_port": 0,
        **settings,
    }
    loaded = load_settings(environment={}, url=url, **given)
    tokens = Tokens.of(loaded)
    stop = asyncio.Event()
    with listen(loaded, tokens) as listening:
        async with open_service(loaded) as service:
            app = new_app(service, tokens=tokens, limits=limits, pages=pages)
            run = Running(service, app, listening)
            serving = asyncio.create_task(serve(app, listening, stop))
            try:
                async with run.http:
                    yield run
            finally:
                stop.set()
                await serving
