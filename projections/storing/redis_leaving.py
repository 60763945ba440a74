"""What leaves the read models in Redis and comes back: asked, noted and done by a build's owner."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from eventlog.connection import in_our_words
from eventlog.log import EventLog
from eventlog.scripts import load_script
from projections.storing.batch import Leave
from projections.storing.departed_file import Departed, Place
from projections.storing.packing import pack_leave
from projections.storing.redis_steps import RedisSteps


class RedisLeaving(RedisSteps):
    """Documents and feeds on their way from Redis into the file of what has departed."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self._leave = load_script("projections", "leave")

    async def departures(self, partition: int, models: Sequence[str]) -> list[int]:
        """Return how often documents or feeds left each of some builds. Raises HistoryGap."""
        pipeline = self._log.client.pipeline(transaction=False)
        for model in models:
            pipeline.hget(self._log.keys.departures(partition, model), "")
        with in_our_words(self._log.settings):
            told: Any = await pipeline.execute()
        numbers = [int(number or 0) for number in told]
        for model, number in zip(models, numbers, strict=True):
            if number:  # they must be there
                await self._departures.number(Place(partition, model), number)
        return numbers

    async def departed(
        self, partition: int, model: str, keys: Collection[str]
    ) -> Mapping[str, Departed]:
        """Return what is known of documents or feeds that are not stored and may have left.

        For the owner of the build alone, since nothing else leaves or comes back meanwhile.
        """
        return await self._departures.find_any(Place(partition, model), keys)

    async def returned(
        self, partition: int, model: str, keys: Collection[str], number: int
    ) -> None:
        """Note that documents are stored again that had left in the first `number` departures."""
        await self._departures.unlist(Place(partition, model), keys, number)

    async def departure_number(self, partition: int, model: str, at_least: int) -> int:
        """Return the number of the last departure that was noted of a build.

        Raises HistoryGap where it is less than what Redis told.
        """
        return await self._departures.number(Place(partition, model), at_least)

    async def some_documents(
        self, partition: int, model: str, cursor: int, count: int
    ) -> tuple[int, dict[str, bytes]]:
        """Return about `count` stored documents of a build and the cursor of the following, 0 at the end."""
        with in_our_words(self._log.settings):
            key = self._log.keys.documents(partition, model)
            reply: Any = await self._log.client.hscan(key, cursor, count=count)
        following, found = reply
        return int(following), {key.decode(): raw for key, raw in found.items()}

    async def some_feeds(
        self, partition: int, model: str, cursor: int, count: int
    ) -> tuple[int, dict[str, tuple[int, bytes]]]:
        """Return how many entries some feeds ever took, and the last item of each; cursor as above."""
        keys, client = self._log.keys, self._log.client
        with in_our_words(self._log.settings):
            reply: Any = await client.hscan(keys.feeds(partition, model), cursor, count=count)
            following, stored = reply
            names = {name.decode(): int(dropped) for name, dropped in stored.items()}
            pipeline = client.pipeline(transaction=False)
            for name in names:
                pipeline.llen(keys.feed(partition, model, name))
                pipeline.lindex(keys.feed(partition, model, name), -1)
            replies: Any = await pipeline.execute() if names else []
        lasts = zip(names.items(), replies[::2], replies[1::2], strict=True)
        return int(following), {
            name: (dropped + length, item) for (name, dropped), length, item in lasts if item
        }

    async def are_there(self, partition: int, model: str, keys: Sequence[str]) -> list[bool]:
        """Return of documents whether each is stored."""
        place = self._log.keys.documents(partition, model)
        pipeline = self._log.client.pipeline(transaction=False)
        for key in keys:
            pipeline.hexists(place, key)
        with in_our_words(self._log.settings):
            return list(map(bool, await pipeline.execute())) if keys else []

    async def leave(self, leave: Leave) -> bool:
        """Return whether documents or feeds have left: noted, durably, and then gone from Redis.

        Where this ends in between they are both, which counts as not gone. Nobody else may have
        changed them since they were read: the lease, and the checkpoint, say so.
        """
        place = Place(leave.partition, leave.step.build.model)
        leaving = [*leave.documents, *leave.feeds]
        if not await self._departures.put(place, leaving, leave.number - 1):
            return False
        return bool(await self._run(self._leave, *pack_leave(leave, self._log.keys)))
