"""`eventlog sql`: an interactive shell over archive and live log, or a script of statements."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

import typer

from analytics.reports import Reports
from eventlog.errors import EventLogError
from eventlog.log import EventLog
from eventlog.settings import Settings
from service.cli.options import examples, run, settings_of
from service.cli.output import FAILED, OK
from service.cli.result_table import ROWS_SHOWN
from service.cli.sql_input import pieces
from service.cli.sql_shell import Left, Shell, tell
from service.wiring import open_warehouse

ROWS_ON_A_TERMINAL = 100


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        name="sql",
        epilog=examples(
            "eventlog sql",
            "eventlog sql < questions.sql",
            "echo 'FROM sessions; .export sessions.csv' | eventlog sql",
            also="`.help` lists the commands, `.views` the views. Reading statements only.",
        ),
    )(sql)


def sql(context: typer.Context) -> None:
    """Ask archive and live log in a shell, with history and completion.

    A statement ends with `;`. Ctrl-C stops a query, Ctrl-D leaves. Where the input is no terminal
    its statements run one after the other, up to the first that fails.
    """
    raise typer.Exit(run(_sql(settings_of(context))))


async def _sql(settings: Settings) -> int:
    is_terminal = sys.stdin.isatty()
    async with EventLog.open(settings=settings) as log, open_warehouse(log) as warehouse:
        rows_shown = ROWS_ON_A_TERMINAL if is_terminal else ROWS_SHOWN
        reports = Reports([settings.reports_path])
        shell = Shell(warehouse, reports, log.clock, rows_shown=rows_shown)
        if is_terminal:
            await _talk(shell, settings)
            return OK
        return await _run_script(shell, await asyncio.to_thread(_read_input))


def _read_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise typer.BadParameter("standard input is not UTF-8.") from None


async def _run_script(shell: Shell, text: str) -> int:
    with suppress(Left):
        for piece in pieces(text):
            try:
                await shell.do(piece)
            except EventLogError as error:
                tell(error)
                return FAILED
    return OK


async def _talk(shell: Shell, settings: Settings) -> None:
    # Loading the prompt takes longer than most commands.
    from service.cli.sql_prompt import talk

    await talk(shell, settings.data_path)
