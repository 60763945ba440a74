"""What tests of building read models need: an archive, a look at the shelves, a say in what happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from analytics import Archiver, DirectoryStorage, Rolling
from eventlog.keys import models_pattern
from eventlog.log import EventLog
from projections.builtin import DEFAULT_PROJECTIONS
from projections.projecting.projector import Projector
from projections.projection import Projection
from projections.storing.batch import Commit, CommitOutcome
from projections.storing.build import Build, Role, Shelf
from projections.storing.redis_models import RedisModels


async def archive(log: EventLog, storage: DirectoryStorage) -> None:
    """Archive everything there is, in many small segments."""
    async with Archiver(log, storage, rolling=Rolling(max_rows=20)) as archiver:
        await archiver.run_once()


async def trim(log: EventLog, kept_count: int = 0) -> list[int]:
    """Trim all but so many entries of each partition; return how many went."""
    gone = []
    for partition in range(log.partition_count):
        stream = log.keys.stream(partition)
        gone.append(await log.client.xtrim(stream, maxlen=kept_count, approximate=False))
    return gone


async def shelves_of(log: EventLog) -> list[Shelf]:
    return [await RedisModels(log).shelf(p) for p in range(log.partition_count)]


async def in_role(log: EventLog, name: str, role: Role) -> list[Build | None]:
    """Return a projection's build in a role, by partition."""
    return [shelf.get(name, role) for shelf in await shelves_of(log)]


async def entry_count(log: EventLog) -> int:
    return sum(head.n for head in await log.heads())


async def stored_models(log: EventLog, name: str) -> set[tuple[int, str]]:
    """Return the (partition, build) whose keys are stored of a projection."""
    found = set()
    async for key in log.client.scan_iter(models_pattern(log.keys.log, name), count=1000):
        tag, _, rest = key.decode().partition("}:model:")
        found.add((int(tag.rpartition(":")[2]), rest.partition(":")[0]))
    return found


async def named_models(log: EventLog, name: str) -> set[tuple[int, str]]:
    """Return the (partition, build) that shelves name."""
    return {
        (partition, build.model)
        for partition, shelf in enumerate(await shelves_of(log))
        for build in shelf.builds.values()
        if build.name == name
    }


class Gated(RedisModels):
    """Read models that swap nothing in until they may."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self.is_asked = asyncio.Event()
        self.may_swap = asyncio.Event()

    async def swap(self, builds: Mapping[int, Build]) -> None:
        self.is_asked.set()
        await self.may_swap.wait()
        await super().swap(builds)


class Watched(RedisModels):
    """Read models that keep their commits."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self.commits: list[Commit] = []

    async def commit(self, commit: Commit) -> CommitOutcome:
        outcome = await super().commit(commit)
        self.commits.append(commit)
        return outcome


@asynccontextmanager
async def projecting(
    log: EventLog, projections: Sequence[Projection] = DEFAULT_PROJECTIONS, **more: Any
) -> AsyncIterator[Projector]:
    """Have a projector running meanwhile."""
    stop = asyncio.Event()
    projector = Projector(log, projections, **more)
    running = asyncio.create_task(projector.run(stop))
    try:
        yield projector
    finally:
        stop.set()
        await running
