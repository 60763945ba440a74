"""`eventlog query`: SQL over archive and live log."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer

from analytics.sources import Missing
from eventlog.log import EventLog
from eventlog.settings import Settings
from service.cli.options import examples, run, settings_of
from service.cli.output import INCOMPLETE, binary_output, say
from service.cli.result_table import print_result
from service.cli.written_file import written_file
from service.results import Format, format_of, write
from service.wiring import open_sandbox, open_warehouse


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(
        epilog=examples(
            'eventlog query "SELECT type, count(*) FROM events GROUP BY 1"',
            'eventlog query "FROM messages" --output messages.parquet',
            "eventlog query - --format csv < report.sql",
            'eventlog query --untrusted --json "$WHAT_A_STRANGER_ASKS"',
            also="Views: events, messages, sessions, deliveries, dead_letters, tool_calls,"
            " bridge_events; `DESCRIBE events` lists the columns of one.",
        )
    )
    def query(
        context: typer.Context,
        sql: Annotated[
            str, typer.Argument(help="A DuckDB query; `-` reads it from standard input.")
        ],
        output_format: Annotated[
            Format | None,
            typer.Option(
                "--format", "-f", help="How to write the result; else as the file's name says."
            ),
        ] = None,
        output: Annotated[
            Path | None, typer.Option("--output", "-o", help="Write to a file.")
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
        untrusted: Annotated[
            bool,
            typer.Option(
                "--untrusted",
                help="Run it in a process that can read the archive and nothing else, for 10 s.",
            ),
        ] = False,
        skip_damaged: Annotated[
            bool,
            typer.Option(
                "--skip-damaged", help="Go on without rows that only a damaged or lost file had."
            ),
        ] = False,
    ) -> None:
        """Query archive and live log as one with SQL.

        JSON is one document a line. Times are UTC. A damaged file of the archive ends the query, unless
        it may be skipped; exit code 3 says that rows are missing.
        """
        chosen = _chosen(Format.JSON if as_json else output_format, output)
        if untrusted and skip_damaged:
            raise typer.BadParameter("--untrusted and --skip-damaged do not go together.")
        text = _read_input() if sql == "-" else sql
        asked = _query(settings_of(context), text, untrusted=untrusted, skip_damaged=skip_damaged)
        table, missing = run(asked)
        if output is not None:
            _write_file(table, chosen, output)
        elif chosen is Format.TABLE:
            print_result(table)
        else:
            with binary_output() as file:
                write(table, chosen, file)
        for lack in missing:
            say(f"answered without {lack}; `eventlog archive restore` may bring it back", "yellow")
        if missing:
            raise typer.Exit(INCOMPLETE)


def _chosen(asked: Format | None, output: Path | None) -> Format:
    """Return the format asked for, else the one the file's name says, else a table."""
    chosen = asked or (format_of(output) if output else Format.TABLE)
    if output is None:
        if chosen is Format.PARQUET and sys.stdout.isatty():
            raise typer.BadParameter("Parquet is binary: name a file with --output.")
    elif chosen in (None, Format.TABLE):
        raise typer.BadParameter("a table goes to the terminal: choose csv, json or parquet.")
    assert chosen is not None
    return chosen


def _read_input() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise typer.BadParameter("standard input is not UTF-8.") from None


async def _query(
    settings: Settings, sql: str, *, untrusted: bool, skip_damaged: bool
) -> tuple[pa.Table, tuple[Missing, ...]]:
    """Return the result, and what it was found without."""
    async with EventLog.open(settings=settings) as log:
        if untrusted:
            async with open_sandbox(log, spare_count=0) as sandbox:
                return await sandbox.query(sql), ()
        async with open_warehouse(log, skip_damaged=skip_damaged) as warehouse:
            return await warehouse.query(sql), warehouse.missing


def _write_file(table: pa.Table, chosen: Format, output: Path) -> None:
    with written_file(output, replaces=True) as file:
        write(table, chosen, file)
    say(f"{table.num_rows:,} rows written to {output}")
