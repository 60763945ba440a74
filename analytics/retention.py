"""What may leave the log and what has to stay: decided here, from what was read. Pure.

Retention wants entries gone by age, by number and by memory. What may go is another matter: nothing
that anybody still needs, be it a consumer group, a build of a read model, or the archive. The lowest
sequence that anybody needs is the *trim floor* of a partition; whoever it belongs to pins it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import NamedTuple, Self

from analytics.trim import Pin
from eventlog.settings import Settings

RECENT_MS = 5000
"""Entries as young as this always stay. Tails, live reads and queries read page by page, at positions
that no key tells of; what they are at is what came last."""


class Policy(NamedTuple):
    """When entries are to go; whichever limit asks for more counts."""

    age_ms: int
    """What is older goes."""
    max_entries: int | None = None
    """That are to be left, all partitions together."""
    memory_bytes: int | None = None
    """That the streams of all partitions may take together."""
    recent_ms: int = RECENT_MS

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return what the settings say."""
        return cls(
            settings.retention_age_s * 1000,
            settings.retention_max_entries,
            settings.retention_memory_bytes,
        )


class Facts(NamedTuple):
    """What was found of one partition, of one moment."""

    partition: int
    first_n: int
    """The sequence of the first entry there is; one more than `last_n` where there is none."""
    last_n: int
    aged_n: int
    """The lowest sequence that is young enough to stay."""
    recent_n: int
    """The lowest that is too young to go."""
    stream_bytes: int
    """What the server says that the stream takes, estimated from a sample."""
    pins: tuple[Pin, ...]

    @property
    def entry_count(self) -> int:
        """How many entries there are."""
        return self.last_n - self.first_n + 1

    @property
    def entry_bytes(self) -> float:
        """What an entry takes on average."""
        return self.stream_bytes / self.entry_count if self.entry_count else 0.0

    @property
    def floor_n(self) -> int:
        """The trim floor: the lowest sequence that anybody needs."""
        return min((pin.needs.n for pin in self.pins), default=self.last_n + 1)


class Held(NamedTuple):
    """What retention wants gone and one pin keeps, be it alone or with others."""

    partition: int
    pin: Pin
    entry_count: int
    stream_bytes: int
    since_ms: int | None = None
    """When the oldest of it was appended."""


class PartitionPlan(NamedTuple):
    """What would become of one partition."""

    facts: Facts
    wanted_n: int
    """The lowest sequence that would stay if nobody needed anything."""
    keep_n: int
    """The lowest that stays."""
    held: tuple[Held, ...]

    @property
    def goes_count(self) -> int:
        """Entries that go."""
        return self.keep_n - self.facts.first_n

    @property
    def frees_bytes(self) -> int:
        """About what that frees."""
        return round(self.goes_count * self.facts.entry_bytes)

    @property
    def held_count(self) -> int:
        """Entries that retention wants gone and somebody needs."""
        return max(0, self.wanted_n - max(self.facts.first_n, self.facts.floor_n))


class Plan(NamedTuple):
    """What would become of the log."""

    policy: Policy
    partitions: tuple[PartitionPlan, ...]

    @property
    def goes_count(self) -> int:
        """Entries that go."""
        return sum(each.goes_count for each in self.partitions)

    @property
    def frees_bytes(self) -> int:
        """About what that frees."""
        return sum(each.frees_bytes for each in self.partitions)

    @property
    def held_count(self) -> int:
        """Entries that retention wants gone and somebody needs."""
        return sum(each.held_count for each in self.partitions)

    @property
    def stream_bytes(self) -> int:
        """What the streams take before anything goes."""
        return sum(each.facts.stream_bytes for each in self.partitions)

    @property
    def over_bytes(self) -> int:
        """What they take above their budget when everything has gone that may."""
        if self.policy.memory_bytes is None:
            return 0
        return max(0, self.stream_bytes - self.frees_bytes - self.policy.memory_bytes)

    @property
    def holders(self) -> list[Held]:
        """Who holds entries back, with what over all partitions; who holds most comes first.

        `partition` is then one of them. Pins that say the same as another are left out: the archiver's
        group beside the archive, the projectors' group beside their builds.
        """
        by_pin: dict[tuple[str, str], list[Held]] = {}
        for held in (held for each in self.partitions for held in _telling(each.held)):
            by_pin.setdefault((held.pin.kind, held.pin.name), []).append(held)
        return sorted(map(_together, by_pin.values()), key=lambda held: -held.stream_bytes)


def decide(policy: Policy, partitions: Sequence[Facts]) -> Plan:
    """Return what is to go of each partition."""
    wanted = _keep_from(policy, partitions, lambda part: part.last_n + 1)
    keep = _keep_from(policy, partitions, lambda part: part.floor_n)
    return Plan(
        policy,
        tuple(
            PartitionPlan(part, wanted_n, keep_n, tuple(_held(part, wanted_n)))
            for part, wanted_n, keep_n in zip(partitions, wanted, keep, strict=True)
        ),
    )


def _keep_from(
    policy: Policy, partitions: Sequence[Facts], floor_n: Callable[[Facts], int]
) -> list[int]:
    """Return the lowest sequence of each partition that stays, were these the floors.

    What number and memory ask for beyond age is taken of all partitions by equal shares of what may
    go there: so one that is pinned does not keep the others from making room.
    """
    limits = [max(p.first_n, min(p.recent_n, floor_n(p))) for p in partitions]
    keep = [
        max(part.first_n, min(part.aged_n, limit))
        for part, limit in zip(partitions, limits, strict=True)
    ]
    budgets = (
        (policy.max_entries, [1.0] * len(partitions)),
        (policy.memory_bytes, [part.entry_bytes for part in partitions]),
    )
    for budget, sizes in budgets:
        if budget is None:
            continue
        left = sum(
            (part.last_n - keep_n + 1) * size
            for part, keep_n, size in zip(partitions, keep, sizes, strict=True)
        )
        may_go = sum(
            (limit - keep_n) * size for keep_n, limit, size in zip(keep, limits, sizes, strict=True)
        )
        share = min(1.0, max(0.0, left - budget) / may_go) if may_go else 0.0
        keep = [
            keep_n + ceil((limit - keep_n) * share)
            for keep_n, limit in zip(keep, limits, strict=True)
        ]
    return keep


def _held(part: Facts, wanted_n: int) -> list[Held]:
    held = []
    for pin in part.pins:
        count = wanted_n - max(part.first_n, pin.needs.n)
        if count > 0:
            held.append(Held(part.partition, pin, count, round(count * part.entry_bytes)))
    return held


def _together(held: Sequence[Held]) -> Held:
    return held[0]._replace(
        entry_count=sum(each.entry_count for each in held),
        stream_bytes=sum(each.stream_bytes for each in held),
        since_ms=min((each.since_ms for each in held if each.since_ms is not None), default=None),
    )


_STANDS_FOR = {"archiver": "archive", "projector": "build"}
"""Groups of the product's own → the kind of pin that tells the same."""


def _telling(held: Sequence[Held]) -> list[Held]:
    kinds = {each.pin.kind for each in held}
    return [each for each in held if _STANDS_FOR.get(each.pin.name) not in kinds]
