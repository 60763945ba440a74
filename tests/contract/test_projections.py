"""Read models in Redis and in memory: the same commits, the same answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import msgspec
import pytest

from eventlog.entry import Entry
from eventlog.errors import EventLogError, HistoryGap, InvalidCursor, InvalidQuery
from eventlog.event import Event
from eventlog.group import GroupReader
from eventlog.ids import START, EntryId
from eventlog.lease import Lease, LeaseKeeper
from eventlog.log import EventLog
from eventlog.vocabulary import MessageReceived, SessionStarted
from projections.batch import (
    AlreadyApplied,
    CheckpointGap,
    Commit,
    CommitOutcome,
    Committed,
    DocumentChanges,
    EntriesGone,
    FeedChanges,
    LeaseLost,
)
from projections.builtin import DEFAULT_PROJECTIONS
from projections.letters import GROUP
from projections.live import LiveDocuments
from projections.memory_models import MemoryModels
from projections.pipeline import BATCH_ENTRIES
from projections.projection import DocumentProjection, IndexEntry
from projections.projector import Projector
from projections.redis_models import RedisModels
from projections.store import (
    After,
    DocumentsReply,
    DocumentsRequest,
    FeedRequest,
    ModelStore,
    PageRequest,
)
from projections.tasks import end
from projections.views.dead_letters import DeadLetters
from projections.views.history import History
from projections.views.sessions import Sessions
from projections.worker import TURN_BATCHES, project_partition
from tests.projecting import oracle, random_events, read_out
from tests.support import eventually

MODEL = "things@1"


class Place(NamedTuple):
    """A store with the lease on partition 0 taken, and how to have it stolen."""

    store: ModelStore
    lease: Lease
    steal: Callable[[], Awaitable[object]]


@pytest.fixture(params=["memory", "redis"])
async def place(request: pytest.FixtureRequest, log: EventLog) -> AsyncIterator[Place]:
    if request.param == "memory":
        store = MemoryModels()
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

    yield Place(RedisModels(log), keeper.held[0], take)


def commit(place: Place, expected: EntryId, last: EntryId, **changes: Any) -> Commit:
    defaults: dict[str, Any] = {
        "partition": 0,
        "lease": place.lease,
        "expected": {MODEL: expected},
        "first": EntryId(last.ms, expected.n + 1),
        "last": last,
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


async def stored(place: Place, *keys: str) -> list[bytes | None]:
    return (await place.store.documents(0, [(MODEL, keys)]))[0]


# --- what becomes of a commit ----------------------------------------------------------------------


async def test_a_commit_moves_documents_and_checkpoint_together(place: Place) -> None:
    assert await place.store.checkpoints(0, [MODEL]) == [START]
    first = commit(place, START, EntryId(5, 2), documents=[documents({"a": "1", "b": "2"})])
    assert await place.store.commit(first) == Committed()
    second = commit(
        place, EntryId(5, 2), EntryId(6, 3), documents=[documents({"b": "3"}, deleted=["a"])]
    )
    assert await place.store.commit(second) == Committed()
    assert await stored(place, "a", "b") == [None, b"3"]
    assert await place.store.checkpoints(0, [MODEL, "other@1"]) == [EntryId(6, 3), START]


async def test_a_batch_sent_twice_is_applied_once(place: Place) -> None:
    batch = commit(
        place, START, EntryId(5, 1), feeds=[FeedChanges(MODEL, 9, {"chat": [entry(1, "hi")]})]
    )
    assert await place.store.commit(batch) == Committed()
    assert await place.store.commit(batch) == AlreadyApplied()
    reply = await place.store.read_feed(0, FeedRequest(MODEL, "chat", 9))
    assert reply.total == 1


async def test_a_batch_that_does_not_follow_the_checkpoint_is_refused(place: Place) -> None:
    await place.store.commit(commit(place, START, EntryId(5, 1)))
    ahead = commit(place, EntryId(7, 3), EntryId(8, 4), documents=[documents({"a": "1"})])
    assert await place.store.commit(ahead) == CheckpointGap(MODEL, EntryId(5, 1))
    assert await stored(place, "a") == [None]


async def test_models_that_stand_apart_are_not_moved_together(place: Place) -> None:
    await place.store.commit(commit(place, START, EntryId(5, 1)))
    alone = commit(place, START, EntryId(5, 1))
    both = alone._replace(expected={MODEL: START, "other@1": START})
    assert await place.store.commit(both) == CheckpointGap(MODEL, EntryId(5, 1))
    assert await place.store.checkpoints(0, ["other@1"]) == [START]


async def test_whoever_lost_the_lease_is_fenced(place: Place) -> None:
    await place.steal()
    late = commit(place, START, EntryId(5, 1), documents=[documents({"a": "1"})])
    assert await place.store.commit(late) == LeaseLost()
    assert await stored(place, "a") == [None]
    assert await place.store.checkpoints(0, [MODEL]) == [START]


async def test_a_malformed_batch_writes_nothing(log: EventLog) -> None:
    keeper = LeaseKeeper(log, GROUP, "me")
    await keeper.refresh()
    place = Place(RedisModels(log), keeper.held[0], keeper.release_all)
    nameless = documents({"a": "1"}, indexed={"all": {"a": "high"}})
    with pytest.raises(EventLogError, match="BADBATCH"):
        await place.store.commit(commit(place, START, EntryId(5, 1), documents=[nameless]))
    assert await stored(place, "a") == [None]


async def test_entries_trimmed_while_they_were_folded_stop_the_batch(log: EventLog) -> None:
    keeper = LeaseKeeper(log, GROUP, "me")
    await keeper.refresh()
    place = Place(RedisModels(log), keeper.held[0], keeper.release_all)
    batch = commit(
        place,
        START,
        EntryId(5, 1),
        moves_group=True,
        feeds=[FeedChanges(MODEL, 9, {"chat": [entry(1, "hi")]})],
    )
    assert await place.store.commit(batch) == EntriesGone()
    assert await place.store.checkpoints(0, [MODEL]) == [START]


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
    reply = await place.store.read_feed(0, FeedRequest(MODEL, "chat", 8000))
    assert (reply.total, reply.oldest, len(reply.items)) == (9000, 501, 8000)


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
        reply = await place.store.read_documents(0, DocumentsRequest(MODEL, page=page))
        if not reply.page:
            break
        seen += [item.key for item in reply.page]
        after = After(reply.page[-1].score, reply.page[-1].key)
    assert seen == ["z", "🦜", "✓", "é", "ba", "b\0", "b", "a", "B", "low"]
    page = PageRequest("all", 99, After(7.0, ""), lowest_score=2)
    assert (await place.store.read_documents(0, DocumentsRequest(MODEL, page=page))).page == []


async def test_facets_count_their_indexes_and_forget_what_is_empty(place: Place) -> None:
    red = documents({"a": "1", "b": "1"}, indexed={"colour:red": {"a": 1.0, "b": 1.0}})
    await place.store.commit(commit(place, START, EntryId(5, 1), documents=[red]))
    request = DocumentsRequest(MODEL, facets=["colour"])
    assert (await place.store.read_documents(0, request)).facets == [{"red": 2}]
    moved = documents(
        {"a": "2", "b": "2"},
        indexed={"colour:": {"a": 1.0}, "colour:blue:sky": {"b": 1.0}},
        unindexed={"colour:red": ["a", "b"]},
    )
    await place.store.commit(commit(place, EntryId(5, 1), EntryId(5, 2), documents=[moved]))
    assert (await place.store.read_documents(0, request)).facets == [{"": 1, "blue:sky": 1}]


async def test_a_feed_keeps_its_last_items_and_their_numbers(place: Place) -> None:
    position = START
    for n in range(1, 8):
        feed = FeedChanges(MODEL, 4, {"chat": [entry(n, f"text {n}")]})
        await place.store.commit(commit(place, position, EntryId(5, n), feeds=[feed]))
        position = EntryId(5, n)

    async def page(before: int, limit: int) -> tuple[int, int, int, list[bytes]]:
        reply = await place.store.read_feed(0, FeedRequest(MODEL, "chat", limit, before))
        return reply.total, reply.oldest, reply.first, [i.partition(b" ")[0] for i in reply.items]

    assert await page(0, 2) == (7, 4, 6, [b"5-6", b"5-7"])
    assert await page(6, 9) == (7, 4, 4, [b"5-4", b"5-5"])
    assert (await page(4, 9))[3] == []
    assert (await page(99, 1))[3] == [b"5-7"]
    nothing = await place.store.read_feed(0, FeedRequest(MODEL, "silent", 9))
    assert (nothing.total, nothing.items) == (0, [])


# --- the projector ---------------------------------------------------------------------------------


def chats_of(events: list[Event]) -> list[str]:
    return sorted({event.conversation for event in events})


async def test_own_writes_are_read_with_no_projector_and_stored_reads_wait_for_one(
    log: EventLog,
) -> None:
    events = random_events(random.Random(3), 300)
    await log.append([*events])
    assert await read_out(log, chats_of(events), "live") == oracle(events)
    before = await read_out(log, chats_of(events), "stored")
    assert (before["sessions"], before["history"], before["totals"]) == ({}, {}, {})
    await Projector(log).run_until_caught_up()
    assert await read_out(log, chats_of(events), "stored") == oracle(events)
    assert await read_out(log, chats_of(events), "live") == oracle(events)


class Overtaken(RedisModels):
    """Read models that a projector brings up to date between two steps of a live read."""

    def __init__(self, log: EventLog, partition: int) -> None:
        super().__init__(log)
        self._log_read = log
        self._watched = partition
        self.steps = 0

    async def read_documents(self, partition: int, request: DocumentsRequest) -> DocumentsReply:
        reply = await super().read_documents(partition, request)
        self.steps += partition == self._watched
        if partition == self._watched and self.steps == 1:
            await Projector(self._log_read).run_until_caught_up()
        return reply


async def test_a_live_read_that_a_projector_overtakes_folds_nothing_twice(log: EventLog) -> None:
    started = [SessionStarted(conversation="c", session=f"s{n}") for n in range(5)]
    messages = [MessageReceived(conversation="c", session=f"s{n % 5}", text="") for n in range(15)]
    await log.append([*started, *messages])
    models = Overtaken(log, log.partition_of("c"))
    page = await Sessions(log, models).list(conversation="c", limit=10)
    assert models.steps == 3
    assert sorted(s.id for s in page.items) == [f"s{n}" for n in range(5)]
    assert [s.message_count for s in page.items] == [3] * 5


async def test_facets_of_a_live_read_that_is_overtaken_count_each_document_once(
    log: EventLog,
) -> None:
    await log.append([SessionStarted(conversation="c", session=f"s{n}") for n in range(5)])
    models = Overtaken(log, log.partition_of("c"))
    assert (await Sessions(log, models).counts())["active"] == 5
    assert models.steps == 3


async def test_status_and_group_say_how_far_it_is(log: EventLog) -> None:
    events = random_events(random.Random(4), 200)
    await log.append([*events])
    projector = Projector(log)
    behind = await projector.status()
    assert sum(each.lag_count for each in behind) == 200
    assert all(each.oldest_age_ms >= 0 and each.owner is None for each in behind)
    await projector.run_until_caught_up()
    status = await projector.status()
    assert [each.lag_count for each in status] == [0, 0, 0, 0]
    assert [each.head for each in status] == await log.heads()
    assert sum(each.rate_per_s for each in status) > 0
    await the_group_stands_at_the_heads(log)


async def the_group_stands_at_the_heads(log: EventLog) -> None:
    """Whoever trims asks the group: it must neither lag nor lead nor hold anything pending."""
    for partition, head in enumerate(await log.heads()):
        [group] = await log.client.xinfo_groups(log.keys.stream(partition))
        assert group["name"] == GROUP.encode()
        assert (group["pending"], group["lag"]) == (0, 0)
        assert group["last-delivered-id"] == str(head).encode()


async def test_a_running_projector_follows_what_is_appended(log: EventLog) -> None:
    stop = asyncio.Event()
    projector = Projector(log)
    running = asyncio.create_task(projector.run(stop))
    events = random_events(random.Random(5), 400)
    for start in range(0, 400, 40):
        await log.append([*events[start : start + 40]])

    async def is_level() -> bool:
        return not any(each.lag_count for each in await projector.status())

    await eventually(is_level)
    owners = {each.owner for each in await projector.status()}
    assert owners == {projector.owner}
    stop.set()
    await running
    assert {each.owner for each in await projector.status()} == {None}
    assert await read_out(log, chats_of(events), "stored") == oracle(events)


async def test_a_backlog_leaves_the_other_partitions_their_turn(log: EventLog) -> None:
    long, short = 0, 1
    chats = {log.partition_of(f"c{n}"): f"c{n}" for n in range(100)}
    backlog = (TURN_BATCHES + 2) * BATCH_ENTRIES
    await log.append([MessageReceived(conversation=chats[long], text="x") for _ in range(backlog)])
    await log.append(MessageReceived(conversation=chats[short], text="x"))
    begun, may_end = asyncio.Event(), asyncio.Event()

    class Turns(asyncio.Semaphore):
        wanted_count = 0

        async def acquire(self) -> Literal[True]:
            self.wanted_count += 1
            return await super().acquire()

    class Waiting(RedisModels):
        async def commit(self, commit: Commit) -> CommitOutcome:
            begun.set()
            await may_end.wait()
            return await super().commit(commit)

    keeper = LeaseKeeper(log, GROUP, "one")
    await keeper.refresh()
    models, turns = Waiting(log), Turns()
    committed: list[tuple[int, int]] = []

    def work_on(partition: int) -> asyncio.Task[None]:
        return asyncio.create_task(
            project_partition(
                log,
                models,
                DEFAULT_PROJECTIONS,
                keeper.held[partition],
                turns,
                lambda position, _: committed.append((partition, position.n)),
            )
        )

    tasks = [work_on(long)]
    await begun.wait()
    tasks.append(work_on(short))
    await eventually(lambda: turns.wanted_count == 2)
    may_end.set()
    await eventually(lambda: {(long, backlog), (short, 1)} <= {*committed})
    assert committed.index((short, 1)) < committed.index((long, backlog))
    # At rest both wait for entries, and neither holds the one turn there is.
    await log.append(MessageReceived(conversation=chats[long], text="x"))
    await log.append(MessageReceived(conversation=chats[short], text="x"))
    await eventually(lambda: {(long, backlog + 1), (short, 2)} <= {*committed})
    await end(*tasks)


async def test_two_projectors_share_the_partitions(log: EventLog) -> None:
    stop = asyncio.Event()
    pair = [Projector(log, owner=name) for name in ("a", "b")]
    running = [asyncio.create_task(projector.run(stop)) for projector in pair]
    events = random_events(random.Random(6), 300)

    async def is_shared() -> bool:
        owners = [each.owner for each in await pair[0].status()]
        return owners.count("a") == owners.count("b") == 2

    await eventually(is_shared)
    await log.append([*events])
    await pair[0].run_until_caught_up()
    stop.set()
    await asyncio.gather(*running)
    assert await read_out(log, chats_of(events), "stored") == oracle(events)


class Length(msgspec.Struct):
    chat: str
    characters: int = 0


class Lengths(DocumentProjection[Length]):
    """A user's projection, which fails on some texts after it has changed its state."""

    name = "lengths"
    types = (MessageReceived,)
    state_type = Length

    def key(self, event: MessageReceived) -> str:
        if event.text == "keyless":
            raise LookupError("no key")
        return event.conversation

    def initial(self, key: str) -> Length:
        return Length(key)

    def apply(self, state: Length, entry: Entry) -> Length:
        state.characters += len(entry.event.text)  # type: ignore[attr-defined]
        if entry.event.text == "poison":  # type: ignore[attr-defined]
            raise ValueError("cannot take it")
        return state

    def index(self, key: str, state: Length) -> list[IndexEntry]:  # noqa: ARG002 - by state alone
        return [("all", float("nan") if state.characters == 13 else state.characters)]


