"""Other people's JSON as text: exact, or refused."""

from __future__ import annotations

import enum
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.errors import InvalidEvent
from eventlog.json_text import from_json_text, to_json_text
from eventlog.scoped import conversation_of, scoped
from tests import strategies


@given(strategies.json_values)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    back = from_json_text(to_json_text(value))
    # Compared as text: 1, 1.0 and True are equal to Python, and dicts whatever their order.
    assert json.dumps(back) == json.dumps(value)


@pytest.mark.parametrize(
    "value",
    [10**400, -(2**64), -0.0, 5e-324, 1.0, True, None, {}, [], "", "\0", "🦜", {"b": 1, "a": None}],
)
def test_numbers_keys_and_nothing_are_exact(value: Any) -> None:
    back = from_json_text(to_json_text(value))
    assert (type(back), repr(back)) == (type(value), repr(value))


@pytest.mark.parametrize("text", ["\ud83d", "cut \udc00 off", "🦜\ud83d"])
def test_half_of_a_surrogate_pair_survives_and_its_text_is_utf8(text: str) -> None:
    made = to_json_text({text: [text]})
    made.encode()
    assert from_json_text(made) == {text: [text]}


def test_text_is_kept_readable() -> None:
    assert to_json_text({"a": "é🦜"}) == '{"a":"é🦜"}'


def test_a_tuple_becomes_a_list() -> None:
    assert from_json_text(to_json_text({"a": (1, (2,))})) == {"a": [1, [2]]}


def test_an_enum_of_text_is_its_text() -> None:
    colour = enum.StrEnum("colour", ["RED"])
    assert from_json_text(to_json_text([colour.RED])) == ["red"]


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"bytes", "bytes"),
        ({"a": {1: "one"}}, "the key 1 is no text"),
        ([({None: 1},)], "the key None is no text"),
        ({1: "one", "1": "uno"}, "the key 1 is no text"),
        (float("nan"), "JSON"),
        ([float("inf")], "JSON"),
        (datetime(2026, 1, 1, tzinfo=UTC), "datetime"),
        ({1, 2}, "set"),
        (nested(100_000), "recursion"),
    ],
)
def test_what_json_has_no_place_for_is_refused(value: Any, reason: str) -> None:
    with pytest.raises(InvalidEvent, match=reason) as raised:
        to_json_text(value, "item")
    assert str(raised.value).startswith("this item does not fit into JSON")


@given(*[st.text(max_size=6)] * 4)
def test_no_two_pairs_share_a_name(a: str, b: str, c: str, d: str) -> None:
    assert (scoped(a, b) == scoped(c, d)) == ((a, b) == (c, d))
    assert conversation_of(scoped(a, b)) == a
