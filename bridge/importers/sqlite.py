"""SQLite databases of older bridges: one unit per table, a row's number as its position.

`migration.layout` says which tables are known by name, `migration.mapping` how others are read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from functools import partial

from bridge.importers.items import Imported, Item, Rejected, Unit
from bridge.importers.migration.database import snapshot
from bridge.importers.migration.records import (
    Reading,
    bridge_event,
    dead_letter,
    message,
    session_started,
)
from bridge.importers.migration.tables import Row, TablePlan, plan_tables
from bridge.importers.migration.values import status_of
from bridge.importers.records import BadRecord
from bridge.importers.source import Source

Build = Callable[[Row, str], Imported]

_ROW_BYTES = 200
"""What a row has beside its text."""


def parse(source: Source) -> Iterator[Item]:
    """Yield the items of all tables that are read; positions are row numbers.

    Raises ImportFailed for a file that cannot be read, ConfigurationError for a wrong mapping.
    """
    with snapshot(source.path) as connection:
        plan = plan_tables(connection, source.mapping)
        source.left_out = plan.left_out
        source.database_name = plan.name
        total = sum(each.table.row_count for each in plan.tables)
        done = 0
        for table in plan.tables:
            yield Unit((table.name,), table.table.name, has_lines=True)
            for item in _table(connection, table, source):
                done += 1
                source.told_bytes = source.size_bytes * done // max(total, 1)
                yield item
        source.told_bytes = source.size_bytes


def _table(connection: sqlite3.Connection, table: TablePlan, source: Source) -> Iterator[Item]:
    build = _builder(table, source.mapping.reading)
    for row in table.rows(connection):
        number = row.number
        try:
            item = build(row, f"{table.name}:{number}")
        except BadRecord as error:
            yield Rejected(number, number, str(error))
            continue
        source.text_bytes += _size(row)
        yield item


def _size(row: Row) -> int:
    """Return about how many bytes a row has, to keep batches of bounded size."""
    text = row.values.get("text")
    return _ROW_BYTES + (len(text) if isinstance(text, str) else 0)


def _builder(table: TablePlan, reading: Reading) -> Build:
    match table.kind:
        case "message":
            return partial(_message, reading)
        case "session":
            return partial(_session, reading, set())
        case "dead_letter":
            return lambda row, origin: Imported(
                row.number, row.number, (dead_letter(row.values, origin, reading),), _LETTER
            )
        case _:
            return partial(_bridge_event, reading)


_MESSAGE = {True: ("message", "message.received"), False: ("message", "message.sent")}
_LETTER = ("dead_letter",)


def _message(reading: Reading, row: Row, origin: str) -> Imported:
    event = message(row.values, origin, reading)
    kinds = _MESSAGE[event.type == "message.received"]
    return Imported(row.number, row.number, (event,), kinds)


def _session(reading: Reading, seen: set[str], row: Row, origin: str) -> Imported:
    status = status_of(row.values.get("status"))
    event = session_started(row.values, origin, reading, status)
    assert event.session
    if event.session in seen:
        # The predecessor made a second record when a status changed: it is one session.
        return Imported(row.number, row.number, (), ("session.repeated",))
    seen.add(event.session)
    return Imported(row.number, row.number, (event,), ("session",))


def _bridge_event(reading: Reading, row: Row, origin: str) -> Imported:
    event = bridge_event(row.values, origin, reading)
    return Imported(row.number, row.number, (event,), ("bridge_event",))
