"""Leases: exclusive, expiring ownership of (group, partition), fenced by a generation.

Every member announces itself and looks who owns what; each keeps what it has up to its fair share,
and takes what nobody owns until it has that much. So a death moves no partition but the dead one's,
and any live member that has room takes them, not one that may be dead as well.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from eventlog.connection import in_our_words
from eventlog.ids import new_event_id
from eventlog.log import EventLog
from eventlog.scripts import load_script

BEATS_PER_TTL = 6
"""How often a lease is renewed in its time: what lapses is seen within a sixth of it."""

FRESH_BEATS = 2
"""Beats after which a member that was not heard of no longer counts for what is fair. Its leases
still hold until they lapse."""


class Lease(NamedTuple):
    """Ownership of a partition by a group's member, as of `generation`."""

    group: str
    partition: int
    owner: str
    generation: int


class Share(NamedTuple):
    """What a member should do about the partitions of its group."""

    keep: frozenset[int]
    give_back: frozenset[int]
    take: tuple[int, ...]
    """Those that nobody owns and that it has room for."""


def share_out(owners: Sequence[str | None], members: Sequence[str], member: str) -> Share:
    """Return a member's share, given who owns each partition (None: nobody) and who is alive. Pure.

    Shares differ by one at most; where they cannot be equal, those that have more keep more.
    """
    counts = Counter(owner for owner in owners if owner is not None)
    ranked = sorted(members, key=lambda each: (-counts[each], each))
    rank = ranked.index(member)
    fair, extra = divmod(len(owners), len(ranked))
    size = fair + (rank < extra)
    held = [p for p, owner in enumerate(owners) if owner == member]
    free = [p for p, owner in enumerate(owners) if owner is None]
    keep = frozenset(held[:size])
    # Members begin at different places, so that they seldom reach for the same one.
    start = rank * size % len(free) if free else 0
    room = size - len(keep)
    return Share(keep, frozenset(held[size:]), tuple((free[start:] + free[:start])[:room]))


def new_owner() -> str:
    """Return a name for an owner of leases, unlike any other's."""
    return f"{socket.gethostname()}-{os.getpid()}-{new_event_id()[-12:]}"


class LeaseKeeper:
    """This process's fair share of a group's partitions.

    Call `refresh` every `beat_s`. `held` is what may be worked on; a write still carries the lease's
    generation, since a paused process may hold a stale one.
    """

    def __init__(self, log: EventLog, group: str, owner: str | None = None) -> None:
        self.group = group
        self.owner = owner or new_owner()
        self.held: dict[int, Lease] = {}
        self.surplus: frozenset[int] = frozenset()
        """Of what is held: what others are to have as soon as the work on it has ended."""
        self._log = log
        self._ttl_ms = log.settings.lease_ttl_ms
        self._renewed_s = float("-inf")
        self._announce = load_script("eventlog", "member_announce")
        self._acquire = load_script("eventlog", "lease_acquire")
        self._release = load_script("eventlog", "lease_release")

    @property
    def is_fresh(self) -> bool:
        """Whether the last renewal was begun within the leases' time: then none can have lapsed."""
        return (self._log.clock.monotonic_s() - self._renewed_s) * 1000 < self._ttl_ms

    @property
    def beat_s(self) -> float:
        """How long to wait between two refreshes."""
        return self._ttl_ms / 1000 / BEATS_PER_TTL

    async def refresh(self, *, releases: bool = True) -> None:
        """Announce this member, renew its share, give back what is beyond it, take what is free.

        Without `releases`, what is beyond its share is named by `surplus` and renewed until it is
        released.
        """
        started_s = self._log.clock.monotonic_s()
        with in_our_words(self._log.settings):
            members, owners = await self._look()
            share = share_out(owners, members, self.owner)
            self.surplus = frozenset() if releases else share.give_back
            for partition in share.give_back - self.surplus:
                await self._release_held(partition)
            for partition in self.held.keys() - share.keep - self.surplus:
                del self.held[partition]  # it lapsed, and went to another or is free
            await self._acquire_all((*sorted(share.keep | self.surplus), *share.take))
        self._renewed_s = started_s

    async def leave(self) -> None:
        """Say that this member takes no more; what it holds is its own until it is released."""
        with in_our_words(self._log.settings):
            await self._log.client.zrem(self._log.keys.members(self.group), self.owner)

    async def renew(self) -> None:
        """Renew what is held and nothing else."""
        started_s = self._log.clock.monotonic_s()
        with in_our_words(self._log.settings):
            await self._acquire_all(sorted(self.held))
        self._renewed_s = started_s

    async def release(self, partition: int) -> None:
        """Give one lease back, if it is held."""
        with in_our_words(self._log.settings):
            await self._release_held(partition)

    async def owner_of(self, partition: int) -> str | None:
        """Return who holds a partition's lease, in whatever process; None where nobody does."""
        with in_our_words(self._log.settings):
            command = "HMGET", self._log.keys.lease(partition, self.group), "owner", "expires_ms"
            held = await self._log.client.execute_command(*command)
            return _owner(held, await self._now_ms())

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
        await self.leave()
        for partition in list(self.held):
            await self.release(partition)

    async def _acquire_all(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            key = self._log.keys.lease(partition, self.group)
            generation = await self._acquire(self._log.client, [key], [self.owner, self._ttl_ms])
            if generation:
                self.held[partition] = Lease(self.group, partition, self.owner, generation)
            else:
                self.held.pop(partition, None)

    async def _look(self) -> tuple[list[str], list[str | None]]:
        """Return the members heard of lately, this one among them, and each partition's owner.

        The server's clock decides who lives.
        """
        fresh_ms = self._ttl_ms * FRESH_BEATS // BEATS_PER_TTL
        now_ms, members = await self._announce(
            self._log.client,
            [self._log.keys.members(self.group)],
            [self.owner, self._ttl_ms, fresh_ms],
        )
        pipeline = self._log.client.pipeline(transaction=False)
        for partition in range(self._log.partition_count):
            lease = self._log.keys.lease(partition, self.group)
            pipeline.execute_command("HMGET", lease, "owner", "expires_ms")
        leases = await pipeline.execute()
        return [member.decode() for member in members], [_owner(held, now_ms) for held in leases]

    async def _now_ms(self) -> int:
        seconds, microseconds = await self._log.client.time()
        return seconds * 1000 + microseconds // 1000

    async def _release_held(self, partition: int) -> None:
        if lease := self.held.pop(partition, None):
            key = self._log.keys.lease(lease.partition, lease.group)
            await self._release(self._log.client, [key], [lease.generation])


def _owner(held: Sequence[Any], now_ms: int) -> str | None:
    """Return the owner that a lease's `owner` and `expires_ms` tell, None where it lapsed."""
    owner, expires_ms = held
    return owner.decode() if owner and int(expires_ms) > now_ms else None
