"""Stores of read models, in memory and in Redis: the same commits, the same answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
import pytest

from eventlog.entry import Entry
from eventlog.errors import EventLogError
from eventlog.ids import START, EntryId
from eventlog.lease import Lease, LeaseKeeper
from eventlog.log import EventLog
from eventlog.vocabulary import MessageReceived
from projections.folding.letters import GROUP
from projections.storing.batch import (
    AlreadyApplied,
    CheckpointGap,
    Commit,
    Committed,
    DocumentChanges,
    EntriesGone,
    FeedChanges,
    LeaseLost,
    Step,
)
from projections.storing.build import Build
from projections.storing.memory_models import MemoryModels
from projections.storing.redis_models import RedisModels
from projections.storing.store import (
    After,
    DocumentsRequest,
    FeedRequest,
    LinkedRequest,
    ModelStore,
    PageRequest,
)

BUILD = Build("things", 1, "1")
OTHER = Build("other", 1, "1")
MODEL = BUILD.model


class Place(NamedTuple):
    """A store with the lease on partition 0 taken, and how to have it stolen."""

    store: ModelStore
    lease: Lease
    steal: Callable[[], Awaitable[object]]


@pytest.fixture(params=["memory", "redis"])
async def place(request: pytest.FixtureRequest, log: EventLog) -> AsyncIterator[Place]:
    if request.param == "memory":
        store = MemoryModels()
        await store.claim(0, [BUILD, OTHER])
        store.generations[GROUP, 0] = 1

        async def steal() -> None:
            store.generations[GROUP, 0] = 2

        yield Place(store, Lease(GROUP, 0, "me", 1), steal)
        return
    keeper = LeaseKeeper(log, GROUP, "me")
    await keeper.refresh()

    async def take() -> None:
        await keeper.release_all()
        await LeaseKeeper(log, GROUP, "thief").refresh()

    models = RedisModels(log)
    await models.claim(0, [BUILD, OTHER])
    yield Place(models, keeper.held[0], take)


def commit(place: Place, expected: EntryId, last: EntryId, **changes: Any) -> Commit:
    defaults: dict[str, Any] = {
        "partition": 0,
        "lease": place.lease,
        "steps": (Step(BUILD, "serving", expected),),
        "first": EntryId(last.ms, expected.n + 1),
        "last": last,
        "in_stream": False,
        "moves_group": False,
        "documents": [],
        "feeds": [],
    }
    return Commit(**{**defaults, **changes})


def documents(written: dict[str, str], **changes: Any) -> DocumentChanges:
    defaults: dict[str, Any] = {
        "model": MODEL,
        "deleted": [],
        "indexed": {},
        "unindexed": {},
        "facets": ("colour",),
    }
    return DocumentChanges(**{**defaults, "written": written, **changes})


async def checkpoint(place: Place, build: Build = BUILD) -> EntryId:
    return (await place.store.shelf(0)).checkpoint(build)


async def stored(place: Place, *keys: str) -> list[bytes | None]:
    return (await place.store.documents(0, [(MODEL, keys)]))[0]


# --- what becomes of a commit ----------------------------------------------------------------------


async def test_a_commit_moves_documents_and_checkpoint_together(place: Place) -> None:
    assert await checkpoint(place) == START
    first = commit(place, START, EntryId(5, 2), documents=[documents({"a": "1", "b": "2"})])
    assert await place.store.commit(first) == Committed()
    second = commit(
        place, EntryId(5, 2), EntryId(6, 3), documents=[documents({"b": "3"}, deleted=["a"])]
    )
    assert await place.store.commit(second) == Committed()
    assert await stored(place, "a", "b") == [None, b"3"]
    assert await checkpoint(place) == EntryId(6, 3)
    assert await checkpoint(place, OTHER) == START


async def test_a_batch_sent_twice_is_applied_once(place: Place) -> None:
    batch = commit(
        place, START, EntryId(5, 1), feeds=[FeedChanges(MODEL, 9, {"chat": [entry(1, "hi")]})]
    )
    assert await place.store.commit(batch) == Committed()
    assert await place.store.commit(batch) == AlreadyApplied()
    reply = await place.store.read_feed(0, FeedRequest("things", 1, "chat", 9))
    assert reply.total == 1


async def test_a_batch_that_does_not_follow_the_checkpoint_is_refused(place: Place) -> None:
    await place.store.commit(commit(place, START, EntryId(5, 1)))
    ahead = commit(place, EntryId(7, 3), EntryId(8, 4), documents=[documents({"a": "1"})])
    assert await place.store.commit(ahead) == CheckpointGap(MODEL, EntryId(5, 1))
    assert await stored(place, "a") == [None]


async def test_models_that_stand_apart_are_not_moved_together(place: Place) -> None:
    await place.store.commit(commit(place, START, EntryId(5, 1)))
    alone = commit(place, START, EntryId(5, 1))
    both = alone._replace(steps=(Step(BUILD, "serving", START), Step(OTHER, "serving", START)))
    assert await place.store.commit(both) == CheckpointGap(MODEL, EntryId(5, 1))
    assert await checkpoint(place, OTHER) == START


async def test_whoever_lost_the_lease_is_fenced(place: Place) -> None:
    await place.steal()
    late = commit(place, START, EntryId(5, 1), documents=[documents({"a": "1"})])
    assert await place.store.commit(late) == LeaseLost()
    assert await stored(place, "a") == [None]
    assert await checkpoint(place) == START


async def test_a_malformed_batch_writes_nothing(log: EventLog) -> None:
    keeper = LeaseKeeper(log, GROUP, "me")
    await keeper.refresh()
    place = Place(RedisModels(log), keeper.held[0], keeper.release_all)
    await place.store.claim(0, [BUILD])
    nameless = documents({"a": "1"}, indexed={"all": {"a": "high"}})
    with pytest.raises(EventLogError, match="BADBATCH"):
        await place.store.commit(commit(place, START, EntryId(5, 1), documents=[nameless]))
    assert await stored(place, "a") == [None]


async def test_entries_trimmed_while_they_were_folded_stop_the_batch(log: EventLog) -> None:
    keeper = LeaseKeeper(log, GROUP, "me")
    await keeper.refresh()
    place = Place(RedisModels(log), keeper.held[0], keeper.release_all)
    await place.store.claim(0, [BUILD])
    batch = commit(
        place,
        START,
        EntryId(5, 1),
        in_stream=True,
        moves_group=True,
        feeds=[FeedChanges(MODEL, 9, {"chat": [entry(1, "hi")]})],
    )
    assert await place.store.commit(batch) == EntriesGone()
    assert await checkpoint(place) == START


async def test_a_batch_larger_than_lua_s_stack_is_applied_whole(place: Place) -> None:
    many = {f"k{n}": str(n) for n in range(9000)}
    indexed = {"all": dict.fromkeys(many, 1.0)}
    items = [entry(n, "x") for n in range(1, 9001)]
    batch = commit(
        place,
        START,
        EntryId(5, 9000),
        documents=[documents(many, indexed=indexed)],
        feeds=[FeedChanges(MODEL, 8500, {"chat": items})],
    )
    assert await place.store.commit(batch) == Committed()
    assert None not in await stored(place, *many)
    reply = await place.store.read_feed(0, FeedRequest("things", 1, "chat", 8000))
    assert (reply.total, reply.oldest, len(reply.items)) == (9000, 449, 8000)


# --- reading ---------------------------------------------------------------------------------------


def entry(n: int, text: str) -> Entry:
    event = MessageReceived(conversation="chat", id=f"m{n}", text=text, occurred_at=n)
    return Entry(0, EntryId(5, n), event, msgspec.json.encode(event))


async def test_a_page_goes_on_below_its_place_also_among_equal_scores(place: Place) -> None:
    # Bytes order the keys: capitals before small letters, then everything beyond ASCII.
    keys = ["B", "a", "b", "b\0", "ba", "z", "é", "✓", "🦜"]
    indexed = {"all": {key: 7.0 if key != "z" else 9.0 for key in keys} | {"low": 1.5}}
    written = dict.fromkeys([*keys, "low"], "1")
    await place.store.commit(
        commit(place, START, EntryId(5, 1), documents=[documents(written, indexed=indexed)])
    )
    after, seen = None, []
    while True:
        page = PageRequest("all", 2, after, lowest_score=1.5)
        reply = await place.store.read_documents(0, DocumentsRequest("things", 1, page=page))
        if not reply.page:
            break
        seen += [item.key for item in reply.page]
        after = After(reply.page[-1].score, reply.page[-1].key)
    assert seen == ["z", "🦜", "✓", "é", "ba", "b\0", "b", "a", "B", "low"]
    page = PageRequest("all", 99, After(7.0, ""), lowest_score=2)
    assert (
        await place.store.read_documents(0, DocumentsRequest("things", 1, page=page))
    ).page == []


async def test_facets_count_their_indexes_and_forget_what_is_empty(place: Place) -> None:
    red = documents({"a": "1", "b": "1"}, indexed={"colour:red": {"a": 1.0, "b": 1.0}})
    await place.store.commit(commit(place, START, EntryId(5, 1), documents=[red]))
    request = DocumentsRequest("things", 1, facets=["colour"])
    assert (await place.store.read_documents(0, request)).facets == [{"red": 2}]
    moved = documents(
        {"a": "2", "b": "2"},
        indexed={"colour:": {"a": 1.0}, "colour:blue:sky": {"b": 1.0}},
        unindexed={"colour:red": ["a", "b"]},
    )
    await place.store.commit(commit(place, EntryId(5, 1), EntryId(5, 2), documents=[moved]))
    assert (await place.store.read_documents(0, request)).facets == [{"": 1, "blue:sky": 1}]


@pytest.mark.parametrize("limit", [1, 4, 9])
@pytest.mark.parametrize("sizes", [[1] * 40, [40], [7, 1, 25, 7], [1, 39]])
async def test_what_a_feed_keeps_does_not_depend_on_the_batches(
    place: Place, limit: int, sizes: list[int]
) -> None:
    position, n = START, 0
    for size in sizes:
        joining = [entry(n + i, f"text {n + i}") for i in range(1, size + 1)]
        feed = FeedChanges(MODEL, limit, {"chat": joining})
        n += size
        await place.store.commit(commit(place, position, EntryId(5, n), feeds=[feed]))
        position = EntryId(5, n)
    reply = await place.store.read_feed(0, FeedRequest("things", 1, "chat", 99))
    kept_least = FeedChanges(MODEL, limit, {})
    oldest = kept_least.dropped(40) + 1
    assert (reply.total, reply.oldest, reply.first) == (40, oldest, oldest)
    kept = [int(item.partition(b" ")[0].partition(b"-")[2]) for item in reply.items]
    assert kept == list(range(oldest, 41))
    assert limit <= len(reply.items) < limit + kept_least.drop_items


async def test_a_feed_keeps_its_last_items_and_their_numbers(place: Place) -> None:
    position = START
    for n in range(1, 8):
        feed = FeedChanges(MODEL, 4, {"chat": [entry(n, f"text {n}")]})
        await place.store.commit(commit(place, position, EntryId(5, n), feeds=[feed]))
        position = EntryId(5, n)

    async def page(before: int, limit: int) -> tuple[int, int, int, list[bytes]]:
        reply = await place.store.read_feed(0, FeedRequest("things", 1, "chat", limit, before))
        return reply.total, reply.oldest, reply.first, [i.partition(b" ")[0] for i in reply.items]

    assert await page(0, 2) == (7, 4, 6, [b"5-6", b"5-7"])
    assert await page(6, 9) == (7, 4, 4, [b"5-4", b"5-5"])
    assert (await page(4, 9))[3] == []
    assert (await page(99, 1))[3] == [b"5-7"]
    nothing = await place.store.read_feed(0, FeedRequest("things", 1, "silent", 9))
    assert (nothing.total, nothing.items) == (0, [])


# --- documents that point to others ----------------------------------------------------------------


def linked(
    key: str, entity: str = "thing:?", version: int = 1, linked_version: int = 1
) -> LinkedRequest:
    return LinkedRequest("things", version, key, "to", "other", linked_version, entity, 9)


async def pointing(place: Place) -> None:
    """Store things that point to others, which stand further on."""
    things = {"a": '{"to":"x"}', "b": "{}", "c": '{"to":null}', "d": '{"to":"é\\u0000"}'}
    others = {"x": "1", "y": "2", "é\0": "3"}
    only = (Step(BUILD, "serving", START),)
    await place.store.commit(
        commit(place, START, EntryId(5, 2), steps=only, documents=[documents(things)])
    )
    only = (Step(OTHER, "serving", START),)
    changes = documents(others, model=OTHER.model)
    await place.store.commit(commit(place, START, EntryId(6, 4), steps=only, documents=[changes]))


@pytest.mark.parametrize(
    ("request_", "document", "others"),
    [
        (linked("a"), b'{"to":"x"}', {"x": b"1"}),
        (linked("b"), b"{}", {}),
        (linked("c"), b'{"to":null}', {}),
        (linked("d"), '{"to":"é\\u0000"}'.encode(), {"é\0": b"3"}),
        (linked("nobody"), None, {}),
        (linked("x"), None, {}),
    ],
)
async def test_a_document_comes_with_the_one_it_points_to(
    place: Place, request_: LinkedRequest, document: bytes | None, others: dict[str, bytes | None]
) -> None:
    await pointing(place)
    reply = await place.store.read_linked(0, request_)
    assert (reply.document, reply.linked) == (document, others)
    assert (reply.checkpoint, reply.linked_checkpoint) == (EntryId(5, 2), EntryId(6, 4))
    assert reply.tail.checkpoint == EntryId(5, 2), "what either lacks is in the tail"


async def test_the_tail_begins_where_the_one_behind_stands_whichever_it_is(place: Place) -> None:
    await pointing(place)
    asked = LinkedRequest("other", 1, "x", "to", "things", 1, "thing:?", 9)
    only = (Step(OTHER, "serving", EntryId(6, 4)),)
    await place.store.commit(
        commit(
            place,
            EntryId(6, 4),
            EntryId(7, 5),
            steps=only,
            documents=[documents({"x": '{"to":"a"}'}, model=OTHER.model)],
        )
    )
    reply = await place.store.read_linked(0, asked)
    assert (reply.document, reply.linked) == (b'{"to":"a"}', {"a": b'{"to":"x"}'})
    assert reply.tail.checkpoint == reply.linked_checkpoint == EntryId(5, 2)


@pytest.mark.parametrize(("version", "linked_version"), [(2, 1), (1, 2), (2, 2)])
async def test_a_version_without_a_build_has_nothing_stored_and_all_in_the_tail(
    place: Place, version: int, linked_version: int
) -> None:
    await pointing(place)
    asked = linked("a", version=version, linked_version=linked_version)
    reply = await place.store.read_linked(0, asked)
    assert reply.document == (b'{"to":"x"}' if version == 1 else None)
    stored = b"1" if linked_version == 1 else None
    assert reply.linked == ({"x": stored} if version == 1 else {})
    assert reply.tail.checkpoint == START


@pytest.mark.parametrize(
    ("mark", "others"),
    [
        ("held thing:y", {"x": b"1", "y": b"2"}),
        ("held thing:x", {"x": b"1"}),
        ("held thing:new:one", {"x": b"1", "new:one": None}),
        ("free", {"x": b"1"}),
        ("", {"x": b"1"}),
    ],
)
async def test_the_server_gives_what_holds_the_entity_as_well(
    log: EventLog, place: Place, mark: str, others: dict[str, bytes | None]
) -> None:
    await pointing(place)
    await log.client.hset(log.keys.versions(0), "thing:a", f"3 {mark}".strip())
    reply = await place.store.read_linked(0, linked("a", "thing:a"))
    in_memory = isinstance(place.store, MemoryModels)  # where a second look costs nothing
    assert reply.linked == ({"x": b"1"} if in_memory else others)


@pytest.mark.parametrize("moved", [BUILD, OTHER])
async def test_a_build_that_moves_is_found_in_its_new_role(place: Place, moved: Build) -> None:
    await pointing(place)
    asked = linked("a")
    before = await place.store.read_linked(0, asked)
    successor = Build(moved.name, 2, "2")
    await place.store.begin(0, successor)
    await place.store.swap({0: successor})
    assert (await place.store.shelf(0)).get(moved.name, "previous") == moved
    assert await place.store.read_linked(0, asked) == before
