"""A disk that is full for one process: its files may not grow beyond a size.

A limit of the process (RLIMIT_FSIZE), which needs no rights and holds for root as well; a write beyond
it ends short and then fails with EFBIG, as one fails with ENOSPC where there is no room. The signal that
comes with it must be ignored: Python does, and what is started with `restore_signals=False`.
"""

from __future__ import annotations

import resource
from pathlib import Path


class NoSuchLimit(Exception):
    """This system cannot say how large a file of another process may get."""


def require_limits() -> None:
    """Raise NoSuchLimit, rather than leave the fault out quietly."""
    if not hasattr(resource, "prlimit"):
        raise NoSuchLimit(
            "a full disk is made with prlimit(2), which is Linux's: run with --fault and without"
            " disk-archive and disk-server, and say that they were left out"
        )


def fill(pid: int, size_bytes: int) -> None:
    """Let no file of the process grow beyond a size."""
    _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, most))


def free(pid: int) -> None:
    """Let them grow again."""
    _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))


def appended_bytes(folder: Path) -> int:
    """Return the size of the append-only file that a server writes to."""
    return max(path.stat().st_size for path in folder.glob("appendonlydir/*.incr.aof"))
