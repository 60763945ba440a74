"""`eventlog metrics`: the log's numbers as Prometheus reads them, once."""

from __future__ import annotations

import sys

import typer

from eventlog.errors import EventLogError, LogUnavailable
from eventlog.log import EventLog
from eventlog.settings import Settings
from service.cli.options import examples, run, settings_of
from service.metrics import Metrics, render_away


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "eventlog metrics",
            "eventlog metrics > /var/lib/node_exporter/eventlog.prom",
            also="Exit code 1 where the server cannot be reached; it then prints `eventlog_up 0`.",
        )
    )(metrics)


def metrics(context: typer.Context) -> None:
    """Print the log's metrics in the text format of Prometheus.

    For machines where nothing serves `/metrics`. What a process counts of its own work (appends,
    attempts) is that of this command, hence nothing.
    """
    body, error = run(_rendered(settings_of(context)))
    sys.stdout.write(body)
    if error is not None:
        raise error


async def _rendered(settings: Settings) -> tuple[str, EventLogError | None]:
    try:
        async with EventLog.open(settings=settings) as log:
            metrics = Metrics(log, of_process=False)
            try:
                return await metrics.render(), None
            finally:
                await metrics.close()
    except LogUnavailable as error:
        return render_away(), error
