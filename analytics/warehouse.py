"""SQL over everything: archive and live tail, without a seam, fresh at each query."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa

from analytics.catalogue import Catalogue
from analytics.connection import MEMORY_LIMIT, VIEWS, new_connection, set_sources
from analytics.segment import Coverage
from analytics.storage import DirectoryStorage, Storage
from analytics.tail import LiveTail
from eventlog.errors import HistoryGap, QueryFailed
from eventlog.log import EventLog

_READING = frozenset(
    {
        duckdb.StatementType.SELECT,
        duckdb.StatementType.EXPLAIN,
        duckdb.StatementType.MULTI,  # PIVOT: it finds its columns first
    }
)
_MAX_LISTINGS = 3

Parameters = Sequence[Any] | Mapping[str, Any]
"""Values for each `?` in turn, or for each `$name`."""


class Warehouse:
    """The views over one archive, and over one log where there is one.

    >>> async with Warehouse.open(log) as warehouse:
    ...     table = await warehouse.query("SELECT status, count(*) FROM sessions GROUP BY ALL")
    """

    def __init__(
        self, log: EventLog | None, storage: Storage, *, memory_limit: str = MEMORY_LIMIT
    ) -> None:
        self._storage = storage
        self._catalogue = Catalogue(storage)
        self._tail = LiveTail(log) if log is not None else None
        self._memory_limit = memory_limit
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._lock = asyncio.Lock()

    @classmethod
    def open(
        cls,
        log: EventLog | None,
        archive: Path | str | None = None,
        *,
        memory_limit: str = MEMORY_LIMIT,
    ) -> Self:
        """Return the warehouse, to be entered with `async with` or awaited.

        `archive` defaults to the log's setting. Without a log the archive alone is queried, and no
        server is needed.
        """
        if archive is None:
            if log is None:
                raise QueryFailed("neither a log nor an archive to query was given.")
            archive = log.settings.archive_path
        return cls(log, DirectoryStorage(Path(archive)), memory_limit=memory_limit)

    async def __aenter__(self) -> Self:
        self._connection = await asyncio.to_thread(new_connection, self._memory_limit)
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()  # here: at the end of the program no thread can be started any more

    async def query(
        self, sql: str, parameters: Parameters = (), *, limit: int | None = None
    ) -> pa.Table:
        """Return the result of one reading statement over all that was appended before the call.

        With `limit` no more than its first rows.

        `?` in the text stands for the next of `parameters`, `$name` for the one of that name.
        Raises QueryFailed with DuckDB's own words; HistoryGap where entries are neither in the
        archive nor in the log. A cancelled call stops the query.
        """
        async with self._lock:
            connection = self._opened()
            require_reading(connection, sql)
            coverages, tail = await self._sources()
            return await _interruptible(
                connection, self._run, coverages, tail, sql, parameters, limit
            )

    async def connect(self) -> duckdb.DuckDBPyConnection:
        """Return a DuckDB connection of your own, for tables and exports: close it yourself.

        Its views cover all that was appended before the call, and stay at that until `refresh`.
        """
        connection = await asyncio.to_thread(new_connection, self._memory_limit)
        try:
            await self.refresh(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    async def refresh(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let the views of a connection that `connect` gave cover all that was appended by now.

        Raises QueryFailed while a result of the connection is not read to its end.
        """
        async with self._lock:
            self._opened()
            coverages, tail = await self._sources()
            try:
                await asyncio.to_thread(set_sources, connection, self._storage, coverages, tail)
            except duckdb.Error as error:
                raise failure(error) from None

    async def _sources(self) -> tuple[dict[int, Coverage], pa.Table | None]:
        """Return what the archive covers and the tail that begins where it ends."""
        listings = 0
        while True:
            coverages = await asyncio.to_thread(self._catalogue.scan)
            listings += 1
            try:
                return coverages, await self._tail.refresh(coverages) if self._tail else None
            except HistoryGap:
                # Archived and trimmed since it was listed; if not, it is truly gone.
                if listings == _MAX_LISTINGS:
                    raise

    def _run(
        self,
        coverages: dict[int, Coverage],
        tail: pa.Table | None,
        sql: str,
        parameters: Parameters,
        limit: int | None,
    ) -> pa.Table:
        connection = self._opened()
        try:
            set_sources(connection, self._storage, coverages, tail)
            values = dict(parameters) if isinstance(parameters, Mapping) else list(parameters)
            relation = connection.sql(sql, params=values or None)
            return (relation if limit is None else relation.limit(limit)).to_arrow_table()
        except duckdb.Error as error:
            raise failure(error) from None

    def _opened(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            raise QueryFailed(
                "the warehouse is not open.", remedy="Use `async with Warehouse.open(log)`."
            )
        return self._connection


def require_reading(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Ensure that the text is one statement that reads. Raises QueryFailed.

    This keeps a slip from writing; it is no cage for SQL from strangers.
    """
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise failure(error) from None
    if len(statements) != 1 or statements[0].type not in _READING:
        raise QueryFailed(
            "a query is one statement that reads: SELECT, FROM, WITH, DESCRIBE or EXPLAIN.",
            remedy="For tables of your own and exports use `analytics.connect`.",
        )


def failure(error: duckdb.Error) -> QueryFailed:
    """Return DuckDB's error as ours, with the views there are."""
    return QueryFailed(
        str(error).rstrip(),
        remedy=f"Views: {', '.join(VIEWS)}; `DESCRIBE events` lists the columns of one.",
    )


async def _interruptible(
    connection: duckdb.DuckDBPyConnection, work: Any, *arguments: Any
) -> pa.Table:
    """Return what `work` returns in a thread; cancelled, interrupt the query and wait for its end."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        connection.interrupt()
        await asyncio.wait([running])
        running.exception()  # nobody else will ask
        raise
