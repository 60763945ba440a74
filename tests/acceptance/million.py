"""A million events through the whole pipeline, against the generator's own truth.

`python -m tests.acceptance.million --tools FOLDER [--events N]`, where FOLDER holds `scale.py`. Each
stage is a process of its own; its peak memory is what the operating system says of it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bridge.importers.importing import import_paths
from eventlog import EventLog, Settings
from projections.projector import Projector
from projections.views.activity import Activity
from projections.views.sessions import Sessions
from service.wiring import new_archiver, open_warehouse

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
    archiver = new_archiver(log)
    await archiver.archive_until(await log.heads())
    return {"events": sum(status.position.n for status in await archiver.status())}


STAGES = {"import": stage_import, "project": stage_project, "archive": stage_archive}


async def run_stage(name: str, source: Path, folder: Path) -> dict[str, Any]:
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    async with EventLog.open(settings=Settings(data_dir=str(folder))) as log:
        started_s = time.perf_counter()
        result = await STAGES[name](log, source)
        elapsed_s = time.perf_counter() - started_s
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**result, "seconds": round(elapsed_s, 1), "peak_mb": round(peak_mb)}


async def compare(folder: Path, truth: dict[str, Any]) -> list[str]:
    """Return what differs from the truth."""
    async with (
        EventLog.open(settings=Settings(data_dir=str(folder))) as log,
        open_warehouse(log) as warehouse,
    ):
        sql_kinds = {r["kind"]: r["events"] for r in (await warehouse.query(KINDS_SQL)).to_pylist()}
        days = {str(r["day"]): r["events"] for r in (await warehouse.query(DAYS_SQL)).to_pylist()}
        [whole] = (await warehouse.query(GAPS_SQL)).to_pylist()
        in_log = sum(head.n for head in await log.heads())
        labels = await Activity(log).totals()
        statuses = await Sessions(log).counts()
    unique = truth["unique_events"]
    checks = {
        "log": (in_log, unique),
        "sql rows": (whole, {"events": unique, "places": unique, "span": unique}),
        "sql by kind": (sql_kinds, truth["by_kind"]),
        "sql by day": (days, truth["by_utc_day"]),
        "views by kind": (view_kinds(labels), merged(truth["by_kind"])),
        "sessions": (sum(statuses.values()) >= truth["by_kind"].get("session.pending", 0), True),
    }
    return [f"{name}: {got} is not {want}" for name, (got, want) in checks.items() if got != want]


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
            failures.extend(await compare(folder, truth))

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
    return json.loads(output)


if __name__ == "__main__":
    sys.exit(main())
