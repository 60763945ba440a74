"""What went wrong with agent sessions kept as rows and indexes, and cannot go wrong here."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Coroutine
from typing import Any, NamedTuple, get_args

import pytest

from bridge import Bridge
from eventlog import EventLog, SessionStarted, SessionTransitioned
from eventlog.errors import (
    EventLogError,
    IllegalTransition,
    SessionExists,
    VersionConflict,
)
from eventlog.session import SessionStatus
from projections.builtin import DEFAULT_PROJECTIONS
from projections.projecting.projector import Projector
from projections.reading.live import LiveDocuments
from projections.views.sessions import SESSIONS, Session
from tests.bridging import another_program, elsewhere, records_of
from tests.property.turnstile import Turnstile

STATUSES: tuple[SessionStatus, ...] = get_args(SessionStatus)
ORDERS = [(who,) * count + (1 - who,) * 20 for who in (0, 1) for count in range(5)]
"""One call as a whole, after so many commands of the other."""


class Programs(NamedTuple):
    """Two programs, and the turnstile between them and the server."""

    one: Bridge
    two: Bridge
    turnstile: Turnstile

    async def both(
        self,
        by_one: Coroutine[Any, Any, Any],
        by_two: Coroutine[Any, Any, Any],
        order: tuple[int, ...],
    ) -> list[Any]:
        """Return what the calls of each program came to, errors included."""

        async def outcome(call: Coroutine[Any, Any, Any]) -> Any:
            try:
                return await call
            except EventLogError as error:
                return error

        return await self.turnstile.run([outcome(by_one), outcome(by_two)], order)


@pytest.fixture
async def programs(log: EventLog) -> AsyncIterator[Programs]:
    turnstile = Turnstile(2)
    async with another_program(log, "one") as one, another_program(log, "two") as two:
        turnstile.guard(0, one.log.client)
        turnstile.guard(1, two.log.client)
        yield Programs(one, two, turnstile)


async def existing(bridge: Bridge, session: str) -> Session:
    found = await bridge.sessions.get(session)
    assert found is not None
    return found


async def test_a_status_change_makes_no_second_record(log: EventLog, programs: Programs) -> None:
    one, two, _ = programs
    made = [await one.sessions.resolve("telegram", n) for n in range(4)]
    made += [await one.sessions.start(status="pending") for _ in range(2)]
    for n in range(4):  # in another partition than that of its id
        made.append(await two.sessions.start(elsewhere(log, f"job-{n}"), session_id=f"job-{n}"))
    for session, to in itertools.product(made, ["active", "dormant", "active", "failed"]):
        changes = [each.sessions.transition(session.id, to) for each in (one, two)]
        assert {each.status for each in await asyncio.gather(*changes)} == {to}
        assert len(await records_of(log, session.id)) == 1
        listed = [await one.sessions.list(status=status, limit=99) for status in STATUSES]
        ids = [each.id for page in listed for each in page.items]
        assert sorted(ids) == sorted(each.id for each in made)
        assert sum((await one.sessions.counts()).values()) == len(made)


@pytest.mark.parametrize("order", ORDERS)
async def test_no_ghost_of_what_has_ended_runs_in_an_index(
    log: EventLog, programs: Programs, order: tuple[int, ...]
) -> None:
    one, two, _ = programs
    session = await one.sessions.start("telegram:1", project="p", user="u", owner="one")
    # A watchdog's sign of life and an end, whichever comes first.
    await programs.both(
        one.sessions.touch(session.id), two.sessions.complete(session.id), order=order
    )
    await two.received(session, "a late message", message_id=1)
    await Projector(log, DEFAULT_PROJECTIONS).run_until_caught_up()
    words = ({"owner": "one"}, {"project": "p"}, {"user": "u"}, {"conversation": "telegram:1"}, {})
    for by in words:
        assert (await two.sessions.list(status="active", **by)).items == []  # type: ignore[arg-type]
    assert await two.sessions.dormant_all("one") == 0
    stored = LiveDocuments(log, SESSIONS)
    for index in ("status:active", "idle", "serving:one"):
        assert (await stored.page(index, 9, consistency="stored")).items == []
    assert (await stored.counts("status", "stored")) == {"completed": 1}


@pytest.mark.parametrize("order", ORDERS)
async def test_finalizing_never_overwrites_a_re_enqueue(
    programs: Programs, order: tuple[int, ...]
) -> None:
    one, two, _ = programs
    name = (await one.sessions.start(mode="job")).id
    seen = await one.sessions.transition(name, "dormant")
    finalized, enqueued = await programs.both(
        one.sessions.complete(name, expected=seen.version),
        two.sessions.resume(name),
        order=order,
    )
    now = await existing(two, name)
    if isinstance(finalized, VersionConflict):
        assert (enqueued.status, enqueued.owner) == ("active", "two")
        assert (now.status, now.owner) == ("active", "two")
    else:
        assert finalized.status == now.status == "completed"
        assert isinstance(enqueued, IllegalTransition)
    # Whoever looked before the re-enqueue is told so for good.
    with pytest.raises(VersionConflict):
        await one.sessions.complete(name, expected=seen.version)


async def test_finalizing_meets_both_fates(programs: Programs) -> None:
    """What the test above allows does happen, both of it."""
    fates = set()
    for order in ([0] * 8, [1] * 8):
        one, two, _ = programs
        name = (await one.sessions.start()).id
        seen = await one.sessions.transition(name, "dormant")
        finalized, _ = await programs.both(
            one.sessions.complete(name, expected=seen.version),
            two.sessions.resume(name),
            order=tuple(order),
        )
        fates.add(type(finalized))
    assert fates == {Session, VersionConflict}


@pytest.mark.parametrize("end", ["completed", "failed"])
async def test_what_has_ended_never_goes_back(
    log: EventLog, programs: Programs, end: SessionStatus
) -> None:
    one, two, _ = programs
    user = elsewhere(log, "mine").removeprefix("telegram:")
    session = await one.sessions.resolve("telegram", user, session_id="mine")
    asleep = await one.sessions.transition("mine", "dormant")
    ended = await two.sessions.transition("mine", end)
    for status in set(STATUSES) - {end}:
        with pytest.raises(IllegalTransition):
            await one.sessions.transition("mine", status)
    with pytest.raises(IllegalTransition):
        await one.sessions.resume("mine")
    with pytest.raises(IllegalTransition):
        await one.sessions.touch("mine")
    with pytest.raises(SessionExists):
        await one.sessions.start(session.conversation, session_id="mine", status="pending")
    with pytest.raises(SessionExists):
        await one.sessions.start(session_id="mine", status="pending")
    assert await one.sessions.dormant_all() == 0
    await one.received(asleep, "to whom it may concern")
    # Somebody who writes events without asking.
    where: dict[str, Any] = {"conversation": session.conversation, "session": "mine"}
    await log.append([SessionStarted(**where, status=status) for status in STATUSES])
    await log.append([SessionTransitioned(**where, to_status=status) for status in STATUSES])
    now = await existing(two, "mine")
    assert (now.status, now.ended_at) == (end, ended.ended_at)
    assert (await one.sessions.resolve("telegram", user)).id != "mine"


@pytest.mark.parametrize("order", ORDERS)
async def test_an_end_and_a_message_that_wakes_end_in_the_end(
    programs: Programs, order: tuple[int, ...]
) -> None:
    one, two, _ = programs
    session = await one.sessions.resolve("telegram", 7)
    asleep = await one.sessions.transition(session.id, "dormant")
    await programs.both(
        one.received(asleep, "still there?"), two.sessions.complete(session.id), order=order
    )
    now = await existing(two, session.id)
    assert (now.status, now.message_count) == ("completed", 1)
    assert (await one.sessions.list(status="active")).items == []


@pytest.mark.parametrize("turn", range(12))
async def test_shutting_down_leaves_what_another_took_over_meanwhile(
    programs: Programs, turn: int
) -> None:
    one, two, _ = programs
    name = (await one.sessions.start()).id

    await programs.both(
        one.sessions.dormant_all(), two.sessions.resume(name), order=(0,) * turn + (1,) * 20
    )
    now = await existing(two, name)
    assert (now.status, now.owner) == ("active", "two")


async def test_who_revives_what_a_crash_left_active_keeps_it(programs: Programs) -> None:
    one, two, _ = programs
    left = [(await one.sessions.start()).id for _ in range(3)]
    revived = (await two.sessions.list(status="active", owner="one")).items
    assert sorted(each.id for each in revived) == sorted(left)
    for each in revived:
        assert (await two.sessions.resume(each.id)).owner == "two"
    # Program one comes back, and is shut down.
    assert await one.sessions.dormant_all() == 0
    assert (await two.sessions.counts())["active"] == 3
