"""Segment names, and what a set of them covers."""

from __future__ import annotations

import pytest

from analytics.segment import DAY_MS, Range, Segment, cover, day_end_ms
from eventlog.ids import START, EntryId

NOON_MS = 1_795_176_000_000  # 2026-11-20 12:00 UTC


def seg(first: int, last: int, *, compacted: bool = False) -> Segment:
    return Segment(3, first, last, NOON_MS + last, compacted)


def test_a_name_says_partition_range_day_and_last_id() -> None:
    segment = Segment(3, 1, 12345, NOON_MS)
    assert segment.name == ("day=2026-11-20/p0003-000000000001-000000012345-1795176000000.parquet")
    assert segment.end == EntryId(NOON_MS, 12345)
    assert segment.row_count == 12345


@pytest.mark.parametrize(
    "segment", [seg(1, 1), seg(7, 90, compacted=True), Segment(12345, 1, 10**13, 1)]
)
def test_a_name_reads_back(segment: Segment) -> None:
    assert Segment.parse(segment.name) == segment


@pytest.mark.parametrize(
    "name",
    [
        "day=2026-11-20/.p0003-000000000001-000000012345-1795176000000.parquet.x.tmp",
        "day=2026-11-21/p0003-000000000001-000000012345-1795176000000.parquet",  # another day
        "day=2026-11-20/p0003-000000000009-000000000008-1795176000000.parquet",  # last < first
        "day=2026-11-20/p0003-000000000000-000000000008-1795176000000.parquet",  # begins at 0
        "day=2026-11-20/p0003-000000000001-0000000012345-1795176000000.parquet",  # not our spelling
        "day=2026-11-20/p0003-000000000001-000000012345-99999999999999999.parquet",  # no such day
        "day=2026-11-20/notes.parquet",
        "p0003-000000000001-000000012345-1795176000000.parquet",
    ],
)
def test_other_files_are_no_segments(name: str) -> None:
    assert Segment.parse(name) is None


def test_nothing_covers_nothing() -> None:
    assert cover([]).position == START
    assert cover([]).chosen == ()


def test_a_chain_is_followed_in_any_order() -> None:
    coverage = cover([seg(11, 20), seg(1, 10), seg(21, 25)])
    assert coverage.chosen == (seg(1, 10), seg(11, 20), seg(21, 25))
    assert coverage.position == EntryId(NOON_MS + 25, 25)
    assert (coverage.gaps, coverage.spare, coverage.stranded) == ((), (), ())


def test_the_furthest_reaching_file_wins_and_the_rest_is_spare() -> None:
    coverage = cover([seg(1, 10), seg(11, 20), seg(1, 20, compacted=True), seg(21, 30)])
    assert coverage.chosen == (seg(1, 20, compacted=True), seg(21, 30))
    assert coverage.spare == (seg(1, 10), seg(11, 20))
    assert coverage.overlaps == ()


def test_the_compacted_file_wins_a_tie() -> None:
    assert cover([seg(1, 10), seg(1, 10, compacted=True)]).chosen == (seg(1, 10, compacted=True),)


def test_a_longer_file_that_leads_nowhere_does_not_shorten_the_archive() -> None:
    coverage = cover([seg(1, 10), seg(11, 90), seg(1, 12)])
    assert coverage.chosen == (seg(1, 10), seg(11, 90))
    assert coverage.overlaps == (seg(1, 12),)


def test_a_gap_ends_the_archive_and_is_named() -> None:
    coverage = cover([seg(1, 10), seg(21, 30), seg(25, 40), seg(51, 60)])
    assert coverage.position.n == 10
    assert coverage.gaps == (Range(11, 20), Range(41, 50))
    assert coverage.stranded == (seg(21, 30), seg(25, 40), seg(51, 60))


def test_a_file_that_straddles_the_end_leaves_no_gap() -> None:
    coverage = cover([seg(1, 10), seg(5, 15)])
    assert coverage.position.n == 10
    assert coverage.gaps == ()
    assert coverage.stranded == (seg(5, 15),)


def test_a_day_ends_at_midnight() -> None:
    assert day_end_ms(NOON_MS) == NOON_MS + DAY_MS // 2
    assert day_end_ms(DAY_MS) == 2 * DAY_MS
    assert day_end_ms(DAY_MS - 1) == DAY_MS
