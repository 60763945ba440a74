"""`eventlog dead-letters`: what was given up on; listed and shown."""

from __future__ import annotations

from typing import Annotated

import typer

from consumers.dead_letters import export, payload_of
from eventlog.log import EventLog
from eventlog.settings import Settings
from projections.views.dead_letters import DeadLetters
from service.cli import letter_changing, letter_export
from service.cli.letter_choice import (
    Conversation,
    Filters,
    Group,
    NewerThan,
    OlderThan,
    Reason,
    Status,
    find_letter,
)
from service.cli.letter_page import print_letter
from service.cli.options import AsJson, CursorOption, Limit, examples, is_bare, run, settings_of
from service.cli.output import clean, console, moment, print_json, print_table, say
from service.wiring import new_past


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        invoke_without_command=True,
        help="List, show, replay, discard and export what was given up on.",
        epilog=examples(
            "eventlog dead-letters --reason mailboxfull",
            "eventlog dead-letters show LETTER",
            "eventlog dead-letters replay --group delivery --older-than 2h",
        ),
    )
    group.callback()(overview)
    group.command(
        "list",
        epilog=examples(
            "eventlog dead-letters list --status parked --older-than 2h",
            "eventlog dead-letters list --json",
        ),
    )(list_some)
    group.command("show", epilog=examples("eventlog dead-letters show delivery:3/1763-17"))(show)
    letter_changing.register(group)
    letter_export.register(group)
    app.add_typer(group, name="dead-letters")


def overview(
    context: typer.Context,
    status: Status = None,
    group: Group = None,
    conversation: Conversation = None,
    reason: Reason = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Limit = 20,
    cursor: CursorOption = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest first, by age and at most one other filter, with counts by reason."""
    if is_bare(context):
        filters = Filters(status, group, conversation, reason, newer_than, older_than)
        filters.check()
        run(_list(settings_of(context), filters, limit, cursor, as_json=as_json))


def list_some(
    context: typer.Context,
    status: Status = None,
    group: Group = None,
    conversation: Conversation = None,
    reason: Reason = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    limit: Limit = 20,
    cursor: CursorOption = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest first, by age and at most one other filter, with counts by reason."""
    filters = Filters(status, group, conversation, reason, newer_than, older_than)
    filters.check()
    run(_list(settings_of(context), filters, limit, cursor, as_json=as_json))


async def _list(
    settings: Settings, filters: Filters, limit: int, cursor: str | None, *, as_json: bool
) -> None:
    one_of = {n: getattr(filters, n) for n in ("status", "group", "conversation", "reason")}
    async with EventLog.open(settings=settings) as log:
        letters = DeadLetters(log)
        ages = filters.ages(log.clock.now_us())
        page = await letters.list(**one_of, **ages, limit=limit, cursor=cursor)
        reasons = await letters.counts_by_reason()
        by_status = await letters.counts_by_status()
    if as_json:
        counts = {"reasons": reasons, "statuses": by_status}
        print_json({"dead_letters": page.items, **counts, "cursor": page.cursor})
        return
    rows = [
        (moment(e.parked_at), e.letter, e.status, e.group, e.reason, e.attempts, e.recipient,
         e.error)
        for e in page.items
    ]  # fmt: skip
    columns = "parked (UTC)", "letter", "status", "group", "reason", "attempts"
    spare = "status", "attempts", "group"
    if not print_table((*columns, "recipient", "error"), rows, spare=spare):
        say("no such dead letters", "yellow")
    ranked = sorted(reasons.items(), key=lambda item: -item[1])
    if ranked:
        listed = ", ".join(f"{clean(reason)} {count:,}" for reason, count in ranked)
        console.print(f"\nparked: {listed}", markup=False, emoji=False, soft_wrap=True)
    if replaying := by_status.get("replaying"):
        say(f"being replayed: {replaying:,}", "dim")
    if page.cursor:
        say(f"more: --cursor {page.cursor}", "dim")


def show(
    context: typer.Context,
    letter: Annotated[str, typer.Argument(help="A letter: `eventlog dead-letters` lists them.")],
    as_json: AsJson = False,
) -> None:
    """Show everything about a letter: what it was about, every attempt, and what became of it.

    The payload is read from the log or, where it has left that, from the archive.
    """
    run(_show(settings_of(context), letter, as_json=as_json))


async def _show(settings: Settings, name: str, *, as_json: bool) -> None:
    async with EventLog.open(settings=settings) as log:
        letter = await find_letter(DeadLetters(log), name)
        everything = export(letter, await payload_of(log, letter, new_past(log)))
    if as_json:
        print_json(everything)
    else:
        print_letter(letter, everything["payload"])
