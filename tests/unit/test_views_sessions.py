from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.event import Event
from eventlog.ids import new_event_id
from eventlog.log import EventLog
from eventlog.session import SessionStatus
from eventlog.vocabulary import (
    BridgeEvent,
    ConversationMapped,
    MessageQueued,
    MessageReceived,
    MessageSent,
    SessionPlaced,
    SessionStarted,
    SessionTouched,
    SessionTransitioned,
    ToolCalled,
    ToolReturned,
)
from projections.reading.live import LiveDocuments
from projections.storing.memory_models import MemoryModels
from projections.storing.store import DocumentsReply, DocumentsRequest
from projections.views.sessions import SESSIONS, STATUSES, Session, Sessions
from tests.logs import conversation_in
from tests.projecting import fold

ENVELOPE: dict[str, Any] = {"conversation": "telegram:1", "session": "s1"}


def started(at_us: int = 1_000_000, status: SessionStatus = "active") -> SessionStarted:
    return SessionStarted(
        **ENVELOPE, occurred_at=at_us, status=status, mode="job", project="p", user="u", agent="a"
    )


def moved(status: SessionStatus, at_us: int = 2_000_000) -> SessionTransitioned:
    return SessionTransitioned(**ENVELOPE, occurred_at=at_us, to_status=status)


def test_a_start_fills_the_session_in() -> None:
    assert fold(SESSIONS, started()) == Session(
        id="s1",
        conversation="telegram:1",
        status="active",
        mode="job",
        project="p",
        user="u",
        agent="a",
        started_at=1_000_000,
        last_activity_at=1_000_000,
        version=1,
    )


def test_events_without_a_session_concern_none() -> None:
    assert SESSIONS.key(MessageReceived(conversation="c", text="hi")) is None


def test_an_event_that_names_a_session_makes_none() -> None:
    session = fold(SESSIONS, MessageReceived(**ENVELOPE, text="hi", occurred_at=5))
    assert (session.status, session.version) == (None, 0)
    assert list(SESSIONS.index("s1", session)) == []


def test_one_that_is_touched_before_it_starts_is_active() -> None:
    session = fold(SESSIONS, SessionTouched(**ENVELOPE, occurred_at=5))
    assert (session.status, session.started_at, session.version) == ("active", 5, 1)


def test_the_place_of_an_id_is_no_session() -> None:
    placed = SessionPlaced(conversation="s1", session="s1", home="telegram:1")
    session = fold(SESSIONS, placed)
    assert (session.status, session.home, session.version) == (None, "telegram:1", 1)
    assert list(SESSIONS.index("s1", session)) == []


def test_who_resumes_a_session_serves_it() -> None:
    start = SessionStarted(**ENVELOPE, owner="bot-1")
    woken = SessionTransitioned(**ENVELOPE, to_status="active", owner="bot-2")
    session = fold(SESSIONS, start, moved("dormant"))
    assert session.owner == "bot-1"
    assert "owner:bot-1" in dict(SESSIONS.index("s1", session))
    assert "serving:bot-1" not in dict(SESSIONS.index("s1", session))
    session = fold(SESSIONS, start, moved("dormant"), woken)
    assert "serving:bot-2" in dict(SESSIONS.index("s1", session))


def test_a_session_first_seen_by_its_end_has_ended() -> None:
    session = fold(SESSIONS, moved("failed", 9))
    assert (session.status, session.ended_at) == ("failed", 9)


def test_a_late_start_brings_what_was_not_known() -> None:
    session = fold(SESSIONS, MessageReceived(**ENVELOPE, text="hi", occurred_at=5), started(7))
    assert (session.project, session.mode, session.started_at) == ("p", "job", 7)
    assert session.status == "active"


def test_a_second_start_changes_neither_origin_nor_end() -> None:
    again = msgspec.structs.replace(started(9), project="other", agent="b", mode="chat")
    session = fold(SESSIONS, started(1), moved("completed", 4), again)
    assert (session.project, session.agent, session.mode) == ("p", "a", "job")
    assert (session.started_at, session.status, session.ended_at) == (1, "completed", 4)


def test_counts_tell_messages_tools_and_errors_apart() -> None:
    events: list[Event] = [
        started(),
        MessageReceived(**ENVELOPE, text="q"),
        MessageQueued(**ENVELOPE, text="a"),
        MessageSent(**ENVELOPE, text="a"),
        ToolCalled(**ENVELOPE, call="1", name="find"),
        ToolReturned(**ENVELOPE, call="1"),
        ToolCalled(**ENVELOPE, call="2", name="find"),
        ToolReturned(**ENVELOPE, call="2", is_error=True),
        ConversationMapped(**ENVELOPE),
        SessionTouched(**ENVELOPE),
    ]
    session = fold(SESSIONS, *events)
    assert (session.message_count, session.tool_call_count, session.tool_error_count) == (2, 2, 1)
    assert session.version == 2


