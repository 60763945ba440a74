"""When a failed attempt is made again."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.retry import Retry, Verdict, judge, reason_of
from eventlog.errors import AttemptFailed, ConfigurationError, LogUnavailable, SendFailed

PASSING = Verdict()


def delays(retry: Retry, verdict: Verdict = PASSING, seed: int = 0) -> list[float | None]:
    rnd = random.Random(seed)
    return [retry.delay_s(attempt, verdict, rnd) for attempt in range(1, retry.attempts + 1)]


def test_delays_grow_up_to_the_longest_and_end_with_the_last_attempt():
    retry = Retry(6, first_delay_s=1, factor=3, longest_delay_s=20, jitter=0)
    assert delays(retry) == [1, 3, 9, 20, 20, None]


def test_one_attempt_is_the_last():
    assert delays(Retry(1)) == [None]


def test_a_permanent_error_is_given_up_at_once():
    assert delays(Retry(3), Verdict(permanent=True, retry_after_s=5)) == [None, None, None]


def test_what_the_platform_asks_for_is_waited_for_in_full():
    retry = Retry(3, first_delay_s=10, jitter=1, longest_delay_s=10)
    assert delays(retry, Verdict(retry_after_s=500)) == [500, 500, None]
    assert min(delays(Retry(2, first_delay_s=10, jitter=0), Verdict(retry_after_s=1))[:1]) == 10


@given(
    st.floats(0, 1000),
    st.floats(1, 1000),
    st.floats(0, 1e6),
    st.floats(0, 1),
    st.integers(1, 10_000),
    st.integers(),
)
def test_a_delay_keeps_its_bounds(first_s, factor, longest_s, jitter, attempt, seed):
    retry = Retry(
        20_000, first_delay_s=first_s, factor=factor, longest_delay_s=longest_s, jitter=jitter
    )
    delay_s = retry.delay_s(attempt, PASSING, random.Random(seed))
    assert delay_s is not None
    assert math.isfinite(delay_s)
    highest_s = min(first_s * factor ** min(attempt - 1, 60), longest_s)
    assert highest_s * (1 - jitter) * 0.999 <= delay_s <= highest_s


def test_jitter_spreads_what_failed_together():
    rnd = random.Random(1)
    retry = Retry(first_delay_s=10, jitter=0.5)
    spread = {retry.delay_s(1, PASSING, rnd) for _ in range(20)}
    assert len(spread) == 20
    assert all(5 <= each <= 10 for each in spread)


@pytest.mark.parametrize(
    "fields",
    [
        {"attempts": 0},
        {"first_delay_s": -1},
        {"factor": 0.5},
        {"jitter": 1.1},
        {"jitter": -0.1},
        {"first_delay_s": math.nan},
        {"longest_delay_s": -1},
    ],
)
def test_a_policy_that_makes_no_sense(fields):
    with pytest.raises(ConfigurationError, match="at least"):
        Retry(**fields)


def test_errors_are_judged_by_what_they_say_of_themselves():
    assert judge(ValueError()) == Verdict(permanent=False, retry_after_s=None)
    assert judge(AttemptFailed("x", permanent=True)).permanent
    assert judge(SendFailed("x", reason="busy", retry_after_s=7)).retry_after_s == 7
    assert judge(LogUnavailable("x")) == Verdict()


def test_reasons_are_words_to_count_by():
    assert reason_of(SendFailed("x", reason="chat_not_found")) == "chat_not_found"
    assert reason_of(LogUnavailable("x")) == "log_unavailable"
    assert reason_of(AttemptFailed("x")) == "attempt_failed"
    assert reason_of(KeyError("x")) == "KeyError"
