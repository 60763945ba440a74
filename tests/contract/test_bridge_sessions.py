"""Sessions and conversations as a bot calls them, one promise after the other."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from bridge import Bridge
from bridge.session_tail import SessionTail
from eventlog import (
    BridgeEvent,
    ConversationMapped,
    EventLog,
    MessageReceived,
    MessageSent,
    SessionStarted,
    SessionTransitioned,
)
from eventlog.entry import Entry
from eventlog.errors import (
    IllegalTransition,
    InvalidEvent,
    SessionExists,
    SessionMissing,
    VersionConflict,
)
from eventlog.vocabulary import SessionPlaced
from tests.bridging import another_program, elsewhere, events_of, records_of


@pytest.fixture
def bridge(log: EventLog) -> Bridge:
    return Bridge(log, owner="bot-1", projections=None)


class TestPerUser:
    """B1, B2."""

    async def test_a_returning_user_has_the_same_session_after_a_restart(
        self, bridge: Bridge
    ) -> None:
        first = await bridge.sessions.resolve("telegram", 7)
        assert (await bridge.sessions.resolve("telegram", 7)).id == first.id
        async with another_program(bridge.log) as restarted:
            again = await restarted.sessions.resolve("telegram", 7)
        assert (again.id, again.version, again.started_at) == (first.id, 1, first.started_at)
        assert (again.platform, again.user, again.conversation) == ("telegram", "7", "telegram:7")

    async def test_no_two_users_platforms_or_chats_share_one(self, bridge: Bridge) -> None:
        where = list(itertools.product(["telegram", "discord", "my-own"], [7, 8], [None, -100]))
        found = [await bridge.sessions.resolve(*each) for each in where]
        assert len({session.id for session in found}) == len(where)

    async def test_the_members_of_a_group_share_one_only_where_it_says_so(
        self, bridge: Bridge
    ) -> None:
        async def both(*, shared: bool) -> set[str]:
            return {
                (await bridge.sessions.resolve("telegram", user, -100, shared=shared)).id
                for user in (7, 8)
            }

        assert len(await both(shared=False)) == 2
        assert len(await both(shared=True)) == 1
        assert not await both(shared=True) & await both(shared=False)

    async def test_the_users_own_chat_is_where_they_are_without_one(self, bridge: Bridge) -> None:
        alone = await bridge.sessions.resolve("telegram", 7)
        assert (await bridge.sessions.resolve("telegram", "7", 7)).id == alone.id

    async def test_after_its_end_the_next_message_begins_another(self, bridge: Bridge) -> None:
        first = await bridge.sessions.resolve("telegram", 7)
        await bridge.sessions.complete(first.id)
        second = await bridge.sessions.resolve("telegram", 7)
        assert second.id != first.id
        assert await bridge.conversations.get("telegram:7") == second.id

    async def test_of_many_first_messages_in_two_programs_one_begins_it(
        self, bridge: Bridge
    ) -> None:
        async with another_program(bridge.log) as other:
            asked = (each.sessions.resolve("telegram", 7) for each in [bridge, other] * 20)
            found = await asyncio.gather(*asked)
        assert len({session.id for session in found}) == 1
        started = await events_of(bridge.log, "telegram:7")
        assert [type(each) for each in started] == [SessionStarted, ConversationMapped]

    @pytest.mark.parametrize("nobody", [None, ""])
    async def test_a_message_of_nobody_has_no_session(
        self, bridge: Bridge, nobody: str | None
    ) -> None:
        with pytest.raises(InvalidEvent):
            await bridge.sessions.resolve("telegram", nobody)  # type: ignore[arg-type]
        assert (await bridge.sessions.list()).items == []


class TestRecovery:
    """B3."""

    async def test_a_session_that_only_the_conversation_knows_is_made_again_with_a_warning(
        self, bridge: Bridge, caplog: pytest.LogCaptureFixture
    ) -> None:
        await bridge.conversations.set("telegram:7", "forgotten")
        session = await bridge.sessions.resolve("telegram", 7)
        assert (session.id, session.status, session.user) == ("forgotten", "active", "7")
        assert ["session_recreated" in each.getMessage() for each in caplog.records] == [True]
        assert caplog.records[0].levelname == "WARNING"
        [warning] = [e for e in await events_of(bridge.log, "telegram:7") if type(e) is BridgeEvent]
        assert (warning.event_type, warning.session) == ("session_recreated", "forgotten")
        assert (await bridge.sessions.resolve("telegram", 7)).id == "forgotten"
        assert len(await records_of(bridge.log, "forgotten")) == 1

    async def test_one_that_two_chats_know_is_made_again_once(self, bridge: Bridge) -> None:
        log = bridge.log
        chats = {log.partition_of(f"telegram:{n}"): n for n in range(50)}
        async with another_program(log) as other:
            for number, (one, two) in enumerate(itertools.permutations(chats.values(), 2)):
                lost = f"lost-{number}"
                await bridge.conversations.set(f"telegram:{one}", lost)
                await bridge.conversations.set(f"telegram:{two}", lost)
                found = await asyncio.gather(
                    bridge.sessions.resolve("telegram", one),
                    other.sessions.resolve("telegram", two),
                )
                assert [session.id for session in found] == [lost, lost]
                [record] = await records_of(log, lost)
                found_by_id = await bridge.sessions.get(lost)
                assert found_by_id is not None
                assert found_by_id.conversation == record.conversation


class TestSuppliedIds:
    """B4."""

    async def test_a_callers_id_in_any_chat_is_found_by_itself(self, bridge: Bridge) -> None:
        chats = [elsewhere(bridge.log, f"mine-{n}") for n in range(8)]
        for number, chat in enumerate(chats):
            await bridge.sessions.start(chat, session_id=f"mine-{number}", mode="job")
        async with another_program(bridge.log) as other:
            for number, chat in enumerate(chats):
                session = await other.sessions.get(f"mine-{number}")
                assert session is not None
                assert (session.conversation, session.mode) == (chat, "job")
                await other.sessions.touch(session.id)
                await other.sessions.complete(session.id)
        assert (await bridge.sessions.counts())["completed"] == len(chats)
        assert len((await bridge.sessions.list()).items) == len(chats)

    async def test_an_id_is_given_away_once_whichever_chats_want_it(self, bridge: Bridge) -> None:
        own = bridge.sessions
        async with another_program(bridge.log) as program:
            other = program.sessions
            for number in range(12):
                name = f"wanted-{number}"
                tried = await asyncio.gather(
                    own.start(elsewhere(bridge.log, name), session_id=name),
                    other.start(f"telegram:{number}", session_id=name),
                    other.start(session_id=name),
                    return_exceptions=True,
                )
                refused = [each for each in tried if isinstance(each, SessionExists)]
                assert len(refused) == 2, tried
                assert len(await records_of(bridge.log, name)) == 1
                with pytest.raises(SessionExists):
                    await own.start("telegram:99", session_id=name)

    async def test_a_claim_whose_program_died_is_taken_up_again_for_its_chat_alone(
        self, bridge: Bridge
    ) -> None:
        chat = elsewhere(bridge.log, "mine")
        await bridge.log.append(
            SessionPlaced(conversation="mine", session="mine", home=chat), expected_version=0
        )
        assert await bridge.sessions.get("mine") is None
        assert (await bridge.sessions.list()).items == []
        home = bridge.log.partition_of(chat)
        other_chat = elsewhere(bridge.log, "mine", lambda a, b: a not in (b, home))
        with pytest.raises(SessionExists):
            await bridge.sessions.start(other_chat, session_id="mine")
        await bridge.sessions.start(chat, session_id="mine")
        found = await bridge.sessions.get("mine")
        assert found is not None
        assert found.conversation == chat
        assert sum((await bridge.sessions.counts()).values()) == 1

    async def test_a_chat_resolves_to_a_callers_id_and_back_after_a_crash_in_between(
        self, bridge: Bridge
    ) -> None:
        chat = elsewhere(bridge.log, "mine")
        user = chat.removeprefix("telegram:")
        # A program that died between starting the session and mapping the chat to it.
        await bridge.sessions.start(chat, session_id="mine", user=user)
        session = await bridge.sessions.resolve("telegram", user, session_id="mine")
        assert session.id == await bridge.conversations.get(chat) == "mine"

    async def test_who_names_an_id_and_who_does_not_get_the_same_session(
        self, bridge: Bridge
    ) -> None:
        async with another_program(bridge.log) as other:
            for user in range(20):
                found = await asyncio.gather(
                    bridge.sessions.resolve("telegram", user, session_id=f"mine-{user}"),
                    other.sessions.resolve("telegram", user, session_id=f"yours-{user}"),
                    other.sessions.resolve("telegram", user),
                )
                [session] = {each.id for each in found}
                assert await bridge.conversations.get(f"telegram:{user}") == session

    async def test_no_two_members_get_one_session_by_one_id(self, bridge: Bridge) -> None:
        await bridge.sessions.resolve("telegram", 7, -100, session_id="mine")
        with pytest.raises(SessionExists):
            await bridge.sessions.resolve("telegram", 8, -100, session_id="mine")
        assert await bridge.conversations.get("telegram:-100", user="8") is None

    async def test_an_id_that_was_mentioned_before_starts_where_it_is_started(
        self, bridge: Bridge
    ) -> None:
        name = "mentioned"
        same = (n for n in range(1000) if bridge.log.partition_of(f"telegram:{n}") == 0)
        here, there = f"telegram:{next(same)}", f"telegram:{next(same)}"
        await bridge.received(here, "about it", session=name)
        assert await bridge.sessions.get(name) is None
        started = await bridge.sessions.start(there, session_id=name)
        assert started.conversation == there
        assert [each.id for each in (await bridge.sessions.list(conversation=there)).items] == [
            name
        ]
        assert (await bridge.sessions.list(conversation=here)).items == []

    async def test_history_is_as_long_as_the_settings_say_for_a_mode(self, log: EventLog) -> None:
        async with Bridge.open(
            log.server_url,
            key_prefix=log.settings.key_prefix,
            projections=None,
            chat_history_messages=3,
            job_history_messages=2,
        ) as bridge:
            chat = await bridge.sessions.resolve("telegram", 7)
            job = await bridge.sessions.start(mode="job")
            for session, number in itertools.product([chat, job], range(5)):
                await bridge.received(session, str(number))
            for where, count in [(chat, 3), (chat.conversation, 3), (job, 2)]:
                page = await bridge.history(where)
                texts = [entry.event.text for entry in page.entries]
                assert texts == [str(n) for n in range(5 - count, 5)]
            assert len((await bridge.history(job, limit=4)).entries) == 4


class TestFlow:
    """C1, C2."""

    async def test_message_session_agent_answer_are_recorded_in_that_order(
        self, bridge: Bridge
    ) -> None:
        seen_by_agent: list[str] = []

        async def agent(session_id: str) -> str:
            entries = await events_of(bridge.log, "telegram:7")
            seen_by_agent.extend(type(each).__name__ for each in entries)
            found = await bridge.sessions.get(session_id)
            assert found is not None
            assert found.message_count == 1
            return "hello yourself"

        got = await bridge.receive("telegram", 7, "hello", message_id=991, request_id="r1")
        assert got is not None
        await bridge.sent(got.session, await agent(got.session.id), message_id=992)
        assert seen_by_agent == ["SessionStarted", "ConversationMapped", "MessageReceived"]
        inbound, outbound = (await events_of(bridge.log, "telegram:7"))[-2:]
        assert isinstance(inbound, MessageReceived)
        assert isinstance(outbound, MessageSent)
        assert (inbound.session, inbound.sender, inbound.message_id) == (got.session.id, "7", "991")
        assert (inbound.platform, inbound.correlation_id) == ("telegram", "r1")
        assert (outbound.session, outbound.text) == (got.session.id, "hello yourself")
        found = await bridge.sessions.get(got.session.id)
        assert found is not None
        assert found.message_count == 2
        assert found.last_activity_at == outbound.occurred_at

    async def test_what_the_platform_delivers_twice_is_recorded_once(self, bridge: Bridge) -> None:
        async with another_program(bridge.log) as other:
            got = await asyncio.gather(
                *(each.receive("telegram", 7, "hi", message_id=1) for each in (bridge, other))
            )
        assert sorted(each.result.duplicate for each in got if each) == [False, True]
        page = await bridge.history("telegram:7")
        assert [entry.event.text for entry in page.entries] == ["hi"]

    async def test_two_chats_in_one_session_keep_their_messages_apart(self, bridge: Bridge) -> None:
        session = await bridge.sessions.resolve("web", 9)
        for user in (1, 2):
            await bridge.conversations.set(f"telegram:{user}", session.id)
        for user in (1, 2):
            got = await bridge.receive("telegram", user, f"of {user}", message_id=5)
            assert got is not None
            assert (got.session.id, got.result.duplicate) == (session.id, False)
        for user in (1, 2):
            page = await bridge.history(f"telegram:{user}")
            assert [entry.event.text for entry in page.entries] == [f"of {user}"]

    async def test_lists_find_sessions_by_what_is_known_of_them(self, bridge: Bridge) -> None:
        sessions = bridge.sessions
        one = await sessions.start("telegram:1", project="p", user="u", platform="telegram")
        two = await sessions.start("telegram:1", project="q", user="u", status="pending")
        three = await sessions.start(project="p", owner="bot-2")

        async def found(**words: str) -> set[str]:
            return {each.id for each in (await sessions.list(**words)).items}  # type: ignore[arg-type]

        assert await found() == {one.id, two.id, three.id}
        assert await found(conversation="telegram:1") == {one.id, two.id}
        assert await found(conversation="telegram:1", status="active") == {one.id}
        assert await found(project="p") == {one.id, three.id}
        assert await found(user="u", project="q") == {two.id}
        assert await found(owner="bot-2") == {three.id}
        assert await found(status="completed") == set()

    async def test_pages_have_every_session_once(self, bridge: Bridge) -> None:
        made = {(await bridge.sessions.start(f"telegram:{n}")).id for n in range(23)}
        listed: list[str] = []
        cursor = None
        while True:
            page = await bridge.sessions.list(status="active", limit=4, cursor=cursor)
            listed += [each.id for each in page.items]
            cursor = page.cursor
            if cursor is None:
                break
        assert len(listed) == 23
        assert set(listed) == made


class TestSleep:
    """C3, A4."""

    async def test_shutdown_puts_the_owners_sessions_to_sleep_and_no_others(
        self, bridge: Bridge
    ) -> None:
        mine = [await bridge.sessions.resolve("telegram", user) for user in range(5)]
        await bridge.sessions.complete(mine[0].id)
        waiting = await bridge.sessions.start(status="pending")
        created = await bridge.conversations.get_or_create("web:1")
        async with another_program(bridge.log, "bot-2") as other:
            theirs = await other.sessions.resolve("discord", 1)
            taken_over = await other.sessions.resume(
                (await bridge.sessions.transition(mine[1].id, "dormant")).id
            )
            assert taken_over.owner == "bot-2"
            assert await bridge.sessions.dormant_all() == 4
            assert await bridge.sessions.dormant_all() == 0
            statuses = [
                (await other.sessions.get(name)).status  # type: ignore[union-attr]
                for name in (*(each.id for each in mine), waiting.id, created, theirs.id)
            ]
        assert statuses == [
            "completed",
            "active",
            "dormant",
            "dormant",
            "dormant",
            "pending",
            "dormant",
            "active",
        ]

    async def test_more_than_a_page_falls_asleep(
        self, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bridge.sessions.DORMANT_PAGE_SESSIONS", 3)
        for user in range(11):
            await bridge.sessions.resolve("telegram", user)
        assert await bridge.sessions.dormant_all() == 11
        assert (await bridge.sessions.counts())["dormant"] == 11

    async def test_a_message_wakes_its_session_in_the_same_step(self, bridge: Bridge) -> None:
        session = await bridge.sessions.resolve("telegram", 7)
        asleep = await bridge.sessions.transition(session.id, "dormant")
        result = await bridge.received(asleep, "good morning")
        woken, message = (await events_of(bridge.log, "telegram:7"))[-2:]
        assert isinstance(woken, SessionTransitioned)
        assert isinstance(message, MessageReceived)
        assert (woken.from_status, woken.to_status, woken.owner) == ("dormant", "active", "bot-1")
        [*_, before, last] = await bridge.log.read(conversation="telegram:7")
        assert last.id == result.id
        assert before.id.ms == last.id.ms  # entries of one step
        found = await bridge.sessions.get(session.id)
        assert found is not None
        assert (found.status, found.message_count) == ("active", 1)

    async def test_two_messages_at_once_wake_it_once_and_both_are_there(
        self, bridge: Bridge
    ) -> None:
        session = await bridge.sessions.resolve("telegram", 7)
        asleep = await bridge.sessions.transition(session.id, "dormant")
        async with another_program(bridge.log, "bot-2") as other:
            await asyncio.gather(
                *(each.received(asleep, str(n)) for n, each in enumerate([bridge, other] * 4))
            )
        kinds = [type(each) for each in await events_of(bridge.log, "telegram:7")]
        assert kinds.count(SessionTransitioned) == 2  # asleep, awake
        assert kinds.count(MessageReceived) == 8
        found = await bridge.sessions.get(session.id)
        assert found is not None
        assert (found.status, found.version, found.message_count) == ("active", 3, 8)

    async def test_a_message_after_the_end_is_recorded_and_wakes_nobody(
        self, bridge: Bridge
    ) -> None:
        session = await bridge.sessions.resolve("telegram", 7)
        asleep = await bridge.sessions.transition(session.id, "dormant")
        await bridge.sessions.fail(session.id, "gone")
        assert not (await bridge.received(asleep, "hello?")).duplicate
        found = await bridge.sessions.get(session.id)
        assert found is not None
        assert (found.status, found.message_count) == ("failed", 1)


class TestTail:
    """What happens in a session, as it happens."""

    async def collect(self, tail: SessionTail) -> list[str]:
        async def all_of_it() -> list[Entry]:
            return [entry async for entry in tail]

        return [entry.event.type for entry in await asyncio.wait_for(all_of_it(), 10)]

    async def test_it_has_what_comes_in_its_session_alone_and_ends_with_it(
        self, bridge: Bridge
    ) -> None:
        session = await bridge.sessions.resolve("telegram", 7)
        neighbour = await bridge.sessions.start("telegram:7")
        tail = await bridge.sessions.tail(session.id)
        collecting = asyncio.create_task(self.collect(tail))
        await bridge.received(session, "one")
        await bridge.received(neighbour, "not this")
        await bridge.sessions.complete(neighbour.id)
        await bridge.sent(session, "two")
        await bridge.sessions.transition(session.id, "dormant")
        await bridge.sessions.complete(session.id)
        await bridge.received(session, "after the end")
        moved = "session.transitioned"
        assert await collecting == ["message.received", "message.sent", moved, moved]

    async def test_it_resumes_after_each_entry_also_once_the_session_has_ended(
        self, bridge: Bridge
    ) -> None:
        session = await bridge.sessions.resolve("telegram", 7)
        tail = await bridge.sessions.tail(session.id)
        cursors = [str(tail.cursor)]
        for n in range(3):
            await bridge.received(session, str(n))
            await anext(tail)
            cursors.append(str(tail.cursor))
        await bridge.sessions.complete(session.id)
        await bridge.received("telegram:7", "not of the session")
        told = [
            await self.collect(await bridge.sessions.tail(session.id, cursor)) for cursor in cursors
        ]
        every = [*["message.received"] * 3, "session.transitioned"]
        assert told == [every[n:] for n in range(4)]

    async def test_of_what_has_ended_there_is_no_more(self, bridge: Bridge) -> None:
        session = await bridge.sessions.start()
        tail = await bridge.sessions.tail(session.id)
        await bridge.sessions.complete(session.id)
        await self.collect(tail)
        assert await self.collect(await bridge.sessions.tail(session.id, str(tail.cursor))) == []
        assert await self.collect(await bridge.sessions.tail(session.id)) == []

    async def test_of_what_is_not_there_there_is_none(self, bridge: Bridge) -> None:
        with pytest.raises(SessionMissing):
            await bridge.sessions.tail("nobody's")


class TestConversations:
    """E1, E2."""

    async def test_get_set_exists_delete_clear(self, bridge: Bridge) -> None:
        conversations = bridge.conversations
        assert await conversations.get("a:b:c") is None
        assert not await conversations.exists("a:b:c")
        await conversations.set("a:b:c", "one")
        await conversations.set("a:b:c", "two")
        async with another_program(bridge.log) as other:
            assert await other.conversations.get("a:b:c") == "two"
            assert await other.conversations.exists("a:b:c")
            assert await other.conversations.delete("a:b:c")
        assert await conversations.get("a:b:c") is None
        assert not await conversations.delete("a:b:c")
        await conversations.set("a:b:c", "three")
        assert await conversations.clear("a:b:c")
        assert not await conversations.clear("a:b:c")

    async def test_of_two_who_delete_one_had_it(self, bridge: Bridge) -> None:
        async with another_program(bridge.log) as other:
            for n in range(10):
                await bridge.conversations.set(f"c:{n}", "s")
                deleted = await asyncio.gather(
                    *(each.conversations.delete(f"c:{n}") for each in (bridge, other))
                )
                assert sorted(deleted) == [False, True]

    async def test_compacting_goes_on_in_a_fresh_session_and_keeps_the_old_one(
        self, bridge: Bridge
    ) -> None:
        old = await bridge.sessions.resolve("telegram", 7, project="p")
        fresh = await bridge.conversations.compact("telegram:7")
        assert fresh != old.id
        resolved = await bridge.sessions.resolve("telegram", 7)
        assert (resolved.id, resolved.project, resolved.user) == (fresh, "p", "7")
        kept = await bridge.sessions.get(old.id)
        assert kept is not None
        assert kept.status == "active"
        assert await bridge.conversations.compact("telegram:7", "mine") == "mine"
        assert await bridge.conversations.get("telegram:7") == "mine"

    async def test_get_or_create_gives_what_is_mapped_while_it_lives(self, bridge: Bridge) -> None:
        made = await bridge.conversations.get_or_create("web:1")
        assert await bridge.conversations.get_or_create("web:1") == made
        assert await bridge.sessions.get(made) is not None

    @pytest.mark.parametrize("stale", ["unknown", "ended"])
    async def test_a_stale_mapping_is_removed_and_one_new_session_made(
        self, bridge: Bridge, stale: str
    ) -> None:
        async with another_program(bridge.log) as other:
            for n in range(8):
                chat = f"web:{n}"
                if stale == "ended":
                    await bridge.conversations.get_or_create(chat)
                    session = await bridge.conversations.get(chat)
                    assert session is not None
                    await bridge.sessions.complete(session)
                else:
                    await bridge.conversations.set(chat, f"nobody's-{n}")
                before = await bridge.conversations.get(chat)
                found = await asyncio.gather(
                    *(each.conversations.get_or_create(chat) for each in [bridge, other] * 2)
                )
                assert len(set(found)) == 1
                assert found[0] not in (before, None)
                assert await bridge.conversations.get(chat) == found[0]
        assert (await bridge.sessions.counts())["active"] == 8

    async def test_who_knows_better_says_whether_it_exists_and_what_to_create(
        self, bridge: Bridge
    ) -> None:
        memory = {"kept"}

        async def exists(session: str) -> bool:
            return session in memory

        async def create() -> str:
            memory.add("created")
            return "created"

        await bridge.conversations.set("web:1", "kept")
        await bridge.conversations.set("web:2", "forgotten")

        async def found(chat: str) -> str:
            return await bridge.conversations.get_or_create(chat, exists=exists, create=create)

        assert await found("web:1") == "kept"
        assert memory == {"kept"}
        assert await found("web:2") == await found("web:2") == "created"


class TestErrors:
    """What cannot be done is said by type."""

    async def test_of_a_session_that_is_not_there(self, bridge: Bridge) -> None:
        sessions = bridge.sessions
        assert await sessions.get("nobody's") is None
        for call in (sessions.touch, sessions.complete, sessions.fail, sessions.resume):
            with pytest.raises(SessionMissing):
                await call("nobody's")

    async def test_of_a_version_that_is_not_the_current_one(self, bridge: Bridge) -> None:
        session = await bridge.sessions.start()
        await bridge.sessions.touch(session.id)
        with pytest.raises(VersionConflict) as caught:
            await bridge.sessions.complete(session.id, expected=session.version)
        assert (caught.value.expected_version, caught.value.actual_version) == (1, 2)

    async def test_of_an_end_that_is_final(self, bridge: Bridge) -> None:
        session = await bridge.sessions.start()
        await bridge.sessions.fail(session.id, "why")
        with pytest.raises(IllegalTransition) as caught:
            await bridge.sessions.resume(session.id)
        assert (caught.value.from_status, caught.value.to_status) == ("failed", "active")
        with pytest.raises(IllegalTransition):
            await bridge.sessions.touch(session.id)
