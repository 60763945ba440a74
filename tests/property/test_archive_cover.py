"""What `cover` chooses, against a model that tries every way through the files."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analytics.segment import Segment, cover


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    first = draw(st.integers(1, 12))
    last = draw(st.integers(first, 14))
    return Segment(0, first, last, last, draw(st.booleans()))


def reachable(files: list[Segment]) -> set[int]:
    """Every sequence at which some way through the files from the start ends."""
    ends = {0}
    while more := {s.last for s in files if s.first - 1 in ends} - ends:
        ends |= more
    return ends


@given(st.lists(segments(), max_size=12))
def test_cover_reads_each_sequence_once_and_as_far_as_any_way_leads(files: list[Segment]) -> None:
    coverage = cover(files)
    end = 0
    for segment in coverage.chosen:
        assert segment.first == end + 1
        end = segment.last
    assert coverage.position.n == end == max(reachable(files))
    parts = [*coverage.chosen, *coverage.spare, *coverage.stranded]
    assert sorted(parts) == sorted(set(files))  # every file is accounted for, once
    held = {n for s in files for n in range(s.first, s.last + 1)}
    missing = {n for gap in coverage.gaps for n in range(gap.first, gap.last + 1)}
    assert missing == set(range(end + 1, max(held, default=0) + 1)) - held


@given(st.lists(segments(), max_size=12), st.data())
def test_the_order_of_the_listing_does_not_matter(
    files: list[Segment], data: st.DataObject
) -> None:
    assert cover(data.draw(st.permutations(files))) == cover(files)


@given(st.lists(segments(), max_size=12), segments())
def test_one_more_file_never_takes_the_archive_back(files: list[Segment], new: Segment) -> None:
    assert cover([*files, new]).position.n >= cover(files).position.n
