"""`eventlog projections`, each command as a process of its own."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from eventlog import EventLog, MessageReceived, Settings
from eventlog.embedded import EmbeddedServer
from projections.storing.build import Build
from projections.storing.redis_models import RedisModels
from tests.cli import Cli, side_by_side
from tests.contract.test_cli import SAMPLE, assert_one_line_error
from tests.support import eventually

MY_VIEWS = """
from eventlog import MessageReceived
from projections import document_projection

@document_projection(key=lambda e: e.sender, initial=lambda key: 0, types=(MessageReceived,))
def by_sender(count: int, entry) -> int:
    if entry.event.text == "poison":
        raise ValueError("that is no message")
    return count + 1
"""


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """Commands on a log of two partitions; its server is kept up between them."""
    made = Cli(tmp_path, EVENTLOG_PARTITION_COUNT="2")
    server = EmbeddedServer(Settings(data_dir=str(made.data)))
    server.start()
    try:
        yield made
    finally:
        server.release()


@asynccontextmanager
async def opened(cli: Cli) -> AsyncIterator[EventLog]:
    async with EventLog.open(settings=Settings(data_dir=str(cli.data), partition_count=2)) as log:
        yield log


async def test_rebuild_verify_roll_back_and_drop(cli: Cli) -> None:
    assert (await cli.run("import", SAMPLE)).code == 0
    rebuilt = await cli.run("projections", "rebuild", "sessions", "--json")
    assert rebuilt.json() == {
        "model": "sessions@2",
        "position_count": 1449,
        "swept_key_count": 0,
    }
    shown = (await cli.run("projections")).out
    assert "sessions                2          0         -  2" in shown
    told = (await cli.run("projections", "--json")).json()["partitions"]
    assert [each["partition"] for each in told] == [0, 1]
    assert {model["name"] for model in told[0]["models"]} >= {"sessions", "history"}
    assert "1,449 entries" in shown
    verified = (await cli.run("projections", "verify", "--json")).documents()
    assert {each["model"].partition("@")[0] for each in verified} >= {"sessions", "history"}
    assert all(each["difference"] is None for each in verified)
    back = await cli.run("projections", "rollback", "sessions")
    assert back.code == 0
    assert "sessions@2 serves" in back.err
    again = (await cli.run("projections", "verify", "sessions", "--json")).documents()
    before = [each for each in verified if each["model"] == "sessions@2"]
    assert [e["stored_digest"] for e in again] == [e["stored_digest"] for e in before]
    assert "keys freed" in (await cli.run("projections", "drop", "sessions")).err
    assert_one_line_error(await cli.run("projections", "rollback", "sessions"), 1)
    assert_one_line_error(await cli.run("projections", "cancel", "sessions"), 1)


async def test_verify_names_what_differs_and_how_to_mend_it(cli: Cli) -> None:
    assert (await cli.run("import", SAMPLE)).code == 0
    async with opened(cli) as log:
        [key] = [k async for k in log.client.scan_iter("*:model:activity_totals@*:doc")][:1]
        await log.client.hset(key, "message.received:text", b'{"label":"x","count":5}')
    found = await cli.run("projections", "verify", "activity_totals")
    assert found.code == 3
    assert "✗ differs in partition" in found.out
    assert "document message.received:text, first at key message.received:text" in found.out
    assert '"count":5' in found.out
    assert "touched by" in found.out
    assert "eventlog projections rebuild activity_totals" in found.err
    assert (await cli.run("projections", "rebuild", "activity_totals")).code == 0
    assert (await cli.run("projections", "verify", "activity_totals")).code == 0


async def test_a_projection_of_one_s_own(cli: Cli) -> None:
    (cli.folder / "my_views.py").write_text(MY_VIEWS)
    named = "--projection", "my_views:by_sender"
    environment = {"PYTHONPATH": str(cli.folder)}
    async with opened(cli) as log:
        await log.append([MessageReceived(conversation="c", sender="ada", text=t) for t in "abc"])
        await log.append(MessageReceived(conversation="c", sender="bob", text="poison"))
        place = log.partition_of("c")
    rebuilt = await cli.run("projections", "rebuild", "by_sender", *named, **environment)
    assert rebuilt.code == 0, rebuilt
    then = ["projections", "at", "by_sender", *named]
    told = await cli.run(*then, "--position", f"{place}/2", **environment)
    assert told.documents() == [{"partition": place, "key": "ada", "state": 2}]
    now = await cli.run(*then, "--time", "2999-01-01", "--key", "ada", **environment)
    assert [each["state"] for each in now.documents()] == [3]
    letters = (await cli.run("dead-letters", "--json")).json()["dead_letters"]
    assert [letter["group"] for letter in letters] == ["projector:by_sender"]
    assert (await cli.run("projections", "verify", "by_sender", *named, **environment)).code == 0
    assert "by_sender" in (await cli.run("projections")).out, "no program has it: it is shown"
    assert (await cli.run("projections", "retire", "by_sender")).code == 0
    assert "by_sender" not in (await cli.run("projections")).out


async def test_bad_words_get_one_line_and_the_remedy(cli: Cli) -> None:
    results = await side_by_side(
        [
            cli.run("projections", "rebuild", "nothing"),
            cli.run("projections", "at", "sessions"),
            cli.run("projections", "at", "sessions", "--time", "yesterday"),
            cli.run("projections", "at", "sessions", "--position", "x/y"),
            cli.run("projections", "at", "sessions", "--position", "9/1"),
            cli.run("projections", "verify", "--projection", "nowhere:Tools"),
            cli.run("projections", "at", "sessions", "--time", "\udcff"),
        ]
    )
    for result in results:
        assert_one_line_error(result, 2)


async def test_an_interrupted_rebuild_is_gone_on_with(cli: Cli) -> None:
    assert (await cli.run("import", SAMPLE)).code == 0
    async with opened(cli) as log:
        models = RedisModels(log)
        begun = [await models.begin(p, Build("sessions", 2, "abc")) for p in range(2)]
        assert {build.made for build in begun} == {"abc"}
        assert "2: 0%" in (await cli.run("projections")).out
        assert (await cli.run("projections", "rebuild", "sessions")).code == 0
        for partition in range(2):
            assert (await models.shelf(partition)).get("sessions", "serving") == begun[partition]


async def test_a_build_that_nobody_works_on_is_taken_up_by_eventlog_up(cli: Cli) -> None:
    assert (await cli.run("import", SAMPLE)).code == 0
    async with opened(cli) as log:
        models = RedisModels(log)
        for partition in range(2):
            await models.begin(partition, Build("history", 1, "abc"))

        async def is_served() -> bool:
            shelves = await asyncio.gather(*(models.shelf(p) for p in range(2)))
            return all(s.get("history", "serving") == Build("history", 1, "abc") for s in shelves)

        async with cli.running("up") as up:
            await eventually(is_served, timeout_s=20)
            assert (await up.stop(signal.SIGINT)).code == 0
