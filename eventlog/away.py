"""What stands for the server of a log that was opened while it was away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from eventlog.batch import Batch
from eventlog.errors import LogNotOpen, LogUnavailable
from eventlog.ids import EntryId
from eventlog.settings import Durability
from eventlog.spooler import Spooler
from eventlog.writer import AppendResult, spooled_result

NO_PARTITION = -1
"""How many partitions there are is the log's to say."""


class AwayStore:
    """Every call but `ping` raises at once what the last attempt to reach the server met."""

    def __init__(self, error: LogUnavailable) -> None:
        self.error = error

    def _refuse(self) -> NoReturn:
        raise like(self.error)

    async def append(self, partition: int, batch: Batch, durability: Durability) -> NoReturn:  # noqa: ARG002 - as stores are called
        """Raise."""
        self._refuse()

    async def read(
        self,
        partition: int,  # noqa: ARG002
        after: EntryId,  # noqa: ARG002
        before: EntryId | None,  # noqa: ARG002
        limit: int,  # noqa: ARG002
    ) -> NoReturn:
        """Raise."""
        self._refuse()

    read_back = read

    async def wait(
        self,
        cursor: Mapping[int, EntryId],  # noqa: ARG002
        limit: int,  # noqa: ARG002
        timeout_ms: int,  # noqa: ARG002
    ) -> NoReturn:
        """Raise."""
        self._refuse()

    async def heads(self) -> NoReturn:
        """Raise."""
        self._refuse()

    async def producer_positions(self, name: str) -> NoReturn:  # noqa: ARG002
        """Raise."""
        self._refuse()

    async def ping(self) -> bool:
        """Return False."""
        return False

    async def close(self) -> None:
        """Return."""


def like(error: LogUnavailable) -> LogUnavailable:
    """Return another error that says the same."""
    return type(error)(error.message, remedy=error.remedy)


class SpoolOnly:
    """Events of a log that was never reached: all go to the spool, in the order of the calls."""

    def __init__(self, spooler: Spooler) -> None:
        self._spooler = spooler
        self._closed = False

    async def append(
        self, partition: int, batch: Batch, durability: Durability
    ) -> list[AppendResult]:
        """Return results without a place. Raises LogUnavailable for a conditional one."""
        if self._closed:
            raise LogNotOpen("the log is closed.", remedy="Open it before you append.")
        if batch.is_conditional:
            await self._spooler.append(partition, batch, durability)
        await self._spooler.append_behind(batch, durability)
        return [spooled_result(NO_PARTITION) for _ in batch.events]

    async def close(self) -> None:
        """Take no more. What was taken is on the disk, or its caller is still waiting for it."""
        self._closed = True
