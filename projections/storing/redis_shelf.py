"""The shelf in Redis: which builds of a read model there are, which one serves, and changing that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eventlog.cluster import ClusterClient
from eventlog.connection import in_our_words
from eventlog.keys import ModelKey, models_pattern
from eventlog.log import EventLog
from eventlog.scripts import load_script
from projections.folding.letters import GROUP
from projections.storing.build import Build, Role
from projections.storing.redis_steps import RedisSteps, shelf_of

UNLINKED_AT_ONCE = 1000


class RedisShelf(RedisSteps):
    """Claiming, beginning, swapping and putting away builds."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self._claim = load_script("projections", "shelf_claim")
        self._begin = load_script("projections", "shelf_begin")
        self._swap = load_script("projections", "shelf_swap")
        self._put_away = load_script("projections", "shelf_put_away")

    async def look_up(self, models: Sequence[tuple[str, int]]) -> None:
        """Find out where the builds of these versions are, in all partitions and one round trip.

        Else the first read of each finds it out, in a round trip of its own.
        """
        pipeline = self._log.client.pipeline(transaction=False)
        for partition in range(self._log.partition_count):
            pipeline.hgetall(self._log.keys.shelf(partition))
        with in_our_words(self._log.settings):
            for partition, stored in enumerate(await pipeline.execute()):
                for name, version in models:
                    self._place(partition, shelf_of(stored), name, version)

    async def claim(self, partition: int, builds: Sequence[Build]) -> None:
        """Let builds serve from the start of the log, if the shelf is empty."""
        named = [part for build in builds for part in (build.name, build.mark)]
        await self._on_shelf(self._claim, partition, *named)

    async def begin(self, partition: int, build: Build) -> Build:
        """Return the build of the projection that is in the making: this one, if none was."""
        mark = await self._on_shelf(self._begin, partition, build.name, build.mark)
        return Build.of_mark(build.name, mark.decode())

    async def swap(self, builds: Mapping[int, Build]) -> None:
        """Let the build in the making serve in each partition named, all in one step.

        In a cluster, which has no step over several partitions, one after the other: whoever is cut
        short leaves the rest in the making, and the next builder swaps them in.
        """
        in_one_step = not isinstance(self._log.client, ClusterClient)
        with in_our_words(self._log.settings):
            pipeline = self._log.client.pipeline(transaction=in_one_step)
            for partition, build in builds.items():
                # By source, not by digest: a transaction cannot ask again for a script it lacks.
                keys = self._log.keys.shelf(partition), self._log.keys.stream(partition)
                arguments = build.name, build.mark, GROUP
                pipeline.execute_command("EVAL", self._swap.source, 2, *keys, *arguments)
            await pipeline.execute()

    async def put_away(self, partition: int, build: Build, role: Role) -> None:
        """Take a build off the shelf if it is there in that role."""
        await self._on_shelf(self._put_away, partition, build.name, role, build.mark)

    async def sweep(self, name: str) -> int:
        """Delete what is stored of a projection's builds that are on no shelf; return how many keys."""
        log, count = self._log.keys.log, 0
        found: dict[int, list[tuple[str, str]]] = {}
        with in_our_words(self._log.settings):
            async for key in self._log.client.scan_iter(models_pattern(log, name), count=1000):
                if parsed := ModelKey.parse(log, key.decode()):
                    found.setdefault(parsed.partition, []).append((parsed.model, key.decode()))
        for partition, stored in found.items():
            # Asked after its keys were found: whatever is being made is on the shelf by then.
            shelf = await self.shelf(partition)
            kept = {build.model for build in shelf.builds.values()}
            doomed = [key for model, key in stored if model not in kept]
            for start in range(0, len(doomed), UNLINKED_AT_ONCE):
                count += await self._call("UNLINK", *doomed[start : start + UNLINKED_AT_ONCE])
        left = await self._departures.builds(name)
        shelves = {place.partition: await self.shelf(place.partition) for place in left}
        await self._departures.forget(
            [
                place
                for place in left
                if place.model not in {b.model for b in shelves[place.partition].builds.values()}
            ]
        )
        return count