LENGTHS = Lengths()


async def test_a_poison_entry_is_parked_and_its_projection_goes_on(log: EventLog) -> None:
    texts = ["ab", "poison", "cde", "keyless", "12345678", "f"]
    partition = log.partition_of("chat")
    neighbour = next(f"n{n}" for n in range(99) if log.partition_of(f"n{n}") == partition)
    await log.append(
        [
            MessageReceived(conversation=neighbour, text="folded once"),
            *(MessageReceived(conversation="chat", text=text) for text in texts),
        ]
    )
    projector = Projector(log, [*DEFAULT_PROJECTIONS, LENGTHS])
    await projector.run_until_caught_up()
    await projector.run_until_caught_up()
    # "12345678" would make 13 characters, whose index entry has no place in an order.
    documents = LiveDocuments(log, LENGTHS)
    assert await documents.get(partition, "chat", "stored") == Length("chat", 6)
    assert await documents.get(partition, neighbour, "stored") == Length(neighbour, 11)
    page = await DeadLetters(log).list(group="projector:lengths")
    assert sorted(letter.error or "" for letter in page.items) == [
        "LookupError: no key",
        "ValueError: a document's index score is not a number",
        "ValueError: cannot take it",
    ]
    origins = {letter.origin for letter in page.items}
    entries = await log.read_raw(partition, START, 7)
    assert origins == {f"{partition}/{entries[n].id}" for n in (2, 4, 5)}
    assert {letter.conversation for letter in page.items} == {"chat"}
    assert await History(log).count("chat") == 6


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


