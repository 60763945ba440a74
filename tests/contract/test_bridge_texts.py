"""Ids and texts as platforms and people make them: none is lost, changed or taken for another."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bridge import Bridge
from eventlog import START, Attachment, EventLog
from eventlog.errors import EventTooLarge, InvalidEvent
from eventlog.vocabulary import member_key
from projections.builtin import DEFAULT_PROJECTIONS
from projections.projecting.projector import Projector

NAMES = (
    "a:b:c",
    ":",
    'it\'s "quoted" \\ `so`',
    "👩‍👩‍👧🦜",
    "𐍈 𠜎𠜱",
    "e\u0301 is not é",
    "null\0inside",
    "\0leading",
    "\u202eright to left",
    "line\nbreak\r\ttab\x7f",
    " ",
    "%3A%25",
    "{braces}*[a-z]?",
    "x" * 512,
    "🦜" * 512,
)
TEXTS = ("", " ", "x" * 20_000, "🦜" * 20_000, "x" * 200_000, "null\0inside\0", *NAMES)


@pytest.fixture
def bridge(any_log: EventLog) -> Bridge:
    return Bridge(any_log, projections=None)


async def entry_count(log: EventLog) -> int:
    return sum(head.n for head in await log.heads())


class TestNames:
    """What they are made of is nobody's business."""

    @pytest.mark.parametrize("name", NAMES, ids=ascii)
    async def test_of_sessions_and_conversations(self, bridge: Bridge, name: str) -> None:
        session = await bridge.sessions.start(name, session_id=f"{name[:-2]}s", user=name)
        assert await bridge.sessions.get(session.id) is not None
        page = await bridge.sessions.list(conversation=name, user=name, status="active")
        assert [each.id for each in page.items] == [session.id]
        await bridge.conversations.set(name, session.id)
        assert await bridge.conversations.get(name) == session.id
        assert await bridge.conversations.get_or_create(name) == session.id
        await bridge.received(session, "hello", message_id=name)
        assert (await bridge.received(session, "hello", message_id=name)).duplicate
        asleep = await bridge.sessions.transition(session.id, "dormant")
        await bridge.received(asleep, "wake up")
        ended = await bridge.sessions.complete(session.id)
        assert (ended.status, ended.version) == ("completed", 4)
        assert len((await bridge.history(name)).entries) == 2
        assert await bridge.conversations.delete(name)

    @pytest.mark.parametrize("name", [each for each in NAMES if len(each) < 500], ids=ascii)
    async def test_of_users_and_chats(self, bridge: Bridge, name: str) -> None:
        for chat in (None, name, f"{name}!"):
            session = await bridge.sessions.resolve("telegram", name, chat)
            again = await bridge.sessions.resolve("telegram", name, chat)
            assert (again.id, again.user) == (session.id, name)
            assert session.conversation == f"telegram:{chat or name}"

    @pytest.mark.parametrize("name", ["x" * 512, "🦜" * 512], ids=ascii)
    async def test_of_callers_in_any_partition(self, bridge: Bridge, name: str) -> None:
        for number in range(8):
            chat, session_id = f"telegram:{number}", f"{number}{name[1:]}"
            await bridge.sessions.start(chat, session_id=session_id)
            found = await bridge.sessions.get(session_id)
            assert found is not None
            assert found.conversation == chat

    @pytest.mark.parametrize("name", ["x" * 513, ""], ids=["too long", "empty"])
    async def test_of_no_use_are_refused_before_anything_is_written(
        self, bridge: Bridge, name: str
    ) -> None:
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: bridge.sessions.start(session_id=name),
            lambda: bridge.sessions.start("chat", session_id=name),
            lambda: bridge.sessions.start(name),
            lambda: bridge.sessions.resolve("telegram", name),
            lambda: bridge.received(name, "hello"),
            lambda: bridge.send(name, "hello"),
            lambda: bridge.conversations.set(name, "s"),
            lambda: bridge.conversations.set("chat", name),
            lambda: bridge.conversations.compact("chat", name),
        ]
        for call in calls:
            with pytest.raises(InvalidEvent):
                await call()
        assert await entry_count(bridge.log) == 0

    async def test_stay_what_they_are_through_the_read_models(self, log: EventLog) -> None:
        bridge = Bridge(log, projections=None)
        for name in NAMES:
            await bridge.conversations.set(name, name)
            await bridge.sessions.start(name, session_id=name, project=name)
            await bridge.received(name, name)
        await Projector(log, DEFAULT_PROJECTIONS).run_until_caught_up()
        for name in NAMES:
            found = await bridge.sessions.get(name)
            assert found is not None
            assert (found.id, found.conversation, found.project) == (name, name, name)
            assert [each.id for each in (await bridge.sessions.list(project=name)).items] == [name]
            assert await bridge.conversations.get(name) == name
            [entry] = (await bridge.history(name)).entries
            assert entry.event.text == name


