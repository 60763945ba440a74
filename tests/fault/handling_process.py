"""A process that handles entries of a log until SIGTERM, and the handle to start it and strike it.

`python -m tests.fault.handling_process URL OWNER SETTINGS JOURNAL`, the settings as JSON. It also ends
when its standard input does, hence with whoever started it. It reports on standard error; each attempt
goes into the journal as it begins and as it ends, and a sign of life every few ms.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from consumers import Context, Handlers, Limits, Retry, Worker
from eventlog import Event, Settings
from eventlog.errors import AttemptFailed
from eventlog.tasks import end
from tests.fault.handling_history import Journal, read_journal
from tests.fault.journal import JournalFile
from tests.fault.processes import StruckProcess, opened, report_on_standard_error, told_to_stop

GROUP = "answering"
ATTEMPTS = 3
TIMEOUT_S = 0.4
SIGN_OF_LIFE_S = 0.02

Conduct = Literal["prompt", "slow", "fails", "never", "refuses", "hangs"]
"""What its handler does: ends at once; after a while; raises at first; always; something permanent;
does not end in time at first."""


class WorkGiven(Event, frozen=True, kw_only=True, tag="work.given"):
    """What is to be handled, and how that goes."""

    number: int
    """The producer's order in the conversation."""
    conduct: Conduct = "prompt"
    failures: int = 1
    """Of conduct `fails`: attempts that fail."""
    slow_s: float = 0.1
    """Of conduct `slow`: how long an attempt takes."""
    results: int = 0
    echoes: int = 0
    """Results that go to another conversation."""


class WorkAnswered(Event, frozen=True, kw_only=True, tag="work.answered"):
    """A result in the conversation of what it answers, `number` counts from 1."""

    answers: str
    number: int


class WorkEchoed(Event, frozen=True, kw_only=True, tag="work.echoed"):
    """A result in another conversation than what it echoes."""

    echoes: str
    number: int


TYPES = (WorkGiven, WorkAnswered, WorkEchoed)


# --- in the process -------------------------------------------------------------------------------


class AttemptJournal(JournalFile):
    """The journal of a process that makes attempts."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._attempt_count = 0

    @contextmanager
    def attempt(self, key: str) -> Iterator[None]:
        """Record an attempt from its begin to its end."""
        self._attempt_count += 1
        number = self._attempt_count
        self.write("begin", key=key, attempt=number)
        try:
            yield
        except asyncio.CancelledError:
            self.write("called off", attempt=number)
            raise
        except Exception:
            self.write("error", attempt=number)
            raise
        self.write("ok", attempt=number)

    async def show_life(self) -> None:
        """Give signs of life until cancelled."""
        while True:
            self.write("alive")
            await asyncio.sleep(SIGN_OF_LIFE_S)


def handlers_with(journal: AttemptJournal) -> Handlers:
    """Return handlers that do what the entries say, and record it."""
    handlers = Handlers(
        timeout_s=TIMEOUT_S, retry=Retry(attempts=ATTEMPTS, first_delay_s=0.02, jitter=0)
    )

    @handlers.on(WorkGiven)
    async def handle(work: WorkGiven, context: Context) -> None:
        with journal.attempt(work.id):
            await behave(work, context.attempt)
            for number in range(1, work.results + 1):
                context.append(
                    WorkAnswered(conversation=work.conversation, answers=work.id, number=number)
                )
            for number in range(1, work.echoes + 1):
                conversation = f"echo of {work.conversation}"
                context.append(WorkEchoed(conversation=conversation, echoes=work.id, number=number))

    return handlers


async def behave(work: WorkGiven, attempt: int) -> None:
    """Do what the entry says about an attempt at it."""
    match work.conduct:
        case "slow":
            await asyncio.sleep(work.slow_s)
        case "fails" if attempt <= work.failures:
            raise RuntimeError(f"attempt {attempt} fails")
        case "never":
            raise RuntimeError("no attempt succeeds")
        case "refuses":
            raise AttemptFailed("it never will", permanent=True)
        case "hangs" if attempt == 1:
            await asyncio.Event().wait()


async def main(url: str, owner: str, settings: str, journal_path: str) -> None:
    stop = told_to_stop()
    journal = AttemptJournal(journal_path)
    living = asyncio.create_task(journal.show_life())
    log = await opened(url, msgspec.json.decode(settings, type=Settings), TYPES)
    limits = Limits(concurrency=20, stop_timeout_s=1.0)
    try:
        await Worker(log, GROUP, handlers_with(journal), owner=owner, limits=limits).run(stop)
    finally:
        await log.close()
        await end(living)


# --- seen by the one who started it ---------------------------------------------------------------


class HandlingProcess(StruckProcess):
    """A worker of a run, and its journal."""

    def __init__(
        self, url: str, owner: str, folder: Path, settings: Settings, *, has_faulty_link: bool
    ) -> None:
        self._has_faulty_link = has_faulty_link
        self._journal = folder / f"{owner}.jsonl"
        module, text = "tests.fault.handling_process", msgspec.json.encode(settings)
        super().__init__(module, owner, folder, url, owner, text, str(self._journal))

    def journal(self) -> Journal:
        """Return what it has recorded so far."""
        lines = self._journal.read_text().splitlines(True) if self._journal.exists() else []
        return read_journal(self.owner, lines, has_faulty_link=self._has_faulty_link)


if __name__ == "__main__":
    report_on_standard_error()
    asyncio.run(main(*sys.argv[1:]))
