"""A million events through the whole pipeline, against the generator's own truth.

`python -m tests.acceptance.million --tools FOLDER [--events N]`, where FOLDER holds `scale.py`. Each
stage is a process of its own; its peak memory is what the operating system says of it. Then log,
SQL and read models are compared with the truth, with what the file itself says, and the read models
with a fresh fold of the log.
"""

# ruff: noqa: T201 - a report for whoever runs it

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import zip_longest
from pathlib import Path
from typing import Any

from analytics.warehouse import Warehouse
from bridge.importers.importing import import_paths
from eventlog import EventLog, Settings
from eventlog.collector import spared_collector
from projections.projecting.projector import Projector
from projections.storing.memory_models import MemoryModels
from projections.views.activity import Activity
from projections.views.dead_letters import DeadLetters
from projections.views.history import History
from projections.views.sessions import Sessions
from service.telemetry import configure_logs
from service.wiring import open_archiver, open_warehouse
from tests.acceptance.million_source import LAST, SourceFacts

MEMORY_LIMIT_MB = 400

KINDS_SQL = """
SELECT CASE
    WHEN type = 'message.received' THEN 'msg.in'
    WHEN type = 'message.sent' THEN 'msg.out'
    WHEN type = 'session.started' THEN 'session.pending'
    WHEN type = 'session.transitioned' AND reason = 'running' THEN 'session.running'
    WHEN type = 'session.transitioned' THEN 'session.' || to_status
    WHEN type = 'tool.called' THEN 'tool.call'
    WHEN type = 'tool.returned' THEN 'tool.result'
    ELSE type
END AS kind, count(*) AS events
FROM events GROUP BY kind
"""
DAYS_SQL = """
SELECT epoch(date_trunc('day', occurred_at))::BIGINT // 86400 AS day, count(*) AS events
FROM events GROUP BY day
"""
GAPS_SQL = """
SELECT count(*) AS events, count(DISTINCT (partition, sequence)) AS places,
    (SELECT sum(span)::BIGINT FROM (
        SELECT max(sequence) - min(sequence) + 1 AS span FROM events GROUP BY partition)) AS span
FROM events
"""
CHATS_SQL = """
SELECT conversation, count(*) AS events FROM events
WHERE list_contains(string_split(?, ' '), conversation) GROUP BY conversation
"""
DELIVERIES_SQL = """
SELECT count(*) AS deliveries, sum(failure_count)::BIGINT AS failures,
    (SELECT count(*) FROM events WHERE type = 'delivery.failed' AND permanent) AS permanent,
    (SELECT count(*) FROM dead_letters) AS letters
FROM deliveries WHERE failure_count > 0
"""

Differences = dict[str, tuple[Any, Any]]
"""Name of a check → what was found and what it must be."""


async def stage_import(log: EventLog, source: Path) -> dict[str, Any]:
    report = await import_paths(log, [source])
    return {
        "events": report.events_added,
        "again": (await import_paths(log, [source])).events_added,
    }


async def stage_project(log: EventLog, _: Path) -> dict[str, Any]:
    await Projector(log).run_until_caught_up()
    return {"events": sum((await Activity(log).totals(consistency="stored")).values())}


async def stage_archive(log: EventLog, _: Path) -> dict[str, Any]:
    async with open_archiver(log) as archiver:
        await archiver.archive_until(await log.heads())
        return {"events": sum(status.position.n for status in await archiver.status())}


STAGES = {"import": stage_import, "project": stage_project, "archive": stage_archive}


async def run_stage(name: str, source: Path, folder: Path) -> dict[str, Any]:
    configure_logs()  # to standard error: this process answers on standard output
    with spared_collector():
        return await measure_stage(name, source, folder)


async def measure_stage(name: str, source: Path, folder: Path) -> dict[str, Any]:
    async with EventLog.open(settings=Settings(data_dir=str(folder))) as log:
        started_s = time.perf_counter()
        result = await STAGES[name](log, source)
        elapsed_s = time.perf_counter() - started_s
    # Of the largest process: this one, or one that it started and that has ended.
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak_mb = max(resource.getrusage(who).ru_maxrss for who in whose) / 1024
    return {**result, "seconds": round(elapsed_s, 1), "peak_mb": round(peak_mb)}


async def compare(folder: Path, source: Path, truth: dict[str, Any]) -> list[str]:
    """Return what differs from the truth."""
    facts = await asyncio.to_thread(SourceFacts, source, [chat for chat, _ in truth["top_chats"]])
    async with (
        EventLog.open(settings=Settings(data_dir=str(folder))) as log,
        open_warehouse(log) as warehouse,
    ):
        checks = {
            "log": (sum(head.n for head in await log.heads()), truth["unique_events"]),
            **await compare_sql(warehouse, facts, truth),
            **await compare_models(log, facts, truth),
            **await compare_with_a_fresh_fold(log),
        }
    return [f"{name}: {got} is not {want}" for name, (got, want) in checks.items() if got != want]


