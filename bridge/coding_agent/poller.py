"""Following a coding agent's session into the log, until it has ended."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Literal, NamedTuple

from bridge.coding_agent.client import AgentClient
from bridge.coding_agent.reading import (
    Place,
    Prompt,
    Verdict,
    choose_new,
    event_id,
    judge_session,
    match_prompts,
    read_events,
)
from bridge.coding_agent.recorded import Recorded
from bridge.coding_agent.shapes import AgentMessage, Snapshot
from bridge.sessions import SessionCalls
from consumers.patience import FIRST_PAUSE_S, LONGEST_PAUSE_S
from consumers.retry import Retry
from eventlog.errors import Fenced, InvalidEvent, LogUnavailable, SendFailed, VersionConflict
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.named_lock import NamedLock
from eventlog.session import TERMINAL, SessionStatus
from eventlog.shares import cut
from projections.views.sessions import Session, Sessions
from projections.views.tickets import ticket_of

LATEST_MESSAGES = 20
"""Messages asked for by who has read the rest: an answer costs the same however long a session is."""

Outcome = Literal["completed", "failed", "ended"]
"""`ended`: somebody else ended the session meanwhile."""

_log = get_logger("coding_agent")


class Patience(NamedTuple):
    """How often an agent is asked, and what is put up with."""

    interval_ms: int | None = None
    """None is the setting `agent_poll_interval_ms`."""
    settle_s: float = 10.0
    """How long nothing must change before an end holds that the agent is not clear about; and how
    long a prompt may take to show."""
    silence_s: float = 1800.0
    """An agent that says nothing new for so long has failed."""
    retry: Retry = Retry(10, first_delay_s=0.5, longest_delay_s=30.0)
    """Failed requests in a row. An agent that was restarted is back within them, or has failed."""


PATIENCE = Patience()


class Poller:
    """Follows one session of an agent, in both directions, until it has ended.

    What the agent says and does goes to the log, each once; what people say in the session's log
    goes to the agent; and at the end the session is completed or failed.

    It may be killed and started again at any moment, and several may run for one session: one works,
    the others wait. Ids of events are made of the agent's, and what the log has is looked up first.

    >>> async with AgentClient("http://127.0.0.1:4096") as agent:
    ...     outcome = await Poller(log, agent, session, agent_session).run()
    """

    def __init__(
        self,
        log: EventLog,
        agent: AgentClient,
        session: Session,
        agent_session: str,
        *,
        patience: Patience = PATIENCE,
    ) -> None:
        """Raise InvalidEvent for a session that is in no ticket."""
        if ticket_of(session.conversation) is None:
            raise InvalidEvent(
                f"session {session.id!r} is in {session.conversation!r}, which is no ticket.",
                remedy="Start it with `Tickets.start`, or in a conversation `ticket:…`.",
            )
        self._log = log
        self._agent = agent
        self._session = session
        self._agent_session = agent_session
        self._patience = patience
        interval_ms = patience.interval_ms or log.settings.agent_poll_interval_ms
        self._interval_s = interval_ms / 1000
        self._sessions = SessionCalls(log)
        self._view = Sessions(log)
        self._lock = NamedLock(log, session.conversation, f"agent:{session.id}")
        self._recorded = Recorded(log, session.conversation, session.id)
        self._rnd = random.Random()  # noqa: S311 - it only spreads retries
        self._failure_count = 0
        self._outage_count = 0
        self._messages: list[AgentMessage] = []
        self._ours: dict[str, str] = {}
        self._prompted_s: dict[str, float] = {}
        self._changed_s = log.clock.monotonic_s()

    async def run(self) -> Outcome:
        """Return how the session ended; waits first while another poller follows it."""
        while True:
            try:
                async with self._lock.hold():
                    outcome = await self._follow()
            except LogUnavailable as error:
                await self._sit_out(error)
            else:
                if outcome is not None:
                    return outcome
                _log.warning("session_lock_lost", session=self._session.id)

    async def _follow(self) -> Outcome | None:
        """Return how the session ended, None where somebody else may follow it by now."""
        self._changed_s = self._log.clock.monotonic_s()
        while await self._lock.is_ours():
            delay_s: float | None = self._interval_s
            outcome = None
            try:
                outcome = await self.poll()
                self._failure_count = self._outage_count = 0
            except SendFailed as error:
                delay_s = self._delay_after(error)
                if delay_s is None:
                    outcome = await self._give_up(error)
            except Fenced:
                return None
            except VersionConflict:  # somebody spoke or moved it at the last moment: look again
                pass
            if outcome is not None:
                return outcome
            await self._log.clock.sleep(delay_s or self._interval_s)
        return None

    async def poll(self) -> Outcome | None:
        """Look once; return how the session ended, None while it goes on.

        Raises SendFailed where the agent does not answer, VersionConflict where the session changed
        in the same moment, Fenced where another poller has taken over; what was not done then is done
        by the next call.
        """
        session = await self._standing()
        if session.status in TERMINAL:
            await self._abort()
            return "ended"
        if session.status == "pending":
            await self._move(session, "active", "agent_followed")
            session = await self._standing()
        await self._recorded.refresh()
        snapshot = await self._look()
        await self._record(snapshot)
        waiting = [p for p in self._recorded.prompts if p.id not in self._ours.values()]
        if waiting:
            await self._prompt(waiting)
            return await self._unless_silent(session)
        return await self._end(session, judge_session(self._messages))

    async def _look(self) -> Snapshot:
        """Return what the agent lists, from a message on that was there the last time."""
        last = LATEST_MESSAGES if self._messages else None
        snapshot = await self._agent.messages(self._agent_session, last=last)
        seen = {each.info.id for each in self._messages}
        if last is not None and not (snapshot.messages and snapshot.messages[0].info.id in seen):
            snapshot = await self._agent.messages(self._agent_session)
        has_said = bool(seen) or len(self._recorded.ids) > len(self._recorded.prompts)
        if has_said and not snapshot.messages:
            raise SendFailed(
                f"{self._agent.origin} has forgotten what it said in {self._agent_session}.",
                reason="forgotten",
            )
        if snapshot.messages != self._messages:
            self._changed_s = self._log.clock.monotonic_s()
            self._messages = snapshot.messages
            if snapshot.unreadable_count:
                _log.warning(
                    "agent_messages_unreadable",
                    session=self._session.id,
                    count=snapshot.unreadable_count,
                )
        return snapshot

    async def _record(self, snapshot: Snapshot) -> None:
        """Append what is new."""
        known, session = self._recorded.ids, self._session
        foreign = {
            each.info.id
            for each in snapshot.messages
            if event_id(session.id, each.info.id) in known
        }
        taken = set(self._ours.values())
        prompts = [prompt for prompt in self._recorded.prompts if prompt.id not in taken]
        decided = foreign | self._ours.keys()
        self._ours |= match_prompts(snapshot.messages, prompts, decided)
        place = Place(
            session.conversation,
            session.id,
            session.agent,
            self._log.clock.now_us(),
            self._log.settings.max_event_bytes // 2,
        )
        events = read_events(snapshot.messages, self._ours, place)
        is_whole = self._recorded.is_beginning_known
        new = choose_new(events, known, is_beginning_known=is_whole)
        texts = [self._log.codec.encode(event).decode() for event in new]
        for piece in cut(list(range(len(new))), texts):  # each is one step, as a fence wants it
            await self._log.append([new[number] for number in piece], fence=self._lock.fence)
            known.update(new[number].id for number in piece)

    async def _prompt(self, waiting: list[Prompt]) -> None:
        """Give the agent what it does not have, each once unless it does not show."""
        for prompt in waiting:
            now_s = self._log.clock.monotonic_s()
            sent_s = self._prompted_s.get(prompt.id)
            if sent_s is not None and now_s - sent_s < self._patience.settle_s:
                return  # in order: the next one when this one shows
            if not await self._lock.is_ours():
                return
            self._prompted_s[prompt.id] = now_s
            try:
                await self._agent.prompt(self._agent_session, prompt)
            except SendFailed as error:
                if error.status is not None or error.reason == "unreachable":
                    del self._prompted_s[prompt.id]  # it certainly was not taken
                raise
            self._changed_s = now_s

    async def _end(self, session: Session, verdict: Verdict) -> Outcome | None:
        if verdict.status == "running":
            return await self._unless_silent(session)
        quiet_s = self._log.clock.monotonic_s() - self._changed_s
        if not verdict.is_sure and quiet_s < self._patience.settle_s:
            return None
        await self._move(session, verdict.status, verdict.reason)
        return verdict.status

    async def _unless_silent(self, session: Session) -> Outcome | None:
        if self._log.clock.monotonic_s() - self._changed_s < self._patience.silence_s:
            return None
        await self._move(session, "failed", f"silent for {self._patience.silence_s:g} s")
        await self._abort()
        return "failed"

    def _delay_after(self, error: SendFailed) -> float | None:
        """Return how long to wait before the agent is asked again, None where that was enough."""
        self._failure_count += 1
        retry = self._patience.retry
        delay_s = retry.delay_s(self._failure_count, retry.judge(error), self._rnd)
        _log.warning(
            "agent_request_failed",
            session=self._session.id,
            reason=error.reason,
            error=str(error),
            attempt=self._failure_count,
            retry_in_s=delay_s and round(delay_s, 3),
        )
        return delay_s

    async def _give_up(self, error: SendFailed) -> Outcome | None:
        """Fail the session; None where it changed in the same moment, so that it is tried again."""
        session = await self._standing()
        if session.status in TERMINAL:
            return "ended"
        with suppress(VersionConflict):
            await self._move(session, "failed", f"{error.reason}: {error.message}")
            return "failed"
        return None

    async def _sit_out(self, error: LogUnavailable) -> None:
        """Wait a moment for the log, which is waited for as long as it takes."""
        self._outage_count += 1
        _log.warning("log_unavailable", session=self._session.id, error=str(error))
        pause_s = FIRST_PAUSE_S * 2 ** min(self._outage_count, 10)
        await self._log.clock.sleep(min(pause_s, LONGEST_PAUSE_S))
        with suppress(LogUnavailable):
            await self._log.heads()  # brings a dead embedded server back

    async def _abort(self) -> None:
        try:
            await self._agent.abort(self._agent_session)
        except SendFailed as error:
            _log.warning("agent_not_aborted", session=self._session.id, error=str(error))

    async def _standing(self) -> Session:
        found = await self._view.get(self._session.id, conversation=self._session.conversation)
        return found or self._session

    async def _move(self, session: Session, to: SessionStatus, reason: str | None) -> None:
        """Change the session, unless somebody else did since it was read. Raises VersionConflict."""
        await self._sessions.transition(
            session.id, to, expected=session.version, reason=reason, fence=self._lock.fence
        )
        _log.info("session_moved", session=session.id, status=to, reason=reason)
