"""`eventlog dead-letters export`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
import typer

from consumers.dead_letters import export, payload_of
from eventlog.errors import ConfigurationError
from eventlog.log import EventLog
from eventlog.past import Past
from eventlog.settings import Settings
from projections.views.dead_letters import DeadLetter, DeadLetters, LetterStatus
from service.cli.letter_choice import (
    BOUND,
    All,
    Choice,
    Conversation,
    Filters,
    Group,
    Letters,
    NewerThan,
    OlderThan,
    Reason,
    find_letter,
    matching,
)
from service.cli.options import examples, run, settings_of
from service.cli.output import INCOMPLETE, OK, binary_output, many, say
from service.wiring import new_past

READ_AT_ONCE = 16
"""Entries whose payloads are looked up together."""


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command(
        "export",
        epilog=examples(
            "eventlog dead-letters export --group delivery --output letters.jsonl",
            "eventlog dead-letters export --status discarded --all | jq .error",
        ),
    )(export_some)


def export_some(
    context: typer.Context,
    letters: Letters = None,
    status: Annotated[LetterStatus, typer.Option(help="Those of this status.")] = "parked",
    group: Group = None,
    conversation: Conversation = None,
    reason: Reason = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to a file, whole or not at all.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="How many letters at most, the newest ones.")
    ] = BOUND,
    everything: All = False,
) -> None:
    """Write letters with all there is about them, payload included, as JSON, one a line.

    Without names or filters: the parked ones.
    """
    filters = Filters(status, group, conversation, reason, newer_than, older_than)
    choice = Choice(letters or (), filters, limit, everything)
    choice.check()
    settings = settings_of(context)
    with binary_output() if output is None else _whole_file(output) as file:
        written, is_more = run(_export(settings, choice, file))
    if output is not None:
        say(f"{many(written, 'letter')} written to {output}")
    if is_more:
        say(f"there are more than {limit:,}: --all has them all", "yellow")
    raise typer.Exit(INCOMPLETE if is_more else OK)


async def _export(settings: Settings, choice: Choice, file: BinaryIO) -> tuple[int, bool]:
    """Return how many letters were written, and whether there are more."""
    written = 0
    async with EventLog.open(settings=settings) as log:
        past = new_past(log)
        async for batch in _batches(log, choice):
            room = len(batch) if choice.is_all or choice.names else choice.limit - written
            lines = await asyncio.gather(*(_line(log, each, past) for each in batch[:room]))
            file.writelines(lines)
            written += min(room, len(batch))
            if room < len(batch):
                return written, True
    return written, False


async def _batches(log: EventLog, choice: Choice) -> AsyncIterator[list[DeadLetter]]:
    if choice.names:
        letters = DeadLetters(log)
        yield [await find_letter(letters, name) for name in dict.fromkeys(choice.names)]
        return
    batch: list[DeadLetter] = []
    async for letter in matching(log, choice.filters):
        batch.append(letter)
        if len(batch) == READ_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


async def _line(log: EventLog, letter: DeadLetter, past: Past) -> bytes:
    return msgspec.json.encode(export(letter, await payload_of(log, letter, past))) + b"\n"


@contextmanager
def _whole_file(path: Path) -> Iterator[BinaryIO]:
    """Give a file that takes its name when all is written, and is gone where it is not.

    Raises ConfigurationError where it cannot be written.
    """
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigurationError(f"cannot write {path}: name a file in a folder that exists.")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with unfinished.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror or error}.") from None
    finally:
        unfinished.unlink(missing_ok=True)
