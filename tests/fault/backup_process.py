"""A process that takes a backup or restores one, and is killed at a step."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from analytics.backup import back_up
from analytics.backup.steps import Reached
from analytics.opening import storage_of
from eventlog.log import EventLog
from eventlog.settings import Settings
from service.restoring import restore_log


def kill_at(step: str) -> Reached:
    """Return the hook of a process that is killed when it comes to a step."""

    def reached(now: str) -> None:
        if now == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return reached


def back_up_until(settings: Settings, folder: Path, step: str) -> None:
    """Take a backup until that step."""

    async def work() -> None:
        async with EventLog.open(settings=settings) as log:
            await back_up(log, storage_of(settings), folder, reached=kill_at(step))

    asyncio.run(work())


def restore_until(settings: Settings, folder: Path | None, step: str) -> None:
    """Restore until that step."""
    asyncio.run(restore_log(settings, folder, reached=kill_at(step)))
