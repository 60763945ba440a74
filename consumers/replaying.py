"""Replaying dead letters from a call of one's own, without a worker.

Of each partition one process replays at a time, under a lease, letter by letter in the order of
parking. A letter is claimed by an event before it is sent: whoever claims it at another version
loses. A claim that is found under the lease belongs to a process that died, so it is taken over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from inspect import isawaitable
from typing import Any, NamedTuple, Protocol

from consumers.dead_letters import Letter, advance, letter_event_id
from eventlog.errors import LogUnavailable
from eventlog.event import Event
from eventlog.exclusive_lease import ExclusiveLease
from eventlog.lease import new_owner
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.vocabulary import DeadLetterReplayed, DeadLetterReplayRequested, DeadLetterResolved

PAGE_LETTERS = 100
SEND_TIMEOUT_S = 30.0
ERROR_CHARACTERS = 4000
RECORD_TRIES = 10
"""How often the outcome of a send is offered to a log that is away: unrecorded, it is sent again."""

_log = get_logger("replaying")

Send = Callable[[Letter], Awaitable[object] | object]
"""Delivers a letter, or raises; plain or async. `letter.letter` is its idempotency key."""


class FindLetters(Protocol):
    """Gives a group's parked and replaying letters of a partition, in the order of parking."""

    async def __call__(
        self, group: str, partition: int, after: int, limit: int, /
    ) -> Sequence[Letter]:
        """Return up to `limit` of those parked after the sequence `after`, as they are now."""
        ...


class ReplayReport(NamedTuple):
    """How many letters were sent, and how they fared.

    `skipped`: another replays them or changed them since the call, or an earlier letter of their
    conversation is still parked.
    """

    tried: int
    resolved: int
    failed: int
    skipped: int


async def replay_dead_letters(
    log: EventLog,
    send: Send,
    find: FindLetters,
    *,
    group: str = "delivery",
    limit: int | None = None,
    timeout_s: float = SEND_TIMEOUT_S,
) -> ReplayReport:
    """Send a group's parked letters again, each once, the oldest of a conversation first.

    Tries those that were parked before the call, at most `limit`. Success resolves a letter. An
    exception of `send`, or none within `timeout_s`, is one attempt more: the letter stays parked,
    and what follows in its conversation waits for another call. Partitions are replayed at the same
    time. One that another process is replaying is waited for; what that one tried is left alone.
    Raises LogUnavailable; cancelled, it leaves what it was sending to the next call.

    `send` must let the event loop run: who blocks it for longer than `lease_ttl_ms` may lose the
    lease, and the letter is sent by another as well.

    >>> report = await replay_dead_letters(log, send, DeadLetters(log).unsettled)
    """
    replayer = _Replayer(log, send, find, group, limit, timeout_s)
    heads = await log.heads()
    done = await asyncio.gather(
        *(replayer.replay(partition, head.n) for partition, head in enumerate(heads)),
        return_exceptions=True,  # what others are sending is finished first
    )
    for outcome in done:
        if isinstance(outcome, BaseException):
            raise outcome
    return ReplayReport(
        replayer.resolved + replayer.failed + replayer.unrecorded,
        replayer.resolved,
        replayer.failed,
        replayer.skipped,
    )


class _LeaseLost(Exception):
    """Another process may be replaying this partition by now."""


class _Partition:
    """How far a partition has come in this call."""

    def __init__(self, number: int, head: int) -> None:
        self.number = number
        self.head = head
        """The last sequence before the call: what comes later is somebody else's doing."""
        self.after = 0
        """The last letter seen to, by where it was parked."""
        self.blocked: set[str] = set()
        """Conversations in which a letter is not through."""


