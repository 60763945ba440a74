"""What is due to be compacted, and in which stretches."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.compaction_plan import CLOSED_AFTER_MS, MAX_BYTES, MAX_ROWS, closed_runs, cuts
from analytics.keeping import outlived
from analytics.segment import DAY_MS, Segment, cover


def seg(first: int, last: int, day: int, *, compacted: bool = False) -> Segment:
    return Segment(0, first, last, day * DAY_MS + last, compacted)


def runs(*segments: Segment, head: int, now_ms: int) -> list[tuple[Segment, ...]]:
    return list(closed_runs(cover(segments), head, now_ms))


def test_a_day_is_due_when_it_is_over_and_archived() -> None:
    one, two, three = seg(1, 5, 9), seg(6, 9, 9), seg(10, 12, 10)
    midnight = 10 * DAY_MS
    assert runs(one, two, head=9, now_ms=midnight + CLOSED_AFTER_MS) == [(one, two)]
    assert runs(one, two, head=9, now_ms=midnight + CLOSED_AFTER_MS - 1) == []
    assert runs(one, two, head=10, now_ms=midnight + DAY_MS) == []  # 10 may be of that day
    assert runs(one, two, three, head=99, now_ms=midnight + DAY_MS) == [(one, two)]
    assert runs(one, two, three, head=12, now_ms=midnight + 3 * DAY_MS) == [(one, two), (three,)]


def test_what_is_compacted_parts_the_runs_of_its_day() -> None:
    files = [seg(1, 5, 9), seg(6, 9, 9, compacted=True), seg(10, 12, 9), seg(13, 13, 9)]
    assert runs(*files, head=13, now_ms=20 * DAY_MS) == [(files[0],), tuple(files[2:])]


@given(st.integers(1, 10**9), st.integers(1, 3 * MAX_ROWS), st.integers(0, 5 * MAX_BYTES))
def test_stretches_hold_each_sequence_once_within_the_bounds(
    first: int, row_count: int, byte_count: int
) -> None:
    last = first + row_count - 1
    found = cuts(first, last, byte_count)
    assert found[0].first == first
    assert found[-1].last == last
    for one, following in pairwise(found):
        assert following.first == one.last + 1
    longest = max(each.last - each.first + 1 for each in found)
    assert longest <= MAX_ROWS
    assert longest == 1 or (longest - 1) * byte_count / row_count <= MAX_BYTES


@pytest.mark.parametrize(("days", "names"), [(29, ()), (30, ("b",)), (90, ("a", "b"))])
def test_a_type_is_outlived_so_many_days_after_its_day(days: int, names: tuple[str, ...]) -> None:
    now_ms = 10 * DAY_MS + days * DAY_MS
    assert outlived(seg(1, 5, 9), {"b": 30, "a": 90}, now_ms) == names
