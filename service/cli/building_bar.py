"""How far a rebuild or a verification is, on a terminal."""

from __future__ import annotations

import asyncio
from typing import Self

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from projections.building.builder import Progress as BuildProgress
from projections.projecting.status import RateMeter
from service.cli.output import errors


class BuildBar:
    """Entries done and to do, entries a second, and the time left, on a terminal."""

    def __init__(self, label: str, *, quiet: bool) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=errors,
            transient=True,
            disable=quiet or not errors.is_terminal,
        )
        self._task = self._bar.add_task(label, total=None, rate="")
        self._rate = RateMeter()
        self._done_count: int | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: BuildProgress) -> None:
        """Take how far a build is."""
        now_s = asyncio.get_running_loop().time()
        if self._done_count is not None:
            self._rate.add(now_s, max(0, progress.done_count - self._done_count))
        self._done_count = progress.done_count
        self._bar.update(
            self._task,
            completed=progress.done_count,
            total=progress.total_count,
            rate=f"{self._rate.per_second(now_s):,.0f} entries/s",
        )

    def tell(self, label: str, done: int, total: int) -> None:
        """Take how far something else is."""
        self._bar.update(self._task, description=label, completed=done, total=total)
