"""What a query reads: segments and the tail after them; and what becomes of it when a file is damaged.

A damaged file is found when DuckDB fails on it. Where other files or the log have its rows, the query
is answered from those. Where nothing has, it fails with the file, the sequences and what to do; or, if
that was asked for, goes on without these rows and says which.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

import duckdb
import pyarrow as pa

from analytics.catalogue import Catalogue
from analytics.inspecting import Damage, inspect
from analytics.sealing import broken_seal
from analytics.segment import Coverage, Range, Segment, cover
from eventlog.errors import HistoryGap
from eventlog.ids import START, EntryId
from eventlog.logs import get_logger

_MAX_LISTINGS = 3

_OF_THE_QUERY = (
    *(duckdb.ParserException, duckdb.CatalogException, duckdb.BinderException),
    *(duckdb.ConversionException, duckdb.InterruptException, duckdb.OutOfMemoryException),
)
"""Errors that no file is the cause of."""

_log = get_logger("warehouse")


class Held(NamedTuple):
    """What of one partition is read from files."""

    chosen: tuple[Segment, ...]
    position: EntryId
    """Where the tail begins."""


_NOTHING = Held((), START)


class Missing(NamedTuple):
    """Rows that a query was answered without."""

    partition: int
    first: int
    last: int
    files: tuple[str, ...]
    """Damaged files that would have them; none where the file is gone."""

    def __str__(self) -> str:
        because = f" ({', '.join(self.files)} is damaged)" if self.files else ""
        return f"partition {self.partition}: sequences {self.first:,} to {self.last:,}{because}"


class Tail(Protocol):
    """What the log has after the files."""

    async def refresh(self, coverages: Mapping[int, Held]) -> pa.Table:
        """Return it; raises HistoryGap where entries between the two are gone."""
        ...

    async def starts(self, held: Mapping[int, Held]) -> dict[int, EntryId]:
        """Return where the log goes on after the files, by partition: at once, or after a hole."""
        ...


class Sources:
    """The files and the tail of one warehouse, and which files are known to be damaged."""

    def __init__(self, catalogue: Catalogue, tail: Tail | None, *, skip_damaged: bool) -> None:
        self.missing: tuple[Missing, ...] = ()
        """What the last call of `take` gave no source for; always none without `skip_damaged`."""
        self._catalogue = catalogue
        self._tail = tail
        self._skip_damaged = skip_damaged
        self._damaged: dict[Segment, Damage] = {}

    async def take(self) -> tuple[dict[int, Held], pa.Table | None]:
        """Return what to read of each partition, and the tail that begins where that ends.

        Raises HistoryGap where entries are neither in a file nor in the log.
        """
        listings = 0
        while True:
            coverages = await asyncio.to_thread(self._scan)
            listings += 1
            held = {p: Held(each.chosen, each.position) for p, each in coverages.items()}
            self.missing = ()
            try:
                return held, await self._follow(held, coverages)
            except HistoryGap:
                # Archived and trimmed since it was listed; if not, it is truly gone.
                if listings < _MAX_LISTINGS:
                    continue
                if not self._skip_damaged:
                    self._explain(coverages)
                    raise
            return await self._without(coverages)

    async def _without(
        self, coverages: Mapping[int, Coverage]
    ) -> tuple[dict[int, Held], pa.Table | None]:
        """Return all there is to read, and note what there is not."""
        held: dict[int, Held] = {}
        missing: list[Missing] = []
        for partition, coverage in coverages.items():
            held[partition], lacks = _spanning(partition, coverage, self._damaged)
            missing += lacks
        if self._tail is not None:
            for partition, start in (await self._tail.starts(held)).items():
                before = held.get(partition, _NOTHING)
                held[partition] = Held(before.chosen, start)
                if start.n > before.position.n:
                    missing.append(Missing(partition, before.position.n + 1, start.n, ()))
        self.missing = tuple(missing)
        _log.info("rows_missing", where=[str(each) for each in missing])
        return held, await self._tail.refresh(held) if self._tail else None

    async def _follow(
        self, held: dict[int, Held], coverages: Mapping[int, Coverage]
    ) -> pa.Table | None:
        if self._tail is not None:
            return await self._tail.refresh(held)
        for partition, coverage in coverages.items():
            lost = [s for s in self._damaged if s.partition == partition]
            if coverage.stranded or any(s.last > coverage.position.n for s in lost):
                raise HistoryGap(
                    f"the archive of partition {partition} cannot be read beyond sequence "
                    f"{coverage.position.n:,}.",
                    remedy="`eventlog archive verify` tells what is wrong, and what to do.",
                )
        return None

    def _explain(self, coverages: Mapping[int, Coverage]) -> None:
        """Raise the error of a damaged file beyond which its partition cannot be read, if any."""
        for segment, damage in sorted(self._damaged.items()):
            coverage = coverages.get(segment.partition)
            if coverage is None or segment.last > coverage.position.n:
                error = damage.as_error()
                raise HistoryGap(
                    error.message, remedy=f"{error.remedy} `--skip-damaged` answers without it."
                )

    async def learn(self, error: Exception, held: Mapping[int, Held]) -> bool:
        """Return whether files were the cause of an error, so that what `take` gives is another."""
        if isinstance(error, _OF_THE_QUERY):
            return False
        read = [segment for each in held.values() for segment in each.chosen]
        return await asyncio.to_thread(self._look, str(error), read)

    def _look(self, text: str, read: Iterable[Segment]) -> bool:
        found: list[Damage] = []
        is_gone = False
        for segment in read:
            try:
                # DuckDB names the file where a page is at fault; not always where the footer is.
                if segment.name in text:
                    damage = inspect(self._catalogue.storage, segment)
                else:
                    why = broken_seal(self._catalogue.storage.path(segment), is_whole=False)
                    damage = Damage(segment, why) if why else None
            except FileNotFoundError:
                damage = Damage(segment, "is gone")
            if damage is not None and damage.why == "is gone":
                is_gone = True  # compacted meanwhile: another has its rows
            elif damage is not None:
                found.append(damage)
        for damage in found:
            _log.error("segment_damaged", segment=damage.segment.name, why=damage.why)
            self._damaged[damage.segment] = damage
        return bool(found) or is_gone

    def _scan(self) -> dict[int, Coverage]:
        coverages = self._catalogue.scan()
        storage = self._catalogue.storage
        # What is known to be damaged may have been restored under its name.
        self._damaged = {s: d for s in self._damaged if (d := inspect(storage, s)) is not None}
        for partition in {segment.partition for segment in self._damaged}:
            if partition in coverages:
                sound = set(coverages[partition].segments) - self._damaged.keys()
                coverages[partition] = cover(sound)
        return coverages


def _spanning(
    partition: int, coverage: Coverage, damaged: Mapping[Segment, Damage]
) -> tuple[Held, list[Missing]]:
    """Return all there is of a partition, beyond gaps too, and what is not there."""
    chosen, position = list(coverage.chosen), coverage.position
    rest, missing = coverage.stranded, list[Missing]()
    lost = sorted(s for s in damaged if s.partition == partition)

    def lacks(last: int) -> None:
        within = Range(position.n + 1, last)
        files = tuple(s.name for s in lost if s.last >= within.first and s.first <= within.last)
        missing.append(Missing(partition, *within, files))

    while beyond := [segment for segment in rest if segment.first > position.n]:
        start = min(segment.first for segment in beyond) - 1
        following = cover(beyond, start)
        if start > position.n:
            lacks(start)
        chosen += following.chosen
        position, rest = following.chosen[-1].end, following.stranded
    if lost and lost[-1].last > position.n:
        lacks(lost[-1].last)
        position = lost[-1].end
    return Held(tuple(chosen), position), missing
