"""`eventlog demo`: the whole pipeline on real input, in seconds, leaving nothing behind."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.rule import Rule

from analytics.warehouse import Warehouse
from bridge import Bridge
from bridge.importers.importing import import_paths
from eventlog.log import EventLog
from eventlog.settings import Settings
from projections.builtin import DEFAULT_PROJECTIONS
from projections.projecting.projector import Projector
from projections.views.activity import Activity
from projections.views.dead_letters import DeadLetters
from projections.views.history import History
from projections.views.sessions import Sessions
from service.cli.demo_bot import DemoBot
from service.cli.options import HttpPort, examples, on_first_signal, run, settings_of
from service.cli.output import FAILED, OK, console, duration, moment, print_table, say
from service.cli.serving import served
from service.queries import load_query
from service.telemetry import configure_logs
from service.wiring import Workers, new_archiver, open_archiver, open_log, open_warehouse

CHAT = "irc:#mediawiki"


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(epilog=examples("eventlog demo", "eventlog demo --serve"))
    def demo(
        context: typer.Context,
        is_served: Annotated[
            bool,
            typer.Option(
                "--serve", help="Show it as live pages, with a bot at work, until Ctrl-C."
            ),
        ] = False,
        port: HttpPort = None,
    ) -> None:
        """Import sample chats, agent sessions and bounces into a temporary log, and look at them."""
        given = settings_of(context)
        with tempfile.TemporaryDirectory(prefix="eventlog-demo-") as folder:
            settings = Settings(
                data_dir=folder,
                server_binary=given.server_binary,
                http_port=given.http_port if port is None else port,
            )
            agreed = run(_serve(settings) if is_served else _demo(settings))
        raise typer.Exit(OK if agreed else FAILED)


async def _demo(settings: Settings) -> bool:
    started_s = time.monotonic()
    async with EventLog.open(settings=settings) as log:
        say(f"a private server is up after {time.monotonic() - started_s:.2f} s")
        await _fill(log)
        async with open_warehouse(log) as warehouse:
            await _show(log, warehouse)
            agreed = await _compare(log, warehouse)
    console.print(f"\nDone in {time.monotonic() - started_s:.1f} s; nothing is left behind.")
    return agreed


async def _serve(settings: Settings) -> bool:
    """Serve the pages of the sample and of a bot at work, until Ctrl-C."""
    configure_logs(logging.WARNING)
    stop = asyncio.Event()
    on_first_signal(lambda _: stop.set())
    async with Bridge(open_log(settings, DEFAULT_PROJECTIONS), projections=None) as bridge:
        await _fill(bridge.log)
        async with served(settings, DEFAULT_PROJECTIONS, bridge.log.measures) as serve:
            say("open that address in a browser; Ctrl-C ends it, and nothing is left behind")
            async with asyncio.TaskGroup() as tasks:
                for work in (Workers(bridge.log).run, DemoBot(bridge).run, serve):
                    tasks.create_task(_until(stop, work))
    return True


async def _until(stop: asyncio.Event, work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    await work(stop)


async def _fill(log: EventLog) -> None:
    """Import in two halves and archive between them, so that SQL has to join both sources."""
    sample = sample_folder()
    half = [sample / "irc-new-domains"]
    rest = sorted(path for path in sample.iterdir() if path.is_dir() and path not in half)
    report = await import_paths(log, half)
    async with open_archiver(log) as archiver:
        await archiver.archive_until(await log.heads())
    report.merge(await import_paths(log, rest))
    await Projector(log).run_until_caught_up()
    again = await import_paths(log, [*half, *rest])
    say(
        f"imported {report.events_added:,} events from {len(report.files)} sources; "
        f"importing them again added {again.events_added}"
    )


def sample_folder() -> Path:
    """Return the sample data: beside the sources, or inside the installed package."""
    inside = Path(str(files("service"))) / "sample"
    beside = Path(str(files("service"))).parent / "examples" / "data"
    return beside if beside.is_dir() else inside


async def _show(log: EventLog, warehouse: Warehouse) -> None:
    for title, name in (
        ("Busiest senders", "senders"),
        ("Busiest hours (UTC)", "hours"),
        ("Sessions by status", "sessions_by_status"),
    ):
        table = await warehouse.query(load_query(name))
        _section(title, table.column_names, [tuple(row.values()) for row in table.to_pylist()])
    page = await Sessions(log).list(limit=10)
    _section(
        "Sessions, last active first",
        ("session", "status", "tool calls", "duration"),
        [
            (
                s.id,
                s.status,
                s.tool_call_count,
                duration(((s.ended_at or s.last_activity_at) - s.started_at) / 1e6),
            )
            for s in page.items
        ],
    )
    reasons = await DeadLetters(log).counts_by_reason()
    ranked = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    _section("Dead letters by reason", ("reason", "letters"), ranked)
    last = await History(log).last(CHAT, 6)
    events: list[Any] = [entry.event for entry in last.entries]
    _section(
        f"The last messages in {CHAT}",
        ("time (UTC)", "sender", "text"),
        [(moment(e.occurred_at), e.sender, e.text) for e in events],
    )


def _section(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    console.print()
    console.print(Rule(title, align="left", style="dim"))
    print_table(columns, rows)


async def _compare(log: EventLog, warehouse: Warehouse) -> bool:
    """Show the count of events as the log, the read models, and SQL have it; return if all agree."""
    in_log = sum(head.n for head in await log.heads())
    in_models = sum((await Activity(log).totals(consistency="stored")).values())
    archive = sum(status.position.n for status in await new_archiver(log).status())
    [counted] = (await warehouse.query(load_query("integrity"))).to_pylist()
    rows = [
        ("log: sum of the partitions' heads", in_log),
        ("read models: sum of activity", in_models),
        ("SQL: events", counted["events"]),
        ("SQL: distinct (partition, sequence)", counted["distinct_places"]),
        ("of these in the archive", archive),
        ("of these in the live log", counted["events"] - archive),
    ]
    _section("Do they agree?", ("where", "events"), rows)
    counts = {in_log, in_models, counted["events"], counted["distinct_places"]}
    agreed = len(counts) == 1 and counted["gaps"] == 0
    console.print("All agree, without gap or repeat." if agreed else "They do NOT agree.")
    return agreed
