"""`python -m bench [--quick] [--events N] [--json FILE] [append|project|handle|blocked|resolve|rebuild|archive|query|bucket|trim|http|dashboard|flat ...]`.

Each row is a rate and its ratio to the limit measured in the same run, because machines differ and
are noisy. The rows need a server of their own; it is started and stopped here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench import (
    append,
    archive,
    blocked,
    bucket,
    dashboard,
    flat,
    handle,
    http,
    project,
    query,
    rebuild,
    resolve,
    trim,
)
from bench.row import Row


class Part(NamedTuple):
    """A benchmark and how many events it takes, with `--quick` and without."""

    run: Callable[[int], list[Row]]
    event_count: int
    quick_event_count: int


PARTS = {
    "append": Part(append.run, 200_000, 50_000),
    "project": Part(project.run, 200_000, 50_000),
    "handle": Part(handle.run, 200_000, 50_000),
    "blocked": Part(blocked.run, 15_000, 6_000),
    "resolve": Part(resolve.run, 20_000, 4_000),
    "rebuild": Part(rebuild.run, 1_000_000, 200_000),
    "archive": Part(archive.run, 1_000_000, 250_000),
    "query": Part(query.run, 1_000_000, 200_000),
    "bucket": Part(bucket.run, 500_000, 100_000),
    "trim": Part(trim.run, 1_000_000, 200_000),
    "http": Part(http.run, 8_000, 2_000),
    "dashboard": Part(dashboard.run, 1_000_000, 50_000),
    "flat": Part(flat.run, 2_000_000, 200_000),
}


def main() -> None:
    """Measure what was asked for and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which parts; all if none")
    parser.add_argument("--quick", action="store_true", help="fewer events")
    parser.add_argument("--events", type=int, help="how many events, for every part")
    parser.add_argument("--json", type=Path, help="write the rows to a file as well")
    options = parser.parse_args()
    rows: list[Row] = []
    for name in options.parts or PARTS:
        part = PARTS[name]
        usual = part.quick_event_count if options.quick else part.event_count
        count = options.events or usual
        print(f"measuring {name} with {count:,} events …", file=sys.stderr)
        rows += part.run(count)
    width = max(len(row.name) for row in rows)
    print(
        f"{'what':<{width}} {'per second':>11}   {'limit':<34} {'per second':>11} {'ratio':>6}  aim"
    )
    for row in rows:
        print(
            f"{row.name:<{width}} {row.rate_per_s:>11,.0f}   {row.limit_name:<34} "
            f"{row.limit_rate_per_s:>11,.0f} {row.ratio:>6.2f}  {_aim(row)}"
        )
    if options.json:
        options.json.write_bytes(msgspec.json.encode([row._asdict() for row in rows]))


def _aim(row: Row) -> str:
    if row.aim is None:
        return ""
    return f"{'≤' if row.is_cost else '≥'} {row.aim:.2f}"


main()