async def test_a_projection_that_is_added_later_catches_up_first(log: EventLog) -> None:
    await log.append([MessageReceived(conversation=f"c{n % 9}", text="x" * n) for n in range(90)])
    await Projector(log).run_until_caught_up()
    await log.append([MessageReceived(conversation=f"c{n % 9}", text="y") for n in range(90)])
    await Projector(log, [*DEFAULT_PROJECTIONS, LENGTHS]).run_until_caught_up()
    page = await LiveDocuments(log, LENGTHS).page("all", 20, consistency="stored")
    expected = {f"c{c}": sum(range(c, 90, 9)) + 10 for c in range(9)}
    assert {each.chat: each.characters for each in page.items} == expected
    assert await History(log).count("c1", consistency="stored") == 20


async def test_a_lost_group_is_made_again_where_the_models_stand(log: EventLog) -> None:
    events = random_events(random.Random(8), 200)
    await log.append([*events[:120]])
    await Projector(log).run_until_caught_up()
    for partition in range(4):
        await log.client.xgroup_destroy(log.keys.stream(partition), GROUP)
    await log.append([*events[120:]])
    await Projector(log).run_until_caught_up()
    assert await read_out(log, chats_of(events), "stored") == oracle(events)


async def test_a_group_that_fell_behind_its_models_is_read_over_not_folded_again(
    log: EventLog,
) -> None:
    events = random_events(random.Random(9), 150)
    await log.append([*events])
    await Projector(log).run_until_caught_up()
    for partition in range(4):
        await GroupReader(log, GROUP, partition).move(START)
    more = random_events(random.Random(10), 40)
    renamed = [msgspec.structs.replace(event, id=f"more-{event.id}") for event in more]
    await log.append([*renamed])
    await Projector(log).run_until_caught_up()
    assert await read_out(log, chats_of(events), "stored") == oracle([*events, *renamed])
    await the_group_stands_at_the_heads(log)


