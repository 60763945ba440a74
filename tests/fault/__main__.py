"""The fault run: `python -m tests.fault --seed N --minutes M [--fault NAME…]`.

Everything that the product has is at work in processes of its own, against a real server and over a
proxy, while faults strike as the seed says; docs/reliability.md tells which, and how to read a red run.
"""

# ruff: noqa: T201 - a report for whoever runs it

from __future__ import annotations

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.fault.whole.broken import GUARDS
from tests.fault.whole.plan import FAULTS, Plan, schedule
from tests.fault.whole.run import run


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fault", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--fault", action="append", choices=FAULTS, help="only these; else all")
    parser.add_argument("--broken", action="append", choices=GUARDS, help="take a guard out")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a clean run too")
    options = parser.parse_args(arguments)
    faults = tuple(options.fault or FAULTS)
    plan = Plan(options.seed, 60 * options.minutes, faults, broken=tuple(options.broken or ()))
    print(f"planned: {' '.join(f'{each.at_s:.1f}:{each.kind}' for each in schedule(plan))}")
    folder = Path(tempfile.mkdtemp(prefix=f"fault-{plan.seed}-"))
    logging.basicConfig(filename=folder / "run.log", level=logging.INFO)
    report = asyncio.run(run(plan, folder, lambda text: print(text, file=sys.stderr)))
    print(report)
    if report.anomalies:
        return 1
    if options.keep:
        print(f"kept in {folder}")
    else:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
