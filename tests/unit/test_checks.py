from __future__ import annotations

import pytest

from analytics.archiver import PartitionStatus as ArchiveStatus
from consumers.group_status import GroupPartitionStatus, GroupStatus
from eventlog.connection import ServerInfo
from eventlog.ids import START, EntryId
from projections.projecting.status import PartitionStatus as ProjectionStatus
from service.judging import (
    Files,
    judge_archive,
    judge_clock,
    judge_durability,
    judge_groups,
    judge_memory,
    judge_persistence,
    judge_projector,
    judge_rights,
    judge_sandbox,
    judge_spool,
)

HEAD = EntryId(1000, 10)


def projecting(lag: int, age_ms: int, owner: str | None = "me") -> ProjectionStatus:
    return ProjectionStatus(0, HEAD, {}, lag, age_ms, owner, 0.0, None)


def archiving(partition: int, *, is_whole: bool = True, segments: int = 2) -> ArchiveStatus:
    return ArchiveStatus(partition, START, HEAD, 10, 5, segments, is_whole, 0, None)


@pytest.mark.parametrize(
    ("info", "verdict", "word"),
    [
        ({"aof_enabled": 1, "aof_last_write_status": "ok"}, "fine", "on"),
        ({"aof_enabled": 1}, "fine", "on"),
        ({"aof_enabled": 0}, "act", "off"),
        ({}, "act", "off"),
        ({"aof_enabled": 1, "aof_last_write_status": "err"}, "act", "failed"),
    ],
)
def test_persistence(info, verdict, word):
    finding = judge_persistence(info)
    assert (finding.verdict, bool(finding.remedy)) == (verdict, verdict != "fine")
    assert word in finding.seen


@pytest.mark.parametrize(
    ("used", "limit", "verdict"),
    [
        (50, 0, "fine"),
        (80, 100, "fine"),
        (81, 100, "look"),
        (95, 100, "look"),
        (96, 100, "act"),
        (120, 100, "act"),
    ],
)
def test_memory(used, limit, verdict):
    finding = judge_memory(used * 1_000_000, limit * 1_000_000)
    assert (finding.verdict, bool(finding.remedy)) == (verdict, verdict != "fine")
    assert finding.seen.startswith(f"{used} MB used")
    assert "-" not in finding.seen


@pytest.mark.parametrize(
    ("skew_ms", "verdict", "seen"),
    [
        (0.2, "fine", "agrees with ours"),
        (-1999, "fine", "1,999 ms behind"),
        (2000, "fine", "2,000 ms ahead"),
        (2001, "look", "2,001 ms ahead"),
        (-86_400_000, "look", "86,400,000 ms behind"),
    ],
)
def test_clock(skew_ms, verdict, seen):
    finding = judge_clock(skew_ms)
    assert (finding.verdict, bool(finding.remedy)) == (verdict, verdict != "fine")
    assert seen in finding.seen


def test_a_projector_that_keeps_up_is_fine_however_much_there_is():
    assert judge_projector([projecting(5000, 60_000), projecting(0, 0)]).verdict == "fine"
    assert judge_projector([]).verdict == "fine"


def test_a_projector_that_does_not_keep_up_needs_help_or_a_start():
    slow = judge_projector([projecting(0, 0), projecting(7, 60_001)])
    assert (slow.verdict, slow.seen) == ("look", "7 entries behind, the oldest for 60 s")
    assert "one more" in slow.remedy
    missing = judge_projector([projecting(7, 60_001, owner=None)])
    assert "No projector runs" in missing.remedy


def test_a_gap_in_the_archive_is_named_by_partition():
    fine = judge_archive([archiving(0), archiving(1)])
    assert (fine.verdict, fine.seen) == ("fine", "4 segments without gap, 20 entries to come")
    broken = judge_archive(
        [archiving(0), archiving(3, is_whole=False), archiving(5, is_whole=False)]
    )
    assert broken.verdict == "act"
    assert "partitions 3, 5 have gaps" in broken.seen


def test_an_archiver_that_does_not_keep_up_needs_a_look():
    waiting = archiving(0)._replace(oldest_age_ms=3_600_000)
    assert judge_archive([waiting, archiving(1)]).verdict == "fine"
    late = judge_archive([waiting._replace(oldest_age_ms=5_400_000), archiving(1)])
    assert (late.verdict, late.seen) == ("look", "20 entries not archived, the oldest for 1.5 h")
    assert late.remedy


