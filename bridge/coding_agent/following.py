"""A worker's side of tickets: takes queued jobs to a coding agent and follows what comes of them."""

from __future__ import annotations

from bridge.coding_agent.client import AgentClient
from bridge.coding_agent.poller import PATIENCE, Patience, Poller
from bridge.coding_agent.reading import event_id
from consumers.context import Context
from consumers.handler import Failure, Handlers
from consumers.retry import Retry, reason_of
from eventlog.event import Event
from eventlog.log import EventLog
from eventlog.logs import get_logger
from eventlog.session import TERMINAL
from eventlog.vocabulary import BridgeEvent, JobQueued, SessionTransitioned
from projections.reading.live import LiveDocuments
from projections.views.sessions import Sessions
from projections.views.tickets import AGENT_SESSION_OPENED, TICKETS

LONGEST_JOB_S = 24 * 3600.0
"""How long a session may be followed by one attempt; the next one goes on."""

_log = get_logger("coding_agent")


class AgentHandlers(Handlers):
    """Handlers of `job.queued` for the jobs of one agent.

    >>> worker = Worker(log, "coder", AgentHandlers("coder", AgentClient("http://127.0.0.1:4096")))

    A job's session is followed until it has ended; jobs of one ticket one after the other. An attempt
    that is cut short is made again and goes on where it was; with a job that is given up, its session
    has failed.
    """

    def __init__(
        self,
        name: str,
        agent: AgentClient,
        *,
        patience: Patience = PATIENCE,
        timeout_s: float = LONGEST_JOB_S,
        retry: Retry | None = None,
    ) -> None:
        super().__init__(timeout_s=timeout_s, retry=retry)
        self._name = name
        self._agent = agent
        self._patience = patience
        self.on(JobQueued, record=_fail_with_job)(self._follow)

    async def close(self) -> None:
        """Close the agent's connections."""
        await self._agent.close()

    async def _follow(self, job: JobQueued, context: Context) -> None:
        if job.agent != self._name or job.session is None:
            return
        log = context.log
        session = await Sessions(log).get(job.session, conversation=job.conversation)
        if session is None or session.status in TERMINAL:
            _log.info("job_has_ended", session=job.session)
            return
        if job.is_erased:
            context.append(_failed(job, log, "what was asked for was erased"))
            return
        known = await LiveDocuments(log, TICKETS).get(context.partition, job.session)
        agent_session = known and known.agent_session
        if not agent_session:
            agent_session = await self._open(log, job)
        poller = Poller(log, self._agent, session, agent_session, patience=self._patience)
        await poller.run()

    async def _open(self, log: EventLog, job: JobQueued) -> str:
        """Return the agent's new session, once it is written down which it is."""
        assert job.session is not None
        agent_session = await self._agent.create_session(job.text[:80])
        await log.append(
            BridgeEvent(
                conversation=job.conversation,
                session=job.session,
                id=event_id(job.session, AGENT_SESSION_OPENED, agent_session),
                event_type=AGENT_SESSION_OPENED,
                data={"agent_session": agent_session, "url": self._agent.origin},
                occurred_at=log.clock.now_us(),
            )
        )
        return agent_session


def _fail_with_job(failure: Failure) -> list[Event]:
    """Return the end of a session whose job is parked."""
    job = failure.context.event
    if not failure.is_last or job.session is None:
        return []
    reason = f"{reason_of(failure.error)}: {failure.error}"
    return [_failed(job, failure.context.log, reason)]


def _failed(job: Event, log: EventLog, reason: str) -> Event:
    assert job.session is not None
    return SessionTransitioned(
        conversation=job.conversation,
        session=job.session,
        to_status="failed",
        reason=reason,
        occurred_at=log.clock.now_us(),
    )
