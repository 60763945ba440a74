"""How far an import is: one line per file, with events per second and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from bridge.importers.importing import Progress as ImportProgress
from service.cli.output import clean, errors


class ProgressBars:
    """The bars on a terminal; elsewhere only the counts."""

    def __init__(self, *, quiet: bool) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=errors,
            transient=True,
            disable=quiet or not errors.is_terminal,
        )
        self._task: TaskID | None = None
        self._started_s = 0.0
        self._added_before = self._added_here = 0
        self.label = ""
        """The file that is being read."""

    @property
    def events_added(self) -> int:
        """Events that the log has taken so far."""
        return self._added_before + self._added_here

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the bars off the screen."""
        self._bars.stop()

    def show(self, progress: ImportProgress) -> None:
        """Take how far the import has come."""
        source = progress.source
        if source.label != self.label:
            self._remove()
            self.label, self._started_s = source.label, time.monotonic()
            self._added_before += self._added_here
            self._task = self._bars.add_task(
                clean(source.label), total=progress.total_bytes, rate=""
            )
        self._added_here = progress.events_added
        elapsed_s = max(time.monotonic() - self._started_s, 0.001)
        assert self._task is not None
        self._bars.update(
            self._task,
            completed=progress.bytes_done,
            rate=f"{progress.events_added / elapsed_s:,.0f} events/s",
        )

    @contextmanager
    def waiting(self, label: str) -> Iterator[Callable[[str], None]]:
        """Give a call that tells what is going on, beside a spinner."""
        self._remove()
        self.stop()
        if self._bars.disable:
            yield lambda _: None
            return
        with errors.status(f"{label} …") as status:
            yield lambda said: status.update(f"{label}: {said} …")

    def _remove(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None
