"""Everything at work, every fault, in a few seconds: nothing lost, repeated, out of order, unseen, made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.whole.plan import FAULTS, Plan, schedule
from tests.fault.whole.run import run
from tests.fault.whole.world import LINK_FAULTS

QUICK = Plan(
    seed=1,
    seconds=8,
    roles=(
        "producer",
        "importer",
        "bridge",
        "worker",
        "projector",
        "archiver",
        "compactor",
        "trimmer",
    ),
    shortest_gap_s=0.05,
    longest_gap_s=0.2,
    longest_s=0.8,
    round_s=4,
    rest_s=2,
)


def test_a_seed_says_what_strikes_when_and_for_how_long() -> None:
    plan = Plan(seed=3)
    assert schedule(plan) == schedule(plan)
    assert schedule(plan) != schedule(plan._replace(seed=4))
    counts = [sum(each.kind == fault for each in schedule(plan)) for fault in FAULTS]
    assert max(counts) - min(counts) <= 1
    only = schedule(plan._replace(faults=("kill", "memory")))
    assert {each.kind for each in only} == {"kill", "memory"}
    assert max(each.at_s + each.lasts_s for each in schedule(plan)) < plan.seconds


async def test_a_run_in_which_each_fault_strikes(tmp_path: Path) -> None:
    report = await run(QUICK, tmp_path)
    assert not report.anomalies, f"{report}\nTo see the like again: {report.command}"
    assert {*report.faults} == {*FAULTS}
    assert report.link_faults
    assert report.history.errors
    assert report.history.files["compacted"]


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", FAULTS)
async def test_half_a_minute_of_each_fault(tmp_path: Path, fault: str) -> None:
    assert fault in FAULTS
    report = await run(Plan(seed=5, seconds=30, faults=(fault,)), tmp_path)
    assert not report.anomalies, f"{report}\nTo see it again: {report.command}"
    assert bool(report.link_faults) == (fault in LINK_FAULTS)
