"""A log whose read models are let go of, and what is left of them in Redis."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from analytics import DirectoryStorage
from analytics.past import ArchivedPast
from bridge import Bridge
from eventlog.clock import SystemClock
from eventlog.errors import LogUnavailable
from eventlog.keys import models_pattern
from eventlog.lease import Lease
from eventlog.log import EventLog
from projections.building.verifying import verify
from projections.builtin import DEFAULT_PROJECTIONS
from projections.folding.leaving import Leaving
from projections.folding.pipeline import Pipeline
from projections.projecting.worker import targets_on
from projections.storing.redis_models import RedisModels
from tests.archives import ArchivedWorld
from tests.projecting import read_out

WEEKS_US = 14 * 24 * 3600 * 1_000_000
UNHELD = "nobody"
"""A group whose lease the passes here pretend to hold; a projector that runs holds its own."""


class Later(SystemClock):
    """A clock that can be put forward."""

    ahead_us = 0

    def now_us(self) -> int:
        return super().now_us() + self.ahead_us


class World(ArchivedWorld):
    """A log with its archive and its read models."""

    def __init__(self, log: EventLog) -> None:
        storage = DirectoryStorage(log.settings.archive_path)
        super().__init__(log, storage)
        self.past = ArchivedPast(storage)

    def later(self) -> None:
        """Let two weeks pass."""
        assert isinstance(self.log.clock, Later)
        self.log.clock.ahead_us += WEEKS_US

    async def let_go(self, store: RedisModels | None = None) -> None:
        """Project, archive, and pass over every partition once, as its owner does."""
        await self.project()
        await self.archive()
        for partition in range(self.log.partition_count):
            await (await self.leaving(partition, store)).whole_pass()

    async def leaving(self, partition: int, store: RedisModels | None = None) -> Leaving:
        store = store or RedisModels(self.log)
        pipeline = await self.pipeline(partition, store)
        return Leaving(self.log, store, self.past, pipeline)

    async def pipeline(
        self, partition: int, store: RedisModels, lease: Lease | None = None
    ) -> Pipeline:
        """Return a pipeline that stands where all builds that serve do, under a new lease or a given."""
        shelf = await store.shelf(partition)
        targets = targets_on(shelf, DEFAULT_PROJECTIONS)
        position = shelf.checkpoint(targets[0].build)
        lease = lease or await self.take(partition)
        return Pipeline(self.log, store, targets, lease, position, moves_group=False)

    async def take(self, partition: int) -> Lease:
        """Return a lease on the partition in a group that has no members."""
        key = self.log.keys.lease(partition, UNHELD)
        generation = await self.log.client.hincrby(key, "generation", 1)
        await self.log.client.hset(
            key, mapping={"owner": "test", "generation": generation, "expires_ms": 2**50}
        )
        return Lease(UNHELD, partition, "test", generation)

    async def stored(self) -> Counter[str]:
        """Return how many documents and feeds are in Redis, by projection."""
        found: Counter[str] = Counter()
        client, log = self.log.client, self.log.keys.log
        async for key in client.scan_iter(models_pattern(log, "*")):
            name, _, rest = key.decode().partition("}:model:")[2].partition("@")
            kind = rest.split(":")[1]
            if kind == "doc":
                found[name] += await client.hlen(key)
            elif kind == "feed":
                found[name] += 1
        return found

    async def answers(self, chats: Sequence[str]) -> dict[str, Any]:
        return await read_out(self.log, list(chats), past=self.past)

    async def verify(self) -> None:
        for projection in DEFAULT_PROJECTIONS:
            async for verified in verify(self.log, projection, past=self.past):
                assert verified.difference is None, verified


class Dying(RedisModels):
    """Read models whose owner dies when it has noted what leaves, before it is gone from Redis."""

    async def _run(self, script: Any, keys: Sequence[str], packed: bytes) -> Any:
        if script is self._leave:
            raise LogUnavailable("it died")
        return await super()._run(script, keys, packed)


@asynccontextmanager
async def world_on(server_url: str, folder: Path, **settings: Any) -> AsyncIterator[World]:
    """Give a world that keeps its archive in a folder."""
    async with EventLog.open(
        server_url,
        key_prefix=folder.name,
        partition_count=2,
        data_dir=str(folder),
        clock=Later(),
        **settings,
    ) as log:
        yield World(log)


def program_of(world: World) -> Bridge:
    """Return a bridge on the world's log that projects nothing."""
    return Bridge(world.log, projections=None)
