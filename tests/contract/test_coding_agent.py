"""Following a coding agent over HTTP: each thing it says or does once, through whatever happens."""

from __future__ import annotations

import asyncio
import copy
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from bridge.coding_agent import AgentClient, Patience, Poller
from bridge.coding_agent.following import AgentHandlers
from bridge.coding_agent.reading import judge_session
from bridge.coding_agent.shapes import Snapshot
from bridge.erasing import Eraser
from bridge.sessions import SessionCalls
from bridge.tickets import Tickets
from consumers import Retry, Worker
from consumers.senders.http_client import HttpLimits
from eventlog import EventLog, MessageReceived, MessageSent, ToolCalled, ToolReturned
from eventlog.clock import SystemClock
from eventlog.erasure_scope import Whose
from eventlog.errors import ConfigurationError, InvalidEvent
from eventlog.tasks import end
from projections.projecting.projector import Projector
from projections.views.dead_letters import DeadLetters
from projections.views.sessions import Session
from tests import erasing
from tests.coding_agent import QUESTION, SESSION, CodingAgent, frames, recording
from tests.platforms import Answer, Behaviour, Cut, Garbage, Hold
from tests.support import eventually
from tests.working import at_work

QUICK = Patience(
    interval_ms=1,
    settle_s=0.05,
    silence_s=5.0,
    retry=Retry(5, first_delay_s=0.005, longest_delay_s=0.05),
)
CALM = QUICK._replace(settle_s=10.0)
"""For who counts prompts: one that does not show in time is given again, on a busy machine too."""

SAID = [
    "I run the test and look at the code it calls.",
    "`total` cuts each line instead of rounding the sum 🧮. I change that.",
    "The test failed because `total` cut every line to cents before adding up."
    " It now rounds the sum once, and the test passes.",
    "",  # a file, by its address
]
GROWING = 10
"""Frames up to and with the one in which half of the first text is there."""
RUNNING = 12
"""The frame in which the first tool runs."""

TOOLS = ["bash", "read", "grep", "edit", "bash"]


class Followed:
    """A session of a ticket whose agent is at hand."""

    def __init__(self, log: EventLog, agent: CodingAgent) -> None:
        self.log = log
        self.agent = agent
        self.sessions = SessionCalls(log)
        self.tickets = Tickets(log, self.sessions)
        self.id = ""

    async def start(self, text: str = QUESTION) -> Followed:
        self.id = await self.tickets.start("T-1", text)
        return self

    async def session(self) -> Session:
        found = await self.sessions.get(self.id)
        assert found is not None
        return found

    async def poller(self, patience: Patience = QUICK, **arguments: Any) -> Poller:
        client = self.agent.client(**arguments)
        return Poller(self.log, client, await self.session(), SESSION, patience=patience)

    async def in_background(self, patience: Patience = QUICK) -> asyncio.Task[str]:
        """Follow, until `end` or the end of the test's server."""
        poller = await self.poller(patience)
        task: asyncio.Task[str] = asyncio.create_task(poller.run())
        self.agent.at_end.append(task)
        return task

    async def entries(self, *types: type) -> list[Any]:
        found = await self.log.read(conversation="ticket:T-1", limit=10_000)
        return [each.event for each in found if isinstance(each.event, types)]

    async def said(self) -> list[str]:
        return [event.text for event in await self.entries(MessageSent)]

    async def assert_whole(self) -> None:
        """Check that all of the recording is there, each thing once and in order."""
        assert await self.said() == SAID
        assert [event.text for event in await self.entries(MessageReceived)] == [QUESTION]
        called, returned = await self.entries(ToolCalled), await self.entries(ToolReturned)
        assert [event.name for event in called] == TOOLS
        assert Counter(e.call for e in called) == Counter(e.call for e in returned)
        assert max(Counter(event.call for event in called).values()) == 1


