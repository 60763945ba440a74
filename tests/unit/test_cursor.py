from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog import START, Cursor, EntryId, Settings
from eventlog.ids import new_event_id
from eventlog.keys import Keys

entry_ids = st.builds(EntryId, st.integers(0, 2**63), st.integers(0, 2**53))


@given(st.lists(entry_ids, min_size=1))
def test_it_reads_back_what_it_wrote_whatever_the_order_of_partitions(ids):
    cursor = Cursor(enumerate(ids))
    assert Cursor.parse(str(cursor)) == cursor
    assert str(Cursor(reversed(cursor.items()))) == str(cursor)


def test_the_start_is_before_every_entry():
    assert Cursor.start(3) == {0: START, 1: START, 2: START}


@pytest.mark.parametrize("text", ["", ",", "1", "1-", "1-2,", "a-b", "1-2 3-4", "1-2-3", "1.5-2"])
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="invalid literal"):
        Cursor.parse(text)


@given(entry_ids, entry_ids)
def test_entry_ids_order_as_integers(a, b):
    assert EntryId.parse(str(a)) == a
    assert EntryId.parse(str(a).encode()) == a
    assert (a < b) == ((a.ms, a.n) < (b.ms, b.n))
    assert a >= START


def test_entry_ids_do_not_order_as_text():
    assert EntryId.parse("9-10") > EntryId.parse("9-9")
    assert EntryId.parse("10-1") > EntryId.parse("9-9")


def test_event_ids_are_unique_and_ordered_by_time():
    ids = [new_event_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert sorted(ids, key=lambda i: i[:13]) == ids


def spelled(keys: Keys, partition: int) -> list[str]:
    return [
        keys.stream(partition),
        keys.head(partition),
        *keys.dedup(partition),
        keys.producers(partition),
        keys.versions(partition),
        keys.barrier(partition),
        keys.lease(partition, "g"),
        keys.shelf(partition),
        keys.documents(partition, "m@1"),
        keys.index(partition, "m@1", "i"),
        keys.feed(partition, "m@1", "f"),
        keys.feeds(partition, "m@1"),
    ]


def test_a_partition_s_keys_differ_and_share_one_hash_tag():
    keys = Keys("log")
    for partition in range(3):
        mine = spelled(keys, partition)
        assert len(set(mine)) == len(mine)
        assert all(key.startswith(f"{{log:{partition}}}:") for key in mine)
    assert not set(spelled(keys, 0)) & set(spelled(keys, 1))
    assert keys.meta().startswith("{log}:")


def test_logs_with_similar_names_share_no_key():
    logs = [Settings(key_prefix=name).key_prefix for name in ("a", "a:0", "a:0:0", "a:1")]
    found = [
        key
        for log in logs
        for key in (
            Keys(log).meta(),
            Keys(log).members("g"),
            *(key for partition in range(2) for key in spelled(Keys(log), partition)),
        )
    ]
    assert len(set(found)) == len(found)
