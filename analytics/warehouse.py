"""SQL over everything: archive and live tail, without a seam, fresh at each query."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa

from analytics.catalogue import Catalogue
from analytics.connection import MEMORY_LIMIT, VIEWS, new_connection, set_sources
from analytics.opening import open_storage
from analytics.sources import Held, Missing, Sources
from analytics.storage import Storage
from analytics.tail import LiveTail
from eventlog.errors import EventLogError, HistoryGap, QueryFailed
from eventlog.log import EventLog

_READING = frozenset(
    {
        duckdb.StatementType.SELECT,
        duckdb.StatementType.EXPLAIN,
        duckdb.StatementType.MULTI,  # PIVOT: it finds its columns first
    }
)
_MAX_TRIES = 10
"""Of one query: each but the last finds a file that is damaged or gone."""

INTERRUPT_INTERVAL_S = 0.05
"""Between two attempts to stop a query that was cancelled."""

Parameters = Sequence[Any] | Mapping[str, Any]
"""Values for each `?` in turn, or for each `$name`."""


class Warehouse:
    """The views over one archive, and over one log where there is one.

    >>> async with Warehouse.open(log) as warehouse:
    ...     table = await warehouse.query("SELECT status, count(*) FROM sessions GROUP BY ALL")
    """

    def __init__(
        self,
        log: EventLog | None,
        storage: Storage,
        *,
        memory_limit: str = MEMORY_LIMIT,
        skip_damaged: bool = False,
    ) -> None:
        self._storage = storage
        tail = LiveTail(log) if log is not None else None
        self._sources = Sources(Catalogue(storage), tail, skip_damaged=skip_damaged)
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
        skip_damaged: bool = False,
    ) -> Self:
        """Return the warehouse, to be entered with `async with` or awaited.

        `archive` defaults to the log's setting. Without a log the archive alone is queried, and no
        server is needed. With `skip_damaged` a query goes on without the rows of damaged files that
        nothing else has; `missing` then says which.
        """
        if archive is None:
            if log is None:
                raise QueryFailed("neither a log nor an archive to query was given.")
            archive = log.settings.archive_place
        storage = open_storage(archive, log.settings if log is not None else None)
        return cls(log, storage, memory_limit=memory_limit, skip_damaged=skip_damaged)

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
            self._storage.paths(())

    async def query(
        self, sql: str, parameters: Parameters = (), *, limit: int | None = None
    ) -> pa.Table:
        """Return the result of one reading statement over all that was appended before the call.

        With `limit` no more than its first rows. `?` in the text stands for the next of
        `parameters`, `$name` for the one of that name. Raises QueryFailed with DuckDB's own words;
        HistoryGap where entries are neither in the archive nor in the log, naming the file where
        one is damaged. A cancelled call stops the query.
        """
        async with self._lock:
            connection = self._opened()
            require_reading(connection, sql)
            return await self._answered(connection, self._run, sql, parameters, limit)

    async def _answered(
        self, connection: duckdb.DuckDBPyConnection, work: Any, *arguments: Any
    ) -> Any:
        """Return what `work` makes of the connection whose views cover all there is by now."""
        for _ in range(_MAX_TRIES):
            held, tail = await self._sources.take()
            try:
                return await _interruptible(connection, work, connection, held, tail, *arguments)
            except (duckdb.Error, RuntimeError) as error:
                problem: EventLogError = failure(error)
                if not await self._sources.learn(error, held):
                    break
            except HistoryGap as gone:  # compacted since it was listed; if not, it is lost
                problem = gone
        raise problem from None

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
            await self._answered(connection, self._set)

    @property
    def missing(self) -> tuple[Missing, ...]:
        """Rows that the last query was answered without; always none without `skip_damaged`."""
        return self._sources.missing

    def _set(
        self,
        connection: duckdb.DuckDBPyConnection,
        held: dict[int, Held],
        tail: pa.Table | None,
    ) -> None:
        set_sources(connection, self._storage, held, tail)

    def _run(
        self,
        connection: duckdb.DuckDBPyConnection,
        held: dict[int, Held],
        tail: pa.Table | None,
        sql: str,
        parameters: Parameters,
        limit: int | None,
    ) -> pa.Table:
        set_sources(connection, self._storage, held, tail)
        values = dict(parameters) if isinstance(parameters, Mapping) else list(parameters)
        relation = connection.sql(sql, params=values or None)
        return (relation if limit is None else relation.limit(limit)).to_arrow_table()

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


def failure(error: duckdb.Error | RuntimeError) -> QueryFailed:
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
        while not running.done():
            # Between two statements nothing is there to interrupt, and the next would run to its end.
            connection.interrupt()
            with suppress(asyncio.CancelledError):  # cancelled once more: it ends all the same
                await asyncio.wait([running], timeout=INTERRUPT_INTERVAL_S)
        running.exception()  # nobody else will ask
        raise
