"""Whatever a poller is shown, in whatever order faults and its own deaths come, the log is the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.coding_agent import Patience, Poller
from bridge.sessions import SessionCalls
from bridge.tickets import Tickets
from consumers import Retry
from eventlog import EventLog, MessageReceived, MessageSent, ToolCalled, ToolReturned
from eventlog.event import Event
from eventlog.tasks import end
from tests.coding_agent import QUESTION, SESSION, CodingAgent, frames, recording
from tests.platforms import Answer, Behaviour, Cut, Garbage
from tests.support import eventually

QUICK = Patience(
    interval_ms=1,
    settle_s=0.05,
    silence_s=20.0,
    retry=Retry(20, first_delay_s=0.001, longest_delay_s=0.004),
)
FRAMES = frames(recording())
FAULTS: list[Behaviour] = [
    Answer(500),
    Answer(404),
    Answer(200, []),
    Answer(200, b"[{"),
    Cut(Answer(200, FRAMES[-1]), after_bytes=300),
    Cut(),
    Garbage(),
]

# A step forward, a step back to what was shown before (an agent restored from its last save), a
# fault, or the death of the poller, each where it comes.
STEPS = st.lists(
    st.one_of(
        st.integers(1, 9),
        st.integers(-4, -1),
        st.sampled_from(FAULTS),
        st.just("dies"),
    ),
    max_size=16,
)


def shown_by(steps: list[Any]) -> tuple[list[Any], list[int]]:
    """Return what the agent shows look by look, and the looks after which the poller dies."""
    place, shown, deaths = 0, [], []
    for step in steps:
        if step == "dies":
            deaths.append(len(shown))
        elif isinstance(step, int):
            place = min(max(0, place + step), len(FRAMES) - 2)
            shown.append(FRAMES[place])
        else:
            shown.append(step)
    return [*shown, FRAMES[-1]], deaths


async def followed(steps: list[Any], *, keeps_marks: bool) -> tuple[list[Event], Any]:
    """Return what the log has of the session, and the state it ends in."""
    shown, deaths = shown_by(steps)
    async with EventLog.in_memory(partition_count=2) as log, CodingAgent(shown) as agent:
        sessions = SessionCalls(log)
        tickets = Tickets(log, sessions)
        session_id = await tickets.start("T-1", QUESTION, session_id="s1")
        session = await sessions.get(session_id)
        assert session is not None

        def poller() -> Poller:
            return Poller(log, agent.client(), session, SESSION, patience=QUICK)

        if keeps_marks:
            _mark(agent)
        for look in deaths:
            running = asyncio.create_task(poller().run())
            # One look more than frames: the first one finds an agent that was not asked yet.
            await eventually(lambda n=look, r=running: agent.look_count > n or r.done())
            await end(running)
        await asyncio.wait_for(poller().run(), 20)
        entries = await log.read(conversation="ticket:T-1", limit=1000)
        return [entry.event for entry in entries], await tickets.state(session_id)


def _mark(agent: CodingAgent) -> None:
    """Have the agent keep the metadata of its prompt, as OpenCode does."""

    def marked(frame: Any) -> Any:
        if not isinstance(frame, list) or not frame or not frame[0]["parts"]:
            return frame
        question, *rest = frame
        first, *others = question["parts"]
        metadata = agent.prompts[0]["parts"][0].get("metadata") if agent.prompts else None
        return [{**question, "parts": [{**first, "metadata": metadata}, *others]}, *rest]

    look = agent._look

    def looked() -> Behaviour:
        agent.frames[0] = marked(agent.frames[0])
        return look()

    agent._look = looked  # type: ignore[method-assign]


@settings(max_examples=30, deadline=None)
@given(steps=STEPS, keeps_marks=st.booleans())
def test_each_message_and_call_is_there_once_and_the_end_is_the_same(
    steps: list[Any], keeps_marks: bool
) -> None:
    found, state = asyncio.run(followed(steps, keeps_marks=keeps_marks))
    said = [event.text for event in found if isinstance(event, MessageSent)]
    parts = [p for message in recording()[1:] for p in message["parts"]]
    assert said[:-1] == [part["text"] for part in parts if part["type"] == "text"]
    asked = [event.text for event in found if isinstance(event, MessageReceived)]
    assert asked == [QUESTION]
    called = [event.name for event in found if isinstance(event, ToolCalled)]
    assert Counter(called) == Counter(part["tool"] for part in parts if part["type"] == "tool")
    returned = [event for event in found if isinstance(event, ToolReturned)]
    assert len({event.call for event in returned}) == len(returned) == len(called)
    assert [event.type for event in found].count("session.transitioned") == 2
    assert (state.status, state.error, state.running_tools) == ("completed", None, [])
    assert len(state.messages) == 1 + len(said)
