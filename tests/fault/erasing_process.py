"""A process that erases and dies at a step, as if it had been killed there."""

from __future__ import annotations

import asyncio
import os

from bridge.erasing import erase
from eventlog.log import EventLog
from eventlog.settings import Settings

KILLED = 9


def erase_until(settings: Settings, chat: str, step: str) -> None:
    """Erase a chat; end the process at the step, cleaning up nothing."""

    def die(reached: str) -> None:
        if reached == step:
            os._exit(KILLED)

    async def work() -> None:
        async with EventLog.open(settings=settings) as log:
            await erase(log, chat=chat, reached=die)

    asyncio.run(work())
