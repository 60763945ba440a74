from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.errors import IllegalTransition
from eventlog.session import ALLOWED, TERMINAL, SessionStatus, check_transition, next_status

STATUSES: tuple[SessionStatus, ...] = get_args(SessionStatus)
LEGAL = {
    ("pending", "active"),
    ("pending", "completed"),
    ("pending", "failed"),
    ("active", "dormant"),
    ("active", "completed"),
    ("active", "failed"),
    ("dormant", "active"),
    ("dormant", "completed"),
    ("dormant", "failed"),
}


@pytest.mark.parametrize("current", STATUSES)
@pytest.mark.parametrize("target", STATUSES)
def test_what_may_be_asked_for(current, target):
    if (current, target) in LEGAL:
        check_transition("s", current, target)
        assert next_status(current, target) == target
    else:
        with pytest.raises(IllegalTransition, match=f"{current} to {target}") as caught:
            check_transition("s", current, target)
        assert (caught.value.from_status, caught.value.to_status) == (current, target)


def test_every_status_has_its_row():
    assert ALLOWED.keys() == set(STATUSES)
    assert {status for status in STATUSES if not ALLOWED[status]} == TERMINAL


@given(st.lists(st.sampled_from(STATUSES), min_size=1))
def test_the_fold_is_total_and_never_goes_back(targets):
    status: SessionStatus | None = None
    for target in targets:
        before, status = status, next_status(status, target)
        if before in TERMINAL:
            assert status == before
        if before is not None and before != "pending":
            assert status != "pending"
        assert status in STATUSES


def test_the_first_status_is_taken_as_it_comes():
    assert [next_status(None, status) for status in STATUSES] == list(STATUSES)
