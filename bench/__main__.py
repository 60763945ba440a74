"""`python -m bench [--quick] [--events N] [--from FILE] [--json FILE] [PART ...]`.

Each row is a rate and its ratio to the limit measured in the same run, because machines differ and
are noisy. The rows need a server of their own; it is started and stopped here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
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
    latency,
    memory,
    project,
    query,
    rebuild,
    resolve,
    scaling,
    start,
    trim,
)
from bench.about import about
from bench.peers import contest
from bench.row import Row
from bench.table import table
from eventlog.errors import ImportFailed


class Part(NamedTuple):
    """A benchmark and how many events it takes, with `--quick` and without."""

    run: Callable[[int], list[Row]]
    event_count: int
    quick_event_count: int


PARTS = {
    "append": Part(append.run, 200_000, 50_000),
    "peers": Part(contest.run, 20_000, 4_000),
    "latency": Part(latency.run, 10_000, 2_000),
    "memory": Part(memory.run, 200_000, 50_000),
    "start": Part(start.run, 200_000, 50_000),
    "scaling": Part(scaling.run, 400_000, 50_000),
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


FROM_FILE: Mapping[str, Callable[[Path], list[Row]]] = {"archive": archive.run, "query": query.run}
"""Parts that can be asked of the events in a file."""


def main(arguments: list[str] | None = None) -> None:
    """Measure what was asked for and print the table; the arguments are the command line's if None."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which parts; all if none")
    parser.add_argument("--quick", action="store_true", help="fewer events")
    parser.add_argument("--events", type=int, help="how many events, for every part")
    parser.add_argument(
        "--from",
        type=Path,
        dest="source",
        metavar="FILE",
        help=f"take the events of a file that `eventlog import` reads ({', '.join(FROM_FILE)})",
    )
    parser.add_argument("--json", type=Path, help="write the rows to a file as well")
    options = parser.parse_args(arguments)
    names = options.parts or (FROM_FILE if options.source else PARTS)
    if options.source and not FROM_FILE.keys() >= set(names):
        parser.error(f"--from is for {' and '.join(FROM_FILE)}; the others make their events up.")
    if options.source and (options.events or options.quick):
        parser.error("--from takes all events of its file: leave --events and --quick out.")
    rows: list[Row] = []
    circumstances = about()
    for name in names:
        if options.source:
            print(f"measuring {name} with the events of {options.source} …", file=sys.stderr)
            try:
                rows += FROM_FILE[name](options.source)
            except ImportFailed as error:
                parser.error(str(error))
            continue
        part = PARTS[name]
        usual = part.quick_event_count if options.quick else part.event_count
        count = options.events or usual
        print(f"measuring {name} with {count:,} events …", file=sys.stderr)
        rows += part.run(count)
    print(table(rows))
    if options.json:
        found = {**circumstances, "rows": [row._asdict() for row in rows]}
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)))


if __name__ == "__main__":
    main()
