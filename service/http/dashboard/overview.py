"""The first page: how things are, the numbers that prove it, and what to do next."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from starlette.responses import Response

from analytics.archiver import PartitionStatus as ArchivedPartition
from analytics.retention import Plan
from consumers.group_status import GroupStatus
from consumers.groups import groups
from consumers.registration import RESERVED
from eventlog.connection import in_our_words
from eventlog.errors import ArchiveUnavailable
from eventlog.ids import EntryId
from eventlog.log import EventLog
from projections.projecting.status import PartitionStatus as ProjectedPartition
from projections.views.activity import MINUTE_US, Activity, Minute
from projections.views.dead_letters import DeadLetter, DeadLetters
from service import judging
from service.http.dashboard import words
from service.http.dashboard.charts import MOST_SERIES, Chart, line_chart
from service.http.dashboard.glance import Kept
from service.http.dashboard.page import Ask
from service.pinning import words_of
from service.wiring import Service, new_archiver, new_retention

RATE_WINDOW_MS = 10_000
HOUR_MINUTES = 60
DAY_US = 86_400_000_000
LATEST_FAILURES = 5
FEW = 100
"""Letters that are counted one by one; of more it says that there are more."""
STALE_AGE_MS = 60_000
LITTLE_PER_S = 2.0
"""Below it a chart counts by the minute."""


class Seen(NamedTuple):
    """What was read of the log and its readers."""

    now_us: int
    rate_per_s: float
    """Entries appended, over the last ten seconds."""
    entry_count: int
    minutes: Sequence[Minute]
    """Of one hour, that ends with the one in which something occurred last."""
    letter_count: int
    fresh_letter_count: int
    """Parked in the last day; no more than `FEW` are counted."""
    failures: Sequence[DeadLetter]
    used_bytes: int
    limit_bytes: int
    projected: Sequence[ProjectedPartition]
    archived: Sequence[ArchivedPartition]
    archive_error: str | None
    groups: Sequence[GroupStatus]
    plan: Plan | None
    server: dict[str, Any]
    """What the server says of itself."""


class GroupRow(NamedTuple):
    """A reader of the log."""

    name: str
    what: str
    lag_count: int
    oldest_ms: int
    worker_count: int | None
    state: str
    """fine, behind, or idle: nobody works for it."""
    partitions: Sequence[tuple[int, int, int, str | None]]
    """Number, lag, age of the oldest in ms, owner."""


class HourChart(NamedTuple):
    """Events per second by type."""

    chart: Chart
    title: str
    note: str


class Overview(NamedTuple):
    """The page."""

    tone: str
    """fine, look or act."""
    sentence: str
    findings: Sequence[judging.Finding]
    """What there is to be done something about."""
    seen: Seen
    rows: Sequence[GroupRow]
    oldest_ms: int
    archive_age_ms: int
    archive_lag_count: int
    hour: HourChart | None
    held: Sequence[tuple[str, str, int, int]]
    """Who keeps entries from being trimmed, the remedy, entries, bytes."""


async def gather(service: Service) -> Seen:
    """Return what the page shows. What it costs does not grow with the log."""
    try:
        return await _gather(service)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


async def _gather(service: Service) -> Seen:
    log = service.log
    now_us = log.clock.now_us()
    letters = DeadLetters(log)
    with in_our_words(log.settings):
        server: dict[str, Any] = await log.client.info()
    async with asyncio.TaskGroup() as tasks:
        rate = tasks.create_task(rate_of(log, now_us))
        minutes = tasks.create_task(last_hour(log, now_us))
        statuses = tasks.create_task(letters.counts_by_status())
        fresh = tasks.create_task(
            letters.list(status="parked", parked_after_us=now_us - DAY_US, limit=FEW)
        )
        latest = tasks.create_task(letters.list(status="parked", limit=LATEST_FAILURES))
        projected = tasks.create_task(service.projector.status())
        archived = tasks.create_task(_archived(service))
        consuming = tasks.create_task(groups(log))
        plan = tasks.create_task(_plan(service))
    found = archived.result()
    return Seen(
        now_us=now_us,
        rate_per_s=rate.result()[0],
        entry_count=rate.result()[1],
        minutes=minutes.result(),
        letter_count=statuses.result().get("parked", 0),
        fresh_letter_count=len(fresh.result().items),
        failures=latest.result().items,
        used_bytes=int(server.get("used_memory", 0)),
        limit_bytes=int(server.get("maxmemory", 0)),
        projected=projected.result(),
        archived=found if isinstance(found, list) else [],
        archive_error=None if isinstance(found, list) else found,
        groups=consuming.result(),
        plan=plan.result(),
        server=server,
    )


async def rate_of(log: EventLog, now_us: int) -> tuple[float, int]:
    """Return entries per second over the last ten seconds, and entries ever; one read a partition."""
    since = EntryId(now_us // 1000 - RATE_WINDOW_MS, 0)
    heads = await log.heads()
    recent = [p for p, head in enumerate(heads) if head > since]
    firsts = await asyncio.gather(*(log.read_raw(p, since, 1) for p in recent))
    appended = sum(
        max(0, heads[p].n - found[0].id.n + 1)
        for p, found in zip(recent, firsts, strict=True)
        if found
    )
    return appended / (RATE_WINDOW_MS / 1000), sum(head.n for head in heads)


async def last_hour(log: EventLog, now_us: int) -> Sequence[Minute]:
    """Return the minutes of the last hour; where nothing occurred in it, of the last one that had any."""
    view = Activity(log)
    page = await view.per_minute(now_us - HOUR_MINUTES * MINUTE_US, now_us + MINUTE_US, limit=61)
    if page.items:
        return page.items
    latest = (await view.per_minute(0, now_us, limit=1)).items
    if not latest:
        return ()
    end_us = (latest[0].minute + 1) * MINUTE_US
    return (await view.per_minute(end_us - HOUR_MINUTES * MINUTE_US, end_us, limit=61)).items


async def _archived(service: Service) -> list[ArchivedPartition] | str:
    try:
        return await new_archiver(service.log).status()
    except ArchiveUnavailable as error:
        return str(error)


async def _plan(service: Service) -> Plan | None:
    try:
        return await new_retention(service.log).plan()
    except ArchiveUnavailable:
        return None


def overview_of(seen: Seen) -> Overview:
    """Return the page. Pure."""
    rows = _rows(seen)
    findings = _findings(seen)
    tone, sentence = how_it_is(findings, rows, seen)
    holders = seen.plan.holders if seen.plan is not None else ()
    return Overview(
        tone=tone,
        sentence=sentence,
        findings=findings,
        seen=seen,
        rows=rows,
        oldest_ms=max((row.oldest_ms for row in rows if row.name != "archiver"), default=0),
        archive_age_ms=max((each.oldest_age_ms for each in seen.archived), default=0),
        archive_lag_count=judging.lag_of(seen.archived),
        hour=hour_chart(seen.minutes, seen.now_us),
        held=[(*words_of(h.pin), h.entry_count, h.stream_bytes) for h in holders],
    )


def how_it_is(
    findings: Sequence[judging.Finding], rows: Sequence[GroupRow], seen: Seen
) -> tuple[str, str]:
    """Return how urgent it is, and the sentence that the page begins with."""
    if not seen.entry_count:
        return "fine", "The log is empty and ready. Append the first event, or import some."
    urgent = [each for each in findings if each.verdict == "act"]
    behind = [row for row in rows if row.state != "fine"]
    if urgent:
        first = urgent[0]
        more = (
            f" {words.count(len(findings) - 1, 'other thing')} to look at."
            if len(findings) > 1
            else ""
        )
        return "act", f"Act now on {first.check}: {first.seen}.{more}"
    what = "Everything is being read, projected and archived."
    if not behind and not findings:
        return "fine", what
    if not behind:
        looked = " and ".join(each.check for each in findings[:2])
        return "look", f"{what} Look at {looked} soon."
    named = ", ".join(row.name for row in behind[:3])
    verb = "is" if len(behind) == 1 else "are"
    nobody = [row for row in behind if row.state == "idle"]
    if len(nobody) == len(behind):
        return "look", f"Nobody works for {named}: what is appended waits there."
    one = "One reader" if len(behind) == 1 else words.count(len(behind), "reader")
    return "look", f"{one} {verb} behind: {named}. Nothing is lost."


def _findings(seen: Seen) -> list[judging.Finding]:
    found = [
        judging.judge_eviction(str(seen.server.get("maxmemory_policy", ""))),
        judging.judge_persistence(seen.server),
        judging.judge_memory(seen.used_bytes, seen.limit_bytes),
        judging.judge_projector(seen.projected),
        judging.judge_groups([each for each in seen.groups if each.name not in RESERVED]),
    ]
    if seen.archive_error is None:
        found.append(judging.judge_archive(seen.archived))
    else:
        found.append(judging.Finding("archive", "act", seen.archive_error))
    if seen.plan is not None:
        found.append(judging.judge_retention(seen.plan))
    urgent_first = {"act": 0, "look": 1}
    wanted = [each for each in found if each.verdict != "fine"]
    return sorted(wanted, key=lambda each: urgent_first[each.verdict])


def _rows(seen: Seen) -> list[GroupRow]:
    """Return the readers: read models and archive first, then the groups, those behind before others."""
    own = []
    if seen.projected:
        owners = {each.owner for each in seen.projected if each.owner}
        own.append(
            _row("projector", "read models", [
                (p.partition, p.lag_count, p.oldest_age_ms, p.owner) for p in seen.projected
            ], len(owners))
        )  # fmt: skip
    if seen.archived:
        own.append(
            _row("archiver", "Parquet", [
                (a.partition, a.lag_count, a.oldest_age_ms, None) for a in seen.archived
            ], None, judging.STALE_ARCHIVE_AGE_MS)
        )  # fmt: skip
    others = [
        _row(each.name, "group", [
            (p.partition, p.lag_count, p.oldest_age_ms, p.owner) for p in each.partitions
        ], len(each.members))
        for each in seen.groups
        if each.name not in RESERVED
    ]  # fmt: skip
    return own + sorted(others, key=lambda row: (row.state == "fine", row.name))


def _row(
    name: str,
    what: str,
    partitions: Sequence[tuple[int, int, int, str | None]],
    worker_count: int | None,
    stale_ms: int = STALE_AGE_MS,
) -> GroupRow:
    lag = sum(lag for _, lag, _, _ in partitions)
    oldest_ms = max((ms for _, _, ms, _ in partitions), default=0)
    state = "fine"
    if lag and worker_count == 0:
        state = "idle"
    elif lag and oldest_ms > stale_ms:
        state = "behind"
    return GroupRow(name, what, lag, oldest_ms, worker_count, state, partitions)


def hour_chart(minutes: Sequence[Minute], now_us: int) -> HourChart | None:
    """Return events per second by type over the hour that ends with the last minute; None without any."""
    if not minutes:
        return None
    newest = max(each.minute for each in minutes)
    now_minute = now_us // MINUTE_US
    is_current = now_minute - newest <= HOUR_MINUTES
    # The minute that is under way is not over: it would look like a fall.
    last = now_minute - 1 if is_current else newest
    if newest > last and len(minutes) == 1:
        last = newest
    first = last - HOUR_MINUTES + 1
    counted: dict[int, Counter[str]] = {}
    totals: Counter[str] = Counter()
    for each in minutes:
        if first <= each.minute <= last:
            by_type = counted.setdefault(each.minute, Counter())
            for label, count in each.counts.items():
                by_type[label.partition(":")[0]] += count
            totals.update(by_type)
    if not totals:
        return None
    ranked = [name for name, _ in totals.most_common()]
    shown, rest = ranked[: MOST_SERIES - 1], ranked[MOST_SERIES - 1 :]
    every = range(first, last + 1)
    nothing: Counter[str] = Counter()
    series: dict[str, Sequence[float | None]] = {
        name: [counted.get(minute, nothing)[name] / 60 for minute in every] for name in shown
    }
    if rest:
        series[words.count(len(rest), "other type")] = [
            sum(counted.get(minute, nothing)[name] for name in rest) / 60 for minute in every
        ]
    most = max(value or 0.0 for each in series.values() for value in each)
    unit, factor = ("/s", 1) if most >= LITTLE_PER_S else ("/min", 60)
    series = {name: [(value or 0.0) * factor for value in each] for name, each in series.items()}
    per = "second" if unit == "/s" else "minute"
    names = [words.clock(minute * MINUTE_US)[:5] for minute in every]
    until = "last hour" if is_current else f"hour until {words.day(last * MINUTE_US)} {names[-1]}"
    told = ", ".join(f"{name} {count:,}" for name, count in totals.most_common(3))
    label = f"Events per {per} by type, {until}. In all: {told}."
    return HourChart(
        line_chart(label, list(every), names, series, unit),
        f"Events per {per}, {until}",
        ""
        if is_current
        else "Nothing occurred in the last hour; this is the latest that has events.",
    )


class OverviewPage:
    """The page, whose numbers all who look within a moment share."""

    def __init__(self) -> None:
        self._kept = Kept[Overview](1.0)

    async def __call__(self, ask: Ask) -> Response:
        """Return the page; the script asks for it again and again, and takes what has changed."""

        async def read() -> Overview:
            return overview_of(await gather(ask.service))

        return await ask.page("overview.html", page=await self._kept.get(read))
