"""The archive: what its files' names say, whether they are sealed, and what may leave the log."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from typing import NamedTuple

from starlette.responses import Response

from analytics.catalogue import Catalogue
from analytics.opening import storage_of
from analytics.retention import Plan
from analytics.sealing import broken_seal
from analytics.segment import Coverage, Segment, cover
from analytics.storage import DirectoryStorage, Storage
from eventlog.ids import EntryId
from service.http.dashboard import words
from service.http.dashboard.charts import Chart, bar_chart
from service.http.dashboard.glance import Kept
from service.http.dashboard.page import Ask
from service.pinning import words_of
from service.wiring import Service, new_retention

SHOWN_DAYS = 30
LOOKED_AT = 100
"""Files whose seals are looked at, the newest ones; only their ends are read."""
KEPT_S = 5.0


class PartitionRow(NamedTuple):
    """A partition of the archive."""

    partition: int
    file_count: int
    compacted_count: int
    position_n: int
    lag_count: int
    byte_count: int
    gaps: Sequence[tuple[int, int]]
    last_day: date | None


class DayRow(NamedTuple):
    """A day of appending."""

    day: date
    file_count: int
    row_count: int
    byte_count: int


class Seals(NamedTuple):
    """What a look at the newest files' ends said."""

    looked_count: int
    broken: Sequence[tuple[str, str]]
    """File, and what is wrong with it."""


class ArchivePage(NamedTuple):
    """The page."""

    place: str
    rows: Sequence[PartitionRow]
    days: Sequence[DayRow]
    chart: Chart | None
    seals: Seals | None
    """None where the files are not on this machine."""
    plan: Plan
    held: Sequence[tuple[str, str, int, int]]
    sentence: str


class _Scan(NamedTuple):
    coverages: Mapping[int, Coverage]
    byte_counts: Mapping[Segment, int]
    seals: Seals | None


async def gather(service: Service) -> ArchivePage:
    """Return the page. Files are listed, not read; of the newest only the ends are."""
    log = service.log
    storage = storage_of(log.settings, clock=log.clock)
    heads = await log.heads()
    scan = await asyncio.to_thread(_scan, storage)
    plan = await new_retention(log).plan()
    return page_of(str(log.settings.archive_place), heads, scan, plan)


def page_of(place: str, heads: Sequence[EntryId], scan: _Scan, plan: Plan) -> ArchivePage:
    """Return the page, given what is there. Pure."""
    rows = [_row(n, head, scan) for n, head in enumerate(heads)]
    days = days_of(
        [s for coverage in scan.coverages.values() for s in coverage.chosen], scan.byte_counts
    )
    chart = None
    if days:
        shown = days[-SHOWN_DAYS:]
        chart = bar_chart(
            f"Entries archived per day of appending, the last {len(shown)} days that have any.",
            [f"{each.day:%m-%d}" for each in shown],
            {"entries": [float(each.row_count) for each in shown]},
            "entries",
        )
    held = [(*words_of(h.pin), h.entry_count, h.stream_bytes) for h in plan.holders]
    return ArchivePage(
        place, rows, days, chart, scan.seals, plan, held, sentence(rows, scan.seals, plan)
    )


def sentence(rows: Sequence[PartitionRow], seals: Seals | None, plan: Plan) -> str:
    """Return how things are. Pure."""
    gaps = sum(len(row.gaps) for row in rows)
    if gaps:
        return f"{words.count(gaps, 'gap')} in the archive: files are missing. Restore them from a backup."
    if seals is not None and seals.broken:
        return f"{words.count(len(seals.broken), 'file')} changed since it was sealed. Restore it."
    lag = sum(row.lag_count for row in rows)
    files = sum(row.file_count for row in rows)
    if not files:
        return f"Nothing is archived yet; {words.count(lag, 'entry', 'entries')} wait in the log."
    whole = f"The archive is whole: {words.count(files, 'file')} without a gap"
    waits = f", {words.count(lag, 'entry', 'entries')} to come" if lag else ""
    held = f" {words.count(plan.held_count, 'old entry', 'old entries')} cannot leave the log yet." if (
        plan.held_count
    ) else ""  # fmt: skip
    return f"{whole}{waits}.{held}"


def days_of(segments: Sequence[Segment], byte_counts: Mapping[Segment, int]) -> list[DayRow]:
    """Return what each day of appending has, oldest first. Pure."""
    by_day: defaultdict[date, list[Segment]] = defaultdict(list)
    for segment in segments:
        by_day[segment.day].append(segment)
    return [
        DayRow(day, len(found), sum(s.row_count for s in found), sum(byte_counts.get(s, 0) for s in found))
        for day, found in sorted(by_day.items())
    ]  # fmt: skip


def _row(partition: int, head: EntryId, scan: _Scan) -> PartitionRow:
    coverage = scan.coverages.get(partition, cover(()))
    return PartitionRow(
        partition,
        len(coverage.chosen),
        sum(each.is_compacted for each in coverage.chosen),
        coverage.position.n,
        max(0, head.n - coverage.position.n),
        sum(scan.byte_counts.get(each, 0) for each in coverage.chosen),
        [(gap.first, gap.last) for gap in coverage.gaps],
        coverage.chosen[-1].day if coverage.chosen else None,
    )


def _scan(storage: Storage) -> _Scan:
    coverages = Catalogue(storage).scan()
    if not isinstance(storage, DirectoryStorage):
        return _Scan(coverages, {}, None)
    chosen = [each for coverage in coverages.values() for each in coverage.chosen]
    byte_counts = {}
    for segment in chosen:
        try:
            byte_counts[segment] = storage.path(segment).stat().st_size
        except FileNotFoundError:  # compacted since it was listed
            continue
    newest = sorted(chosen, key=lambda each: -each.last_ms)[:LOOKED_AT]
    broken = []
    for segment in newest:
        try:
            why = broken_seal(storage.path(segment), is_whole=False)
        except FileNotFoundError:
            continue
        except OSError as error:
            why = f"cannot be read ({error.strerror})"
        if why:
            broken.append((segment.name, why))
    return _Scan(coverages, byte_counts, Seals(len(newest), broken))


class ArchivePages:
    """The page, made once for all who look within a few seconds."""

    def __init__(self) -> None:
        self._kept = Kept[ArchivePage](KEPT_S)

    async def __call__(self, ask: Ask) -> Response:
        """Return the page."""
        service = ask.service

        async def read() -> ArchivePage:
            return await gather(service)

        return await ask.page("archive.html", page=await self._kept.get(read))
