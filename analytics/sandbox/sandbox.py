"""SQL from strangers, over archive and live tail: each query in a caged process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from analytics.catalogue import Catalogue
from analytics.columns import SCHEMA
from analytics.connection import VIEWS
from analytics.opening import open_storage
from analytics.sandbox import landlock
from analytics.sandbox.limits import Limits
from analytics.sandbox.process import CagedProcess, timed_out
from analytics.sandbox.wire import Answer, Mode, Request, SegmentFile
from analytics.sources import Held, Sources
from analytics.storage import Storage
from analytics.tail import LiveTail
from eventlog.errors import (
    ConfigurationError,
    HistoryGap,
    QueryFailed,
    QueryRefused,
    QueryTooLarge,
)
from eventlog.log import EventLog

_MAX_SNAPSHOTS = 3
_REFUSED = f"A query can read the views {', '.join(VIEWS)}, and do nothing else."


class Sandbox:
    """Answers untrusted queries over one archive, and over one log where there is one.

    >>> async with Sandbox.open(log) as sandbox:
    ...     table = await sandbox.query("SELECT status, count(*) FROM sessions GROUP BY ALL")

    Each query has a process that was started before it and ends with it. At most `running_count`
    run at once, the others wait in order; so all of them together take no more memory than
    `running_count` times `limits.memory_bytes`, and the tail as often.
    """

    def __init__(
        self,
        log: EventLog | None,
        storage: Storage,
        *,
        limits: Limits | None = None,
        running_count: int = 2,
        spare_count: int = 1,
        mode: Mode | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.mode: Mode = mode or find_mode()
        tail = LiveTail(log) if log is not None else None
        self._sources = Sources(Catalogue(storage), tail, skip_damaged=False)
        self._taking = asyncio.Lock()
        self._storage = storage
        self._turn = asyncio.Semaphore(running_count)
        self._spare_count = spare_count
        self._spare: list[asyncio.Task[CagedProcess]] = []
        self._starting: set[asyncio.Task[CagedProcess]] = set()
        self._living: set[CagedProcess] = set()
        self._is_open = False

    @classmethod
    def open(cls, log: EventLog | None, archive: Path | str | None = None, **options: Any) -> Self:
        """Return the sandbox, to be entered with `async with` or awaited.

        `archive` defaults to the log's setting; `options` are the constructor's.
        """
        if archive is None:
            if log is None:
                raise QueryFailed("neither a log nor an archive to query was given.")
            archive = log.settings.archive_place
        return cls(log, open_storage(archive, log.settings if log else None), **options)

    async def __aenter__(self) -> Self:
        self._is_open = True
        self._prepare()
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
        """End all processes; queries that still run fail. Idempotent."""
        self._is_open = False
        self._spare.clear()
        if self._starting:
            await asyncio.wait(self._starting)
        for process in list(self._living):
            await self._end(process)

    async def query(
        self, sql: str, parameters: Sequence[Any] = (), *, limits: Limits | None = None
    ) -> pa.Table:
        """Return the result of one reading statement over all that was appended before the call.

        `?` in the text stands for the next of `parameters`. Raises QueryRefused, QueryTooLarge,
        QueryTimeout, else QueryFailed with DuckDB's own words; HistoryGap where entries are neither
        in the archive nor in the log. A cancelled call ends the process at once.
        """
        limits = limits or self.limits
        sent = _sent(sql, parameters, limits)
        async with self._turn:
            for _ in range(_MAX_SNAPSHOTS):
                async with self._taking:  # the tail is kept between queries
                    held, tail = await self._sources.take()
                request = await asyncio.to_thread(self._request, sql, limits, held)
                async with self._process() as process:
                    tail = SCHEMA.empty_table() if tail is None else tail
                    answer, table = await process.ask(request, sent, tail)
                if answer.outcome != "segment_gone":
                    return _told(answer, table, limits)
        raise HistoryGap(
            "files of the archive vanish while they are read.",
            remedy="Restore the missing segment from a backup.",
        )

    def _request(self, sql: str, limits: Limits, held: Mapping[int, Held]) -> Request:
        return Request(
            sql=sql,
            limits=limits,
            mode=self.mode,
            segments=[
                SegmentFile(str(self._storage.path(segment)), segment.name)
                for each in held.values()
                for segment in each.chosen
            ],
            views=[_sql(view) for view in VIEWS],
            archive_view=_sql("archive_unnamed"),
            rows_view=_sql("archive_rows"),
            settings=_sql("settings"),
        )

    @asynccontextmanager
    async def _process(self) -> AsyncIterator[CagedProcess]:
        """Give a process that is ready, and end it."""
        process = await self._taken()
        self._prepare()
        try:
            await process.ready()
            yield process
        except QueryFailed:
            self._require_open()  # then the process was ended for another reason than its query
            raise
        finally:
            await self._end(process)

    async def _taken(self) -> CagedProcess:
        """Return the first spare process that lives, else a new one."""
        while True:
            self._require_open()
            starting = self._spare.pop(0) if self._spare else self._start()
            try:
                process = await asyncio.shield(starting)
            except asyncio.CancelledError:
                self._spare.append(starting)  # for the next one; nothing was asked of it
                raise
            if process.is_alive:
                return process
            await self._end(process)

    def _require_open(self) -> None:
        if not self._is_open:
            raise QueryFailed(
                "the sandbox is not open.", remedy="Use `async with Sandbox.open(log)`."
            )

    def _prepare(self) -> None:
        """Start what is missing of the spare processes."""
        while len(self._spare) < self._spare_count:
            self._spare.append(self._start())

    def _start(self) -> asyncio.Task[CagedProcess]:
        starting = asyncio.create_task(self._started())
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)
        return starting

    async def _started(self) -> CagedProcess:
        process = await CagedProcess.start()
        self._living.add(process)
        return process

    async def _end(self, process: CagedProcess) -> None:
        await process.kill()
        self._living.discard(process)


def find_mode() -> Mode:
    """Return how untrusted SQL is kept from the file system on this machine.

    Raises ConfigurationError where it cannot be.
    """
    if not Path("/proc/self/statm").exists():
        raise ConfigurationError(
            "untrusted SQL needs Linux with /proc mounted.",
            remedy="Run the sandbox in a Linux container.",
        )
    return "landlock" if landlock.abi() else "descriptors"


def _told(answer: Answer, table: pa.Table | None, limits: Limits) -> pa.Table:
    if table is not None:
        return table
    if answer.outcome == "refused":
        raise QueryRefused(answer.message.rstrip(".") + ".", remedy=_REFUSED)
    if answer.outcome == "too_large":
        raise QueryTooLarge(answer.message, remedy="Ask for less, or aggregate.")
    if answer.outcome == "timeout":
        raise timed_out(limits)
    raise QueryFailed(
        answer.message,
        remedy=f"Views: {', '.join(VIEWS)}; `DESCRIBE events` lists the columns of one.",
    )


def _sent(sql: str, parameters: Sequence[Any], limits: Limits) -> pa.Table:
    """Return the parameters as a table of one row. Raises QueryFailed, QueryTooLarge."""
    try:
        table = pa.table({str(place): [value] for place, value in enumerate(parameters)})
        size = len(sql.encode()) + table.nbytes
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        raise QueryFailed(f"the text or a parameter cannot be sent: {error}.") from None
    if size > limits.sql_bytes:
        raise QueryTooLarge(
            f"the query's text and parameters have {size:,} bytes, not up to {limits.sql_bytes:,}."
        )
    return table


def _sql(name: str) -> str:
    return files("analytics").joinpath("queries", f"{name}.sql").read_text(encoding="utf-8")
