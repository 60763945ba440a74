"""Rights on a real server: what each role's programs do works, and nothing else does."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from analytics.retention import Policy
from analytics.trimmer import Retention
from bridge import Bridge
from consumers import Worker
from consumers.groups import groups, retire
from eventlog import EventLog
from eventlog.errors import AuthenticationFailed
from eventlog.named_lock import NamedLock
from eventlog.server_binary import find_server_binary
from projections.projecting.projector import Projector
from projections.views.history import History
from projections.views.sessions import Sessions
from service.acl import ROLES, Role, commands_of, rules, user_line
from service.checks import examine
from service.cli.main import run
from service.metrics import Metrics
from service.wiring import new_archiver, open_warehouse
from tests.logs import message
from tests.support import SERVER_BINARY, RawServer
from tests.working import QUICK

LOG = "app"
FORBIDDEN = (
    "FLUSHALL",
    "FLUSHDB",
    "KEYS *",
    "CONFIG GET *",
    "CONFIG SET maxmemory 1",
    "SHUTDOWN NOSAVE",
    "ACL LIST",
    "REPLICAOF NO ONE",
    "MODULE LIST",
    "SCRIPT FLUSH",
    "MONITOR",
    "CLIENT KILL TYPE normal",
    "GET other",
    "SET other 1",
    "XRANGE {app2:0}:stream - +",
    "XRANGE {app:b:0}:stream - +",
    "HGETALL {app2}:meta",
)


class Guarded:
    """A server with a user for each role of one log."""

    def __init__(self, path: str, archive: Path) -> None:
        self._path = path
        self._archive = archive

    def url(self, role: Role) -> str:
        return f"unix://{LOG}-{role}@{self._path}?password={role}"

    def log(self, role: Role, name: str = LOG) -> EventLog:
        return EventLog.open(self.url(role), key_prefix=name, archive_dir=self._archive)

    def client(self, role: Role | None = None) -> redis.Redis:
        user = {} if role is None else {"username": f"{LOG}-{role}", "password": role}
        return redis.Redis(unix_socket_path=self._path, **user)

    def denied(self, role: Role, command: str) -> bool:
        with self.client(role) as client:
            try:
                client.execute_command(*command.split())
            except redis.exceptions.NoPermissionError:
                return True
        return False


@pytest.fixture(scope="module", params=[None, "redis-server"], ids=["bundled", "on PATH"])
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    """The server of all tests, and where there is one Redis 7.0 from PATH."""
    binary: str | None = request.param
    if binary is not None and shutil.which(binary) is None:
        pytest.skip(f"no {binary}")
    program = find_server_binary(binary or SERVER_BINARY)
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    before_7_2 = "v=7.0." in version.stdout
    folder = tmp_path_factory.mktemp("acl")
    lines = (
        user_line(
            role,
            LOG,
            f"{LOG}-{role}",
            hashlib.sha256(role.encode()).hexdigest(),
            before_7_2=before_7_2,
        )
        for role in ROLES
    )
    users = folder / "users.acl"
    users.write_text("user default on nopass ~* &* +@all\n" + "".join(f"{e}\n" for e in lines))
    with RawServer(folder, binary=binary, appendonly="yes", aclfile=str(users)) as server:
        assert server.pid
        yield Guarded(str(folder / "raw.sock"), folder / "archive")


@pytest.fixture
async def filled(guarded: Guarded) -> Guarded:
    """With a log in which something happened, made by whoever may make one."""
    async with Bridge(guarded.log("worker")) as bridge:
        session = await bridge.sessions.resolve("telegram", user_id=1)
        await bridge.received(session, "hello", message_id=1)
    return guarded


@pytest.mark.parametrize("role", ROLES)
def test_nobody_may_do_what_is_not_of_the_log(guarded, role):
    assert [c for c in FORBIDDEN if not guarded.denied(role, c)] == []


async def test_a_producer_appends_and_reads_nothing(filled):
    async with filled.log("producer") as log:
        first = await log.append(message("a", 1, id="p1"))
        assert (await log.append(message("a", 1, id="p1"))).duplicate
        await log.append([message(f"c{n}", n) for n in range(20)])
        producer = await log.producer("lines")
        assert await producer.append([(n, message("b", n)) for n in range(1, 5)]) == 4
        lock = NamedLock(log, "a", "writing")
        async with lock.hold():
            await log.append(message("a", 2), fence=lock.fence)
        assert (await log.heads())[first.partition] > first.id
        with pytest.raises(AuthenticationFailed, match="xrange"):
            await log.read(conversation="a")
        with pytest.raises(AuthenticationFailed, match=r"config\|get"):
            await log.append(message("a", 3), durability="fsync")
        with filled.client() as everybody:
            everybody.execute_command("ACL", "SETUSER", f"{LOG}-producer", "+config|get")
            everybody.config_set("appendfsync", "always")
        try:
            await log.append(message("a", 3), durability="fsync")
        finally:
            with filled.client() as everybody:
                everybody.config_set("appendfsync", "everysec")
                everybody.execute_command("ACL", "SETUSER", f"{LOG}-producer", "-config|get")
    for command in (
        "XRANGE {app:0}:stream - +",
        "XTRIM {app:0}:stream MAXLEN 0",
        "DEL {app:0}:stream",
        "HSET {app}:meta epoch x",
        "HGETALL {app}:groups",
        "HGETALL {app:0}:shelf",
    ):
        assert filled.denied("producer", command), command


async def test_a_reader_sees_everything_and_changes_nothing(filled):
    async with filled.log("reader") as log:
        chat = "telegram:1"
        assert [e.event.type for e in await log.read(conversation=chat)][-1] == "message.received"
        assert (await History(log).last(chat)).entries
        assert (await Sessions(log).list()).items
        tail = await log.tail("start")
        assert (await anext(tail)).event
        assert await groups(log) is not None
        async with open_warehouse(log) as warehouse:
            assert await warehouse.query("FROM events")
        text = await Metrics(log).render()
        assert "eventlog_up 1.0" in text
        assert "eventlog_archive_up 1.0" in text
        assert {f.verdict for f in await examine(log) if f.check in ("server", "clock")} == {"fine"}
        with pytest.raises(AuthenticationFailed, match=r"eventlog acl"):
            await log.append(message("a", 1))
    for command in (
        "XADD {app:0}:stream * e 1",
        "XTRIM {app:0}:stream MAXLEN 0",
        "XGROUP DESTROY {app:0}:stream g",
        "DEL {app:0}:stream",
        "SET {app:0}:head 0-0",
        "EVAL return(redis.call('SET',KEYS[1],'x')) 1 {app:0}:head",
    ):
        with filled.client("reader") as client, pytest.raises(redis.exceptions.ResponseError):
            client.execute_command(*command.split())


async def test_a_worker_handles_projects_archives_and_trims(filled):
    async with filled.log("worker") as log:
        await log.append([message(f"w{n}", n) for n in range(10)])
        worker = Worker(log, "g")

        @worker.on("message.received", retry=QUICK)
        async def handle(event, context):
            context.append(message(event.conversation, "more")) if event.text == "0" else None
            if event.text == "1":
                raise ValueError

        await worker.run_once()
        await Projector(log).run_until_caught_up()
        async with new_archiver(log) as archiver:
            assert await archiver.run_once()
        everything = Policy(age_ms=0, recent_ms=0)
        applied = await Retention(log, archiver.catalogue.storage, everything).apply()
        assert applied.trimmed_count
    for command in ("XGROUP DESTROY {app:0}:stream g", "RENAME {app:0}:stream {app:0}:x"):
        assert filled.denied("worker", command), command


async def test_an_admin_retires_groups(filled):
    async with filled.log("worker") as log:
        await Worker(log, "gone").run_once()
    async with filled.log("admin") as log:
        assert (await retire(log, "gone", "not needed")).name == "gone"


@pytest.mark.parametrize("role", ROLES)
async def test_no_role_opens_another_log(filled, role):
    with pytest.raises(AuthenticationFailed):
        async with filled.log(role, "app2"):
            pass


def test_roles_grow_and_nothing_is_granted_by_category():
    assert set(commands_of("reader")) < set(commands_of("worker")) < set(commands_of("admin"))
    assert set(commands_of("producer")) < set(commands_of("worker"))
    for role in ROLES:
        granted = [rule for rule in rules(role, LOG) if rule.startswith("+")]
        assert not [rule for rule in granted if "@" in rule]


class TestCommand:
    def test_all_roles_by_the_settings_log_without_a_server(self, monkeypatch, capsys):
        monkeypatch.setenv("EVENTLOG_KEY_PREFIX", "bot")
        monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
        assert run(["acl"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[:3] for line in lines] == [
            ["user", f"bot-{role}", "reset"] for role in ROLES
        ]

    def test_a_password_is_printed_as_its_digest(self, tmp_path, capsys):
        secret = tmp_path / "password"
        secret.write_text("s3cret\n")
        words = ["acl", "reader", "--log", "bot", "--user", "me", "--password-file", str(secret)]
        assert run(words) == 0
        shown = capsys.readouterr()
        digest = hashlib.sha256(b"s3cret").hexdigest()
        assert shown.out.startswith(f"user me reset #{digest} on resetkeys ")
        assert "s3cret" not in shown.out + shown.err

    @pytest.mark.parametrize(
        "words",
        [
            ["acl", "king"],
            ["acl", "--user", "x"],
            ["acl", "reader", "--log", "a b"],
            ["acl", "reader", "--user", "a ~*"],
            ["acl", "reader", "--password-file", "nowhere"],
        ],
    )
    def test_nonsense_is_wrong_usage(self, words, capsys):
        assert run(words) == 2
        assert capsys.readouterr().out == ""
