"""A DuckDB connection with the views over archive and live tail. Synchronous.

events  messages  sessions  deliveries  dead_letters  tool_calls  bridge_events
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import duckdb
import pyarrow as pa

from analytics.catalogue import Catalogue
from analytics.columns import SCHEMA
from analytics.opening import open_storage
from analytics.sources import Held
from analytics.storage import Storage

VIEWS = (
    "events",
    "messages",
    "sessions",
    "deliveries",
    "dead_letters",
    "tool_calls",
    "bridge_events",
)
MEMORY_LIMIT = "2GiB"
"""Beyond it DuckDB spills to a temporary directory."""


def connect(
    archive: Path | str, *, tail: pa.Table | None = None, memory_limit: str = MEMORY_LIMIT
) -> duckdb.DuckDBPyConnection:
    """Return a connection whose views cover the archive at that path or URL, and `tail` if given.

    The archive is listed once, now. `tail` is a table of `columns.SCHEMA` with what follows it.
    For a view that stays fresh and follows a log use `Warehouse`.
    """
    connection = new_connection(memory_limit)
    storage = open_storage(archive)
    coverages = Catalogue(storage).scan()
    held = {partition: Held(each.chosen, each.position) for partition, each in coverages.items()}
    set_sources(connection, storage, held, tail)
    return connection


def new_connection(memory_limit: str = MEMORY_LIMIT) -> duckdb.DuckDBPyConnection:
    """Return an in-memory connection with our settings and no view yet."""
    connection = duckdb.connect(":memory:")
    connection.execute(_sql("settings"))
    connection.execute(f"SET memory_limit = '{memory_limit}'")
    spill = Path(tempfile.gettempdir(), "eventlog-duckdb").as_posix().replace("'", "''")
    connection.execute(f"SET temp_directory = '{spill}'")
    return connection


def set_sources(
    connection: duckdb.DuckDBPyConnection,
    storage: Storage,
    coverages: Mapping[int, Held],
    tail: pa.Table | None,
) -> None:
    """Let the views read the segments of these coverages, and `tail`, from the next query on."""
    chosen = [segment for coverage in coverages.values() for segment in coverage.chosen]
    paths = list(map(str, storage.paths(chosen)))
    connection.register("tail", SCHEMA.empty_table() if tail is None else tail)
    before = connection.execute("SELECT len(getvariable('segments'))").fetchone()
    connection.execute("SET VARIABLE segments = ?::VARCHAR[]", [paths])
    # Views find the files and the tail anew at each use; only from none to some they must change.
    if before is None or before[0] is None or bool(before[0]) != bool(paths):
        try:
            for view in ("archive" if paths else "archive_empty", *VIEWS):
                connection.execute(_sql(view))
        except duckdb.Error:
            # A file that cannot be read: the views are not there, whatever is listed next time.
            connection.execute("RESET VARIABLE segments")
            raise


@functools.cache
def _sql(name: str) -> str:
    return files("analytics").joinpath("queries", f"{name}.sql").read_text(encoding="utf-8")
