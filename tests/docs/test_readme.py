from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.cli.main import run
from tests.docs.pages import ROOT, Block, blocks, commands

README = ROOT / "README.md"
SET_UP = "pip install uv && uv run "


def marked(language: str) -> list[Block]:
    return [block for block in blocks(README) if block.is_marked and block.language == language]


PRINTED = ["ada hello\nbot hello Ada\n", "to telegram:7: You said good morning.\n"]
"""What each Python block of the README prints."""


@pytest.mark.parametrize("number", range(len(PRINTED)))
def test_the_python_of_the_readme_runs(number: int, tmp_path: Path) -> None:
    assert len(marked("python")) == len(PRINTED)
    block = marked("python")[number]
    environment = {**os.environ, "EVENTLOG_DATA_DIR": str(tmp_path / "data")}
    ended = subprocess.run(
        [sys.executable, "-c", block.text],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert ended.stdout == PRINTED[number]


EXPECTED = {
    "import": "1,449 events added, 0 known already, 0 lines refused.",
    "sessions": "completed",
    "history": "Susan",
    "dead-letters": "parked: mailboxfull 2, userunknown 2, authfailure 1, expired 1",
    "groups": "projector",
    "query": "message.received",
    "report": "think",
    "status": "1,449 entries, 0 not yet projected, 1,449 not yet archived.",
    "projections": "✓ the fold of the log",
    "doctor": "All is well.",
}
"""What a command of the README shows, somewhere."""


@pytest.mark.usefixtures("folder")
def test_the_commands_of_the_readme_do_what_they_should(capsys: pytest.CaptureFixture[str]) -> None:
    [block] = marked("console")
    lines = commands(block)
    assert {words[1] for words in lines} == EXPECTED.keys()
    for words in lines:
        assert words[0] == "eventlog"
        assert run(words[1:]) == 0, (words, capsys.readouterr().err)
        assert EXPECTED[words[1]] in capsys.readouterr().out, words


def test_the_two_set_up_commands_are_what_ci_runs() -> None:
    shown = [
        line.removeprefix("$ ")
        for block in blocks(README)
        for line in block.text.splitlines()
        if line.startswith(f"$ {SET_UP}")
    ]
    assert shown == [f"{SET_UP}eventlog demo", f"{SET_UP}pytest"]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    installs = [line for line in script.splitlines() if line.startswith("pip install")]
    assert any(line.split("&&")[-1].strip() == "uv run pytest" for line in installs)
    assert "\nuv run eventlog demo" in script


@pytest.mark.parametrize("name", ["tail", "up", "worker"])
def test_the_other_commands_the_readme_names_exist(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"`eventlog {name}" in README.read_text(encoding="utf-8")
    assert run([name, "--help"]) == 0
    assert f"eventlog {name}" in capsys.readouterr().out
