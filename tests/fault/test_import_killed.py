"""An import that is killed, server and process, and run again ends as if nothing had happened."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from eventlog import EventLog
from projections.builtin import DEFAULT_PROJECTIONS
from projections.projection import DocumentProjection
from tests.fault.importing_process import settings
from tests.old_bridge import filled

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "data"
LINES = 30_000


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real chats, sessions and a bridge's database, and a larger file, so that there is time to die."""
    folder = tmp_path_factory.mktemp("source")
    shutil.copytree(EXAMPLES, folder / "examples")
    filled(folder / "bridge.db", 3000)
    rnd = random.Random(11)
    with (folder / "events.jsonl").open("w") as file:
        for number in range(LINES):
            chat = f"chat-{rnd.randrange(300):03d}"
            session = f"s-{chat}-{rnd.randrange(3)}"
            kind, more = rnd.choice(
                [
                    ("msg.in", {"sender": f"u{rnd.randrange(9)}", "text": f"text {number}"}),
                    ("msg.out", {"session": session, "text": f"answer {number}"}),
                    ("tool.call", {"session": session, "call": f"c{number}", "name": "find"}),
                    ("delivery.failed", {"ref": f"e{number}", "reason": "expired", "attempt": 1}),
                ]
            )
            document = {"id": f"e{number}", "ts": 1_735_689_600_000 + number, "kind": kind}
            file.write(json.dumps({**document, "chat": chat, **more}) + "\n")
    return folder


def run_process(data_dir: Path, source: Path, *deaths: int) -> int:
    """Return how the process ended; its complaints go to the test's own standard error."""
    module = [sys.executable, "-m", "tests.fault.importing_process"]
    command = [*module, str(data_dir), str(source), *map(str, deaths)]
    return subprocess.run(command, timeout=90, check=False).returncode


async def told(log: EventLog) -> dict[str, list[str]]:
    """Return each conversation's event ids in log order; sequences must have no gap."""
    conversations: dict[str, list[str]] = {}
    for partition in range(log.partition_count):
        entries = await log.read(partition=partition, limit=1_000_000)
        assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
        for entry in entries:
            conversations.setdefault(entry.event.conversation, []).append(entry.event.id)
    return conversations


async def read_models(log: EventLog) -> dict[str, Any]:
    """Return everything stored: documents, and of feeds the events without their entry ids."""
    found: dict[str, Any] = {}
    for partition in range(log.partition_count):
        for projection in DEFAULT_PROJECTIONS:
            model, place = projection.model, (partition, projection.model)
            if isinstance(projection, DocumentProjection):
                stored = await log.client.hgetall(log.keys.documents(partition, model))
                found[str(place)] = {key: json.loads(value) for key, value in stored.items()}
            else:
                feeds = await log.client.hgetall(log.keys.feeds(partition, model))
                for name in feeds:
                    key = log.keys.feed(partition, model, name.decode())
                    items = await log.client.lrange(key, 0, -1)
                    found[f"{place}/{name}"] = [item.split(b" ", 1)[1] for item in items]
    return found


async def outcome(data_dir: Path) -> tuple[dict[str, list[str]], dict[str, Any]]:
    async with EventLog.open(settings=settings(data_dir)) as log:
        return await told(log), await read_models(log)


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, source: Path
) -> tuple[dict[str, list[str]], dict[str, Any]]:
    data_dir = tmp_path_factory.mktemp("undisturbed")
    assert run_process(data_dir, source) == 0
    return asyncio.run(outcome(data_dir))


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in (2, 3))]
)
async def test_killed_server_and_process_then_run_again(tmp_path, source, undisturbed, seed):
    rnd = random.Random(seed)
    deaths = sorted(rnd.sample(range(1_000, LINES), 2))
    assert run_process(tmp_path, source, *deaths) == -signal.SIGKILL
    assert run_process(tmp_path, source) == 0
    assert await outcome(tmp_path) == undisturbed, f"seed {seed}: {deaths}"
