"""What an operator looks at: consumer groups, and what may leave the log."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from analytics.retention import PartitionPlan, Policy
from consumers.group_status import GroupPartitionStatus, GroupStatus
from consumers.groups import groups
from consumers.registration import RESERVED
from eventlog.settings import change_settings
from service.http.listing import Asked
from service.http.operation import Routes
from service.pinning import words_of
from service.wiring import Service, new_retention

routes = Routes("operation")


class GroupPartition(msgspec.Struct, frozen=True):
    """A group in one partition."""

    partition: int
    head: str
    delivered: str
    lag_count: int
    """Entries that are not done with: never delivered, in hand, or waiting."""
    in_hand_count: int
    waiting_count: int
    blocked_count: int
    next_due_ms: int | None
    oldest_age_ms: int
    owner: str | None
    is_missing: bool


class Group(msgspec.Struct, frozen=True):
    """A consumer group, truthful in every number."""

    name: str
    built_in: bool
    lag_count: int
    pending_count: int
    blocked_count: int
    """Conversations that wait for another attempt."""
    oldest_age_ms: int
    """How long ago the oldest entry was appended that is not done with."""
    workers: list[str]
    partitions: list[GroupPartition]


class Groups(msgspec.Struct, frozen=True):
    """Every group of the log."""

    groups: list[Group]


class WhatIf(Asked, frozen=True, kw_only=True):
    """Limits in place of the settings'."""

    age_s: Annotated[int, Meta(ge=1, le=10**10)] | None = None
    max_entries: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    memory_bytes: Annotated[int, Meta(ge=0, le=2**53)] | None = None


class Holder(msgspec.Struct, frozen=True):
    """Who holds back entries that are to go."""

    kind: str
    name: str
    who: str
    """In words."""
    remedy: str
    entry_count: int
    stream_bytes: int
    since_ms: int | None


class RetainedPartition(msgspec.Struct, frozen=True):
    """What would become of one partition."""

    partition: int
    first_n: int
    last_n: int
    keep_n: int
    """The lowest sequence that stays."""
    stream_bytes: int
    goes_count: int
    frees_bytes: int
    held_count: int


class RetentionPlan(msgspec.Struct, frozen=True):
    """What would leave the log, and who holds the rest back."""

    age_ms: int
    max_entries: int | None
    memory_bytes: int | None
    goes_count: int
    frees_bytes: int
    held_count: int
    stream_bytes: int
    over_bytes: int
    held_by: list[Holder]
    partitions: list[RetainedPartition]


@routes.get("/v1/groups")
async def list_groups(service: Service) -> Groups:
    """Return every consumer group with its lag, what it has in hand, what waits, and its workers."""
    return Groups([_group(each) for each in await groups(service.log)])


@routes.get("/v1/retention/plan")
async def get_retention_plan(service: Service, asked: WhatIf) -> RetentionPlan:
    """Return what would be trimmed, what that frees, and who holds back what is to go.

    Nothing is trimmed: `eventlog up` does that.
    """
    settings = change_settings(
        service.settings,
        retention_age_s=asked.age_s,
        retention_max_entries=asked.max_entries,
        retention_memory_bytes=asked.memory_bytes,
    )
    found = await new_retention(service.log, Policy.of(settings)).plan()
    return RetentionPlan(
        found.policy.age_ms,
        found.policy.max_entries,
        found.policy.memory_bytes,
        found.goes_count,
        found.frees_bytes,
        found.held_count,
        found.stream_bytes,
        found.over_bytes,
        [
            Holder(
                held.pin.kind,
                held.pin.name,
                *words_of(held.pin),
                held.entry_count,
                held.stream_bytes,
                held.since_ms,
            )
            for held in found.holders
        ],
        [_retained(each) for each in found.partitions],
    )


def _group(status: GroupStatus) -> Group:
    return Group(
        status.name,
        status.name in RESERVED,
        status.lag_count,
        status.pending_count,
        status.blocked_count,
        status.oldest_age_ms,
        status.members,
        [_group_partition(each) for each in status.partitions],
    )


def _group_partition(each: GroupPartitionStatus) -> GroupPartition:
    return GroupPartition(
        each.partition,
        str(each.head),
        str(each.delivered),
        each.lag_count,
        each.in_hand_count + each.foreign_count,
        each.waiting_count,
        each.blocked_count,
        each.next_due_ms,
        each.oldest_age_ms,
        each.owner,
        each.is_missing,
    )


def _retained(each: PartitionPlan) -> RetainedPartition:
    return RetainedPartition(
        each.facts.partition,
        each.facts.first_n,
        each.facts.last_n,
        each.keep_n,
        each.facts.stream_bytes,
        each.goes_count,
        each.frees_bytes,
        each.held_count,
    )
