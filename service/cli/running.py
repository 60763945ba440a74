"""`eventlog up`: server, projector, archiver, sweeper and retention in one process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import typer

from eventlog.settings import Settings, mask_url
from projections.projection import Projection
from projections.registry import load_projections
from service.cli.options import NamedProjections, examples, on_first_signal, run, settings_of
from service.cli.output import say
from service.telemetry import configure_logs
from service.wiring import Workers, open_log


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(
        epilog=examples(
            "eventlog up",
            "eventlog --url redis://localhost:6379 up",
            "eventlog up --projection shop.views:Tools",
        )
    )
    def up(context: typer.Context, named: NamedProjections = None) -> None:
        """Keep read models and archive fresh, and the log's memory bounded, until Ctrl-C.

        Runs the embedded server where no server is named. Run as many as you like: they share the
        partitions.
        """
        configure_logs(logging.INFO, with_others=True)
        run(_up(settings_of(context), load_projections(named or ())))


async def _up(settings: Settings, projections: Sequence[Projection]) -> None:
    stop = asyncio.Event()
    on_first_signal(lambda _: stop.set())
    async with open_log(settings, projections) as log:
        where = mask_url(settings.url) if settings.url else f"embedded in {settings.data_path}"
        say(f"log {settings.key_prefix!r} on {where}")
        say(f"archive in {settings.archive_place}")
        say("projector, archiver, compactor, sweeper and retention are running; Ctrl-C stops them")
        await Workers(log, projections).run(stop)
        say("stopped, nothing in hand")
