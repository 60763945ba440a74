"""Projecting against a plain model that never sees the log: whatever happens, in whatever order.

The machine appends, projects, kills workers and builders around their commits, steals leases, builds,
swaps, rolls back, and loses shelves and groups. The model keeps the events it appended, and which
builds there must be in which role; the system is asked how far each build is, and no more.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from analytics import Archiver, DirectoryStorage, Rolling
from analytics.past import ArchivedPast
from eventlog.clock import SystemClock
from eventlog.entry import Entry
from eventlog.errors import (
    BuildMissing,
    ConfigurationError,
    EventLogError,
    Fenced,
    LogUnavailable,
)
from eventlog.event import Event
from eventlog.ids import START, EntryId
from eventlog.keys import models_pattern
from eventlog.lease import Lease, LeaseKeeper
from eventlog.log import EventLog
from eventlog.partition import partition_of
from eventlog.past import Stretch
from eventlog.vocabulary import ConversationCleared, MessageReceived, MessageSent
from projections.building import builder
from projections.building.builder import Builder, builders_of
from projections.building.rebuilding import cancel, drop, rebuild, rollback
from projections.building.verifying import verify
from projections.builtin import DEFAULT_PROJECTIONS
from projections.folding.letters import GROUP
from projections.folding.pipeline import Pipeline
from projections.folding.target import Target
from projections.projecting import worker
from projections.projecting.projector import Projector
from projections.projecting.tasks import end
from projections.projecting.worker import Work, project_partition
from projections.projection import DocumentProjection, IndexEntry, Projection
from projections.reading.live import Consistency, LiveDocuments
from projections.storing.batch import Commit, CommitOutcome, Committed
from projections.storing.build import Build, Role, Shelf
from projections.storing.redis_models import RedisModels
from projections.views.history import HISTORY
from projections.views.sessions import SESSIONS
from tests.projecting import oracle, random_events, read_out

PARTITION_COUNT = 2
CHAT_COUNT = 4
PARTITIONS = st.integers(0, PARTITION_COUNT - 1)
CHATS = [f"chat:{n}" for n in range(CHAT_COUNT)]
_numbers = itertools.count(1)

SAID_BY: Mapping[str, tuple[str, ...]] = {
    "sessions": ("sessions", "statuses"),
    "history": ("history", "history_counts"),
    "conversations": ("conversations",),
    "dead_letters": ("letters", "reasons"),
    "activity_minutes": ("minutes",),
    "activity_totals": ("totals",),
    "activity_conversations": ("chats",),
}
"""What each projection says, in the oracle's words."""


class Hasty(SystemClock):
    """A clock that hardly sleeps, and on which no two moments are the same millisecond."""

    def __init__(self) -> None:
        self._now_us = super().now_us()

    def now_us(self) -> int:
        self._now_us += 1000
        return self._now_us

    async def sleep(self, duration_s: float) -> None:
        await super().sleep(min(duration_s, 0.005))


class Tally(msgspec.Struct):
    count: int = 0


class TallyOne(DocumentProjection[Tally]):
    """Messages per conversation."""

    name = "tally"
    types = (MessageReceived, MessageSent)
    state_type = Tally
    facets: ClassVar[tuple[str, ...]] = ("is",)

    def key(self, event: Event) -> str | None:
        return event.conversation

    def initial(self, key: str) -> Tally:  # noqa: ARG002 - all begin alike
        return Tally()

    def apply(self, state: Tally, entry: Entry) -> Tally | None:  # noqa: ARG002 - it only counts
        state.count += 1
        return state

    def index(self, key: str, state: Tally) -> list[IndexEntry]:  # noqa: ARG002 - by state alone
        return [("all", state.count), ("is:odd" if state.count % 2 else "is:even", 1)]


class TallyTwo(TallyOne):
    """Events of a session per conversation, since it was cleared."""

    version = 2
    types = (Event,)

    def key(self, event: Event) -> str | None:
        concerns = event.session or isinstance(event, ConversationCleared)
        return event.conversation if concerns else None

    def apply(self, state: Tally, entry: Entry) -> Tally | None:
        return None if isinstance(entry.event, ConversationCleared) else super().apply(state, entry)


TALLIES: dict[int, TallyOne] = {1: TallyOne(), 2: TallyTwo()}


