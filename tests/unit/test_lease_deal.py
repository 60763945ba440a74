from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from eventlog.lease import deal

members = st.lists(st.text(min_size=1), min_size=1, max_size=12, unique=True)


@given(st.integers(1, 64), members)
def test_every_partition_goes_to_exactly_one_member(partition_count, names):
    shares = [deal(partition_count, names, name) for name in names]
    assert set().union(*shares) == set(range(partition_count))
    assert sum(map(len, shares)) == partition_count


@given(st.integers(1, 64), members)
def test_shares_differ_by_one_at_most(partition_count, names):
    sizes = [len(deal(partition_count, names, name)) for name in names]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 64), members, st.randoms(use_true_random=False))
def test_every_member_computes_the_same_from_the_same_list(partition_count, names, rng):
    shuffled = rng.sample(names, len(names))
    for name in names:
        assert deal(partition_count, names, name) == deal(partition_count, shuffled, name)


def test_more_members_than_partitions_leave_some_idle():
    names = [f"m{n}" for n in range(5)]
    random.Random(1).shuffle(names)
    shares = [deal(2, names, name) for name in names]
    assert sorted(map(len, shares)) == [0, 0, 0, 1, 1]