async def follow(log: EventLog, agent: CodingAgent, **arguments: Any) -> tuple[Followed, str]:
    """Start a session, follow it to its end, and return how it ended."""
    followed = await Followed(log, agent).start()
    poller = await followed.poller(**arguments)
    return followed, await asyncio.wait_for(poller.run(), 10)


class Hurried(SystemClock):
    """The machine's clock, but nobody sleeps for long."""

    def __init__(self) -> None:
        self.slept_s: list[float] = []

    async def sleep(self, duration_s: float) -> None:
        self.slept_s.append(duration_s)
        await asyncio.sleep(0.001)


class TestFollowing:
    async def test_what_the_agent_says_and_does_is_in_the_log_once(self, any_log: EventLog):
        async with CodingAgent() as agent:
            followed, outcome = await follow(any_log, agent, patience=CALM)
        assert outcome == "completed"
        await followed.assert_whole()
        assert (await followed.session()).status == "completed"
        assert [each["parts"][0]["text"] for each in agent.prompts] == [QUESTION]

    async def test_a_tool_says_how_long_it_took_and_whether_it_failed(self, log: EventLog):
        async with CodingAgent() as agent:
            followed, _ = await follow(log, agent)
        bash, read = (await followed.entries(ToolCalled))[:2]
        assert bash.arguments == (
            '{"command":"pytest tests/test_totals.py -x","description":"Run the failing test"}'
        )
        results = {event.call: event for event in await followed.entries(ToolReturned)}
        assert (results[bash.call].duration_ms, results[bash.call].is_error) == (3720, False)
        assert (results[read.call].duration_ms, results[read.call].is_error) == (40, True)
        assert results[read.call].result == "File not found: /srv/shop/total.py"

    async def test_running_tools_are_seen_while_they_run(self, log: EventLog):
        async with CodingAgent([frames(recording())[RUNNING]]) as agent:
            followed = await Followed(log, agent).start()
            following = await followed.in_background()

            async def tools() -> Any:
                state = await followed.tickets.state(followed.id)
                return state and state.running_tools

            (tool,) = await eventually(tools)
            assert tool.name == "bash"
            await end(following)

    async def test_a_growing_text_is_recorded_when_it_is_whole(self, log: EventLog):
        growing = frames(recording())[:GROWING]
        async with CodingAgent([*growing]) as agent:
            followed = await Followed(log, agent).start()
            following = await followed.in_background()
            await eventually(lambda: agent.look_count > len(growing) + 5)
            half = growing[-1][-1]["parts"][-1]
            assert half["type"] == "text"
            assert SAID[0].startswith(half["text"])
            assert await followed.said() == []
            agent.frames = [*frames(recording())[len(growing) :]]
            assert await asyncio.wait_for(following, 10) == "completed"
        await followed.assert_whole()

    async def test_what_is_said_meanwhile_goes_to_the_agent(self, log: EventLog):
        beginning = frames(recording())[12]
        async with CodingAgent([beginning]) as agent:
            followed = await Followed(log, agent).start()
            following = await followed.in_background(CALM)
            await eventually(lambda: agent.look_count > 3)
            sent = await followed.tickets.send(followed.id, "And the docs?")
            await eventually(lambda: len(agent.prompts) == 2)
            prompt = agent.prompts[1]["parts"][0]
            assert prompt["text"] == "And the docs?"
            assert prompt["metadata"]["eventlog_message"]
            await end(following)
            assert not sent.duplicate

    async def test_what_is_said_at_the_very_end_keeps_the_session_open(self, log: EventLog):
        async with CodingAgent() as agent:
            followed = await Followed(log, agent).start()
            poller = await followed.poller(CALM)
            client = poller._agent

            async def messages(session: str, *, last: int | None = None) -> Snapshot:
                snapshot = await AgentClient.messages(client, session, last=last)
                verdict = judge_session(snapshot.messages)
                if verdict.is_sure and verdict.status == "completed":
                    await followed.tickets.send(followed.id, "One more thing.", message_id=1)
                return snapshot

            client.messages = messages  # type: ignore[method-assign]
            agent.at_end.append(asyncio.create_task(poller.run()))
            await eventually(lambda: len(agent.prompts) == 2)
            assert agent.prompts[1]["parts"][0]["text"] == "One more thing."
            assert (await followed.session()).status == "active"

    async def test_who_does_not_hold_the_lock_prompts_nobody(self, log: EventLog):
        async with CodingAgent() as agent:
            followed = await Followed(log, agent).start()
            assert await (await followed.poller()).poll() is None
            assert agent.prompts == []

    async def test_what_somebody_asks_the_agent_elsewhere_is_recorded(self, log: EventLog):
        elsewhere = recording()
        question = {**elsewhere[0], "info": {**elsewhere[0]["info"], "id": "msg_0"}}
        question["parts"] = [{"id": "prt_0", "type": "text", "text": "Who are you?"}]
        async with CodingAgent([[question, *elsewhere]]) as agent:
            followed, _ = await follow(log, agent, patience=CALM)
        asked = [event.text for event in await followed.entries(MessageReceived)]
        assert asked == [QUESTION, "Who are you?"]
        assert len(agent.prompts) == 1, "what it has already is not handed to it"

    async def test_a_server_that_answers_prompts_at_their_end_is_not_waited_for(
        self, log: EventLog
    ):
        async with CodingAgent() as agent:
            agent.is_old = True
            followed, outcome = await follow(log, agent, patience=CALM)
        assert outcome == "completed"
        assert len(agent.prompts) == 1
        await followed.assert_whole()

    async def test_a_long_session_is_asked_for_its_last_messages_only(self, log: EventLog):
        async with CodingAgent() as agent:
            await follow(log, agent)
        first, *later = agent.limits
        assert first == ""
        assert later.count("limit=20") > 30

    async def test_messages_beyond_the_last_ones_are_asked_for(self, log: EventLog):
        # Between two looks there were more messages than are asked for.
        first, last = recording()[:1], recording()[2:]
        async with CodingAgent([first, first, last, recording()]) as agent:
            followed, outcome = await follow(log, agent)
        assert outcome == "completed"
        assert agent.limits[-2:] == ["limit=20", ""]
        await followed.assert_whole()

    async def test_a_session_in_no_ticket_is_refused(self, log: EventLog):
        session = await SessionCalls(log).start("telegram:1")
        async with CodingAgent() as agent:
            with pytest.raises(InvalidEvent, match="no ticket"):
                Poller(log, agent.client(), session, SESSION)

    def test_a_user_in_the_url_beside_a_password_is_refused(self):
        with pytest.raises(ConfigurationError, match="URL names a user"):
            AgentClient("http://somebody@127.0.0.1:1", password="s3cret")

    async def test_it_looks_at_its_interval_by_the_log_s_clock(self, server_url: str):
        clock = Hurried()
        async with (
            EventLog.open(server_url, key_prefix="paced", partition_count=2, clock=clock) as log,
            CodingAgent() as agent,
        ):
            _, outcome = await follow(log, agent, patience=QUICK._replace(interval_ms=700))
        assert outcome == "completed"
        looks = 1 + len(frames(recording()))
        assert clock.slept_s.count(0.7) == looks - 1, "one rest between two looks"


