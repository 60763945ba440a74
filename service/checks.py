"""What `eventlog doctor` looks at, judged by pure functions of what was read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from redis.asyncio import Redis

from analytics.archiver import PartitionStatus as ArchiveStatus
from analytics.bucket import BucketStorage
from analytics.opening import storage_of
from analytics.retention import Plan
from analytics.sandbox import landlock
from analytics.sandbox.sandbox import find_mode
from consumers.group_status import GroupStatus
from consumers.groups import groups
from consumers.registration import RESERVED
from eventlog.cluster import nodes_of
from eventlog.connection import check_server, in_our_words
from eventlog.errors import ArchiveUnavailable, ConfigurationError
from eventlog.log import EventLog
from eventlog.sentinel import SentinelClient
from projections.projecting.projector import Projector
from projections.projecting.status import PartitionStatus as ProjectionStatus
from service.pinning import listed, size, words_of
from service.wiring import new_archiver, new_retention

MAX_CLOCK_SKEW_MS = 2000
MEMORY_HEADROOM = 0.2
STALE_ARCHIVE_AGE_MS = 3_600_000
"""Six times the age at which an archiver that works writes a segment."""
STALE_AGE_MS = 60_000
"""A worker is behind when something has waited this long for it."""

Verdict = Literal["fine", "look", "act"]


class Finding(NamedTuple):
    """One check: its verdict, what was seen, and what to do about it."""

    check: str
    verdict: Verdict
    seen: str
    remedy: str = ""


async def examine(log: EventLog) -> list[Finding]:
    """Return the findings on the server, the workers and the archive."""
    with in_our_words(log.settings):
        server = await check_server(log.client)
        nodes = {_name_of(node): node for node in await nodes_of(log.client)}
        found = {name: await _look_at_node(log, node) for name, node in nodes.items()}
        replicas = {name: await _replica_count(node) for name, node in nodes.items()}
    projecting, archiving = await asyncio.gather(Projector(log).status(), _look_at_archive(log))
    version = f"{server.name} {'.'.join(map(str, server.version))}"
    return [
        judge_servers(version, replicas, needs_replicas=len(nodes) > 1 or _has_sentinels(log)),
        judge_eviction(server.eviction_policy),
        *(worst(check) for check in _by_check(found)),
        judge_spool(await log.spool_counts(), has_spool=log.settings.spool_dir is not None),
        judge_projector(projecting),
        archiving,
        judge_sandbox(),
        judge_groups([each for each in await groups(log) if each.name not in RESERVED]),
        await _look_at_retention(log),
    ]


async def _look_at_node(log: EventLog, node: Redis) -> list[Finding]:
    info: dict[str, Any] = await node.info()
    before_us = log.clock.now_us()
    seconds, microseconds = await node.time()
    after_us = log.clock.now_us()
    skew_ms = (seconds * 1_000_000 + microseconds - (before_us + after_us) // 2) / 1000
    return [
        judge_persistence(info),
        judge_memory(int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))),
        judge_clock(skew_ms),
    ]


async def _replica_count(node: Redis) -> int:
    return int((await node.info("replication")).get("connected_slaves", 0))


def _name_of(node: Redis) -> str:
    where = node.get_connection_kwargs()
    return f"{where.get('host', '')}:{where.get('port', '')}"


def _has_sentinels(log: EventLog) -> bool:
    return isinstance(log.client, SentinelClient)


def _by_check(found: Mapping[str, Sequence[Finding]]) -> list[dict[str, Finding]]:
    """Return the findings of all nodes, check by check."""
    columns = zip(*found.values(), strict=True)
    return [dict(zip(found, column, strict=True)) for column in columns]


_SEVERITY: tuple[Verdict, ...] = ("fine", "look", "act")


def worst(findings: Mapping[str, Finding]) -> Finding:
    """Return the worst finding of several nodes, with the node's name unless all say the same."""
    name = max(findings, key=lambda each: _SEVERITY.index(findings[each].verdict))
    finding = findings[name]
    if len({each.seen for each in findings.values()}) == 1:
        return finding
    return finding._replace(seen=f"{name}: {finding.seen}")


