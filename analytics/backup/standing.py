"""What a server has of a log, and whether it may be replaced. The judgement is pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from redis.asyncio import Redis

from eventlog.errors import RestoreRefused
from eventlog.ids import START, EntryId
from eventlog.keys import Keys
from eventlog.restoring import FIELD, Marker, decode_marker, is_guard

Kind = Literal["empty", "older", "unfinished", "replaced"]
"""It has nothing; all that it has is in what is restored; an earlier restore of the same was cut short; it has
something else, which is to go."""

Positions = Mapping[tuple[int, str], EntryId]
"""Partition and group → entry id up to which it was delivered."""

_REMEDY = (
    "Stop what appends to it. Restore to another server or key_prefix; or, if nothing of it is needed, "
    "repeat with --overwrite."
)


class Standing(NamedTuple):
    """What there is of the log."""

    epoch: str | None
    partition_count: int | None
    marker: Marker | None
    heads: list[EntryId | None]
    """By partition; None where a restore's guard stands in its place."""
    positions: Positions

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing."""
        return self.epoch is None and all(head == START for head in self.heads)


async def read_standing(client: Redis, keys: Keys, partition_count: int) -> Standing:
    """Return what the server has; `partition_count` is for a log without metadata."""
    meta: Any = await client.hgetall(keys.meta())
    stored = {name.decode(): value for name, value in meta.items()}
    count = int(stored["partition_count"]) if "partition_count" in stored else None
    heads: list[EntryId | None] = []
    positions: dict[tuple[int, str], EntryId] = {}
    groups: Any = await client.hkeys(keys.groups())
    for partition in range(count or partition_count):
        head: Any = await client.get(keys.head(partition))
        heads.append(None if head and is_guard(head) else EntryId.parse(head) if head else START)
        for name in groups:
            work = keys.work(partition, name.decode())
            delivered: Any = await client.hget(work, "delivered")
            if delivered:
                positions[partition, name.decode()] = EntryId.parse(delivered)
    return Standing(
        stored["epoch"].decode() if "epoch" in stored else None,
        count,
        decode_marker(stored[FIELD]) if FIELD in stored else None,
        heads,
        positions,
    )


def judge(
    standing: Standing,
    *,
    source: str,
    epoch: str | None,
    heads: Sequence[EntryId],
    positions: Positions,
    overwrite: bool,
) -> Kind:
    """Return what restoring does to what is there. Raises RestoreRefused where something would be lost.

    `epoch`, `heads` and `positions` are what is restored; no epoch is known of an archive.
    """
    marker = standing.marker
    if marker is not None and marker.source == source and marker.is_guarded:
        return "unfinished"
    if standing.is_empty:
        return "empty"
    if overwrite:
        return "replaced"
    if marker is not None and marker.source != source:
        raise RestoreRefused(
            "an unfinished restore of something else is there.",
            remedy="Repeat that one, or give it up with --overwrite.",
        )
    there = sum(head.n for head in standing.heads if head)
    if standing.epoch != epoch and epoch is not None:
        raise RestoreRefused(
            f"the server has another log of that name (epoch {standing.epoch}, {there:,} entries), "
            f"the backup is of epoch {epoch}.",
            remedy=_REMEDY,
        )
    if there and epoch is None:
        raise RestoreRefused(
            f"the server has a log of that name ({there:,} entries), with groups and producers' positions "
            "that the archive does not know.",
            remedy=_REMEDY,
        )
    for partition, head in enumerate(standing.heads):
        end = heads[partition] if partition < len(heads) else START
        if head is not None and (head.n > end.n or head.ms > end.ms):
            raise RestoreRefused(
                f"the server has what is not restored: partition {partition} ends at {head} there, "
                f"and at {end} here.",
                remedy=_REMEDY,
            )
    for (partition, group), position in sorted(standing.positions.items()):
        known = positions.get((partition, group), START)
        if position.n > known.n:
            raise RestoreRefused(
                f"group {group!r} is further on the server: at {position} of partition {partition}, "
                f"and at {known} here; it would do again what it did since.",
                remedy=_REMEDY,
            )
    return "older"
