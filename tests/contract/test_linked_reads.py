"""A conversation and its session in one live read, whoever projects, overtakes or swaps meanwhile."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest

from bench.round_trips import counted_round_trips
from eventlog import (
    ConversationCleared,
    ConversationMapped,
    EventLog,
    SessionStarted,
    SessionTouched,
)
from eventlog.event import Event
from eventlog.vocabulary import conversation_entity
from projections.building.rebuilding import rebuild
from projections.projecting.projector import Projector
from projections.projection import Projection
from projections.reading.linked import Link, LinkedDocuments
from projections.reading.live import LiveDocuments
from projections.storing.redis_models import RedisModels
from projections.storing.store import LinkedReply, LinkedRequest
from projections.views.conversations import CONVERSATIONS, Conversation
from projections.views.sessions import SESSIONS, Session
from tests.building import trim
from tests.projecting import chats_of, random_events

CHAT = "chat:1"


class Interrupted(RedisModels):
    """Read models of which something happens right after the first reply."""

    def __init__(self, log: EventLog, happening: Callable[[], Awaitable[object]]) -> None:
        super().__init__(log)
        self._happening: Callable[[], Awaitable[object]] | None = happening

    async def read_linked(self, partition: int, request: LinkedRequest) -> LinkedReply:
        reply = await super().read_linked(partition, request)
        if self._happening is not None:
            happening, self._happening = self._happening, None
            await happening()
        return reply


def links(
    log: EventLog, store: RedisModels | None = None
) -> LinkedDocuments[Conversation, Session]:
    return LinkedDocuments(log, CONVERSATIONS, "session", SESSIONS, store)


async def read(
    log: EventLog, chat: str, store: RedisModels | None = None
) -> Link[Conversation, Session]:
    return await links(log, store).get(log.partition_of(chat), chat, conversation_entity(chat))


async def expected(log: EventLog, chat: str) -> Link[Conversation, Session]:
    """Return the same, read one after the other."""
    partition = log.partition_of(chat)
    document = await LiveDocuments(log, CONVERSATIONS).get(partition, chat)
    if document is None or document.session is None:
        return Link(document, None)
    linked = await LiveDocuments(log, SESSIONS).get(partition, document.session)
    return Link(document, linked)


def mapped(session: str) -> Event:
    return ConversationMapped(conversation=CHAT, session=session)


def touched(session: str) -> Event:
    return SessionTouched(conversation=CHAT, session=session)


def started(session: str) -> Event:
    return SessionStarted(conversation=CHAT, session=session)


@pytest.mark.parametrize(
    "ahead", [[], [CONVERSATIONS, SESSIONS], [CONVERSATIONS], [SESSIONS]], ids=len
)
async def test_it_is_what_two_reads_say_wherever_the_models_stand(
    log: EventLog, ahead: list[Projection]
) -> None:
    events = random_events(random.Random(5), 400)
    chats = chats_of(events)
    await log.append([*events[:150]])
    if ahead:
        await Projector(log, [CONVERSATIONS, SESSIONS]).run_until_caught_up()
        await log.append([*events[150:300]])
        await Projector(log, ahead).run_until_caught_up()
        await log.append([*events[300:]])
    else:
        await log.append([*events[150:]])
    wanted = {chat: await expected(log, chat) for chat in chats}
    assert len({link.linked.id for link in wanted.values() if link.linked}) > 3
    assert any(link.document and link.document.session is None for link in wanted.values())
    for chat in chats:
        assert await read(log, chat) == wanted[chat]


async def test_of_what_was_never_mapped_there_is_nothing(log: EventLog) -> None:
    assert await read(log, CHAT) == Link(None, None)
    await log.append([started("s")])
    assert await read(log, CHAT) == Link(None, None)


async def test_what_the_tail_maps_costs_no_second_read(log: EventLog) -> None:
    models = RedisModels(log)
    await log.append([started("s1"), mapped("s1")])
    await Projector(log).run_until_caught_up()
    await log.append([started("s2"), touched("s2"), mapped("s2")])
    await read(log, CHAT, models)  # it finds the builds
    with counted_round_trips() as trips:
        found = await read(log, CHAT, models)
    assert trips.count == 1
    assert (found.linked and found.linked.id, found.linked and found.linked.version) == ("s2", 2)
    await log.append([ConversationCleared(conversation=CHAT)])
    found = await read(log, CHAT)
    assert found.document is not None
    assert (found.document.session, found.linked) == (None, None)


@pytest.mark.parametrize("takes_a_second_read", [False, True])
async def test_a_projector_that_overtakes_it_folds_nothing_twice(
    log: EventLog, takes_a_second_read: bool
) -> None:
    await log.append([started("s1"), mapped("s1"), touched("s1")])
    await Projector(log).run_until_caught_up()
    await log.append([started("s2"), *(touched("s2") for _ in range(5)), mapped("s2")])
    if takes_a_second_read:
        versions = log.keys.versions(log.partition_of(CHAT))
        await log.client.hset(versions, conversation_entity(CHAT), "2")  # no mark
    models = Interrupted(log, lambda: Projector(log).run_until_caught_up())
    found = await read(log, CHAT, models)
    assert found == await expected(log, CHAT)
    assert found.linked is not None
    assert found.linked.version == 6
    assert await read(log, CHAT, models) == found


@pytest.mark.parametrize("moved", [[CONVERSATIONS], [SESSIONS], [SESSIONS, CONVERSATIONS]], ids=len)
async def test_builds_that_move_between_two_reads_are_found_where_they_are(
    log: EventLog, moved: list[Projection]
) -> None:
    await log.append([started("s1"), mapped("s1"), touched("s1")])
    await Projector(log).run_until_caught_up()
    models = RedisModels(log)
    before = await read(log, CHAT, models)  # it remembers where the builds are
    for projection in moved:
        await rebuild(log, projection)
        await rebuild(log, projection)  # now the remembered one is gone
    await trim(log)  # so nothing but the builds has it
    assert await read(log, CHAT, models) == before
    await log.append([touched("s1")])
    after = await read(log, CHAT, models)
    assert after == await expected(log, CHAT)
    assert after.linked is not None
    assert after.linked.version == 3


@pytest.mark.parametrize("projection", [CONVERSATIONS, SESSIONS], ids=lambda each: each.name)
async def test_a_build_swapped_in_while_it_reads_the_tail_is_not_mixed_in(
    log: EventLog, projection: Projection
) -> None:
    await log.append([started("s1"), mapped("s1")])
    await Projector(log).run_until_caught_up()
    await log.append([started("s2"), mapped("s2"), touched("s2")])
    models = Interrupted(log, lambda: rebuild(log, projection))
    assert await read(log, CHAT, models) == await expected(log, CHAT)
    assert await read(log, CHAT, models) == await expected(log, CHAT)


async def test_a_tail_longer_than_a_page_is_folded_whole(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.reading.linked.TAIL_PAGE_ENTRIES", 3)
    monkeypatch.setattr("projections.reading.tail.TAIL_PAGE_ENTRIES", 3)
    others = [ConversationMapped(conversation=CHAT, user="u", session="s1") for _ in range(4)]
    await log.append([started("s1"), *others, mapped("s1"), *[touched("s1") for _ in range(9)]])
    found = await read(log, CHAT)
    assert found.linked is not None
    assert (found.linked.version, found.document and found.document.version) == (10, 1)
