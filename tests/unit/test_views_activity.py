from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.entry import Entry
from eventlog.errors import InvalidCursor, InvalidQuery
from eventlog.event import Event, UnknownEvent
from eventlog.ids import EntryId
from eventlog.log import EventLog
from eventlog.vocabulary import (
    BridgeEvent,
    MessageReceived,
    MessageSent,
    SessionStarted,
    SessionTransitioned,
    ToolCalled,
)
from projections.storing.memory_models import MemoryModels
from projections.views import activity
from projections.views.activity import (
    ACTIVITY_CONVERSATIONS,
    ACTIVITY_MINUTES,
    Activity,
    ConversationActivity,
    Minute,
    label,
)
from tests.projecting import fold

MINUTE_US = 60_000_000


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (MessageReceived(conversation="c", text=""), "message.received:text"),
        (MessageSent(conversation="c", text="", message_type="action"), "message.sent:action"),
        (BridgeEvent(conversation="c", event_type="irc.system"), "bridge.event:irc.system"),
        (
            SessionTransitioned(conversation="c", session="s", to_status="failed"),
            "session.transitioned:failed",
        ),
        (SessionStarted(conversation="c", session="s"), "session.started"),
        (ToolCalled(conversation="c", call="1", name="find"), "tool.called"),
        (UnknownEvent(conversation="c", type="their.own"), "their.own"),
        (UnknownEvent(conversation="c", type="another"), "another"),
    ],
)
def test_a_label_says_type_and_sort(event: Event, expected: str) -> None:
    assert label(event) == expected
    assert label(event) == expected  # also when it is remembered


def test_sorts_without_end_are_not_remembered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "REMEMBERED_SORTS", 3)
    labels = activity._Labels("bridge.event")
    assert [labels[f"sort {n}"] for n in range(50)][-1] == "bridge.event:sort 49"
    assert len(labels) <= 3


def test_a_minute_counts_what_occurred_in_it() -> None:
    events = [
        MessageReceived(conversation="c", text="a", occurred_at=7 * MINUTE_US),
        MessageReceived(conversation="c", text="b", occurred_at=8 * MINUTE_US - 1),
        MessageReceived(conversation="c", text="c", occurred_at=8 * MINUTE_US),
    ]
    assert fold(ACTIVITY_MINUTES, *events) == Minute(7, {"message.received:text": 2})


async def test_minutes_of_all_partitions_are_one_list() -> None:
    async with EventLog.in_memory(partition_count=4) as log:
        told = Activity(log, MemoryModels(log))
        await log.append(
            [
                MessageReceived(conversation=f"c{chat}", text="", occurred_at=minute * MINUTE_US)
                for minute in range(10)
                for chat in range(minute + 1)
            ]
        )
        page = await told.per_minute(2 * MINUTE_US, 9 * MINUTE_US, limit=4)
        counts = [(each.minute, sum(each.counts.values())) for each in page.items]
        assert counts == [(8, 9), (7, 8), (6, 7), (5, 6)]
        rest = await told.per_minute(2 * MINUTE_US, 9 * MINUTE_US, limit=4, cursor=page.cursor)
        assert [each.minute for each in rest.items] == [4, 3, 2]
        assert rest.cursor is None
        within = await told.per_minute(MINUTE_US + 5, 3 * MINUTE_US + 5)
        assert [each.minute for each in within.items] == [3, 2, 1]
        assert await told.totals() == {"message.received:text": 55}
        assert await told.by_type() == {"message.received": 55}


def test_a_conversation_counts_what_occurred_in_it_and_when() -> None:
    events = [
        MessageReceived(conversation="c", text="a", occurred_at=7000),
        BridgeEvent(conversation="c", event_type="irc.system", occurred_at=5000),
        MessageReceived(conversation="c", text="b", occurred_at=9999),
    ]
    counts = {"message.received:text": 2, "bridge.event:irc.system": 1}
    told = fold(ACTIVITY_CONVERSATIONS, *events)
    assert told == ConversationActivity("c", counts, first_at=5000, last_at=9999)
    assert told.event_count == 3
    assert ACTIVITY_CONVERSATIONS.index("c", told) == (("all", 9),)


@given(
    st.lists(st.tuples(st.integers(-5, 5), st.sampled_from("abcdef")), min_size=1, max_size=12),
    st.integers(0, 12),
)
def test_a_conversation_is_the_same_however_its_events_come(
    told: list[tuple[int, str]], cut: int
) -> None:
    projection = ACTIVITY_CONVERSATIONS
    events = [
        BridgeEvent(conversation="c", event_type=sort, occurred_at=at)
        if sort < "d"
        else UnknownEvent(conversation="c", type=sort, occurred_at=at)
        for at, sort in told
    ]
    entries = [Entry(0, EntryId(1, n), event, b"") for n, event in enumerate(events, 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(activity, "CONVERSATION_LABELS", 3)
        state: ConversationActivity | None = None
        for part in (entries[:cut], entries[cut:]):
            if part:
                state = projection.apply_all(state, "c", part)
        assert state == fold(projection, *events)
    assert state is not None
    assert (state.first_at, state.last_at) == (min(told)[0], max(told)[0])
    assert state.event_count == len(events)
    assert len(state.counts) <= 3 + 2  # `bridge.event` and `other`


async def test_conversations_are_listed_by_their_latest_activity() -> None:
    async with EventLog.in_memory(partition_count=4) as log:
        told = Activity(log, MemoryModels(log))
        times_ms = [5, 1, 9, 3, 7, 2]
        await log.append(
            [
                MessageReceived(conversation=f"c{at}", text="", occurred_at=at * 1000)
                for at in times_ms
            ]
        )
        page = await told.conversations(limit=4)
        rest = await told.conversations(limit=4, cursor=page.cursor)
        assert [each.conversation for each in page.items] == ["c9", "c7", "c5", "c3"]
        assert ([each.conversation for each in rest.items], rest.cursor) == (["c2", "c1"], None)
        await log.append(MessageReceived(conversation="c1", text="", occurred_at=10_000))
        assert (await told.conversations(limit=1)).items == [await told.of_conversation("c1")]
        assert await told.of_conversation("c1") == ConversationActivity(
            "c1", {"message.received:text": 2}, first_at=1000, last_at=10_000
        )
        assert await told.of_conversation("nobody") is None


async def test_bad_questions_are_typed_errors() -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        told = Activity(log, MemoryModels(log))
        with pytest.raises(InvalidQuery):
            await told.conversations(limit=0)
        with pytest.raises(InvalidQuery):
            await told.per_minute(0, MINUTE_US, limit=0)
        for call in (told.conversations(cursor="!"), told.per_minute(0, MINUTE_US, cursor="!")):
            with pytest.raises(InvalidCursor):
                await call
