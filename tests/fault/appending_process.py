"""A process that appends until it is killed, and writes down what was acknowledged.

`python -m tests.fault.appending_process URL OWNER SETTINGS JOURNAL`, the settings, among them the
durability, as JSON. What failed is not offered again: the journal holds what was acknowledged.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from eventlog import EventLog, MessageReceived, Settings
from eventlog.errors import LogUnavailable
from tests.fault.journal import JournalFile
from tests.fault.processes import opened, report_on_standard_error, told_to_stop

TASKS = 16
"""Each appends one event after the other."""


async def main(url: str, owner: str, settings: str, journal: str) -> None:
    stop = told_to_stop()
    log = await opened(url, msgspec.json.decode(settings, type=Settings))
    file = JournalFile(journal)
    await asyncio.gather(*(_append(log, f"{owner}.{task}", file, stop) for task in range(TASKS)))


async def _append(log: EventLog, name: str, journal: JournalFile, stop: asyncio.Event) -> None:
    number = 0
    while not stop.is_set():
        number += 1
        event = MessageReceived(id=f"{name}#{number}", conversation=name, text="x" * 200)
        try:
            await log.append(event)
        except LogUnavailable as error:
            journal.write("failed", key=event.id, error=error.code)
        else:
            journal.write("acknowledged", key=event.id)


if __name__ == "__main__":
    report_on_standard_error()
    asyncio.run(main(*sys.argv[1:]))
