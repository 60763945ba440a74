"""What is idle leaves Redis once it is archived, and every call answers as before."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bridge.transcripts import TranscriptStore
from bridge.values import ValueStore
from eventlog.errors import HistoryGap, IllegalTransition, LogUnavailable, SessionExists
from eventlog.past import Stretch
from eventlog.vocabulary import BridgeEvent, MessageReceived
from projections.building.rebuilding import drop, rebuild
from projections.builtin import DEFAULT_PROJECTIONS
from projections.folding.leaving import Leaving
from projections.folding.pipeline import BeginAnew
from projections.projecting.projector import Projector
from projections.storing.batch import Commit, CommitOutcome
from projections.storing.redis_models import RedisModels
from projections.views.activity import ACTIVITY_CONVERSATIONS
from projections.views.sessions import SESSIONS
from tests.building import projecting
from tests.leaving import Dying, World, program_of, world_on
from tests.projecting import oracle, random_events
from tests.support import eventually

CHATS = [f"chat:{n}" for n in range(7)]


@pytest.fixture
async def world(server_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with world_on(server_url, tmp_path, chat_history_limit=20) as made:
        yield made


async def left_of(world: World, answers: dict[str, Any]) -> bool:
    """Return whether all that may leave has left: what is live stays."""
    stored = await world.stored()
    live = [s for s in answers["sessions"].values() if s["status"] in ("pending", "active")]
    parked = [k for k in answers["letters"].values() if k["status"] in ("parked", "replaying")]
    del stored["activity_totals"], stored["conversations"]  # those stay that a live session keeps
    return dict(stored) == {
        name: count
        for name, count in (("sessions", len(live)), ("dead_letters", len(parked)))
        if count
    }


async def test_what_is_idle_and_archived_leaves_redis_and_is_answered_as_before(
    world: World,
) -> None:
    events = random_events(random.Random(1), 600)
    await world.log.append([*events])
    await world.project()
    before = await world.answers(CHATS)
    assert before == oracle(events, 10_000)
    await world.archive()
    async with projecting(world.log, past=world.past):
        await eventually(lambda: left_of(world, before))
    assert await world.answers(CHATS) == before
    await world.verify()

    more = random_events(random.Random(2), 1200)[600:]
    await world.log.append([*more])
    expected = oracle([*events, *more], 10_000)
    assert await world.answers(CHATS) == expected  # over what left, the tail
    await world.project()
    assert await world.answers(CHATS) == expected  # what came back
    await world.verify()
    await world.let_go()
    assert await left_of(world, expected)
    assert await world.answers(CHATS) == expected
    await world.verify()


async def test_nothing_leaves_that_is_not_archived_or_not_idle_or_where_the_setting_is_0(
    world: World, server_url: str, tmp_path: Path
) -> None:
    old = random_events(random.Random(1), 60)
    await world.log.append([*old])
    await world.project()
    before = await world.stored()
    for partition in range(2):
        await (await world.leaving(partition)).whole_pass()
    assert await world.stored() == before
    await world.archive()
    await world.log.append([MessageReceived(conversation="chat:0", text="now")])
    await world.let_go()
    assert (await world.stored())["history"] == 1
    async with world_on(server_url, tmp_path / "never", hot_s=0) as never:
        await never.log.append([*old])
        await never.project()
        await never.archive()
        kept = await never.stored()
        await Projector(never.log, past=never.past).run_until_caught_up()
        assert await never.stored() == kept


class TestSessions:
    async def test_an_ended_session_that_left_is_found_listed_and_stays_ended(
        self, world: World
    ) -> None:
        async with program_of(world) as bridge:
            ended = [await bridge.sessions.start(f"telegram:{n}", project="p") for n in range(25)]
            for session in ended:
                await bridge.sessions.complete(session)
            before = await bridge.sessions.get(ended[3].id)
            world.later()
            await world.let_go()
            assert (await world.stored())["sessions"] == 0
            assert await bridge.sessions.get(ended[3].id) == before
            live = await bridge.sessions.start("telegram:0", project="p")
            await world.project()
            found, cursor = [], None
            while True:
                page = await bridge.sessions.list(project="p", limit=7, cursor=cursor)
                found += [each.id for each in page.items]
                cursor = page.cursor
                if cursor is None:
                    break
            # By activity, of which some may be of one millisecond: the live one is the latest.
            assert found[0] == live.id
            assert sorted(found[1:]) == sorted(each.id for each in ended)
            completed = await bridge.sessions.list(status="completed", limit=100)
            assert len(completed.items) == 25
            counts = await bridge.sessions.counts()
            assert (counts["completed"], counts["active"]) == (25, 1)
            with pytest.raises(SessionExists):
                await bridge.sessions.start("telegram:3", session_id=ended[3].id)
            with pytest.raises(IllegalTransition):
                await bridge.sessions.resume(ended[3].id)
            assert (await bridge.sessions.complete(ended[3].id)).version == 2
            await world.log.append(BridgeEvent(conversation="telegram:3", session=ended[3].id,
                                               event_type="late"))  # fmt: skip
            await world.project()
            assert (await bridge.sessions.counts())["completed"] == 25
            assert (await bridge.sessions.get(ended[3].id)).status == "completed"
        await world.verify()

    async def test_a_chat_that_comes_back_goes_on_in_its_session(self, world: World) -> None:
        async with program_of(world) as bridge:
            session = await bridge.sessions.resolve("telegram", 7, mode="chat")
            await bridge.received(session, "hello", message_id=1)
            await bridge.sessions.dormant_all()
            ended = await bridge.sessions.resolve("telegram", 8)
            await bridge.sessions.complete(ended)
            world.later()
            await world.let_go()
            stored = await world.stored()
            assert not stored["sessions"] + stored["conversations"] + stored["history"]
        async with program_of(world) as another:
            assert await another.conversations.get("telegram:7") == session.id
            again = await another.sessions.resolve("telegram", 7)
            assert (again.id, again.status) == (session.id, "dormant")
            await another.received(again, "back", message_id=2)
            following = await another.sessions.resolve("telegram", 8)
            assert following.id != ended.id
            for _ in range(2):  # before it is projected, and after
                [first, second] = (await another.history("telegram:7")).entries
                assert (first.event.text, second.event.text) == ("hello", "back")  # type: ignore[attr-defined]
                assert (await another.sessions.get(session.id)).status == "active"
                assert await another.conversations.get("telegram:8") == following.id
                await world.project()
        await world.verify()

    async def test_a_mapping_stays_as_long_as_its_session_does(self, world: World) -> None:
        async with program_of(world) as bridge:
            session = await bridge.sessions.resolve("telegram", 7)
            world.later()
            await bridge.received(session, "still here")
            await world.let_go()
            assert (await world.stored())["conversations"] == 1


async def test_transcripts_values_and_tickets_leave_and_come_back(world: World) -> None:
    transcripts, values = TranscriptStore(world.log, past=world.past), ValueStore(world.log)
    async with program_of(world) as bridge:
        ticket = await bridge.tickets.start("T-1", "why?")
        await bridge.tickets.complete(ticket)
        await transcripts.append("telegram:7", "main", [1, 2, 3])
        await values.replace("telegram:7", "order", {"size": "large"})
        state, chat = await bridge.tickets.state(ticket), await bridge.tickets.chat(ticket)
        world.later()
        await world.let_go()
        stored = await world.stored()
        del stored["activity_totals"]
        assert not stored.total(), stored
        assert await bridge.tickets.state(ticket) == state
        assert await bridge.tickets.chat(ticket) == chat
        assert [each.id for each in (await bridge.tickets.history("T-1")).items] == [ticket]
        assert (await transcripts.items("telegram:7", "main")).items == [1, 2, 3]
        assert [each.name for each in (await transcripts.list()).items] == ["main"]
        assert await transcripts.pop("telegram:7", "main") == 3
        assert await values.get("telegram:7", "order") == {"size": "large"}
        await values.replace("telegram:7", "order", {})
        await world.project()
        assert (await transcripts.items("telegram:7", "main")).items == [1, 2]
        for _ in range(2):  # deleted while an older one is in the file, and when that is let go of
            assert await values.get("telegram:7", "order") == {}
            await world.verify()
            world.later()
            await world.let_go()
        assert not (await world.stored())["values"]


class TestFaults:
    async def test_who_dies_midway_leaves_behind_what_still_counts_as_there(
        self, world: World
    ) -> None:
        events = random_events(random.Random(3), 300)
        await world.log.append([*events[:200]])
        with pytest.raises(LogUnavailable):
            await world.let_go(Dying(world.log))
        assert await world.answers(CHATS) == oracle(events[:200], 10_000)
        await world.log.append([*events[200:]])
        expected = oracle(events, 10_000)
        assert await world.answers(CHATS) == expected
        await world.let_go()
        assert await left_of(world, expected)
        assert await world.answers(CHATS) == expected
        await world.verify()

    async def test_what_changed_since_it_was_read_stays(self, world: World) -> None:
        """The owner pauses; another takes over, folds a message, lets it go; then it wakes up."""
        await world.log.append(random_events(random.Random(3), 100))
        await world.project()
        await world.archive()
        paused = Pausing(world.log)
        for partition in range(2):
            leaving = await world.leaving(partition, paused)
            paused.meanwhile = lambda: self._take_over(world)
            await leaving.whole_pass()
        assert not paused.left
        after = await world.answers(CHATS)
        assert after["totals"]["bridge.event:meanwhile"] >= 1
        await world.verify()

    @staticmethod
    async def _take_over(world: World) -> None:
        await world.log.append(
            [BridgeEvent(conversation=c, event_type="meanwhile", occurred_at=1) for c in CHATS]
        )
        await world.let_go()

    async def test_a_departure_that_was_given_up_and_comes_late_is_noticed(
        self, world: World
    ) -> None:
        """Its owner goes on under the same lease, with documents in hand that are gone then."""
        events = random_events(random.Random(3), 200)
        await world.log.append([*events[:100]])
        await world.project()
        await world.archive()
        late = Late(world.log)
        first = await world.pipeline(0, late)
        with pytest.raises(LogUnavailable):
            await Leaving(world.log, late, world.past, first).whole_pass()
        await world.log.append([*events[100:]])
        entries = await world.log.read_raw(0, first.position, 50)
        second = await world.pipeline(0, late, first.lease)
        await second.put(Stretch(entries, entries[-1].id))
        with pytest.raises(BeginAnew):
            await second.flush()
        assert late.has_arrived
        expected = oracle(events, 10_000)
        assert await world.answers(CHATS) == expected
        await world.project()
        assert await world.answers(CHATS) == expected
        await world.verify()

    async def test_a_lost_file_is_told_and_a_rebuild_makes_up_for_it(self, world: World) -> None:
        events = random_events(random.Random(3), 100)
        await world.log.append([*events])
        await world.let_go()
        [file] = (world.log.settings.archive_path / "departed").iterdir()
        file.unlink()
        with pytest.raises(HistoryGap, match="departed"):
            await world.answers(CHATS)
        await world.let_go()
        assert not file.exists(), "another is not begun in its place"
        await world.log.append([BridgeEvent(conversation=c, event_type="new") for c in CHATS])
        with pytest.raises(HistoryGap, match="departed"):
            await Projector(world.log).run_until_caught_up()
        for projection in DEFAULT_PROJECTIONS:
            await rebuild(world.log, projection, past=world.past)
            await drop(world.log, projection.name)
        told = await world.answers(CHATS)
        assert told["sessions"] == oracle(events)["sessions"]
        await world.verify()


class Late(RedisModels):
    """Read models in which what leaves is given up, and arrives before the next commit."""

    has_arrived = False
    _given_up: tuple[Sequence[str], bytes] | None = None

    async def _run(self, script: Any, keys: Sequence[str], packed: bytes) -> Any:
        if script is self._leave:
            self._given_up = keys, packed
            raise LogUnavailable("it was given up")
        return await super()._run(script, keys, packed)

    async def commit(self, commit: Commit) -> CommitOutcome:
        assert self._given_up is not None
        self.has_arrived = bool(await super()._run(self._leave, *self._given_up))
        return await super().commit(commit)


class Pausing(RedisModels):
    """Read models whose owner pauses before it notes what leaves."""

    left = False
    meanwhile: Any = None

    async def leave(self, leave: Any) -> bool:
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        self.left |= await super().leave(leave)
        return self.left


async def test_a_rebuild_ends_with_what_is_live_and_forgets_what_the_old_build_let_go(
    world: World,
) -> None:
    events = random_events(random.Random(5), 300)
    await world.log.append([*events])
    await world.let_go()
    for projection in (SESSIONS, ACTIVITY_CONVERSATIONS):
        await rebuild(world.log, projection, past=world.past)
        await drop(world.log, projection.name)
    await world.let_go()
    expected = oracle(events, 10_000)
    assert await left_of(world, expected)
    assert await world.answers(CHATS) == expected
    await world.verify()


async def test_what_left_is_erased_like_the_rest_and_does_not_come_back(world: World) -> None:
    async with program_of(world) as bridge:
        for user in (7, 8):
            session = await bridge.sessions.resolve(
                "telegram", user, metadata={"name": f"badger-{user}"}
            )
            await bridge.received(session, f"my secret is badger-{user}", message_id=1)
            await bridge.sessions.complete(session)
        world.later()
        await world.let_go()
        [file] = (world.log.settings.archive_path / "departed").iterdir()
        assert b"badger-7" in file.read_bytes()
        await bridge.erase(user=7, platform="telegram", reason="asked")
        for _ in range(2):
            found = (await bridge.history("telegram:7")).entries
            assert [entry.event.is_erased for entry in found] == [True]
            assert b"badger-7" not in file.read_bytes()
            assert "badger-8" in str((await bridge.history("telegram:8")).entries)
            await world.let_go()
    await world.verify()
