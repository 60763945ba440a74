"""Looks now and then how far everything is, and records it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from analytics import Catalogue, storage_of
from analytics.segment import Segment
from consumers.group_status import group_status
from eventlog import EventLog
from eventlog.errors import EventLogError
from eventlog.ids import START, EntryId
from projections.storing.build import ROLES
from projections.storing.redis_models import RedisModels
from tests.fault.journal import JournalFile
from tests.fault.whole.reading import DELIVERING, WATCHING

INTERVAL_S = 0.2
GROUPS = DELIVERING, WATCHING


class Watch:
    """The one who looks, over a connection that no fault strikes but the server's own."""

    def __init__(self, log: EventLog, journal: JournalFile, *, compacts: bool = False) -> None:
        """With `compacts` it is not at rest before a file was compacted."""
        self._log = log
        self._journal = journal
        self._catalogue = Catalogue(storage_of(log.settings))
        self._models = RedisModels(log)
        self._last: dict[str, Any] = {}
        self._files: frozenset[str] = frozenset()
        """The archive's, as of the last look."""
        self._compacts = compacts
        """Whether somebody has yet to compact something."""

    async def until_cancelled(self) -> None:
        while True:
            with suppress(EventLogError, RedisError, OSError):  # the server is away
                await self.look()
            await asyncio.sleep(INTERVAL_S)

    async def look(self) -> None:
        """Record what has changed since the last look. What the log begins with comes first."""
        firsts = await self._firsts()
        for partition, head in enumerate(await self._log.heads()):
            self._position(f"head {partition}", head.n)
            self._position(f"log's begin {partition}", firsts[partition])
        for group in GROUPS:
            for each in (await group_status(self._log, group)).partitions:
                self._position(f"group {group} {each.partition}", each.delivered.n)
        archived = await asyncio.to_thread(self._catalogue.scan)
        for partition, coverage in archived.items():
            self._position(f"archive {partition}", coverage.position.n)
        self._look_at_files([file for each in archived.values() for file in each.segments])
        for partition in range(self._log.partition_count):
            await self._look_at_models(partition)
            await self._look_at_needs(partition, firsts[partition])

    async def _firsts(self) -> list[int]:
        """Return the lowest sequence of each partition, one above the head where there is none."""
        heads = await self._log.heads()
        firsts = []
        for partition, head in enumerate(heads):
            oldest = await self._log.read_raw(partition, START, 1)
            firsts.append(oldest[0].id.n if oldest else head.n + 1)
        return firsts

    async def _look_at_models(self, partition: int) -> None:
        shelf = await self._models.shelf(partition)
        for (_, role), build in shelf.builds.items():
            if role in ROLES:
                self._position(f"{build.model} {partition}", shelf.checkpoint(build).n)

    async def _look_at_needs(self, partition: int, first_n: int) -> None:
        """Record what groups and read models need, as the server itself says."""
        log, stream = self._log, self._log.keys.stream(partition)
        needs: dict[str, int] = {}
        for group in await log.client.xinfo_groups(stream):
            name = group["name"].decode()
            needs[name] = EntryId.parse(group["last-delivered-id"]).n + 1
            pending = await log.client.xpending(stream, name)
            if pending["pending"]:
                needs[name] = min(needs[name], EntryId.parse(pending["min"]).n)
        shelf = await self._models.shelf(partition)
        for build in shelf.builds.values():
            needs[build.model] = shelf.checkpoint(build).n + 1
        for who, needs_n in needs.items():
            if self._last.get(f"need {who} {partition}") != (needs_n, first_n):
                self._last[f"need {who} {partition}"] = needs_n, first_n
                self._journal.write(
                    "need", partition=partition, who=who, needs_n=needs_n, first_n=first_n
                )

    def _look_at_files(self, segments: Sequence[Segment]) -> None:
        """Record which files are new and compacted ones, and which were deleted."""
        names = frozenset(each.name for each in segments)
        compacted = [s.name for s in segments if s.is_compacted and s.name not in self._files]
        deleted = sorted(self._files - names)
        if compacted or deleted:
            self._journal.write("files", compacted=compacted, deleted=deleted)
        self._files = names
        self._compacts = self._compacts and not compacted

    def _position(self, of: str, n: int) -> None:
        if self._last.get(of) != n:
            self._last[of] = n
            self._journal.write("position", of=of, n=n)

    async def is_at_rest(self) -> bool:
        """Return whether everybody has done with everything there is."""
        with suppress(EventLogError, RedisError, OSError):
            await self.look()
            return not await self.left()
        return False

    async def _unhandled(self) -> list[str]:
        found = []
        for group in GROUPS:
            status = await group_status(self._log, group)
            found += [f"{group}: {each}" for each in status.partitions if each.lag_count]
        return found

    async def left(self) -> list[str]:
        """Return what is left to be done, in words."""
        found = await self._unhandled()
        if self._compacts:
            found.append("nothing was compacted")
        for partition, head in enumerate(await self._log.heads()):
            shelf = await self._models.shelf(partition)
            found += [
                f"{build.model} {partition} at {shelf.checkpoint(build)} of {head}"
                for build in shelf.builds.values()
                if shelf.checkpoint(build) != head
            ]
            if shelf.is_empty:
                found.append(f"partition {partition} has no read models")
        return found
