"""`eventlog import`: files and folders into the log."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import typer

from bridge.importers.detect import MEANT
from bridge.importers.importing import import_paths
from bridge.importers.migration.checking import SAMPLE
from bridge.importers.migration.mapping import Mapping, load_mapping
from bridge.importers.report import ImportReport
from eventlog.log import EventLog
from eventlog.settings import Settings
from projections.projecting.projector import Projector
from service.cli.import_check import Outcome, Sampling, check, show_check
from service.cli.options import AsJson, examples, run, settings_of
from service.cli.output import (
    INCOMPLETE,
    OK,
    console,
    print_json,
    print_table,
    say,
)
from service.cli.progress import ProgressBars
from service.wiring import new_past

TELL_INTERVAL_S = 0.3
REJECTED_SHOWN = 20
SKIPPED_SHOWN = 5


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(
        "import",
        epilog=examples(
            "eventlog import examples/data",
            "eventlog import chat.jsonl --strict",
            "eventlog import logs/ --json",
            "eventlog import telegram_history.db --verify",
            "eventlog import old.db --map tg_log=message --map tg_log.text=body",
            also="Importing again adds nothing; an interrupted import goes on where it stopped."
            " Exit code 3 when something was left out.",
        ),
    )
    def import_command(
        context: typer.Context,
        paths: Annotated[list[Path], typer.Argument(help="Files or folders.", show_default=False)],
        strict: Annotated[
            bool, typer.Option("--strict", help="Stop at the first bad line.")
        ] = False,
        project: Annotated[
            bool, typer.Option(help="Bring the read models up to date afterwards.")
        ] = True,
        words: Annotated[
            list[str] | None,
            typer.Option(
                "--map",
                metavar="FILE|TABLE=KIND|TABLE.FIELD=COLUMN",
                help="How tables are read whose names say too little; may be repeated.",
            ),
        ] = None,
        verify: Annotated[
            bool, typer.Option("--verify", help="Compare counts and transcripts afterwards.")
        ] = False,
        verify_only: Annotated[
            bool, typer.Option("--verify-only", help="Compare, import nothing.")
        ] = False,
        sample: Annotated[
            int,
            typer.Option(min=0, help="Conversations of a table compared record by record."),
        ] = SAMPLE,
        seed: Annotated[int, typer.Option(help="Chooses them.")] = 0,
        as_json: AsJson = False,
    ) -> None:
        """Import IRC logs, agent sessions, bounce mails, JSON lines, an older bridge's SQLite.

        The format is found out from the content. A bad line is reported as `file:line: reason`
        and left out.
        """
        settings = settings_of(context)
        job = _Job(paths, load_mapping(words or ()), strict, project)
        sampling = Sampling(sample, seed) if verify or verify_only else None
        report, outcome = run(
            _import(settings, job, sampling, verify_only=verify_only, quiet=as_json)
        )
        if as_json:
            print_json(_document(report, outcome))
        else:
            if report is not None:
                _show(report, paths)
            if outcome is not None:
                show_check(outcome, with_tables=report is None)
        is_whole = (report is None or _is_whole(report)) and (outcome is None or outcome.is_whole)
        raise typer.Exit(OK if is_whole else INCOMPLETE)


class _Job(NamedTuple):
    paths: list[Path]
    mapping: Mapping
    is_strict: bool
    has_models: bool
    """Whether read models are brought up to date."""


async def _import(
    settings: Settings, job: _Job, sampling: Sampling | None, *, verify_only: bool, quiet: bool
) -> tuple[ImportReport | None, Outcome | None]:
    """Return what came of importing and of verifying, None for what was not asked for."""
    report = outcome = None
    async with EventLog.open(settings=settings) as log:
        with ProgressBars(quiet=quiet) as bars:
            if not verify_only:
                report = await _add(log, job, bars)
            if sampling is not None:
                outcome = await check(log, job.paths, job.mapping, sampling, bars)
    return report, outcome


async def _add(log: EventLog, job: _Job, bars: ProgressBars) -> ImportReport:
    try:
        report = await import_paths(
            log, job.paths, strict=job.is_strict, mapping=job.mapping, progress=bars.show
        )
        if job.has_models and report.events_added:
            await _project(log, bars)
    except asyncio.CancelledError:
        bars.stop()
        say(
            f"interrupted after {bars.events_added:,} events were added; import the same"
            " again and it goes on from there"
        )
        raise
    return report


async def _project(log: EventLog, bars: ProgressBars) -> None:
    """Bring the read models up to date, telling how much is left."""
    projector = Projector(log, past=new_past(log))
    projecting = asyncio.create_task(projector.run_until_caught_up())
    try:
        with bars.waiting("updating read models") as tell:
            while not projecting.done():
                left = sum(partition.lag_count for partition in await projector.status())
                tell(f"{left:,} events to go")
                await asyncio.wait({projecting}, timeout=TELL_INTERVAL_S)
    finally:
        projecting.cancel()
        await asyncio.wait({projecting})
    projecting.result()


def _document(report: ImportReport | None, outcome: Outcome | None) -> dict[str, Any]:
    document = {} if report is None else _totals(report)
    if outcome is not None:
        document["verified"] = {
            "agrees": outcome.is_whole,
            "tables": msgspec.to_builtins(outcome.checked),
            "not_verified": outcome.unchecked,
            "left_out": outcome.left_out,
        }
    return document


def _totals(report: ImportReport) -> dict[str, Any]:
    return {
        "events_added": report.events_added,
        "duplicates_skipped": report.duplicates_skipped,
        "rejected_count": report.rejected_count,
        **msgspec.to_builtins(report),
    }


def _show(report: ImportReport, paths: list[Path]) -> None:
    by_folder: dict[str, ImportReport] = {}
    for label, file in report.files.items():
        folder = label.rpartition("/")[0] or label
        by_folder.setdefault(folder, ImportReport()).file(label, file.format_name).merge(file)
    rows = []
    for folder, part in by_folder.items():
        counts = ", ".join(f"{kind} {count:,}" for kind, count in part.counts().most_common(6))
        rows.append((folder, len(part.files), part.events_added, part.duplicates_skipped, counts))
    if rows:
        print_table(("source", "files", "events added", "known already", "holds, by kind"), rows)
    else:
        named = ", ".join(map(str, paths))
        say(f"nothing to import: {named} holds no file of a known format", "yellow")
    _show_left_out(report)
    console.print(
        f"\n{report.events_added:,} events added, {report.duplicates_skipped:,} known already, "
        f"{report.rejected_count:,} lines refused."
    )


def _show_left_out(report: ImportReport) -> None:
    for line in report.rejected[:REJECTED_SHOWN]:
        say(str(line), "yellow")
    hidden = report.rejected_count - len(report.rejected[:REJECTED_SHOWN])
    if hidden:
        say(f"… and {hidden:,} more; --json has them", "yellow")
    unknown = unknown_parts(report)
    for label, reason in unknown[:SKIPPED_SHOWN]:
        say(f"{label}: {reason}, left out", "yellow")
    if len(unknown) > SKIPPED_SHOWN:
        say(f"… and {len(unknown) - SKIPPED_SHOWN:,} more; --json has them", "yellow")


def unknown_parts(report: ImportReport) -> list[tuple[str, str]]:
    """Return what nobody meant to leave out: files of no known format, tables of unknown ones.

    READMEs and licences beside data are not meant, nor what a mapping skips.
    """
    return [(label, reason) for label, reason in report.skipped if reason not in MEANT]


def _is_whole(report: ImportReport) -> bool:
    return bool(report.files) and not report.rejected_count and not unknown_parts(report)
