"""Restoring a log to where programs can go on: entries and state, what was erased, groups, read models.

Until all of it is done nobody else can open the log; cut short, the same call goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from analytics.backup import Restored, complete, restore
from analytics.backup.steps import Progress, Reached, Tell, go_on, tell_nobody
from analytics.opening import storage_of
from bridge.erasing import Report, erase_again, ledger_of
from consumers.registration import check_name, register
from eventlog.codec import Codec
from eventlog.group import GroupReader
from eventlog.log import EventLog
from eventlog.settings import Settings
from projections.building.rebuilding import check_history
from projections.builtin import DEFAULT_PROJECTIONS
from projections.folding.letters import GROUP
from projections.projecting.projector import Projector
from projections.projection import Projection
from projections.registry import event_types_of
from service.wiring import new_past

__all__ = ["Outcome", "restore_log"]


class Outcome(NamedTuple):
    """A log that is whole again."""

    restored: Restored
    erased: Report | None
    """What was erased again; None where the ledger has nothing."""
    groups: list[str]
    """Groups that were registered where the log ends."""


async def restore_log(
    settings: Settings,
    folder: Path | None,
    projections: Sequence[Projection] = DEFAULT_PROJECTIONS,
    *,
    groups: Sequence[str] = (),
    overwrite: bool = False,
    on_progress: Tell = tell_nobody,
    reached: Reached = go_on,
) -> Outcome:
    """Return when a backup, or with no folder the archive alone, is a log that everybody may open.

    `groups` are registered at its end, if it has none of that name. Raises as `analytics.backup.restore`
    does, and ConfigurationError for a group's name.
    """
    for group in groups:
        check_name(group)
    types = event_types_of(projections)
    codec = Codec(types, max_event_bytes=settings.max_event_bytes)
    restored = await restore(
        settings,
        storage_of(settings),
        folder,
        codec,
        overwrite=overwrite,
        on_progress=on_progress,
        reached=reached,
    )
    async with EventLog.open(settings=settings, types=types, restoring=restored.token) as log:
        past = new_past(log)
        await check_history(log, past)
        erased = None
        if ledger_of(log).read():
            on_progress(Progress("what was erased", 0, 1))
            erased = await erase_again(log, reason="restored", projections=projections)
        for group in groups:
            await register(log, group, "now")
        on_progress(Progress("read models", 0, 1))
        # Where the models will be when anybody else can open the log: not a group that was lost.
        for partition, head in enumerate(await log.heads()):
            await GroupReader(log, GROUP, partition).create(head)
        await Projector(log, projections, past=past).run_until_caught_up()
        await complete(log)
        reached("complete")
    return Outcome(restored, erased, list(groups))
