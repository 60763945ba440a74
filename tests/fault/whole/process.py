"""A process of a run: `python -m tests.fault.whole.process JOB`, the job as JSON, until SIGTERM."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from tests.fault.journal import JournalFile
from tests.fault.processes import opened, report_on_standard_error, told_to_stop
from tests.fault.whole.broken import break_product
from tests.fault.whole.job import Job, OffsetClock, Post
from tests.fault.whole.plan import Role

Work = Callable[[Post], Awaitable[None]]

DAYS_ON_US = 2 * 24 * 3600 * 1_000_000
"""A compactor's clock is so far on that the run's own day is over: it is closed when all is archived."""


def work_of(role: Role) -> Work:
    """Return what a role does; a process imports no more than it needs."""
    if role in ("producer", "importer", "bridge"):
        from tests.fault.whole import appending

        works: dict[Role, Work] = {
            "producer": appending.produce,
            "importer": appending.import_,
            "bridge": appending.converse,
        }
    else:
        from tests.fault.whole import reading

        works = {
            "worker": reading.handle,
            "projector": reading.project,
            "archiver": reading.archive,
            "compactor": reading.compact,
            "trimmer": reading.trim,
        }
    return works[role]


async def main(text: str) -> None:
    job = msgspec.json.decode(text, type=Job)
    break_product(job.broken)
    stop = told_to_stop()
    ahead_us = DAYS_ON_US if job.role == "compactor" else 0
    clock = OffsetClock(Path(job.folder), job.name, ahead_us)
    work = work_of(job.role)
    log = await opened(job.url, job.settings, clock=clock)
    try:
        await work(Post(job, log, JournalFile(job.journal), stop))
    finally:
        await log.close()


if __name__ == "__main__":
    report_on_standard_error()
    asyncio.run(main(sys.argv[1]))
