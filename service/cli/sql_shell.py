"""The SQL shell's statements and dot-commands, whoever types them."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pyarrow as pa

from analytics.connection import VIEWS
from analytics.reports import Reports, question, said
from analytics.warehouse import Parameters, Warehouse
from eventlog.clock import Clock
from eventlog.errors import EventLogError, InvalidQuery
from eventlog.settings import mask_url
from service.cli.output import console, many, one_line, print_table, say
from service.cli.result_table import print_result
from service.cli.sql_completion import Vocabulary
from service.cli.sql_input import Piece
from service.cli.written_file import written_file
from service.queries import load_query
from service.results import Format, format_of, write

COMMANDS = {
    ".views": "list the views",
    ".schema": "list the columns of VIEW, or of all",
    ".reports": "list the reports",
    ".report": "run the report NAME, with NAME=VALUE for its parameters",
    ".export": "write all rows of the last query to FILE: .csv, .json or .parquet",
    ".limit": "show at most N rows",
    ".timer": "say how long a query took: on or off",
    ".help": "list these commands",
    ".quit": "leave; so does Ctrl-D",
}


class Left(Exception):
    """`.quit` was typed."""


class Shell:
    """One user's shell: the last query, and how results are shown."""

    def __init__(
        self, warehouse: Warehouse, reports: Reports, clock: Clock, *, rows_shown: int
    ) -> None:
        self._warehouse = warehouse
        self._reports = reports
        self._clock = clock
        self._rows_shown = rows_shown
        self._is_timed = False
        self._last: tuple[str, Parameters] | None = None
        self._commands: dict[str, Callable[[list[str]], Awaitable[None]]] = {
            ".views": self._views,
            ".schema": self._schema,
            ".reports": self._list_reports,
            ".report": self._report,
            ".export": self._export,
            ".limit": self._limit,
            ".timer": self._timer,
            ".help": self._help,
            ".quit": self._quit,
            ".exit": self._quit,
        }

    async def words(self) -> Vocabulary:
        """Return what can be completed."""
        found = await self._warehouse.query(load_query("shell_words"))
        columns: dict[str, list[str]] = {view: [] for view in VIEWS}
        other: dict[str, list[str]] = {"keyword": [], "function": []}
        for row in found.to_pylist():
            group = columns[row["view"]] if row["kind"] == "column" else other[row["kind"]]
            group.append(row["word"])
        return Vocabulary(
            columns, other["keyword"], other["function"], COMMANDS, self._reports.names()
        )

    async def do(self, piece: Piece) -> None:
        """Run a statement or a command and print what comes of it.

        Raises EventLogError where it fails, Left when it is to be the last.
        """
        if not piece.is_command:
            await self._query(piece.text, ())
            return
        try:
            name, *arguments = shlex.split(piece.text)
        except ValueError as error:
            raise InvalidQuery(f"{piece.text}: {error}.") from None
        if name not in self._commands:
            raise InvalidQuery(f"there is no command {name}.", remedy=f"{_listed()}.")
        await self._commands[name](arguments)

    async def _query(self, sql: str, parameters: Parameters) -> None:
        started_s = time.perf_counter()
        # One more than is shown tells that there are more, without fetching them all.
        table = await self._warehouse.query(sql, parameters, limit=self._rows_shown + 1)
        elapsed_s = time.perf_counter() - started_s
        self._last = sql, parameters
        print_first(table, self._rows_shown)
        if self._is_timed:
            say(f"{elapsed_s:.3f} s", "dim")

    async def _views(self, _: list[str]) -> None:
        table = await self._warehouse.query(load_query("shell_views"))
        print_table(("view", "columns"), [tuple(row.values()) for row in table.to_pylist()])

    async def _schema(self, arguments: list[str]) -> None:
        for view in arguments or VIEWS:
            if view not in VIEWS:
                raise InvalidQuery(
                    f"there is no view {view!r}.", remedy=f"Views: {', '.join(VIEWS)}."
                )
            table = await self._warehouse.query(f"DESCRIBE {view}")
            names, kinds = (table.column(name).to_pylist() for name in table.column_names[:2])
            print_table((view, "type"), list(zip(names, kinds, strict=True)))

    async def _list_reports(self, _: list[str]) -> None:
        rows = [
            (each.name, each.title, ", ".join(p.name for p in each.parameters))
            for each in self._reports.all()
        ]
        print_table(("report", "shows", "parameters"), rows)

    async def _report(self, arguments: list[str]) -> None:
        if not arguments:
            raise InvalidQuery("which report?", remedy="`.reports` lists them.")
        report = self._reports.get(arguments[0])
        pairs = [argument.partition("=") for argument in arguments[1:]]
        for name, sign, _ in pairs:
            if not sign:
                raise InvalidQuery(f"{name!r} is no parameter.", remedy="Write NAME=VALUE.")
        given = {name: value for name, _, value in pairs}
        sql, values = question(report, given, self._clock.now_us())
        console.print(f"{report.title}; {said(report, values)}", style="bold", markup=False)
        await self._query(sql, values)

    async def _export(self, arguments: list[str]) -> None:
        if len(arguments) != 1:
            raise InvalidQuery("one file is needed.", remedy="`.export messages.parquet`.")
        if self._last is None:
            raise InvalidQuery("there is no query yet whose rows could be written.")
        path = _path(arguments[0])
        chosen = format_of(path)
        if chosen in (None, Format.TABLE):
            raise InvalidQuery(f"{path}: name a .csv, .json or .parquet file.")
        assert chosen is not None
        table = await self._warehouse.query(*self._last)
        with written_file(path, replaces=False) as file:
            write(table, chosen, file)
        say(f"{many(table.num_rows, 'row')} written to {path}")

    async def _limit(self, arguments: list[str]) -> None:
        if len(arguments) != 1 or not arguments[0].isdecimal() or not 0 < int(arguments[0]) < 10**9:
            raise InvalidQuery("how many rows?", remedy="`.limit 500`.")
        self._rows_shown = int(arguments[0])

    async def _timer(self, arguments: list[str]) -> None:
        if arguments not in ([], ["on"], ["off"]):
            raise InvalidQuery("the timer is on or off.", remedy="`.timer on`.")
        self._is_timed = arguments == ["on"] if arguments else not self._is_timed
        say(f"the timer is {'on' if self._is_timed else 'off'}", "dim")

    async def _help(self, _: list[str]) -> None:
        print_table(("command", "does"), list(COMMANDS.items()))
        say("anything else is SQL, ended by `;`. Ctrl-C stops a query, Tab completes.", "dim")

    async def _quit(self, _: list[str]) -> None:
        raise Left


def print_first(table: pa.Table, rows_shown: int) -> None:
    """Print that many rows of a result of which one more was fetched, if there are more."""
    print_result(table.slice(0, rows_shown))
    if table.num_rows > rows_shown:
        say(
            f"the first {rows_shown:,} rows; .limit N shows more, .export FILE writes all", "yellow"
        )
    elif not table.num_rows:
        say("no rows", "dim")


def tell(error: EventLogError) -> None:
    """Print an error in one line; the shell goes on."""
    say(f"error: {one_line(mask_url(str(error)))}", "red")


def _path(text: str) -> Path:
    return Path(os.path.expanduser(text))  # noqa: PTH111 - leaves an unknown ~user alone


def _listed() -> str:
    return f"Commands: {', '.join(COMMANDS)}"