async def test_entries_delivered_to_another_reader_of_the_group_are_folded_all_the_same(
    log: EventLog,
) -> None:
    events = random_events(random.Random(11), 150)
    await log.append([*events])
    for partition in range(4):
        reader = GroupReader(log, GROUP, partition)
        await reader.ensure(START)
        delivered = await reader.new(10)
        stream = log.keys.stream(partition)
        await log.client.xack(stream, GROUP, *(str(raw.id) for raw in delivered))
    await Projector(log).run_until_caught_up()
    assert await read_out(log, chats_of(events), "stored") == oracle(events)
    for partition in range(4):
        assert (await log.client.xpending(log.keys.stream(partition), GROUP))["pending"] == 0


async def test_a_group_destroyed_under_a_running_projector_is_made_again(log: EventLog) -> None:
    events = random_events(random.Random(13), 200)
    stop = asyncio.Event()
    projector = Projector(log)
    running = asyncio.create_task(projector.run(stop))
    await log.append([*events[:100]])
    await projector.run_until_caught_up()
    for partition in range(4):
        await log.client.xgroup_destroy(log.keys.stream(partition), GROUP)
    await log.append([*events[100:]])
    await projector.run_until_caught_up()
    stop.set()
    await running
    assert await read_out(log, chats_of(events), "stored") == oracle(events)
    await the_group_stands_at_the_heads(log)


