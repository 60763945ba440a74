"""What is remembered of an entry between attempts."""

from __future__ import annotations

import msgspec

from consumers.record import KEPT_FAILURES, NO_RECORD, Record, decode_record, encode_record
from eventlog.vocabulary import FailedAttempt


def failure(attempt: int) -> FailedAttempt:
    return FailedAttempt(attempt=attempt, failed_at=attempt, error=f"error {attempt} 🦜", code="x")


def test_it_reads_back_as_it_was_written():
    record = NO_RECORD.begun().failed(failure(1)).begun().begun()
    assert decode_record(encode_record(record).encode()) == record
    assert decode_record(None) is NO_RECORD
    assert msgspec.json.decode(encode_record(NO_RECORD)) == {}


def test_a_strike_stands_until_the_end_of_the_attempt_is_known():
    assert NO_RECORD.begun().begun().strikes == 2
    assert NO_RECORD.begun().returned() == NO_RECORD
    assert NO_RECORD.returned().strikes == 0
    failed = NO_RECORD.begun().begun().failed(failure(1))
    assert (failed.attempts, failed.strikes) == (1, 0)
    assert failed.begun() == Record(1, 1, (failure(1),))


def test_of_many_failures_the_last_ones_are_kept():
    record = NO_RECORD
    for attempt in range(1, 101):
        record = record.failed(failure(attempt))
    assert record.attempts == 100
    assert [each.attempt for each in record.failures] == list(range(101 - KEPT_FAILURES, 101))
