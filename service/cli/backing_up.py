"""`eventlog backup` and `eventlog restore`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from analytics.backup import Manifest, back_up, read_manifest, verify_backup
from analytics.backup.steps import Progress
from analytics.opening import storage_of
from eventlog.errors import ConfigurationError
from eventlog.settings import Settings
from projections.projection import Projection
from projections.registry import load_projections
from service.cli.asking import confirm
from service.cli.options import AsJson, NamedProjections, Yes, examples, run, settings_of
from service.cli.output import (
    INCOMPLETE,
    OK,
    console,
    errors,
    many,
    moment,
    print_json,
    print_table,
    say,
)
from service.restoring import Outcome, restore_log
from service.wiring import open_log

Folder = Annotated[Path, typer.Argument(help="The backup's directory.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog=examples(
            "eventlog backup /mnt/backup/bot",
            "eventlog backup --verify /mnt/backup/bot",
            also="Exit code 3 where --verify finds damage.",
        )
    )(backup)
    app.command(
        "restore",
        epilog=examples(
            "eventlog restore /mnt/backup/bot",
            "eventlog restore --from-archive --group delivery",
            also="Exit code 3 where something of what is restored is known to be missing.",
        ),
    )(restore_command)


def backup(
    context: typer.Context,
    folder: Folder,
    verify: Annotated[
        bool, typer.Option("--verify", help="Take none: read the one there is, byte for byte.")
    ] = False,
    named: NamedProjections = None,
    as_json: AsJson = False,
) -> None:
    """Take a backup of log, archive and groups while everything runs; a later one adds what is new.

    Interrupted or killed, the backup before is still there, whole. Restore it with `eventlog restore`.
    """
    if verify:
        _verify(folder, as_json=as_json)
        return
    projections = load_projections(named or ())
    manifest = run(_back_up(settings_of(context), projections, folder, quiet=as_json))
    if as_json:
        print_json(_document(manifest))
    else:
        console.print(f"{_told(manifest)} in {folder}", soft_wrap=True)


async def _back_up(
    settings: Settings, projections: Sequence[Projection], folder: Path, *, quiet: bool
) -> Manifest:
    with _progress(quiet=quiet) as tell:
        async with open_log(settings, projections) as log:
            return await back_up(log, storage_of(settings), folder, on_progress=tell)


def _verify(folder: Path, *, as_json: bool) -> None:
    manifest = read_manifest(folder)
    with _progress(quiet=as_json) as tell:
        damage = verify_backup(folder, manifest, on_progress=tell)
    if as_json:
        print_json({**_document(manifest), "damage": [each._asdict() for each in damage]})
    else:
        for each in damage:
            console.print(f"✗ {each.path} {each.what}", soft_wrap=True, markup=False)
        sign = "✗ damaged:" if damage else "✓ whole:"
        console.print(f"{sign} {_told(manifest)}", soft_wrap=True)
    if damage:
        say("take another backup into an empty directory, and keep this one until then", "yellow")
    raise typer.Exit(INCOMPLETE if damage else OK)


def _told(manifest: Manifest) -> str:
    at = moment(manifest.begun_at)
    return (
        f"{many(manifest.entry_count, 'entry', 'entries')} in "
        f"{many(len(manifest.partitions), 'partition')}, "
        f"{many(len(manifest.files), 'file')}, {manifest.size_bytes / 1e6:,.1f} MB, "
        f"as of {at:%Y-%m-%d %H:%M:%S} UTC"
    )


def _document(manifest: Manifest) -> dict[str, Any]:
    return {
        "id": manifest.id,
        "log": manifest.log,
        "epoch": manifest.epoch,
        "begun_at": manifest.begun_at,
        "completed_at": manifest.completed_at,
        "entries": manifest.entry_count,
        "files": len(manifest.files),
        "bytes": manifest.size_bytes,
        "heads": [str(each.head) for each in manifest.partitions],
        "settings": manifest.settings,
    }


def restore_command(
    context: typer.Context,
    folder: Annotated[
        Path | None, typer.Argument(help="The backup's directory.", show_default=False)
    ] = None,
    from_archive: Annotated[
        bool, typer.Option("--from-archive", help="From the archive alone, without a backup.")
    ] = False,
    group: Annotated[
        list[str] | None,
        typer.Option(
            help="A consumer group to register where the log ends, if it has none of that name; may be"
            " repeated."
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Destroy what the server has and the backup has not."),
    ] = False,
    named: NamedProjections = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Restore a log onto an empty server, or one that has an older state of the same log.

    What was erased after the backup is erased again, and the read models are made anew. Nobody else
    can open the log before it is whole. Interrupted or killed, the same command goes on from there.
    """
    if (folder is None) != from_archive:
        raise ConfigurationError("restore takes either a directory or --from-archive.")
    if overwrite:
        settings = settings_of(context)
        confirm(
            f"Destroy all that the server has of log {settings.key_prefix!r} and this has not?",
            yes=yes,
        )
    projections = load_projections(named or ())
    outcome = run(
        _restore(
            settings_of(context),
            folder,
            projections,
            groups=group or [],
            overwrite=overwrite,
            quiet=as_json,
        )
    )
    if as_json:
        print_json(_outcome(outcome))
    else:
        _show(outcome)
    raise typer.Exit(INCOMPLETE if _warnings(outcome) else OK)


