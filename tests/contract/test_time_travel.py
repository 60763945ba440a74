"""Time travel on a real server, from a real archive."""

from __future__ import annotations

import random

import pytest

from analytics import DirectoryStorage
from analytics.past import ArchivedPast
from eventlog.errors import HistoryGap, InvalidQuery
from eventlog.log import EventLog
from projections.folding.replay import Moment, state_at
from projections.storing.memory_models import MemoryModels
from projections.views.sessions import SESSIONS, Sessions
from tests.building import archive, entry_count, trim
from tests.projecting import oracle, random_events
from tests.support import eventually


async def test_the_state_at_a_time_or_place_is_the_fold_of_what_was_there(
    log: EventLog, storage: DirectoryStorage, past: ArchivedPast
) -> None:
    events = random_events(random.Random(6), 300, chat_count=9)
    moments: list[tuple[int, int]] = []
    for start in range(0, 300, 60):
        await log.append([*events[start : start + 60]])
        last_ms = max(head.ms for head in await log.heads())
        moments.append((last_ms, start + 60))

        async def has_passed(ms: int = last_ms) -> bool:
            seconds, microseconds = await log.client.time()
            return seconds * 1000 + microseconds // 1000 > ms

        await eventually(has_passed)
    await archive(log, storage)
    await trim(log, kept_count=5)
    for ms, count in moments:
        models = await state_at(log, SESSIONS, Moment(time_us=ms * 1000), past=past)
        assert await sessions_in(log, models) == oracle(events[:count])["sessions"].keys()
        assert await Sessions(log, models).counts() == {
            **dict.fromkeys(await Sessions(log, models).counts(), 0),
            **oracle(events[:count])["statuses"],
        }
    of = [[e for e in events if log.partition_of(e.conversation) == p] for p in range(4)]
    for places in ({0: 5}, {1: 30, 2: 7}, {p: len(each) for p, each in enumerate(of)}):
        models = await state_at(log, SESSIONS, Moment(sequences=places), past=past)
        seen = [event for p, n in places.items() for event in of[p][:n]]
        assert await sessions_in(log, models) == oracle(seen)["sessions"].keys()
    with pytest.raises(InvalidQuery):
        await state_at(log, SESSIONS, Moment(sequences={4: 1}), past=past)
    with pytest.raises(HistoryGap):
        await state_at(log, SESSIONS)
    with pytest.raises(HistoryGap, match="neither in the archive nor in the log"):
        await state_at(log, SESSIONS, Moment(sequences={0: 1}))
    assert await entry_count(log) == 300


async def sessions_in(log: EventLog, models: MemoryModels) -> set[str]:
    page = await Sessions(log, models).list(limit=500)
    return {session.id for session in page.items}
