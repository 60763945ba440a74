"""The SQL shell on a terminal: prompt, history, completion, and what Ctrl-C stops."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.lexers import PygmentsLexer
from prompt_toolkit.output import create_output
from pygments.lexers.sql import SqlLexer

from eventlog.errors import EventLogError
from service.cli.options import on_ctrl_c
from service.cli.output import errors, say
from service.cli.sql_completion import Vocabulary, candidates, word_before
from service.cli.sql_input import Piece, is_finished, pieces
from service.cli.sql_shell import Left, Shell, tell

HISTORY_FILE = "sql_history"
PROMPT, CONTINUED = "eventlog> ", "     ...> "


class SqlCompleter(Completer):
    """The candidates as prompt_toolkit wants them; behind `.export` the files there are."""

    def __init__(self, words: Vocabulary) -> None:
        self._words = words
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        """Yield the completions at the cursor."""
        before = document.text_before_cursor
        if before.startswith(".export "):
            yield from self._paths.get_completions(Document(before[len(".export ") :]), event)
            return
        prefix = before.rpartition(" ")[2] if before.startswith(".") else word_before(before)
        for word, about in candidates(before, document.text, self._words):
            yield Completion(word, start_position=-len(prefix), display_meta=about)


async def _session(shell: Shell, folder: Path) -> PromptSession[str]:
    words = await shell.words()
    return PromptSession(
        PROMPT,
        history=_history(folder),
        completer=SqlCompleter(words),
        complete_while_typing=False,
        lexer=PygmentsLexer(SqlLexer),
        # Enter runs what is finished, and begins a line where it is not.
        multiline=Condition(lambda: not is_finished(get_app().current_buffer.text)),
        prompt_continuation=CONTINUED,
        output=create_output(sys.stdout),
    )


def _history(folder: Path) -> History:
    """Return the history kept in the data directory, which only its owner may read."""
    path = folder / HISTORY_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
        os.fchmod(descriptor, 0o600)
        os.close(descriptor)
    except OSError as error:
        say(f"no history is kept: {path}: {error.strerror}", "yellow")
        return InMemoryHistory()
    return FileHistory(path)


async def talk(shell: Shell, folder: Path) -> None:
    """Do what is typed until Ctrl-D or `.quit`; the history is kept in the folder."""
    session = await _session(shell, folder)
    say("SQL over archive and live log; .help lists the commands, Ctrl-D leaves.", "dim")
    work = _Work()
    with on_ctrl_c(work.stop), suppress(Left, EOFError):
        while True:
            try:
                text = await session.prompt_async(handle_sigint=False)
            except KeyboardInterrupt:
                continue  # what was typed is dropped
            for piece in pieces(text):
                if not await _done(shell, piece, work):
                    break


async def _done(shell: Shell, piece: Piece, work: _Work) -> bool:
    """Return whether what was typed came to its end; an error is told, Ctrl-C stops it."""
    try:
        await work.do(shell.do(piece))
    except EventLogError as error:
        tell(error)
        return False
    except _Stopped:
        errors.print()  # the terminal has shown ^C
        say("stopped", "yellow")
        return False
    return True


class _Stopped(Exception):
    """Ctrl-C was pressed meanwhile."""


class _Work:
    """What Ctrl-C stops: the statement that runs, if any."""

    def __init__(self) -> None:
        self._task: asyncio.Future[None] | None = None
        self._is_stopped = False

    async def do(self, work: Awaitable[None]) -> None:
        """Do it. Raises _Stopped where it was stopped."""
        self._is_stopped, self._task = False, asyncio.ensure_future(work)
        try:
            await self._task
        except asyncio.CancelledError:
            if not self._is_stopped:
                raise
            raise _Stopped from None
        finally:
            self._task = None

    def stop(self, _: int) -> None:
        """Stop what runs. Pressing again does not hurry it: it ends when DuckDB has let go."""
        if self._task is not None and not self._is_stopped:
            self._is_stopped = True
            self._task.cancel()
