"""Archives a log into a bucket, segments copied by processes; kills itself at a step.

`python -m tests.fault.archiving_process STEP COUNT`: dies when it reaches the step for the COUNT-th
time. The settings come from the environment.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from analytics import Archiver, Copiers, Rolling, storage_of
from analytics.steps import Step
from eventlog import EventLog
from eventlog.settings import load_settings


async def main(deadly: str, count: int) -> None:
    left = count

    def reached(step: Step) -> None:
        nonlocal left
        left -= step == deadly
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    async with (
        EventLog.open(settings=load_settings()) as log,
        Copiers(1, process_rows=1) as copiers,
        Archiver(
            log,
            storage_of(log.settings),
            rolling=Rolling(max_rows=40),
            owner="the same",
            copiers=copiers,
            reached=reached,
        ) as archiver,
    ):
        await archiver.run_once()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
