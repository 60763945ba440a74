"""`eventlog archive`: the files of the archive, whether they are sound, and keeping them so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from analytics.auditing import FileFacts, Finding, audit, listing
from analytics.compacted_file import Work
from analytics.compaction import GRACE_S, Progress, Report
from analytics.opening import storage_of
from analytics.restoring import Left, Restored, restore
from analytics.storage import DirectoryStorage, Storage
from bridge.erasing import ledger_of
from eventlog.errors import ConfigurationError
from eventlog.log import EventLog
from eventlog.settings import Settings
from service.cli.building_bar import BuildBar
from service.cli.options import AsJson, examples, is_bare, run, settings_of
from service.cli.output import INCOMPLETE, OK, console, many, print_json, print_table, say
from service.wiring import new_compactor

Days = Annotated[
    list[datetime] | None,
    typer.Option("--day", formats=["%Y-%m-%d"], help="Only this UTC day; may be repeated."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        invoke_without_command=True,
        help="List, verify, compact and restore the archive's files.",
        epilog=examples(
            "eventlog archive list",
            "eventlog archive verify",
            "eventlog archive compact --dry-run",
            "eventlog archive restore --from /backup/archive",
        ),
    )
    group.callback()(overview)
    group.command("list", epilog=examples("eventlog archive list --files"))(list_files)
    group.command("verify", epilog=examples("eventlog archive verify --json"))(verify)
    group.command(
        "compact",
        epilog=examples(
            "eventlog archive compact --dry-run", "eventlog archive compact --day 2026-11-20"
        ),
    )(compact)
    group.command("restore", epilog=examples("eventlog archive restore --from /backup/archive"))(
        restore_files
    )
    app.add_typer(group, name="archive")


# --- list


def overview(context: typer.Context, as_json: AsJson = False) -> None:
    """Show what the archive holds of each partition and day."""
    if is_bare(context):
        list_files(context, as_json=as_json)


def list_files(
    context: typer.Context,
    files: Annotated[bool, typer.Option("--files", help="A line for each file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what the archive holds of each partition and day.

    The position is the last sequence that can be read without a gap. Needs no server.
    """
    found = listing(_storage(settings_of(context)))
    if as_json:
        print_json({"files": [_file_document(each) for each in found]})
    elif files:
        columns = "file", "rows", "bytes", "removed", "state"
        rows = [
            (f.segment.name, _rows(f), f.byte_count, sum(f.removed.values()), _state(f))
            for f in found
        ]
        print_table(columns, rows, spare=("bytes", "removed"))
    else:
        _show_days(found)
    if any(each.is_damaged for each in found):
        say("damaged files: `eventlog archive verify` tells more", "yellow")
        raise typer.Exit(INCOMPLETE)


def _show_days(found: Sequence[FileFacts]) -> None:
    by_day: defaultdict[tuple[int, date], list[FileFacts]] = defaultdict(list)
    positions: defaultdict[int, int] = defaultdict(int)
    for each in found:
        by_day[each.segment.partition, each.segment.day].append(each)
        if each.is_read:
            positions[each.segment.partition] = each.segment.last
    rows = []
    for (partition, day), files in sorted(by_day.items()):
        read = [each for each in files if each.is_read]
        compacted = sum(each.segment.is_compacted for each in read)
        rows.append(
            (
                partition,
                str(day),
                len(read),
                sum(map(_rows, read)),
                sum(each.byte_count for each in files),
                max((each.segment.last for each in read), default=None),
                "yes" if compacted == len(read) else "in part" if compacted else "no",
                len(files) - len(read),
                sum(sum(each.removed.values()) for each in read),
            )
        )
    columns = (
        *("partition", "day", "files", "rows", "bytes", "position", "compacted"),
        *("not read", "removed by rule"),
    )
    print_table(columns, rows, spare=("position", "bytes", "not read", "removed by rule"))
    total = sum(_rows(each) for each in found if each.is_read)
    bytes_ = sum(each.byte_count for each in found)
    say(
        f"{many(total, 'row')} in {many(len(found), 'file')}, {bytes_ / 1e6:,.1f} MB, of "
        f"{many(len(positions), 'partition')}",
        "dim",
    )


def _rows(each: FileFacts) -> int:
    return each.segment.row_count - sum(each.removed.values())


def _state(each: FileFacts) -> str:
    if each.is_damaged:
        return "damaged"
    if not each.is_read:
        return "not read"
    return "compacted" if each.segment.is_compacted else "as archived"


def _file_document(each: FileFacts) -> dict[str, Any]:
    segment = each.segment
    return {
        "file": segment.name,
        "partition": segment.partition,
        "day": str(segment.day),
        "first": segment.first,
        "last": segment.last,
        "rows": _rows(each),
        "bytes": each.byte_count,
        "compacted": segment.is_compacted,
        "read": each.is_read,
        "removed": each.removed,
        "damaged": each.is_damaged,
    }


# --- verify


def verify(context: typer.Context, as_json: AsJson = False) -> None:
    """Read every file of the archive through, and say what is wrong and what to do.

    Damaged files, gaps and what cannot be reached because of them end it with exit code 3. Needs no
    server and changes nothing.
    """
    storage = _storage(settings_of(context))
    with BuildBar("verifying", quiet=as_json) as bar:
        findings = audit(storage, lambda done, total: bar.tell("verifying", done, total))
    files = len(storage.segments())
    is_fine = not any(each.needs_attention for each in findings)
    if as_json:
        shown = [each._asdict() for each in findings]
        print_json({"files": files, "is_sound": is_fine, "findings": shown})
    else:
        _show_findings(findings, files)
    raise typer.Exit(OK if is_fine else INCOMPLETE)


