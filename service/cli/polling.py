"""`eventlog poll`: a coding agent's session, followed into the log."""

from __future__ import annotations

import logging
import os
from typing import Annotated

import typer

from bridge.coding_agent.client import DEFAULT_USER, AgentClient
from bridge.coding_agent.poller import Patience, Poller
from bridge.sessions import SessionCalls
from eventlog.errors import SessionExists
from eventlog.log import EventLog
from eventlog.session import TERMINAL
from eventlog.settings import Settings
from projections.views.sessions import Session
from projections.views.tickets import conversation_of_ticket
from service.cli.options import examples, run, settings_of
from service.cli.output import FAILED, console, say
from service.telemetry import configure_logs

PASSWORD_VARIABLE = "OPENCODE_SERVER_PASSWORD"  # noqa: S105 - the name of a variable
USER_VARIABLE = "OPENCODE_SERVER_USERNAME"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "eventlog poll http://127.0.0.1:4096 ses_6f1c2a9d0ffe --ticket T-1",
            also=f"A server's password is read from `{PASSWORD_VARIABLE}`, a user's name other than"
            f" `{DEFAULT_USER}` from `{USER_VARIABLE}`.",
        )
    )(poll)


def poll(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="The agent's server.")],
    agent_session: Annotated[str, typer.Argument(help="The session, as the agent calls it.")],
    ticket: Annotated[str, typer.Option(help="The ticket that the session belongs to.")],
    session: Annotated[
        str | None, typer.Option(help="The session's id in the log; else as the agent calls it.")
    ] = None,
    interval_ms: Annotated[
        int | None,
        typer.Option(min=1, help="How often to look; else the setting agent_poll_interval_ms."),
    ] = None,
) -> None:
    """Follow a session of a coding agent until it has ended.

    What it says and does is recorded once, however often this is stopped and started again; what is
    said in the session's log meanwhile is handed to the agent.
    """
    configure_logs(logging.INFO)
    password, user = os.environ.get(PASSWORD_VARIABLE), os.environ.get(USER_VARIABLE)
    agent = AgentClient(url, password=password, user=user or DEFAULT_USER)
    wanted = Session(session or agent_session, conversation_of_ticket(ticket))
    patience = Patience(interval_ms=interval_ms)
    run(_poll(settings_of(context), agent, agent_session, wanted, patience))


async def _poll(
    settings: Settings, agent: AgentClient, agent_session: str, wanted: Session, patience: Patience
) -> None:
    async with EventLog.open(settings=settings) as log, agent:
        session = await _started(log, wanted)
        if session.status not in TERMINAL:
            say(f"following {agent_session} at {agent.origin}; Ctrl-C stops it", "dim")
            await Poller(log, agent, session, agent_session, patience=patience).run()
        ended = await SessionCalls(log).get(session.id)
    assert ended is not None
    console.print(f"session {ended.id}: {ended.status}", markup=False)
    if ended.status == "failed":
        raise typer.Exit(FAILED)


async def _started(log: EventLog, wanted: Session) -> Session:
    """Return the session, started here or before."""
    sessions = SessionCalls(log)
    try:
        return await sessions.start(
            wanted.conversation, session_id=wanted.id, status="pending", platform="ticket"
        )
    except SessionExists:
        found = await sessions.get(wanted.id)
        if found is None or found.conversation != wanted.conversation:
            raise
        return found
