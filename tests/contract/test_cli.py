"""The command line, each command as a process of its own."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import re
import signal
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from eventlog.embedded import EmbeddedServer
from eventlog.log import EventLog
from eventlog.settings import Settings
from eventlog.vocabulary import MessageReceived
from projections.folding.letters import GROUP as PROJECTOR
from projections.projecting.projector import Projector
from projections.reading.paging import encode_cursor
from service.cli.main import run as run_here
from service.wiring import new_archiver
from tests.cli import Cli, Result, Running, processes_of, side_by_side
from tests.support import RawServer, eventually

SAMPLE = Path(__file__).parent.parent.parent / "examples" / "data"
CHAT = "irc:#mediawiki"
COMMANDS = (
    "demo up worker import tail history sessions dead-letters groups query status projections doctor".split()  # noqa: SIM905 - as in the help
)
OF_ANOTHER_CHAT = encode_cursor(("other", "older", (1, 1, 1), (None, None, None)))
SESSION = re.compile(r"openhands:ponylang__ponyc-\d{4}:2025-04-30T\d\d:\d\d:\d\d")


def line(number: int, chat: str = "c", **keys: Any) -> str:
    given = {"id": f"e{number}", "ts": 1_735_689_600_000 + number, "kind": "msg.in", "chat": chat}
    return json.dumps({"text": f"text {number}", **given, **keys})


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{text}\n" for text in lines), encoding="utf-8")
    return path


def assert_one_line_error(result: Result, code: int) -> None:
    assert result.code == code, result
    assert result.out == ""
    [only] = result.err.splitlines()
    assert only.startswith("error: ")


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """Commands on an empty log; nothing of it may be left running."""
    yield Cli(tmp_path)
    assert processes_of(tmp_path) == []


@asynccontextmanager
async def opened(cli: Cli) -> AsyncIterator[EventLog]:
    """The log of the commands, opened here as well."""
    async with EventLog.open(settings=Settings(data_dir=str(cli.data))) as log:
        yield log


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Commands on a log that holds the sample data; its server is kept up between them."""
    cli = Cli(tmp_path_factory.mktemp("sample"))
    server = EmbeddedServer(Settings(data_dir=str(cli.data)))
    server.start()
    try:
        asyncio.run(_fill(cli))
        yield cli
    finally:
        server.release()


async def _fill(cli: Cli) -> None:
    result = await cli.run("import", SAMPLE)
    assert result.code == 0, result
    assert "1,449 events added, 0 known already, 0 lines refused." in result.out
    assert re.search(r"^irc-new-domains +1 +1,200 +0 +message 1,174, ", result.out, re.MULTILINE)
    assert result.err == ""


# --- help and the looking commands -----------------------------------------------------------------


