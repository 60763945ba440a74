"""`eventlog query`: SQL over archive and live log."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer

from eventlog.log import EventLog
from eventlog.settings import Settings
from service.cli.options import examples, run, settings_of
from service.cli.output import binary_output, say
from service.cli.result_table import print_result
from service.cli.results import Format, format_of, write
from service.cli.written_file import written_file
from service.wiring import open_warehouse


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(
        epilog=examples(
            'eventlog query "SELECT type, count(*) FROM events GROUP BY 1"',
            'eventlog query "FROM messages" --output messages.parquet',
            "eventlog query - --format csv < report.sql",
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
    ) -> None:
        """Query archive and live log as one with SQL.

        JSON is one document a line. Times are UTC.
        """
        chosen = _chosen(Format.JSON if as_json else output_format, output)
        table = run(_query(settings_of(context), _read_input() if sql == "-" else sql))
        if output is not None:
            _write_file(table, chosen, output)
        elif chosen is Format.TABLE:
            print_result(table)
        else:
            with binary_output() as file:
                write(table, chosen, file)


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


async def _query(settings: Settings, sql: str) -> pa.Table:
    async with EventLog.open(settings=settings) as log, open_warehouse(log) as warehouse:
        return await warehouse.query(sql)


def _write_file(table: pa.Table, chosen: Format, output: Path) -> None:
    with written_file(output, replaces=True) as file:
        write(table, chosen, file)
    say(f"{table.num_rows:,} rows written to {output}")
