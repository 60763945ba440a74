"""The Claude Agent SDK's session store: its own conformance suite, and what that does not ask."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from claude_agent_sdk import (
    SessionKey,
    SessionStoreEntry,
    delete_session_via_store,
    get_session_messages_from_store,
    list_sessions_from_store,
    project_key_for_directory,
)
from claude_agent_sdk.testing import run_session_store_conformance

from bridge.adapters.claude_agent_sdk import EventLogSessionStore
from eventlog.errors import EventTooLarge, InvalidEvent
from eventlog.log import EventLog

KEY: SessionKey = {"project_key": "proj", "session_id": "sess"}
_numbers = itertools.count(1)


def entries(*contents: Any, **more: Any) -> list[SessionStoreEntry]:
    return [cast("SessionStoreEntry", {"type": "x", "n": content, **more}) for content in contents]


def with_uuid(*uuids: str) -> list[SessionStoreEntry]:
    return [cast("SessionStoreEntry", {"type": "x", "uuid": uuid}) for uuid in uuids]


@pytest.fixture
async def fresh_log(server_url: str) -> AsyncIterator[Callable[[], Any]]:
    opened: list[EventLog] = []

    async def make() -> EventLog:
        prefix = f"claude{next(_numbers)}"
        opened.append(await EventLog.open(server_url, key_prefix=prefix, partition_count=2))
        return opened[-1]

    yield make
    for log in opened:
        await log.close()


async def test_it_keeps_the_sdk_s_fourteen_contracts(fresh_log: Callable[[], Any]) -> None:
    made = []

    async def make() -> EventLogSessionStore:
        made.append(EventLogSessionStore(await fresh_log()))
        return made[-1]

    await run_session_store_conformance(make)
    assert len(made) >= 14, "no contract was left out"


async def test_entries_come_back_as_they_were(any_log: EventLog) -> None:
    store = EventLogSessionStore(any_log)
    odd = entries(
        "🦜", "", "\0", "half \ud83d", 10**30, 1e-300, [None, {"z": 1, "a": -0.0}], "x" * 200_000
    )
    await store.append(KEY, odd)
    assert repr(await store.load(KEY)) == repr(odd)


async def test_a_batch_sent_again_is_there_once(any_log: EventLog) -> None:
    store = EventLogSessionStore(any_log)
    for _ in range(2):
        await store.append(KEY, [*with_uuid("a", "b"), *entries("no uuid")])
    assert await store.load(KEY) == [*with_uuid("a", "b"), *entries("no uuid")]
    heads = await any_log.heads()
    await store.append(KEY, [*with_uuid("a", "b"), *entries("no uuid")])
    assert await any_log.heads() == heads, "it takes no room either"


async def test_batches_that_overlap_give_each_uuid_once(any_log: EventLog) -> None:
    store = EventLogSessionStore(any_log)
    await store.append(KEY, with_uuid("a", "b"))
    await store.append(KEY, with_uuid("b", "c"))
    assert await store.load(KEY) == with_uuid("a", "b", "c")


async def test_entries_without_uuid_may_repeat(any_log: EventLog) -> None:
    store = EventLogSessionStore(any_log)
    for _ in range(3):
        await store.append(KEY, entries("mode"))
    assert await store.load(KEY) == entries(*["mode"] * 3)


async def test_what_was_deleted_may_be_added_again(any_log: EventLog) -> None:
    store = EventLogSessionStore(any_log)
    for _ in range(2):
        await store.append(KEY, with_uuid("a"))
        assert await store.load(KEY) == with_uuid("a")
        await store.delete(KEY)
        assert await store.load(KEY) is None


async def test_keys_of_slashes_and_colons_never_meet(any_log: EventLog) -> None:
    store = EventLogSessionStore(any_log)
    keys: list[SessionKey] = [
        {"project_key": "a/b", "session_id": "c"},
        {"project_key": "a", "session_id": "b/c"},
        {"project_key": "a%2Fb", "session_id": "c"},
        {"project_key": "a", "session_id": "b", "subpath": "c"},
        {"project_key": "a", "session_id": "b", "subpath": "main"},
        {"project_key": "a", "session_id": "b"},
        {"project_key": "a:b", "session_id": "c"},
        {"project_key": "", "session_id": "🦜"},
    ]
    for n, key in enumerate(keys):
        await store.append(key, entries(n))
    assert [await store.load(key) for key in keys] == [entries(n) for n in range(len(keys))]
    listed = {s["session_id"] for s in await store.list_sessions("a")}
    assert listed == {"b/c", "b"}
    subkeys = await store.list_subkeys({"project_key": "a", "session_id": "b"})
    assert sorted(subkeys) == ["c", "main"]
    assert [s["session_id"] for s in await store.list_sessions("")] == ["🦜"]


async def test_lists_go_beyond_one_page(any_log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.adapters.claude_agent_sdk.PAGE_TRANSCRIPTS", 3)
    store = EventLogSessionStore(any_log)
    for n in range(10):
        await store.append({"project_key": "p", "session_id": f"s{n}"}, entries(n))
        await store.append({**KEY, "subpath": f"agent-{n}"}, entries(n))
    assert len(await store.list_sessions("p")) == 10
    assert len(await store.list_session_summaries("p")) == 10
    assert len(await store.list_subkeys({"project_key": "proj", "session_id": "sess"})) == 10
    await store.delete(KEY)
    assert await store.list_subkeys({"project_key": "proj", "session_id": "sess"}) == []


async def test_summaries_of_batches_that_race_miss_none(log: EventLog) -> None:
    stores = [EventLogSessionStore(log) for _ in range(3)]
    said = [entries(n, customTitle=f"title {n}") for n in range(12)]
    await asyncio.gather(*(stores[n % 3].append(KEY, said[n]) for n in range(12)))
    loaded = await stores[0].load(KEY)
    assert loaded is not None
    assert len(loaded) == 12
    [summary] = await stores[0].list_session_summaries("proj")
    assert summary["data"]["custom_title"] == cast("dict[str, Any]", loaded[-1])["customTitle"]


async def test_the_sdk_reads_and_deletes_what_it_stored(log: EventLog, server_url: str) -> None:
    session = "11111111-1111-4111-8111-111111111111"
    directory = "/home/ada/project"
    key: SessionKey = {"project_key": project_key_for_directory(directory), "session_id": session}
    chain = [
        {
            "type": "user",
            "uuid": "22222222-2222-4222-8222-222222222222",
            "parentUuid": None,
            "sessionId": session,
            "timestamp": "2026-01-01T00:00:00.000Z",
            "message": {"role": "user", "content": "hello"},
        }
    ]
    await EventLogSessionStore(log).append(key, cast("list[SessionStoreEntry]", chain))
    async with EventLog.open(server_url, key_prefix=log.settings.key_prefix) as again:
        store = EventLogSessionStore(again)
        [info] = await list_sessions_from_store(store, directory=directory)
        assert (info.session_id, info.first_prompt) == (session, "hello")
        [message] = await get_session_messages_from_store(store, session, directory=directory)
        assert message.uuid == chain[0]["uuid"]
        await delete_session_via_store(store, session, directory=directory)
        assert await list_sessions_from_store(store, directory=directory) == []


async def test_garbage_is_refused_and_nothing_of_its_batch_is_kept(any_log: EventLog) -> None:
    store = EventLogSessionStore(any_log)
    with pytest.raises(InvalidEvent, match="does not fit into JSON"):
        await store.append(KEY, [*entries("lost?"), *entries(b"bytes")])
    with pytest.raises(EventTooLarge, match="item 1 of 1"):
        await store.append({**KEY, "subpath": "a"}, entries("x" * 1_100_000))
    assert await store.load(KEY) is None
    assert await store.list_sessions("proj") == []
