"""A correlation id for all that is appended within a block."""

from __future__ import annotations

import asyncio

from eventlog.correlation import correlated
from tests.logs import message


async def test_events_get_the_id_of_their_block_unless_they_have_one(any_log):
    async def work(name: str) -> None:
        with correlated(name):
            await any_log.append(message("c", name))
            await any_log.append([message("c", name), message("c", "own", correlation_id="own")])

    await asyncio.gather(work("a"), work("b"))
    await any_log.append(message("c", "outside"))
    found = [(e.event.text, e.event.correlation_id) for e in await any_log.read(conversation="c")]
    expected = [("a", "a")] * 2 + [("b", "b")] * 2 + [("own", "own")] * 2 + [("outside", None)]
    assert sorted(found, key=str) == sorted(expected, key=str)
