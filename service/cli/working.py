"""`eventlog worker`: handlers of yours, run as a consumer group."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, NamedTuple

import typer

from bridge.coding_agent.following import AgentHandlers
from consumers.delivery import DeliveryHandlers
from consumers.handler import ANY, Handlers
from consumers.registration import Start, check_name
from consumers.worker import CONCURRENCY, Limits, Worker
from eventlog.errors import ConfigurationError
from eventlog.log import EventLog
from eventlog.settings import Settings, mask_url
from projections.views.dead_letters import DeadLetters
from service.cli.options import MetricsAddress, examples, on_first_signal, run, settings_of
from service.cli.output import INCOMPLETE, console, many, say
from service.cli.work_source import Source, load_source
from service.metrics.serving import serving_metrics
from service.telemetry import configure_logs
from service.wiring import new_past

MAX_COUNTED_LETTERS = 10_000


class How(NamedTuple):
    """How handlers are worked with."""

    group: str
    concurrency: int
    start: Start
    metrics_address: str | None = None


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "eventlog worker mybot:handlers",
            "eventlog worker mybot:deliveries --group delivery --concurrency 20",
            "eventlog worker mybot:handlers --once",
        )
    )(worker)


def worker(
    context: typer.Context,
    named: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:OBJECT",
            help="Handlers, or a function that takes the log and returns a Worker.",
        ),
    ],
    group: Annotated[
        str | None, typer.Option(help="The consumer group; else the module's last name.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help=f"How many handlers run at once; else {CONCURRENCY}.")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Handle what is in the log now, then end.")
    ] = False,
    start: Annotated[
        Start | None,
        typer.Option("--from", help="Where a group begins that is new; else at the beginning."),
    ] = None,
    metrics_address: MetricsAddress = None,
) -> None:
    """Run handlers on what is appended, until Ctrl-C.

    Every entry is handled at least once, those of a conversation in order. Run as many workers of a
    group as you like: they share the partitions. Modules are looked for in the working directory
    too.
    """
    settings = settings_of(context)
    source = load_source(named)
    if not isinstance(source.found, Handlers) and (group or concurrency or start):
        raise ConfigurationError(
            f"{named} makes a worker of its own.",
            remedy="Leave out --group, --concurrency and --from: it says them itself.",
        )
    group = group or source.module.rpartition(".")[2]
    check_name(group)
    how = How(group, concurrency or CONCURRENCY, start or "beginning", metrics_address)
    configure_logs(logging.WARNING if once else logging.INFO, with_others=True)
    run((_work_once if once else _work)(settings, source, how))


async def _work(settings: Settings, source: Source, how: How) -> None:
    stop = asyncio.Event()

    def leave(_: int) -> None:
        say("stopping; what runs may end first, Ctrl-C again does not wait for it", "dim")
        stop.set()

    async with _opened(settings, source, how) as made:
        on_first_signal(leave)
        say("Ctrl-C stops it", "dim")
        await made.run(stop)
    say("stopped, nothing in hand")


async def _work_once(settings: Settings, source: Source, how: How) -> None:
    async with _opened(settings, source, how) as made:
        begun_us = made.log.clock.now_us()
        count = await made.run_once()
        parked = await _parked_since(made.log, made.group, begun_us)
        waiting = (await made.status()).pending_count
    console.print(f"{_entries(count)} done with, {parked:,} of them parked as dead letters.")
    if waiting:
        say(f"left: {_entries(waiting)} to be tried again, or behind one that is", "yellow")
    if parked:
        say(f"`eventlog dead-letters --group {made.group}` lists what is parked", "yellow")
    if waiting or parked:
        raise typer.Exit(INCOMPLETE)


@asynccontextmanager
async def _opened(settings: Settings, source: Source, how: How) -> AsyncIterator[Worker]:
    """Give the worker, introduced, on an open log; all that is open is closed behind it."""
    async with AsyncExitStack() as stack:
        opening = EventLog.open(settings=settings, types=source.event_types)
        log = await stack.enter_async_context(opening)
        if isinstance(source.found, Handlers):
            made = _new_worker(log, source.found, how)
            at_once = f", up to {how.concurrency} at once"
            if isinstance(source.found, DeliveryHandlers | AgentHandlers):
                stack.push_async_callback(source.found.close)
        else:
            made, at_once = await source.call(log, stack), ""
        await stack.enter_async_context(serving_metrics(log, how.metrics_address))
        say(f"{_introduction(made)}{at_once}")
        yield made


def _new_worker(log: EventLog, handlers: Handlers, how: How) -> Worker:
    limits = Limits(concurrency=how.concurrency)
    return Worker(log, how.group, handlers, start=how.start, limits=limits, past=new_past(log))


def _entries(count: int) -> str:
    return many(count, "entry", "entries")


def _introduction(made: Worker) -> str:
    settings, by_type = made.log.settings, made.handlers.by_type
    where = f"on {mask_url(settings.url)}" if settings.url else f"in {settings.data_path}"
    types = [name for name in by_type if name != ANY]
    types += ["every other type" if types else "every type"] if ANY in by_type else []
    handled = ", ".join(types) or "nothing"
    return f"group {made.group!r} of log {settings.key_prefix!r} {where} handles {handled}"


async def _parked_since(log: EventLog, group: str, since_us: int) -> int:
    page = await DeadLetters(log).list(
        group=group, parked_after_us=since_us, limit=MAX_COUNTED_LETTERS
    )
    return len(page.items)
