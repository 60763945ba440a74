"""Idle sessions go dormant by event, and the workers of one process start and stop together."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from bridge.importers.importing import import_paths
from consumers.sweeper import IdleSession, IdleSweeper
from eventlog.clock import SystemClock
from eventlog.errors import EventLogError, LogUnavailable
from eventlog.event import Event
from eventlog.log import EventLog
from eventlog.vocabulary import SessionStarted, SessionTouched, SessionTransitioned
from projections.projecting.projector import Projector
from projections.views.sessions import Sessions
from service.wiring import Workers, new_sweeper
from tests.support import eventually

START_US = 1_700_000_000_000_000
TTL_S = 60
DATA = Path(__file__).parent.parent / "data"

_log_numbers = itertools.count(1)


class SetClock(SystemClock):
    """Stands still until it is moved; only the wall clock, so that waiting still ends."""

    def __init__(self) -> None:
        self.seconds = 0

    def now_us(self) -> int:
        return START_US + self.seconds * 1_000_000


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def log(server_url: str, tmp_path: Path, clock: SetClock) -> AsyncIterator[EventLog]:
    async with EventLog.open(
        server_url,
        clock=clock,
        key_prefix=f"sweeper{next(_log_numbers)}",
        partition_count=4,
        data_dir=str(tmp_path),
        session_ttl_s=TTL_S,
        lease_ttl_ms=400,
    ) as opened:
        yield opened


async def start(log: EventLog, *names: str) -> None:
    for name in names:
        await log.append(
            SessionStarted(conversation=f"c:{name}", session=name, occurred_at=log.clock.now_us())
        )


def touched(log: EventLog, name: str) -> Event:
    return SessionTouched(conversation=f"c:{name}", session=name, occurred_at=log.clock.now_us())


async def statuses(log: EventLog) -> dict[str, str | None]:
    return {session.id: session.status for session in (await Sessions(log).list()).items}


async def changes(log: EventLog, name: str) -> list[SessionTransitioned]:
    entries = await log.read(conversation=f"c:{name}")
    return [entry.event for entry in entries if isinstance(entry.event, SessionTransitioned)]


async def test_a_session_that_was_idle_goes_dormant_once(log, clock):
    await start(log, "idle", "busy")
    clock.seconds = TTL_S - 1
    assert await new_sweeper(log).run_once() == 0
    await log.append(touched(log, "busy"))
    clock.seconds = TTL_S + 1
    assert await new_sweeper(log).run_once() == 1
    assert await statuses(log) == {"idle": "dormant", "busy": "active"}
    [change] = await changes(log, "idle")
    assert (change.from_status, change.to_status, change.reason) == ("active", "dormant", "idle")
    assert change.occurred_at == clock.now_us()
    assert await new_sweeper(log).run_once() == 0


async def test_two_sweepers_at_once_record_one_change(log, clock):
    await start(log, *(f"s{n}" for n in range(20)))
    clock.seconds = TTL_S + 1
    counts = await asyncio.gather(*(new_sweeper(log).run_once() for _ in range(4)))
    assert sum(counts) == 20
    for number in range(20):
        assert len(await changes(log, f"s{number}")) == 1


async def test_a_session_that_woke_up_goes_dormant_again_after_another_while(log, clock):
    await start(log, "s")
    for round_number in (1, 2):
        clock.seconds += TTL_S + 1
        assert await new_sweeper(log).run_once() == 1
        assert len(await changes(log, "s")) == 2 * round_number - 1
        woken = SessionTransitioned(
            conversation="c:s", session="s", to_status="active", occurred_at=clock.now_us()
        )
        await log.append(woken)


async def test_whoever_touches_the_session_in_the_same_moment_wins(log, clock):
    await start(log, "s", "other")
    clock.seconds = TTL_S + 1
    sessions = Sessions(log)

    async def find_and_be_overtaken(before_us: int, limit: int) -> Sequence[IdleSession]:
        idle = await sessions.idle(before_us, limit=limit)
        await log.append(touched(log, "s"))
        return [IdleSession(each.id, each.conversation, each.version) for each in idle]

    assert await IdleSweeper(log, find_and_be_overtaken).run_once() == 1
    assert await statuses(log) == {"s": "active", "other": "dormant"}
    assert await changes(log, "s") == []


async def test_ended_and_pending_sessions_are_left_alone(log, clock):
    await start(log, "done", "s")
    ended = SessionTransitioned(
        conversation="c:done", session="done", to_status="completed", occurred_at=clock.now_us()
    )
    await log.append(ended)
    waiting = SessionStarted(
        conversation="c:new", session="new", status="pending", occurred_at=clock.now_us()
    )
    await log.append(waiting)
    clock.seconds = TTL_S + 1
    assert await new_sweeper(log).run_once() == 1
    assert await statuses(log) == {"done": "completed", "new": "pending", "s": "dormant"}


async def test_imported_sessions_go_dormant_too(log, clock):
    await import_paths(log, [DATA / "agent-claude-code"])
    clock.seconds = 10 * 365 * 86_400
    active = [name for name, status in (await statuses(log)).items() if status == "active"]
    assert active
    assert await new_sweeper(log).run_once() == len(active)
    assert set((await statuses(log)).values()) == {"dormant"}


# --- the workers of one process --------------------------------------------------------------------


async def test_workers_project_and_sweep_until_they_are_stopped(log, clock):
    await start(log, "s")
    clock.seconds = TTL_S + 1
    workers, stop = Workers(log), asyncio.Event()
    running = asyncio.create_task(workers.run(stop))

    async def is_swept_and_projected() -> bool:
        page = await Sessions(log).list(consistency="stored")
        return [session.status for session in page.items] == ["dormant"]

    await eventually(is_swept_and_projected)
    stop.set()
    await running
    assert {status.owner for status in await Projector(log).status()} == {None}
    for group in ("projector", "archiver"):
        assert await log.client.zcard(log.keys.members(group)) == 0


async def test_an_unreachable_server_stops_no_sweeping(log, clock):
    await start(log, "s")
    clock.seconds = TTL_S + 1
    workers, stop = Workers(log), asyncio.Event()
    sweep, calls = workers.sweeper.run_once, itertools.count(1)

    async def fail_first() -> int:
        if next(calls) == 1:
            raise LogUnavailable("the server is away.")
        return await sweep()

    workers.sweeper.run_once = fail_first
    running = asyncio.create_task(workers.run(stop))
    await eventually(lambda: next(calls) > 1)
    assert not running.done()
    stop.set()
    await running


async def test_a_worker_that_cannot_go_on_stops_all_and_says_why(log):
    workers, stop = Workers(log), asyncio.Event()

    async def give_up(_: asyncio.Event) -> None:
        raise EventLogError("no way on.")

    workers.archiver.run = give_up
    with pytest.raises(EventLogError, match="no way on"):
        await workers.run(stop)
    assert stop.is_set()
    assert await log.client.zcard(log.keys.members("projector")) == 0
