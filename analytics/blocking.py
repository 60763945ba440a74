"""The warehouse for notebooks and scripts: no event loop, answers as Arrow, pandas or polars.

>>> warehouse = open_warehouse()
>>> warehouse.query("SELECT sender, count(*) AS n FROM messages GROUP BY sender").polars()
>>> warehouse.report("messages-per-day", since="30d").figure()
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from analytics.answer import Answer, ReportAnswer
from analytics.reports import Reports, question, said
from analytics.warehouse import Parameters, Warehouse
from eventlog.clock import SYSTEM_CLOCK
from eventlog.errors import ConfigurationError
from eventlog.log import EventLog
from eventlog.portal import Blocking, Portal, blocking


class BlockingWarehouse(Blocking[Warehouse]):
    """A `Warehouse` whose methods block. Safe to share between threads.

    Each query sees all that was appended before it.
    """

    def __init__(self, log: EventLog | None, warehouse: Warehouse, reports: Reports) -> None:
        super().__init__(warehouse, Portal("open_warehouse"))
        self._log = log
        self._reports = reports

    def query(self, sql: str, parameters: Parameters = (), *, limit: int | None = None) -> Answer:
        """Return the answer to one reading statement: `Warehouse.query`."""
        query: Any = self._target.query
        return Answer(self._portal.call(query, sql, parameters, limit=limit))

    def report(self, name: str, **given: Any) -> ReportAnswer:
        """Return what a report says, its parameters given by name: `since="7d"`, `chat="irc:a"`.

        Raises InvalidQuery for a report or a parameter that there is not.
        """
        report = self._reports.get(name)
        clock = SYSTEM_CLOCK if self._log is None else self._log.clock
        sql, values = question(report, given, clock.now_us())
        return ReportAnswer(self.query(sql, values).arrow(), report, said(report, values))

    def reports(self) -> Answer:
        """Return the reports there are: name, title, description, parameters."""
        found = self._reports.all()
        return Answer(
            pa.table(
                {
                    "report": [each.name for each in found],
                    "title": [each.title for each in found],
                    "parameters": [", ".join(p.name for p in each.parameters) for each in found],
                    "description": [each.description for each in found],
                }
            )
        )

    connect = blocking(Warehouse.connect)
    refresh = blocking(Warehouse.refresh)

    def open(self) -> Self:
        """Start; `open_warehouse` has done so."""
        self._portal.open(_Both(self._log, self._target))
        return self

    def close(self) -> None:
        """Let go of the log and its server; idempotent. The end of the program does so too."""
        self._portal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Both:
    """Log and warehouse, entered and left together."""

    def __init__(self, log: EventLog | None, warehouse: Warehouse) -> None:
        self._parts: list[Any] = [part for part in (log, warehouse) if part is not None]
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> None:
        async with AsyncExitStack() as stack:
            for part in self._parts:
                await stack.enter_async_context(part)
            self._stack = stack.pop_all()

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()


def open_warehouse(
    url: str | None = None,
    *,
    archive: Path | str | None = None,
    reports: Sequence[Path | str] = (),
    **settings: Any,
) -> BlockingWarehouse:
    """Return the warehouse of a log, open; of an archive alone, without any server, by `archive`.

    `url` and `settings` are those of `EventLog.open`; `reports` are folders of your own reports,
    beside the one that the settings name. Close it, or use it with `with`.
    """
    folders = [Path(folder) for folder in reports]
    if archive is not None:
        if url is not None or settings:
            raise ConfigurationError(
                "an archive alone has no server and no settings.",
                remedy="Name the archive of a log by `archive_dir`.",
            )
        return BlockingWarehouse(None, Warehouse.open(None, archive), Reports(folders)).open()
    log = EventLog.open(url, **settings)
    own = Reports([log.settings.reports_path, *folders])
    return BlockingWarehouse(log, Warehouse.open(log), own).open()
