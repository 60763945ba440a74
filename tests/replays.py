"""What tests of replays need: a handler that can be mended, and letters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from consumers import Retry, Worker
from eventlog import EventLog, MessageSent
from projections.views.dead_letters import DeadLetter, DeadLetters
from tests.logs import message
from tests.working import Seen

ONCE = Retry(attempts=1)


async def letters(log: EventLog, group: str = "g") -> list[DeadLetter]:
    found: list[DeadLetter] = []
    for partition in range(log.partition_count):
        found += await DeadLetters(log).unsettled(group, partition, 0, 100)
    return found


class Mendable(Seen):
    """A handler that fails until it is mended."""

    is_mended = False

    async def __call__(self, event: Any, context: Any) -> None:
        self.note(event, context)
        if not self.is_mended:
            raise ValueError(event.text)
        context.append(MessageSent(conversation=event.conversation, text=f"re {event.text}"))


def worker_of(log: EventLog, handle: Callable[..., Any], group: str = "g", **more: Any) -> Worker:
    worker = Worker(log, group, **more)
    worker.on("message.received", retry=ONCE)(handle)
    return worker


async def parked(log: EventLog, handle: Callable[..., Any], *texts: str) -> list[DeadLetter]:
    """Have these fail; return their letters."""
    await log.append([message("c", text) for text in texts])
    await worker_of(log, handle).run_once()
    return await letters(log)
