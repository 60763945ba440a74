"""What a replay is about: found in the log or in the archive, brought to the present."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from analytics import Archiver, Rolling
from consumers import Worker
from consumers.dead_letters import request_replay
from eventlog import Event, EventLog, MessageSent
from eventlog.event import schema_version
from eventlog.ids import new_event_id
from eventlog.vocabulary import (
    DeadLetterReplayed,
    DeadLetterResolved,
)
from tests.logs import conversation_in
from tests.replays import ONCE, Mendable, letters, parked, worker_of
from tests.working import events


@pytest.fixture
def handle() -> Mendable:
    return Mendable()


class TestOrigin:
    async def test_it_is_found_in_the_archive(self, log, handle, storage, past):
        found = await parked(log, handle, "x")
        async with Archiver(log, storage, rolling=Rolling(max_rows=1)) as archiver:
            await archiver.run_once()
        partition = log.partition_of("c")
        await log.client.xtrim(log.keys.stream(partition), maxlen=0, approximate=False)
        handle.is_mended = True
        # The log is empty, so the read model cannot be read live: the letter is as it was.
        await request_replay(log, found)
        await worker_of(log, handle, past=past).run_once()
        assert handle.attempts["x"] == [1, 2]
        assert len(await events(log, DeadLetterResolved)) == 1

    async def test_one_that_is_gone_leaves_the_letter_parked(self, log, handle):
        [letter] = await parked(log, handle, "x")
        partition = log.partition_of("c")
        await log.client.xdel(log.keys.stream(partition), letter.origin.split("/")[1])
        await request_replay(log, [letter])
        await worker_of(log, handle).run_once()
        [replayed] = await events(log, DeadLetterReplayed)
        assert "neither in the log nor in the archive" in replayed.error
        assert handle.attempts["x"] == [1]

    async def test_a_type_that_nobody_handles_any_more_leaves_the_letter_parked(self, log, handle):
        found = await parked(log, handle, "x")
        await request_replay(log, found)
        await Worker(log, "g").run_once()
        [letter] = await letters(log)
        assert letter.status == "parked"
        [replayed] = await events(log, DeadLetterReplayed)
        assert "no handler for message.received" in replayed.error


class Paid(Event, tag="invoice.paid", frozen=True, kw_only=True):
    schema: int = schema_version(2)
    cents: int = 0


class TestOldSchemas:
    @pytest.fixture
    async def poisoned(self, log: EventLog) -> AsyncIterator[EventLog]:
        """The same log, read by a program whose upcaster fails until it is mended."""

        def upcaster(document: dict[str, Any]) -> dict[str, Any]:
            if not mended:
                raise KeyError("euros")
            return {**document, "cents": 100 * document.pop("euros")}

        mended: list[bool] = []
        async with EventLog.open(
            settings=log.settings,
            url=log.settings.url,
            types=[Paid],
            upcasters={("invoice.paid", 1): upcaster},
        ) as opened:
            opened.mend = lambda: mended.append(True)  # type: ignore[attr-defined]
            yield opened

    async def old(self, log: EventLog, conversation: str) -> None:
        """Append as an old program did."""
        text = (
            f'{{"type":"invoice.paid","schema":1,"conversation":"{conversation}",'
            f'"id":"{new_event_id()}","occurred_at":1,"euros":7}}'
        )
        partition = log.partition_of(conversation)
        head = (await log.heads())[partition]
        entry_id = f"{max(head.ms, 1)}-{head.n + 1}"
        await log.client.xadd(log.keys.stream(partition), {"e": text}, id=entry_id)
        await log.client.set(log.keys.head(partition), entry_id)

    async def test_an_old_event_is_handled_as_its_class_is_now(self, poisoned):
        poisoned.mend()
        await self.old(poisoned, "shop:1")
        seen, worker = [], Worker(poisoned, "g")

        @worker.on(Paid, retry=ONCE)
        async def handle(event, context):
            seen.append((event.cents, event.schema, context.attempt))
            if context.attempt == 1:
                raise ValueError

        await worker.run_once()
        await request_replay(poisoned, await letters(poisoned))
        await worker.run_once()
        assert seen == [(700, 2, 1), (700, 2, 2)]

    @pytest.mark.parametrize("partition", [0, 1, 2, 3])
    async def test_poison_is_parked_and_replayed_when_its_upcaster_is_mended(
        self, poisoned, partition
    ):
        chat = conversation_in(poisoned, partition)
        await self.old(poisoned, chat)
        seen, worker = [], Worker(poisoned, "g")

        @worker.on(Paid, retry=ONCE)
        async def handle(event, context):
            seen.append((event.cents, event.conversation))
            context.append(MessageSent(conversation=event.conversation, text="thanks"))

        await worker.run_once()
        [letter] = await letters(poisoned)
        assert letter.reason == "poison"
        assert "euros" in letter.error
        poisoned.mend()
        await request_replay(poisoned, [letter])
        await worker.run_once()
        assert seen == [(700, chat)]
        assert await letters(poisoned) == []
        assert len(await events(poisoned, MessageSent)) == 1
