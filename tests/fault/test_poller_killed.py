"""`kill -9` of pollers, and of the log's server under them: what the agent does is recorded once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from pathlib import Path

from bridge.sessions import SessionCalls
from eventlog import EventLog, ToolCalled
from tests.coding_agent import SESSION, CodingAgent, frames, recording
from tests.support import eventually

FOLLOW = ("poll", "{url}", SESSION, "--ticket", "T-1", "--interval-ms", "20")
DEATHS = (8,)
"""Looks at the agent after which a poller is killed."""
OUTAGE = 20
"""And the one after which the server is."""


async def test_whoever_is_killed_everything_is_there_once(tmp_path: Path) -> None:
    async with (
        EventLog.open(data_dir=str(tmp_path), partition_count=2) as log,
        CodingAgent(waits=False) as agent,
    ):

        async def start() -> asyncio.subprocess.Process:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "service"),
                *(word.format(url=agent.platform.url) for word in FOLLOW),
                env={**os.environ, "EVENTLOG_DATA_DIR": str(tmp_path)},
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )

        for looks in DEATHS:
            poller = await start()
            await eventually(lambda n=looks: agent.look_count >= n, 30)
            poller.kill()
            await poller.wait()
        both = [await start(), await start()]
        await eventually(lambda: agent.look_count >= OUTAGE, 30)
        assert log._embedded is not None
        pid = log._embedded.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(40):
            assert [await poller.wait() for poller in both] == [0, 0]

        entries = [e.event for e in await log.read(conversation="ticket:T-1", limit=1000)]
        session = await SessionCalls(log).get(SESSION)
    assert session is not None
    assert session.status == "completed"
    assert agent.look_count >= len(frames(recording()))
    kinds = Counter(event.type for event in entries)
    assert kinds == {
        "session.started": 1,
        "message.received": 1,
        "message.sent": 4,
        "tool.called": 5,
        "tool.returned": 5,
        "session.transitioned": 2,
    }
    assert len({event.call for event in entries if isinstance(event, ToolCalled)}) == 5
