"""How far consumer groups are: truthful in every number, whatever the server's own lag says."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from consumers.group_partition import hand_consumer, line_consumer
from consumers.hand import Hand
from eventlog.connection import in_our_words
from eventlog.ids import START, EntryId
from eventlog.lease import LeaseKeeper
from eventlog.log import EventLog
from eventlog.scripts import load_script

_WAITING = load_script("consumers", "waiting")


class GroupPartitionStatus(NamedTuple):
    """A group in one partition."""

    partition: int
    head: EntryId
    """The partition's last entry."""
    delivered: EntryId
    """The last entry that was delivered to the group."""
    in_hand_count: int
    """Delivered entries that a worker has in hand, or had when it died."""
    waiting_count: int
    """Delivered entries in the lines of blocked conversations."""
    foreign_count: int
    """Entries pending under names that are not a worker's; the next owner takes them over."""
    blocked_count: int
    """Conversations with a line."""
    next_due_ms: int | None
    """When the first of them is tried again, in ms since 1970 by the server's clock."""
    oldest_age_ms: int
    """How long ago the oldest entry was appended that is not done with; 0 where there is none."""
    owner: str | None
    """Who has the lease."""
    is_missing: bool
    """Whether the server lost the group; its next owner makes it again."""
    now_ms: int
    """When this was asked, by the server's clock."""

    @property
    def lag_count(self) -> int:
        """Entries that are not done with: never delivered, in hand, or waiting."""
        return max(0, self.head.n - self.delivered.n) + self.pending_count

    @property
    def pending_count(self) -> int:
        """Delivered entries that are not acknowledged."""
        return self.in_hand_count + self.waiting_count + self.foreign_count

    @property
    def is_quiet(self) -> bool:
        """Whether nothing delivered could be handled now."""
        is_due = self.next_due_ms is not None and self.next_due_ms <= self.now_ms
        return not (self.in_hand_count or self.foreign_count or is_due or self.is_missing)


class GroupStatus(NamedTuple):
    """A group in all partitions."""

    name: str
    partitions: list[GroupPartitionStatus]
    members: list[str]
    """Live workers."""

    @property
    def lag_count(self) -> int:
        """Entries that are not done with."""
        return sum(each.lag_count for each in self.partitions)

    @property
    def pending_count(self) -> int:
        """Delivered entries that are not acknowledged."""
        return sum(each.pending_count for each in self.partitions)

    @property
    def blocked_count(self) -> int:
        """Conversations that wait for another attempt."""
        return sum(each.blocked_count for each in self.partitions)

    @property
    def oldest_age_ms(self) -> int:
        """How long ago the oldest entry was appended that is not done with."""
        return max((each.oldest_age_ms for each in self.partitions), default=0)


async def group_status(log: EventLog, group: str) -> GroupStatus:
    """Return how far a group is. Raises LogUnavailable."""
    heads = await log.heads()
    reads = (_partition_status(log, group, p, head) for p, head in enumerate(heads))
    partitions = await asyncio.gather(*reads)
    return GroupStatus(group, list(partitions), await LeaseKeeper(log, group).members())


async def _partition_status(
    log: EventLog, group: str, partition: int, head: EntryId
) -> GroupPartitionStatus:
    stream, blocked = log.keys.stream(partition), log.keys.blocked(partition, group)
    pipeline = log.client.pipeline(transaction=False)
    pipeline.execute_command("HMGET", log.keys.work(partition, group), "delivered", "hand")
    pipeline.execute_command("XPENDING", stream, group)
    pipeline.execute_command("ZCARD", blocked)
    # By source: a pipeline cannot ask again for a script that the server lacks.
    pipeline.execute_command("EVAL", _WAITING.source, 1, blocked, 0)
    with in_our_words(log.settings):
        told, pending, blocked_count, waiting_first = await pipeline.execute(raise_on_error=False)
        now_ms, first_due = waiting_first
        delivered, hand = told
        if delivered is None:
            delivered = await _last_delivered(log, stream, group)
    position = EntryId.parse(delivered) if delivered else START
    is_missing = isinstance(pending, ResponseError)
    counts = {} if is_missing else _by_consumer(pending)
    in_hand = counts.pop(hand_consumer(partition), 0)
    waiting = counts.pop(line_consumer(partition), 0)
    if is_missing and hand:
        in_hand = Hand.told_count(hand.decode(), position)
        waiting = await _waiting_in_lines(log, partition, group)
    oldest = None if is_missing else _lowest(pending)
    if oldest is None and position < head:
        following = await log.read_raw(partition, position, 1)
        oldest = following[0].id if following else None
    return GroupPartitionStatus(
        partition=partition,
        head=head,
        delivered=position,
        in_hand_count=in_hand,
        waiting_count=waiting,
        foreign_count=sum(counts.values()),
        blocked_count=blocked_count,
        next_due_ms=int(float(first_due[1])) if first_due else None,
        oldest_age_ms=max(0, now_ms - oldest.ms) if oldest else 0,
        owner=await LeaseKeeper(log, group).owner_of(partition),
        is_missing=is_missing,
        now_ms=now_ms,
    )


async def _waiting_in_lines(log: EventLog, partition: int, group: str) -> int:
    """Return how many entries stand in lines, where the server has lost what was pending."""
    with in_our_words(log.settings):
        names = await log.client.execute_command(
            "ZRANGE", log.keys.blocked(partition, group), 0, -1
        )
        pipeline = log.client.pipeline(transaction=False)
        for name in names:
            pipeline.execute_command("LLEN", log.keys.line(partition, group, name.decode()))
        return sum(await pipeline.execute())


async def _last_delivered(log: EventLog, stream: str, group: str) -> bytes | None:
    """Return where the server says that a group stands which keeps no position of its own."""
    try:
        found: Any = await log.client.execute_command("XINFO GROUPS", stream)
    except ResponseError:
        return None  # the stream has no entry yet
    for each in found:
        if each["name"].decode() == group:
            last: bytes = each["last-delivered-id"]
            return last
    return None


def _by_consumer(pending: Any) -> dict[str, int]:
    """Return the counts of a reply to XPENDING, by consumer."""
    if isinstance(pending, dict):
        return {each["name"].decode(): each["pending"] for each in pending["consumers"]}
    return {name.decode(): int(count) for name, count in pending[3] or ()}


def _lowest(pending: Any) -> EntryId | None:
    lowest = pending["min"] if isinstance(pending, dict) else pending[1]
    return EntryId.parse(lowest) if lowest else None
