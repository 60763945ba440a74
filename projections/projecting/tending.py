"""Tending: what is new to a log gets built, and a build that was left half made is taken up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from eventlog.errors import ConfigurationError, EventLogError, LogUnavailable
from eventlog.lease import LeaseKeeper
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.past import Past
from projections.building.builder import Builder, builders_of
from projections.projection import Projection
from projections.storing.build import Build, Shelf
from projections.storing.store import ModelStore

TEND_INTERVAL_S = 5.0

_log = get_logger("projector")


class Tending:
    """Looks now and then whether a projection has no build to read, or one that nobody works on."""

    def __init__(
        self,
        log: EventLog,
        projections: Sequence[Projection],
        store: ModelStore,
        past: Past | None,
    ) -> None:
        self.errors: dict[str, EventLogError] = {}
        """What went wrong the last time, by model."""
        self._log = log
        self._projections = projections
        self._store = store
        self._past = past

    async def run(self) -> None:
        """Tend until cancelled."""
        while True:
            for projection in self._projections:
                try:
                    await self._tend(projection)
                    self.errors.pop(projection.model, None)
                except LogUnavailable as error:
                    _log.info("tending_interrupted", model=projection.model, error=str(error))
                except EventLogError as error:
                    if str(error) != str(self.errors.get(projection.model)):
                        _log.warning("building_failed", model=projection.model, error=str(error))
                    self.errors[projection.model] = error
            await self._log.clock.sleep(TEND_INTERVAL_S)

    async def _tend(self, projection: Projection) -> None:
        partitions = range(self._log.partition_count)
        shelves = await asyncio.gather(*(self._store.shelf(p) for p in partitions))
        self._refuse_other_versions(shelves, projection)
        missing = [p for p, shelf in enumerate(shelves) if self._lacks(shelf, projection)]
        now_us = self._log.clock.now_us()
        build = Build.begin(projection.name, projection.version, now_us)
        for partition in missing:
            await self._store.begin(partition, build)
        is_begun = any(_is_building(shelf, projection) for shelf in shelves)
        if missing or (is_begun and not await self._is_worked_on(projection)):
            _log.info("building", model=projection.model)
            await Builder(self._log, projection, past=self._past, store=self._store).run()
            await self._store.sweep(projection.name)

    @staticmethod
    def _refuse_other_versions(shelves: Sequence[Shelf], projection: Projection) -> None:
        """Raise where this version has nothing to read and another one is in the making."""
        for shelf in shelves:
            build = shelf.get(projection.name, "building")
            if (
                build is not None
                and build.version != projection.version
                and shelf.role_of(projection.name, projection.version) is None
            ):
                raise ConfigurationError(
                    f"{projection.model} cannot be built while {build.name}@{build.version} is.",
                    remedy="Let that one end, or give it up: "
                    f"`eventlog projections cancel {projection.name}`.",
                )

    def _lacks(self, shelf: Shelf, projection: Projection) -> bool:
        """Return whether there is nothing to read nor in the making, and it cannot just be claimed."""
        if shelf.get(projection.name, "building") is not None:
            return False
        if shelf.is_empty:
            return False
        return shelf.role_of(projection.name, projection.version) is None

    async def _is_worked_on(self, projection: Projection) -> bool:
        return bool(await LeaseKeeper(self._log, builders_of(projection)).members())


def _is_building(shelf: Shelf, projection: Projection) -> bool:
    build = shelf.get(projection.name, "building")
    return build is not None and build.version == projection.version
