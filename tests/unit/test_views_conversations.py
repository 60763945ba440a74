from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.log import EventLog
from eventlog.vocabulary import (
    ConversationCleared,
    ConversationCompacted,
    ConversationMapped,
    SessionStarted,
    member_key,
)
from projections.storing.memory_models import MemoryModels
from projections.views.conversations import (
    CONVERSATIONS,
    PAST_SESSION_LIMIT,
    Conversation,
    Conversations,
)
from tests.projecting import fold
from tests.strategies import names


def mapped(session: str, at_us: int = 1) -> ConversationMapped:
    return ConversationMapped(conversation="telegram:1", session=session, occurred_at=at_us)


CLEARED = ConversationCleared(conversation="telegram:1", occurred_at=5)


def test_the_last_mapping_holds_and_those_before_are_past() -> None:
    assert fold(CONVERSATIONS, mapped("a"), mapped("b"), mapped("c", 3)) == Conversation(
        "telegram:1", "c", ["a", "b"], 2, 3, 3
    )


def test_mapping_the_same_session_again_makes_no_past() -> None:
    conversation = fold(CONVERSATIONS, mapped("a"), mapped("a"))
    assert (conversation.session, conversation.past, conversation.version) == ("a", [], 2)


def test_clearing_leaves_no_session_and_remembers_it() -> None:
    conversation = fold(CONVERSATIONS, mapped("a"), CLEARED, CLEARED, mapped("b"))
    assert (conversation.session, conversation.past) == ("b", ["a"])
    assert fold(CONVERSATIONS, mapped("a"), CLEARED).session is None


def test_compacting_goes_on_in_the_fresh_session() -> None:
    compacted = ConversationCompacted(
        conversation="telegram:1", session="b", previous_session="a", occurred_at=2
    )
    conversation = fold(CONVERSATIONS, mapped("a"), compacted)
    assert (conversation.session, conversation.past) == ("b", ["a"])


def test_past_sessions_are_bounded_and_counted_on() -> None:
    sessions = [f"s{n}" for n in range(PAST_SESSION_LIMIT + 10)]
    conversation = fold(CONVERSATIONS, *map(mapped, sessions))
    assert conversation.past == sessions[-PAST_SESSION_LIMIT - 1 : -1]
    assert conversation.past_count == PAST_SESSION_LIMIT + 9


def test_only_conversations_with_a_session_are_listed() -> None:
    assert CONVERSATIONS.index("telegram:1", fold(CONVERSATIONS, mapped("a", 7000))) == [
        ("mapped", 7)
    ]
    assert CONVERSATIONS.index("telegram:1", fold(CONVERSATIONS, mapped("a"), CLEARED)) == []


async def test_a_user_s_share_is_apart_from_the_conversation_s() -> None:
    async with EventLog.in_memory(partition_count=2) as log:
        conversations = Conversations(log, MemoryModels(log))
        ada = ConversationMapped(conversation="chat:1", user="ada", session="a")
        assert ada.entity != ConversationMapped(conversation="chat:1", session="a").entity
        await log.append(ada, expected_version=0)
        assert await conversations.get("chat:1") is None
        found = await conversations.get("chat:1", user="ada")
        assert found
        assert (found.conversation, found.user, found.session) == ("chat:1", "ada", "a")


@given(names, st.none() | names, names, st.none() | names)
def test_no_two_mappings_share_a_key(
    one: str, user: str | None, other: str, another: str | None
) -> None:
    same = (one, user) == (other, another)
    assert (member_key(one, user) == member_key(other, another)) is same


@pytest.mark.parametrize("text", ["\0", "\0\0", "\x001:a:b", "1:a:b", "a", ":"])
def test_nor_do_those_that_look_like_keys(text: str) -> None:
    others = [("a", "b"), ("\x001:a:b", None), ("\0", None), ("\0\0", None), ("a", ""), ("a", None)]
    for other in others:
        assert (member_key(text, None) == member_key(*other)) is ((text, None) == other)


async def test_a_session_that_starts_maps_nothing() -> None:
    async with EventLog.in_memory(partition_count=2) as log:
        conversations = Conversations(log, MemoryModels(log))
        await log.append(SessionStarted(conversation="telegram:1", session="a"))
        assert await conversations.get("telegram:1") is None
        await log.append(mapped("a"))
        found = await conversations.get("telegram:1")
        assert found
        assert found.session == "a"
        assert [each.session for each in (await conversations.list()).items] == ["a"]