async def compare_sql(
    warehouse: Warehouse, facts: SourceFacts, truth: dict[str, Any]
) -> Differences:
    unique = truth["unique_events"]
    chats = dict(truth["top_chats"])
    kinds = (await warehouse.query(KINDS_SQL)).to_pylist()
    days = (await warehouse.query(DAYS_SQL)).to_pylist()
    [whole] = (await warehouse.query(GAPS_SQL)).to_pylist()
    busiest = (await warehouse.query(CHATS_SQL, [" ".join(chats)])).to_pylist()
    [deliveries] = (await warehouse.query(DELIVERIES_SQL)).to_pylist()
    return {
        "sql rows": (whole, {"events": unique, "places": unique, "span": unique}),
        "sql by kind": ({r["kind"]: r["events"] for r in kinds}, truth["by_kind"]),
        "sql by day": ({str(r["day"]): r["events"] for r in days}, truth["by_utc_day"]),
        "sql by busiest chat": ({r["conversation"]: r["events"] for r in busiest}, chats),
        "sql deliveries": (
            deliveries,
            {
                "deliveries": len(facts.failures),
                "failures": facts.failures.total(),
                "permanent": facts.permanent,
                "letters": 0,
            },
        ),
    }


async def compare_models(log: EventLog, facts: SourceFacts, truth: dict[str, Any]) -> Differences:
    labels = await Activity(log).totals()
    history = History(log)
    last = {}
    for chat in facts.last:
        page = await history.last(chat, LAST)
        last[chat] = [(entry.event.id, entry.event.text) for entry in page.entries]  # type: ignore[attr-defined] # history has messages only
    return {
        "views by kind": (view_kinds(labels), merged(truth["by_kind"])),
        "failed deliveries": (labels.get("delivery.failed", 0), facts.failures.total()),
        "dead letters": (await DeadLetters(log).counts_by_status(), {}),
        "messages of busiest chats": (
            {chat: await history.count(chat) for chat in facts.last},
            dict(facts.messages),
        ),
        "last messages of busiest chats": (last, {c: list(m) for c, m in facts.last.items()}),
    }


async def compare_with_a_fresh_fold(log: EventLog) -> Differences:
    """A live read over empty read models is a fold of the whole log."""
    empty = MemoryModels(log)
    everything = 10_000_000
    stored = await Sessions(log).list(limit=everything, consistency="stored")
    folded = await Sessions(log, empty).list(limit=everything)
    differing = sum(a != b for a, b in zip_longest(stored.items, folded.items))
    counts = await Sessions(log).counts(consistency="stored")
    by_status = Counter(session.status for session in folded.items)
    return {
        "sessions unlike a fresh fold": (differing, 0),
        "sessions by status": (+Counter(counts), by_status),
        "activity": (
            await Activity(log).totals(consistency="stored"),
            await Activity(log, empty).totals(),
        ),
    }


def view_kinds(labels: dict[str, int]) -> dict[str, int]:
    names = {
        "message.received": "msg.in",
        "message.sent": "msg.out",
        "session.started": "session.pending",
        "tool.called": "tool.call",
        "tool.returned": "tool.result",
    }
    kinds: Counter[str] = Counter()
    for label, count in labels.items():
        event_type, _, sort = label.partition(":")
        if event_type == "session.transitioned":
            kinds[f"session.{sort}"] += count
        else:
            kinds[names.get(event_type, event_type)] += count
    return dict(kinds)


def merged(by_kind: dict[str, int]) -> dict[str, int]:
    """The activity view counts by status: the source's `running` is a change to active."""
    kinds = Counter(by_kind)
    kinds["session.active"] += kinds.pop("session.running", 0)
    return dict(kinds)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.million", description=__doc__)
    parser.add_argument("--tools", type=Path, help="folder of scale.py")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        print(json.dumps(asyncio.run(run_stage(options.stage, options.source, options.folder))))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return run_all(options.tools, options.events, Path(folder))


def run_all(tools: Path, events: int, folder: Path) -> int:
    source, truth_file = folder / "events.jsonl", folder / "truth.json"
    scale = [sys.executable, str(tools / "scale.py"), "--n", str(events)]
    subprocess.run([*scale, "--out", str(source), "--truth", str(truth_file)], check=True)
    truth = json.loads(truth_file.read_text())
    failures = []

    async def stages() -> None:
        # Held open, so that the stages share one server.
        async with EventLog.open(settings=Settings(data_dir=str(folder))):
            for name in STAGES:
                result = await run_process(name, source, folder)
                print(name, result, flush=True)
                if result["events"] != truth["unique_events"] or result.get("again"):
                    failures.append(f"{name}: {result} is not {truth['unique_events']} events")
                if result["peak_mb"] > MEMORY_LIMIT_MB:
                    failures.append(f"{name}: {result['peak_mb']} MB is over {MEMORY_LIMIT_MB}")
            failures.extend(await compare(folder, source, truth))

    asyncio.run(stages())
    print("\n".join(failures) or f"all counts of {events:,} events are as the truth says")
    return 1 if failures else 0


async def run_process(name: str, source: Path, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.acceptance.million", "--stage", name]
    process = await asyncio.create_subprocess_exec(
        *command, "--source", str(source), "--folder", str(folder), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise SystemExit(f"stage {name} failed")
    result: dict[str, Any] = json.loads(output)
    return result


if __name__ == "__main__":
    sys.exit(main())