class TestTexts:
    """Every character comes back."""

    @pytest.mark.parametrize("text", TEXTS, ids=lambda text: f"{ascii(text)[:12]} {len(text)}")
    async def test_in_both_directions(self, bridge: Bridge, text: str) -> None:
        session = await bridge.sessions.resolve("telegram", 7, text=text)
        await bridge.received(session, text, metadata={"text": text})
        await bridge.sent(session, text)
        await bridge.send(session, text)
        page = await bridge.history(session)
        assert [entry.event.text for entry in page.entries] == [text, text]
        assert page.entries[0].event.metadata == {"text": text}
        found = await bridge.sessions.get(session.id)
        assert found is not None
        assert found.text == text

    async def test_beyond_the_limit_are_refused_with_advice(self, bridge: Bridge) -> None:
        with pytest.raises(EventTooLarge, match="reference"):
            await bridge.received("telegram:7", "x" * (1024 * 1024))
        assert await entry_count(bridge.log) == 0


class TestNoText:
    """Bytes, halves of characters and what else is no text: said by type, and nothing written."""

    @pytest.mark.parametrize(
        "bad", [b"\xff\xfe", b"hi", "\ud83e", "a\udc80b", None, 7, ["x"]], ids=repr
    )
    async def test_as_a_text(self, bridge: Bridge, bad: Any) -> None:
        session = await bridge.sessions.start()
        before = await entry_count(bridge.log)
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: bridge.received(session, bad),
            lambda: bridge.received("telegram:7", bad, message_id=1),
            lambda: bridge.sent(session, bad),
            lambda: bridge.send("telegram:7", bad),
        ]
        for call in calls:
            with pytest.raises(InvalidEvent):
                await call()
        assert await entry_count(bridge.log) == before
        assert not (await bridge.received("telegram:7", "good", message_id=1)).duplicate

    @pytest.mark.parametrize("bad", [b"\xff\xfe", b"hi", "\ud83e", "a\udc80b"], ids=repr)
    async def test_as_a_name(self, bridge: Bridge, bad: Any) -> None:
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: bridge.sessions.resolve("telegram", bad),
            lambda: bridge.sessions.resolve("telegram", 7, bad),
            lambda: bridge.sessions.resolve(bad, 7),
            lambda: bridge.sessions.resolve("telegram", 7, session_id=bad),
            lambda: bridge.sessions.start(session_id=bad),
            lambda: bridge.sessions.start("chat", session_id=bad),
            lambda: bridge.sessions.start(bad),
            lambda: bridge.sessions.get(bad),
            lambda: bridge.sessions.touch(bad),
            lambda: bridge.sessions.complete(bad),
            lambda: bridge.conversations.get(bad),
            lambda: bridge.conversations.set(bad, "s"),
            lambda: bridge.conversations.set("chat", bad),
            lambda: bridge.conversations.delete(bad),
            lambda: bridge.conversations.get_or_create(bad),
            lambda: bridge.conversations.compact("chat", bad),
            lambda: bridge.received(bad, "hello"),
            lambda: bridge.received("telegram:7", "hello", session=bad),
            lambda: bridge.history(bad),
        ]
        for call in calls:
            with pytest.raises(InvalidEvent):
                await call()
        assert await entry_count(bridge.log) == 0

    @pytest.mark.parametrize(
        "bad",
        [
            b"bytes",
            {"url": "s3://files/1"},
            Attachment(url="data:image/png;base64,AAAA"),
            Attachment(url="DATA:,x"),
        ],
        ids=repr,
    )
    async def test_files_are_referred_to_and_never_taken_in(self, bridge: Bridge, bad: Any) -> None:
        for call in (bridge.received, bridge.sent, bridge.send):
            with pytest.raises(InvalidEvent, match="object storage"):
                await call("telegram:7", "look", attachments=[bad])
        assert await entry_count(bridge.log) == 0
        await bridge.received("telegram:7", "look", attachments=[Attachment(url="s3://files/1")])
        [entry] = (await bridge.history("telegram:7")).entries
        assert entry.event.attachments == [Attachment(url="s3://files/1")]


