"""Nothing that anybody needs is ever trimmed; and the test of it can fail."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from analytics import trim as trim_module
from analytics.trim import load_script
from eventlog import EventLog
from eventlog.errors import HistoryGap
from eventlog.scripts import Script
from tests.property.retention_machine import PARTIES, PARTITIONS, RetentionMachine
from tests.strategies import EXAMPLES

_numbers = itertools.count(1)

QUICK = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "stateful_step_count": 40,
}


NewMachine = Callable[[Sequence[str]], RetentionMachine]


@pytest.fixture
def new_machine(server_url: str, tmp_path: Path) -> NewMachine:
    def open_log() -> EventLog:
        prefix = f"retention{next(_numbers)}"
        return EventLog.open(server_url, key_prefix=prefix, partition_count=len(PARTITIONS))

    return partial(RetentionMachine, open_log, tmp_path)


def test_nothing_that_anybody_needs_is_trimmed(new_machine: NewMachine) -> None:
    run_state_machine_as_test(
        partial(new_machine, PARTIES),
        settings=settings(max_examples=10 * EXAMPLES, **QUICK),
    )


class Broken(NamedTuple):
    """A rule taken out of the script, and the party that it speaks for."""

    part: str
    instead: str
    party: str


RULES = {
    "what a group has pending": Broken("if group.pending > 0 then", "if false then", "pending"),
    "what a group was not given": Broken("pin('group', group.name, needed)", "", "undelivered"),
    "groups that nobody registered": Broken(
        "pin('group', group.name, needed)",
        "for i = 4, #ARGV do if ARGV[i] == group.name then pin('group', group.name, needed) end end",
        "stranger",
    ),
    "groups that the server lost": Broken("pin('lost_group', ARGV[i], first_id)", "", "lost"),
    "the archive position": Broken("pin('archive', '', just_after(archived))", "", "archive"),
    "that its archiver knows it": Broken(
        "pin('group', group.name, needed)",
        "if group.name ~= 'archiver' then pin('group', group.name, needed) end",
        "acknowledged",
    ),
    "a build that serves": Broken("role == 'serving' or role", "role", "serving"),
    "a build that served before": Broken("role == 'previous' or", "", "previous"),
    "a build in the making": Broken("or role == 'building'", "", "building"),
    "a log without read models": Broken("pin('unprojected', '', first_id)", "", "unprojected"),
    "a stream being rewritten": Broken("pin('eraser', held[1], first_id)", "", "eraser"),
    "how long the stream is": Broken(
        "last_n - keep_n + 1)", "math.max(0, last_n - keep_n))", "nobody"
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_it_is_found_out_when_a_rule_is_missing(
    new_machine: NewMachine, monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    source = load_script("analytics", "trim").source
    broken = RULES[rule]
    assert source.count(broken.part) == 1
    script = Script(source.replace(broken.part, broken.instead))
    monkeypatch.setattr(trim_module, "load_script", lambda *_: script)
    chosen = settings(
        max_examples=30, derandomize=True, database=None, phases=[Phase.generate], **QUICK
    )
    with pytest.raises((AssertionError, HistoryGap)):
        run_state_machine_as_test(partial(new_machine, [broken.party]), settings=chosen)
