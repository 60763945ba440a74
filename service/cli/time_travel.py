"""`eventlog projections at`: a read model as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer

from eventlog.cursor import Cursor
from eventlog.settings import Settings
from projections.folding.replay import Moment, replayed, state_at
from projections.projection import DocumentProjection, Projection
from projections.registry import find_projection, load_projections
from projections.storing.memory_models import MemoryModels
from service.cli.options import NamedProjections, ProjectionName, examples, run, settings_of
from service.cli.output import print_json, say
from service.wiring import new_past, open_log


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command(
        "at",
        epilog=examples(
            "eventlog projections at sessions --time 2026-11-20T09:00",
            "eventlog projections at history --position 3/1200 --key telegram:42",
            also="What was long ago is folded from the archive.",
        ),
    )(show_at)


def show_at(
    context: typer.Context,
    name: ProjectionName,
    time: Annotated[
        str | None,
        typer.Option(help="As of everything appended by then: ISO 8601, UTC unless it says."),
    ] = None,
    position: Annotated[
        str | None,
        typer.Option(
            help="As of a PARTITION/SEQUENCE, of that partition alone; or of a tail's cursor."
        ),
    ] = None,
    key: Annotated[str | None, typer.Option(help="Only this document or feed.")] = None,
    named: NamedProjections = None,
) -> None:
    """Print a read model as it was, a JSON document a line, folded anew from the log."""
    if (time is None) == (position is None):
        raise typer.BadParameter("name either --time or --position.")
    projections = load_projections(named or ())
    chosen = find_projection(projections, name)
    moment = moment_at(time) if time is not None else moment_of(position or "")
    run(_show_at(settings_of(context), projections, chosen, moment, key))


async def _show_at(
    settings: Settings,
    projections: Sequence[Projection],
    chosen: Projection,
    moment: Moment,
    key: str | None,
) -> None:
    async with open_log(settings, projections) as log:
        count = 0
        for partition in range(log.partition_count):
            models = await state_at(log, chosen, moment, past=new_past(log), partitions=[partition])
            for name, content in contents(models, chosen, partition):
                if key in (None, name):
                    print_json({"partition": partition, "key": name, **content})
                    count += 1
        if not count:
            say("nothing was there then", "yellow")


def moment_at(text: str) -> Moment:
    """Return the moment of a time as people write it."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time; write it as 2026-11-20T09:00.") from None
    return Moment(time_us=round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e6))


def moment_of(text: str) -> Moment:
    """Return the moment of a position: PARTITION/SEQUENCE, PARTITION/ENTRY-ID or a cursor."""
    partition, _, place = text.partition("/")
    if partition.isdigit() and (number := place.rpartition("-")[2]).isdigit():
        return Moment(sequences={int(partition): int(number)})
    try:
        return Moment(sequences={p: each.n for p, each in Cursor.parse(text).items()})
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no position; write PARTITION/SEQUENCE, or a cursor that `tail` printed."
        ) from None


def contents(
    models: MemoryModels, projection: Projection, partition: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what a model in memory holds: documents by key, or feeds with their events."""
    build = replayed(projection)
    if isinstance(projection, DocumentProjection):
        for name, document in sorted(models.stored_documents(partition, build.model).items()):
            yield name, {"state": msgspec.Raw(document)}
    else:
        for name, items in sorted(models.stored_feeds(partition, build.model).items()):
            events = [item.partition(b" ") for item in items]
            told = [{"entry": i.decode(), "event": msgspec.Raw(e)} for i, _, e in events]
            yield name, {"entries": told}
