from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog import partition
from eventlog.partition import Partitions, partition_of
from tests import strategies


def test_it_never_changes_for_the_life_of_a_log():
    # Entries lie where these numbers say: a change of the function would split conversations.
    golden = {"telegram:12345": 7, "discord:1": 0, "": 0, "чат": 0, "🦜": 6}
    assert {name: partition_of(name, 8) for name in golden} == golden
    assert partition_of("123456789", 2**32) == 0xCBF43926, "the check value of CRC-32"


@given(strategies.names, st.integers(1, 1024))
def test_it_is_a_partition_and_remembering_changes_nothing(conversation, count):
    remembered = Partitions(count)
    expected = partition_of(conversation, count)
    assert 0 <= expected < count
    assert [remembered[conversation] for _ in range(2)] == [expected, expected]


def test_conversations_spread_evenly():
    counts = Counter(partition_of(f"telegram:{n}", 8) for n in range(8000))
    assert len(counts) == 8
    assert max(counts.values()) < 1.2 * min(counts.values())


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(partition, "REMEMBERED_CONVERSATIONS", 10)
    remembered = Partitions(8)
    for n in range(100):
        assert remembered[f"c{n}"] == partition_of(f"c{n}", 8)
        assert len(remembered) <= 10
