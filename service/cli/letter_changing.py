"""`eventlog dead-letters replay` and `discard`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Annotated, Any, NamedTuple

import typer

from consumers.dead_letters import Outcome, discard, request_replay
from consumers.group_status import group_status
from consumers.registration import RESERVED, registrations
from eventlog.log import EventLog
from eventlog.settings import Settings
from projections.views.dead_letters import DeadLetter, DeadLetters
from service.cli.asking import confirm
from service.cli.letter_choice import (
    BOUND,
    All,
    Bound,
    Choice,
    Conversation,
    Filters,
    Group,
    Letters,
    NewerThan,
    OlderThan,
    Reason,
    choose,
)
from service.cli.options import AsJson, Yes, examples, run, settings_of
from service.cli.output import INCOMPLETE, OK, clean, console, errors, many, moment, print_json, say

POLL_S = 0.3
"""How often `--wait` looks."""

LOOKED_AT_ONCE = 50


def register(group: typer.Typer) -> None:
    """Add the commands."""
    group.command(
        "replay",
        epilog=examples(
            "eventlog dead-letters replay delivery:3/1763-17 --wait",
            "eventlog dead-letters replay --reason unreachable --newer-than 2h",
            "eventlog dead-letters replay --all --yes",
        ),
    )(replay)
    group.command(
        "discard",
        epilog=examples(
            "eventlog dead-letters discard delivery:3/1763-17 --because 'sent by hand'",
            "eventlog dead-letters discard --older-than 30d --because 'nobody waits for it'",
        ),
    )(discard_some)


def replay(
    context: typer.Context,
    letters: Letters = None,
    group: Group = None,
    conversation: Conversation = None,
    reason: Reason = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Bound = BOUND,
    everything: All = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Until each has been tried; tell how they fared.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Ask the groups of parked letters to try them again, in the order in which they were parked.

    By name, by one or several filters, or all. The workers of each group handle the original
    entries; another group never sees them. Nothing is sent twice because two ask at once.
    """
    filters = Filters("parked", group, conversation, reason, newer_than, older_than)
    choice = Choice(letters or (), filters, limit, everything)
    choice.check("replay")
    code = run(_replay(settings_of(context), choice, wait=wait, yes=yes, as_json=as_json))
    raise typer.Exit(code)


