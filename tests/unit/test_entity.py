from __future__ import annotations

import pytest

from eventlog.entity import FREE, OVER, EntityState, held_by, holder_of


@pytest.mark.parametrize("text", ["0", "3", "3 free", "3 over", "12 held session:a b:c"])
def test_a_state_is_what_its_text_says(text: str) -> None:
    assert str(EntityState.parse(text)) == text


def test_an_event_without_a_mark_leaves_the_mark() -> None:
    assert EntityState(3, held_by("session:s")).then(EntityState(1)) == (4, "held session:s")


def test_the_later_mark_holds_but_over_stays() -> None:
    held = EntityState(1, FREE).then(EntityState(1, held_by("session:s")))
    assert held == (2, "held session:s")
    assert EntityState(1, OVER).then(EntityState(2, FREE)) == (3, OVER)


def test_only_what_is_held_has_a_holder() -> None:
    assert holder_of(held_by("session:a b")) == "session:a b"
    assert [holder_of(mark) for mark in ("", FREE, OVER)] == [None] * 3