class TestAlikes:
    """What looks alike is not the same."""

    async def test_messages_of_chats_and_ids_with_colons(self, bridge: Bridge) -> None:
        said = [
            ("a", "b:c"),
            ("a:b", "c"),
            ("a", "b%3Ac"),
            ("a:b", "%63"),
            ("a%3Ab", "c"),
            ("a", "b"),
            ("a", ":b"),
            ("a:", "b"),
            ("a", "1"),
            ("a", "01"),
            ("x" * 510, "1:2"),
            ("x" * 510 + ":1", "2"),
        ]
        for chat, message in said:
            result = await bridge.received(chat, "hello", message_id=message)
            assert not result.duplicate, (chat, message)
        for chat, message in said:
            assert (await bridge.received(chat, "hello", message_id=message)).duplicate
        assert (await bridge.received("a", "hello", message_id=1)).duplicate  # a number is its text

    async def test_members_of_groups_and_chats_of_such_names(self, bridge: Bridge) -> None:
        parts = ["", "1", "1:", ":1", "\0", "\0" + "1:1:1", "1\0", "4:a:b"]
        spots = [
            *((chat, user) for chat, user in itertools.product(parts[1:], [None, *parts])),
            ("a", "b:c"),
            ("a:b", "c"),
            ("\0" + "1:a:b", None),
            ("a", "b"),
        ]
        for number, (chat, user) in enumerate(spots):
            await bridge.conversations.set(chat, f"s{number}", user=user)
        for number, (chat, user) in enumerate(spots):
            assert await bridge.conversations.get(chat, user=user) == f"s{number}"

    async def test_chats_whose_names_are_what_members_are_kept_under(self, bridge: Bridge) -> None:
        partitions = set()
        for user in (str(n) for n in range(40)):  # enough that some are in one partition
            key = member_key("a", user)
            await bridge.conversations.set("a", "member's", user=user)
            await bridge.conversations.set(key, "chat's")
            assert await bridge.conversations.get("a", user=user) == "member's"
            assert await bridge.conversations.get(key) == "chat's"
            partitions.add(bridge.log.partition_of(key) == bridge.log.partition_of("a"))
        assert partitions == {True, False}

    async def test_users_of_platforms_and_chats(self, bridge: Bridge) -> None:
        asked: list[tuple[str, str, str | None]] = [
            ("a", "b:c", None),
            ("a", "b", "c"),
            ("a", "c", "b"),
            ("a", "b", "b:c"),
            ("a", "c", "b:c"),
            ("a", ":", None),
            ("a", "1", "11"),
            ("a", "11", "1"),
            ("A", "b", None),
            ("a", "B", None),
        ]
        found = [await bridge.sessions.resolve(*each) for each in asked]
        assert len({session.id for session in found}) == len(asked)
        with pytest.raises(InvalidEvent):  # its users could be another platform's
            await bridge.sessions.resolve("a:b", "c")

    async def test_sessions_and_conversations_of_one_name(self, bridge: Bridge) -> None:
        for name in ("same", "session:same", "conversation:same"):
            await bridge.conversations.set(name, "other")
            session = await bridge.sessions.start(name, session_id=name)
            assert session.version == 1
            await bridge.sessions.touch(name)
            assert (await bridge.sessions.complete(name, expected=2)).version == 3
            assert await bridge.conversations.get(name) == "other"


async def test_every_entry_can_be_read_as_it_was_written(log: EventLog) -> None:
    bridge = Bridge(log, projections=None)
    for name in NAMES:
        await bridge.received(name, name, sender=name, message_id=name)
    read = []
    for partition in range(log.partition_count):
        entries = await log.read(partition=partition, after=START, limit=1000)
        read += [entry.event for entry in entries]
    assert sorted(event.conversation for event in read) == sorted(NAMES)
    for event in read:
        name = event.conversation
        assert (event.text, event.sender, event.message_id) == (name, name, name)  # type: ignore[attr-defined]
