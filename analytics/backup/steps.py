"""The steps of a backup and of a restore, so that a test can end the work at each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

BACKUP_STEPS = ("copied", "moment", "tail", "ids", "manifest", "swept")
"""A segment is in the backup; a partition's state is; its tail is; its event ids are; the manifest
says that all of it is; what it does not name is deleted."""

RESTORE_STEPS = (
    "published",
    "marked",
    "guarded",
    "wiped",
    "entries",
    "state",
    "finished",
    "complete",
)
"""A segment is in the archive; the log says that it is being restored; its heads do; what it had is
gone; some entries are in; a partition's state is; the partition is whole; the log is."""

Reached = Callable[[str], None]
"""Called when a step is done; what it raises goes up as if the process had died there."""


class Progress(NamedTuple):
    """What is being done, and how far it is."""

    step: str
    done_count: int
    total_count: int


Tell = Callable[[Progress], None]


def go_on(step: str) -> None:
    """Do nothing: the hook of a program that is not under test."""
    del step


def tell_nobody(progress: Progress) -> None:
    """Do nothing with it."""
    del progress