@pytest.mark.parametrize("final", ["completed", "failed"])
def test_a_terminal_status_is_final_in_the_model(final: SessionStatus) -> None:
    session = fold(SESSIONS, started(), moved(final, 3), moved("active", 4), moved("pending", 5))
    assert (session.status, session.ended_at, session.last_activity_at) == (final, 3, 1_000_000)
    assert session.version == 4


def test_activity_never_goes_back_with_a_producer_s_clock() -> None:
    session = fold(SESSIONS, started(9_000_000), SessionTouched(**ENVELOPE, occurred_at=3))
    assert session.last_activity_at == 9_000_000


def test_a_session_is_indexed_where_it_stands_now_and_nowhere_else() -> None:
    session = fold(SESSIONS, started(8_000_999), moved("dormant", 9_001_000))
    indexed = dict(SESSIONS.index("s1", session))
    assert indexed == dict.fromkeys(
        ("all", "status:dormant", "conversation:telegram:1", "project:p", "user:u"), 8000
    )


def test_falling_asleep_is_no_activity_and_waking_up_is() -> None:
    asleep = fold(SESSIONS, started(8_000_000), moved("dormant", 9_000_000))
    assert (asleep.status, asleep.last_activity_at) == ("dormant", 8_000_000)
    awake = fold(
        SESSIONS, started(8_000_000), moved("dormant", 9_000_000), moved("active", 9_500_000)
    )
    assert (awake.status, awake.last_activity_at) == ("active", 9_500_000)
    unknown = fold(SESSIONS, moved("dormant", 9_000_000))
    assert unknown.last_activity_at == 9_000_000


def test_a_session_survives_being_stored() -> None:
    session = fold(SESSIONS, started(), MessageSent(**ENVELOPE, text="a"), moved("completed"))
    assert msgspec.json.decode(msgspec.json.encode(session), type=Session) == session


EVERY_KIND: tuple[Callable[[], Event], ...] = (
    started,
    lambda: started(3_000_000, "pending"),
    *(lambda status=status: moved(status, 4_000_000) for status in STATUSES),  # type: ignore[misc]
    lambda: SessionTouched(**ENVELOPE, occurred_at=5_000_000),
    lambda: MessageReceived(**ENVELOPE, text="q", occurred_at=6_000_000),
    lambda: MessageSent(**ENVELOPE, text="a", occurred_at=1),
    lambda: MessageQueued(**ENVELOPE, text="a", occurred_at=7_000_000),
    lambda: ToolCalled(**ENVELOPE, call="1", name="find", occurred_at=8_000_000),
    lambda: ToolReturned(**ENVELOPE, call="1", is_error=True, occurred_at=9_000_000),
    lambda: ConversationMapped(**ENVELOPE, occurred_at=2_000_000),
    lambda: BridgeEvent(**ENVELOPE, event_type="x", occurred_at=2_500_000),
    lambda: SessionStarted(**{**ENVELOPE, "conversation": "telegram:2"}, project="late"),
)


@given(st.lists(st.sampled_from(EVERY_KIND), min_size=1, max_size=8))
async def test_after_every_event_each_index_holds_a_session_exactly_where_it_stands(
    kinds: list[Callable[[], Event]],
) -> None:
    async with EventLog.in_memory(partition_count=1) as log:
        sessions = Sessions(log, MemoryModels(log))
        for kind in kinds:
            await log.append(msgspec.structs.replace(kind(), id=new_event_id()))
            session = await sessions.get("s1")
            if session is None:  # nothing but its name was said so far
                assert (await sessions.list()).items == []
                assert set((await sessions.counts()).values()) == {0}
                continue
            assert await sessions.counts() == {
                status: int(session.status == status) for status in STATUSES
            }
            for status in STATUSES:
                listed = (await sessions.list(status=status)).items
                assert listed == [session] * (session.status == status)
            for project in ("p", "late"):
                listed = (await sessions.list(project=project)).items
                assert listed == [session] * (session.project == project)
            for conversation in ("telegram:1", "telegram:2"):
                listed = (await sessions.list(conversation=conversation)).items
                assert listed == [session] * (session.conversation == conversation)
            assert (await sessions.list(user="u")).items == [session] * (session.user == "u")
            idle = await sessions.idle(session.last_activity_at + 1)
            assert list(idle) == [session] * (session.status == "active")
            assert await sessions.idle(session.last_activity_at - 1000) == []


def used(session: str, conversation: str, at_ms: int) -> SessionTouched:
    return SessionTouched(conversation=conversation, session=session, occurred_at=at_ms * 1000)


def strays(log: EventLog) -> Iterator[str]:
    """Yield session ids that fall into neither of the two places."""
    for n in itertools.count():
        if log.partition_of(f"s{n}") not in (0, log.partition_count - 1):
            yield f"s{n}"


