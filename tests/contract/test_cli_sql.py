"""The SQL shell on a terminal and as a script, each a process of its own."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import select
import stat
import termios
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from analytics import VIEWS, Warehouse
from analytics.reports import Reports
from eventlog.clock import SYSTEM_CLOCK
from eventlog.embedded import EmbeddedServer
from eventlog.errors import EventLogError
from eventlog.log import EventLog
from eventlog.settings import Settings
from eventlog.vocabulary import MessageReceived
from service.cli.sql_input import Piece, pieces
from service.cli.sql_shell import Shell
from tests.cli import COMMAND, TIMEOUT_S, Cli, processes_of

ENDLESS = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(100000) b;"
PROMPT = "eventlog>"
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[()=>].?|\r")


class Terminal:
    """What a person at the shell sees and types."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    async def sees(self, text: str, pressing: str = "") -> str:
        """Return what came up to the text, which has to come; a key may be pressed until then."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while text not in self._seen:
            assert time.monotonic() < deadline_s, f"no {text!r} in {self._seen!r}"
            came = await asyncio.to_thread(self._read)
            self._seen += came
            if not came:
                self.type(pressing)
        before, _, self._seen = self._seen.partition(text)
        return before

    def _read(self) -> str:
        if not select.select([self._descriptor], [], [], 0.5)[0]:
            return ""
        try:
            part = os.read(self._descriptor, 65536).decode(errors="replace")
        except OSError:
            part = ""
        assert part, f"it ended: {self._seen!r}"
        return _CONTROLS.sub("", part)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@asynccontextmanager
async def shell(cli: Cli) -> AsyncIterator[tuple[Terminal, asyncio.subprocess.Process]]:
    parent, child = pty.openpty()
    environment = cli.environment(TERM="xterm", NO_COLOR="1", PROMPT_TOOLKIT_NO_CPR="1")
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        "sql",
        cwd=cli.folder,
        env=environment,
        stdin=child,
        stdout=child,
        stderr=child,
        start_new_session=True,
        preexec_fn=_take_terminal,  # a key can be a signal only from the session's own terminal
    )
    os.close(child)
    try:
        yield Terminal(parent), process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(parent)


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """Commands on a log whose server is kept up between them."""
    made = Cli(tmp_path)
    server = EmbeddedServer(Settings(data_dir=str(made.data)))
    server.start()
    try:
        yield made
    finally:
        server.release()
    assert processes_of(tmp_path) == []


async def test_a_conversation_with_the_shell(cli: Cli) -> None:
    async with shell(cli) as (terminal, process):
        await terminal.sees(PROMPT)
        async with EventLog.open(settings=Settings(data_dir=str(cli.data))) as log:
            await log.append(MessageReceived(conversation="c", text="said just now"))
        terminal.type("SELECT conversation, tex\t")
        await terminal.sees("text")
        terminal.type(" FROM mess\t")
        await terminal.sees("messages")
        terminal.type("\n")  # not yet at its end
        await terminal.sees("...>")
        terminal.type("WHERE text LIKE '%;%' OR true;\n")
        await terminal.sees("said just now")
        await terminal.sees(PROMPT)
        terminal.type("FROM nowhere;\n")
        await terminal.sees("error: ")
        await terminal.sees(PROMPT)
        terminal.type(f"{ENDLESS}\n")
        await terminal.sees("stopped", pressing="\x03")  # once the query runs
        await terminal.sees(PROMPT)
        terminal.type("never mind")
        await terminal.sees("never mind")
        terminal.type("\x03")
        await terminal.sees(PROMPT)
        terminal.type("SELECT 6 * 7 AS answer; .timer on\n")
        await terminal.sees("42")
        terminal.type(".export answer.json\n")
        await terminal.sees("1 row written to answer.json")
        await terminal.sees(PROMPT)
        terminal.type("\x04")
        assert await process.wait() == 0
    assert (cli.folder / "answer.json").read_text() == '{"answer":42}\n'
    history = cli.data / "sql_history"
    assert "+WHERE text LIKE" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


async def test_a_script_runs_up_to_what_fails(cli: Cli) -> None:
    (cli.folder / "there.csv").write_text("mine")
    script = """
        -- a comment; with a semicolon
        SELECT 'a;b' AS x;
        .limit 2
        FROM range(5) SELECT range AS n;
        .report busiest-hours chat=nobody
        .export hours.csv
        .export there.csv
        SELECT 'not reached';
    """
    ended = await cli.run("sql", stdin=script.encode())
    assert ended.code == 1
    assert ended.out.startswith("x\na;b\nn\n0\n1\n")
    assert "Busiest hours of the day; chat nobody" in ended.out
    assert "not reached" not in ended.out
    assert "the first 2 rows; .limit N shows more" in ended.err
    assert "24 rows written to hours.csv" in ended.err
    assert ended.err.splitlines()[-1].startswith("error: there.csv exists already.")
    assert len((cli.folder / "hours.csv").read_text().splitlines()) == 25
    assert (cli.folder / "there.csv").read_text() == "mine"
    assert not list(cli.folder.glob(".*.tmp"))
    ended = await cli.run("sql", stdin=b"SELECT '\xff';")
    assert (ended.code, "not UTF-8" in ended.err) == (2, True)


REFUSED = [
    (".views 'x", "No closing quotation"),
    (".nothing", "no command .nothing. Commands: .views"),
    (".schema nowhere", "no view 'nowhere'"),
    (".export x.csv", "no query yet"),
    ("SELECT 1;.export x.doc", "name a .csv"),
    ("SELECT 1;.export no/x.csv", "cannot write no/x.csv"),
    (".limit 0", "how many rows"),
    (".timer maybe", "on or off"),
    (".report", "which report"),
    (".report tools since", "'since' is no parameter"),
    (".report tools since=soon", "since=soon is no time"),
    ("CREATE TABLE t (a INT);", "one statement that reads"),
    ("SELECT 'open;", "unterminated"),
    ("\x00;", "syntax error"),
]


@pytest.mark.parametrize(("text", "words"), REFUSED)
async def test_what_cannot_be_done_is_said_and_the_shell_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    async with Warehouse.open(None, tmp_path) as warehouse:
        made = Shell(warehouse, Reports(), SYSTEM_CLOCK, rows_shown=3)
        *before, last = pieces(text)
        for piece in before:
            await made.do(piece)
        with pytest.raises(EventLogError) as caught:
            await made.do(last)
        assert words in str(caught.value)
        await made.do(Piece("SELECT 1;", is_command=False, is_finished=True))
    assert not os.listdir(tmp_path)  # noqa: PTH208 - as good in a test


async def test_the_vocabulary_has_every_view_and_what_duckdb_knows(tmp_path: Path) -> None:
    async with Warehouse.open(None, tmp_path) as warehouse:
        words = await Shell(warehouse, Reports(), SYSTEM_CLOCK, rows_shown=3).words()
    assert tuple(words.columns) == VIEWS
    assert "occurred_at" in words.columns["messages"]
    assert {"SELECT", "WHERE", "ORDER", "BY"} <= set(words.keywords)
    assert {"count", "date_trunc"} <= set(words.functions)
