"""The bot of `eventlog demo --serve`: people who ask, answers, an agent with tools, deliveries that fail.

All of it is made up, and goes through the same calls as a real bot's: nothing on the pages is drawn
for show.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from bridge import Bridge
from consumers import Context, DeliveryHandlers, Worker
from consumers.retry import Retry
from consumers.senders.sender import Delivery, Receipt
from eventlog import (
    JobQueued,
    MessageQueued,
    MessageReceived,
    MessageSent,
    ToolCalled,
    ToolReturned,
)
from eventlog.errors import EventLogError, SendFailed
from eventlog.logs import get_logger

AGENT = "coder"
PEOPLE = 40
ASK_EVERY_S = 0.4
TICKET_EVERY_S = 25.0
BLOCKED_SHARE, SLOW_SHARE = 0.03, 0.05

_QUESTIONS = (
    "Where is my order?", "Can I change the address?", "The app says I am offline.",
    "How do I reset my password?", "Thanks, that worked!", "Is there a student discount?",
    "My invoice is missing.", "Can you call me back?",
)  # fmt: skip
_ANSWERS = (
    "I looked it up: it left the warehouse this morning.", "Done. Anything else?",
    "Please try again now; I have restarted it on our side.", "I have sent you a link by mail.",
)  # fmt: skip
_TASKS = (
    ("Fix the flaky login test", "tests/test_login.py"),
    ("Why does the build take nine minutes?", "Makefile"),
    ("Rename the settings page", "web/settings.tsx"),
)

_log = get_logger("demo")


class Flaky:
    """A platform that mostly takes messages; some people have blocked the bot, some calls time out."""

    def __init__(self, rnd: random.Random) -> None:
        self._rnd = rnd

    async def send(self, message: MessageQueued, delivery: Delivery) -> Receipt:  # noqa: ARG002 - a sender is told
        """Take the message. Raises SendFailed."""
        drawn = self._rnd.random()
        if drawn < BLOCKED_SHARE:
            raise SendFailed(
                "403 Forbidden: bot was blocked by the user", reason="blocked", status=403,
                permanent=True,
            )  # fmt: skip
        if drawn < BLOCKED_SHARE + SLOW_SHARE:
            raise SendFailed("timed out after 10 s", reason="timeout")
        return Receipt()

    async def close(self) -> None:
        """There is nothing to close."""


class DemoBot:
    """People, a bot that answers them, and an agent that works on tickets, until it is told to stop."""

    def __init__(self, bridge: Bridge, seed: int = 7) -> None:
        self._bridge = bridge
        self._log = bridge.log
        self._stop = asyncio.Event()
        self._rnd = random.Random(seed)  # noqa: S311 - it plays a part, and keeps no secret

    async def run(self, stop: asyncio.Event) -> None:
        """Play until `stop` is set."""
        self._stop = stop
        answering = Worker(self._log, "answers")
        answering.on(MessageReceived)(self._answer)
        coding = Worker(self._log, "coder")
        coding.on(JobQueued, timeout_s=120)(self._work)
        quick = Retry(attempts=3, first_delay_s=2)
        delivery = Worker(
            self._log, "delivery", DeliveryHandlers({"demo": Flaky(self._rnd)}, retry=quick)
        )
        async with asyncio.TaskGroup() as tasks:
            for worker in (answering, coding, delivery):
                tasks.create_task(worker.run(stop))
            tasks.create_task(self._again(stop, ASK_EVERY_S, self._ask))
            tasks.create_task(self._again(stop, TICKET_EVERY_S, self._open_ticket))

    async def _again(
        self, stop: asyncio.Event, every_s: float, act: Callable[[], Awaitable[object]]
    ) -> None:
        while not stop.is_set():
            try:
                await act()
            except EventLogError as error:
                _log.warning("demo_waits", error=str(error))
            await self._pause(every_s * self._rnd.uniform(0.4, 1.6))

    async def _pause(self, pause_s: float) -> None:
        """Wait, but for no one who is told to stop: what is in hand then ends at once."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), pause_s)

    async def _ask(self) -> None:
        user = self._rnd.randint(1, PEOPLE)
        text = self._rnd.choice(_QUESTIONS)
        await self._bridge.receive("demo", user, text, sender=f"user {user}")

    async def _open_ticket(self) -> None:
        text, _ = self._rnd.choice(_TASKS)
        number = self._rnd.randint(470, 490)
        await self._bridge.tickets.start(f"T-{number}", text, sender="vk", agent=AGENT)

    async def _answer(self, event: MessageReceived, context: Context) -> None:
        if event.conversation.startswith("demo:"):
            text = self._rnd.choice(_ANSWERS)
            context.append(
                MessageQueued(conversation=event.conversation, session=event.session, text=text)
            )

    async def _work(self, event: JobQueued, context: Context) -> None:  # noqa: ARG002 - a handler is told
        """Do what an agent does with a ticket: say something, use tools, of which some fail, and end."""
        session = event.session
        if event.agent != AGENT or session is None:
            return
        await self._bridge.sessions.resume(session)
        file = next((file for text, file in _TASKS if text == event.text), "README.md")
        steps = (
            ("bash", f'{{"command": "pytest {file} --count 30"}}', "27 passed, 3 failed", False),
            ("read", f'{{"path": "{file}"}}', "214 lines", False),
            ("edit", f'{{"path": "{file}"}}', "file changed on disk since it was read", True),
            ("edit", f'{{"path": "{file}"}}', "1 line changed", False),
            ("bash", '{"command": "git diff --stat"}', "1 file changed, 1 insertion(+)", False),
        )
        await self._say(event, "I'll run it in a loop first, to see it fail here.")
        for number, (name, arguments, result, is_error) in enumerate(steps):
            await self._use(event, f"{event.id}:{number}", name, arguments, result, is_error)
        await self._say(event, "It waited for the wrong element. Fixed, and 30 runs pass.")
        await self._bridge.tickets.complete(session)

    async def _say(self, event: JobQueued, text: str) -> None:
        await self._log.append(
            MessageSent(conversation=event.conversation, session=event.session, text=text, sender="agent")
        )  # fmt: skip

    async def _use(
        self, event: JobQueued, call: str, name: str, arguments: str, result: str, is_error: bool
    ) -> None:
        common: dict[str, Any] = {
            "conversation": event.conversation,
            "session": event.session,
            "call": call,
        }
        await self._log.append(ToolCalled(**common, name=name, arguments=arguments))
        took_s = self._rnd.uniform(0.6, 3.0)
        await self._pause(took_s)
        took_ms = round(took_s * 1000)
        await self._log.append(
            ToolReturned(**common, name=name, result=result, is_error=is_error, duration_ms=took_ms)
        )