async def test_history_that_is_gone_is_an_error_and_never_skipped(log: EventLog) -> None:
    await log.append([MessageReceived(conversation="c", text="x") for _ in range(20)])
    partition = log.partition_of("c")
    await log.client.xtrim(log.keys.stream(partition), maxlen=5, approximate=False)
    with pytest.raises(HistoryGap, match="1 to 15"):
        await Projector(log).run_until_caught_up()
    with pytest.raises(HistoryGap):
        await History(log).last("c")
    assert (await History(log).last("c", consistency="stored")).entries == []


# --- questions -------------------------------------------------------------------------------------


async def test_a_session_is_found_without_its_conversation(log: EventLog) -> None:
    await log.append([SessionStarted(conversation=f"c{n}", session=f"s{n}") for n in range(9)])
    sessions = Sessions(log)
    for n in range(9):
        found = await sessions.get(f"s{n}")
        assert found
        assert found.conversation == f"c{n}"
    assert await sessions.get("nobody") is None
    assert await sessions.get("s1", conversation="c2-of-another-partition") in (None, found)


async def test_bad_questions_are_typed_errors(log: EventLog) -> None:
    sessions = Sessions(log)
    for cursor in ("!", "AAAA", "WzFd", "é"):
        with pytest.raises(InvalidCursor):
            await sessions.list(cursor=cursor)
    with pytest.raises(InvalidQuery, match="one of"):
        await sessions.list(status="active", project="p")
    with pytest.raises(InvalidQuery):
        await sessions.list(limit=0)
    with pytest.raises(InvalidQuery):
        await History(log).last("c", 0)