def group(name: str, waiting: int, age_ms: int, *members: str) -> GroupStatus:
    part = GroupPartitionStatus(
        partition=0, head=HEAD, delivered=HEAD, in_hand_count=0, waiting_count=waiting,
        foreign_count=0, blocked_count=1, next_due_ms=None, oldest_age_ms=age_ms, owner=None,
        is_missing=False, now_ms=0,
    )  # fmt: skip
    return GroupStatus(name, [part], list(members))


@pytest.mark.parametrize(
    ("statuses", "verdict", "word"),
    [
        ([], "fine", "0 of yours"),
        ([group("a", 0, 0), group("b", 9, 100, "w")], "fine", "2 of yours"),
        ([group("a", 9, 100)], "look", "nobody works for a (9 entries)"),
        ([group("a", 9, 90_000, "w")], "look", "behind: a (90 s)"),
    ],
)
def test_groups(statuses, verdict, word):
    finding = judge_groups(statuses)
    assert (finding.verdict, bool(finding.remedy)) == (verdict, verdict != "fine")
    assert word in finding.seen


def server(**fields) -> ServerInfo:
    known = {
        "name": "redis",
        "version": (7, 2, 0),
        "is_appendonly": True,
        "has_waitaof": True,
        "is_cluster": False,
        "is_replica": False,
        "eviction_policy": "noeviction",
        "max_memory_bytes": 0,
    }
    return ServerInfo(**{**known, **fields})


REPLICA = {"slave0": {"state": "online", "lag": 1}}
LATE = {"slave0": {"state": "online", "lag": 60}, "slave1": {"state": "wait_bgsave", "lag": 0}}


@pytest.mark.parametrize(
    ("wanted", "of", "info", "appendfsync", "verdict", "word"),
    [
        ("memory", server(), {}, "everysec", "fine", "two seconds"),
        ("memory", server(), {}, "always", "fine", "before it is answered"),
        ("memory", server(), {}, "no", "look", "power cut"),
        ("memory", server(), {}, None, "fine", "does not say"),
        ("memory", server(is_replica=True), {}, "always", "act", "replica"),
        ("fsync", server(), {}, None, "fine", "waits for the disk"),
        ("fsync", server(is_appendonly=False), {}, None, "act", "cannot confirm"),
        ("fsync", server(has_waitaof=False), {}, "everysec", "act", "cannot confirm"),
        ("fsync", server(has_waitaof=False), {}, "always", "fine", "waits for the disk"),
        ("replicated", server(), REPLICA, None, "fine", "one of 1 replicas"),
        ("replicated", server(), {}, None, "act", "no replica"),
        ("replicated", server(), LATE, None, "act", "none of which keeps up"),
    ],
)
def test_durability(wanted, of, info, appendfsync, verdict, word):
    finding = judge_durability(wanted, of, info, appendfsync)
    assert (finding.verdict, bool(finding.remedy)) == (verdict, verdict != "fine")
    assert word in finding.seen


def test_rights():
    assert judge_rights("bot", [], is_guarded=True).verdict == "fine"
    assert judge_rights(None, [], is_guarded=True).verdict == "fine"
    open_to_all = judge_rights("default", [], is_guarded=False)
    assert (open_to_all.verdict, "no password" in open_to_all.seen) == ("act", True)
    lame = judge_rights("bot", ["xadd", "xtrim"], is_guarded=True)
    assert (lame.verdict, lame.seen) == ("act", "user 'bot' may not run xadd, xtrim")


def test_files_of_the_archive():
    damaged = judge_archive([archiving(0)], Files(["a.parquet", "b.parquet"]))
    assert damaged.verdict == "act"
    assert damaged.seen.startswith("a.parquet and 1 more are not")
    beside = judge_archive([archiving(0)], Files(overlap_count=2))
    assert beside.verdict == "fine"
    assert "2 overlap others" in beside.seen


def test_a_group_that_the_server_lost_is_named():
    [part] = group("a", 0, 0, "w").partitions
    lost = GroupStatus("a", [part._replace(is_missing=True)], ["w"])
    finding = judge_groups([lost])
    assert (finding.verdict, "has lost a" in finding.seen) == ("look", True)


def test_spool():
    assert judge_spool({}, has_spool=False).verdict == "fine"
    assert judge_spool({}, has_spool=True).verdict == "fine"
    waiting = judge_spool({"a.spool": 2, "b.spool": 1}, has_spool=True)
    assert waiting.verdict == "look"
    assert "3 events" in waiting.seen


def test_the_sandbox_says_what_holds_it():
    finding = judge_sandbox()
    assert (finding.check, finding.verdict) == ("sandbox", "fine")
    assert finding.seen.startswith(("Landlock (ABI ", "open descriptors", "none"))
