"""Single values of older bridges: what they mean, and what means nothing."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.importers.migration.values import (
    count_of,
    direction_of,
    instant_us,
    message_type_of,
    status_of,
    text_of,
)
from bridge.importers.records import BadRecord

NOON_US = 1_714_564_800_000_000
"""2024-05-01 12:00 UTC."""


@pytest.mark.parametrize(
    "value",
    [
        "2024-05-01 12:00:00",
        "2024-05-01T12:00:00Z",
        "2024-05-01T14:00:00+02:00",
        "2024-05-01 12:00:00.000000",
        " 2024-05-01 12:00:00 UTC ",
        1_714_564_800,
        1_714_564_800.0,
        1_714_564_800_000,
        1_714_564_800_000_000,
        1_714_564_800_000_000_000,
        "1714564800",
        "1714564800.0",
        "1714564800000",
    ],
)
def test_one_moment_however_it_is_written(value):
    assert instant_us(value) == NOON_US


def test_a_naive_time_is_of_the_zone_that_was_given():
    assert instant_us("2024-05-01 14:00:00", ZoneInfo("Europe/Berlin")) == NOON_US
    assert instant_us("2024-05-01T12:00:00Z", ZoneInfo("Europe/Berlin")) == NOON_US


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "soon",
        "2024-13-01",
        True,
        -5,
        float("nan"),
        float("inf"),
        1e30,
        b"x",
        [],
        "nan",
        "1969-12-31 23:00:00",
    ],
)
def test_what_is_no_moment_is_refused(value):
    with pytest.raises(BadRecord, match=r"time|1970"):
        instant_us(value)


@given(st.integers(10**8, 9 * 10**10))
def test_seconds_milliseconds_and_microseconds_are_told_apart(seconds):
    for value in (seconds, float(seconds), seconds * 1000, seconds * 1_000_000, str(seconds)):
        assert instant_us(value) == seconds * 1_000_000


def test_a_fraction_of_a_second_is_kept_to_the_microsecond():
    assert instant_us(1_714_564_800.123456) == NOON_US + 123_456
    assert instant_us("1714564800.123456") == NOON_US + 123_456


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("pending", "pending"),
        ("queued", "pending"),
        ("Running", "active"),
        ("in-progress", "active"),
        ("paused", "dormant"),
        ("DONE", "completed"),
        ("completed", "completed"),
        ("error", "failed"),
        ("cancelled", "failed"),
    ],
)
def test_foreign_statuses_have_one_of_ours(word, status):
    assert status_of(word) == status


@pytest.mark.parametrize("word", [None, "", "purple", 7])
def test_an_unknown_status_is_refused_by_name(word):
    with pytest.raises(BadRecord, match="unknown status"):
        status_of(word)


@pytest.mark.parametrize(
    ("value", "direction"),
    [
        ("in", "in"),
        ("OUT", "out"),
        ("inbound", "in"),
        ("assistant", "out"),
        ("user", "in"),
        (1, "out"),
        (0, "in"),
        (True, "out"),
        (False, "in"),
        ("received", "in"),
    ],
)
def test_directions(value, direction):
    assert direction_of(value) == direction


def test_message_types_of_platforms_are_media():
    assert [message_type_of(w) for w in ("photo", "voice", "ack", None, "")] == [
        "media",
        "media",
        "acknowledgment",
        "text",
        "text",
    ]
    assert message_type_of("poll") is None


def test_ids_are_text_without_a_fraction():
    assert [text_of(v) for v in (12, 12.0, "x", None, b"caf\xc3\xa9")] == [
        "12",
        "12",
        "x",
        "",
        "café",
    ]


@pytest.mark.parametrize("value", [b"\xff\xfe", "\udcff"])
def test_bytes_that_are_no_text_are_refused(value):
    with pytest.raises(BadRecord, match="text"):
        text_of(value)


def test_counts():
    assert [count_of(v) for v in (None, "", 3, "4", 5.0)] == [0, 0, 3, 4, 5]
    for bad in (-1, "many", float("inf")):
        with pytest.raises(BadRecord, match="no count"):
            count_of(bad)
