from __future__ import annotations

import gc

import pytest

from eventlog.collector import YOUNG_OBJECTS, spared_collector


@pytest.fixture
def nothing_frozen():
    was_frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    yield
    if was_frozen:
        gc.freeze()


@pytest.mark.usefixtures("nothing_frozen")
def test_it_looks_less_often_meanwhile_and_as_before_afterwards():
    usual = gc.get_threshold()
    with spared_collector():
        assert gc.get_threshold()[0] == YOUNG_OBJECTS
        assert gc.get_freeze_count() > 0
    assert gc.get_threshold() == usual
    assert gc.get_freeze_count() == 0


@pytest.mark.usefixtures("nothing_frozen")
def test_what_the_program_had_frozen_stays_so():
    gc.freeze()
    with spared_collector():
        pass
    assert gc.get_freeze_count() > 0