def discard_some(
    context: typer.Context,
    because: Annotated[str, typer.Option(help="Why: it is recorded in the log.")],
    letters: Letters = None,
    group: Group = None,
    conversation: Conversation = None,
    reason: Reason = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Bound = BOUND,
    everything: All = False,
    replaying: Annotated[
        bool,
        typer.Option("--replaying", help="Of those that wait for their group to try them again."),
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give letters up for good: by name, by one or several filters, or all that are parked."""
    filters = Filters(
        "replaying" if replaying else "parked", group, conversation, reason, newer_than, older_than
    )
    choice = Choice(letters or (), filters, limit, everything)
    choice.check("discard")
    if not because.strip():
        raise typer.BadParameter("--because is blank: say why, for later.")
    code = run(_discard(settings_of(context), choice, because, yes=yes, as_json=as_json))
    raise typer.Exit(code)


class Ready(NamedTuple):
    """What is to be changed, and what was left out of it."""

    letters: list[DeadLetter]
    left_count: int


async def _replay(
    settings: Settings, choice: Choice, *, wait: bool, yes: bool, as_json: bool
) -> int:
    async with EventLog.open(settings=settings) as log:
        ready = await _ready(log, choice, _is_parked)
        replayable = await _of_registered(log, _replayable(ready.letters))
        await _tell_who_is_missing(log, replayable)
        _ask("Replay", replayable, choice, yes=yes)
        outcomes = await request_replay(log, replayable)
        asked = [
            letter
            for letter, outcome in zip(replayable, outcomes, strict=True)
            if outcome.status == "requested"
        ]
        settled = await _settled(log, asked, quiet=as_json) if wait else None
    left_out = ready.left_count + len(ready.letters) - len(replayable)
    _report(outcomes, left_out, settled, as_json=as_json)
    is_whole = len(asked) == len(outcomes) and not left_out
    return OK if is_whole and not (settled and settled["parked"]) else INCOMPLETE


async def _discard(
    settings: Settings, choice: Choice, because: str, *, yes: bool, as_json: bool
) -> int:
    async with EventLog.open(settings=settings) as log:
        ready = await _ready(log, choice, _is_open)
        _ask("Discard", ready.letters, choice, yes=yes)
        outcomes = await discard(log, ready.letters, because)
    _report(outcomes, ready.left_count, None, as_json=as_json)
    is_whole = all(each.status == "discarded" for each in outcomes) and not ready.left_count
    return OK if is_whole else INCOMPLETE


def _is_parked(letter: DeadLetter) -> bool:
    return letter.status == "parked"


def _is_open(letter: DeadLetter) -> bool:
    """Return whether it can be discarded: nobody is sending it."""
    return _is_parked(letter) or (letter.status == "replaying" and letter.runner is None)


async def _ready(log: EventLog, choice: Choice, is_ready: Callable[[DeadLetter], bool]) -> Ready:
    """Return the letters of a choice that are ready; tell about those that are not."""
    chosen = await choose(log, choice)
    ready = [letter for letter in chosen.letters if is_ready(letter)]
    for letter in chosen.letters:
        if not is_ready(letter):
            by = f", by {letter.runner}" if letter.runner else ""
            say(f"{letter.letter} is {letter.status}{by}: nothing is done with it", "yellow")
    if not chosen.letters:
        say("no such dead letters", "yellow")
    if chosen.left_count:
        total = len(chosen.letters) + chosen.left_count
        say(f"the oldest {len(ready):,} of {total:,}; --all takes them all", "yellow")
    return Ready(ready, chosen.left_count + len(chosen.letters) - len(ready))


def _replayable(letters: Iterable[DeadLetter]) -> list[DeadLetter]:
    """Return the letters that a worker's group has parked; tell about the others."""
    found, others = [], Counter[str]()
    for letter in letters:
        owner, _, projection = letter.group.partition(":")
        if owner in RESERVED:
            others[projection] += 1
        else:
            found.append(letter)
    for projection, count in others.items():
        mended = f"`eventlog projections rebuild {projection or 'NAME'}`"
        say(
            f"{count:,} left out that were parked by a projection: mend it, then {mended};"
            " what is no longer needed can be discarded",
            "yellow",
        )
    return found


async def _of_registered(log: EventLog, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    """Return the letters of registered groups; tell about the others, which nobody would try."""
    names = {each.name for each in await registrations(log)}
    others = Counter(letter.group for letter in letters if letter.group not in names)
    for group, count in others.items():
        say(
            f"{count:,} left out: no worker of group {clean(group)!r} has ever run here. Start one, then"
            " ask again; what is no longer needed can be discarded",
            "yellow",
        )
    return [letter for letter in letters if letter.group in names]


async def _tell_who_is_missing(log: EventLog, letters: Iterable[DeadLetter]) -> None:
    for group in sorted({letter.group for letter in letters}):
        if not (await group_status(log, group)).members:
            say(
                f"no worker of group {group!r} is alive, its letters wait for one:"
                f" `eventlog worker MODULE:OBJECT --group {group}`",
                "yellow",
            )


def _ask(verb: str, letters: Sequence[DeadLetter], choice: Choice, *, yes: bool) -> None:
    """Ask for leave, unless it is about a single letter by its name."""
    if choice.is_one or not letters:
        return
    reasons = Counter(letter.reason for letter in letters).most_common(4)
    listed = ", ".join(f"{clean(reason)} {count:,}" for reason, count in reasons)
    times = [letter.parked_at for letter in letters]
    ends = dict.fromkeys(str(moment(time))[:16] for time in (min(times), max(times)))
    parked = f"parked {' to '.join(ends)} UTC"
    confirm(f"{verb} {many(len(letters), 'letter')} ({listed}), {parked}?", yes=yes)


def _report(
    outcomes: Sequence[Outcome],
    left_count: int,
    settled: Mapping[str, int] | None,
    *,
    as_json: bool,
) -> None:
    counts = Counter(each.status for each in outcomes)
    if as_json:
        document: dict[str, Any] = {
            "letters": [each._asdict() for each in outcomes],
            "counts": counts,
            "left_out_count": left_count,
        }
        print_json(document if settled is None else {**document, "settled": settled})
        return
    if not outcomes:
        return
    console.print(", ".join(f"{count:,} {status}" for status, count in counts.items()))
    if counts["changed"]:
        say("changed: settled or tried by somebody else since it was looked up", "yellow")
    if settled is not None:
        told = {"resolved": "resolved", "parked": "failed again", "discarded": "discarded"}
        console.print(", ".join(f"{settled[status]:,} {text}" for status, text in told.items()))


async def _settled(
    log: EventLog, letters: Sequence[DeadLetter], *, quiet: bool
) -> Mapping[str, int]:
    """Return how many letters ended in which status, when none is being replayed any more."""
    view = DeadLetters(log)
    waiting = list(letters)
    counts = Counter[str]()
    is_shown = errors.is_terminal and not quiet
    with errors.status("waiting …") if is_shown else nullcontext() as line:
        try:
            while waiting := await _still_replaying(view, waiting, counts):
                if line is not None:
                    line.update(f"{len(letters) - len(waiting):,} of {len(letters):,} tried …")
                await log.clock.sleep(POLL_S)
        except asyncio.CancelledError:
            say(f"{len(waiting):,} still wait for their workers, which go on", "yellow")
            raise
    return counts


async def _still_replaying(
    view: DeadLetters, letters: Sequence[DeadLetter], counts: Counter[str]
) -> list[DeadLetter]:
    """Return those that are being replayed; count the others by status."""
    still = []
    for start in range(0, len(letters), LOOKED_AT_ONCE):
        some = letters[start : start + LOOKED_AT_ONCE]
        looked = (view.get(each.letter, conversation=each.conversation) for each in some)
        for letter, found in zip(some, await asyncio.gather(*looked), strict=True):
            if found is None or found.status == "replaying":
                still.append(letter)
            else:
                counts[found.status] += 1
    return still
