from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.codec import Codec
from eventlog.entry import RawEntry
from eventlog.event import Event
from eventlog.ids import START, EntryId
from eventlog.lease import Lease
from eventlog.log import EventLog
from eventlog.settings import Settings
from projections.builtin import DEFAULT_PROJECTIONS
from projections.folding.fold import DocumentSlot, FeedSlot, Folder
from projections.folding.target import Target
from projections.storing.batch import AlreadyApplied, Commit, Committed, Step
from projections.storing.build import Build
from projections.storing.memory_models import MemoryModels
from projections.storing.store import DocumentsReply, DocumentsRequest
from tests.projecting import oracle, random_events, read_out
from tests.strategies import EXAMPLES

CODEC = Codec()
TARGETS = [Target(each, Build(each.name, each.version, "1")) for each in DEFAULT_PROJECTIONS]
LEASE = Lease("projector", 0, "me", 1)

seeds = st.integers(0, 2**32)
cuts = st.lists(st.integers(0, 60), max_size=6)


def raw_entries(events: list[Event]) -> list[RawEntry]:
    return [RawEntry(EntryId(1000 + n // 3, n), CODEC.encode(e)) for n, e in enumerate(events, 1)]


def batches(raws: list[RawEntry], places: list[int]) -> list[list[RawEntry]]:
    edges = sorted({0, len(raws), *(place for place in places if place < len(raws))})
    return [raws[a:b] for a, b in pairwise(edges)]


class Overtaken(MemoryModels):
    """Read models that move on between the first step of a live read and its next."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self.advance: Callable[[], Awaitable[None]] | None = None

    async def read_documents(self, partition: int, request: DocumentsRequest) -> DocumentsReply:
        reply = await super().read_documents(partition, request)
        advance, self.advance = self.advance, None
        if advance:
            await advance()
        return reply


async def commit_batch(
    store: MemoryModels, folder: Folder, raws: list[RawEntry], position: EntryId, *, careful: bool
) -> Commit:
    assert folder.deal(raws) == []
    documents, feeds = [], []
    for slot in folder.slots:
        if isinstance(slot, FeedSlot):
            feeds.append(slot.fold())
            continue
        assert isinstance(slot, DocumentSlot)
        keys = slot.cold_keys()
        [stored] = await store.documents(0, [(slot.model, keys)])
        slot.warm(keys, stored)
        if careful:
            changes, poisons = slot.fold_with_care()
            assert poisons == []
        else:
            changes = slot.fold()
        documents.append(changes)
    commit = Commit(
        partition=0,
        lease=LEASE,
        steps=tuple(Step(target.build, target.role, position) for target in TARGETS),
        first=raws[0].id,
        last=raws[-1].id,
        in_stream=False,
        moves_group=False,
        documents=documents,
        feeds=feeds,
    )
    assert await store.commit(commit) == Committed()
    return commit


async def fold_in(
    store: MemoryModels,
    parts: list[list[RawEntry]],
    forget: random.Random,
    *,
    careful: bool = False,
    position: EntryId = START,
) -> None:
    settings = Settings(chat_history_limit=5)
    await store.claim(0, [target.build for target in TARGETS])
    folder = Folder(TARGETS, 0, CODEC.decode, settings)
    for raws in parts:
        if forget.random() < 0.3:  # a new owner starts with nothing cached
            folder = Folder(TARGETS, 0, CODEC.decode, settings)
        commit = await commit_batch(store, folder, raws, position, careful=careful)
        position = raws[-1].id
        if forget.random() < 0.2:  # the reply was lost and the batch is sent again
            assert await store.commit(commit) == AlreadyApplied()


@settings(max_examples=40 * EXAMPLES, deadline=None)
@given(seed=seeds, places=cuts, careful=st.booleans())
def test_however_the_log_is_cut_into_batches_the_models_are_the_fold_of_it(
    seed: int, places: list[int], careful: bool
) -> None:
    rnd = random.Random(seed)
    events = random_events(rnd, 60)

    async def check() -> None:
        async with EventLog.in_memory(partition_count=1) as log:
            store = MemoryModels()
            await fold_in(store, batches(raw_entries(events), places), rnd, careful=careful)
            chats = sorted({event.conversation for event in events})
            told = await read_out(log, chats, "stored", store)
            assert told == oracle(events, history_limit=5)

    asyncio.run(check())


@settings(max_examples=40 * EXAMPLES, deadline=None)
@given(
    seed=seeds,
    stored_count=st.integers(0, 60),
    more_count=st.integers(0, 60),
    page_size=st.integers(1, 9),
)
def test_a_live_read_is_the_fold_of_everything_wherever_the_projector_stands(
    seed: int, stored_count: int, more_count: int, page_size: int
) -> None:
    rnd = random.Random(seed)
    events = random_events(rnd, 60)

    async def check() -> None:
        async with EventLog.in_memory(partition_count=1) as log:
            await log.append([*events])
            raws = await log.read_raw(0, START, 1000)
            store = Overtaken(log)
            if stored_count:
                await fold_in(store, [raws[:stored_count]], rnd)
            more = raws[stored_count : stored_count + more_count]
            position = raws[stored_count - 1].id if stored_count else START
            if more:
                store.advance = lambda: fold_in(store, [more], rnd, position=position)
            chats = sorted({event.conversation for event in events})
            told = await read_out(log, chats, "live", store, page_size)
            expected = oracle(events)
            # What is dropped beyond the limit is dropped by the projector, not by a reader.
            for chat, ids in oracle(events[: stored_count + more_count])["history"].items():
                expected["history"][chat] = expected["history"][chat][max(0, len(ids) - 5) :]
            assert told == expected

    asyncio.run(check())


@settings(max_examples=40 * EXAMPLES, deadline=None)
@given(seed=seeds, places=cuts)
def test_every_index_holds_what_its_documents_say_and_nothing_else(
    seed: int, places: list[int]
) -> None:
    rnd = random.Random(seed)

    async def check() -> None:
        store = MemoryModels()
        await fold_in(store, batches(raw_entries(random_events(rnd, 60)), places), rnd)
        for target in TARGETS:
            slot = Folder([target], 0, CODEC.decode, Settings()).slots[0]
            if isinstance(slot, FeedSlot):
                continue
            projection = slot.projection
            said: dict[str, dict[str, float]] = {}
            for key, raw in store.stored_documents(0, slot.model).items():
                for name, score in projection.index(key, slot.decode(raw)):
                    said.setdefault(name, {})[key] = score
            assert store.stored_indexes(0, slot.model) == said

    asyncio.run(check())
