"""A process that projects the log at a URL until SIGTERM, and the handle to start it and strike it.

`python -m tests.fault.projecting_process URL OWNER SETTINGS`, the settings as JSON. It also ends when
its standard input does, hence with whoever started it. It reports on standard error.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from eventlog import Settings
from projections.projecting.projector import Projector
from tests.fault.processes import StruckProcess, opened, report_on_standard_error, told_to_stop


class ProjectingProcess(StruckProcess):
    """A projector, seen by the one who started it."""

    def __init__(self, url: str, owner: str, folder: Path, settings: Settings) -> None:
        module, text = "tests.fault.projecting_process", msgspec.json.encode(settings)
        super().__init__(module, owner, folder, url, owner, text)


async def main(url: str, owner: str, settings: str) -> None:
    stop = told_to_stop()
    log = await opened(url, msgspec.json.decode(settings, type=Settings))
    try:
        await Projector(log, owner=owner).run(stop)
    finally:
        await log.close()


if __name__ == "__main__":
    report_on_standard_error()
    asyncio.run(main(*sys.argv[1:]))
