from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eventlog.lease import share_out

names = st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=12, unique=True)


@st.composite
def situations(draw):
    """Members, and who owns each partition: one of them, one who is gone, or nobody."""
    members = draw(names)
    owners = st.sampled_from([*members, "one who is gone", None])
    return members, draw(st.lists(owners, min_size=1, max_size=40))


def beat(owners, members, member):
    """Return the owners after a member did what its share says."""
    share = share_out(owners, members, member)
    after = list(owners)
    for partition in share.give_back:
        assert after[partition] == member
        after[partition] = None
    for partition in share.take:
        assert after[partition] is None
        after[partition] = member
    return after


@given(situations())
def test_after_three_rounds_all_that_is_free_is_owned_and_shares_differ_by_one_at_most(situation):
    members, owners = situation
    owners = [owner if owner in members else None for owner in owners]
    for member in members * 3:
        owners = beat(owners, members, member)
    sizes = [owners.count(member) for member in members]
    assert sum(sizes) == len(owners)
    assert max(sizes) - min(sizes) <= 1


@given(situations())
def test_nobody_touches_what_another_owns(situation):
    members, owners = situation
    for member in members:
        share = share_out(owners, members, member)
        held = {p for p, owner in enumerate(owners) if owner == member}
        assert share.keep | share.give_back == held
        assert not share.keep & share.give_back
        assert all(owners[partition] is None for partition in share.take)


@given(situations())
def test_what_is_settled_stays(situation):
    members, owners = situation
    owners = [owner if owner in members else None for owner in owners]
    for member in members * 3:
        owners = beat(owners, members, member)
    for member in members:
        assert beat(owners, members, member) == owners


@given(st.integers(2, 12), st.integers(1, 40))
def test_a_death_moves_only_what_the_dead_one_had(member_count, partition_count):
    members = [f"m{n:02}" for n in range(member_count)]
    owners = [None] * partition_count
    for member in members * 3:
        owners = beat(owners, members, member)
    dead = owners[0]
    left = [member for member in members if member != dead]
    after = [None if owner == dead else owner for owner in owners]
    for member in left * 3:
        after = beat(after, left, member)
    moved = [p for p, owner in enumerate(owners) if owner != dead and after[p] != owner]
    assert not moved


def test_more_members_than_partitions_leave_some_idle():
    members = [f"m{n}" for n in range(5)]
    takes = [share_out([None, None], members, member).take for member in members]
    assert sorted(map(len, takes)) == [0, 0, 0, 1, 1]
    assert {p for take in takes for p in take} == {0, 1}