async def _restore(
    settings: Settings,
    folder: Path | None,
    projections: Sequence[Projection],
    *,
    groups: Sequence[str],
    overwrite: bool,
    quiet: bool,
) -> Outcome:
    with _progress(quiet=quiet) as tell:
        return await restore_log(
            settings, folder, projections, groups=groups, overwrite=overwrite, on_progress=tell
        )


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "kind": outcome.restored.kind,
        "partitions": [
            {**each._asdict(), "head": str(each.head), "archived": str(each.archived)}
            for each in outcome.restored.partitions
        ],
        "erased_again": outcome.erased.event_count if outcome.erased else 0,
        "groups": outcome.groups,
        "warnings": _warnings(outcome),
    }


def _show(outcome: Outcome) -> None:
    partitions = outcome.restored.partitions
    print_table(
        ("partition", "last entry", "archived up to", "only in the archive"),
        [(p.partition, str(p.head), p.archived.n, p.beyond_count) for p in partitions],
        spare=("only in the archive",),
    )
    total = sum(each.head.n for each in partitions)
    console.print(f"{many(total, 'entry', 'entries')}: the log is whole", soft_wrap=True)
    if outcome.erased is not None and outcome.erased.event_count:
        say(f"{many(outcome.erased.event_count, 'event')} erased again")
    for warning in _warnings(outcome):
        say(warning, "yellow")


def _warnings(outcome: Outcome) -> list[str]:
    restored = outcome.restored
    found = []
    lost = sum(each.lost_count or 0 for each in restored.partitions)
    if lost:
        found.append(
            f"{many(lost, 'entry', 'entries')} that the server had acknowledged are nowhere: they came"
            " after the last entries shown above"
        )
    if restored.source == "archive":
        found.append(
            "what was appended after the entries shown above, and not archived, is lost; so are consumer"
            " groups (start their workers with `--from now`, or name them with --group) and the"
            " positions of bulk producers and imports, which would append again what they did"
        )
    if restored.unknown_types:
        found.append(
            f"events of types unknown here may have versions, which are lost: "
            f"{', '.join(restored.unknown_types)}; name their projections with --projection"
        )
    if outcome.erased is not None and not outcome.erased.is_complete:
        found.append("not all that was erased is erased again: `eventlog erase --again`")
    return found


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Give a call that shows on a terminal how far it is."""
    with errors.status("looking …") as line:
        if quiet or not errors.is_terminal:
            line.stop()

        def tell(progress: Progress) -> None:
            of = f": {progress.done_count + 1:,} of {progress.total_count:,}"
            line.update(f"{progress.step}{of if progress.total_count > 1 else ''} …")

        yield tell
