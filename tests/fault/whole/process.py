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
            "trimmer": reading.trim,
        }
    return works[role]


async def main(text: str) -> None:
    job = msgspec.json.decode(text, type=Job)
    break_product(job.broken)
    stop = told_to_stop()
    clock = OffsetClock(Path(job.folder), job.name)
    work = work_of(job.role)
    log = await opened(job.url, job.settings, clock=clock)
    try:
        await work(Post(job, log, JournalFile(job.journal), stop))
    finally:
        await log.close()


if __name__ == "__main__":
    report_on_standard_error()
    asyncio.run(main(sys.argv[1]))
