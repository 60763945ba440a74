"""What retention decides: pure, without a server."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analytics.retention import Facts, Policy, decide
from analytics.trim import Kind, Pin
from eventlog.ids import EntryId
from service.judging import judge_eviction, judge_retention

FOREVER = 10**12


def pin(n: int, kind: Kind = "group", name: str = "g") -> Pin:
    return Pin(kind, name, EntryId(7, n))


def facts(partition: int = 0, count: int = 100, *pins: Pin, **given: int) -> Facts:
    """Entries 1 to `count` of 10 bytes, none of them old and all of them old enough to go."""
    read = {"first_n": 1, "last_n": count, "aged_n": 1, "recent_n": count + 1}
    return Facts(partition=partition, stream_bytes=count * 10, pins=pins, **{**read, **given})


def test_age_alone() -> None:
    [plan] = decide(Policy(FOREVER), [facts(aged_n=41)]).partitions
    assert (plan.keep_n, plan.goes_count, plan.frees_bytes, plan.held) == (41, 40, 400, ())


def test_the_lowest_pin_is_the_floor_and_all_that_hold_anything_are_named() -> None:
    pins = pin(11, name="slow"), pin(31, "build", "v@1.0 serving"), pin(60, "archive", "")
    plan = decide(Policy(FOREVER), [facts(0, 100, *pins, aged_n=41)])
    [part] = plan.partitions
    assert (part.keep_n, part.wanted_n, plan.held_count) == (11, 41, 30)
    assert [(held.pin.name, held.entry_count) for held in plan.holders] == [
        ("slow", 30),
        ("v@1.0 serving", 10),
    ]


def test_a_budget_is_shared_by_what_may_go() -> None:
    policy = Policy(FOREVER, max_entries=100)
    plan = decide(policy, [facts(0, 100), facts(1, 300)])
    assert [part.goes_count for part in plan.partitions] == [75, 225]


def test_others_make_the_room_that_a_pinned_one_does_not() -> None:
    policy = Policy(FOREVER, memory_bytes=1000)
    plan = decide(policy, [facts(0, 100, pin(1)), facts(1, 100)])
    assert [part.goes_count for part in plan.partitions] == [0, 100]
    assert plan.over_bytes == 0
    assert plan.held_count == 50


def test_nobody_holds_back_what_others_leave_room_for() -> None:
    """A budget takes more of the others where one is pinned; less of that one than it might give."""
    policy = Policy(FOREVER, max_entries=30)
    plan = decide(policy, [facts(0, 20, pin(9)), facts(1, 20)])
    pinned, _ = plan.partitions
    assert pinned.keep_n < pinned.wanted_n < pinned.facts.floor_n
    assert (plan.goes_count, plan.held_count, plan.holders) == (11, 0, [])


def test_what_cannot_be_kept_is_said() -> None:
    policy = Policy(FOREVER, memory_bytes=500)
    plan = decide(policy, [facts(0, 100, pin(21))])
    assert (plan.goes_count, plan.over_bytes, plan.held_count) == (20, 300, 30)
    finding = judge_retention(plan)
    assert finding.verdict == "act"
    assert "held back by group g (30 entries, 0 kB)" in finding.seen
    assert "`eventlog groups retire g" in finding.remedy


def test_a_pin_below_what_there_is_holds_all() -> None:
    [plan] = decide(Policy(FOREVER), [facts(0, 100, pin(3), first_n=51, aged_n=101)]).partitions
    assert (plan.goes_count, plan.held_count) == (0, 50)


def test_what_is_recent_stays_whatever_the_budget() -> None:
    policy = Policy(FOREVER, max_entries=0)
    assert decide(policy, [facts(recent_n=81)]).goes_count == 80


def test_nothing_is_held_where_nothing_is_to_go() -> None:
    plan = decide(Policy(FOREVER), [facts(0, 100, pin(1))])
    assert (plan.holders, plan.held_count) == ([], 0)
    assert judge_retention(plan).verdict == "fine"


def test_an_empty_partition() -> None:
    plan = decide(Policy(0, 0, 0), [facts(0, 0)])
    assert (plan.goes_count, plan.over_bytes) == (0, 0)


def test_pins_that_tell_the_same_are_told_once() -> None:
    pins = [
        pin(1, "group", "archiver"),
        pin(1, "archive", ""),
        pin(2, "group", "projector"),
        pin(2, "build", "v@1.0 serving"),
    ]
    plan = decide(Policy(FOREVER), [facts(0, 100, *pins, aged_n=101)])
    assert [held.pin.kind for held in plan.holders] == ["archive", "build"]


def test_eviction() -> None:
    assert judge_eviction("noeviction").verdict == "fine"
    assert judge_eviction("unknown").verdict == "look"


@given(
    st.lists(
        st.builds(
            lambda first, count, floor, aged, size: Facts(
                0, first, first + count - 1, first + aged, first + count, count * size,
                (pin(first + floor),),
            ),
            *(st.integers(1, 50), st.integers(0, 50), st.integers(-5, 60), st.integers(0, 50)),
            st.integers(1, 1000),
        ),
        max_size=4,
    ),
    st.none() | st.integers(0, 100),
    st.none() | st.integers(0, 50_000),
)  # fmt: skip
def test_no_plan_goes_beyond_a_floor_and_each_makes_what_room_it_can(
    parts, entries, memory
) -> None:
    plan = decide(Policy(0, entries, memory), parts)
    for part in plan.partitions:
        assert part.facts.first_n <= part.keep_n <= max(part.facts.first_n, part.facts.floor_n)
        assert part.keep_n <= part.facts.last_n + 1 or not part.facts.entry_count
    left = sum(part.facts.last_n - part.keep_n + 1 for part in plan.partitions)
    if plan.held_count == 0 and entries is not None:
        assert left <= max(entries, 0)
