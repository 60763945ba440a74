"""What reads in a run: delivers, handles, projects, archives, trims."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress

from analytics import Archiver, Compactor, Policy, Retention, Rolling, Storage, storage_of
from analytics.past import ArchivedPast
from consumers import Context, DeliveryHandlers, Handlers, Retry, Worker
from consumers.senders.sender import Delivery, Receipt
from eventlog import Event, MessageQueued
from eventlog.errors import EventLogError, SendFailed
from projections.projecting.projector import Projector
from tests.fault.journal import JournalFile
from tests.fault.whole.job import Post

DELIVERING = "delivery"
WATCHING = "watching"
"""A group that is given every entry."""
PLATFORM = "web"
REFUSAL_RATE = 0.1
RETRY = Retry(attempts=30, first_delay_s=0.05, longest_delay_s=1.0)
KEPT = Policy(age_ms=2000, recent_ms=1000)
DUE = Rolling(rows=300, age_ms=1000)
TRIM_INTERVAL_S = 0.3
COMPACT_INTERVAL_S = 0.3
GRACE_S = 1.0
"""Far less than the product leaves them: who listed files may find them gone, and has to look again."""


class FileSender:
    """Takes messages to a journal; some it refuses once more."""

    def __init__(self, journal: JournalFile) -> None:
        self._journal = journal
        self._luck = random.Random()

    async def send(self, message: MessageQueued, delivery: Delivery) -> Receipt:
        is_taken = self._luck.random() >= REFUSAL_RATE
        self._journal.write(
            "send",
            key=delivery.idempotency_key,
            conversation=message.conversation,
            is_taken=is_taken,
            attempt=delivery.attempt,
        )
        if not is_taken:
            raise SendFailed("the platform is busy.", reason="busy")
        return Receipt()

    async def close(self) -> None:
        """There is nothing to let go of."""


def _storage(post: Post) -> Storage:
    return storage_of(post.log.settings, clock=post.log.clock)


async def handle(post: Post) -> None:
    """Deliver, and watch, in this process's share of the partitions."""
    watching = Handlers(retry=RETRY)

    @watching.on("*")
    async def watch(event: Event, context: Context) -> None:
        post.journal.write(
            "saw",
            reader=WATCHING,
            place=[context.partition, context.id.n],
            id=event.id,
            conversation=event.conversation,
        )

    past = ArchivedPast(_storage(post))
    delivering = DeliveryHandlers({PLATFORM: FileSender(post.journal)}, retry=RETRY)
    async with asyncio.TaskGroup() as tasks:
        for group, handlers in ((DELIVERING, delivering), (WATCHING, watching)):
            tasks.create_task(Worker(post.log, group, handlers, past=past).run(post.stop))


async def project(post: Post) -> None:
    past = ArchivedPast(_storage(post))
    await Projector(post.log, past=past).run(post.stop)


async def archive(post: Post) -> None:
    storage = _storage(post)
    async with Archiver(post.log, storage, rolling=DUE) as archiver:
        await archiver.run(post.stop)


async def compact(post: Post) -> None:
    """Compact, often. The log's clock is days on; the storage's is not, which tells how old a file is.

    It keeps no journal: none of its files may grow while its disk is full. Watch sees what it did.
    """
    compactor = Compactor(post.log, storage_of(post.log.settings), grace_s=GRACE_S)
    while not post.stop.is_set():
        try:
            report = await compactor.run_once(stop=post.stop)
            for failure in report.failures:
                logging.info("not compacted: %s", failure)
        except (EventLogError, OSError) as error:
            logging.info("not compacted: %s", error)
        with suppress(TimeoutError):
            await asyncio.wait_for(post.stop.wait(), COMPACT_INTERVAL_S)


async def trim(post: Post) -> None:
    """Trim, often and soon."""
    retention = Retention(post.log, _storage(post), KEPT)
    while not post.stop.is_set():
        try:
            applied = await retention.apply()
        except (EventLogError, OSError) as error:
            post.journal.write("not trimmed", error=str(error))
        else:
            if applied.trimmed_count:
                post.journal.write("trimmed", count=applied.trimmed_count)
        with suppress(TimeoutError):
            await asyncio.wait_for(post.stop.wait(), TRIM_INTERVAL_S)
