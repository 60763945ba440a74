"""Poison on a real server, met by projectors and by rebuilds: parked once, or stopped at."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from eventlog.entry import Entry
from eventlog.errors import ProjectionStopped
from eventlog.ids import EntryId
from eventlog.log import EventLog
from eventlog.vocabulary import MessageReceived
from projections.building.rebuilding import rebuild, rollback
from projections.building.verifying import verify
from projections.builtin import DEFAULT_PROJECTIONS
from projections.folding.letters import GROUP
from projections.folding.replay import state_at
from projections.projecting.projector import Projector
from projections.projection import DocumentProjection
from projections.reading.live import LiveDocuments
from projections.storing.batch import Commit, CommitOutcome
from projections.storing.redis_models import RedisModels
from projections.views.dead_letters import DeadLetters
from projections.views.history import History
from tests.building import entry_count, in_role, projecting, shelves_of
from tests.own_projections import LENGTHS, Length, Lenient, Mended, Strict, calls, poisoned, used
from tests.support import eventually


class SlowToCommit(RedisModels):
    """Read models whose commits let a fetch pass them, if one comes along soon."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self._fetched = asyncio.Event()

    async def documents(
        self, partition: int, wanted: Sequence[tuple[str, Sequence[str]]]
    ) -> list[list[bytes | None]]:
        found = await super().documents(partition, wanted)
        self._fetched.set()
        return found

    async def commit(self, commit: Commit) -> CommitOutcome:
        self._fetched.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._fetched.wait(), 0.03)
        return await super().commit(commit)


async def test_poison_in_many_batches_costs_the_other_entries_nothing(log: EventLog) -> None:
    texts = ["poison" if n % 50 == 49 else "ab" for n in range(600)]
    for start in range(0, 600, 100):
        chunk = texts[start : start + 100]
        await log.append([MessageReceived(conversation="chat", text=text) for text in chunk])
    await Projector(log, [LENGTHS], store=SlowToCommit(log)).run_until_caught_up()
    documents = LiveDocuments(log, LENGTHS)
    found = await documents.get(log.partition_of("chat"), "chat", "stored")
    assert found == Length("chat", 2 * 588)
    await Projector(log).run_until_caught_up()
    assert await DeadLetters(log).counts_by_reason() == {"poison": 12}


async def test_an_entry_that_is_no_event_is_parked_once_and_stops_nobody(log: EventLog) -> None:
    await log.append(MessageReceived(conversation="chat", text="before"))
    partition = log.partition_of("chat")
    head = (await log.heads())[partition]
    bad = EntryId(head.ms, head.n + 1)
    await log.client.xadd(log.keys.stream(partition), {"e": b"{broken"}, id=str(bad))
    await log.client.set(log.keys.head(partition), str(bad))
    await log.append(MessageReceived(conversation="chat", text="after"))
    await Projector(log).run_until_caught_up()
    await Projector(log).run_until_caught_up()
    assert await History(log).count("chat", consistency="stored") == 2
    [letter] = (await DeadLetters(log).list(group="projector", consistency="stored")).items
    assert (letter.reason, letter.origin) == ("poison", f"{partition}/{bad}")
    assert letter.error
    assert letter.error.startswith("UndecodablePayload")


async def test_poison_is_parked_once_however_often_it_is_folded(log: EventLog) -> None:
    lenient = Lenient()
    await log.append(poisoned())
    projections = [*DEFAULT_PROJECTIONS, lenient]
    await Projector(log, projections).run_until_caught_up()
    count = await entry_count(log)
    assert count == 88 + 8
    await rebuild(log, lenient)
    assert [each.difference async for each in verify(log, lenient)] == [None] * 4
    await state_at(log, lenient)
    assert await entry_count(log) == count
    assert await used(log, lenient) == {f"chat:{n}": 10 for n in range(8)}
    assert len((await DeadLetters(log).list(limit=50)).items) == 8


