"""The child's walls: what the kernel holds against it, put up by itself before it looks at SQL."""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from analytics.sandbox import landlock
from analytics.sandbox.limits import Limits

_PR_SET_PDEATHSIG = 1
GRACE_S = 1.0
"""How much later than the query's limit the kernel ends the process, should the parent not."""

# DuckDB wants to know how many cores and how much memory there are when it starts.
_CGROUP_FILES = (Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))


def end_with(parent: int) -> None:
    """Have the kernel kill this process when the parent's thread that started it ends."""
    if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError("the process cannot be tied to its parent")
    if os.getppid() != parent:  # it ended before that
        os._exit(1)


def settle_down() -> None:
    """Leave the parent's working directory for none at all; no core dumps, no Ctrl-C."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A terminal sends it to all of its processes; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):  # where nothing can be written, it is "/" already
        folder = tempfile.mkdtemp(prefix="eventlog-sandbox-")
        os.chdir(folder)
        Path(folder).rmdir()


def thread_count() -> int:
    """Return how many threads this process has."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def allow_descriptors(count: int) -> None:
    """Raise the limit on open files to `count`, as far as the system lets us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def confine_to(segments: list[int]) -> None:
    """Let this process open these files for reading, and nothing else. It must have one thread."""
    if thread_count() != 1:
        raise OSError("a thread outside of the cage")
    about_machine = [os.open(path, os.O_PATH) for path in _CGROUP_FILES if path.exists()]
    try:
        landlock.restrict(map(landlock.Rule, [*segments, *about_machine]))
    finally:
        for descriptor in about_machine:
            os.close(descriptor)


def close_the_door() -> None:
    """Let this process open nothing any more: neither files nor sockets."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def limit_resources(limits: Limits, statm: int, *, has_all_threads: bool) -> None:
    """Bound memory, time, files and processes; `statm` is /proc/self/statm, open."""
    size_bytes = int(os.pread(statm, 100, 0).split()[0]) * resource.getpagesize()
    _lower(resource.RLIMIT_AS, size_bytes + limits.memory_bytes)
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = used.ru_utime + used.ru_stime + limits.timeout_s * limits.thread_count + GRACE_S
    _lower(resource.RLIMIT_CPU, math.ceil(cpu_s))
    # Nothing is written but to the pipe. Python ignores the signal: it becomes an error.
    _lower(resource.RLIMIT_FSIZE, 0)
    if has_all_threads:  # the kernel counts threads, too, and spares root
        _lower(resource.RLIMIT_NPROC, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limits.timeout_s + GRACE_S)


def answer_pipe() -> int:
    """Return the pipe to the parent; what a library prints goes elsewhere from now on."""
    pipe = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return pipe


def silence(nowhere: int) -> None:
    """Let nothing more reach the parent's terminal."""
    os.dup2(nowhere, sys.stdout.fileno())
    os.dup2(nowhere, sys.stderr.fileno())


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (bound, bound))
