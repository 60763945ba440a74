"""Retention among all that reads, against a plain account of who still needs what.

The machine moves groups, builds of read models, the archiver and an eraser by hand, at any of their
steps, and lets a trimmer loose on them that may know what they were a while ago, and may die at any
moment. Whatever leaves the stream must have been needed by nobody when it left.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Coroutine, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from analytics import Archiver, Catalogue, DirectoryStorage, Policy, Retention, Rolling, Warehouse
from analytics.archiver import GROUP as ARCHIVER
from analytics.steps import STEPS, Step
from analytics.trim import trim
from consumers.groups import forget
from consumers.registration import register
from eventlog import EventLog
from eventlog.exclusive_lease import ExclusiveLease
from eventlog.ids import START, EntryId
from eventlog.scripts import load_script
from eventlog.stream_rewriting import LEASE_GROUP, StreamRewriter
from projections.storing.build import Build, Role
from projections.storing.redis_models import RedisModels
from tests.logs import conversation_in, messages

PARTITIONS = (0, 1)
GROUPS = ("g", "h")
VIEWS = ("v", "w")

PARTIES = (
    "nobody", "pending", "undelivered", "stranger", "lost", "archive", "acknowledged", "serving", "previous",
    "building", "unprojected", "eraser",
)  # fmt: skip
"""Who alone may still need something when all others have done what they have to do."""

partitions = st.sampled_from(PARTITIONS)
names = st.sampled_from(GROUPS)
views = st.sampled_from(VIEWS)


class Crash(BaseException):
    """The process is gone: nothing that catches errors may tidy up."""


class Reader(NamedTuple):
    """How far a group is in a partition, as the account has it."""

    delivered_n: int
    pending: frozenset[int]
    is_lost: bool = False


class Known(NamedTuple):
    """What a trimmer learned at some time."""

    groups: list[str]
    archived: dict[int, EntryId]


class RetentionMachine(RuleBasedStateMachine):
    def __init__(
        self, open_log: Callable[[], EventLog], folder: Path, parties: Sequence[str] = PARTIES
    ) -> None:
        super().__init__()
        self.parties = parties
        self._runner = asyncio.Runner()
        self.log: EventLog = self._run(open_log().__aenter__())
        self.storage = DirectoryStorage(folder / self.log.keys.log)
        self.catalogue = Catalogue(self.storage)
        self.models = RedisModels(self.log)
        self.ids: dict[int, list[EntryId]] = {p: [START] for p in PARTITIONS}
        self.there: dict[int, set[int]] = {p: set() for p in PARTITIONS}
        self.readers: dict[tuple[str, int], Reader] = {}
        self.checkpoints: dict[tuple[int, Build], int] = {}
        self.roles: dict[tuple[int, str, Role], Build] = {}
        self.erasing: dict[int, int] = {}
        self.known: Known | None = None
        self._versions = itertools.count(1)

    def teardown(self) -> None:
        try:
            self._run(self._query())
        finally:
            self._run(self.log.close())
            self._runner.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    # --- the account -----------------------------------------------------------------------------

    def needed(self, partition: int, n: int, archived_n: int) -> str | None:
        """Return who needs an entry that is there, None where nobody does."""
        if n > archived_n:
            return "archive"
        for (group, place), reader in self.readers.items():
            if place == partition and (
                reader.is_lost or n > reader.delivered_n or n in reader.pending
            ):
                return group
        builds = [build for (place, *_), build in self.roles.items() if place == partition]
        for build in builds:
            if n > self.checkpoints[partition, build]:
                return build.model
        if not builds:
            return "unprojected"
        return "eraser" if partition in self.erasing else None

    def _archived_n(self, partition: int) -> int:
        """Return up to where segments hold the partition and their archiver knows it."""
        groups = self._run(self._groups_on(partition))
        acknowledged = groups.get(ARCHIVER, START).n
        return min(acknowledged, self.catalogue.coverage(partition).position.n)

    async def _groups_on(self, partition: int) -> dict[str, EntryId]:
        stream = self.log.keys.stream(partition)
        if not await self.log.client.exists(stream):
            return {}
        found = await self.log.client.xinfo_groups(stream)
        return {g["name"].decode(): EntryId.parse(g["last-delivered-id"]) for g in found}

    def _in_stream(self, partition: int) -> list[int]:
        return [entry.id.n for entry in self._run(self.log.read_raw(partition, START, 100_000))]

    def _trimmed(self) -> None:
        """Compare what is gone since with the account, which nothing else has changed meanwhile."""
        for partition in PARTITIONS:
            there = set(self._in_stream(partition))
            gone = sorted(self.there[partition] - there)
            archived_n = self._archived_n(partition) if gone else 0
            for n in gone:
                who = self.needed(partition, n, archived_n)
                assert who is None, f"{partition}/{n} is gone, and {who} needs it"
            self.there[partition] = there

    # --- appending and reading -------------------------------------------------------------------

    @rule(partition=partitions, count=st.integers(1, 12))
    def append(self, partition: int, count: int) -> None:
        chat = conversation_in(self.log, partition)
        results = self._run(self.log.append(messages(chat, count)))
        for result in results:
            assert result.sequence == len(self.ids[partition])
            self.ids[partition].append(result.id)
            self.there[partition].add(result.sequence)

    @rule(group=names, start=st.sampled_from(["beginning", "now"]))
    def register(self, group: str, start: Any) -> None:
        self._run(register(self.log, group, start))
        for partition in PARTITIONS:
            head_n = len(self.ids[partition]) - 1
            first_n = min(self.there[partition], default=head_n + 1)
            begins = Reader(head_n if start == "now" else first_n - 1, frozenset())
            self.readers.setdefault((group, partition), begins)

    @rule(group=names, partition=partitions, count=st.integers(1, 8))
    def read(self, group: str, partition: int, count: int) -> None:
        self._read_on(group, partition, count)

    def _read_on(self, group: str, partition: int, count: int) -> None:
        reader = self.readers.get((group, partition))
        if reader is None or reader.is_lost:
            return
        stream = self.log.keys.stream(partition)
        command = "XREADGROUP", "GROUP", group, "c", "COUNT", count, "STREAMS", stream, ">"
        reply = self._run(self.log.client.execute_command(*command))
        entries = reply[0][1] if reply else []
        delivered = [EntryId.parse(entry_id).n for entry_id, _ in entries]
        first_n = reader.delivered_n + 1
        assert delivered == list(range(first_n, first_n + len(delivered))), "it skipped entries"
        upto = reader.delivered_n + len(delivered)
        self.readers[group, partition] = Reader(upto, reader.pending | set(delivered))

    @rule(group=names, partition=partitions, data=st.data())
    def ack(self, group: str, partition: int, data: st.DataObject) -> None:
        reader = self.readers.get((group, partition))
        if reader is None or not reader.pending:
            return
        some = st.sets(st.sampled_from(sorted(reader.pending)))
        self._acknowledge(group, partition, data.draw(st.just(reader.pending) | some))

    def _acknowledge(self, group: str, partition: int, done: Set[int]) -> None:
        reader = self.readers[group, partition]
        if done:
            ids = [str(self.ids[partition][n]) for n in done]
            self._run(self.log.client.xack(self.log.keys.stream(partition), group, *ids))
        self.readers[group, partition] = reader._replace(pending=reader.pending - done)

    @rule(group=names)
    def retire(self, group: str) -> None:
        self._run(forget(self.log, group))
        for partition in PARTITIONS:
            self.readers.pop((group, partition), None)

    @rule(group=names, partition=partitions)
    def lose_or_find(self, group: str, partition: int) -> None:
        """The server loses a group with its pending list; or it is made again where it was."""
        reader = self.readers.get((group, partition))
        if reader is not None and reader.is_lost:
            self._find_in(group, partition)
        elif reader is not None:
            self._lose(group, partition)

    def _lose(self, group: str, partition: int) -> None:
        reader = self.readers[group, partition]
        self._run(self.log.client.xgroup_destroy(self.log.keys.stream(partition), group))
        position_n = min(reader.pending, default=reader.delivered_n + 1) - 1
        self.readers[group, partition] = Reader(position_n, frozenset(), is_lost=True)

    def _find_in(self, group: str, partition: int) -> None:
        reader, stream = self.readers[group, partition], self.log.keys.stream(partition)
        position = self.ids[partition][reader.delivered_n]
        self._run(self.log.client.xgroup_create(stream, group, str(position), mkstream=True))
        self.readers[group, partition] = reader._replace(is_lost=False)

    def _come_unregistered(self) -> None:
        """A group that somebody made by hand, where the log ends."""
        for partition in PARTITIONS:
            if ("s", partition) not in self.readers:
                stream, head = self.log.keys.stream(partition), self.ids[partition][-1]
                self._run(self.log.client.xgroup_create(stream, "s", str(head), mkstream=True))
                head_n = len(self.ids[partition]) - 1
                self.readers["s", partition] = Reader(head_n, frozenset())

    # --- read models -----------------------------------------------------------------------------

    @initialize(is_projected=st.booleans())
    def claim(self, is_projected: bool) -> None:
        if is_projected:
            for partition in PARTITIONS:
                build = Build("v", next(self._versions), "0")
                self._run(self.models.claim(partition, [build]))
                self.roles[partition, "v", "serving"] = build
                self.checkpoints[partition, build] = 0

    @rule(partition=partitions, view=views)
    def begin_build(self, partition: int, view: str) -> None:
        build = Build(view, next(self._versions), "0")
        made = self._run(self.models.begin(partition, build))
        self.roles[partition, view, "building"] = made
        self.checkpoints.setdefault((partition, made), 0)

    @precondition(lambda self: self.roles)
    @rule(data=st.data(), is_all=st.booleans())
    def fold(self, data: st.DataObject, is_all: bool) -> None:
        """One build folds some entries; or all of a partition fold all there are."""
        (partition, *_), build = data.draw(st.sampled_from(sorted(self.roles.items())))
        builds = {b for (p, *_), b in self.roles.items() if p == partition} if is_all else {build}
        head_n = len(self.ids[partition]) - 1
        for each in builds:
            old_n = self.checkpoints[partition, each]
            new_n = head_n if is_all else data.draw(st.integers(old_n, head_n))
            self._fold(partition, each, new_n)

    def _fold(self, partition: int, build: Build, upto_n: int) -> None:
        shelf, checkpoint = self.log.keys.shelf(partition), str(self.ids[partition][upto_n])
        self._run(self.log.client.execute_command("HSET", shelf, build.model, checkpoint))
        self.checkpoints[partition, build] = upto_n

    @rule(partition=partitions, view=views)
    def swap(self, partition: int, view: str) -> None:
        build = self.roles.pop((partition, view, "building"), None)
        if build is None:
            return
        self._run(self.models.swap({partition: build}))
        served = self.roles.pop((partition, view, "serving"), None)
        self.roles[partition, view, "serving"] = build
        self.roles.pop((partition, view, "previous"), None)
        if served is not None:
            self.roles[partition, view, "previous"] = served

    @precondition(lambda self: self.roles)
    @rule(data=st.data())
    def put_away(self, data: st.DataObject) -> None:
        self._put_away(*data.draw(st.sampled_from(sorted(self.roles))))

    def _put_away(self, partition: int, view: str, role: Role) -> None:
        build = self.roles.pop((partition, view, role))
        self._run(self.models.put_away(partition, build, role))

    # --- the archiver and the eraser -------------------------------------------------------------

    @rule(dies_at=st.sampled_from([None, None, *STEPS]), times=st.integers(1, 2))
    def archive(self, dies_at: Step | None, times: int) -> None:
        left = times

        def reached(step: Step) -> None:
            nonlocal left
            left -= step == dies_at
            if left <= 0:
                raise Crash(step)

        rolling = Rolling(max_rows=7)
        archiver = Archiver(self.log, self.storage, rolling=rolling, owner="same", reached=reached)
        with contextlib.suppress(Crash):
            self._run(archiver.run_once())

    @rule(partition=partitions)
    def begin_or_end_erasing(self, partition: int) -> None:
        lease = self.log.keys.lease(partition, LEASE_GROUP)
        generation = self.erasing.pop(partition, None)
        if generation is None:
            acquire = load_script("eventlog", "lease_acquire")
            self.erasing[partition] = self._run(acquire(self.log.client, [lease], ["e", 600_000]))
        else:
            self._run(
                load_script("eventlog", "lease_release")(self.log.client, [lease], [generation])
            )

    @rule(partition=partitions)
    def erase(self, partition: int) -> None:
        async def rewrite() -> None:
            lease = ExclusiveLease(self.log, LEASE_GROUP, partition, "me")
            async with lease.hold():
                await StreamRewriter(self.log, partition, lease).rewrite(lambda _: b"{}")

        if partition not in self.erasing and self.there[partition]:
            self._run(rewrite())

    # --- retention -------------------------------------------------------------------------------

    @rule()
    def look(self) -> None:
        """A trimmer learns what there is, and may act on it much later."""
        retention = Retention(self.log, self.storage)

        async def learn() -> Known:
            return Known(await retention._groups(), dict(await retention._archived()))

        self.known = self._run(learn())

    @precondition(lambda self: self.known is not None)
    @rule(partition=partitions, most=st.integers(1, 20), keep_n=st.integers(1, 60))
    def trim_by_old_knowledge(self, partition: int, most: int, keep_n: int) -> None:
        known = self.known
        assert known is not None
        archived = known.archived.get(partition, START)
        self._run(
            trim(
                self.log,
                partition,
                keep_n=keep_n,
                archived=archived,
                most=most,
                groups=known.groups,
            )
        )
        self._trimmed()

    @rule(
        max_entries=st.integers(0, 30),
        dies_after=st.none() | st.integers(0, 2),
        slice_entries=st.integers(1, 10),
    )
    def apply(self, max_entries: int, dies_after: int | None, slice_entries: int) -> None:
        left = dies_after

        def reached(_step: str) -> None:
            nonlocal left
            if left is not None:
                if left == 0:
                    raise Crash
                left -= 1

        policy = Policy(age_ms=10**9, max_entries=max_entries, recent_ms=0)
        retention = Retention(
            self.log, self.storage, policy, reached=reached, slice_entries=slice_entries
        )
        try:
            applied = self._run(retention.apply())
        except Crash:
            pass
        else:
            for plan in applied.plan.partitions:
                partition = plan.facts.partition
                assert applied.trimmed[partition] == plan.goes_count, "not what was planned"
                if plan.held_count:
                    archived_n = self._archived_n(partition)
                    floor_n = max(plan.facts.first_n, plan.facts.floor_n)
                    assert plan.keep_n <= floor_n, "more is to go than may"
                    assert self.needed(partition, floor_n, archived_n), "nobody needs the first"
        self._trimmed()

    @rule(data=st.data(), count=st.integers(2, 6), kept_count=st.integers(0, 3))
    def trim_when_all_are_done_but_one(
        self, data: st.DataObject, count: int, kept_count: int
    ) -> None:
        """One rule alone decides: what is random seldom comes so far."""
        party = data.draw(st.sampled_from(self.parties))
        self._make(party)
        for partition in PARTITIONS:
            self.append(partition=partition, count=count)
        self._finish_all_but(party)
        self.apply(max_entries=kept_count, dies_after=None, slice_entries=10)

    def _make(self, party: str) -> None:
        """See that the party is there."""
        for place, reader in list(self.readers.items()):
            if reader.is_lost:
                self._find_in(*place)
        if party == "stranger":
            self._come_unregistered()
        elif party in ("pending", "undelivered", "lost"):
            self.register(group="g", start="beginning")
        for partition in PARTITIONS:
            if party == "unprojected":
                for place, view, role in [key for key in self.roles if key[0] == partition]:
                    self._put_away(place, view, role)
                continue
            has = {role for place, _, role in self.roles if place == partition}
            for wanted in ("serving", "previous"):
                while wanted not in has and (wanted == party or not has):
                    self.begin_build(partition=partition, view="v")
                    self.swap(partition=partition, view="v")
                    has = {role for place, _, role in self.roles if place == partition}
            if party == "building":
                self.begin_build(partition=partition, view="v")
            if (partition in self.erasing) != (party == "eraser"):
                self.begin_or_end_erasing(partition=partition)

    def _finish_all_but(self, party: str) -> None:
        """Let everybody have done everything, but for the party."""
        for (group, partition), reader in list(self.readers.items()):
            is_it = group == ("s" if party == "stranger" else "g")
            if is_it and party in ("undelivered", "stranger"):
                continue
            self._read_on(group, partition, 1000)
            reader = self.readers[group, partition]
            if not (is_it and party == "pending"):
                self._acknowledge(group, partition, reader.pending)
            if is_it and party == "lost":
                self._lose(group, partition)
        for (partition, _, role), build in self.roles.items():
            if role != party:
                self._fold(partition, build, len(self.ids[partition]) - 1)
        if party == "acknowledged":
            self.archive(dies_at="published", times=1)
        elif party != "archive":
            self.archive(dies_at=None, times=1)
        else:
            self._archive_elsewhere()

    def _archive_elsewhere(self) -> None:
        """An archiver that writes to another directory moves the group; the files here say less."""
        for partition in PARTITIONS:
            stream, head = self.log.keys.stream(partition), self.ids[partition][-1]
            is_there = ARCHIVER in self._run(self._groups_on(partition))
            command = "SETID" if is_there else "CREATE"
            self._run(
                self.log.client.execute_command(f"XGROUP {command}", stream, ARCHIVER, str(head))
            )

    # --- what holds always -----------------------------------------------------------------------

    @invariant()
    def nothing_is_gone_by_itself(self) -> None:
        for partition in PARTITIONS:
            assert set(self._in_stream(partition)) == self.there[partition]

    @invariant()
    def archive_and_log_have_each_sequence(self) -> None:
        """As a query sees them: the segments up to the archive position, and what the log has after it."""
        for partition in PARTITIONS:
            coverage = self.catalogue.coverage(partition)
            archived = [n for s in coverage.chosen for n in range(s.first, s.last + 1)]
            live = [n for n in self._in_stream(partition) if n > coverage.position.n]
            assert archived + live == list(range(1, len(self.ids[partition])))

    async def _query(self) -> None:
        async with Warehouse.open(self.log, self.storage.root) as warehouse:
            table = await warehouse.query(
                "SELECT partition, count(*), count(DISTINCT sequence), max(sequence)"
                " FROM events GROUP BY 1 ORDER BY 1"
            )
        rows = [tuple(row.values()) for row in table.to_pylist()]
        counts = {p: len(self.ids[p]) - 1 for p in PARTITIONS}
        assert rows == [(p, n, n, n) for p, n in counts.items() if n]
