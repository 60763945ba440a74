"""Comparing a conversation's transcript with its source finds what was planted, and nothing else."""

from __future__ import annotations

import random

import pytest

from bridge.importers.migration.differences import COLUMNS, Told, differences

TEXT = COLUMNS.index("text")


def told(place: int, text: str = "") -> Told:
    fields = [None] * len(COLUMNS)
    fields[TEXT] = text or f"text {place}"  # type: ignore[call-overload]
    return Told(str(place), tuple(fields))


TRANSCRIPT = [told(n) for n in range(1, 9)]


def kinds(log: list[Told]) -> list[tuple[str, str]]:
    return [(each.kind, each.place) for each in differences("c", TRANSCRIPT, log)]


def test_equal_transcripts_do_not_differ():
    assert kinds(TRANSCRIPT) == []


def test_a_missing_message_is_named():
    assert kinds(TRANSCRIPT[:3] + TRANSCRIPT[4:]) == [("missing", "4")]


def test_a_message_too_many_is_named():
    assert kinds([*TRANSCRIPT, told(99)]) == [("extra", "99")]
    assert kinds([*TRANSCRIPT, TRANSCRIPT[7]]) == [("extra", "8")]


def test_a_changed_text_is_named_with_both_sides():
    log = [*TRANSCRIPT[:2], told(3, "forged"), *TRANSCRIPT[3:]]
    [found] = differences("c", TRANSCRIPT, log)
    assert str(found) == ("changed: 3 in c: text: 'text 3' in the source, 'forged' in the log")


def test_a_wrong_order_is_named():
    log = [*TRANSCRIPT[:2], TRANSCRIPT[3], TRANSCRIPT[2], *TRANSCRIPT[4:]]
    assert kinds(log) == [("order", "3")]


@pytest.mark.parametrize("seed", range(20))
def test_any_shuffling_is_noticed(seed):
    log = TRANSCRIPT.copy()
    random.Random(seed).shuffle(log)
    assert bool(kinds(log)) == (log != TRANSCRIPT)
