"""Tickets: sessions that are started, spoken in, looked at and ended, each call at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from analytics import Archiver, DirectoryStorage
from bridge import Bridge
from bridge.tickets import Tickets
from eventlog import EventLog, JobQueued, MessageReceived, MessageSent, SessionStarted, ToolCalled
from eventlog.errors import IllegalTransition, InvalidEvent, SessionExists, SessionMissing
from eventlog.ids import EntryId
from projections.projecting.projector import Projector


@pytest.fixture(params=["nothing projected", "all projected"])
async def tickets(request: pytest.FixtureRequest, log: EventLog) -> AsyncIterator[Tickets]:
    """Tickets of a log whose read models are empty, or up to date all the time."""
    bridge = Bridge(log, projections=None)
    if request.param == "nothing projected":
        yield bridge.tickets
        return
    stop = asyncio.Event()
    running = asyncio.create_task(Projector(log).run(stop))
    yield bridge.tickets
    stop.set()
    await running


async def test_a_session_is_pending_with_its_text_and_its_job(log: EventLog, tickets: Tickets):
    session = await tickets.start("T-1", "Fix it.", sender="ann", project="shop")
    state = await tickets.state(session)
    assert state is not None
    assert (state.session, state.ticket, state.kind) == (session, "T-1", "chat")
    assert (state.status, state.error, state.running_tools) == ("pending", None, [])
    assert [(each.role, each.text, each.sender) for each in state.messages] == [
        ("user", "Fix it.", "ann")
    ]
    assert 0 < state.started_at <= state.updated_at
    entries = [entry.event for entry in await log.read(conversation="ticket:T-1")]
    assert [type(event) for event in entries] == [SessionStarted, MessageReceived, JobQueued]
    assert isinstance(entries[2], JobQueued)
    assert (entries[2].session, entries[2].agent) == (session, "coder")


async def test_one_s_own_writes_are_read_at_once(log: EventLog, tickets: Tickets):
    session = await tickets.start("T-1", "Fix it.")
    await tickets.send(session, "Soon.")
    at = {"conversation": "ticket:T-1", "session": session}
    await log.append([MessageSent(**at, text="Yes."), ToolCalled(**at, call="c", name="bash")])
    state = await tickets.state(session)
    assert state is not None
    assert [each.text for each in state.messages] == ["Fix it.", "Soon.", "Yes."]
    assert [tool.name for tool in state.running_tools] == ["bash"]


async def test_a_session_of_one_s_own_id_is_started_once(tickets: Tickets):
    for _ in range(2):
        assert await tickets.ask("T-1", "Why?", session_id="mine") == "mine"
    state = await tickets.state("mine")
    assert state is not None
    assert (state.kind, len(state.messages)) == ("ask", 1)
    for number in range(2, 12):  # of other partitions and of its own
        with pytest.raises(SessionExists):
            await tickets.start(f"T-{number}", "Why?", session_id="mine")


async def test_sessions_of_a_ticket_are_told_apart(tickets: Tickets):
    first = await tickets.start("T-1", "one")
    second = await tickets.start("T-1", "two", kind="admin")
    other = await tickets.start("T-10", "another ticket's")
    active = await tickets.active("T-1")
    assert active is not None
    assert active.id == second
    await tickets.complete(second)
    active = await tickets.active("T-1")
    assert active is not None
    assert active.id == first
    await tickets.fail(first, "too hard")
    assert await tickets.active("T-1") is None
    page = await tickets.history("T-1", limit=1)
    assert [(each.id, each.status, each.error) for each in page.items] == [
        (first, "failed", "too hard")
    ]
    page = await tickets.history("T-1", limit=1, cursor=page.cursor)
    assert [(each.id, each.kind) for each in page.items] == [(second, "admin")]
    assert page.cursor is None
    assert (await tickets.history("T-10")).items == []
    assert await tickets.state(other) is not None


async def test_only_what_was_said_in_a_session_is_in_its_chat(tickets: Tickets):
    first = await tickets.start("T-1", "one")
    second = await tickets.start("T-1", "two")
    await tickets.send(first, "three")
    chat = await tickets.chat(first)
    assert chat is not None
    assert [each.text for each in chat.items] == ["one", "three"]  # type: ignore[union-attr]
    last = await tickets.chat(first, limit=1)
    assert last is not None
    assert (len(last.items), last.earlier_count) == (1, 1)
    before = await tickets.chat(first, limit=5, cursor=last.cursor)
    assert before is not None
    assert [each.text for each in before.items] == ["one"]  # type: ignore[union-attr]
    assert before.cursor is None
    assert await tickets.chat(second) is not None


async def test_what_is_said_twice_with_one_id_is_recorded_once(tickets: Tickets):
    session = await tickets.start("T-1", "one")
    first = await tickets.send(session, "two", message_id=7)
    again = await tickets.send(session, "two", message_id=7)
    assert (first.duplicate, again.duplicate) == (False, True)
    state = await tickets.state(session)
    assert state is not None
    assert [each.text for each in state.messages] == ["one", "two"]


async def test_nothing_is_said_in_a_session_that_has_ended(tickets: Tickets):
    session = await tickets.start("T-1", "one")
    await tickets.complete(session)
    with pytest.raises(IllegalTransition):
        await tickets.send(session, "two")
    with pytest.raises(IllegalTransition):
        await tickets.fail(session, "late")
    state = await tickets.state(session)
    assert state is not None
    assert (state.status, len(state.messages)) == ("completed", 1)


async def test_a_sleeping_session_wakes_when_somebody_speaks(log: EventLog, tickets: Tickets):
    bridge = Bridge(log, projections=None)
    session = await tickets.start("T-1", "one")
    await bridge.sessions.transition(session, "active")
    await bridge.sessions.transition(session, "dormant")
    state = await tickets.state(session)
    assert state is not None
    assert state.status == "running"
    await tickets.send(session, "two")
    found = await bridge.sessions.get(session)
    assert found is not None
    assert found.status == "active"


async def test_what_does_not_exist_is_none_or_said(log: EventLog, tickets: Tickets):
    assert await tickets.state("nothing") is None
    assert await tickets.chat("nothing") is None
    assert await tickets.active("T-404") is None
    with pytest.raises(SessionMissing):
        await tickets.send("nothing", "hello")
    elsewhere = await Bridge(log, projections=None).sessions.start("telegram:1")
    with pytest.raises(SessionMissing):
        await tickets.send(elsewhere.id, "hello")
    assert await tickets.state(elsewhere.id) is None


async def test_a_chat_goes_on_from_what_is_hot_into_the_archive(server_url: str, tmp_path: Path):
    async with EventLog.open(
        server_url,
        key_prefix="cold-tickets",
        partition_count=2,
        chat_history_limit=10,
        archive_dir=str(tmp_path),
    ) as log:
        tickets = Bridge(log, projections=None).tickets
        first = await tickets.start("T-1", "0")
        second = await tickets.start("T-1", "another")
        for number in range(1, 60):
            await tickets.send(first, str(number))
            await tickets.send(second, "noise")
        await Projector(log).run_until_caught_up()
        async with Archiver(log, DirectoryStorage(tmp_path)) as archiver:
            await archiver.run_once()
        for partition, head in enumerate(await log.heads()):
            beyond = str(EntryId(head.ms, head.n + 1))
            await log.client.xtrim(log.keys.stream(partition), minid=beyond, approximate=False)
        chat = await tickets.chat(first, limit=25)
        assert chat is not None
        texts, counts = [each.text for each in chat.items], [chat.earlier_count]  # type: ignore[union-attr]
        while chat.cursor is not None:
            chat = await tickets.chat(first, limit=25, cursor=chat.cursor)
            assert chat is not None
            texts = [*(each.text for each in chat.items), *texts]  # type: ignore[union-attr]
            counts.append(chat.earlier_count)
        assert texts == [str(number) for number in range(60)]
        assert counts == [35, 10, 0]


@pytest.mark.parametrize(
    ("ticket", "text", "agent"), [("", "x", "a"), ("T", "", "a"), ("T", "x", "")]
)
async def test_what_says_nothing_is_refused(log: EventLog, ticket: str, text: str, agent: str):
    tickets = Bridge(log, projections=None).tickets
    with pytest.raises(InvalidEvent):
        await tickets.start(ticket, text, agent=agent)
    with pytest.raises(InvalidEvent):
        await tickets.send(await tickets.start("T", "x"), "")


async def test_an_end_and_a_word_in_the_same_moment_know_of_each_other(log: EventLog):
    bridge = Bridge(log, projections=None)
    for number in range(20):
        session = await bridge.tickets.start(f"T-{number}", "one")
        said, _ = await asyncio.gather(
            bridge.tickets.send(session, "two"),
            bridge.tickets.complete(session),
            return_exceptions=True,
        )
        ids = [
            entry.event.type
            for entry in await log.read(conversation=f"ticket:T-{number}")
            if entry.event.session == session
        ]
        assert ids[-1] == "session.transitioned", "nothing comes after the end"
        assert ("message.received" in ids[2:]) == (not isinstance(said, IllegalTransition))
