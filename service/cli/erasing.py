"""`eventlog erase`: the content of a chat or of a person, everywhere."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer

from bridge.erasing import Progress, Report, erase, erase_again
from eventlog.erasure_scope import Whose
from eventlog.log import EventLog
from eventlog.settings import Settings
from projections.projection import Projection
from projections.registry import load_projections
from service.cli.asking import confirm
from service.cli.options import AsJson, NamedProjections, Yes, examples, run, settings_of
from service.cli.output import INCOMPLETE, OK, clean, console, errors, many, print_json, say
from service.wiring import open_log


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "erase",
        epilog=examples(
            "eventlog erase --chat telegram:42 --dry-run",
            "eventlog erase --user 7 --platform telegram --reason 'asked for on 3 May'",
            "eventlog erase --again",
            also="What was appended stays counted: sequences, versions and numbers hold. Exit code 3"
            " when something is left to do.",
        ),
    )(erase_command)


def erase_command(
    context: typer.Context,
    chat: Annotated[str | None, typer.Option(help="A conversation: all of it.")] = None,
    user: Annotated[
        str | None,
        typer.Option(help="A person: what they sent, what was sent to them, their sessions."),
    ] = None,
    platform: Annotated[str | None, typer.Option(help="Of the person: only there.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="All that was ever erased: after a restored backup.")
    ] = False,
    reason: Annotated[
        str | None, typer.Option(help="Why. It is recorded in the log: name nobody.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    named: NamedProjections = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Erase the content of a chat or of a person from the log, the archive and the read models.

    It cannot be taken back. Readers, workers and archivers go on meanwhile. Interrupted, the same
    command goes on from there.
    """
    if again and (chat or user or platform or dry_run):
        raise typer.BadParameter("--again erases what the ledger has: name nobody.")
    if not again:
        whose = Whose.of(chat=chat, user=user, platform=platform)
        _ask(whose, yes=yes or dry_run)
    projections = load_projections(named or ())
    how = {"reason": reason, "operator": _operator()}
    if not again:
        how |= {"chat": chat, "user": user, "platform": platform}
    report = run(
        _erase(settings_of(context), projections, how, again=again, dry_run=dry_run, quiet=as_json)
    )
    if as_json:
        print_json(_document(report))
    else:
        _show(report, dry_run=dry_run)
    raise typer.Exit(OK if dry_run or _is_whole(report) else INCOMPLETE)


def _ask(whose: Whose, *, yes: bool) -> None:
    on = f" on {clean(whose.platform)}" if whose.platform else ""
    confirm(f"Erase all content of {whose.kind} {clean(whose.name)}{on}, for good?", yes=yes)


def _operator() -> str | None:
    with suppress(OSError, KeyError, ImportError):  # a user without a name, in a container
        return getpass.getuser()
    return None


async def _erase(
    settings: Settings,
    projections: Sequence[Projection],
    how: dict[str, str | None],
    *,
    again: bool,
    dry_run: bool,
    quiet: bool,
) -> Report:
    async with open_log(settings, projections) as log:
        with errors.status("looking …") as line:
            if quiet or not errors.is_terminal:
                line.stop()

            def tell(progress: Progress) -> None:
                line.update(f"{progress.step}: {progress.done_count} of {progress.total_count} …")

            return await _run(log, projections, how, again=again, dry_run=dry_run, tell=tell)


async def _run(
    log: EventLog,
    projections: Sequence[Projection],
    how: dict[str, str | None],
    *,
    again: bool,
    dry_run: bool,
    tell: Any,
) -> Report:
    given: dict[str, Any] = {**how, "projections": projections, "on_progress": tell}
    if again:
        return await erase_again(log, **given)
    return await erase(log, dry_run=dry_run, **given)


def _is_whole(report: Report) -> bool:
    return report.is_complete and report.files.is_clean and not report.in_hand_count


def _document(report: Report) -> dict[str, Any]:
    return {**report._asdict(), "files": report.files._asdict()}


def _show(report: Report, *, dry_run: bool) -> None:
    where = (
        f"{many(report.entry_count, 'entry', 'entries')} of the log, "
        f"{many(report.row_count, 'row')} in {many(report.segment_count, 'segment')} of the archive"
    )
    if dry_run:
        console.print(
            f"{many(report.event_count, 'event')} would lose their content: {where}", soft_wrap=True
        )
        return
    console.print(
        f"{many(report.event_count, 'event')} without content: {where}; "
        f"{many(report.model_count, 'read model')} made anew",
        soft_wrap=True,
    )
    if not report.event_count:
        say("nothing with content was found", "dim")
    for warning in _warnings(report):
        say(warning, "yellow")


def _warnings(report: Report) -> list[str]:
    found = []
    if not report.is_complete:
        found.append("more came in all the while: erase again once they have stopped")
    if report.in_hand_count:
        found.append(
            f"{many(report.in_hand_count, 'entry', 'entries')} may be in a handler's hands, which can"
            " still write of it: `eventlog erase --again` once it is done"
        )
    if not report.files.is_clean:
        found.append(
            "the server's own files on disk may still hold what is gone from its memory"
            f" (append-only file {report.files.append_only}, snapshot {report.files.snapshot}):"
            " run BGREWRITEAOF and BGSAVE there"
        )
    if report.unreadable_count:
        found.append(
            f"{many(report.unreadable_count, 'entry', 'entries')} hold no event, so whose they are"
            " cannot be told: they are left"
        )
    if report.temporary_count:
        found.append(
            f"{many(report.temporary_count, 'unfinished file')} in the archive: if no archiver runs,"
            " delete `.*.tmp` there"
        )
    return found
