"""The log against a model: a few dicts and lists that say what it should hold."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from eventlog import (
    START,
    AppendResult,
    ConversationMapped,
    Event,
    EventLog,
    SessionTransitioned,
)
from eventlog.entity import FREE
from eventlog.errors import LogUnavailable, VersionConflict
from eventlog.partition import partition_of
from tests import strategies
from tests.contract.test_producer import Faulty
from tests.strategies import EXAMPLES

PARTITION_COUNT = 3
_numbers = itertools.count(1)


class Model:
    """What was appended: ids once per partition, versions per entity, positions per producer."""

    def __init__(self) -> None:
        self.partitions: list[list[Event]] = [[] for _ in range(PARTITION_COUNT)]
        self.places: dict[tuple[int, str], int] = {}
        self.versions: dict[tuple[int, str], int] = {}
        self.holders: dict[tuple[int, str], str | None] = {}
        self.over: set[tuple[int, str]] = set()
        self.producers: dict[tuple[str, int], int] = {}

    def version(self, event: Event) -> int | None:
        partition = partition_of(event.conversation, PARTITION_COUNT)
        return self.versions.get((partition, event.entity), 0) if event.entity else None

    def append(self, event: Event) -> tuple[int, int, bool, int | None]:
        """Return partition, sequence, whether it was there, and its entity's version after it."""
        partition = partition_of(event.conversation, PARTITION_COUNT)
        known = self.places.get((partition, event.id))
        if known is not None:
            return partition, known, True, self.version(event)
        self._write(partition, event)
        sequence = self.places[partition, event.id] = len(self.partitions[partition])
        return partition, sequence, False, self.version(event)

    def produce(self, name: str, position: int, event: Event) -> bool:
        """Return whether the event was new."""
        partition = partition_of(event.conversation, PARTITION_COUNT)
        if position <= self.producers.get((name, partition), 0):
            return False
        self.producers[name, partition] = position
        self._write(partition, event)
        return True

    def _write(self, partition: int, event: Event) -> None:
        self.partitions[partition].append(event)
        if event.entity:
            entity = partition, event.entity
            self.versions[entity] = self.versions.get(entity, 0) + 1
            if isinstance(event, ConversationMapped):
                self.holders[entity] = event.session
            if isinstance(event, SessionTransitioned) and event.to_status == "completed":
                self.over.add(entity)

    def is_free(self, event: Event) -> bool:
        partition = partition_of(event.conversation, PARTITION_COUNT)
        assert event.entity is not None
        if (partition, event.entity) not in self.versions:
            return True
        if (partition, event.entity) not in self.holders:
            return False
        holder = self.holders[partition, event.entity]
        return holder is None or (partition, f"session:{holder}") in self.over


