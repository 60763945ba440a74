"""The projector on a real server: follows, shares, parks poison, heals, and never skips."""

from __future__ import annotations

import asyncio
import random
from typing import Literal

import msgspec
import pytest

from eventlog.errors import HistoryGap, ProjectionStopped
from eventlog.group import GroupReader
from eventlog.ids import START, EntryId
from eventlog.lease import LeaseKeeper
from eventlog.log import EventLog
from eventlog.tasks import end
from eventlog.vocabulary import MessageReceived
from projections.builtin import DEFAULT_PROJECTIONS
from projections.folding.letters import GROUP
from projections.folding.pipeline import BATCH_ENTRIES
from projections.projecting.projector import Projector
from projections.projecting.worker import TURN_BATCHES, Work, project_partition
from projections.reading.live import LiveDocuments
from projections.storing.batch import Commit, CommitOutcome
from projections.storing.redis_models import RedisModels
from projections.views.dead_letters import DeadLetters
from projections.views.history import History
from tests.own_projections import LENGTHS, Length
from tests.projecting import chats_of, oracle, random_events, read_out
from tests.support import eventually


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

    class Committed:
        def __init__(self, partition: int) -> None:
            self._partition = partition

        def on_commit(self, position: EntryId, _count: int) -> None:
            committed.append((self._partition, position.n))

        def on_stop(self, stopped: ProjectionStopped) -> None:
            raise AssertionError(stopped)

    def work_on(partition: int) -> asyncio.Task[None]:
        return asyncio.create_task(
            project_partition(
                Work(log, models, turns),
                DEFAULT_PROJECTIONS,
                keeper.held[partition],
                Committed(partition),
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
        stream = log.keys.stream(partition)
        [[_, delivered]] = await log.client.xreadgroup(GROUP, "other", {stream: ">"}, 10)
        await log.client.xack(stream, GROUP, *(entry_id for entry_id, _ in delivered))
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
