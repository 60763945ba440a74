"""`eventlog import` of an older bridge: import, verify, exit codes, as a user calls it."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.cli.main import run
from tests.cli import Result
from tests.old_bridge import change, filled

Call = Callable[..., Result]

_numbers = itertools.count()


@pytest.fixture
def cli(
    server_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Call]:
    """Commands in this process, on a log of their own."""
    monkeypatch.setenv("REDIS_URL", server_url)
    monkeypatch.setenv("EVENTLOG_KEY_PREFIX", f"migration{next(_numbers)}")
    monkeypatch.setenv("EVENTLOG_DATA_DIR", str(tmp_path / "data"))

    def call(*words: str | Path) -> Result:
        code = run([str(word) for word in words])
        return Result(code, *capsys.readouterr())

    yield call
    logging.getLogger("eventlog").handlers.clear()  # they write to a stream that is gone now


@pytest.fixture
def path(tmp_path):
    return filled(tmp_path / "history.db", 200)


def test_import_and_verify_then_verify_alone_finds_what_was_changed(cli, path):
    result = cli("import", path, "--verify")
    assert result.code == 0, result.err
    rows = [line.split() for line in result.out.splitlines() if "agrees" in line]
    assert ["history.db#messages", "200", "0", "200", "200", "7"] in [row[:6] for row in rows]
    assert len(rows) == 6
    change(path, "UPDATE messages SET content = 'forged' WHERE id = 17")
    result = cli("import", path, "--verify-only")
    assert result.code == 3
    assert "changed: 17 in telegram:" in result.out
    assert "'forged' in the source" in result.out
    result = cli("import", path, "--verify-only", "--json")
    [messages] = [
        table
        for table in result.json()["verified"]["tables"]
        if table["label"] == "history.db#messages"
    ]
    assert [each["place"] for each in messages["differences"]] == ["17"]
    assert "events_added" not in result.json()


def test_unknown_tables_and_bad_rows_are_told_and_the_exit_code_says_so(cli, path):
    change(path, "CREATE TABLE settings (key TEXT)")
    change(path, "UPDATE messages SET chat_id = NULL WHERE id = 5")
    result = cli("import", path, "--verify", "--no-project")
    assert result.code == 3
    assert "history.db#messages:5: no chat" in result.err
    assert "history.db#settings: unknown table of 0 rows, left out" in result.err
    result = cli("import", path, "--verify-only")
    assert result.code == 3
    assert "history.db#settings: unknown table of 0 rows, not verified" in result.err
    result = cli("import", path, "--map", "settings=skip", "--json")
    assert dict(result.json()["skipped"]) == {"history.db#settings": "skipped by the mapping"}


def test_a_mapping_on_the_command_line(cli, path):
    change(path, "ALTER TABLE messages RENAME TO tg_log")
    change(path, "ALTER TABLE tg_log RENAME COLUMN content TO gesagt")
    words = ("--map", "tg_log=message", "--map", "tg_log.text=gesagt", "--map", "platform=discord")
    result = cli("import", path, *words, "--json")
    assert (result.code, result.json()["rejected_count"]) == (0, 0)
    result = cli("history", "discord:103", "--json")
    assert result.documents()
    result = cli("import", path, "--map", "tg_log.text=content")
    assert result.code == 2
    assert "tg_log.content" in result.err


def test_lines_of_a_bridge_are_imported_and_verified(cli, tmp_path):
    path = tmp_path / "dead_letters.jsonl"
    letters = [
        {"chat_id": 42, "text": f"lost {n}", "created_at": 1714564800 + n, "attempts": n}
        for n in range(3)
    ]
    path.write_text("".join(json.dumps(letter) + "\n" for letter in letters))
    assert (cli("import", path, "--verify")).code == 0
    listed = cli("dead-letters", "list", "--json").json()["dead_letters"]
    assert sorted(letter["text"] for letter in listed) == ["lost 0", "lost 1", "lost 2"]
    path.write_text(path.read_text().replace("lost 1", "gone 1"))
    result = cli("import", path, "--verify-only")
    assert result.code == 3
    assert "dead_letters.jsonl: changed: 2 in telegram:42: text" in result.out


def test_a_file_that_is_no_database_says_what_to_do(cli, tmp_path):
    (tmp_path / "x.db").write_bytes(b"\0" * 5000)
    result = cli("import", tmp_path / "x.db")
    assert result.code == 1
    assert "Decrypt it first" in result.err
