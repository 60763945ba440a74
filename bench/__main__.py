"""`python -m bench [--quick] [--events N] [--json FILE] [append|project|archive ...]`.

Each row is a rate and its ratio to the limit measured in the same run, because machines differ and
are noisy. The rows need a server of their own; it is started and stopped here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench import append, archive, project
from bench.row import Row

PARTS: dict[str, Callable[[int], list[Row]]] = {
    "append": append.run,
    "project": project.run,
    "archive": archive.run,
}
EVENTS = {"append": 200_000, "project": 200_000, "archive": 1_000_000}
QUICK_PART = 4
"""With `--quick`, a quarter of the events."""


def main() -> None:
    """Measure what was asked for and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which parts; all if none")
    parser.add_argument("--quick", action="store_true", help="a quarter of the events")
    parser.add_argument("--events", type=int, help="how many events, for every part")
    parser.add_argument("--json", type=Path, help="write the rows to a file as well")
    options = parser.parse_args()
    rows: list[Row] = []
    for name in options.parts or PARTS:
        count = options.events or EVENTS[name] // (QUICK_PART if options.quick else 1)
        print(f"measuring {name} with {count:,} events …", file=sys.stderr)
        rows += PARTS[name](count)
    print(f"{'what':<38} {'per second':>11}   {'limit':<34} {'per second':>11} {'ratio':>6}  aim")
    for row in rows:
        aim = f"{row.aim:.2f}" if row.aim is not None else ""
        print(
            f"{row.name:<38} {row.rate_per_s:>11,.0f}   {row.limit_name:<34} "
            f"{row.limit_rate_per_s:>11,.0f} {row.ratio:>6.2f}  {aim}"
        )
    if options.json:
        options.json.write_bytes(msgspec.json.encode([row._asdict() for row in rows]))


main()
