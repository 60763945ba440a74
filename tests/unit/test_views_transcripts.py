"""Transcripts and values without a server: against plain lists and dicts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.transcripts import TranscriptStore, cut_items
from bridge.values import ValueStore
from eventlog.errors import EventTooLarge, InvalidEvent
from eventlog.log import EventLog
from eventlog.vocabulary import MessageReceived, TranscriptAppended

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 5)),
        st.tuples(st.just("pop"), st.just(0)),
        st.tuples(st.just("clear"), st.just(0)),
        st.tuples(st.just("other"), st.integers(1, 3)),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(STEPS, st.integers(-1, 12))
@example([("append", 1), ("append", 2), ("pop", 0), ("pop", 0), ("pop", 0)], 5)
@example([("append", 2), ("clear", 0), ("pop", 0), ("append", 1)], 5)
async def test_a_transcript_is_the_list_that_was_made(
    steps: list[tuple[str, int]], limit: int
) -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        store, made = TranscriptStore(log), list[int]()
        for step, (what, count) in enumerate(steps):
            items = [step * 100 + n for n in range(count)]
            match what:
                case "append":
                    await store.append("c", "t", items)
                    made += items
                case "pop":
                    assert await store.pop("c", "t") == (made.pop() if made else None)
                case "clear":
                    await store.clear(("c", "t"))
                    made.clear()
                case _:
                    await store.append("c", "u", items)
                    await store.append("c:1", "t", items)
                    await log.append(MessageReceived(conversation="c", text="x"))
        assert (await store.items("c", "t")).items == made
        assert (await store.items("c", "t", limit)).items == (made[-limit:] if limit > 0 else [])
        known = await store.get("c", "t")
        assert (known.item_count if known else 0) == len(made)
        listed = (await store.list(conversation="c")).items
        assert ("t" in {each.name for each in listed}) == bool(made)


async def test_popping_below_the_bottom_changes_nothing() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        store = TranscriptStore(log)
        assert await store.pop("c", "t", "nothing") == "nothing"
        assert await log.heads() == [(0, 0)]


async def test_lists_by_project_and_conversation_hold_what_has_items() -> None:
    async with EventLog.in_memory(partition_count=4) as log:
        store = TranscriptStore(log)
        for n in range(3):
            await store.append(f"c{n}", "main", [n], project=f"p{n % 2}")
        await store.append("c0", "sub", [0])
        await store.clear(("c2", "main"))

        async def names(**wanted: Any) -> list[tuple[str, str]]:
            page = await store.list(**wanted)
            return sorted((each.conversation, each.name) for each in page.items)

        assert await names() == [("c0", "main"), ("c0", "sub"), ("c1", "main")]
        assert await names(project="p0") == [("c0", "main")]
        assert await names(conversation="c0") == [("c0", "main"), ("c0", "sub")]
        cleared = await store.get("c2", "main")
        assert cleared is not None
        assert (cleared.item_count, cleared.cleared_count, cleared.project) == (0, 1, None)
        assert await store.get("c9", "main") is None


async def test_metadata_is_described_anew_each_time_and_forgotten_when_cleared() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        store = TranscriptStore(log)

        def count(former: dict[str, Any]) -> dict[str, Any]:
            return {"count": former.get("count", 0) + 1}

        for expected in (1, 2):
            await store.append("c", "t", ["x"], describe=count)
            known = await store.get("c", "t")
            assert known is not None
            assert known.metadata == {"count": expected}
        await store.clear(("c", "t"))
        await store.append("c", "t", ["x"], describe=count)
        known = await store.get("c", "t")
        assert known is not None
        assert known.metadata == {"count": 1}


async def test_a_key_that_comes_again_adds_nothing() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        store = TranscriptStore(log)
        items = ["x" * 40_000, "y" * 40_000, "z"]  # more than one event
        for _ in range(2):
            await store.append("c", "t", items, idempotency_key="batch:1")
        assert (await store.items("c", "t")).items == items
        assert (await store.items("c", "t", 2)).items == items[1:]


async def test_an_item_that_no_event_can_hold_is_named_and_nothing_is_added() -> None:
    async with EventLog.in_memory(partition_count=1, max_event_bytes=10_000) as log:
        store = TranscriptStore(log)
        with pytest.raises(EventTooLarge, match=r"item 2 of 3 takes 12,00\d bytes") as raised:
            await store.append("c", "t", ["a", "b" * 12_000, "c"])
        assert "references" in raised.value.remedy
        with pytest.raises(InvalidEvent, match="this item of a transcript does not fit into JSON"):
            await store.append("c", "t", ["a", {"when": b"bytes"}])
        assert await log.heads() == [(0, 0)]
        just_fits = '"' * 4800  # doubled once as JSON, and once more as text in JSON
        with pytest.raises(EventTooLarge):
            await store.append("c", "t", [just_fits])
        await store.append("c", "t", [just_fits[:2400]])
        assert (await store.items("c", "t")).items == [just_fits[:2400]]


async def test_items_are_cut_small_enough_for_an_event_and_stay_in_order() -> None:
    async with EventLog.in_memory(partition_count=1, max_event_bytes=10_000) as log:
        store = TranscriptStore(log)
        items = [f"{n}é" * (n % 7 * 150) for n in range(60)]
        await store.append("c", "t", items)
        assert (await store.items("c", "t")).items == items
        entries = await log.read(partition=0, limit=1000)
        assert max(len(entry.raw) for entry in entries) <= 10_000
        assert 1 < len(entries) < 60


@given(st.lists(st.text(max_size=30), max_size=20), st.integers(40, 80))
def test_pieces_are_all_the_texts(texts: list[str], piece_bytes: int) -> None:
    pieces = list(cut_items(texts, piece_bytes, 1000))
    assert [text for piece in pieces for text in piece] == texts
    assert all(pieces)


async def test_what_names_no_transcript_is_refused() -> None:
    async with EventLog.in_memory() as log:
        store = TranscriptStore(log)
        for place in (("", "t"), ("c", ""), ("c" * 600, "t"), ("c", "t" * 600)):
            with pytest.raises(InvalidEvent):
                await store.append(*place, ["x"])


async def test_an_event_of_old_without_items_is_nothing() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        await log.append(TranscriptAppended(conversation="c", transcript="t", items=[]))
        assert (await TranscriptStore(log).items("c", "t", 3)).items == []


NAMES = st.sampled_from(["a", "b", "é", ""])
CHANGES = st.lists(
    st.tuples(st.booleans(), st.dictionaries(NAMES, st.integers() | st.none(), max_size=3)),
    max_size=12,
)


@settings(deadline=None)
@given(CHANGES)
async def test_values_are_the_dict_that_was_made(
    changes: list[tuple[bool, dict[str, Any]]],
) -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        store, made = ValueStore(log), dict[str, Any]()
        for is_whole, values in changes:
            if is_whole:
                await store.replace("c", "v", values)
                made = dict(values)
            else:
                made |= values
                assert list((await store.update("c", "v", values)).items()) == list(made.items())
            await store.update("c", "w", {"a": "other"})
        assert list((await store.get("c", "v")).items()) == list(made.items())
        assert await store.get("c:v", "") == {}
