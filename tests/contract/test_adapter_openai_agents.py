"""The OpenAI Agents SDK's session: what agents remember, kept in the log."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, cast
from urllib.parse import unquote

import pytest
from agents import Agent, RunConfig, Runner, Session, SessionSettings, TResponseInputItem
from agents.testing import ScriptedModel, assistant_message

from bridge.adapters.openai_agents import EventLogSession
from eventlog.errors import EventTooLarge, InvalidEvent, LogUnavailable
from eventlog.log import EventLog
from projections.projecting.projector import Projector
from tests.conftest import IS_CLUSTER
from tests.proxy import FaultyProxy


def items(*contents: Any) -> list[TResponseInputItem]:
    made = [{"content": content, "role": "user", "extra": None} for content in contents]
    return cast("list[TResponseInputItem]", made)


async def test_it_is_a_session_to_the_sdk(any_log: EventLog) -> None:
    session = EventLogSession("s", any_log)
    assert isinstance(session, Session)
    assert session.session_id == "s"
    assert session.session_settings == SessionSettings()


async def test_an_agent_remembers_across_runs_and_restarts(log: EventLog, server_url: str) -> None:
    model = ScriptedModel([[assistant_message("Hello Ada")], [assistant_message("Ada")]])
    agent = Agent(name="bot", model=model)
    quiet = RunConfig(tracing_disabled=True)  # else it tells OpenAI of every run
    await Runner.run(agent, "I am Ada", session=EventLogSession("s", log), run_config=quiet)
    async with EventLog.open(server_url, key_prefix=log.settings.key_prefix) as again:
        session = EventLogSession("s", again)
        result = await Runner.run(agent, "Who am I?", session=session, run_config=quiet)
        assert result.final_output == "Ada"
        assert model.last_call is not None
        said = cast("list[dict[str, Any]]", model.last_call.input)
        assert [each["role"] for each in said] == ["user", "assistant", "user"]
        assert said[0]["content"] == "I am Ada"
        assert len(await session.get_items()) == 4


async def test_items_come_back_as_they_were(any_log: EventLog) -> None:
    session = EventLogSession("s", any_log)
    odd = items(
        "🦜", "", "\0", "half \ud83d", 10**30, 1e-300, [None, {"z": 1, "a": -0.0}], "x" * 200_000
    )
    await session.add_items(odd)
    assert repr(await session.get_items()) == repr(odd)
    await session.add_items([])
    assert await session.get_items(1) == odd[-1:]


async def test_limits_are_the_call_s_or_the_session_s(any_log: EventLog) -> None:
    session = EventLogSession("s", any_log, session_settings={"limit": 2})
    await session.add_items(items("a", "b", "c"))
    assert await session.get_items() == items("b", "c")
    assert await session.get_items(1) == items("c")
    assert await session.get_items(10) == items("a", "b", "c")
    assert await session.get_items(0) == []
    assert await EventLogSession("s", any_log).get_items() == items("a", "b", "c")


async def test_sessions_keep_apart_by_id_and_by_conversation(any_log: EventLog) -> None:
    sessions = [
        EventLogSession("s", any_log),
        EventLogSession("s:1", any_log),
        EventLogSession("s", any_log, conversation="telegram:42"),
        EventLogSession("t", any_log, conversation="telegram:42"),
        EventLogSession("s", any_log, conversation="telegram:42:s"),
    ]
    for n, session in enumerate(sessions):
        await session.add_items(items(n))
    await sessions[1].clear_session()
    assert [await session.get_items() for session in sessions] == [
        items(0), [], items(2), items(3), items(4),
    ]  # fmt: skip


async def test_popping_takes_the_last_and_clearing_all(any_log: EventLog) -> None:
    session = EventLogSession("s", any_log)
    assert await session.pop_item() is None
    await session.add_items(items("a", "b"))
    assert await session.pop_item() == items("b")[0]
    await session.add_items(items("c"))
    assert await session.get_items() == items("a", "c")
    await session.clear_session()
    assert await session.pop_item() is None
    await session.add_items(items("d"))
    assert await session.get_items() == items("d")


async def test_what_many_tasks_add_and_pop_at_once_is_neither_lost_nor_doubled(
    log: EventLog,
) -> None:
    sessions = [EventLogSession("s", log) for _ in range(3)]
    adding = [sessions[n % 3].add_items(items(f"{n}a", f"{n}b")) for n in range(30)]
    popping = [sessions[n % 3].pop_item() for n in range(15)]
    done = await asyncio.gather(*adding, *popping)
    popped = [item for item in done if item is not None]
    await Projector(log).run_until_caught_up()
    left = await sessions[0].get_items()
    everything = [cast("dict[str, Any]", item)["content"] for item in [*left, *popped]]
    assert sorted(everything) == sorted(f"{n}{half}" for n in range(30) for half in "ab")


@pytest.mark.parametrize("bad", [[{"a": b"bytes"}], [{"a": float("nan")}], [{1: "one"}]])
async def test_garbage_is_refused_and_nothing_of_its_batch_is_kept(
    any_log: EventLog, bad: Any
) -> None:
    session = EventLogSession("s", any_log)
    await session.add_items(items("good"))
    with pytest.raises(InvalidEvent, match="does not fit into JSON"):
        await session.add_items([*items("lost?"), *bad])
    with pytest.raises(EventTooLarge, match="item 2 of 2"):
        await session.add_items(items("lost?", "x" * 1_100_000))
    assert await session.get_items() == items("good")


@pytest.mark.skipif(IS_CLUSTER, reason="the proxy stands before one server")
async def test_a_call_whose_reply_was_lost_may_be_repeated(log: EventLog, server_url: str) -> None:
    socket = unquote(server_url.removeprefix("unix://"))
    async with FaultyProxy(socket, seed=1, fault_rate=1, faults=("reply",)) as proxy:
        prefix = log.settings.key_prefix
        async with EventLog.open(proxy.url, key_prefix=prefix, max_retries=0) as shaky:
            session = EventLogSession("s", shaky)
            proxy.is_armed = True
            with pytest.raises(LogUnavailable):
                await session.add_items(items("yes"))
            proxy.is_armed = False
            assert await EventLogSession("s", log).get_items() == items("yes"), "it was added"
            await session.add_items(items("yes"))
            assert await session.get_items() == items("yes")
            await session.add_items(items("yes"))
            assert await session.get_items() == items("yes", "yes")


async def test_the_session_lies_with_its_chat(log: EventLog) -> None:
    await EventLogSession("s", log, conversation="telegram:42").add_items(items("a"))
    [entry] = await log.read(conversation="telegram:42")
    assert entry.event.type == "transcript.appended"


IMPORTING = """
import importlib, sys
sys.modules.update(agents=None, claude_agent_sdk=None, aiogram=None)
for name in ("openai_agents", "claude_agent_sdk", "aiogram"):
    try:
        importlib.import_module(f"bridge.adapters.{name}")
    except ImportError as error:
        print(error)
"""


async def test_a_missing_sdk_says_which_extra_brings_it() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", IMPORTING), stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate()
    for line, extra in zip(
        told.decode().splitlines(), ("openai-agents", "claude-agent-sdk", "aiogram"), strict=True
    ):
        assert line.endswith(f"`pip install 'eventlog[{extra}]'`.")