FAULTS: dict[str, Behaviour] = {
    "500": Answer(500, "oops"),
    "404": Answer(404, {"name": "NotFoundError"}),
    "reset": Cut(Answer(200, recording())),
    "half a body": Cut(Answer(200, recording()), after_bytes=700),
    "no JSON": Answer(200, b"<html>starting</html>"),
    "no list": Answer(200, {"messages": []}),
    "no HTTP": Garbage(),
    "forgotten": Answer(200, []),
    "too much": Answer(200, b"[" + b" " * (1 << 20) + b"]"),
}


class TestFaults:
    @pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
    async def test_one_in_the_middle_costs_nothing(self, log: EventLog, fault: Behaviour):
        shown: list[Any] = frames(recording())
        for place in (30, 14, 2):
            shown[place:place] = [fault, fault]
        async with CodingAgent(shown) as agent:
            followed, outcome = await follow(log, agent)
        assert outcome == "completed"
        await followed.assert_whole()

    async def test_one_that_stays_fails_the_session_and_says_why(
        self, log: EventLog, caplog: pytest.LogCaptureFixture
    ):
        async with CodingAgent([*frames(recording())[:8], Answer(503, "gone fishing")]) as agent:
            followed, outcome = await follow(log, agent)
        assert outcome == "failed"
        state = await followed.tickets.state(followed.id)
        assert state is not None
        assert state.status == "error"
        assert state.error is not None
        assert state.error.startswith("server_error: ")
        assert "gone fishing" in state.error
        assert caplog.text.count("agent_request_failed") == QUICK.retry.attempts

    async def test_one_that_has_forgotten_everything_has_failed(self, log: EventLog):
        async with CodingAgent([*frames(recording())[:9], []]) as agent:
            followed, outcome = await follow(log, agent)
        assert outcome == "failed"
        state = await followed.tickets.state(followed.id)
        assert state is not None
        assert state.error is not None
        assert state.error.startswith("forgotten: ")

    async def test_one_that_was_restarted_is_gone_on_with(self, log: EventLog):
        async with CodingAgent([*frames(recording())[:9]]) as agent:
            followed = await Followed(log, agent).start()
            patience = QUICK._replace(retry=Retry(50, first_delay_s=0.01, longest_delay_s=0.05))
            following = await followed.in_background(patience)
            await eventually(lambda: agent.look_count > 10)
            async with agent.platform.refusing():
                looks = agent.look_count
            agent.frames = [Answer(404), [], *frames(recording())[9:]]
            assert await asyncio.wait_for(following, 10) == "completed"
            assert agent.look_count > looks
        await followed.assert_whole()

    async def test_one_that_never_answers_runs_into_its_time_out(self, log: EventLog):
        async with CodingAgent([Hold(Answer(200, []))]) as agent:
            agent._waits = False
            followed, outcome = await follow(log, agent, limits=HttpLimits(0.5, 0.05, 1 << 20))
            agent.platform.release()
        assert outcome == "failed"
        state = await followed.tickets.state(followed.id)
        assert state is not None
        assert state.error is not None
        assert state.error.startswith("timeout: ")

    async def test_an_agent_that_falls_silent_has_failed_and_is_stopped(self, log: EventLog):
        async with CodingAgent([frames(recording())[9]]) as agent:
            patience = QUICK._replace(silence_s=0.1)
            followed, outcome = await follow(log, agent, patience=patience)
        assert outcome == "failed"
        assert agent.aborted_count == 1
        state = await followed.tickets.state(followed.id)
        assert state is not None
        assert (state.error, state.running_tools) == ("silent for 0.1 s", [])

    async def test_an_agent_s_own_error_is_the_session_s(self, log: EventLog):
        broken = recording()[:2]
        broken[1]["info"]["error"] = {
            "name": "ProviderAuthError",
            "data": {"providerID": "p", "message": "the key has expired"},
        }
        async with CodingAgent([broken]) as agent:
            followed, outcome = await follow(log, agent)
        assert outcome == "failed"
        state = await followed.tickets.state(followed.id)
        assert state is not None
        assert state.error == "ProviderAuthError: the key has expired"