def tally(events: Sequence[Event], version: int) -> Counter[str]:
    """Return what the tally of a version must say, by conversation."""
    counts: Counter[str] = Counter()
    for event in events:
        if version == 1:
            counts[event.conversation] += event.type in ("message.received", "message.sent")
        elif event.type == "conversation.cleared":
            counts[event.conversation] = 0
        else:
            counts[event.conversation] += event.session is not None
    return +counts


def said_of_tally(counts: Counter[str]) -> dict[str, Any]:
    odd = sum(count % 2 for count in counts.values())
    return {"counts": counts, "is": +Counter(odd=odd, even=len(counts) - odd)}


BUILT = st.sampled_from([SESSIONS, HISTORY, *TALLIES.values()])
"""Projections that are built anew."""

FAULTS = ("dies before", "dies midway", "dies after", "request lost", "reply lost")


class Fault(NamedTuple):
    """What happens at one commit, counted per partition from 1."""

    kind: str
    partition: int
    at: int


class Faulty(RedisModels):
    """Read models that meet a fault, and with `swap_fault` one when a build is swapped in."""

    def __init__(
        self,
        log: EventLog,
        fault: Fault | None = None,
        swap_fault: Literal["dies before", "dies after"] | None = None,
    ) -> None:
        super().__init__(log)
        self._fault = fault
        self._swap_fault = swap_fault
        self._counts: Counter[int] = Counter()
        self.work: asyncio.Task[Any] | None = None
        self.bound: set[int] = set()
        """Partitions whose group was moved to the lowest checkpoint."""
        self.befall: Callable[[], Coroutine[Any, Any, None]] | None = None
        """What happens before documents are fetched for the first time."""

    async def documents(
        self, partition: int, wanted: Sequence[tuple[str, Sequence[str]]]
    ) -> list[list[bytes | None]]:
        befall, self.befall = self.befall, None
        if befall:
            await befall()
        return await super().documents(partition, wanted)

    async def _die(self) -> None:
        assert self.work is not None
        self.work.cancel()
        await asyncio.Event().wait()

    async def commit(self, commit: Commit) -> CommitOutcome:
        self._counts[commit.partition] += 1
        place = commit.partition, self._counts[commit.partition]
        kind = self._fault.kind if self._fault and place == self._fault[1:] else "none"
        if kind == "dies before":
            await self._die()
        if kind == "request lost":
            raise LogUnavailable("the request was lost")
        if kind == "dies midway" and self.work:
            self.work.cancel()
        outcome = await super().commit(commit)
        if outcome == Committed() and commit.moves_group:
            self.bound.add(commit.partition)
        if kind == "dies after":
            await self._die()
        if kind == "reply lost":
            raise LogUnavailable("the reply was lost")
        return outcome

    async def swap(self, builds: Mapping[int, Build]) -> None:
        if self._swap_fault == "dies before":
            await self._die()
        await super().swap(builds)
        if self._swap_fault == "dies after":
            await self._die()


class Stalled(RedisModels):
    """Read models whose commits wait until they may go on."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self.may_go_on = asyncio.Event()

    async def commit(self, commit: Commit) -> CommitOutcome:
        await self.may_go_on.wait()
        return await super().commit(commit)


class Unmoved:
    """Is told how projecting goes; that nothing stops is all it wants."""

    def on_commit(self, position: EntryId, count: int) -> None:
        """The shelf is asked instead."""

    def on_stop(self, stopped: Exception) -> None:
        raise AssertionError(stopped)


class Plain:
    """What must be on a partition's shelf: (projection, role) → build."""

    def __init__(self) -> None:
        self.builds: dict[tuple[str, Role], Build] = {}

    def readable(self, name: str, version: int) -> Build | None:
        for role in ("serving", "previous"):
            build = self.builds.get((name, role))
            if build and build.version == version:
                return build
        return None

    def kept(self, name: str, version: int) -> Build | None:
        """Return the build that projectors of that version keep up to date."""
        build = self.readable(name, version)
        return None if build == self.builds.get((name, "building")) else build

    def swap(self, name: str) -> None:
        served = self.builds.pop((name, "serving"), None)
        self.builds.pop((name, "previous"), None)
        self.builds[name, "serving"] = self.builds.pop((name, "building"))
        if served:
            self.builds[name, "previous"] = served


