"""Leases: exclusive, expiring ownership of (group, partition), fenced by a generation.

Every member announces itself; the partitions are dealt to the live members in turn; each takes what
is dealt to it once its last owner has released it or let it lapse.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import NamedTuple

from eventlog.connection import in_our_words
from eventlog.ids import new_event_id
from eventlog.log import EventLog
from eventlog.scripts import load_script


class Lease(NamedTuple):
    """Ownership of a partition by a group's member, as of `generation`."""

    group: str
    partition: int
    owner: str
    generation: int


def deal(partition_count: int, members: Sequence[str], member: str) -> set[int]:
    """Return the partitions that fall to `member` when they are dealt in turn. Pure.

    Shares differ by one at most. Every member computes the same from the same list.
    """
    ranked = sorted(members)
    return set(range(ranked.index(member), partition_count, len(ranked)))


class LeaseKeeper:
    """This process's fair share of a group's partitions.

    Call `refresh` at least every third of `settings.lease_ttl_ms`. `held` is what may be worked on;
    a write still carries the lease's generation, since a paused process may hold a stale one.
    """

    def __init__(self, log: EventLog, group: str, owner: str | None = None) -> None:
        self.group = group
        self.owner = owner or f"{socket.gethostname()}-{os.getpid()}-{new_event_id()[-12:]}"
        self.held: dict[int, Lease] = {}
        self._log = log
        self._ttl_ms = log.settings.lease_ttl_ms
        self._acquire = load_script("eventlog", "lease_acquire")
        self._release = load_script("eventlog", "lease_release")

    async def refresh(self) -> None:
        """Announce this member, renew, give up what is no longer dealt to it, take what is."""
        with in_our_words(self._log.settings):
            share = deal(self._log.partition_count, await self._announce(), self.owner)
            for partition in self.held.keys() - share:
                await self._give_back(self.held.pop(partition))
            for partition in sorted(share):
                key = self._log.keys.lease(partition, self.group)
                generation = await self._acquire(
                    self._log.client, [key], [self.owner, self._ttl_ms]
                )
                if generation:
                    self.held[partition] = Lease(self.group, partition, self.owner, generation)
                else:
                    self.held.pop(partition, None)

    async def owner_of(self, partition: int) -> str | None:
        """Return who holds a partition's lease, in whatever process; None where nobody does."""
        with in_our_words(self._log.settings):
            command = "HMGET", self._log.keys.lease(partition, self.group), "owner", "expires_ms"
            owner, expires_ms = await self._log.client.execute_command(*command)
            is_held = owner and int(expires_ms) > await self._now_ms()
        return owner.decode() if is_held else None

    async def members(self) -> list[str]:
        """Return the group's live members."""
        with in_our_words(self._log.settings):
            key, now_ms = self._log.keys.members(self.group), await self._now_ms()
            found = await self._log.client.execute_command(
                "ZRANGE", key, f"({now_ms}", "+inf", "BYSCORE"
            )
        return [member.decode() for member in found]

    async def release_all(self) -> None:
        """Give every lease back and leave the group, so that others take over at once."""
        with in_our_words(self._log.settings):
            await self._log.client.zrem(self._log.keys.members(self.group), self.owner)
            while self.held:
                await self._give_back(self.held.popitem()[1])

    async def _announce(self) -> list[str]:
        """Return the live members, this one among them. The server's clock decides who lives."""
        key, now_ms = self._log.keys.members(self.group), await self._now_ms()
        pipeline = self._log.client.pipeline(transaction=True)
        pipeline.zadd(key, {self.owner: now_ms + self._ttl_ms})
        pipeline.zremrangebyscore(key, "-inf", now_ms)
        pipeline.zrange(key, 0, -1)
        return [member.decode() for member in (await pipeline.execute())[-1]]

    async def _now_ms(self) -> int:
        seconds, microseconds = await self._log.client.time()
        return seconds * 1000 + microseconds // 1000

    async def _give_back(self, lease: Lease) -> None:
        key = self._log.keys.lease(lease.partition, lease.group)
        await self._release(self._log.client, [key], [lease.generation])
