"""`eventlog worker`, `groups` and `dead-letters`, each command as a process of its own."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import select
import signal
import termios
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from consumers.dead_letters import persist_failed_delivery
from consumers.group_status import group_status
from consumers.registration import register
from eventlog import Event, EventLog, MessageQueued, MessageReceived, Settings
from eventlog.embedded import EmbeddedServer
from eventlog.vocabulary import DeadLetterParked
from projections.views.dead_letters import DeadLetter, DeadLetters
from service.cli.main import run as run_here
from service.wiring import new_archiver
from tests.cli import COMMAND, Cli, Result, side_by_side
from tests.contract.test_cli import assert_one_line_error
from tests.support import eventually

MY_BOT = '''
import asyncio
import contextlib
import pathlib

from consumers import DeliveryHandlers, Handlers, Limits, Retry, Worker
from consumers.senders.sender import Receipt
from eventlog import Event, MessageSent

class Paid(Event, tag="shop.paid", frozen=True, kw_only=True):
    cents: int

class Thanked(Event, tag="shop.thanked", frozen=True, kw_only=True):
    text: str

handlers = Handlers(retry=Retry(attempts=2, first_delay_s=0.02, jitter=0))

@handlers.on("message.received")
async def answer(event, context):
    if event.text == "slow":
        await asyncio.sleep(600)
    if event.text == "fail" and not pathlib.Path("mended").exists():
        raise ValueError("that went wrong")
    reply = MessageSent(conversation=event.conversation, text=f"{event.text}!", sender=context.group)
    context.append(reply)

@handlers.on(Paid)
def thank(event, context):
    context.append(Thanked(conversation=event.conversation, text=f"{event.cents} cents!"))

class Sender:
    async def send(self, message, delivery):
        return Receipt("m1")

    async def close(self):
        pathlib.Path("closed").touch()

deliveries = DeliveryHandlers({"chat": Sender()})
nothing = Handlers()

def make(log):
    return Worker(log, "made", handlers, limits=Limits(concurrency=1))

async def make_later(log):
    return Worker(log, "made_later", handlers)

@contextlib.asynccontextmanager
async def make_within(log):
    yield Worker(log, "made_within", handlers)
    pathlib.Path("ended").touch()

def make_nothing(log):
    return None

def fail(log):
    return {}["no"]
'''  # fmt: skip


class Paid(Event, tag="shop.paid", frozen=True, kw_only=True):
    cents: int


class Thanked(Event, tag="shop.thanked", frozen=True, kw_only=True):
    text: str


CTRL_C, CTRL_D = "\x03", "\x04"
ANSWERS_AT_MOST = 60


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """Commands on a log of two partitions beside a bot's module; its server is kept up."""
    made = Cli(tmp_path, EVENTLOG_PARTITION_COUNT="2", EVENTLOG_LEASE_TTL_MS="500")
    (tmp_path / "mybot.py").write_text(MY_BOT)
    server = EmbeddedServer(Settings(data_dir=str(made.data)))
    server.start()
    try:
        yield made
    finally:
        server.release()


@asynccontextmanager
async def opened(cli: Cli) -> AsyncIterator[EventLog]:
    settings = Settings(data_dir=str(cli.data), partition_count=2, lease_ttl_ms=500)
    async with EventLog.open(settings=settings, types=[Paid, Thanked]) as log:
        yield log


async def say(log: EventLog, *texts: str, conversation: str = "chat:1") -> None:
    await log.append([MessageReceived(conversation=conversation, text=text) for text in texts])


async def sent(log: EventLog, conversation: str = "chat:1") -> list[str]:
    """Return the texts of what was sent there."""
    found = [entry.event for entry in await log.read(conversation=conversation)]
    return [
        str(getattr(each, "text", ""))
        for each in found
        if each.type in ("message.sent", "shop.thanked")
    ]


async def letters_of(cli: Cli, *words: str) -> list[dict[str, object]]:
    listed = (await cli.run("dead-letters", *words, "--json")).json()["dead_letters"]
    return sorted(listed, key=lambda each: str(each["letter"]))


