"""Resolves users' sessions in a process of its own, 50 at a time, as a bot does.

`python -m tests.contract.resolving_process URL KEY_PREFIX`; it says `ready`, takes a line with a JSON
array of users, and prints the sessions in their order.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import msgspec

from bridge import Bridge

TASK_COUNT = 50


async def main(url: str, key_prefix: str) -> None:
    async with Bridge.open(url, key_prefix=key_prefix, projections=None) as bridge:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        users = msgspec.json.decode(sys.stdin.readline(), type=list[int])
        sessions = [""] * len(users)

        async def work(waiting: Iterator[tuple[int, int]]) -> None:
            for place, user in waiting:
                sessions[place] = (await bridge.sessions.resolve("telegram", user)).id

        waiting = enumerate(users)
        await asyncio.gather(*(work(waiting) for _ in range(TASK_COUNT)))
    sys.stdout.write(msgspec.json.encode(sessions).decode())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
