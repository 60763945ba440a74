"""What `eventlog doctor` says of what was read. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from analytics.archiver import PartitionStatus as ArchiveStatus
from analytics.retention import Plan
from analytics.sandbox import landlock
from analytics.sandbox.sandbox import find_mode
from consumers.group_status import GroupStatus
from eventlog.connection import ServerInfo
from eventlog.errors import ConfigurationError
from eventlog.settings import Durability
from projections.projecting.status import PartitionStatus as ProjectionStatus
from service.pinning import listed, size, words_of

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


def judge_durability(
    wanted: Durability, server: ServerInfo, info: Mapping[str, Any], appendfsync: str | None
) -> Finding:
    """Return whether the server can give what an append is promised.

    `appendfsync` is None where it tells nobody.
    """
    if server.is_replica:
        return Finding(
            "durability", "act", "the server is a replica and takes no appends", "Name the primary."
        )
    if wanted == "replicated":
        return _judge_replicas(info)
    can_confirm = server.has_waitaof or appendfsync == "always"
    if wanted == "fsync" and not (server.is_appendonly and can_confirm):
        return Finding(
            "durability",
            "act",
            "appends want their events on disk (`durability = fsync`), which it cannot confirm",
            "Turn the append-only file on, and use Redis 7.2 or newer, Valkey, or `appendfsync always`.",
        )
    if wanted == "fsync":
        return Finding("durability", "fine", "an append waits for the disk")
    if appendfsync == "no" and server.is_appendonly:
        return Finding(
            "durability",
            "look",
            "appendfsync is no: a power cut costs what the system has not written, half a minute and more",
            "`CONFIG SET appendfsync everysec`, and write it into the server's config file.",
        )
    lost = {
        "always": "each append is on disk before it is answered",
        "everysec": "a power cut costs up to two seconds, a crash nothing",
    }
    seen = lost.get(appendfsync or "", "the server does not say when it writes to disk")
    return Finding("durability", "fine", f"appends wait for memory alone; {seen}")


LATE_REPLICA_S = 10


def _judge_replicas(info: Mapping[str, Any]) -> Finding:
    told = [value for name, value in info.items() if re.fullmatch(r"slave\d+", name)]
    live = [
        each
        for each in told
        if isinstance(each, dict)
        and each.get("state") == "online"
        and int(each.get("lag", 0)) <= LATE_REPLICA_S
    ]
    if live:
        return Finding("durability", "fine", f"an append waits for one of {len(live)} replicas")
    seen = f"{len(told)} replicas, none of which keeps up" if told else "no replica"
    return Finding(
        "durability",
        "act",
        f"appends want a replica to have them (`durability = replicated`): {seen}",
        "Bring a replica back; until then each append fails after its time-out.",
    )


def judge_rights(user: str | None, missing: Sequence[str], *, is_guarded: bool) -> Finding:
    """Return whether we may do on the server what we have to, and strangers may not.

    `user` is None where it may not even ask who it is. `is_guarded`: a password was given, or only
    this machine reaches the server.
    """
    if missing:
        return Finding(
            "rights",
            "act",
            f"user {user!r} may not run {', '.join(missing)}",
            "`eventlog acl worker` prints what it needs.",
        )
    if not is_guarded:
        return Finding(
            "rights",
            "act",
            "whoever reaches the server reads and deletes everything: it asks for no password",
            "Set one (`requirepass`, or users as `eventlog acl` prints them), and REDIS_PASSWORD.",
        )
    if user is None:
        return Finding("rights", "fine", "a user who may do little")
    return Finding("rights", "fine", f"user {user!r} may do all that a worker has to")


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
    lost = [each for each in statuses if any(part.is_missing for part in each.partitions)]
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
    if lost:
        listed = ", ".join(each.name for each in lost)
        return Finding(
            "groups",
            "look",
            f"the server has lost {listed} in some partitions",
            "A worker makes it again where it was; start one. Was the server restored or flushed?",
        )
    return Finding("groups", "fine", f"{len(statuses)} of yours, none waits for a worker")


class Files(NamedTuple):
    """What the archive's files look like from outside."""

    damaged: Sequence[str] = ()
    """Those whose seal is broken, as far as their end tells."""
    overlap_count: int = 0
    """Files beside others that hold the same sequences, cut differently."""
    gapped: Sequence[int] = ()
    """Partitions in which sequences are missing."""
    read_count: int = 0
    """Files that readers read."""


def judge_archive(statuses: Sequence[ArchiveStatus], files: Files = Files()) -> Finding:  # noqa: B008 - immutable
    """Return whether the archive is whole."""
    if files.damaged:
        more = f" and {len(files.damaged) - 1} more" if len(files.damaged) > 1 else ""
        return Finding(
            "archive",
            "act",
            f"{files.damaged[0]}{more} are not as they were sealed",
            "`eventlog archive verify` reads all; `eventlog archive restore` brings them back.",
        )
    broken = sorted({each.partition for each in statuses if not each.is_whole} | set(files.gapped))
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
    seen = f"{segments:,} segments without gap, {lag:,} entries to come"
    if not statuses:
        seen = f"{files.read_count:,} segments without gap; what is to come only the server knows"
    if files.overlap_count:
        seen += f"; {files.overlap_count} overlap others and are not read"
    return Finding("archive", "fine", seen)


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
