from __future__ import annotations

import pytest

from analytics.archiver import PartitionStatus as ArchiveStatus
from consumers.group_status import GroupPartitionStatus, GroupStatus
from eventlog.ids import START, EntryId
from projections.projecting.status import PartitionStatus as ProjectionStatus
from service.judging import (
    judge_archive,
    judge_clock,
    judge_groups,
    judge_memory,
    judge_persistence,
    judge_projector,
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
