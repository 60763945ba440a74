"""Metrics of a program without HTTP of its own, for a collector on the same machine."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from eventlog.errors import ConfigurationError
from eventlog.log import EventLog
from service.metrics.metrics import CONTENT_TYPE, Metrics

DEFAULT_HOST = "127.0.0.1"


@asynccontextmanager
async def serving_metrics(log: EventLog, address: str | None) -> AsyncIterator[None]:
    """Answer `GET /metrics` at a loopback address, `PORT` or `HOST:PORT`; None answers nobody.

    `GET /health` answers 200 as long as the program's event loop turns. Raises ConfigurationError for
    an address that is none, is not the machine's own, or is taken.
    """
    if address is None:
        yield
        return
    host, port = parse_address(address)
    metrics = Metrics(log)

    async def answer(_: web.Request) -> web.Response:
        body = (await metrics.render()).encode()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def live(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    app = web.Application()
    app.add_routes([web.get("/metrics", answer), web.get("/health", live)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ConfigurationError(
                f"metrics cannot be served at {address}: {os.strerror(error.errno or 0)}.",
                remedy="Give a port that is free.",
            ) from None
        yield
    finally:
        await runner.cleanup()
        await metrics.close()


def parse_address(address: str) -> tuple[str, int]:
    """Return host and port of a loopback address. Raises ConfigurationError for any other.

    >>> parse_address("9464")
    ('127.0.0.1', 9464)
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or DEFAULT_HOST
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ConfigurationError(
            f"{address!r} is no address.", remedy="Give a port, or 127.0.0.1:PORT."
        )
    if not _is_loopback(host):
        raise ConfigurationError(
            f"{host} is not an address of this machine alone, and whoever asks is not asked who he is.",
            remedy="Give 127.0.0.1, and let a collector on the machine fetch it.",
        )
    return host, int(port)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
