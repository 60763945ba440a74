"""Waiting for new entries of several partitions of a cluster, which no single command can.

Each partition is read by a blocking call of its own, which goes on where its caller has what came in
another one and asks again. Callers that wait at the same place share the call: nothing is lost with
its reply, since a read changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from eventlog.cluster import ClusterClient
from eventlog.entry import RawEntry, raw_entries
from eventlog.ids import EntryId
from eventlog.keys import Keys
from eventlog.tasks import end_calls

BLOCKED_AT_MOST = 64
"""Partitions of a caller that are waited for by blocking, each on a connection of its own."""

POLL_S = 0.05
"""Between two looks where there are more."""

Found = list[tuple[int, RawEntry]]


class _Spot(NamedTuple):
    """Where somebody waits."""

    partition: int
    after: EntryId
    limit: int


class ClusterArrivals:
    """The calls under way, of one client."""

    def __init__(self, client: ClusterClient, keys: Keys, longest_block_ms: int) -> None:
        self._client = client
        self._keys = keys
        self._longest_block_ms = longest_block_ms
        self._reads: dict[_Spot, asyncio.Task[Found]] = {}

    async def wait(self, cursor: Mapping[int, EntryId], limit: int, timeout_ms: int) -> Found:
        """Return new entries after the cursor of each partition, or none after `timeout_ms`."""
        spots = [_Spot(partition, after, limit) for partition, after in cursor.items()]
        if found := await self._look(spots):
            return found
        if not timeout_ms:
            return []
        timeout_s = min(timeout_ms, self._longest_block_ms) / 1000
        if len(spots) > BLOCKED_AT_MOST:
            return await self._poll(spots, timeout_s)
        done, _ = await asyncio.wait(
            [self._read(spot) for spot in spots],
            timeout=timeout_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        return [entry for task in done for entry in task.result()]

    async def close(self) -> None:
        """Give up what is under way."""
        await end_calls(*self._reads.values())

    async def _look(self, spots: list[_Spot]) -> Found:
        """Return what is there, of all in a round trip per node."""
        pipeline = self._client.pipeline(transaction=False)
        for spot in spots:
            pipeline.execute_command(*self._command(spot))
        replies = await pipeline.execute()
        return [
            each
            for spot, reply in zip(spots, replies, strict=True)
            for each in _entries(spot, reply)
        ]

    async def _poll(self, spots: list[_Spot], timeout_s: float) -> Found:
        end_s = asyncio.get_running_loop().time() + timeout_s
        while asyncio.get_running_loop().time() < end_s:
            await asyncio.sleep(POLL_S)
            if found := await self._look(spots):
                return found
        return []

    def _read(self, spot: _Spot) -> asyncio.Task[Found]:
        """Return the call that waits at a spot, begun where there is none."""
        task = self._reads.get(spot)
        if task is None:
            task = self._reads[spot] = asyncio.create_task(self._block(spot))
            task.add_done_callback(lambda done: self._ended(spot, done))
        return task

    async def _block(self, spot: _Spot) -> Found:
        return _entries(
            spot,
            await self._client.execute_command(
                *self._command(spot, "BLOCK", self._longest_block_ms)
            ),
        )

    def _ended(self, spot: _Spot, task: asyncio.Task[Found]) -> None:
        self._reads.pop(spot, None)
        if not task.cancelled():
            task.exception()  # nobody may be waiting for it any more

    def _command(self, spot: _Spot, *more: Any) -> tuple[Any, ...]:
        stream = self._keys.stream(spot.partition)
        return ("XREAD", "COUNT", spot.limit, *more, "STREAMS", stream, str(spot.after))


def _entries(spot: _Spot, reply: Any) -> Found:
    return [(spot.partition, entry) for _, entries in reply or () for entry in raw_entries(entries)]