class LogMachine(RuleBasedStateMachine):
    """Appends of every kind; `open_log` gives the log to drive."""

    def __init__(self, open_log: Callable[[], EventLog], *, lasting: bool) -> None:
        super().__init__()
        self.model = Model()
        self._open_log = open_log
        self._lasting = lasting
        self._runner = asyncio.Runner()
        self._sent: list[list[Event]] = []
        self._produced: dict[str, list[tuple[int, Event]]] = {}
        self._log: EventLog = self._run(self._open_log().__aenter__())

    def teardown(self) -> None:
        self._run(self._log.close())
        self._runner.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def _check(self, events: list[Event], results: list[AppendResult]) -> None:
        seen: set[tuple[int, str]] = set()
        for event, result in zip(events, results, strict=True):
            partition, sequence, duplicate, version = self.model.append(event)
            assert (result.partition, result.sequence) == (partition, sequence)
            assert result.duplicate == duplicate
            # The second of two in one call is answered with the first's result.
            if (partition, event.id) not in seen:
                assert result.version == version
            seen.add((partition, event.id))

    @rule(event=strategies.small_events)
    def append(self, event: Event) -> None:
        self._check([event], [self._run(self._log.append(event))])
        self._sent.append([event])

    @rule(events=st.lists(strategies.small_events, max_size=12))
    def append_list(self, events: list[Event]) -> None:
        self._check(events, self._run(self._log.append(events)))
        self._sent.append(events)

    @rule(events=st.lists(strategies.small_events, min_size=2, max_size=12))
    def append_at_the_same_time(self, events: list[Event]) -> None:
        async def together() -> list[AppendResult]:
            return await asyncio.gather(*(self._log.append(event) for event in events))

        self._check(events, self._run(together()))

    @rule(data=st.data())
    def append_again(self, data: st.DataObject) -> None:
        events = data.draw(st.sampled_from(self._sent or [[]]))
        results = self._run(self._log.append(events))
        assert all(r.duplicate for r in results)
        self._check(events, results)

    @rule(event=strategies.small_versioned_events, off_by=st.sampled_from([0, 0, 0, 1, -1, 5]))
    def append_expecting(self, event: Event, off_by: int) -> None:
        actual = self.model.version(event)
        assert actual is not None
        known = self.model.places.get((partition_of(event.conversation, PARTITION_COUNT), event.id))
        conflict: VersionConflict | None = None
        try:
            result = self._run(self._log.append(event, expected_version=actual + off_by))
        except VersionConflict as error:
            conflict = error
        assert (conflict is not None) == (off_by != 0 and known is None)
        if conflict is None:
            self._check([event], [result])
        else:
            assert conflict.actual_version == actual

    @rule(event=strategies.small_versioned_events)
    def append_where_free(self, event: Event) -> None:
        known = self.model.places.get((partition_of(event.conversation, PARTITION_COUNT), event.id))
        conflict: VersionConflict | None = None
        is_free = self.model.is_free(event)
        try:
            result = self._run(self._log.append(event, expected_version=FREE))
        except VersionConflict as error:
            conflict = error
        assert (conflict is not None) == (not is_free and known is None)
        if conflict is None:
            self._check([event], [result])
        else:
            assert conflict.actual_version == self.model.version(event)

    @rule(
        name=st.sampled_from(["p", "q"]),
        gaps=st.lists(st.integers(1, 3), min_size=1, max_size=8),
        events=st.lists(strategies.small_events, min_size=8, max_size=8),
        overlap=st.integers(0, 4),
        fault=st.sampled_from([None, None, "before", "after"]),
    )
    def produce(
        self, name: str, gaps: list[int], events: list[Event], overlap: int, fault: str | None
    ) -> None:
        sent = self._produced.setdefault(name, [])
        last = sent[-1][0] if sent else 0
        new = list(
            zip(itertools.accumulate(gaps, initial=last), [*events, events[0]], strict=False)
        )
        items = sent[len(sent) - overlap :] + new[1:]
        if fault and items:
            self._run(self._produce_with_a_fault(name, items, fault))
        added = self._run(self._produce(name, items))
        expected = sum(self.model.produce(name, *item) for item in items)
        assert added == expected or (fault and added < expected)
        sent.extend(new[1:])

    async def _produce(self, name: str, items: list[tuple[int, Event]]) -> int:
        return await (await self._log.producer(name)).append(items)

    async def _produce_with_a_fault(
        self, name: str, items: list[tuple[int, Event]], when: str
    ) -> None:
        """Send it so that one batch or its reply is lost; what follows sends all of it again."""
        producer = await self._log.producer(name)
        producer._store = faulty = Faulty(self._log._store, **{when: {1}})
        try:
            await producer.append(items)
        except LogUnavailable:
            return
        assert len(faulty.batches) < 2

    @rule()
    def reopen(self) -> None:
        if self._lasting:
            self._run(self._log.close())
            self._log = self._run(self._open_log().__aenter__())

    @invariant()
    def the_log_is_what_the_model_is(self) -> None:
        heads = self._run(self._log.heads())
        for partition, events in enumerate(self.model.partitions):
            entries = self._run(self._log.read(partition=partition, limit=100_000))
            assert [entry.event for entry in entries] == events
            assert [entry.id.n for entry in entries] == list(range(1, len(events) + 1))
            assert [entry.id for entry in entries] == sorted(entry.id for entry in entries)
            assert heads[partition] == (entries[-1].id if entries else START)


@pytest.mark.parametrize("kind", ["memory", "server"])
def test_the_log_keeps_to_its_model(kind: str, server_url: str) -> None:
    def machine() -> LogMachine:
        if kind == "memory":
            return LogMachine(
                lambda: EventLog.in_memory(partition_count=PARTITION_COUNT), lasting=False
            )
        prefix = f"machine{next(_numbers)}"
        return LogMachine(
            lambda: EventLog.open(server_url, key_prefix=prefix, partition_count=PARTITION_COUNT),
            lasting=True,
        )

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=24 * EXAMPLES,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
