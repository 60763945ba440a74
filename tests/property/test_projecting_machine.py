"""Projecting against a plain model that never sees the log: whatever happens, in whatever order.

The machine appends, projects, kills workers and builders around their commits, steals leases, lets what
is idle leave Redis, builds, swaps, rolls back, and loses shelves and groups. The model keeps the events it appended, and which
builds there must be in which role; the system is asked how far each build is, and no more.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

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
from eventlog.errors import (
    BuildMissing,
    ConfigurationError,
    EventLogError,
    Fenced,
    LogUnavailable,
)
from eventlog.ids import START, EntryId
from eventlog.keys import models_pattern
from eventlog.lease import Lease, LeaseKeeper
from eventlog.log import EventLog
from eventlog.past import Stretch
from eventlog.tasks import end
from projections.building import builder
from projections.building.builder import Builder, builders_of
from projections.building.rebuilding import cancel, drop, rebuild, rollback
from projections.building.verifying import verify
from projections.builtin import DEFAULT_PROJECTIONS
from projections.folding.leaving import Leaving
from projections.folding.letters import GROUP
from projections.folding.pipeline import Pipeline
from projections.folding.target import Target
from projections.projecting import worker
from projections.projecting.projector import Projector
from projections.projecting.worker import Work, project_partition
from projections.projection import Projection
from projections.reading.live import Consistency, LiveDocuments
from projections.storing.build import Build, Role, Shelf
from projections.storing.redis_models import RedisModels
from projections.views.history import HISTORY
from projections.views.sessions import SESSIONS
from tests.leaving import Dying
from tests.projecting import oracle, random_events, read_out
from tests.property.projecting_faults import FAULTS, Fault, Faulty, Hasty, Stalled, Unmoved
from tests.property.projecting_model import (
    CHAT_COUNT,
    CHATS,
    PARTITION_COUNT,
    TALLIES,
    Model,
    said_of_tally,
)
from tests.strategies import EXAMPLES

PARTITIONS = st.integers(0, PARTITION_COUNT - 1)
_numbers = itertools.count(1)

BUILT = st.sampled_from([SESSIONS, HISTORY, *TALLIES.values()])
"""Projections that are built anew."""


class ProjectingMachine(RuleBasedStateMachine):
    """Everything that can befall the read models of a log."""

    def __init__(self, server_url: str, folder: Path) -> None:
        super().__init__()
        self.model = Model()
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

    async def _learn(self, partition: int, name: str, version: int, role: Role) -> None:
        """Take a build that must have been made just now into the model."""
        build = (await self._store.shelf(partition)).get(name, role)
        assert build is not None
        assert build.version == version
        self.model.learn(partition, build, role)

    async def _shelves(self) -> list[Shelf]:
        return [await self._store.shelf(p) for p in range(PARTITION_COUNT)]

    # --- appending ---------------------------------------------------------------------------------

    @initialize(seed=st.integers(0, 99))
    def begin_with_a_history(self, seed: int) -> None:
        self._append(seed, 12)
        self._run(self._work())

    @rule(seed=st.integers(0, 99), count=st.integers(1, 12))
    def append(self, seed: int, count: int) -> None:
        self._append(seed, count)

    def _append(self, seed: int, count: int) -> None:
        number = len(self.model.all_events)
        events = [
            msgspec.structs.replace(event, id=f"{number}-{event.id}")
            for event in random_events(random.Random(seed), count, CHAT_COUNT)
        ]
        self._run(self._log.append([*events]))
        for event in events:
            self.model.append(event)

    @rule(max_rows=st.sampled_from([3, 1000]))
    def archive(self, max_rows: int) -> None:
        async def run() -> None:
            rolling = Rolling(max_rows=max_rows)
            async with Archiver(self._log, self._storage, rolling=rolling) as archiver:
                await archiver.run_once()

        self._run(run())

    @rule(dies=st.booleans())
    def let_go(self, dies: bool) -> None:
        """Archive all, and let go of what is idle, as a new owner; one may die before it is gone."""
        self.archive(1000)
        self._run(self._let_go(dies))

    async def _let_go(self, dies: bool) -> None:
        self._leases = await self._take(GROUP)
        for partition, lease in self._leases.items():
            shelf = await self._store.shelf(partition)
            targets = worker.targets_on(shelf, self.model.projections)
            checkpoints = {shelf.checkpoint(target.build) for target in targets}
            if len(checkpoints) == 1:
                store = Dying(self._log) if dies else self._store
                pipeline = Pipeline(self._log, store, targets, lease, checkpoints.pop())
                with suppress(LogUnavailable):
                    await Leaving(self._log, store, self._past, pipeline).whole_pass()

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
        plain = self.model.shelves[partition]
        models = Faulty(self._log, fault)
        models.befall = befall
        work = Work(self._log, models, asyncio.Semaphore(), self._past)
        lease = self._leases[partition]
        task = asyncio.create_task(
            project_partition(work, self.model.projections, lease, Unmoved())
        )
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
            for projection in self.model.projections:
                await self._learn(partition, projection.name, projection.version, "serving")
        self.model.bound |= models.bound

    async def _settled(self, partition: int) -> None:
        """Return when a partition's shelf is not empty, and all kept up to date has reached the end."""
        head = (await self._log.heads())[partition]
        plain = self.model.shelves[partition]
        wanted = [(each.name, each.version) for each in self.model.projections]
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
        targets = worker.targets_on(shelf, self.model.projections)
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
        self.model.version = version

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
        shelf = self.model.shelves[partition]
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
            if (there := self.model.in_role(name, "building").get(partition)) is not None:
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
        shelves = await self._shelves()
        building = self.model.in_role(projection.name, "building")
        left = {p: b for p, b in building.items() if shelves[p].get(b.name, "building") == b}
        if not task.cancelled():
            task.result()
            assert not any(build.version == projection.version for build in left.values())
        ended = {p: b for p, b in building.items() if b.version == projection.version}
        assert left == building or not left.keys() & ended.keys(), "some were swapped, some not"
        if left != building:
            self.model.swap(projection.name, projection.version)

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
        building = self.model.in_role(name, "building")
        if any(build.version != version for build in building.values()):
            with pytest.raises(ConfigurationError):
                await rebuild(self._log, projection, past=self._past)
            return
        await rebuild(self._log, projection, past=self._past)
        for partition in range(PARTITION_COUNT):
            if partition not in building:
                self.model.shelves[partition].step_down(name)
                await self._learn(partition, name, version, "serving")
        self.model.swap(name, version)

    @rule(projection=BUILT)
    def roll_back(self, projection: Projection) -> None:
        self._run(self._roll_back(projection))

    async def _roll_back(self, projection: Projection) -> None:
        name = projection.name
        await self._lapse(builders_of(projection))
        previous = self.model.in_role(name, "previous")
        building = self.model.in_role(name, "building")
        roll_back = partial(rollback, self._log, projection, past=self._past)
        if not previous:
            with pytest.raises(BuildMissing):
                await roll_back()
            return
        if any(p in previous and previous[p] != build for p, build in building.items()):
            with pytest.raises(ConfigurationError):
                await roll_back()
            return
        await roll_back()
        for partition, build in previous.items():
            self.model.shelves[partition].builds[name, "building"] = build
        if all(build.version == projection.version for build in previous.values()):
            self.model.swap(name, projection.version)
        else:
            for partition in previous:
                self.model.shelves[partition].swap(name)

    @rule(name=st.sampled_from(["sessions", "history", "tally"]), gives_up=st.booleans())
    def put_away(self, name: str, gives_up: bool) -> None:
        role: Role = "building" if gives_up else "previous"
        self._run(self._put_away(name, role, cancel if gives_up else drop))

    async def _put_away(self, name: str, role: Role, call: Callable[..., Any]) -> None:
        builds = self.model.in_role(name, role)
        if not builds:
            with pytest.raises(BuildMissing):
                await call(self._log, name)
            return
        await call(self._log, name)
        for partition in builds:
            del self.model.shelves[partition].builds[name, role]
        await self._check_that_nothing_else_is_stored(name)

    async def _check_that_nothing_else_is_stored(self, name: str) -> None:
        pattern = models_pattern(self._log.keys.log, name)
        async for key in self._log.client.scan_iter(pattern, count=1000):
            kept = (
                f"{{{self._log.keys.log}:{partition}}}:model:{build.model}:"
                for partition, shelf in enumerate(self.model.shelves)
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
        self.model.lose_shelf(partition)

    # --- what must hold ------------------------------------------------------------------------------

    @invariant()
    def shelves_reads_and_group_are_what_they_must_be(self) -> None:
        self._run(self._check())

    async def _check(self) -> None:
        shelves = await self._shelves()
        self.model.check(shelves)
        await self._check_reads("live", shelves)
        await self._check_reads("stored", shelves)
        await self._check_groups(shelves)

    async def _check_reads(self, consistency: Consistency, shelves: list[Shelf]) -> None:
        stored = shelves if consistency == "stored" else None
        told = await read_out(self._log, CHATS, consistency, page_size=50, past=self._past)
        assert told == self.model.said(stored)
        for version, projection in TALLIES.items():
            documents = LiveDocuments(self._log, projection)
            found: Counter[str] = Counter()
            for chat in CHATS:
                for document in await documents.find(chat, consistency):
                    found[chat] += document.count
            page = await documents.page("all", 50, consistency=consistency)
            counted = Counter(await documents.counts("is", consistency))
            expected = said_of_tally(self.model.tallied(version, stored))
            assert {"counts": found, "is": counted} == expected
            assert sorted(each.count for each in page.items) == sorted(found.values())

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
                if partition in self.model.bound:
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
        version, building = self.model.version, self.model.in_role("tally", "building")
        if any(build.version != version for build in building.values()):
            await cancel(self._log, "tally")
        projector = Projector(self._log, self.model.projections, past=self._past)
        await asyncio.wait_for(projector.run_until_caught_up(), 20)
        for consistency in ("live", "stored"):
            told = await read_out(self._log, CHATS, consistency, page_size=3, past=self._past)
            assert told == oracle(self.model.all_events)
        documents = LiveDocuments(self._log, TALLIES[version])
        counts = {c: [d.count for d in await documents.find(c, "stored")] for c in CHATS}
        counted = self.model.tallied(version, None)
        assert counts == {c: [counted[c]] if counted[c] else [] for c in CHATS}
        for projection in self.model.projections:
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
            max_examples=12 * EXAMPLES,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],  # to shrink the steps would take longer than a test may
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