class ProjectingMachine(RuleBasedStateMachine):
    """Everything that can befall the read models of a log."""

    def __init__(self, server_url: str, folder: Path) -> None:
        super().__init__()
        self.events: list[list[Event]] = [[] for _ in range(PARTITION_COUNT)]
        self.shelves = [Plain() for _ in range(PARTITION_COUNT)]
        self.marks: set[str] = set()
        """Of all builds there ever were."""
        self.reached: dict[tuple[int, str], int] = {}
        """How far a build was at least, by partition and model."""
        self.bound: set[int] = set()
        """Partitions whose group must not be ahead of a serving build."""
        self.version = 1
        """Of the tally, in the program that projects."""
        number = next(_numbers)
        self._runner = asyncio.Runner()
        self._owners = (f"owner-{n}" for n in itertools.count())
        self._log: EventLog = self._run(
            EventLog.open(
                server_url,
                key_prefix=f"projecting{number}",
                partition_count=PARTITION_COUNT,
                clock=Hasty(),
            ).__aenter__()
        )
        self._storage = DirectoryStorage(folder / str(number))
        self._past = ArchivedPast(self._storage)
        self._store = RedisModels(self._log)
        self._leases: dict[int, Lease] = {}

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    # --- the plain model ---------------------------------------------------------------------------

    @property
    def projections(self) -> tuple[Projection, ...]:
        return (*DEFAULT_PROJECTIONS, TALLIES[self.version])

    def _building(self, name: str) -> dict[int, Build]:
        return self._in_role(name, "building")

    def _in_role(self, name: str, role: Role) -> dict[int, Build]:
        found = {p: shelf.builds.get((name, role)) for p, shelf in enumerate(self.shelves)}
        return {p: build for p, build in found.items() if build}

    def _swapped(self, name: str, version: int) -> None:
        for partition, build in self._building(name).items():
            if build.version == version:
                self.shelves[partition].swap(name)

    async def _learn(self, partition: int, name: str, version: int, role: Role) -> None:
        """Take a build that must have been made just now into the model."""
        build = (await self._store.shelf(partition)).get(name, role)
        assert build is not None
        assert build.version == version
        assert f"{build.model} in {partition}" not in self.marks, "a mark was used twice"
        self.marks.add(f"{build.model} in {partition}")
        self.shelves[partition].builds[name, role] = build

    async def _check_shelves(self) -> list[Shelf]:
        shelves = [await self._store.shelf(p) for p in range(PARTITION_COUNT)]
        for partition, (shelf, plain) in enumerate(zip(shelves, self.shelves, strict=True)):
            assert shelf.builds == plain.builds
            for build in shelf.builds.values():
                n = shelf.checkpoint(build).n
                place = partition, build.model
                assert self.reached.get(place, 0) <= n <= len(self.events[partition])
                self.reached[place] = n
        return shelves

    # --- appending ---------------------------------------------------------------------------------

    @initialize(seed=st.integers(0, 99))
    def begin_with_a_history(self, seed: int) -> None:
        self._append(seed, 12)
        self._run(self._work())

    @rule(seed=st.integers(0, 99), count=st.integers(1, 12))
    def append(self, seed: int, count: int) -> None:
        self._append(seed, count)

    def _append(self, seed: int, count: int) -> None:
        number = sum(map(len, self.events))
        events = [
            msgspec.structs.replace(event, id=f"{number}-{event.id}")
            for event in random_events(random.Random(seed), count, CHAT_COUNT)
        ]
        self._run(self._log.append([*events]))
        for event in events:
            self.events[partition_of(event.conversation, PARTITION_COUNT)].append(event)

    @rule(max_rows=st.sampled_from([3, 1000]))
    def archive(self, max_rows: int) -> None:
        async def run() -> None:
            rolling = Rolling(max_rows=max_rows)
            async with Archiver(self._log, self._storage, rolling=rolling) as archiver:
                await archiver.run_once()

        self._run(run())

    # --- projecting --------------------------------------------------------------------------------

    async def _lapse(self, group: str) -> None:
        """Let every lease of a group lapse, as those of the dead do."""
        for partition in range(PARTITION_COUNT):
            lease = self._log.keys.lease(partition, group)
            if await self._log.client.exists(lease):
                await self._log.client.hset(lease, "expires_ms", 0)
        await self._log.client.delete(self._log.keys.members(group))

    async def _take(self, group: str) -> dict[int, Lease]:
        """Return the leases of a group, as a new owner of all of them."""
        await self._lapse(group)
        keeper = LeaseKeeper(self._log, group, next(self._owners))
        await keeper.refresh()
        return keeper.held

    async def _work(self, fault: Fault | None = None) -> None:
        """Project all there is, or until the fault; the partition that it meets is left as it is."""
        if not self._leases:
            self._leases = await self._take(GROUP)
        await asyncio.gather(*(self._work_on(p, fault) for p in range(PARTITION_COUNT)))

    async def _work_on(
        self,
        partition: int,
        fault: Fault | None = None,
        befall: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        plain = self.shelves[partition]
        models = Faulty(self._log, fault)
        models.befall = befall
        work = Work(self._log, models, asyncio.Semaphore(), self._past)
        lease = self._leases[partition]
        task = asyncio.create_task(project_partition(work, self.projections, lease, Unmoved()))
        models.work = task
        settled = asyncio.create_task(self._settled(partition))
        await asyncio.wait({task, settled}, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        is_settled = settled.done()
        await end(settled, task)
        if not task.cancelled() and (error := task.exception()):
            assert fault, error
            assert isinstance(error, LogUnavailable), error
        assert is_settled or fault, "it neither settled nor failed"
        if not plain.builds:
            for projection in self.projections:
                await self._learn(partition, projection.name, projection.version, "serving")
        self.bound |= models.bound

    async def _settled(self, partition: int) -> None:
        """Return when a partition's shelf is not empty, and all kept up to date has reached the end."""
        head = (await self._log.heads())[partition]
        plain = self.shelves[partition]
        wanted = [(each.name, each.version) for each in self.projections]
        while True:
            shelf = await self._store.shelf(partition)
            builds = [
                plain.kept(*each) if plain.builds else shelf.readable(*each) for each in wanted
            ]
            reached = [shelf.checkpoint(build) for build in builds if build]
            if not shelf.is_empty and all(position == head for position in reached):
                return
            await self._log.clock.sleep(0.002)

    @rule()
    def project(self) -> None:
        self._run(self._work())

    @rule(kind=st.sampled_from(FAULTS), partition=PARTITIONS, at=st.integers(1, 3))
    def project_with_a_fault(self, kind: str, partition: int, at: int) -> None:
        self._run(self._work(Fault(kind, partition, at)))

    @rule(partition=PARTITIONS, seed=st.integers(0, 99))
    def project_while_a_commit_comes_late(self, partition: int, seed: int) -> None:
        self._append(seed, 6)
        self._run(self._overtake(partition))

    async def _overtake(self, partition: int) -> None:
        """Begin anew under the same lease, while a commit given up is still on its way."""
        if not self._leases:
            self._leases = await self._take(GROUP)
        shelf, stalled = await self._store.shelf(partition), Stalled(self._log)
        targets = worker.targets_on(shelf, self.projections)
        checkpoints = {shelf.checkpoint(target.build) for target in targets}
        head = (await self._log.heads())[partition]
        if len(checkpoints) != 1 or {head} == checkpoints:
            return
        [checkpoint] = checkpoints
        late = Pipeline(self._log, stalled, targets, self._leases[partition], checkpoint)
        entries = await self._log.read_raw(partition, checkpoint, late.batch_limit)
        await late.put(Stretch(entries, entries[-1].id))

        async def arrive() -> None:
            stalled.may_go_on.set()
            with suppress(EventLogError):  # the group may be gone
                await late.flush()

        try:
            await self._work_on(partition, befall=arrive)
        finally:
            await late.abandon()  # where no documents were fetched it never arrived

    @rule()
    def hand_over(self) -> None:
        self._leases = self._run(self._take(GROUP))

    @rule(version=st.sampled_from([1, 2]))
    def deploy(self, version: int) -> None:
        self.version = version

    # --- leases stolen -----------------------------------------------------------------------------

    @rule(
        partition=PARTITIONS,
        projection=st.sampled_from([*DEFAULT_PROJECTIONS, *TALLIES.values()]),
        is_builder=st.booleans(),
        thief_works=st.booleans(),
        seed=st.integers(0, 99),
    )
    def steal_a_lease(
        self,
        partition: int,
        projection: Projection,
        is_builder: bool,
        thief_works: bool,
        seed: int,
    ) -> None:
        self._append(seed, 6)
        shelf = self.shelves[partition]
        name, version = projection.name, projection.version
        build = (
            shelf.builds.get((name, "building")) if is_builder else shelf.readable(name, version)
        )
        if build is not None and build.version == version:
            roles: tuple[Role, ...] = ("building",) if is_builder else ("serving", "previous")
            [role, *_] = [role for role in roles if shelf.builds.get((name, role)) == build]
            target = Target(projection, build, role)
            self._run(self._steal(partition, target, thief_works))

    async def _steal(self, partition: int, target: Target, thief_works: bool) -> None:
        is_builder = target.role == "building"
        group = builders_of(target.projection) if is_builder else GROUP
        stale = await self._take(group)
        if not is_builder:
            self._leases = stale
        checkpoint = (await self._store.shelf(partition)).checkpoint(target.build)
        stalled = Stalled(self._log)
        late = Pipeline(
            self._log, stalled, [target], stale[partition], checkpoint, moves_group=not is_builder
        )
        entries = await self._log.read_raw(partition, checkpoint, 5)
        if not entries:
            return
        await late.put(Stretch(entries, entries[-1].id))
        try:
            if is_builder and thief_works:
                await self._finish(target.projection)
            else:
                taken = await self._take(group)
                self._leases = self._leases if is_builder else taken
                if thief_works:
                    await self._work()
            before = await self._dump()
            stalled.may_go_on.set()
            with pytest.raises(Fenced):
                await late.flush()
            assert await self._dump() == before
        finally:
            await late.abandon()

    async def _dump(self) -> dict[bytes, bytes]:
        """Return everything that is stored of this log."""
        client = self._log.client
        pattern = f"{{{self._log.keys.log}:*"
        keys = sorted([key async for key in client.scan_iter(pattern, count=1000)])
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.dump(key)
        return dict(zip(keys, await pipeline.execute(), strict=True))

    # --- building ----------------------------------------------------------------------------------

    @rule(projection=BUILT)
    def begin_a_build(self, projection: Projection) -> None:
        self._run(self._begin(projection))

    async def _begin(self, projection: Projection) -> None:
        name, version = projection.name, projection.version
        build = Build.begin(name, version, self._log.clock.now_us())
        for partition in range(PARTITION_COUNT):
            begun = await self._store.begin(partition, build)
            if (there := self._building(name).get(partition)) is not None:
                assert begun == there
            else:
                assert begun == build
                await self._learn(partition, name, version, "building")

    async def _finish(self, projection: Projection, models: Faulty | None = None) -> None:
        """Build until nothing is left to build of it, or until death."""
        await self._lapse(builders_of(projection))
        build = Builder(
            self._log,
            projection,
            past=self._past,
            store=models or self._store,
            owner=next(self._owners),
        )
        task = asyncio.create_task(build.run())
        if models:
            models.work = task
        done, _ = await asyncio.wait({task}, timeout=10)
        assert done, "it never ends"
        shelves = [await self._store.shelf(p) for p in range(PARTITION_COUNT)]
        building = self._building(projection.name)
        left = {p: b for p, b in building.items() if shelves[p].get(b.name, "building") == b}
        if not task.cancelled():
            task.result()
            assert not any(build.version == projection.version for build in left.values())
        ended = {p: b for p, b in building.items() if b.version == projection.version}
        assert left == building or not left.keys() & ended.keys(), "some were swapped, some not"
        if left != building:
            self._swapped(projection.name, projection.version)

    @rule(
        projection=BUILT,
        kind=st.sampled_from(FAULTS),
        partition=PARTITIONS,
        at=st.integers(1, 3),
        swap_fault=st.sampled_from([None, None, "dies before", "dies after"]),
    )
    def build_with_a_fault(
        self,
        projection: Projection,
        kind: str,
        partition: int,
        at: int,
        swap_fault: Literal["dies before", "dies after"] | None,
    ) -> None:
        models = Faulty(self._log, Fault(kind, partition, at), swap_fault)
        self._run(self._finish(projection, models))

    @rule(projection=BUILT)
    def finish_a_build(self, projection: Projection) -> None:
        self._run(self._finish(projection))

    @rule(projection=BUILT)
    def rebuild(self, projection: Projection) -> None:
        self._run(self._rebuild(projection))

    async def _rebuild(self, projection: Projection) -> None:
        name, version = projection.name, projection.version
        await self._lapse(builders_of(projection))
        building = self._building(name)
        if any(build.version != version for build in building.values()):
            with pytest.raises(ConfigurationError):
                await rebuild(self._log, projection, past=self._past)
            # It may have begun in the partitions before the one where it met the other.
            for partition in range(PARTITION_COUNT):
                shelf = await self._store.shelf(partition)
                if partition not in building and shelf.get(name, "building"):
                    await self._learn(partition, name, version, "building")
            return
        await rebuild(self._log, projection, past=self._past)
        for partition in range(PARTITION_COUNT):
            if partition not in building:
                served = self.shelves[partition].builds.pop((name, "serving"), None)
                self.shelves[partition].builds.pop((name, "previous"), None)
                await self._learn(partition, name, version, "serving")
                if served:
                    self.shelves[partition].builds[name, "previous"] = served
        self._swapped(name, version)

    @rule(projection=BUILT)
    def roll_back(self, projection: Projection) -> None:
        self._run(self._roll_back(projection))

    async def _roll_back(self, projection: Projection) -> None:
        name = projection.name
        await self._lapse(builders_of(projection))
        previous, building = self._in_role(name, "previous"), self._building(name)
        roll_back = partial(rollback, self._log, projection, past=self._past)
        if not previous:
            with pytest.raises(BuildMissing):
                await roll_back()
            return
        if any(p in previous and previous[p] != build for p, build in building.items()):
            with pytest.raises(ConfigurationError):
                await roll_back()
            for partition, build in previous.items():
                shelf = await self._store.shelf(partition)
                if partition not in building and shelf.get(name, "building") == build:
                    self.shelves[partition].builds[name, "building"] = build
            return
        await roll_back()
        for partition, build in previous.items():
            self.shelves[partition].builds[name, "building"] = build
        if all(build.version == projection.version for build in previous.values()):
            self._swapped(name, projection.version)
        else:
            for partition in previous:
                self.shelves[partition].swap(name)

    @rule(name=st.sampled_from(["sessions", "history", "tally"]), gives_up=st.booleans())
    def put_away(self, name: str, gives_up: bool) -> None:
        role: Role = "building" if gives_up else "previous"
        self._run(self._put_away(name, role, cancel if gives_up else drop))

    async def _put_away(self, name: str, role: Role, call: Callable[..., Any]) -> None:
        builds = self._in_role(name, role)
        if not builds:
            with pytest.raises(BuildMissing):
                await call(self._log, name)
            return
        await call(self._log, name)
        for partition in builds:
            del self.shelves[partition].builds[name, role]
        await self._check_that_nothing_else_is_stored(name)

    async def _check_that_nothing_else_is_stored(self, name: str) -> None:
        pattern = models_pattern(self._log.keys.log, name)
        async for key in self._log.client.scan_iter(pattern, count=1000):
            kept = (
                f"{{{self._log.keys.log}:{partition}}}:model:{build.model}:"
                for partition, shelf in enumerate(self.shelves)
                for build in shelf.builds.values()
            )
            assert key.decode().startswith(tuple(kept)), "what no shelf names is still stored"

    # --- what a server can lose ----------------------------------------------------------------------

    @rule(partition=PARTITIONS)
    def destroy_the_group(self, partition: int) -> None:
        with suppress(Exception):  # where there is none yet
            self._run(self._log.client.xgroup_destroy(self._log.keys.stream(partition), GROUP))

    @rule(partition=PARTITIONS)
    def lose_a_shelf(self, partition: int) -> None:
        self._run(self._log.client.delete(self._log.keys.shelf(partition)))
        self.shelves[partition] = Plain()
        self.bound.discard(partition)

    # --- what must hold ------------------------------------------------------------------------------

    @invariant()
    def shelves_reads_and_group_are_what_they_must_be(self) -> None:
        self._run(self._check())

    async def _check(self) -> None:
        shelves = await self._check_shelves()
        await self._check_reads("live", shelves)
        await self._check_reads("stored", shelves)
        await self._check_groups(shelves)

    async def _check_reads(self, consistency: Consistency, shelves: list[Shelf]) -> None:
        expected: dict[str, Any] = {}
        for name, words in SAID_BY.items():
            said = oracle(self._seen(name, 1, shelves if consistency == "stored" else None))
            expected |= {word: said[word] for word in words}
        assert await read_out(self._log, CHATS, consistency, page_size=50) == expected
        for version, projection in TALLIES.items():
            seen = self._seen("tally", version, shelves if consistency == "stored" else None)
            documents = LiveDocuments(self._log, projection)
            found: Counter[str] = Counter()
            for chat in CHATS:
                for document in await documents.find(chat, consistency):
                    found[chat] += document.count
            page = await documents.page("all", 50, consistency=consistency)
            counted = Counter(await documents.counts("is", consistency))
            assert {"counts": found, "is": counted} == said_of_tally(tally(seen, version))
            assert sorted(each.count for each in page.items) == sorted(found.values())

    def _seen(self, name: str, version: int, shelves: list[Shelf] | None) -> list[Event]:
        """Return the events that readers see, those stored where shelves are given."""
        if shelves is None:
            return [event for events in self.events for event in events]
        seen: list[Event] = []
        for shelf, plain, events in zip(shelves, self.shelves, self.events, strict=True):
            build = plain.readable(name, version)
            if build is not None:
                seen += events[: shelf.checkpoint(build).n]
        return seen

    async def _check_groups(self, shelves: list[Shelf]) -> None:
        for partition, shelf in enumerate(shelves):
            stream = self._log.keys.stream(partition)
            if not await self._log.client.exists(stream):
                continue
            for group in await self._log.client.xinfo_groups(stream):
                if group["name"] != GROUP.encode():
                    continue
                assert group["pending"] == 0
                serving = [b for (_, role), b in shelf.builds.items() if role == "serving"]
                lowest = min(map(shelf.checkpoint, serving), default=START)
                if partition in self.bound:
                    assert EntryId.parse(group["last-delivered-id"]) <= lowest

    def teardown(self) -> None:
        try:
            self._run(self._check_the_end())
        finally:
            self._run(self._log.close())
            self._runner.close()

    async def _check_the_end(self) -> None:
        """Let a projector heal everything that a projector heals, and look at all of it."""
        for group in (GROUP, *(builders_of(p) for p in (*DEFAULT_PROJECTIONS, *TALLIES.values()))):
            await self._lapse(group)
        wanted = TALLIES[self.version]
        if any(build.version != self.version for build in self._building("tally").values()):
            await cancel(self._log, "tally")
        projector = Projector(self._log, self.projections, past=self._past)
        await asyncio.wait_for(projector.run_until_caught_up(), 20)
        events = [event for part in self.events for event in part]
        for consistency in ("live", "stored"):
            told = await read_out(self._log, CHATS, consistency, page_size=3)
            assert told == oracle(events)
        documents = LiveDocuments(self._log, wanted)
        counts = {c: [d.count for d in await documents.find(c, "stored")] for c in CHATS}
        counted = tally(events, self.version)
        assert counts == {c: [counted[c]] if counted[c] else [] for c in CHATS}
        for projection in self.projections:
            async for verified in verify(self._log, projection, past=self._past):
                assert verified.agrees, verified
                assert verified.stored_digest == verified.folded_digest


def test_projecting_keeps_to_its_model(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small measures, so that a few events are many batches, far behind and near the end.
    monkeypatch.setitem(Pipeline.__init__.__kwdefaults__, "batch_entries", 16)
    monkeypatch.setattr(builder, "BATCH_ENTRIES", 24)
    monkeypatch.setattr(builder, "NEAR_ENTRIES", 3)
    monkeypatch.setattr(worker, "NEAR_ENTRIES", 6)
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: ProjectingMachine(server_url, tmp_path),
        settings=settings(
            max_examples=20,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],  # to shrink the steps would take longer than a test may
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
