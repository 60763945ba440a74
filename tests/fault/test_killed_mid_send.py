"""A bridge that is killed while it sends delivers what it was sending when it is back: once."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from consumers.dead_letters import request_replay
from consumers.group_status import group_status
from eventlog import EventLog, MessageQueued, Settings
from eventlog.errors import LogUnavailable
from projections.views.dead_letters import DeadLetter, DeadLetters
from tests.fault.delivering_process import ATTEMPTS, GROUP
from tests.fault.processes import StruckProcess
from tests.platforms import OK, Answer, Hold, Platform
from tests.support import RawServer, eventually

SETTINGS = Settings(partition_count=2, lease_ttl_ms=400, command_timeout_s=1.0)
CHAT = "web:42"
DOWN = Answer(503)


def queued(key: str) -> MessageQueued:
    return MessageQueued(conversation=CHAT, id=key, text=f"this is {key}")


class Bridge:
    """A delivering process that can be killed and started again."""

    def __init__(self, server: RawServer, platform: Platform, folder: Path) -> None:
        self._server = server
        self._platform = platform
        self._folder = folder
        self.processes: list[StruckProcess] = []

    def start(self) -> None:
        self.processes.append(
            StruckProcess(
                "tests.fault.delivering_process",
                owner := f"bridge-{len(self.processes)}",
                self._folder,
                self._server.url,
                owner,
                msgspec.json.encode(SETTINGS),
                self._platform.url,
            )
        )

    async def kill(self) -> None:
        """Return when it is dead."""
        self.processes[-1].strike("kill")
        await eventually(self.processes[-1].has_ended)

    async def release(self) -> None:
        self.processes[-1].strike("release")
        await eventually(self.processes[-1].has_ended)


class Scene(NamedTuple):
    """A server, a receiver that counts, a bridge between them, and the log that they share."""

    server: RawServer
    platform: Platform
    bridge: Bridge
    log: EventLog

    async def at_rest(self) -> bool:
        """Return whether nothing is left to do; False while the server is away."""
        with suppress(LogUnavailable):
            return not (await group_status(self.log, GROUP)).lag_count
        return False

    async def events(self) -> Counter[str]:
        """Return how many events of each type the conversation has."""
        entries = await self.log.read(conversation=CHAT, limit=1000)
        return Counter(entry.event.type for entry in entries)

    async def letter(self, status: str) -> DeadLetter:
        """Return the one letter of the log when it has come to that."""

        async def found() -> DeadLetter | None:
            with suppress(LogUnavailable):
                page = await DeadLetters(self.log).list(status=status)
                return page.items[0] if page.items else None
            return None

        return await eventually(found)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RawServer]:
    with RawServer(tmp_path, appendonly="yes", appendfsync="always") as running:
        yield running


@pytest.fixture
async def scene(server: RawServer, tmp_path: Path) -> AsyncIterator[Scene]:
    async with Platform() as platform, EventLog.open(server.url, settings=SETTINGS) as log:
        bridge = Bridge(server, platform, tmp_path)
        try:
            yield Scene(server, platform, bridge, log)
        finally:
            for process in bridge.processes:
                process.bury()


@pytest.mark.parametrize("also_server", [False, True], ids=["bridge", "bridge and server"])
async def test_a_send_that_was_cut_short_is_made_once_more(scene: Scene, also_server: bool) -> None:
    server, platform, bridge, log = scene
    platform.then(Hold(DOWN))
    await log.append([queued("m1"), queued("m2")])
    bridge.start()
    await platform.requested(1)
    await bridge.kill()
    if also_server:
        server.kill()
        server.start()
    platform.then(OK)
    bridge.start()
    await platform.requested(3)
    await eventually(scene.at_rest)
    assert platform.taken == {"m1": 1, "m2": 1}
    assert [request.headers["webhook-id"] for request in platform.requests] == ["m1", "m1", "m2"]
    assert await scene.events() == {"message.queued": 2, "message.sent": 2}
    await bridge.release()


async def test_a_send_that_was_taken_comes_again_under_the_same_key(scene: Scene) -> None:
    _, platform, bridge, log = scene
    platform.then(Hold(OK))
    await log.append(queued("m1"))
    bridge.start()
    await platform.requested(1)
    await bridge.kill()
    platform.then(OK)
    bridge.start()
    await eventually(scene.at_rest)
    await platform.requested(2)
    assert platform.received == {"m1": 2}, "a receiver that knows its keys acts on it once"
    assert platform.requests[0].body == platform.requests[1].body
    assert await scene.events() == {"message.queued": 1, "message.sent": 1}
    await bridge.release()


async def parked(scene: Scene) -> DeadLetter:
    """Return the letter of a message that nobody would take."""
    _, platform, bridge, log = scene
    platform.then(DOWN)
    await log.append(queued("m1"))
    bridge.start()
    letter = await scene.letter("parked")
    assert letter.attempts == platform.received["m1"] == ATTEMPTS
    assert not platform.taken
    return letter


@pytest.mark.parametrize("also_server", [False, True], ids=["bridge", "bridge and server"])
async def test_a_replay_that_was_cut_short_is_made_exactly_once(
    scene: Scene, also_server: bool
) -> None:
    server, platform, bridge, log = scene
    letter = await parked(scene)
    platform.then(Hold(DOWN))
    [asked] = await request_replay(log, [letter])
    assert asked.status == "requested"
    await platform.requested(ATTEMPTS + 1)
    await bridge.kill()
    if also_server:
        server.kill()
        server.start()
    platform.then(OK)
    bridge.start()
    resolved = await scene.letter("resolved")
    assert resolved.letter == letter.letter
    await eventually(scene.at_rest)
    assert platform.taken == {"m1": 1}
    assert platform.received == {"m1": ATTEMPTS + 2}
    assert await scene.events() == {
        "message.queued": 1,
        "delivery.failed": ATTEMPTS,
        "dead_letter.parked": 1,
        "dead_letter.replay_requested": 1,
        "dead_letter.resolved": 1,
        "message.sent": 1,
    }
    await bridge.release()


async def test_a_bridge_that_comes_back_again_and_again_sends_no_settled_letter(
    scene: Scene,
) -> None:
    _, platform, bridge, log = scene
    letter = await parked(scene)
    platform.then(OK)
    await request_replay(log, [letter])
    await request_replay(log, [letter])  # the same version: asked for once
    await scene.letter("resolved")
    for _ in range(2):
        await bridge.kill()
        bridge.start()
        await log.append(queued(f"after-{len(bridge.processes)}"))
        await platform.requested(ATTEMPTS + len(bridge.processes))
        await eventually(scene.at_rest)  # what it is killed before would be sent again
    assert platform.taken == {"m1": 1, "after-2": 1, "after-3": 1}
    assert (await scene.events())["dead_letter.replay_requested"] == 1
    await bridge.release()