def judge_servers(version: str, replicas: Mapping[str, int], *, needs_replicas: bool) -> Finding:
    """Return what serves the log, and whether another server can take over from each."""
    seen = version
    if len(replicas) > 1:
        seen += f", a cluster of {len(replicas)} primaries with {sum(replicas.values())} replicas"
    lonely = [name for name, count in replicas.items() if not count]
    if not needs_replicas or not lonely:
        return Finding("server", "fine", seen)
    return Finding(
        "server",
        "look",
        f"{seen}; no replica follows {', '.join(lonely) if len(replicas) > 1 else 'the primary'}",
        "Start one: without it nobody takes over, and durability 'replicated' is refused.",
    )


async def _look_at_archive(log: EventLog) -> Finding:
    try:
        finding = judge_archive(await new_archiver(log).status())
        storage = storage_of(log.settings)
        if not isinstance(storage, BucketStorage):
            return finding
        return judge_bucket(finding, await asyncio.to_thread(storage.enforces_absence))
    except ArchiveUnavailable as error:
        return Finding("archive", "act", error.message, error.remedy)


async def _look_at_retention(log: EventLog) -> Finding:
    try:
        return judge_retention(await new_retention(log).plan())
    except ArchiveUnavailable as error:
        return Finding("retention", "act", f"nothing can go: {error.message}", error.remedy)


def judge_bucket(archive: Finding, enforces_absence: bool) -> Finding:
    """Return the finding on the archive, or that its bucket overwrites what it should not."""
    if enforces_absence or archive.verdict != "fine":
        return archive
    return Finding(
        "archive",
        "look",
        f"{archive.seen}; the server ignores If-None-Match",
        "Stop the archivers while you erase: one may bring back what was erased meanwhile.",
    )


def judge_sandbox() -> Finding:
    """Return what keeps untrusted SQL in its place on this machine."""
    try:
        mode = find_mode()
    except ConfigurationError as error:
        return Finding("sandbox", "fine", f"none, so `query --untrusted` is refused: {error}")
    if mode == "landlock":
        return Finding("sandbox", "fine", f"Landlock (ABI {landlock.abi()})")
    return Finding("sandbox", "fine", "open descriptors, as the kernel has no Landlock")


