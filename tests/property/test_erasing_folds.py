from __future__ import annotations

import random

import pytest
from hypothesis import given

from eventlog import Codec, Event, EventErased, EventLog, UnknownEvent
from eventlog.erasure import redacted
from tests import strategies
from tests.projecting import oracle, random_events, read_out

CODEC = Codec()


@given(strategies.events)
def test_what_is_left_reads_back_and_erasing_it_changes_nothing(event: Event):
    erased = redacted(event)
    assert CODEC.decode(CODEC.encode(erased)) == erased
    assert redacted(erased) == erased
    assert type(erased) is (EventErased if isinstance(event, UnknownEvent) else type(event))
    assert erased.is_erased
    assert not erased.extra
    for name in ("id", "occurred_at", "conversation", "session", "causation_id"):
        assert getattr(erased, name) == getattr(event, name)
    assert erased.entity == event.entity or isinstance(event, UnknownEvent)


@pytest.mark.parametrize("seed", range(3))
async def test_read_models_say_the_same_of_what_is_left_but_for_the_content(seed):
    rnd = random.Random(seed)
    events = random_events(rnd, 300)
    some = [redacted(event) if rnd.random() < 0.5 else event for event in events]
    async with EventLog.in_memory() as log:
        await log.append(some)
        assert await read_out(log, [f"chat:{n}" for n in range(7)]) == oracle(events)
