"""A DuckDB connection with the views over archive and live tail. Synchronous.

events  messages  sessions  deliveries  dead_letters  tool_calls  bridge_events
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

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
    before = _variable(connection, "segments")
    try:
        _compare_columns(connection, paths)
        connection.execute("SET VARIABLE segments = ?::VARCHAR[]", [paths])
        # Views find the files and the tail anew at each use; only from none to some they must change.
        if before is None or bool(before) != bool(paths):
            for view in ("archive" if paths else "archive_empty", *VIEWS):
                connection.execute(_sql(view))
    except duckdb.Error:
        # A file that cannot be read: the views are not there, whatever is listed next time.
        connection.execute("RESET VARIABLE segments")
        raise


def _compare_columns(connection: duckdb.DuckDBPyConnection, paths: Sequence[str]) -> None:
    """Set what `archive` has to know: whether files of these differ in their columns.

    Only files that are new are opened, or were put in the place of another. Where files differed
    once, they are taken to for as long as the connection lives.
    """
    seen = set(_variable(connection, "seen_segments") or ())
    stamped = {f"{_changed_ns(path)} {path}": path for path in paths}
    new = [path for stamp, path in stamped.items() if stamp not in seen]
    if new:
        connection.execute("SET VARIABLE new_segments = ?::VARCHAR[]", [new])
        found = connection.execute(_sql("segments_differ")).fetchone()
        assert found is not None
        differ = found[0] or bool(_variable(connection, "segments_differ"))
        connection.execute("SET VARIABLE segments_differ = ?::BOOLEAN", [differ])
        connection.execute("SET VARIABLE segment_columns = ?::VARCHAR[]", [found[1]])
    connection.execute("SET VARIABLE seen_segments = ?::VARCHAR[]", [list(stamped)])


def _changed_ns(path: str) -> int:
    """Return when a file was changed; 0 where it is gone, which the query will say."""
    try:
        return Path(path).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _variable(connection: duckdb.DuckDBPyConnection, name: str) -> Any:
    found = connection.execute("SELECT getvariable(?)", [name]).fetchone()
    return None if found is None else found[0]


@functools.cache
def _sql(name: str) -> str:
    return files("analytics").joinpath("queries", f"{name}.sql").read_text(encoding="utf-8")