def judge_persistence(info: dict[str, Any]) -> Finding:
    """Return whether the server keeps what it was given when it is restarted."""
    if not info.get("aof_enabled"):
        return Finding(
            "persistence",
            "act",
            "the append-only file is off: a restart loses events",
            "`CONFIG SET appendonly yes`, and write it into the server's config file.",
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        return Finding(
            "persistence",
            "act",
            "the last write of the append-only file failed",
            "Make room on its disk.",
        )
    return Finding("persistence", "fine", "append-only file on")


def judge_eviction(policy: str) -> Finding:
    """Return whether the server drops nothing by itself; one known to do so no log opens on."""
    if policy == "noeviction":
        return Finding("eviction", "fine", "noeviction: nothing is dropped for want of memory")
    return Finding(
        "eviction",
        "look",
        "the server does not say what it drops for want of memory",
        "See that its maxmemory-policy is noeviction: with any other it may drop events.",
    )


def judge_memory(used_bytes: int, limit_bytes: int) -> Finding:
    """Return whether the server has room to grow."""
    used = f"{used_bytes / 1e6:,.0f} MB used"
    if not limit_bytes:
        return Finding("memory", "fine", f"{used}, no maxmemory set")
    left_bytes = max(0, limit_bytes - used_bytes)
    seen = f"{used} of {limit_bytes / 1e6:,.0f} MB"
    if left_bytes >= MEMORY_HEADROOM * limit_bytes:
        return Finding("memory", "fine", seen)
    return Finding(
        "memory",
        "act" if left_bytes < MEMORY_HEADROOM / 4 * limit_bytes else "look",
        f"{seen}: {left_bytes / limit_bytes:.0%} left",
        "Raise maxmemory; at the limit appends are refused.",
    )


def judge_clock(skew_ms: float) -> Finding:
    """Return whether server and this machine agree on the time."""
    skew = f"is {abs(skew_ms):,.0f} ms {'ahead' if skew_ms > 0 else 'behind'}"
    seen = f"the server's {skew if abs(skew_ms) >= 1 else 'agrees with ours'}"
    if abs(skew_ms) <= MAX_CLOCK_SKEW_MS:
        return Finding("clock", "fine", seen)
    return Finding("clock", "look", seen, "Synchronise both with NTP: ages and time-outs are off.")


def judge_spool(counts: Mapping[str, int], *, has_spool: bool) -> Finding:
    """Return whether events wait on this machine's disk to get into the log.

    Those of programs that have ended went into it when the log was opened for this look.
    """
    if not has_spool:
        return Finding("spool", "fine", "none: appends fail while the server is away")
    if not counts:
        return Finding("spool", "fine", "empty")
    return Finding(
        "spool",
        "look",
        f"{sum(counts.values()):,} events wait in {len(counts)} spools of running programs",
        "They drain by themselves; where they do not, the programs' logs say why (`spool_stuck`).",
    )


def judge_projector(statuses: Sequence[ProjectionStatus]) -> Finding:
    """Return whether the read models keep up."""
    lag = sum(status.lag_count for status in statuses)
    oldest_ms = max((status.oldest_age_ms for status in statuses), default=0)
    errors = [status.last_error for status in statuses if status.last_error]
    if errors:
        return Finding("read models", "act", errors[0], "`eventlog projections` shows where.")
    if oldest_ms <= STALE_AGE_MS:
        return Finding("read models", "fine", f"{lag:,} entries behind")
    owned = any(status.owner for status in statuses)
    return Finding(
        "read models",
        "look",
        f"{lag:,} entries behind, the oldest for {oldest_ms / 1000:,.0f} s",
        "Start one more `eventlog up`." if owned else "No projector runs: start `eventlog up`.",
    )


def judge_groups(statuses: Sequence[GroupStatus]) -> Finding:
    """Return whether somebody works for each consumer group that has something to do."""
    idle = [each for each in statuses if each.lag_count and not each.members]
    slow = [each for each in statuses if each.members and each.oldest_age_ms > STALE_AGE_MS]
    if idle:
        listed = ", ".join(f"{each.name} ({each.lag_count:,} entries)" for each in idle)
        return Finding(
            "groups",
            "look",
            f"nobody works for {listed}",
            "Start its worker, or give it up: `eventlog groups retire`.",
        )
    if slow:
        listed = ", ".join(f"{each.name} ({each.oldest_age_ms / 1000:,.0f} s)" for each in slow)
        return Finding(
            "groups", "look", f"behind: {listed}", "`eventlog groups --partitions` shows where."
        )
    return Finding("groups", "fine", f"{len(statuses)} of yours, none waits for a worker")


def judge_archive(statuses: Sequence[ArchiveStatus]) -> Finding:
    """Return whether the archive is whole."""
    broken = [status.partition for status in statuses if not status.is_whole]
    if broken:
        return Finding(
            "archive",
            "act",
            f"partitions {', '.join(map(str, broken))} have gaps",
            "Restore the missing segments from a backup.",
        )
    lost = sum(status.lost_count for status in statuses)
    if lost:
        return Finding(
            "archive",
            "act",
            f"{lost:,} entries are neither archived nor in the log any more",
            "Restore the missing segments, or the server's data, from a backup.",
        )
    oldest_ms = max((status.oldest_age_ms for status in statuses), default=0)
    if oldest_ms > STALE_ARCHIVE_AGE_MS:
        return Finding(
            "archive",
            "look",
            f"{lag_of(statuses):,} entries not archived, the oldest for {oldest_ms / 3_600_000:,.1f} h",
            "No archiver runs, or it cannot write: start `eventlog up`, see its log.",
        )
    segments = sum(status.segment_count for status in statuses)
    lag = lag_of(statuses)
    return Finding("archive", "fine", f"{segments:,} segments without gap, {lag:,} entries to come")


def judge_retention(plan: Plan) -> Finding:
    """Return whether what is old or too much can leave the log."""
    takes = f"the log takes {size(plan.stream_bytes)}"
    if not plan.held_count:
        return Finding("retention", "fine", f"{takes}, nobody holds back what is to go")
    if plan.over_bytes:
        takes = f"{takes}, {size(plan.over_bytes)} more than it may"
    return Finding(
        "retention",
        "act" if plan.over_bytes else "look",
        f"{takes}; held back by {listed(plan.holders)}",
        " ".join(dict.fromkeys(words_of(held.pin).remedy for held in plan.holders)),
    )


def lag_of(statuses: Sequence[ArchiveStatus]) -> int:
    """Return how many entries wait for the archiver."""
    return sum(status.lag_count for status in statuses)
