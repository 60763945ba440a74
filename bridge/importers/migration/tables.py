"""A database's tables under a mapping: what each row is, in which order they are read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

from bridge.importers.fingerprint import fingerprint
from bridge.importers.migration.database import Table, quoted, tables
from bridge.importers.migration.layout import Kind, recognise
from bridge.importers.migration.mapping import Mapping, TableMapping
from bridge.importers.migration.records import LEFT
from eventlog.errors import ConfigurationError, ImportFailed

SKIPPED = "skipped by the mapping"

MAX_ROW_NUMBER = 2**41 - 1
"""What fits into a producer's position, which has room for several events a row."""

_ORDER: tuple[Kind, ...] = ("session", "message", "dead_letter", "bridge_event")
"""Sessions begin before what is said in them."""

_NAMED_BY: dict[Kind, tuple[str, ...]] = {
    "message": ("conversation", "time", "sender", "message_id"),
    "session": ("session", "time"),
    "dead_letter": ("letter", "conversation", "time"),
    "bridge_event": ("conversation", "time", "event_type"),
}
"""Fields of a table's first row that name the table for ever: none that a bridge changes later."""


class Row(NamedTuple):
    """A row by field; `number` is its rowid."""

    number: int
    values: dict[str, Any]


class TablePlan(NamedTuple):
    """How one table is read."""

    table: Table
    kind: Kind
    columns: dict[str, str]
    constants: dict[str, str]
    values: dict[str, dict[str, str]]
    name: str = ""
    """Of the producer that its rows are, the same for ever."""
    chats: dict[str, dict[str, Any]] | None = None
    """Session → its conversation and platform, where messages name nothing but their session."""

    @property
    def left(self) -> list[str]:
        """Columns that are in no field."""
        taken = {*self.columns.values(), self.table.key}
        return [column for column in self.table.columns if column not in taken]

    def rows(self, connection: sqlite3.Connection) -> Iterator[Row]:
        """Yield the rows by number, one at a time out of the file."""
        position = self.table.position
        fields = list(self.columns)
        left = self.left
        wanted = ", ".join(quoted(column) for column in (*self.columns.values(), *left))
        cursor = connection.execute(
            f"SELECT {position}, {wanted} FROM {quoted(self.table.name)} ORDER BY {position}"  # noqa: S608
        )
        end = len(fields) + 1
        for row in cursor:
            values = dict(zip(fields, row[1:end], strict=True))
            if self.constants:
                values |= self.constants
            if left:
                values[LEFT] = dict(zip(left, row[end:], strict=True))
            if self.values:
                self._translate(values)
            if self.chats is not None:
                values |= self.chats.get(str(values["session"]), {})
            yield Row(row[0], values)

    def _translate(self, values: dict[str, Any]) -> None:
        for field, meant in self.values.items():
            value = values.get(field)
            values[field] = meant.get("" if value is None else str(value), value)


class Plan(NamedTuple):
    """The tables to read, in order, and what is not read, with the reason."""

    tables: list[TablePlan]
    left_out: list[tuple[str, str]]
    name: str = ""
    """The database's for ever: what its mapping says, else after its first row."""


def plan_tables(connection: sqlite3.Connection, mapping: Mapping) -> Plan:
    """Return how the database is read.

    Raises ConfigurationError for a mapping that names a table or column which there is not, or maps
    a table without what its kind needs; ImportFailed for row numbers that cannot be kept.
    """
    found = tables(connection)
    by_name = {table.name: table for table in found}
    for name in mapping.tables:
        if name not in by_name:
            raise ConfigurationError(
                f"the mapping names the table {name!r}, which there is not.",
                remedy=f"There are: {', '.join(by_name) or 'none'}.",
            )
    plan = Plan([], [])
    for table in found:
        _plan_table(connection, table, mapping, plan)
    _find_chats(connection, plan)
    plan.tables.sort(key=lambda each: _ORDER.index(each.kind))
    name = mapping.name or _name(connection, plan.tables)
    named = [each._replace(name=f"sqlite:{name}:{each.table.name}") for each in plan.tables]
    return Plan(named, plan.left_out, name)


def _plan_table(connection: sqlite3.Connection, table: Table, mapping: Mapping, plan: Plan) -> None:
    given = mapping.tables.get(table.name, TableMapping())
    _check_columns(table, given)
    seen = recognise(table.name, table.columns, given.kind, given.columns)
    if seen is None:
        plan.left_out.append((table.name, f"unknown table of {table.row_count:,} rows"))
        return
    if seen.kind == "skip":
        plan.left_out.append((table.name, SKIPPED))
        return
    missing = [field for field in seen.missing if field not in given.constants]
    if missing == ["conversation"] and seen.kind == "message" and "session" in seen.columns:
        missing = []  # their sessions know
    if missing:
        reason = f"{seen.kind} without a column for {', '.join(missing)}"
        if given.kind or given.columns:
            raise ConfigurationError(
                f"the table {table.name!r} is mapped as {reason}.",
                remedy=f"Map it: --map {table.name}.{missing[0]}=COLUMN.",
            )
        plan.left_out.append((table.name, reason))
    elif table.position is None:
        plan.left_out.append((table.name, "rows without a number (WITHOUT ROWID, or virtual)"))
    elif table.row_count:
        constants = {**seen.constants, **given.constants}
        _check_numbers(connection, table)
        plan.tables.append(TablePlan(table, seen.kind, seen.columns, constants, given.values))


def _find_chats(connection: sqlite3.Connection, plan: Plan) -> None:
    """Give messages that name only their session what the sessions say of the chat."""
    chatless = [
        index
        for index, table in enumerate(plan.tables)
        if table.kind == "message" and "conversation" not in table.columns | table.constants
    ]
    if not chatless:
        return
    sessions = [t for t in plan.tables if t.kind == "session" and "conversation" in t.columns]
    chats = {
        str(row.values["session"]): {
            field: row.values.get(field) for field in ("conversation", "platform")
        }
        for table in sessions
        for row in table.rows(connection)
    }
    for index in chatless:
        plan.tables[index] = plan.tables[index]._replace(chats=chats)


def _check_columns(table: Table, given: TableMapping) -> None:
    for field, column in given.columns.items():
        if column not in table.columns:
            raise ConfigurationError(
                f"the mapping finds {field!r} in the column {table.name}.{column}, which there is not.",
                remedy=f"There are: {', '.join(table.columns)}.",
            )


def _check_numbers(connection: sqlite3.Connection, table: Table) -> None:
    position = table.position
    low, high = connection.execute(
        f"SELECT min({position}), max({position}) FROM {quoted(table.name)}"  # noqa: S608
    ).fetchone()
    if low < 1 or high > MAX_ROW_NUMBER:
        raise ImportFailed(
            f"rows of {table.name!r} are numbered {low} to {high}; 1 to {MAX_ROW_NUMBER} can be kept.",
            remedy="Import a copy in which it is numbered anew, made with"
            " `CREATE TABLE … AS SELECT … ORDER BY rowid`.",
        )


def _name(connection: sqlite3.Connection, plans: list[TablePlan]) -> str:
    """Return a name after the first message, or the first row of what there is."""
    if not plans:
        return "empty"
    first = next((each for each in plans if each.kind == "message"), plans[0])
    values = next(first.rows(connection)).values
    said = [str(values.get(field)) for field in _NAMED_BY[first.kind]]
    return fingerprint("\n".join(said).encode("utf-8", "surrogateescape"))