def _show_findings(findings: Sequence[Finding], files: int) -> None:
    if findings:
        rows = [
            (
                f"✗ {each.kind}" if each.needs_attention else each.kind,
                each.partition,
                each.first,
                each.last,
                each.seen,
                each.remedy,
                each.file,
            )
            for each in findings
        ]
        columns = "what", "partition", "first", "last", "seen", "to do", "file"
        print_table(columns, rows, spare=("file",))
    attention = sum(each.needs_attention for each in findings)
    if attention:
        say(f"{many(attention, 'thing')} of {many(files, 'file')} to attend to", "yellow")
    else:
        say(f"✓ {many(files, 'file')}: every sequence is there, every byte as it was written")


# --- compact


def compact(
    context: typer.Context,
    day: Days = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would be written.")
    ] = False,
    no_grace: Annotated[
        bool,
        typer.Option(
            "--no-grace", help="Delete at once what is replaced: no query runs on this archive."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Merge the files of days that are over into sorted ones, and apply the rules of the settings.

    `eventlog up` does this by itself. What is replaced is deleted ten minutes later, by the next run.
    It may be interrupted at any point, and run beside everything else.
    """
    days = {each.date() for each in day} if day else None
    settings = settings_of(context)
    if dry_run:
        works = run(_due(settings, days))
        if as_json:
            print_json({"due": [_work_document(work) for work in works]})
        else:
            _show_due(works)
        return
    report = run(_compact(settings, days, -1 if no_grace else GRACE_S, quiet=as_json))
    if as_json:
        print_json(_report_document(report))
    else:
        _show_report(report)
    raise typer.Exit(INCOMPLETE if report.failures else OK)


async def _due(settings: Settings, days: set[date] | None) -> list[Work]:
    async with EventLog.open(settings=settings) as log:
        return await new_compactor(log).due(days)


async def _compact(
    settings: Settings, days: set[date] | None, grace_s: float, *, quiet: bool
) -> Report:
    async with EventLog.open(settings=settings) as log:
        with BuildBar("compacting", quiet=quiet) as bar:

            def tell(progress: Progress) -> None:
                what = progress.written.name if progress.written else "compacting"
                bar.tell(what, progress.done_count, progress.partition_count)

            return await new_compactor(log, grace_s).run_once(days, tell=tell)


def _work_document(work: Work) -> dict[str, Any]:
    return {
        "file": work.target.name,
        "day": str(work.target.day),
        "partition": work.target.partition,
        "rows": work.target.row_count,
        "sources": [source.name for source in work.sources],
        "removing": list(work.removing),
    }


def _show_due(works: Sequence[Work]) -> None:
    rows = [
        (
            work.target.partition,
            str(work.target.day),
            len(work.sources),
            work.target.row_count,
            ", ".join(work.removing) or None,
            work.target.name,
        )
        for work in works
    ]
    if not rows:
        say("nothing is due: every day that is over is compacted")
        return
    print_table(("partition", "day", "files", "rows", "without", "becomes"), rows)


def _report_document(report: Report) -> dict[str, Any]:
    return {
        "written": [segment.name for segment in report.written],
        "removed_by_rule": dict(report.removed_by_rule),
        "deleted": [segment.name for segment in report.deleted],
        "waiting": [segment.name for segment in report.waiting],
        "failures": list(report.failures),
    }


def _show_report(report: Report) -> None:
    rows = sum(segment.row_count for segment in report.written)
    console.print(
        f"{many(len(report.written), 'file')} written of {many(rows, 'entry', 'entries')}, "
        f"{many(len(report.deleted), 'file')} deleted that they replace",
        soft_wrap=True,
    )
    for name, count in report.removed_by_rule.items():
        console.print(f"{many(count, 'row')} of {name} removed by rule", soft_wrap=True)
    if report.waiting:
        say(f"{many(len(report.waiting), 'file')} to be deleted by a run in ten minutes", "dim")
    for failure in report.failures:
        say(failure, "yellow")


# --- restore


def restore_files(
    context: typer.Context,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="A copy of the archive, as a backup has it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring back files that are missing or damaged: from a copy, else from what the log still has.

    What is sound stays as it is. Exit code 3 says that something could not be brought back.
    """
    settings = settings_of(context)
    if source is not None and not source.is_dir():
        raise ConfigurationError(f"{source} is no directory.", remedy="Name a copy of the archive.")
    done, left, was_erased = run(_restore(settings, source))
    if as_json:
        shown = [{"file": each.segment.name, "from": each.source} for each in done]
        print_json({"restored": shown, "left": [each._asdict() for each in left]})
    else:
        _show_restored(done, left)
    if was_erased and any(each.source == "backup" for each in done):
        say("a copy may hold what was erased since it was made: `eventlog erase --again`", "yellow")
    raise typer.Exit(INCOMPLETE if left else OK)


async def _restore(
    settings: Settings, source: Path | None
) -> tuple[list[Restored], list[Left], bool]:
    async with EventLog.open(settings=settings) as log:
        backup = None if source is None else DirectoryStorage(source)
        done, left = await restore(log, _storage(settings), backup)
        return done, left, bool(ledger_of(log).read())


def _show_restored(done: Sequence[Restored], left: Sequence[Left]) -> None:
    words = {
        "backup": "taken from the copy",
        "log": "archived again from the log",
        "deleted": "damaged and deleted: other files have its rows",
    }
    if done:
        print_table(("file", "what"), [(each.segment.name, words[each.source]) for each in done])
    if not done and not left:
        say("nothing is missing or damaged")
    for each in left:
        say(
            f"partition {each.partition}: sequences {each.first:,} to {each.last:,} are neither in "
            "the copy nor in the log",
            "yellow",
        )


def _storage(settings: Settings) -> Storage:
    return storage_of(settings)
