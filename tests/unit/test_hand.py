"""A hand as text: exactly what is in it, nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumers.hand import Hand
from eventlog.ids import START, EntryId


def told(text: str, delivered: range) -> set[int]:
    """Return the sequences of `delivered` that the text says are in hand, as `heal.lua` reads it."""
    seen, _, ranges = (*text.split(" "), "", "")[:3]
    seen_n = EntryId.parse(seen).n
    pairs = [tuple(map(int, each.split("-"))) for each in ranges.split(",") if each]
    return {n for n in delivered if n > seen_n or any(a <= n <= b for a, b in pairs)}


@given(st.sets(st.integers(1, 60)), st.integers(60, 70), st.integers(0, 10))
def test_it_tells_what_is_in_hand_and_what_was_delivered_since(in_hand, seen_n, since):
    hand = Hand.fromkeys(EntryId(1000 + n // 7, n) for n in sorted(in_hand))
    hand.seen = EntryId(2000, seen_n)
    later = set(range(seen_n + 1, seen_n + 1 + since))
    assert told(hand.text(), range(1, seen_n + 1 + since)) == in_hand | later


@given(st.sets(st.integers(1, 60), min_size=1))
def test_it_names_the_first_one(in_hand):
    hand = Hand.fromkeys(EntryId(1000 + n // 7, n) for n in sorted(in_hand))
    first = min(in_hand)
    assert hand.text().split(" ")[1] == str(EntryId(1000 + first // 7, first))


@given(st.sets(st.integers(1, 60), min_size=1), st.data())
def test_what_is_put_back_stands_in_its_place(in_hand, data):
    ids = [EntryId(n // 7, n) for n in sorted(in_hand)]
    hand = Hand.fromkeys(ids)
    taken = data.draw(st.sampled_from(ids))
    hand.pop(taken)
    hand.put_back(taken)
    assert list(hand) == ids


def test_an_empty_one_says_how_far_it_has_seen():
    hand = Hand()
    assert hand.text() == str(START)
    hand.seen = EntryId(9, 8)
    assert hand.text() == "9-8"
