"""What another program is here: its name, what it does not promise, and the work it does."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from eventlog import MessageReceived


class Kind(StrEnum):
    """Work that is measured. A message is kept once the call that takes it has returned."""

    ONE = "record one by one"
    """One caller keeps a message, then the next."""
    ONE_SYNCED = "record one by one, on disk"
    """The same, and each is on the disk before the call returns."""
    TASKS = "record, 1,000 tasks"
    """As many tasks, each of which keeps a message, then its next."""
    BATCH = "record in batches"
    """All are at hand and may be kept in any order of conversations, by the quickest way there is."""
    BATCH_SYNCED = "record in batches, on disk"
    """The same, and each batch is on the disk before its call returns."""
    WORK = "handle"
    """Messages that wait are read, handed to a handler that does nothing, and acknowledged."""


TASKS = 1000
BATCH_MESSAGES = 500


class Place(NamedTuple):
    """Where a peer may keep things: a server that is empty, and a folder that is its own."""

    socket_path: str
    folder: Path

    @property
    def url(self) -> str:
        """The server's URL."""
        return f"unix://{self.socket_path}"


class Stopwatch:
    """Seconds within its `running` blocks, so that what comes before and after is not counted."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the block's time."""
        started_s = time.perf_counter()
        try:
            yield
        finally:
            self.elapsed_s += time.perf_counter() - started_s


Work = Callable[[Place, Sequence[MessageReceived], Stopwatch], Awaitable[None]]
"""Does it with all messages, and lets the stopwatch run while it does."""


class Way(NamedTuple):
    """How a peer does a kind of work."""

    call: str
    """As its user would write it."""
    work: Work
    share: float = 1.0
    """Of the messages: a rate of slow calls needs fewer."""
    least: int = 100
    """How many it takes at least, where there are so many."""


class Peer(NamedTuple):
    """Another program. `lacks` says what it does not promise and the log does."""

    name: str
    distributions: tuple[str, ...]
    """What is installed for it, of the dependency group `peers`."""
    lacks: str
    ways: Mapping[Kind, Way]
    is_equal: bool = False
    """Whether it promises of its records what the log does: once, in order, at an expected version."""