def two_places(log: EventLog) -> tuple[str, str]:
    """Return conversations of the first and of the last partition."""
    return conversation_in(log, 0), conversation_in(log, log.partition_count - 1)


async def test_a_session_used_in_two_places_is_one_session_where_it_was_active_last() -> None:
    async with EventLog.in_memory(partition_count=4) as log:
        sessions = Sessions(log, MemoryModels(log))
        one, other = two_places(log)
        s, t = itertools.islice(strays(log), 2)
        await log.append([used(s, one, 5), used(s, other, 9), used(t, one, 7)])
        page = await sessions.list()
        assert [(each.id, each.conversation) for each in page.items] == [(s, other), (t, one)]
        assert await sessions.get(s) == page.items[0]
        assert [each.id for each in (await sessions.list(conversation=one)).items] == [t]
        # Each place still has its own version to write by.
        here = await sessions.get(s, conversation=one)
        assert here
        assert (here.conversation, here.version) == (one, 1)
        await log.append(SessionTransitioned(conversation=one, session=s, to_status="failed"))
        assert [each.id for each in (await sessions.list(status="active")).items] == [t]
        [failed] = (await sessions.list(status="failed")).items
        assert failed == await sessions.get(s)
        assert failed.conversation == one
        assert await sessions.counts() == {**dict.fromkeys(STATUSES, 0), "active": 2, "failed": 1}


async def test_of_two_places_active_at_once_the_lower_partition_stands_for_the_session() -> None:
    async with EventLog.in_memory(partition_count=4) as log:
        sessions = Sessions(log, MemoryModels(log))
        one, other = two_places(log)
        s = next(strays(log))
        await log.append([used(s, other, 5), used(s, one, 5)])
        [only] = (await sessions.list()).items
        assert only == await sessions.get(s)
        assert only.conversation == one


async def test_the_record_in_the_place_that_the_id_tells_stands_for_the_session() -> None:
    async with EventLog.in_memory(partition_count=4) as log:
        sessions = Sessions(log, MemoryModels(log))
        one, other = two_places(log)
        s = next(f"s{n}" for n in itertools.count() if log.partition_of(f"s{n}") == 0)
        placed = next(strays(log))
        pointer = SessionPlaced(conversation=placed, session=placed, home=one)
        await log.append([used(s, one, 1), used(s, other, 9)])
        await log.append([pointer, used(placed, one, 1), used(placed, other, 9)])
        for session in (s, placed):
            found = await sessions.get(session)
            assert found
            assert found.conversation == one
        assert {each.id for each in (await sessions.list()).items} == {placed, s}
        assert {each.conversation for each in (await sessions.list()).items} == {one}


async def test_pages_show_each_session_once_though_all_were_used_in_two_places() -> None:
    async with EventLog.in_memory(partition_count=4) as log:
        sessions = Sessions(log, MemoryModels(log))
        one, other = two_places(log)
        await log.append([used(f"s{n}", one, n) for n in range(10)])
        await log.append([used(f"s{n}", other, 9 - n) for n in range(10)])
        found: list[str] = []
        cursor = None
        while True:
            page = await sessions.list(limit=3, cursor=cursor)
            found += [each.id for each in page.items]
            cursor = page.cursor
            if cursor is None:
                break
        assert sorted(found) == [f"s{n}" for n in range(10)]


class Counted(MemoryModels):
    """Read models that count how often they are asked."""

    reads = 0

    async def read_documents(self, partition: int, request: DocumentsRequest) -> DocumentsReply:
        self.reads += 1
        return await super().read_documents(partition, request)


@pytest.mark.parametrize(("partition_count", "more"), [(1, 0), (4, 4)])
async def test_a_page_asks_each_partition_at_most_once_more_and_not_where_there_is_one(
    partition_count: int, more: int
) -> None:
    async with EventLog.in_memory(partition_count=partition_count) as log:
        ids = list(itertools.islice(strays(log), 9)) if more else [f"s{n}" for n in range(9)]
        chats = [conversation_in(log, 0), *(f"c{n}" for n in range(8))]
        store = Counted(log)
        sessions, documents = Sessions(log, store), LiveDocuments(log, SESSIONS, store)
        await documents.page("all", 5)
        for_nothing, store.reads = store.reads, 0
        await sessions.list(limit=5)
        assert store.reads == for_nothing
        await log.append([used(ids[n], chats[n], n) for n in range(9)])
        store.reads = 0
        await documents.page("all", 5)
        for_page, store.reads = store.reads, 0
        await sessions.list(limit=5)
        assert store.reads == for_page + more
        store.reads = 0
        await documents.page(f"conversation:{chats[0]}", 5)
        for_page, store.reads = store.reads, 0
        await sessions.list(conversation=chats[0], limit=5)
        assert store.reads == for_page + max(0, more - 1)  # its own partition is not asked again
