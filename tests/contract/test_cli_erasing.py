from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventlog import EventLog
from service.cli.main import run
from tests.erasing import CHAT, SECRET, USER, delete_all, life_of, on_server

PREFIX = "cli-erase"


@pytest.fixture
def command(server_url: str, tmp_path: Path) -> Iterator[list[str]]:
    """The command with its options, on a log in which the chat has lived."""

    async def live(*, forgets: bool) -> None:
        async with EventLog.open(server_url, key_prefix=PREFIX, data_dir=str(tmp_path)) as log:
            if not forgets:
                await log.append(life_of(CHAT, USER, SECRET))
                return
            await delete_all(log)

    asyncio.run(live(forgets=False))
    yield ["--url", server_url, "--key-prefix", PREFIX, "--data-dir", str(tmp_path)]
    asyncio.run(live(forgets=True))


def left(command: list[str]) -> list[str]:
    async def look() -> list[str]:
        async with EventLog.open(command[1], key_prefix=PREFIX, data_dir=command[-1]) as log:
            return await on_server(log.client)

    return asyncio.run(look())


def test_it_tells_what_would_go_then_erases_then_finds_nothing(command, capsys):
    assert run([*command, "erase", "--user", USER, "--dry-run", "--json"]) == 0
    dry = json.loads(capsys.readouterr().out)
    assert dry["event_count"] > 10
    assert left(command)
    assert run([*command, "erase", "--user", USER, "--yes", "--reason", "asked"]) == 0
    assert f"{dry['event_count']} events without content" in capsys.readouterr().out
    assert left(command) == []
    assert run([*command, "erase", "--again", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["event_count"] == 0


def test_without_leave_nothing_is_erased(command, capsys):
    assert run([*command, "erase", "--chat", CHAT]) == 2
    assert "--yes" in capsys.readouterr().err
    assert left(command)


@pytest.mark.parametrize(
    "words",
    [[], ["--chat", "a", "--user", "b"], ["--again", "--chat", "a"], ["--chat", "a", "--platform", "x"],
     ["--user", ""], ["--chat", "eventlog:erasures"]],
)  # fmt: skip
def test_wrong_usage_is_told_in_one_line(command, capsys, words):
    assert run([*command, "erase", "--yes", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_it_refuses_while_it_cannot_make_a_read_model_anew(command, capsys, tmp_path):
    async def leave_a_model() -> None:
        async with EventLog.open(command[1], key_prefix=PREFIX, data_dir=str(tmp_path)) as log:
            await log.client.hset(log.keys.shelf(0), "tools:serving", "1.abc")

    asyncio.run(leave_a_model())
    assert run([*command, "erase", "--chat", CHAT, "--yes"]) == 2
    assert "projections retire" in capsys.readouterr().err
    assert left(command)
