"""The driver: parse sources, append what the log has not, once and for ever.

Importing again adds nothing, an interrupted import goes on where it stopped, a file that grew adds
what is new, a line that was refused and corrected is added: see `unit_import` and `rejections`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from bridge.importers.detect import PARSERS, detect_format, sources
from bridge.importers.items import Imported, Rejected, Unit
from bridge.importers.known_sources import remember
from bridge.importers.migration.mapping import Mapping
from bridge.importers.migration.sessions import settle_sessions
from bridge.importers.report import ImportReport
from bridge.importers.source import Source
from bridge.importers.unit_import import UnitImport
from eventlog.errors import ImportFailed
from eventlog.log import EventLog

AFTERWARDS = {"sqlite": settle_sessions}
"""Format name → what is left to do when all records of a source are in the log."""


class Progress(NamedTuple):
    """How far the import of a source has come; bytes as they lie on disk."""

    source: Source
    bytes_done: int
    total_bytes: int
    events_added: int


ProgressCallback = Callable[[Progress], None]


async def import_paths(
    log: EventLog,
    paths: Sequence[Path],
    *,
    strict: bool = False,
    mapping: Mapping | None = None,
    progress: ProgressCallback | None = None,
) -> ImportReport:
    """Return the report of importing files and folders, one file after the other by label.

    `mapping` says how tables are read whose names say too little.

    Raises what `detect.sources` and `import_source` raise.
    """
    found = sources(paths, mapping)
    report = ImportReport(skipped=found.skipped)
    for source in found.sources:
        report.merge(await import_source(log, source, strict=strict, progress=progress))
    return report


async def import_source(
    log: EventLog,
    source: Source | Path,
    *,
    strict: bool = False,
    mapping: Mapping | None = None,
    progress: ProgressCallback | None = None,
) -> ImportReport:
    """Return the report of importing one file.

    A record that cannot be read is reported and the rest goes on; with `strict` it raises
    ImportFailed after what stands before it was appended. Raises ImportFailed for a file that
    cannot be read, LogUnavailable; importing again then goes on from there.
    """
    if isinstance(source, Path):
        source = Source(source, format_name=detect_format(source) or "", mapping=mapping)
    if source.format_name not in PARSERS:
        raise ImportFailed(
            f"{source.path} is of no format known here.", remedy=f"Known: {', '.join(PARSERS)}."
        )
    run = _Run(log, source, strict=strict, progress=progress)
    try:
        return await run.all()
    finally:
        await run.land()


class _Run:
    """One pass over a source, unit by unit."""

    def __init__(
        self, log: EventLog, source: Source, *, strict: bool, progress: ProgressCallback | None
    ) -> None:
        self._report = ImportReport()
        self._log = log
        self._source = source
        self._strict = strict
        self._progress = progress
        self._unit: UnitImport | None = None

    async def all(self) -> ImportReport:
        """Return the report when the source is at its end."""
        for item in PARSERS[self._source.format_name](self._source):
            if isinstance(item, Unit):
                await self._finish_unit()
                if self._source.database_name is not None:
                    await remember(self._log, self._source, self._source.database_name)
                self._unit = await UnitImport.begin(self._log, self._source, item)
                continue
            assert self._unit is not None, "a parser names a unit first"
            if isinstance(item, Imported):
                if self._unit.take(item):
                    await self._unit.send()
                    self._show_progress(self._unit.file.events_added)
            else:
                await self._reject(self._unit, item)
        await self._finish_unit()
        label = self._source.label
        self._report.skipped += [(f"{label}#{n}", why) for n, why in self._source.left_out]
        if self._source.format_name in AFTERWARDS:
            await AFTERWARDS[self._source.format_name](self._log, self._source, self._report)
        return self._report

    async def land(self) -> None:
        """Return when no append is under way any more."""
        if self._unit is not None:
            await self._unit.land()

    async def _finish_unit(self) -> None:
        if self._unit is not None:
            await self._unit.finish()
            self._unit.report_to(self._report)
            self._raise_if_strict()
            self._unit = None
            self._show_progress(0)

    async def _reject(self, unit: UnitImport, item: Rejected) -> None:
        unit.reject(item)
        if self._strict:
            await self._finish_unit()

    def _raise_if_strict(self) -> None:
        if self._strict and self._report.rejected:
            raise ImportFailed(
                f"{self._report.rejected[0]}.", remedy="Correct it, or import without --strict."
            )

    def _show_progress(self, unit_added: int) -> None:
        if self._progress is not None:
            source, added = self._source, self._report.events_added + unit_added
            self._progress(Progress(source, source.bytes_done, source.size_bytes, added))
