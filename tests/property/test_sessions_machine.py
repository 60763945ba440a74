"""Sessions and conversations of two programs at once, against a plain model.

Each program is a bridge with a log and caches of its own. Two of their calls are made together, and
a turnstile decides whose command reaches the server next: whatever comes of it, in what both were
told and in the log, must be what some order of the model's steps allows. A projector runs now and
then, and in between reads fold the log's tail.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from bridge import Bridge
from eventlog.log import EventLog
from projections.builtin import DEFAULT_PROJECTIONS
from projections.projecting.projector import Projector
from projections.reading.live import LiveDocuments
from projections.views.sessions import SESSIONS, STATUSES, Session
from tests.property import sessions_model as model
from tests.property.sessions_calls import (
    OWNERS,
    SPOTS,
    Call,
    calls_in,
    fail,
    plain,
    received,
    resume,
    start,
    touch,
)
from tests.property.sessions_model import Spot, State
from tests.property.turnstile import Turnstile
from tests.strategies import EXAMPLES

PARTITION_COUNT = 3
ORDERS = st.one_of(
    # One call as a whole, after so many commands of the other.
    st.builds(
        lambda who, count: [who] * count + [1 - who] * 12, st.integers(0, 1), st.integers(0, 3)
    ),
    st.lists(st.integers(0, 1), min_size=4, max_size=10),
)
_numbers = itertools.count(1)


class SessionsMachine(RuleBasedStateMachine):
    """Two programs that serve the same users."""

    def __init__(self, server_url: str) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._state = State()
        self._seen: dict[str, Session] = {}
        self._wanted = itertools.count(1)
        self._turnstile = Turnstile(len(OWNERS))
        prefix = f"sessions{next(_numbers)}"
        self._bridges = [self._open(server_url, prefix, owner) for owner in OWNERS]
        self._reader = self._open(server_url, prefix, None)
        for who, bridge in enumerate(self._bridges):
            self._turnstile.guard(who, bridge.log.client)

    def _open(self, server_url: str, prefix: str, owner: str | None) -> Bridge:
        log = EventLog.open(server_url, key_prefix=prefix, partition_count=PARTITION_COUNT)
        return Bridge(self._run(log.__aenter__()), owner=owner, projections=None)

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    # --- what happens ------------------------------------------------------------------------------

    @rule(data=st.data(), who=st.integers(0, 1))
    def one_call(self, data: st.DataObject, who: int) -> None:
        call = data.draw(calls_in(self._state, self._seen))
        told = self._run(call.told_by(self._bridges[who]))
        self._take_over([call], [who], [told])

    @rule(data=st.data(), order=ORDERS)
    def two_calls_at_once(self, data: st.DataObject, order: list[int]) -> None:
        calls = [data.draw(calls_in(self._state, self._seen)) for _ in self._bridges]
        self._together(calls, order)

    @rule(data=st.data(), order=ORDERS)
    def the_same_call_twice_at_once(self, data: st.DataObject, order: list[int]) -> None:
        self._together([data.draw(calls_in(self._state, self._seen))] * 2, order)

    def _together(self, calls: list[Call], order: list[int]) -> None:
        made = [call.told_by(bridge) for call, bridge in zip(calls, self._bridges, strict=True)]
        told = self._run(self._turnstile.run(made, order))
        self._take_over(calls, [0, 1], told)

    def _take_over(self, calls: list[Call], by: list[int], told: list[model.Told]) -> None:
        """Let the model come to the end that the log came to, if it may."""
        steps = [
            call.step(OWNERS[who], each) for call, who, each in zip(calls, by, told, strict=True)
        ]
        allowed = [s for s, said in model.outcomes(self._state, steps) if said == told]
        happened = self._run(self._read_out(allowed))
        assert happened is not None, ([call.name for call in calls], told, self._state, allowed)
        self._state = happened

    async def _read_out(self, allowed: list[State]) -> State | None:
        """Return which of the states is the log's."""
        names = {name: None for state in allowed for name in state.sessions}
        found = await asyncio.gather(*(self._reader.sessions.get(name) for name in names))
        sessions = {each.id: plain(each) for each in found if each is not None}
        mapped = await self._mappings()
        for state in allowed:
            if (state.sessions, state.mapped) == (sessions, mapped):
                return state
        return None

    async def _mappings(self) -> dict[Spot, str]:
        found = await asyncio.gather(
            *(self._reader.conversations.get(s.conversation, user=s.user) for s in SPOTS)
        )
        return {spot: name for spot, name in zip(SPOTS, found, strict=True) if name is not None}

    @rule(data=st.data())
    def somebody_looks_and_acts_on_it_later(self, data: st.DataObject) -> None:
        if self._state.sessions:
            name = data.draw(st.sampled_from([*self._state.sessions]))
            session = self._run(self._reader.sessions.get(name))
            self._seen[f"{name} at {session.version}"] = session

    @rule(data=st.data(), order=ORDERS)
    def two_want_the_same_new_id(self, data: st.DataObject, order: list[int]) -> None:
        name = f"wanted:{next(self._wanted)}"
        chats = st.none() | st.sampled_from([spot.conversation for spot in SPOTS])
        self._together([start(data.draw(chats), name, "active", None) for _ in OWNERS], order)

    @rule(data=st.data(), who=st.integers(0, 1), order=ORDERS)
    def one_falls_asleep_and_gets_a_message(
        self, data: st.DataObject, who: int, order: list[int]
    ) -> None:
        awake = [name for name, each in self._state.sessions.items() if each.status == "active"]
        if awake:
            name = data.draw(st.sampled_from(awake))
            asleep = self._run(self._bridges[who].sessions.transition(name, "dormant"))
            self._state = self._state.moved(name, "dormant")
            self._seen[f"{name} at {asleep.version}"] = asleep
            others = st.sampled_from(
                [received(asleep, None), fail(name), resume(name), touch(name)]
            )
            self._together([received(asleep, 1), data.draw(others)], order)

    @rule(who=st.integers(0, 1))
    def one_shuts_down(self, who: int) -> None:
        [(state, [told])] = model.outcomes(self._state, [model.dormant_all(OWNERS[who])])
        assert (self._run(self._bridges[who].sessions.dormant_all()),) == told
        self._state = state

    @rule()
    def project(self) -> None:
        self._run(Projector(self._reader.log, DEFAULT_PROJECTIONS).run_until_caught_up())

    # --- what must hold ----------------------------------------------------------------------------

    @rule(
        status=st.none() | st.sampled_from(STATUSES),
        project=st.none() | st.just("p"),
        spot=st.none() | st.sampled_from(SPOTS),
        user=st.none() | st.just("1"),
        limit=st.integers(1, 4),
    )
    def lists_have_what_they_should(
        self, status: Any, project: str | None, spot: Spot | None, user: str | None, limit: int
    ) -> None:
        asked = {"status": status, "project": project, "user": user}
        asked["conversation"] = spot and spot.conversation
        wanted = {word: value for word, value in asked.items() if value is not None}
        expected = [
            name
            for name, session in self._state.sessions.items()
            if wanted.items() <= session._asdict().items()
        ]
        listed = self._run(self._listed(limit, wanted))
        assert sorted(session.id for session in listed) == sorted(expected)
        times = [session.last_activity_at // 1000 for session in listed]
        assert times == sorted(times, reverse=True)

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        self._run(self._check())

    async def _check(self) -> None:
        listed = await self._listed(50, {})
        assert {each.id: plain(each) for each in listed} == self._state.sessions
        assert len(listed) == len(self._state.sessions)
        counts = Counter(session.status for session in self._state.sessions.values())
        assert +Counter(await self._reader.sessions.counts()) == counts
        assert await self._mappings() == self._state.mapped

    async def _listed(self, limit: int, wanted: dict[str, Any]) -> list[Session]:
        listed: list[Session] = []
        cursor = None
        while True:
            page = await self._reader.sessions.list(limit=limit, cursor=cursor, **wanted)
            listed += page.items
            cursor = page.cursor
            if cursor is None:
                return listed

    def teardown(self) -> None:
        try:
            self.project()
            self._run(self._check_the_records())
        finally:
            for bridge in (*self._bridges, self._reader):
                self._run(bridge.close())
            self._runner.close()

    async def _check_the_records(self) -> None:
        """What is stored is the same, and each session is one record in one partition."""
        documents = LiveDocuments(self._reader.log, SESSIONS)
        for name, session in self._state.sessions.items():
            records = [each for each in await documents.find(name, "stored") if each.status]
            assert [plain(each) for each in records] == [session]


def test_sessions_and_conversations_keep_to_their_model(server_url: str) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: SessionsMachine(server_url),
        settings=settings(
            max_examples=14 * EXAMPLES,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],  # to shrink the steps would take longer than a test may
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
