"""This log's spool: written in groups, bounded, and the dead processes' spools beside it.

Order is the order of calls. All calls that wait share one write and one fsync.
"""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path

import msgspec

from eventlog.batch import Batch, Spooled
from eventlog.errors import ConfigurationError, LogNotOpen, LogUnavailable
from eventlog.settings import Durability, Settings
from eventlog.spool_file import (
    SpoolFile,
    SpoolHeader,
    SpoolLine,
    SpoolPage,
    waiting_bytes,
    waiting_files,
)


def spool_folder(settings: Settings) -> Path:
    """Return the directory of the spools, absolute; there must be one."""
    assert settings.spool_dir is not None
    return Path(settings.spool_dir).expanduser().absolute()


class Spool:
    """The spool of one open log, used by one event loop.

    `files` are drained from the left: the oldest dead process's first, our own last.
    """

    def __init__(self, settings: Settings, header: SpoolHeader) -> None:
        self.folder = spool_folder(settings)
        self.header = header
        self._max_bytes = settings.spool_max_bytes
        self._others_bytes = 0
        self._own: SpoolFile | None = None
        self._adopted: deque[SpoolFile] = deque()
        self._position = 0
        self._closed = False
        self._asked: list[tuple[list[SpoolLine], asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.adopt()
        except OSError as error:
            raise ConfigurationError(
                f"setting 'spool_dir': {self.folder} cannot be used: {error.strerror}.",
                remedy="Name a directory that this user may write to.",
            ) from None

    def adopt(self) -> None:
        """Take the spools of our log whose owners have ended. OSError."""
        known = {file.path for file in self._adopted}
        for path in waiting_files(self.folder):
            found = None if path in known else SpoolFile.adopt(path, self.header)
            if found is not None:
                self._adopted.append(found)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits in it, and nothing is on its way into it."""
        return (
            not self._adopted and not self.is_written_to and (not self._own or self._own.is_empty)
        )

    @property
    def is_written_to(self) -> bool:
        """Whether somebody waits for the disk."""
        return bool(self._asked) or (self._writing is not None and not self._writing.done())

    async def append(self, batch: Batch, durability: Durability) -> Spooled:
        """Return when the events are on this machine's disk. Raises LogUnavailable."""
        if self._closed:
            raise LogNotOpen("the log is closed.", remedy="Open it before you append.")
        entities = {each.place: each for each in batch.entities}
        lines = []
        for index, text in enumerate(batch.events):
            self._position += 1  # here, before anything is awaited: the order of calls
            raw = msgspec.Raw(text.encode())
            _, entity, mark = entities.get(index, (index, None, ""))
            lines.append(SpoolLine(self._position, raw, entity, mark, durability))
        written = asyncio.get_running_loop().create_future()
        self._asked.append((lines, written))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        await written
        return Spooled(len(lines))

    async def settled(self) -> None:
        """Return when nobody waits for the disk."""
        if self._writing is not None:
            await asyncio.wait([self._writing])

    async def _write(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, []
            try:
                await asyncio.to_thread(self._append_all, [lines for lines, _ in asked])
            except (OSError, LogUnavailable) as error:
                _fail(asked, self._unwritable(error))
            except BaseException as error:
                _fail([*asked, *self._asked], self._unwritable(error))
                raise
            else:
                for _, written in asked:
                    if not written.done():
                        written.set_result(None)

    def _append_all(self, asked: list[list[SpoolLine]]) -> None:
        if self._own is None:
            self._others_bytes = waiting_bytes(self.folder)
            self._own = SpoolFile.create(self.folder, self.header)
        lines = [line for each in asked for line in each]
        size_bytes = sum(len(bytes(line.event)) for line in lines)
        if self._others_bytes + self._own.size_bytes + size_bytes > self._max_bytes:
            raise LogUnavailable(
                f"the server is away and the spool in {self.folder} is full"
                f" ({self._max_bytes:,} bytes).",
                remedy="Bring the server back, or raise spool_max_bytes.",
            )
        self._own.append(lines)

    def _unwritable(self, error: BaseException) -> LogUnavailable:
        if isinstance(error, LogUnavailable):
            return error
        reason = error.strerror if isinstance(error, OSError) else repr(error)
        return LogUnavailable(
            f"the server is away and the spool in {self.folder} takes nothing: {reason}.",
            remedy="Make room there, or bring the server back; then append again.",
        )

    # --- draining

    async def next_page(self) -> tuple[SpoolFile, SpoolPage] | None:
        """Return what is to go into the log next; None where all that is on disk has gone."""
        while self._adopted:
            if not self._adopted[0].is_empty:
                return self._adopted[0], await asyncio.to_thread(self._adopted[0].next_page)
            await asyncio.to_thread(self._adopted.popleft().close)
        if self._own is None or self._own.is_empty:
            return None
        return self._own, await asyncio.to_thread(self._own.next_page)

    def clear(self) -> None:
        """Make our own file small again, once it is drained and nobody writes to it."""
        if self._own is not None:
            self._own.clear()

    def abandon(self) -> None:
        """Let go of the files as they are; nothing can be written or drained here any more."""
        self._closed = True
        for file in [*self._adopted, *([self._own] if self._own else [])]:
            file.close()

    def close(self) -> int:
        """Let go of the files; return how many events stay behind in them."""
        self._closed = True
        files = [*self._adopted, *([self._own] if self._own else [])]
        left_count = sum(file.count_waiting() for file in files)
        for file in files:
            file.close()
        self._adopted.clear()
        self._own = None
        return left_count


def _fail(asked: list[tuple[list[SpoolLine], asyncio.Future[None]]], error: LogUnavailable) -> None:
    for _, written in asked:
        if not written.done():
            written.set_exception(error)