class TestPollers:
    async def test_one_that_is_killed_anywhere_is_gone_on_from_by_the_next(self, log: EventLog):
        async with CodingAgent() as agent:
            followed = await Followed(log, agent).start()
            for look in range(3, 40, 4):
                following = await followed.in_background()
                await eventually(lambda n=look, f=following: agent.look_count >= n or f.done())
                await end(following)
            poller = await followed.poller()
            await asyncio.wait_for(poller.run(), 10)
        assert (await followed.session()).status == "completed"
        await followed.assert_whole()

    async def test_one_that_comes_after_days_records_nothing_twice(self, server_url: str):
        # The server has forgotten the ids, and the session's feed its beginning.
        async with (
            EventLog.open(
                server_url, key_prefix="late", partition_count=2, chat_history_limit=5
            ) as log,
            CodingAgent([frames(recording())[-10]]) as agent,
        ):
            followed = await Followed(log, agent).start()
            following = await followed.in_background()
            await eventually(lambda: agent.look_count > 3)
            await end(following)
            await Projector(log).run_until_caught_up()
            for partition in range(log.partition_count):
                await log.client.delete(*log.keys.dedup(partition))
            agent.frames = [recording()]
            assert await asyncio.wait_for((await followed.poller()).run(), 10) == "completed"
            await followed.assert_whole()

    async def test_two_at_once_record_nothing_twice(self, log: EventLog):
        async with CodingAgent() as agent:
            followed = await Followed(log, agent).start()
            pollers = [await followed.poller(CALM) for _ in range(3)]
            outcomes = await asyncio.wait_for(asyncio.gather(*(p.run() for p in pollers)), 20)
        assert sorted(outcomes) == ["completed", "ended", "ended"]
        await followed.assert_whole()
        assert len(agent.prompts) == 1

    async def test_one_that_lost_its_lock_unknowingly_records_nothing_twice(self, log: EventLog):
        async with CodingAgent() as agent:
            followed = await Followed(log, agent).start()
            pollers = [await followed.poller() for _ in range(2)]
            for poller in pollers:
                poller._lock = _Unlocked()  # type: ignore[assignment]
            await asyncio.wait_for(asyncio.gather(*(p.run() for p in pollers)), 20)
        assert (await followed.session()).status == "completed"
        said = await followed.said()
        assert sorted(said) == sorted(SAID)
        assert len(await followed.entries(ToolCalled)) == len(TOOLS)

    async def test_one_that_lost_its_lock_unknowingly_is_fenced(
        self, log: EventLog, caplog: pytest.LogCaptureFixture
    ):
        async with CodingAgent([frames(recording())[RUNNING]]) as agent:
            followed = await Followed(log, agent).start()
            poller = await followed.poller()
            following = asyncio.create_task(poller.run())
            await eventually(lambda: agent.look_count > 3)
            fence = poller._lock.fence
            assert fence is not None
            poller._lock.is_ours = _yes  # type: ignore[method-assign]
            # As if another one had it meanwhile.
            poller._lock._held_generation -= 1
            agent.frames = [recording()]
            await eventually(lambda: "session_lock_lost" in caplog.text)
            assert await asyncio.wait_for(following, 10) == "completed"
        await followed.assert_whole()

    async def test_one_that_lost_its_lock_takes_it_again(
        self, log: EventLog, caplog: pytest.LogCaptureFixture
    ):
        async with CodingAgent([frames(recording())[RUNNING]]) as agent:
            followed = await Followed(log, agent).start()
            poller = await followed.poller()
            following = asyncio.create_task(poller.run())
            await eventually(lambda: agent.look_count > 3)
            poller._lock._is_lost = True  # as after a pause longer than the lease
            await eventually(lambda: "session_lock_lost" in caplog.text)
            agent.frames = [recording()]
            assert await asyncio.wait_for(following, 10) == "completed"
        assert caplog.text.count("session_lock_lost") == 1
        await followed.assert_whole()

    async def test_a_session_ended_by_somebody_else_stops_the_agent(self, log: EventLog):
        async with CodingAgent([frames(recording())[9]]) as agent:
            followed = await Followed(log, agent).start()
            following = await followed.in_background()
            await eventually(lambda: agent.look_count > 3)
            await followed.tickets.fail(followed.id, "changed my mind")
            assert await asyncio.wait_for(following, 10) == "ended"
        assert agent.aborted_count == 1
        state = await followed.tickets.state(followed.id)
        assert state is not None
        assert (state.status, state.error) == ("error", "changed my mind")


