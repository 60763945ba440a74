"""Workers under faults: nothing lost, repeated, out of order, or done with and not handled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.handled_runs import Report, run
from tests.fault.handling_fleet import FAULTS, Fault, Plan, offers, strikes

CI_SECONDS = 6
PROCESSES: tuple[Fault, ...] = ("kill", "pause", "release")


def assert_clean(report: Report) -> None:
    print(report)  # noqa: T201 - `pytest -s` shows it; a failure does anyway
    assert not report.anomalies, f"{report}\nTo see it again: {report.command}"


def test_a_seed_says_what_is_sent_and_who_is_struck_how_and_when():
    plan = Plan(seed=3)
    assert [*strikes(plan)] == [*strikes(plan)]
    assert [*strikes(plan)] != [*strikes(Plan(seed=4))]
    assert {strike.kind for strike in strikes(plan)} == {*FAULTS} - {"link"}
    assert min(strike.pause_s for strike in strikes(plan)) * 1000 > plan.lease_ttl_ms

    def told(seed: int) -> list[object]:
        # When an event was made is all that differs.
        return [
            (work.id, work.conversation, work.conduct, work.results, insists)
            for producer in range(2)
            for work, insists in offers(Plan(seed), producer)
        ]

    assert told(3) == told(3)
    assert told(3) != told(4)


@pytest.mark.parametrize(
    ("seed", "faults"),
    [
        (2, FAULTS),
        pytest.param(1, PROCESSES, marks=pytest.mark.soak),
        pytest.param(3, ("server", "link"), marks=pytest.mark.soak),
    ],
)
async def test_struck_workers_lose_repeat_and_reorder_nothing(
    tmp_path: Path, seed: int, faults: tuple[Fault, ...]
) -> None:
    plan = Plan(seed, CI_SECONDS, faults, shortest_gap_s=0.2, longest_gap_s=0.8)
    report = await run(plan, tmp_path)
    assert_clean(report)
    assert {*report.strikes} <= {*faults}
    assert bool(report.link_faults) == ("link" in faults)


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_a_backlog_that_begins_slowly_is_handled_in_order_as_owners_die(
    tmp_path: Path,
) -> None:
    plan = Plan(6, 8, ("kill", "pause"), shortest_gap_s=0.2, longest_gap_s=0.8, backlog=6000)
    assert_clean(await run(plan, tmp_path))


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "faults", [(), ("kill",), ("pause",), ("release",), ("server",), ("group",), ("link",), FAULTS]
)
async def test_a_minute_of_each_fault_and_of_all(tmp_path: Path, faults: tuple[Fault, ...]) -> None:
    assert_clean(await run(Plan(seed=7, seconds=60, faults=faults), tmp_path))
