"""`eventlog serve`: the HTTP API, without workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import typer

from eventlog.measures import Measures
from eventlog.settings import Settings, change_settings
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
from service.telemetry import configure_logs
from service.wiring import open_service

Serve = Callable[[asyncio.Event], Awaitable[None]]
"""Serves until the event is set."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "eventlog serve",
            "eventlog serve --port 9000",
            "EVENTLOG_HTTP_TOKENS=read+write:$TOKEN eventlog serve --host 0.0.0.0",
        )
    )(serve)


def serve(
    context: typer.Context,
    host: HttpHost = None,
    port: HttpPort = None,
    named: NamedProjections = None,
) -> None:
    """Serve the HTTP API until Ctrl-C; `eventlog up` does so too, beside its workers.

    It keeps nothing itself: run as many as you like, each on a port of its own.
    """
    configure_logs(logging.INFO, with_others=True)
    settings = change_settings(settings_of(context), http_host=host, http_port=port)
    run(_serve(settings, load_projections(named or ())))


async def _serve(settings: Settings, projections: Sequence[Projection]) -> None:
    stop = asyncio.Event()
    on_first_signal(lambda _: stop.set())
    async with served(settings, projections) as go_on:
        say("Ctrl-C stops it", "dim")
        await go_on(stop)
    say("stopped")


@asynccontextmanager
async def served(
    settings: Settings, projections: Sequence[Projection], measures: Measures | None = None
) -> AsyncIterator[Serve]:
    """Give what serves HTTP on a log of its own, listening already. Raises ConfigurationError.

    `measures` are where this process counts already what it does with the log.
    """
    # Here, not at the top: a command that serves nothing waits for no HTTP library.
    from service.http.app import new_app
    from service.http.dashboard.routes import pages
    from service.http.endpoint import Shared
    from service.http.serving import address_of, listen
    from service.http.serving import serve as serve_app
    from service.http.tokens import Tokens
    from service.metrics import Metrics

    tokens = Tokens.of(settings)
    with listen(settings, tokens) as listening:
        async with open_service(settings, projections, measures) as service:
            metrics = Metrics(service.log)

            async def told(shared: Shared) -> str:
                return await metrics.render() + shared.counting.render()

            app = new_app(service, tokens=tokens, pages=pages(), metrics=told)
            say(f"HTTP on {address_of(listening)}{'' if tokens else ', for this machine alone'}")

            async def go_on(stop: asyncio.Event) -> None:
                await serve_app(app, listening, stop)

            try:
                yield go_on
            finally:
                await metrics.close()
