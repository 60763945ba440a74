"""Places for running handlers."""

from __future__ import annotations

from consumers.slots import Slots
from tests.support import turns


async def test_so_many_and_no_more():
    slots, given = Slots(2), []
    assert slots.take(lambda: given.append("a"))
    assert slots.take(lambda: given.append("b"))
    assert not slots.is_wanted
    assert not slots.take(lambda: given.append("c"))
    assert slots.is_wanted
    await turns(3)
    assert given == []


async def test_who_waits_longest_is_given_the_next_one():
    slots, given = Slots(1), []
    slots.take(print)
    for name in "abc":
        assert not slots.take(lambda name=name: given.append(name))
    for expected in ("a", "ab", "abc"):
        slots.give_back()
        await turns(2)
        assert "".join(given) == expected
    assert not slots.is_wanted
    slots.give_back()
    assert slots.take(print)


async def test_asking_twice_is_asking_once():
    slots, given = Slots(1), []
    slots.take(print)
    for _ in range(3):
        slots.take(given.append.__self__.clear)
    slots.give_back()
    await turns(2)
    slots.give_back()
    assert slots.take(print)
    assert not slots.take(print)


def test_one_suspect_at_a_time():
    slots, one, other = Slots(5), object(), object()
    assert slots.suspect(one)
    assert not slots.suspect(other)
    slots.clear(other)
    assert not slots.suspect(other), "it was not the suspect"
    slots.clear(one)
    assert slots.suspect(other)