async def test_after_the_dedup_window_a_rebuild_parks_only_what_nobody_has_parked(
    log: EventLog,
) -> None:
    """Within the window the log itself knows a letter again; after it, only the serving build does."""
    lenient = Lenient()
    await log.append(poisoned())
    await Projector(log, [*DEFAULT_PROJECTIONS, lenient]).run_until_caught_up()
    await forget_ids(log)
    await rebuild(log, lenient)
    assert await entry_count(log) == 88 + 8, "all were parked before"
    await log.append(calls(8, name="poison", first=88))
    await rebuild(log, lenient)
    assert await entry_count(log) == 96 + 16, "the serving build had not come to these"
    await forget_ids(log)
    await rollback(log, lenient)
    assert await entry_count(log) == 96 + 16, "the serving build had, the previous one had not"
    await Projector(log, [*DEFAULT_PROJECTIONS, lenient]).run_until_caught_up()
    assert await entry_count(log) == 96 + 16
    assert await DeadLetters(log).counts_by_reason() == {"poison": 16}
    assert await used(log, lenient) == {f"chat:{n}": 10 for n in range(8)}


async def forget_ids(log: EventLog) -> None:
    """Forget which event ids were seen, as the end of the dedup window does."""
    for partition in range(log.partition_count):
        await log.client.delete(*log.keys.dedup(partition))


async def test_poison_of_a_first_build_is_parked_too(log: EventLog) -> None:
    lenient = Lenient()
    await log.append(poisoned())
    await Projector(log).run_until_caught_up()
    await rebuild(log, lenient)
    assert await DeadLetters(log).counts_by_reason() == {"poison": 8}


async def test_a_projection_that_stops_stops_alone_until_it_is_mended(log: EventLog) -> None:
    strict = Strict()
    await log.append(calls(40))
    projections = [*DEFAULT_PROJECTIONS, strict]
    await Projector(log, projections).run_until_caught_up()
    await log.append(poisoned()[40:])
    async with projecting(log, projections) as projector:
        with pytest.raises(ProjectionStopped, match="strict@1"):
            await projector.run_until_caught_up()

        async def others_go_on() -> bool:
            models = [model for each in await projector.status() for model in each.models]
            return not any(model.lag_count for model in models if model.name != "strict")

        await eventually(others_go_on)

        async def is_told() -> bool:
            errors = [each.last_error or "" for each in await projector.status() if each.lag_count]
            return bool(errors) and all("cannot take it" in error for error in errors)

        await eventually(is_told)
        assert await DeadLetters(log).counts_by_reason() == {}
    assert await used(log, strict) == {f"chat:{n}": 5 for n in range(8)}
    with pytest.raises(ProjectionStopped, match="strict@1"):
        await rebuild(log, strict)
    assert None not in await in_role(log, "strict", "building")
    mended = Mended()
    await rebuild(log, mended)
    assert await used(log, mended) == {f"chat:{n}": 11 for n in range(8)}
    await rollback(log, mended)
    assert await used(log, mended) == {f"chat:{n}": 11 for n in range(8)}


async def test_a_lost_group_is_made_again_where_the_serving_build_furthest_behind_stands(
    log: EventLog,
) -> None:
    """Whoever trims asks the group, and one that stopped has yet to fold what follows."""
    strict = Strict()
    await log.append(poisoned())
    projections = [*DEFAULT_PROJECTIONS, strict]
    with pytest.raises(ProjectionStopped):
        await Projector(log, projections).run_until_caught_up()
    await Projector(log).run_until_caught_up()
    partition = log.partition_of("chat:0")
    stream = log.keys.stream(partition)
    await log.client.xgroup_destroy(stream, GROUP)
    await Projector(log).run_until_caught_up()
    async with projecting(log):
        await eventually(lambda: log.client.xinfo_groups(stream))
    [group] = await log.client.xinfo_groups(stream)
    shelf = (await shelves_of(log))[partition]
    strict_build = shelf.get("strict", "serving")
    assert strict_build is not None
    assert EntryId.parse(group["last-delivered-id"]) <= shelf.checkpoint(strict_build)


