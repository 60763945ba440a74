"""`eventlog import --verify`: what was imported beside its source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bridge.importers.detect import MEANT, PARSERS, sources
from bridge.importers.migration.checking import Checked, check_source
from bridge.importers.migration.mapping import Mapping
from eventlog.log import EventLog
from service.cli.output import console, many, print_table, say
from service.cli.progress import ProgressBars
from service.wiring import open_warehouse

CHECKED_FORMATS = frozenset({"sqlite", "bridge"})
"""Formats whose events carry the place of their record."""
DIFFERENCES_SHOWN = 20


class Sampling(NamedTuple):
    """How many conversations of a table are compared record by record, and which."""

    conversation_count: int
    seed: int


class Outcome(NamedTuple):
    """What came of verifying: by table, and the files that cannot be."""

    checked: list[Checked]
    unchecked: list[str]
    left_out: list[tuple[str, str]]
    """Tables that are not read, with the reason."""

    @property
    def is_whole(self) -> bool:
        """Whether everything was compared, nothing refused, and nothing differs."""
        is_all = bool(self.checked) and all(reason in MEANT for _, reason in self.left_out)
        return is_all and all(each.agrees and not each.refused_count for each in self.checked)


async def check(
    log: EventLog, paths: Sequence[Path], mapping: Mapping, sampling: Sampling, bars: ProgressBars
) -> Outcome:
    """Return what came of comparing the sources with the log. Raises ImportFailed, HistoryGap."""
    outcome = Outcome([], [], [])
    async with open_warehouse(log) as warehouse:
        with bars.waiting("verifying") as tell:
            for source in sources(paths, mapping).sources:
                if source.format_name not in CHECKED_FORMATS:
                    outcome.unchecked.append(source.label)
                    continue
                tell(source.label)
                parse = PARSERS[source.format_name]
                outcome.checked.extend(
                    await check_source(
                        log,
                        warehouse,
                        source,
                        parse,
                        sample=sampling.conversation_count,
                        seed=sampling.seed,
                    )
                )
                outcome.left_out.extend((f"{source.label}#{n}", why) for n, why in source.left_out)
    return outcome


def show_check(outcome: Outcome, *, with_tables: bool) -> None:
    """Print the comparison and what differs; `with_tables` also those that are not read."""
    rows = [
        (
            each.label,
            each.record_count,
            each.refused_count,
            each.source_count,
            each.log_count,
            each.conversation_count,
            each.compared_count,
            _verdict(each),
        )
        for each in outcome.checked
    ]
    columns = (
        "source",
        "records",
        "refused",
        "events due",
        "in the log",
        "conversations",
        "compared",
        "verdict",
    )
    if rows:
        print_table(columns, rows, spare=("conversations", "refused"))
    for each in outcome.checked:
        for difference in each.differences[:DIFFERENCES_SHOWN]:
            console.print(f"{each.label}: {difference}", markup=False, emoji=False, soft_wrap=True)
        hidden = each.difference_count - len(each.differences[:DIFFERENCES_SHOWN])
        if hidden:
            say(f"{each.label}: and {many(hidden, 'difference')} more", "yellow")
    if with_tables:
        for label, reason in outcome.left_out:
            say(f"{label}: {reason}, not verified", "yellow")
    for label in outcome.unchecked:
        say(f"{label}: not verified; only databases and JSON lines of a bridge are", "yellow")


def _verdict(checked: Checked) -> str:
    if checked.agrees:
        return "✓ agrees"
    return f"✗ {many(max(checked.difference_count, 1), 'difference')}"
