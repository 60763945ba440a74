from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.senders.retry_after import MAX_RETRY_AFTER_S, read_retry_after

NOW_US = 1_700_000_000_000_000  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("120", 120),
        (" 120 ", 120),
        ("0.25", 0.25),
        ("0", None),
        ("999999999999", MAX_RETRY_AFTER_S),
        ("9" * 8000, MAX_RETRY_AFTER_S),
        ("Tue, 14 Nov 2023 22:15:20 GMT", 120),
        ("Tuesday, 14-Nov-23 22:15:20 GMT", 120),
        ("Tue Nov 14 22:15:20 2023", 120),
        ("Tue, 14 Nov 2023 23:15:20 +0100", 120),
        ("Tue, 14 Nov 2023 22:15:20 -0000", 120),
        ("Tue, 14 Nov 2023 22:13:20 GMT", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER_S),
        ("Fri, 31 Dec 9999 23:59:59 -2300", MAX_RETRY_AFTER_S),
        ("-5", None),
        ("1e9", None),
        ("nan", None),
        ("inf", None),
        ("١٢", None),
        ("soon", None),
        ("", None),
    ],
)
def test_seconds_or_a_date_within_bounds(header, wait_s):
    assert read_retry_after({"retry-after": header}, NOW_US) == wait_s


def test_no_header_asks_for_nothing():
    assert read_retry_after({}, NOW_US) is None


@pytest.mark.parametrize("ours_us", [NOW_US - 7_200_000_000, NOW_US, NOW_US + 7_200_000_000])
def test_a_date_counts_from_the_replys_own_whatever_our_clock_says(ours_us):
    headers = {
        "retry-after": "Tue, 14 Nov 2023 22:15:20 GMT",
        "date": "Tue, 14 Nov 2023 22:13:20 GMT",
    }
    assert read_retry_after(headers, ours_us) == 120


def test_a_reply_whose_date_makes_no_sense_is_as_one_without():
    headers = {"retry-after": "Tue, 14 Nov 2023 22:15:20 GMT", "date": "yesterday"}
    assert read_retry_after(headers, NOW_US) == 120


@settings(max_examples=50)
@given(st.text() | st.text("0123456789:,. GMTJanFebWed-+"))
def test_no_header_does_harm(header):
    wait_s = read_retry_after({"retry-after": header}, NOW_US)
    assert wait_s is None or 0 < wait_s <= MAX_RETRY_AFTER_S