async def test_without_arguments_it_prints_help(cli):
    result = await cli.run()
    assert (result.code, result.err) == (0, "")
    for command in COMMANDS:
        assert re.search(rf"│ {command} ", result.out), command


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_examples(command, capsys, monkeypatch):
    monkeypatch.setenv("EVENTLOG_DB", "not a number")  # help must not need good settings
    assert run_here([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"eventlog {command}" in shown.partition("Examples:")[2]


async def test_tables_for_people_keep_a_line_per_row_when_piped(sample):
    history, sessions, letters, status, doctor = await side_by_side(
        [
            sample.run("history", CHAT, "--limit", "7"),
            sample.run("sessions"),
            sample.run("dead-letters", "--reason", "mailboxfull"),
            sample.run("status"),
            sample.run("doctor"),
        ]
    )
    assert [r.code for r in (history, sessions, letters, status, doctor)] == [0] * 5
    lines = history.out.splitlines()
    assert len(lines) == 8
    assert lines[0].split() == ["time", "(UTC)", "sender", "text"]
    assert lines[-1].startswith("2013-01-27 22:01:04  ←  Susan ")
    assert max(map(len, lines)) > 80
    assert re.fullmatch(r"1,193 earlier: --cursor [\w-]+\n", history.err)
    rows = sessions.out.splitlines()[1:]
    assert [row.split()[1] for row in rows] == ["failed", "completed", "completed"]
    assert all(SESSION.match(row) for row in rows)
    assert letters.out.splitlines()[-1] == (
        "parked: mailboxfull 2, userunknown 2, authfailure 1, expired 1"
    )
    assert "\n1,449 entries, 0 not yet projected, 1,449 not yet archived.\n" in status.out
    assert doctor.out.startswith("All is well.\n")


async def test_json_for_programs(sample):
    history, sessions, letters, status, doctor = await side_by_side(
        [
            sample.run("history", CHAT, "--limit", "2", "--json"),
            sample.run("sessions", "--status", "failed", "--json"),
            sample.run("dead-letters", "--json"),
            sample.run("status", "--json"),
            sample.run("doctor", "--json"),
        ]
    )
    assert [m["sender"] for m in history.json()["messages"]] == ["Susan", "Susan"]
    earlier = await sample.run(
        "history", CHAT, "--limit", "1", "--json", "--cursor", history.json()["cursor"]
    )
    assert [m["sender"] for m in earlier.json()["messages"]] == ["shifuimam"]
    [failed] = sessions.json()["sessions"]
    assert (failed["tool_call_count"], failed["status"]) == (49, "failed")
    assert len(letters.json()["dead_letters"]) == sum(letters.json()["reasons"].values()) == 6
    assert sum(status.json()["events_by_type"].values()) == 1449
    assert {finding["verdict"] for finding in doctor.json()} == {"fine"}


async def test_history_is_paged_both_ways_and_filtered(sample):
    first, sent, actions = await side_by_side(
        [
            sample.run("history", CHAT, "--first", "--limit", "3", "--json"),
            sample.run("history", CHAT, "--type", "message.sent", "--limit", "2", "--json"),
            sample.run(
                "history", CHAT, "--message-type", "action", "--sender", "Jasper_Deng", "--json"
            ),
        ]
    )
    page = first.json()
    assert (page["earlier_count"], page["later_count"], page["older"]) == (0, 1197, None)
    assert page["cursor"] == page["newer"]
    words = ["history", CHAT, "--limit", "3", "--json", "--cursor"]
    second = (await sample.run(*words, page["cursor"])).json()
    assert second["earlier_count"] == 3
    assert (await sample.run(*words, second["older"])).json()["messages"] == page["messages"]
    assert [m["type"] for m in sent.json()["messages"]] == ["message.sent"] * 2
    told = actions.json()["messages"]
    assert told
    assert {(m["sender"], m["message_type"]) for m in told} == {("Jasper_Deng", "action")}


async def test_history_goes_on_into_the_archive(tmp_path):
    cli = Cli(tmp_path, EVENTLOG_CHAT_HISTORY_LIMIT="5")
    path = write(tmp_path / "x.jsonl", *(line(n) for n in range(40)))
    assert (await cli.run("import", path)).code == 0
    async with opened(cli) as log:
        assert len(await log.client.keys("*:feed:c")) == 1
        async with new_archiver(log) as archiver:
            await archiver.run_once()
        stream = log.keys.stream(log.partition_of("c"))
        await log.client.xtrim(stream, maxlen=3, approximate=False)
        page = (await cli.run("history", "c", "--limit", "30", "--json")).json()
        assert [m["text"] for m in page["messages"]] == [f"text {n}" for n in range(10, 40)]
        shown = await cli.run("history", "c", "--limit", "10", "--cursor", page["cursor"])
    assert shown.out.splitlines()[-1].endswith("text 9")
    assert re.fullmatch(r"30 later: --cursor [\w-]+\n", shown.err)


async def test_dead_letters_are_listed_by_age(sample):
    everything = (await sample.run("dead-letters", "--json")).json()["dead_letters"]
    parked = [each["parked_at"] for each in everything]
    assert parked == sorted(parked, reverse=True)
    middle_s = int(time.time() - (parked[2] + parked[3]) / 2e6)
    older, newer, both, one = await side_by_side(
        [
            sample.run("dead-letters", "--json", "--older-than", f"{middle_s}s"),
            sample.run("dead-letters", "--json", "--newer-than", f"{middle_s}s"),
            sample.run("dead-letters", "--json", "--newer-than", "999w", "--older-than", "1d12h"),
            sample.run("dead-letters", "--json", "--older-than", f"{middle_s}s", "--limit", "1"),
        ]
    )
    assert older.json()["dead_letters"] == everything[3:]
    assert newer.json()["dead_letters"] == everything[:3]
    since = time.time() - 999 * 7 * 86_400
    assert both.json()["dead_letters"] == [e for e in everything if e["parked_at"] / 1e6 > since]
    cursor = one.json()["cursor"]
    words = ["--older-than", f"{middle_s}s", "--limit", "1", "--cursor", cursor]
    following = await sample.run("dead-letters", "--json", *words)
    assert following.json()["dead_letters"] == everything[4:5]


async def test_on_a_terminal_ids_stay_whole_and_texts_give_way(sample):
    screens = await side_by_side(
        [
            sample.terminal("sessions"),
            sample.terminal("dead-letters"),
            sample.terminal("history", CHAT, "--limit", "7"),
            sample.terminal("query", "FROM events WHERE type = 'tool.called' LIMIT 1"),
        ]
    )
    for code, screen in screens:
        assert code == 0
        assert max(len(line) for line in screen.splitlines() if "--cursor" not in line) <= 80
    sessions, letters, history, query = (screen for _, screen in screens)
    assert len(SESSION.findall(sessions)) == 3
    assert "left out for want of room: conversation, " in sessions
    assert re.search(r"^letter +bounce:\w{16}:1:\S+@\S+\.\w+ *$", letters, re.MULTILINE)
    assert len(history.splitlines()) > 9
    assert re.search(rf"^session +{SESSION.pattern} *$", query, re.MULTILINE)


async def test_what_chats_say_cannot_steer_the_terminal(cli, tmp_path):
    texts = [
        "\x1b[31mred\x07",
        "abc\u202egnp.exe",
        "👩\u200d🚀 שלום עולם",
        "x" * 5000,
        "two\nlines",
    ]
    lines = (line(n, text=text, sender="\x9bK") for n, text in enumerate(texts))
    await cli.run("import", write(tmp_path / "x.jsonl", *lines))
    shown, ascii_only = await side_by_side(
        [cli.run("history", "c"), cli.run("history", "c", PYTHONIOENCODING="ascii")]
    )
    assert (shown.code, ascii_only.code) == (0, 0)
    rows = shown.out.splitlines()[1:]
    assert len(rows) == len(texts)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown.out)
    assert rows[2].endswith("👩\u200d🚀 שלום עולם")
    assert rows[3].endswith("xx…")
    assert rows[4].endswith("two lines")


# --- query -----------------------------------------------------------------------------------------

COUNT_SQL = "SELECT type, count(*) AS n FROM events GROUP BY type ORDER BY n DESC, type LIMIT 2"
COUNTED = [{"type": "message.received", "n": 798}, {"type": "message.sent", "n": 407}]


async def test_query_writes_every_format_to_a_pipe_and_a_file(sample, tmp_path):
    files = [tmp_path / f"out.{suffix}" for suffix in ("csv", "json", "parquet")]
    results = await side_by_side(
        [
            sample.run("query", COUNT_SQL),
            sample.run("query", COUNT_SQL, "--format", "csv"),
            sample.run("query", COUNT_SQL, "--json"),
            sample.run("query", "-", stdin=COUNT_SQL.encode()),
            *(sample.run("query", COUNT_SQL, "-o", file) for file in files),
        ]
    )
    assert [result.code for result in results] == [0] * 7
    table, as_csv, as_json, from_input, *to_files = results
    assert [row.split() for row in table.out.splitlines()] == [
        ["type", "n"],
        ["message.received", "798"],
        ["message.sent", "407"],
    ]
    assert from_input.out == table.out
    typed = [{**row, "n": int(row["n"])} for row in csv.DictReader(io.StringIO(as_csv.out))]
    assert typed == as_json.documents() == COUNTED
    assert [f"2 rows written to {file}\n" for file in files] == [r.err for r in to_files]
    assert (files[0].read_text(), files[1].read_text()) == (as_csv.out, as_json.out)
    assert pq.read_table(files[2]).to_pylist() == COUNTED


async def test_query_fits_awkward_types_into_every_format(sample, tmp_path):
    sql = "SELECT 1 AS a, 2 AS a, [1, 2] AS l, sum(3) AS s, NULL AS n, 2024 AS year, 'a\tb' AS t"
    file = tmp_path / "out.parquet"
    table, as_csv, as_json, as_parquet = await side_by_side(
        [
            sample.run("query", sql),
            sample.run("query", sql, "-f", "csv"),
            sample.run("query", sql, "-f", "json"),
            sample.run("query", sql, "-f", "parquet", "-o", file),
        ]
    )
    assert table.out.splitlines()[1].split() == ["1", "2", "[1,2]", "3", "NULL", "2024", "a", "b"]
    [row] = csv.DictReader(io.StringIO(as_csv.out))
    assert (row["a_2"], row["l"], row["n"], row["t"]) == ("2", "[1,2]", "", "a\tb")
    expected = {"a": 1, "a_2": 2, "l": [1, 2], "s": 3, "n": None, "year": 2024, "t": "a\tb"}
    assert as_json.json() == expected
    assert (as_parquet.code, pq.read_table(file).to_pylist()) == (0, [expected])


@pytest.mark.parametrize("output_format", ["table", "csv", "json", "parquet"])
async def test_a_pipe_closed_early_is_no_error(sample, output_format):
    many = "FROM events a, range(50)"  # far more than a pipe holds
    result = await sample.shell(f"eventlog query '{many}' -f {output_format} | head -c 4")
    assert (result.code, len(result.out)) == (0, 4)
    noise = [text for text in result.err.splitlines() if "rows; --format csv" not in text]
    assert noise == []


# --- errors ----------------------------------------------------------------------------------------


async def test_errors_are_one_line_without_a_traceback(sample, tmp_path):
    bad_sql, missing, unreachable, bad_setting = await side_by_side(
        [
            sample.run("query", "SELEC type\nFROM events"),
            sample.run("import", tmp_path / "missing"),
            sample.run("--url", "redis://127.0.0.1:1", "status"),
            sample.run("status", EVENTLOG_DB="99"),
        ]
    )
    for result in (bad_sql, missing, unreachable):
        assert_one_line_error(result, 1)
    assert_one_line_error(bad_setting, 2)
    assert 'syntax error at or near "SELEC" (line 1). Views: ' in bad_sql.err
    assert "missing is no file or folder." in missing.err
    assert "redis://127.0.0.1:1 cannot be reached" in unreachable.err
    assert "setting 'db' from the environment" in bad_setting.err


@pytest.mark.parametrize(
    ("code", "reason", "words", "settings"),
    [
        (1, '"nope" not found', "query|SELECT nope FROM events", {}),
        (1, "one statement that reads", "query|COPY events TO 'x.csv'", {}),
        (2, "choose csv, json or parquet", "query|SELECT 1|-o|out", {}),
        (2, "cannot write no/out.csv", "query|SELECT 1|-o|no/out.csv", {}),
        (1, "is of no format known here", "import|notes.txt", {}),
        (2, "Missing argument", "import", {}),
        (2, "No such command", "improt", {}),
        (2, "'asleep' is not one of 'pending', 'active'", "sessions|--status|asleep", {}),
        (2, "is not one of 'parked'", "dead-letters|--status|lost", {}),
        (2, "greater than or equal to 1", "history|c|--limit|0", {}),
        (2, "no cursor of this list", "sessions|--cursor|abc", {}),
        (2, "no cursor of this list", "history|c|--cursor|abc", {}),
        (2, "'yesterday' is no cursor", "tail|--from|yesterday", {}),
        (2, "has 2 partitions, the log 8", "tail|--from|0-0,0-0", {}),
        (2, "belongs to another list", f"history|c|--cursor|{OF_ANOTHER_CHAT}", {}),
        (2, "One of message.received", "history|c|--type|message.queued", {}),
        (2, "'song' is not one of 'text'", "history|c|--message-type|song", {}),
        (2, "'soon' is no duration", "dead-letters|--older-than|soon", {}),
        (2, "must be longer ago", "dead-letters|--older-than|2h|--newer-than|1h30m", {}),
        (2, "EVENTLOG_PORT is no setting", "status", {"EVENTLOG_PORT": "1"}),
        (2, "cannot read settings from nope.toml", "--config|nope.toml|status", {}),
        (2, "was created with 8", "status", {"EVENTLOG_PARTITION_COUNT": "3"}),
        (1, "notes.txt", "--data-dir|notes.txt|status", {}),
        (1, "notes.txt: Not a directory", "--archive-dir|notes.txt|query|FROM events", {}),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    code, reason, words, settings, sample, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "notes.txt", "just words")
    for name, value in {"EVENTLOG_DATA_DIR": str(sample.data), **settings}.items():
        monkeypatch.setenv(name, value)
    left = run_here(words.split("|"))
    shown = capsys.readouterr()
    assert_one_line_error(Result(left, shown.out, shown.err), code)
    assert reason in shown.err


async def test_credentials_are_never_shown(tmp_path):
    with RawServer(tmp_path, tcp=True, requirepass="s3cret-right", appendonly="yes") as server:
        address = server.url.removeprefix("redis://")
        good, bad = f"redis://:s3cret-right@{address}", f"redis://bot:s3cret-wrong@{address}"
        cli = Cli(tmp_path)
        dead = "redis://bot:s3cret-dead@127.0.0.1:1"
        refused = await side_by_side(
            [
                cli.run("status", REDIS_URL=bad),
                cli.run("--url", server.url, "doctor", REDIS_PASSWORD="s3cret-wrong"),
                cli.run("--url", server.url, "query", "SELECT 1"),
                cli.run("up", REDIS_URL=dead),
            ]
        )
        doctor = refused[1]
        assert (doctor.code, doctor.err.count("error: ")) == (1, 1)
        assert "Set REDIS_PASSWORD" in doctor.out
        for result in refused:
            assert_one_line_error(result if result is not doctor else result._replace(out=""), 1)
        shown = await side_by_side(cli.run(word, REDIS_URL=good) for word in ("status", "doctor"))
        assert [result.code for result in shown] == [0, 0]
        async with cli.running("up", REDIS_URL=good) as up:
            await up.said("are running")
            shown.append(await up.stop(signal.SIGTERM))
    for result in (*refused, *shown):
        assert "s3cret" not in result.out + result.err


async def test_a_server_that_may_drop_events_is_refused(tmp_path):
    with RawServer(tmp_path, maxmemory_policy="allkeys-lru") as server:
        result = await Cli(tmp_path).run("--url", server.url, "status")
    assert_one_line_error(result, 2)
    assert "noeviction" in result.err


# --- import ----------------------------------------------------------------------------------------


async def test_a_bad_line_is_reported_and_once_corrected_added(cli, tmp_path):
    path = write(tmp_path / "x.jsonl", line(1), line(2)[:-1], line(3))
    strict = await cli.run("import", path, "--strict")
    assert_one_line_error(strict, 1)
    assert strict.err.startswith("error: x.jsonl:2: ")
    result = await cli.run("import", path)
    assert (result.code, result.err) == (3, "x.jsonl:2: Input data was truncated\n")
    assert "1 events added, 1 known already, 1 lines refused." in result.out
    write(path, line(1), line(2), line(3))
    for added in (1, 0):
        corrected = await cli.run("import", path, "--json")
        report = corrected.json()
        assert (corrected.code, report["events_added"], report["rejected_count"]) == (0, added, 0)
    shown = await cli.run("query", "SELECT id FROM events ORDER BY id", "--json")
    assert [row["id"] for row in shown.documents()] == ["e1", "e2", "e3"]


async def test_importing_again_adds_nothing(sample):
    result = await sample.run("import", SAMPLE)
    assert "\n0 events added, 1,449 known already, 0 lines refused.\n" in result.out
    assert (result.code, result.err) == (0, "")


async def test_import_says_what_it_found_nothing_in(cli, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    empty = await cli.run("import", folder)
    assert (empty.code, "nothing to import: " in empty.err) == (3, True)
    write(folder / "notes.txt", "just words")
    write(folder / "x.jsonl", line(1))
    partly = await cli.run("import", folder)
    assert (partly.code, partly.err) == (3, "notes.txt: no known format, left out\n")
    assert "1 events added" in partly.out


async def test_an_interrupted_import_says_so_and_goes_on(cli, tmp_path):
    count = 60_000
    path = write(tmp_path / "x.jsonl", *(line(n, chat=f"c{n % 9}") for n in range(count)))
    async with opened(cli) as log:

        async def has_begun() -> int:
            return sum(head.n for head in await log.heads())

        async with cli.running("import", str(path)) as importing:
            await eventually(has_begun)
            interrupted = await importing.stop(signal.SIGINT)
        done = await has_begun()
        assert 0 < done < count
        assert interrupted.code == 130
        assert re.search(
            r"interrupted after [\d,]+ events were added; import the same again", interrupted.err
        )
        again = (await cli.run("import", path, "--json")).json()
        assert (again["events_added"], again["duplicates_skipped"]) == (count - done, done)
        assert await has_begun() == count


# --- tail ------------------------------------------------------------------------------------------


async def test_tail_goes_on_from_its_cursor_without_loss_or_repeat(cli):
    async with opened(cli) as log:

        async def say(*numbers: int) -> None:
            for number in numbers:
                await log.append(
                    MessageReceived(conversation=f"c{number}", id=f"e{number}", text="hi")
                )

        await say(1, 2, 3)

        async def shown(tail: Running, count: int) -> list[str]:
            return [json.loads(await tail.line())["event"]["id"] for _ in range(count)]

        async with cli.running("tail", "--json", "--from", "start") as tail:
            seen = await shown(tail, 3)
            await say(4, 5)
            seen += await shown(tail, 2)
            ended = await tail.stop(signal.SIGINT)
        assert (ended.code, ended.out) == (130, "")
        cursor = ended.err.removeprefix("cursor: ").strip()
        await say(6, 7)
        async with cli.running("tail", "--json", "--from", cursor) as tail:
            seen += await shown(tail, 2)
            ended = await tail.stop(signal.SIGTERM)
        assert (ended.code, ended.out) == (143, "")
        assert sorted(seen) == [f"e{n}" for n in range(1, 8)]


async def test_tail_shows_one_conversation_and_type(sample):
    words = "tail", "--from", "start", "--type", "session.transitioned"
    async with sample.running(*words) as tail:
        lines = [await tail.line() for _ in range(3)]
    assert sorted(line.split()[5] for line in lines) == ["completed", "completed", "failed"]


# --- up --------------------------------------------------------------------------------------------


async def owners(log: EventLog) -> set[str | None]:
    return {status.owner for status in await Projector(log).status()}


async def lag(log: EventLog) -> int:
    return sum(status.lag_count for status in await Projector(log).status())


async def test_up_projects_and_archives_and_leaves_nothing_pending(tmp_path):
    cli = Cli(tmp_path, EVENTLOG_PARTITION_COUNT="1")
    count = 50_000  # what makes a segment due
    path = write(tmp_path / "x.jsonl", *(line(n, text="t") for n in range(count)))
    async with cli.running("up") as up:
        await up.said("are running")
        imported = await cli.run("import", path, "--no-project")
        assert imported.code == 0
        async with opened(cli) as log:
            archiver = new_archiver(log)

            async def is_done() -> bool:
                [archived] = await archiver.status()
                return await lag(log) == 0 and archived.position.n == count

            await eventually(is_done, timeout_s=20)
            stopping_s = time.monotonic()
            stopped = await up.stop(signal.SIGINT)
            assert time.monotonic() - stopping_s < 5
            assert (stopped.code, await owners(log)) == (0, {None})
            assert "stopped, nothing in hand" in stopped.err
            for group in (PROJECTOR, "archiver"):
                pending = await log.client.xpending(log.keys.stream(0), group)
                assert pending["pending"] == 0
            assert await log.client.zcard(log.keys.members(PROJECTOR)) == 0
    assert processes_of(tmp_path) == []


async def test_two_up_processes_share_the_work_and_one_takes_it_all_over(cli, tmp_path):
    path = write(tmp_path / "x.jsonl", *(line(n, chat=f"c{n}") for n in range(100)))
    async with cli.running("up") as one, cli.running("up") as other:
        await one.said("are running")
        await other.said("are running")
        async with opened(cli) as log:

            async def are_two() -> bool:
                found = await owners(log)
                return len(found) == 2 and None not in found

            await eventually(are_two)
            await cli.run("import", path, "--no-project")
            await eventually(lambda: _is_zero(lag(log)))
            assert (await one.stop(signal.SIGTERM)).code == 0

            async def is_one() -> bool:
                found = await owners(log)
                return len(found) == 1 and None not in found

            await eventually(is_one)
        assert (await other.stop(signal.SIGINT)).code == 0


async def _is_zero(number: Any) -> bool:
    return await number == 0


# --- demo ------------------------------------------------------------------------------------------


async def test_demo_serves_pages_with_data_in_them_until_it_is_stopped(cli):
    with tempfile.TemporaryDirectory() as scratch:
        async with cli.running("demo", "--serve", "--port", "0", TMPDIR=scratch) as demo:
            address = (await demo.said("HTTP on")).split()[2].rstrip(",")

            async def has_data() -> bool:
                page = await asyncio.to_thread(fetched, f"{address}/conversations")
                return "demo:" in page and "irc:#mediawiki" in page

            await eventually(has_data, timeout_s=20)
            assert "All is well" in await asyncio.to_thread(fetched, address)
            result = await demo.stop(signal.SIGINT)
        assert os.listdir(scratch) == []  # noqa: PTH208 - pathlib counts as blocking here
        assert processes_of(Path(scratch)) == []
    assert result.code == 0, result.err


def fetched(address: str) -> str:
    """Return a page of a service of ours."""
    with urllib.request.urlopen(address, timeout=10) as answer:
        return answer.read().decode()


async def test_demo_agrees_and_leaves_nothing_behind(cli):
    with tempfile.TemporaryDirectory() as scratch:
        started_s = time.monotonic()
        result = await cli.run("demo", TMPDIR=scratch)
        assert time.monotonic() - started_s < 15
        assert os.listdir(scratch) == []  # noqa: PTH208 - pathlib counts as blocking here
        assert processes_of(Path(scratch)) == []
    assert result.code == 0
    assert "All agree, without gap or repeat." in result.out
    assert len(SESSION.findall(result.out)) == 3
    assert "imported 1,449 events from 12 sources; importing them again added 0" in result.err
    assert not cli.data.exists()
