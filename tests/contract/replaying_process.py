"""Replays dead letters to a receiver, in a process of its own.

`python -m tests.contract.replaying_process URL KEY_PREFIX LEASE_TTL_MS RECEIVER_PORT`; prints the report.
"""

from __future__ import annotations

import asyncio
import json
import sys

from consumers.dead_letters import Letter
from consumers.replaying import Send, replay_dead_letters
from eventlog.log import EventLog
from projections.views.dead_letters import DeadLetters


def sender_to(port: int) -> Send:
    """Return what sends a letter to the receiver at a port and raises if it does not take it."""

    async def send(letter: Letter) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"{letter.letter}\n".encode())
            answer = await reader.readline()
        finally:
            writer.close()
        if answer != b"taken\n":
            raise ConnectionError(f"the receiver said {answer!r}")

    return send


async def main(url: str, key_prefix: str, lease_ttl_ms: str, port: str) -> None:
    async with EventLog.open(
        url, key_prefix=key_prefix, lease_ttl_ms=int(lease_ttl_ms), command_timeout_s=2
    ) as log:
        letters = DeadLetters(log)
        report = await replay_dead_letters(log, sender_to(int(port)), letters.unsettled)
        sys.stdout.write(json.dumps(report._asdict()))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