async def answered(cli: Cli, answer: str, *words: str) -> tuple[int, str]:
    """Return exit code and screen of a command at a terminal where its question is answered."""
    parent, child = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *words, cwd=cli.folder, env=cli.environment(NO_COLOR="1"),
        stdin=child, stdout=child, stderr=child, start_new_session=True,
        preexec_fn=_own_terminal,
    )  # fmt: skip
    os.close(child)
    try:
        screen = await asyncio.to_thread(_converse, parent, answer)
        return await process.wait(), screen
    finally:
        if process.returncode is None:
            process.kill()  # else nobody ends the thread that reads its terminal
        os.close(parent)


def _own_terminal() -> None:
    """Make standard input the terminal whose Ctrl-C this process gets."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _converse(terminal: int, answer: str) -> str:
    """Answer the question, and once a second again, as a person does whose key was not taken.

    Python misses a signal that comes between its last look and the read that waits.
    """
    content, is_answered = b"", False
    for _ in range(ANSWERS_AT_MOST):
        if not select.select([terminal], [], [], 1)[0]:
            if is_answered:
                os.write(terminal, answer.encode())
            continue
        try:
            part = os.read(terminal, 65536)
        except OSError:  # the terminal's other side is closed
            return content.decode()
        if not part:
            return content.decode()
        content += part
        if b"[y/N]" in content and not is_answered:
            os.write(terminal, answer.encode())
            is_answered = True
    raise AssertionError(f"the command did not take {answer!r}: {content.decode()}")


# --- worker


async def test_once_handles_what_is_there_and_says_what_became_of_it(cli: Cli) -> None:
    async with opened(cli) as log:
        await say(log, "one", "two")
        await say(log, "fail", conversation="chat:2")
        await log.append(Paid(conversation="chat:1", cents=995))
        words = "worker", "mybot:handlers", "--once", "--concurrency", "7"
        runs = [await cli.run(*words)]
        while "left: " in runs[-1].err:  # its second attempt was not due yet
            runs.append(await cli.run(*words))
        assert await sent(log) == ["one!", "two!", "995 cents!"]
    assert {run.code for run in runs} == {3}, "something was left, and in the end parked"
    assert " done with, 1 of them parked as dead letters.\n" in runs[-1].out
    assert "`eventlog dead-letters --group mybot`" in runs[-1].err
    assert runs[0].err.splitlines()[0] == (
        f"group 'mybot' of log 'eventlog' in {cli.data} handles message.received, shop.paid,"
        " up to 7 at once"
    )
    [letter] = await letters_of(cli, "--group", "mybot")
    assert (letter["reason"], letter["attempts"]) == ("ValueError", 2)


async def test_it_works_until_it_is_told_to_stop_and_has_nothing_in_hand_then(cli: Cli) -> None:
    async with opened(cli) as log:
        async with cli.running("worker", "mybot:handlers", "--group", "greeter") as worker:
            await worker.said("group 'greeter'")
            await worker.said("Ctrl-C stops it")
            await say(log, "hello")

            async def is_answered() -> bool:
                return await sent(log) == ["hello!"]

            await eventually(is_answered)
            ended = await worker.stop(signal.SIGINT)
        assert (ended.code, ended.out) == (0, "")
        assert ended.err.splitlines()[-1] == "stopped, nothing in hand"
        status = await group_status(log, "greeter")
        assert (status.members, status.pending_count) == ([], 0)


async def test_a_second_signal_ends_it_at_once_and_what_ran_is_handled_again(cli: Cli) -> None:
    async with opened(cli) as log:
        await say(log, "slow")
        async with cli.running("worker", "mybot:handlers") as worker:

            async def has_begun() -> bool:
                return (await group_status(log, "mybot")).pending_count == 1

            await eventually(has_begun)
            worker._process.send_signal(signal.SIGINT)
            await worker.said("what runs may end first")
            begun_s = time.monotonic()
            ended = await worker.stop(signal.SIGINT)
            assert time.monotonic() - begun_s < 5
            assert ended.code == 130
            assert "Traceback" not in ended.err
        assert (await group_status(log, "mybot")).lag_count == 1


async def test_where_a_new_group_begins(cli: Cli) -> None:
    async with opened(cli) as log:
        await say(log, "before")
        now = await cli.run("worker", "mybot:handlers", "--once", "--from", "now")
        assert now.out.startswith("0 entries done with")
        await say(log, "after")
        await cli.run("worker", "mybot:handlers", "--once", "--from", "beginning")
        assert await sent(log) == ["after!"]


async def test_a_function_makes_a_worker_of_its_own(cli: Cli) -> None:
    async with opened(cli) as log:
        await log.append(Paid(conversation="chat:1", cents=5))
        results = await side_by_side(
            cli.run("worker", f"mybot:{name}", "--once")
            for name in ("make", "make_later", "make_within")
        )
        assert [result.code for result in results] == [0, 0, 0], results
        assert "group 'made' of" in results[0].err
        assert await sent(log) == ["5 cents!"] * 3
    assert (cli.folder / "ended").exists()


async def test_deliveries_are_made_and_their_senders_closed(cli: Cli) -> None:
    async with opened(cli) as log:
        await log.append(MessageQueued(conversation="chat:1", text="out"))
        result = await cli.run("worker", "mybot:deliveries", "--group", "delivery", "--once")
        assert result.code == 0, result
        assert await sent(log) == ["out"]
    assert (cli.folder / "closed").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("mybot", "'mybot' names no object. Write it as MODULE:OBJECT"),
        ("nowhere:handlers", "there is no module 'nowhere' in "),
        ("mybot.py:handlers", "without .py"),
        ("mybot:handles", "mybot has no 'handles'. Its handlers: handlers, deliveries, nothing."),
        ("mybot:Paid", "mybot:Paid is a class"),
        ("mybot:MY", "has no 'MY'"),
        ("mybot:nothing", "handles nothing"),
        ("mybot:make|--group|g", "makes a worker of its own"),
        ("mybot:make_nothing", "returned what is of type NoneType, no Worker"),
        ("mybot:fail", "mybot:fail failed: KeyError at "),
        ("mybot:handlers|--group|projector", "no name for a consumer group"),
        ("mybot:handlers|--from|yesterday", "is not one of 'beginning', 'now'"),
        ("broken:handlers", "ModuleNotFoundError at "),
        ("crooked:handlers", "SyntaxError"),
        ("leaving:handlers", "SystemExit at "),
    ],
)
def test_what_cannot_be_worked_is_said_in_one_line(
    words: str,
    said: str,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (cli.folder / "broken.py").write_text("import nothing_of_that_name")
    (cli.folder / "crooked.py").write_text("x = (")
    (cli.folder / "leaving.py").write_text("raise SystemExit(0)")
    monkeypatch.chdir(cli.folder)
    monkeypatch.syspath_prepend(str(cli.folder))
    for name in ("mybot", "broken", "crooked", "leaving"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    monkeypatch.setenv("EVENTLOG_DATA_DIR", str(cli.data))
    code = run_here(["worker", *words.split("|")])
    shown = capsys.readouterr()
    assert_one_line_error(Result(code, shown.out, shown.err), 2)
    assert said in shown.err


# --- groups


async def test_groups_are_listed_with_what_is_left_for_them(cli: Cli) -> None:
    async with opened(cli) as log:
        await say(log, "one", "two", "three")
        await register(log, "idle")
        await cli.run("worker", "mybot:handlers", "--once")
        bare, listed, as_json, by_partition, status, status_json = await side_by_side(
            [
                cli.run("groups"),
                cli.run("groups", "list"),
                cli.run("groups", "--json"),
                cli.run("groups", "--partitions"),
                cli.run("status"),
                cli.run("status", "--json"),
            ]
        )
    rows = {line.split()[0]: line.split() for line in bare.out.splitlines()}
    assert rows["idle"][1:4] == ["yours", "6", "0"]
    assert rows["idle"][-1] == rows["mybot"][-1] == "0", "workers"
    assert [line.split()[:3] for line in listed.out.splitlines()] == [
        line.split()[:3] for line in bare.out.splitlines()
    ]
    assert "nobody works for 'idle'" in bare.err
    assert "`eventlog groups retire idle --reason …`" in bare.err
    groups = {each["name"]: each for each in as_json.json()["groups"]}
    assert (groups["idle"]["lag_count"], groups["idle"]["built_in"]) == (6, False)
    assert [part["partition"] for part in groups["mybot"]["partitions"]] == [0, 1]
    assert len([x for x in by_partition.out.splitlines() if x.startswith("idle ")]) == 2
    assert any(line.split()[:2] == ["idle", "6"] for line in status.out.splitlines())
    told = status_json.json()
    assert [each["name"] for each in told["groups"]] == ["idle", "mybot"]
    assert [each["partition"] for each in told["projector"]] == [0, 1]


async def test_the_product_s_own_groups_are_marked_and_stay(cli: Cli) -> None:
    async with opened(cli) as log:
        await say(log, "one")
        async with new_archiver(log) as archiver:
            await archiver.run_once()
    shown = await cli.run("groups")
    assert ["archiver", "built", "in"] in [line.split()[:3] for line in shown.out.splitlines()]
    refused = await cli.run("groups", "retire", "archiver", "--reason", "x", "--yes")
    assert_one_line_error(refused, 2)


async def test_a_group_is_retired_when_somebody_says_so(cli: Cli) -> None:
    async with opened(cli) as log:
        await say(log, "one", "two")
        await register(log, "idle")
        words = "groups", "retire", "idle", "--reason", "the bot is gone"
        unasked = await cli.run(*words)
        assert_one_line_error(unasked, 2)
        assert "It leaves 2 entries unhandled" in unasked.err
        assert "--yes" in unasked.err
        for answer, expected in (("n\n", 1), (CTRL_C, 130), (CTRL_D, 1)):
            code, screen = await answered(cli, answer, *words)
            assert (code, "nothing is changed" in screen) == (expected, True), screen
        assert (await group_status(log, "idle")).lag_count == 2
        code, screen = await answered(cli, "y\n", *words)
        assert (code, "idle is retired; it left 2 entries unhandled" in screen) == (0, True)
        retired = [e.event for e in await log.read(conversation="eventlog:groups")]
        assert [event.type for event in retired] == ["group.retired"]
        again = await cli.run(*words, "--yes")
        assert_one_line_error(again, 1)
        assert "there is no group 'idle'" in again.err


async def test_a_group_with_a_worker_is_not_retired(cli: Cli) -> None:
    async with opened(cli) as log, cli.running("worker", "mybot:handlers") as worker:
        await worker.said("Ctrl-C")

        async def is_there() -> bool:
            return bool((await group_status(log, "mybot")).members)

        await eventually(is_there)
        refused = await cli.run("groups", "retire", "mybot", "--reason", "x", "--yes")
        assert_one_line_error(refused, 1)
        assert "has live workers" in refused.err
        await worker.stop(signal.SIGTERM)


# --- dead letters


async def park(log: EventLog, name: str, conversation: str = "chat:1", **keys: str) -> None:
    await register(log, "delivery")
    await persist_failed_delivery(
        log, conversation=conversation, text=f"text of {name}", letter=name, **keys
    )


async def statuses(log: EventLog, *names: str) -> list[str]:
    found = [await DeadLetters(log).get(name) for name in names]
    return [each.status if each else "none" for each in found]


async def failed(cli: Cli, log: EventLog) -> DeadLetter:
    """Return the letter of an entry that the bot has given up on."""
    await say(log, "fail")
    async with cli.running("worker", "mybot:handlers") as worker:
        await worker.said("entry_parked")
        await worker.stop(signal.SIGINT)
    [letter] = (await DeadLetters(log).list(group="mybot")).items
    return letter


async def test_a_letter_is_shown_whole(cli: Cli) -> None:
    async with opened(cli) as log:
        letter = await failed(cli, log)
        async with new_archiver(log) as archiver:
            await archiver.run_once()
        await log.client.xtrim(log.keys.stream(log.partition_of("chat:1")), maxlen=1)
        shown, as_json, missing = await side_by_side(
            [
                cli.run("dead-letters", "show", letter.letter),
                cli.run("dead-letters", "show", letter.letter, "--json"),
                cli.run("dead-letters", "show", "nothing"),
            ]
        )
    assert (shown.code, shown.err) == (0, "")
    assert "\n    File " in shown.out, "its traceback, indented as it is"
    assert shown.out.count("ValueError: that went wrong") >= 4
    assert '\n    "type": "message.received",\n' in shown.out
    document = as_json.json()
    assert document["payload"]["text"] == "fail"
    assert [each["attempt"] for each in document["failures"]] == [1, 2]
    assert_one_line_error(missing, 2)


async def test_the_group_s_worker_is_asked_and_waited_for(cli: Cli) -> None:
    async with opened(cli) as log:
        letter = await failed(cli, log)
        async with cli.running("worker", "mybot:handlers") as worker:
            await worker.said("Ctrl-C")

            async def is_there() -> bool:
                return bool((await group_status(log, "mybot")).members)

            await eventually(is_there)
            words = "dead-letters", "replay", letter.letter, "--wait"
            again = await cli.run(*words)
            assert (again.code, again.err) == (3, "")
            assert again.out == "1 requested\n0 resolved, 1 failed again, 0 discarded\n"
            (cli.folder / "mended").touch()
            mended = await cli.run(*words, "--json")
            assert mended.code == 0
            assert mended.json() == {
                "letters": [{"letter": letter.letter, "status": "requested"}],
                "counts": {"requested": 1},
                "left_out_count": 0,
                "settled": {"resolved": 1},
            }
            await worker.stop(signal.SIGINT)
        assert await sent(log) == ["fail!"]


async def test_without_a_worker_the_request_waits_and_says_for_whom(cli: Cli) -> None:
    async with opened(cli) as log:
        await park(log, "l")
        asked = await cli.run("dead-letters", "replay", "l")
        assert (asked.code, asked.out) == (0, "1 requested\n")
        assert "`eventlog worker MODULE:OBJECT --group delivery`" in asked.err
        again = await cli.run("dead-letters", "replay", "l")
        assert (again.code, again.out) == (3, "")
        assert "l is replaying" in again.err
        assert [each["letter"] for each in await letters_of(cli, "--status", "replaying")] == ["l"]
        assert "being replayed: 1" in (await cli.run("dead-letters")).err
        assert (
            await cli.run("worker", "mybot:deliveries", "--group", "delivery", "--once")
        ).code == 0
        assert await statuses(log, "l") == ["resolved"]
        assert await sent(log) == ["text of l"]


async def test_what_nobody_would_ever_try_is_left_alone(cli: Cli) -> None:
    async with opened(cli) as log:
        await park(log, "l", group="bounces")
        asked = await cli.run("dead-letters", "replay", "l")
        assert asked.code == 3
        assert "no worker of group 'bounces' has ever run here" in asked.err
        assert await statuses(log, "l") == ["parked"]


async def test_what_waits_for_its_group_in_vain_is_discarded(cli: Cli) -> None:
    async with opened(cli) as log:
        for name in ("one", "two"):
            await park(log, name)
        assert (await cli.run("dead-letters", "replay", "--all", "--yes")).code == 0
        words = "discard", "--replaying", "--group", "delivery", "--because", "it is gone", "--yes"
        discarded = await cli.run("dead-letters", *words)
        assert (discarded.code, discarded.out) == (0, "2 discarded\n")
        assert await statuses(log, "one", "two") == ["discarded"] * 2


async def test_filters_are_combined_and_the_oldest_come_first(cli: Cli) -> None:
    async with opened(cli) as log:
        for number in range(4):
            await park(log, f"busy{number}", reason="busy")
        await park(log, "elsewhere", "chat:2", reason="busy")
        await park(log, "gone", reason="gone")
        words = ["replay", "--reason", "busy", "--conversation", "chat:1", "--newer-than", "1h"]
        limited = await cli.run("dead-letters", *words, "--limit", "3", "--yes")
        assert (limited.code, limited.out) == (3, "3 requested\n")
        assert "the oldest 3 of 4" in limited.err
        names = "busy0", "busy1", "busy2", "busy3", "elsewhere", "gone"
        assert await statuses(log, *names) == ["replaying"] * 3 + ["parked"] * 3
        rest = await cli.run("dead-letters", "replay", "--all", "--yes", "--json")
        assert rest.json()["counts"] == {"requested": 3}


async def test_letters_are_discarded_when_somebody_says_so(cli: Cli) -> None:
    async with opened(cli) as log:
        for name in ("one", "two", "three"):
            await park(log, name)
        words = "dead-letters", "discard", "--group", "delivery", "--because", "too late"
        unasked = await cli.run(*words)
        assert_one_line_error(unasked, 2)
        assert "Discard 3 letters (failed 3), parked " in unasked.err
        code, screen = await answered(cli, "n\n", *words)
        assert (code, "nothing is changed" in screen) == (1, True)
        assert await statuses(log, "one", "two", "three") == ["parked"] * 3
        one = await cli.run("dead-letters", "discard", "one", "--because", "sent by hand")
        assert (one.code, one.out) == (0, "1 discarded\n")
        code, screen = await answered(cli, "y\n", *words)
        assert (code, "2 discarded" in screen) == (0, True)
        reasons = [getattr(e.event, "reason", "") for e in await log.read(conversation="chat:1")]
        assert reasons[3:] == ["sent by hand", "too late", "too late"]


async def test_what_a_projection_has_parked_is_not_replayed(cli: Cli) -> None:
    async with opened(cli) as log:
        await log.append(
            DeadLetterParked(
                conversation="c",
                letter="p",
                group="projector:tools",
                reason="poison",
                origin="0/1-1",
            )
        )
        result = await cli.run("dead-letters", "replay", "--all", "--yes")
        assert (result.code, result.out) == (3, "")
        assert "`eventlog projections rebuild tools`" in result.err
        assert await statuses(log, "p") == ["parked"]


async def test_letters_are_exported_with_their_payloads(cli: Cli) -> None:
    async with opened(cli) as log:
        letter = await failed(cli, log)
        for number in range(20):
            await park(log, f"l{number:02}", reason="busy")
        file = cli.folder / "letters.jsonl"
        whole, some, named, one = await side_by_side(
            [
                cli.run("dead-letters", "export"),
                cli.run("dead-letters", "export", "--reason", "busy", "-o", file, "--limit", "17"),
                cli.run("dead-letters", "export", "l03", letter.letter),
                cli.run("dead-letters", "export", "--status", "resolved"),
            ]
        )
    assert (whole.code, whole.err, len(whole.documents())) == (0, "", 21)
    [payload] = [each["payload"] for each in whole.documents() if each["payload"]]
    assert (payload["type"], payload["text"]) == ("message.received", "fail")
    assert (some.code, "--all has them all" in some.err) == (3, True)
    written = [json.loads(line) for line in file.read_text().splitlines()]
    assert {each["reason"] for each in written} == {"busy"}
    assert len(written) == 17
    assert [each["letter"] for each in named.documents()] == ["l03", letter.letter]
    assert (one.code, one.out) == (0, "")


async def test_an_export_that_fails_leaves_what_was_there(cli: Cli) -> None:
    async with opened(cli) as log:
        await park(log, "l")
    file = cli.folder / "letters.jsonl"
    file.write_text("as before")
    missing = await cli.run("dead-letters", "export", "nothing", "--output", file)
    assert_one_line_error(missing, 2)
    assert file.read_text() == "as before"
    assert not list(cli.folder.glob(".*.part"))
    piped = await cli.shell("eventlog dead-letters export | head -c 4")
    assert (piped.code, len(piped.out), piped.err) == (0, 4, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("replay", "no letters to replay. Give names, a filter, or --all."),
        ("discard|--because|x", "no letters to discard."),
        ("discard|--all|--because| ", "--because is blank"),
        ("discard|--all", "Missing option '--because'"),
        ("replay|l|--group|g", "by name and by filter"),
        ("replay|nothing", "there is no dead letter 'nothing'"),
        ("replay|--older-than|2h|--newer-than|1h", "must be longer ago"),
        ("--group|g|replay|--all", "an option stands before 'replay'"),
        ("--json|list", "an option stands before 'list'"),
        ("list|--status|parked|--group|g", "one of status"),
        ("export|--status|lost", "is not one of 'parked'"),
        ("export|--output|.", "cannot write .: name a file"),
        ("export|--output|no/letters.jsonl", "in a folder that exists"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    words: str,
    said: str,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("EVENTLOG_DATA_DIR", str(cli.data))
    code = run_here(["dead-letters", *words.split("|")])
    shown = capsys.readouterr()
    assert_one_line_error(Result(code, shown.out, shown.err), 2)
    assert said in shown.err
