"""Where the in-memory store depends on the clock, which a real server does not let us set."""

from __future__ import annotations

from eventlog import EventLog, MessageReceived
from eventlog.clock import SystemClock


class SetClock(SystemClock):
    """Says what it is told."""

    def __init__(self) -> None:
        self.seconds = 600

    def now_us(self) -> int:
        return self.seconds * 1_000_000


def message(event_id: str) -> MessageReceived:
    return MessageReceived(conversation="c", text="", id=event_id)


async def test_ids_never_go_back_with_the_clock():
    clock = SetClock()
    async with EventLog.in_memory(partition_count=1, clock=clock) as log:
        found = []
        for clock.seconds in (500, 300, 700):
            found.append((await log.append(message(str(clock.seconds)))).id)
    assert found == [(500_000, 1), (500_000, 2), (700_000, 3)]


async def test_an_id_is_forgotten_after_two_windows_at_the_latest():
    clock = SetClock()
    async with EventLog.in_memory(partition_count=1, clock=clock, dedup_window_s=60) as log:
        assert not (await log.append(message("a"))).duplicate
        for clock.seconds, is_duplicate in ((660, True), (719, True), (720, False), (721, True)):
            assert (await log.append(message("a"))).duplicate is is_duplicate
        assert (await log.heads())[0].n == 2