class Counted(msgspec.Struct):
    count: int = 0


class Renamed(msgspec.Struct):
    count: str = ""


def counting(name: str, state_type: type) -> DocumentProjection[Any]:
    """A projection of one version whose state has the shape given."""

    class Counting(DocumentProjection[Any]):
        types = (MessageReceived,)

        def key(self, event: MessageReceived) -> str:
            return event.conversation

        def initial(self, _key: str) -> Any:
            return self.state_type()

        def apply(self, state: Any, _entry: Entry) -> Any:
            state.count += type(state.count)(1)
            return state

    Counting.name, Counting.state_type = name, state_type
    return Counting()


async def test_a_document_of_another_shape_stops_its_projection_alone(log: EventLog) -> None:
    chat = "chat:1"
    place = log.partition_of(chat)
    message = {"conversation": chat, "text": "hello"}
    await log.append(MessageReceived(**message))
    before = counting("shape", Counted)
    await Projector(log, [*DEFAULT_PROJECTIONS, before]).run_until_caught_up()
    await log.append(MessageReceived(**message))
    after = Projector(log, [*DEFAULT_PROJECTIONS, counting("shape", Renamed)])
    with pytest.raises(ProjectionStopped, match="Raise the projection's version"):
        await after.run_until_caught_up()

    async def only_it_lags() -> bool:
        lags = {model.name: model.lag_count for model in (await after.status())[place].models}
        return lags.pop("shape") == 1 and set(lags.values()) == {0}

    stop = asyncio.Event()
    running = asyncio.create_task(after.run(stop))
    await eventually(only_it_lags)
    stop.set()
    await running
    await Projector(log, [*DEFAULT_PROJECTIONS, before]).run_until_caught_up()
    found = await LiveDocuments(log, before).get(place, chat, "stored")
    assert found == Counted(2)


@pytest.mark.parametrize("what", ["key", "state"])
async def test_what_is_not_of_its_type_is_parked_not_stored(log: EventLog, what: str) -> None:
    class Odd(DocumentProjection[Counted]):
        name = "odd"
        types = (MessageReceived,)
        state_type = Counted

        def key(self, event: MessageReceived) -> Any:
            return 7 if what == "key" and event.text == "odd" else event.conversation

        def initial(self, _key: str) -> Counted:
            return Counted()

        def apply(self, state: Counted, entry: Entry) -> Any:
            event: Any = entry.event
            if what == "state" and event.text == "odd":
                return {"count": "seven"}
            state.count += 1
            return state

    texts = ["a", "odd", "b"]
    await log.append([MessageReceived(conversation="chat:1", text=text) for text in texts])
    await Projector(log, [*DEFAULT_PROJECTIONS, Odd()]).run_until_caught_up()
    documents = LiveDocuments(log, Odd())
    assert await documents.get(log.partition_of("chat:1"), "chat:1", "stored") == Counted(2)
    [letter] = (await DeadLetters(log).list(reason="poison")).items
    assert letter.error.startswith("TypeError" if what == "key" else "ValidationError")
    assert all([outcome.agrees async for outcome in verify(log, Odd())])


async def test_a_fold_that_fails_where_it_did_not_before_parks_what_it_leaves_out(
    log: EventLog,
) -> None:
    await log.append([MessageReceived(conversation="c", text=text) for text in "abc"])
    good = counting("changed", Counted)
    await Projector(log, [*DEFAULT_PROJECTIONS, good]).run_until_caught_up()

    class Bad(type(good)):  # type: ignore[misc]
        def apply(self, state: Any, entry: Any) -> Any:
            if entry.event.text == "b":
                raise ValueError("changed its mind")
            return super().apply(state, entry)

    await rebuild(log, Bad())
    [letter] = (await DeadLetters(log).list(reason="poison")).items
    assert letter.error == "ValueError: changed its mind"
