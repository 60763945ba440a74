"""Appends for some chats through a log with a spool until it is killed; says what was acknowledged.

`python -m tests.fault.spooling_process URL SPOOL_DIR RUN` prints `CHAT NUMBER` when the events of
that chat up to that number are acknowledged, and `open` before the first.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys

from eventlog import EventLog, MessageReceived, Settings

CHATS = ("chat:0", "chat:1", "chat:2", "chat:3")
LIST_EVENTS = 40


def settings(url: str, spool_dir: str) -> Settings:
    return Settings(url=url, spool_dir=spool_dir, partition_count=3, max_retries=0)


def event(run: str, chat: str, number: int) -> MessageReceived:
    return MessageReceived(
        conversation=chat, id=f"{run}:{chat}:{number}", text=f"{number}", sender=run
    )


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


async def main(url: str, spool_dir: str, run: str) -> None:
    async with EventLog.open(settings=settings(url, spool_dir)) as log:
        say("open")

        async def bot(chat: str) -> None:
            for first in itertools.count(0, LIST_EVENTS):
                numbers = range(first, first + LIST_EVENTS)
                await log.append([event(run, chat, number) for number in numbers])
                say(f"{chat} {numbers[-1]}")

        await asyncio.gather(*map(bot, CHATS))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
