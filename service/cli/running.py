"""`eventlog up`: server, projector, archiver, sweeper, retention and HTTP in one process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated

import typer

from eventlog.measures import Measures
from eventlog.settings import Settings, change_settings, mask_url
from projections.projection import Projection
from projections.registry import load_projections
from service.cli.options import (
    HttpHost,
    HttpPort,
    NamedProjections,
    examples,
    on_first_signal,
    run,
    settings_of,
)
from service.cli.output import say
from service.cli.serving import Serve, served
from service.telemetry import configure_logs
from service.wiring import Workers, open_log

HasHttp = Annotated[bool, typer.Option("--http/--no-http", help="Serve the HTTP API as well.")]


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(
        epilog=examples(
            "eventlog up",
            "eventlog --url redis://localhost:6379 up --port 9000",
            "eventlog up --no-http --projection shop.views:Tools",
        )
    )
    def up(
        context: typer.Context,
        named: NamedProjections = None,
        http: HasHttp = True,
        host: HttpHost = None,
        port: HttpPort = None,
    ) -> None:
        """Keep read models and archive fresh, the log's memory bounded, and serve HTTP, until Ctrl-C.

        Runs the embedded server where no server is named. Run as many as you like: they share the
        partitions; of those on one machine the first serves HTTP, unless each is given a port.
        """
        configure_logs(logging.INFO, with_others=True)
        settings = change_settings(settings_of(context), http_host=host, http_port=port)
        run(_up(settings, load_projections(named or ()), has_http=http, is_port_asked=bool(port)))


async def _up(
    settings: Settings, projections: Sequence[Projection], *, has_http: bool, is_port_asked: bool
) -> None:
    stop = asyncio.Event()
    on_first_signal(lambda _: stop.set())
    async with open_log(settings, projections) as log:
        where = mask_url(settings.url) if settings.url else f"embedded in {settings.data_path}"
        say(f"log {settings.key_prefix!r} on {where}")
        say(f"archive in {settings.archive_place}")
        async with (
            _http(settings, projections, log.measures, is_port_asked)
            if has_http
            else _nothing() as serve
        ):
            say(
                "projector, archiver, compactor, sweeper and retention are running; Ctrl-C stops them"
            )
            await _together(Workers(log, projections), serve, stop)
        say("stopped, nothing in hand")


async def _together(workers: Workers, serve: Serve | None, stop: asyncio.Event) -> None:
    """Work and serve until `stop` is set. A fault of either stops both, and is raised as it is."""
    if serve is None:
        await workers.run(stop)
        return
    serving = asyncio.ensure_future(serve(stop))
    serving.add_done_callback(lambda _: stop.set())
    try:
        await workers.run(stop)
    finally:
        stop.set()
        await serving


@asynccontextmanager
async def _http(
    settings: Settings,
    projections: Sequence[Projection],
    measures: Measures,
    is_port_asked: bool,
) -> AsyncIterator[Serve | None]:
    """Give what serves HTTP; None where another process does on the port that nobody asked for."""
    from service.http.serving import PortTaken

    async with AsyncExitStack() as stack:
        try:
            serve: Serve | None = await stack.enter_async_context(
                served(settings, projections, measures)
            )
        except PortTaken as taken:
            if is_port_asked:
                raise
            say(f"no HTTP here: {taken}", "yellow")
            serve = None  # another process of this machine does
        yield serve


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield None
