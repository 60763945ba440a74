from __future__ import annotations

import pytest

from eventlog.event import Event, UnknownEvent
from eventlog.log import EventLog
from eventlog.vocabulary import (
    BridgeEvent,
    MessageReceived,
    MessageSent,
    SessionStarted,
    SessionTransitioned,
    ToolCalled,
)
from projections.memory_models import MemoryModels
from projections.views import activity
from projections.views.activity import ACTIVITY_MINUTES, Activity, Minute, label
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