class _Replayer:
    """One call's work and its counts."""

    def __init__(
        self,
        log: EventLog,
        send: Send,
        find: FindLetters,
        group: str,
        limit: int | None,
        timeout_s: float,
    ) -> None:
        self._log = log
        self._send = send
        self._find = find
        self._group = group
        self._left = limit
        self._timeout_s = timeout_s
        self._runner = new_owner()
        self.resolved = self.failed = self.unrecorded = self.skipped = 0

    async def replay(self, number: int, head: int) -> None:
        """Replay one partition, beginning anew where its lease was lost."""
        if not await self._find(self._group, number, 0, 1):
            return
        partition = _Partition(number, head)
        lease = ExclusiveLease(self._log, f"replay:{self._group}", number, self._runner)
        while True:
            async with lease.hold():
                try:
                    await self._replay_held(partition, lease)
                except _LeaseLost:
                    _log.warning("replay_lease_lost", partition=number, group=self._group)
                else:
                    return

    async def _replay_held(self, partition: _Partition, lease: ExclusiveLease) -> None:
        async for letter in self._letters(partition):
            if self._left == 0:
                return
            if letter.conversation in partition.blocked or _is_others(letter, partition.head):
                self.skipped += 1
                is_through = False
            else:
                is_through = await self._try(letter, lease)
            if not is_through:
                partition.blocked.add(letter.conversation)
            partition.after = letter.parked_sequence

    async def _letters(self, partition: _Partition) -> AsyncIterator[Letter]:
        while True:
            page = await self._find(self._group, partition.number, partition.after, PAGE_LETTERS)
            for letter in page:
                if letter.parked_sequence > partition.head:
                    return
                yield letter
            if len(page) < PAGE_LETTERS:
                return

    async def _try(self, letter: Letter, lease: ExclusiveLease) -> bool:
        """Claim and send a letter; return whether it is through. Raises _LeaseLost before sending."""
        if self._left is not None:
            self._left -= 1  # before anything is awaited: partitions share it
        version = letter.version + 1
        claim = DeadLetterReplayRequested(
            **self._common(letter),
            # Named after the runner: of two claims one is a duplicate of nothing, and fails.
            id=letter_event_id("claim", letter.letter, letter.version, self._runner),
            version=version,
            runner=self._runner,
        )
        is_claimed = await advance(self._log, claim, letter.version)
        is_ours = await lease.is_ours()
        if not (is_claimed and is_ours):
            if self._left is not None:
                self._left += 1
            if not is_ours:
                raise _LeaseLost
            self.skipped += 1
            return False
        error = await self._sent(letter)
        recorded = await _to_the_end(self._record(letter, claim, error, lease.beat_s))
        if not recorded:
            self.unrecorded += 1
        elif error is None:
            self.resolved += 1
        else:
            self.failed += 1
        return recorded and error is None

    async def _sent(self, letter: Letter) -> str | None:
        """Return None for a letter that was delivered, else what went wrong."""
        try:
            async with asyncio.timeout(self._timeout_s) as timeout:
                sent = self._send(letter)
                if isawaitable(sent):
                    await sent
        except Exception as error:  # noqa: BLE001 - whatever a caller's code raises is a failed attempt
            if isinstance(error, TimeoutError) and timeout.expired():
                return f"TimeoutError: not sent within {self._timeout_s:g} s"
            return _text_of(error)
        return None

    async def _record(
        self,
        letter: Letter,
        claim: DeadLetterReplayRequested,
        error: str | None,
        pause_s: float,
    ) -> bool:
        """Say how the send ended; return False where somebody else had the letter meanwhile."""
        common = {**self._common(letter), "causation_id": claim.id}
        event: Event
        if error is None:
            event_id = letter_event_id("resolved", letter.letter, claim.version)
            event = DeadLetterResolved(**common, id=event_id)
        else:
            event_id = letter_event_id("replayed", letter.letter, claim.version)
            attempt = letter.attempts + 1
            event = DeadLetterReplayed(**common, id=event_id, attempt=attempt, error=error)
        for _ in range(RECORD_TRIES - 1):
            try:
                return await advance(self._log, event, claim.version)
            except LogUnavailable as unavailable:
                _log.warning("replay_unrecorded", letter=letter.letter, error=str(unavailable))
                await self._log.clock.sleep(pause_s)
        return await advance(self._log, event, claim.version)

    def _common(self, letter: Letter) -> dict[str, Any]:
        return {
            "conversation": letter.conversation,
            "session": letter.session,
            "occurred_at": self._log.clock.now_us(),
            "letter": letter.letter,
            "group": letter.group,
        }


def _is_others(letter: Letter, head: int) -> bool:
    """Return whether the letter is in others' hands. Pure.

    Its group replays it, or it was parked again after the call: somebody has just tried it.
    """
    if letter.status == "replaying":
        return letter.runner is None
    return letter.status != "parked" or letter.last_sequence > head


def _text_of(error: Exception) -> str:
    """Return the error as text that an event can hold."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an error that cannot be shown is still one
        text = "(no text)"
    text = f"{type(error).__name__}: {text}"[:ERROR_CHARACTERS]
    return text.encode(errors="replace").decode()


async def _to_the_end(work: Awaitable[bool]) -> bool:
    """Return what the work returns; a cancellation meanwhile is raised after it: the letter is sent."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        with suppress(Exception):  # the cancellation is what is raised
            task.result()
        raise
