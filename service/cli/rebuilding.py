"""`eventlog projections rebuild`, `rollback`, `cancel`, `drop`, `retire`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, NamedTuple

import typer

from eventlog.log import EventLog
from eventlog.settings import Settings, environment_of
from projections.building.rebuilding import (
    Rebuilt,
    begin,
    cancel,
    drop,
    finish,
    retire,
    rollback,
)
from projections.projection import Projection
from projections.registry import find_projection, load_projections
from service.cli.building_bar import BuildBar
from service.cli.options import AsJson, NamedProjections, ProjectionName, examples, run, settings_of
from service.cli.output import print_json, say
from service.wiring import new_past, open_log

HELPERS_END_WITHIN_S = 10.0
MAX_PROCESSES = 4
"""Where none is asked for; beyond a process per core nothing is gained."""


def register(group: typer.Typer) -> None:
    """Add the commands."""
    group.command("rebuild", epilog=examples("eventlog projections rebuild sessions"))(rebuild_one)
    group.command("rollback", epilog=examples("eventlog projections rollback sessions"))(roll_back)
    group.command("cancel", epilog=examples("eventlog projections cancel sessions"))(cancel_build)
    group.command("drop", epilog=examples("eventlog projections drop sessions"))(drop_previous)
    group.command("retire", epilog=examples("eventlog projections retire tools"))(retire_one)


def rebuild_one(
    context: typer.Context,
    name: ProjectionName,
    processes: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="How many processes build; else one per core, at most 4."),
    ] = None,
    named: NamedProjections = None,
    is_helper: Annotated[bool, typer.Option("--as-helper", hidden=True)] = False,
    as_json: AsJson = False,
) -> None:
    """Build a read model anew beside the one that serves, and swap it in.

    It is folded from the archive, then from the log. Readers and projectors go on meanwhile, and
    what served before is kept for `rollback`. Interrupted, it goes on where it was.
    """
    projections = load_projections(named or ())
    chosen = find_projection(projections, name)
    settings = settings_of(context)
    if is_helper:
        run(_help(settings, projections, chosen))
        return
    helpers = Helpers(settings, named or [], chosen, (processes or _default_process_count()) - 1)
    rebuilt = run(_rebuild(settings, projections, chosen, helpers, quiet=as_json))
    _told(rebuilt, as_json=as_json)


async def _rebuild(
    settings: Settings,
    projections: Sequence[Projection],
    chosen: Projection,
    helpers: Helpers,
    *,
    quiet: bool,
) -> Rebuilt:
    """Return the outcome of a rebuild by this process and helpers beside it."""
    async with open_log(settings, projections) as log:
        past = new_past(log)
        await begin(log, chosen, past=past)
        try:
            with BuildBar(chosen.model, quiet=quiet) as bar:
                async with helpers.at_work():
                    return await finish(log, chosen, past=past, on_progress=bar.show)
        except asyncio.CancelledError:
            say(
                "interrupted; what is built so far is kept: the same command goes on from there, "
                f"`eventlog projections cancel {chosen.name}` gives it up"
            )
            raise


async def _help(settings: Settings, projections: Sequence[Projection], chosen: Projection) -> None:
    """Build with the process that began it; begin nothing."""
    async with open_log(settings, projections) as log:
        await finish(log, chosen, past=new_past(log))


def roll_back(
    context: typer.Context,
    name: ProjectionName,
    named: NamedProjections = None,
    as_json: AsJson = False,
) -> None:
    """Let the build that served before the last swap serve again; once more undoes it."""
    projections = load_projections(named or ())
    chosen = find_projection(projections, name)
    rebuilt = run(_roll_back(settings_of(context), projections, chosen, quiet=as_json))
    _told(rebuilt, as_json=as_json)


async def _roll_back(
    settings: Settings, projections: Sequence[Projection], chosen: Projection, *, quiet: bool
) -> Rebuilt:
    async with open_log(settings, projections) as log:
        with BuildBar(chosen.model, quiet=quiet) as bar:
            return await rollback(log, chosen, past=new_past(log), on_progress=bar.show)


def _told(rebuilt: Rebuilt, *, as_json: bool) -> None:
    if as_json:
        print_json(rebuilt._asdict())
        return
    say(f"{rebuilt.model} serves, {rebuilt.position_count:,} entries folded", "green")
    say(
        "what served before, if anything did, is kept: `eventlog projections rollback` or `drop`",
        "dim",
    )


def cancel_build(context: typer.Context, name: ProjectionName) -> None:
    """Give up a build in the making; what serves is untouched."""
    _put_away(context, name, cancel, "the build in the making is gone")


def drop_previous(context: typer.Context, name: ProjectionName) -> None:
    """Delete the build that could be rolled back to."""
    _put_away(context, name, drop, "the previous build is gone")


def retire_one(context: typer.Context, name: ProjectionName) -> None:
    """Delete all that is stored of a projection that no program has any more.

    Until then it holds back what may be trimmed.
    """
    _put_away(context, name, retire, "nothing of it is left")


def _put_away(
    context: typer.Context, name: str, action: Callable[[EventLog, str], Awaitable[int]], done: str
) -> None:
    async def act(settings: Settings) -> int:
        async with EventLog.open(settings=settings) as log:
            return await action(log, name)

    freed = run(act(settings_of(context)))
    say(f"{name}: {done}, {freed:,} keys freed", "green")


# --- several processes


class Helpers(NamedTuple):
    """Processes that build beside this one."""

    settings: Settings
    named: Sequence[str]
    """Projections by `module:object`, as this process was given them."""
    chosen: Projection
    process_count: int

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Run them until the block ends; they share the partitions with whoever builds in it."""
        command = [sys.executable, "-m", "service", "projections", "rebuild", self.chosen.name]
        command += ["--as-helper", *(f"--projection={name}" for name in self.named)]
        helpers = [
            await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, **environment_of(self.settings)},
            )
            for _ in range(self.process_count)
        ]
        try:
            yield
            # They see for themselves that it is done.
            ended = asyncio.create_task(_all_ended(helpers))
            await asyncio.wait({ended}, timeout=HELPERS_END_WITHIN_S)
        finally:
            for helper in helpers:
                if helper.returncode is None:
                    helper.terminate()
            await _all_ended(helpers)


async def _all_ended(helpers: Sequence[asyncio.subprocess.Process]) -> None:
    await asyncio.gather(*(helper.wait() for helper in helpers))


def _default_process_count() -> int:
    return min(MAX_PROCESSES, os.cpu_count() or 1)