async def _yes() -> bool:
    return True


class _Unlocked:
    """What a poller takes for its lock, and is none."""

    fence = None

    def hold(self) -> Any:
        return nullcontext()

    async def is_ours(self) -> bool:
        return True


class TestWorker:
    async def test_a_queued_job_is_taken_to_the_agent_and_followed(self, log: EventLog):
        async with CodingAgent() as agent:
            tickets = Tickets(log, SessionCalls(log))
            session = await tickets.start("T-1", QUESTION, agent="coder")
            other = await tickets.start("T-2", "not for us", agent="painter")
            worker = Worker(log, "coder", AgentHandlers("coder", agent.client(), patience=QUICK))
            async with at_work(worker):

                async def is_done() -> bool:
                    state = await tickets.state(session)
                    return state is not None and state.status == "completed"

                await eventually(is_done)
        assert agent.created_count == 1
        state = await tickets.state(other)
        assert state is not None
        assert state.status == "pending"

    async def test_what_was_erased_is_asked_of_nobody(self, server_url: str, tmp_path: Path):
        async with erasing.opened(server_url, tmp_path) as log, CodingAgent() as agent:
            tickets = Tickets(log, SessionCalls(log))
            asked = await tickets.start("T-1", QUESTION)
            await Eraser(log).erase(Whose("chat", "ticket:T-1"))
            await Worker(log, "coder", AgentHandlers("coder", agent.client())).run_once()
            state = await tickets.state(asked)
        assert (agent.created_count, agent.prompts) == (0, [])
        assert state is not None
        assert (state.status, state.error) == ("error", "what was asked for was erased")

    async def test_what_was_said_and_erased_since_is_not_handed_on(
        self, server_url: str, tmp_path: Path
    ):
        async with (
            erasing.opened(server_url, tmp_path) as log,
            CodingAgent([frames(recording())[RUNNING]]) as agent,
        ):
            followed = await Followed(log, agent).start()
            following = await followed.in_background()
            await eventually(lambda: agent.look_count > 3)
            await end(following)
            await followed.tickets.send(followed.id, "and mind the secret")
            await Eraser(log).erase(Whose("chat", "ticket:T-1"))
            prompt_count, look_count = len(agent.prompts), agent.look_count
            agent.frames = [recording()]
            following = await followed.in_background()
            assert await asyncio.wait_for(following, 10) == "completed"
            assert agent.look_count > look_count
        assert len(agent.prompts) == prompt_count

    async def test_with_a_job_that_is_given_up_its_session_has_failed(self, log: EventLog):
        async with CodingAgent() as agent:
            agent.refusals = [Answer(503, "full")] * 9
            tickets = Tickets(log, SessionCalls(log))
            session = await tickets.start("T-1", QUESTION)
            handlers = AgentHandlers("coder", agent.client(), retry=Retry(2, first_delay_s=0.01))
            worker = Worker(log, "coder", handlers)
            async with at_work(worker):

                async def has_failed() -> bool:
                    state = await tickets.state(session)
                    return state is not None and state.status == "error"

                await eventually(has_failed)
        state = await tickets.state(session)
        assert state is not None
        assert state.error is not None
        assert state.error.startswith("server_error: ")
        (letter,) = (await DeadLetters(log).list()).items
        assert letter.group == "coder"

    async def test_a_session_too_long_for_one_step_is_recorded_in_several(self, log: EventLog):
        question, step, _, end_of_it = recording()
        steps = [copy.deepcopy(step) for _ in range(200)]
        for number, each in enumerate(steps):
            each["info"]["id"] = f"msg_{number}"
            for part in each["parts"]:
                part["id"] += f"-{number}"
        async with CodingAgent([[question, *steps, end_of_it]]) as agent:
            followed, outcome = await follow(log, agent, limits=HttpLimits(1, 5, 1 << 24))
        assert outcome == "completed"
        assert len(await followed.entries(ToolReturned)) == 600
