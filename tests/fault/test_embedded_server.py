from __future__ import annotations

import fcntl
import itertools
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote

import psutil
import pytest
import redis

from eventlog import embedded
from eventlog.clock import SYSTEM_CLOCK, Clock, SystemClock
from eventlog.embedded import EmbeddedServer, classify, make_private
from eventlog.errors import EmbeddedServerFailed, LogUnavailable
from eventlog.server_binary import find_server_binary
from eventlog.settings import Settings
from tests.support import eventually_sync

Opener = Callable[..., EmbeddedServer]


@pytest.fixture
def opener(tmp_path: Path) -> Iterator[Opener]:
    """Makes users of one data directory; whatever runs there at the end is ended."""
    made: list[EmbeddedServer] = []

    def make(
        directory: Path | None = None, clock: Clock = SYSTEM_CLOCK, **settings: object
    ) -> EmbeddedServer:
        chosen = {"data_dir": str(directory or tmp_path / "data"), **settings}
        made.append(EmbeddedServer(Settings(**chosen), clock=clock))
        return made[-1]

    yield make
    for server in made:
        server.release()
    for server in made:
        if (pid := server.pid) is not None:
            os.kill(pid, signal.SIGKILL)


@contextmanager
def client_of(url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(url, retry=None) as client:
        yield client


def write(url: str, count: int) -> None:
    with client_of(url) as client, client.pipeline(transaction=False) as pipe:
        for number in range(count):
            pipe.execute_command("XADD", "s", f"1-{number + 1}", "e", f"event {number}")
        pipe.execute()


def length(url: str) -> int:
    with client_of(url) as client:
        return client.xlen("s")


def crash(server: EmbeddedServer) -> int:
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually_sync(lambda: server.pid is None)
    return pid


def socket_of(url: str) -> Path:
    return Path(unquote(url.removeprefix("unix://")))


def append_only_file(server: EmbeddedServer) -> Path:
    return next((server.directory / "appendonlydir").glob("*.incr.aof"))


def wrapper(tmp_path: Path, text: str) -> str:
    """Return a server program that runs `text` first; in it "$@" starts the real one's options."""
    script = tmp_path / "wrapped-server"
    script.write_text(f'#!/bin/sh\n{text}\nexec {find_server_binary(None)} "$@"\n')
    script.chmod(0o700)
    return str(script)


def slow_loader(tmp_path: Path) -> str:
    """Return a server that takes a third of a millisecond and more for each command it loads."""
    return wrapper(tmp_path, 'set -- "$@" --key-load-delay 300')


SLOW_COUNT = 3000
"""Loading takes about a second; the server answers LOADING after every 1,024 commands."""


def filled(server: EmbeddedServer) -> EmbeddedServer:
    """Return the server, stopped, with a file that takes a while to load slowly."""
    write(server.start(), SLOW_COUNT)
    server.release()
    return server


OPEN = """
import sys
from eventlog.embedded import EmbeddedServer
from eventlog.settings import Settings
server = EmbeddedServer(Settings(data_dir=sys.argv[1], server_binary=sys.argv[2] or None))
url = server.start()
print(server.pid, url, flush=True)
sys.stdin.readline()
server.release()
"""


def open_elsewhere(server: EmbeddedServer, binary: str = "") -> subprocess.Popen[str]:
    """Return a process that opens the same directory and releases it when its stdin closes."""
    return subprocess.Popen(
        [sys.executable, "-c", OPEN, str(server.directory.parent), binary],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def pid_line(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline().split()[0])


class TestSharing:
    def test_the_first_starts_and_the_last_stops(self, opener):
        first, second = opener(), opener()
        assert first.start() == second.start()
        pid = first.pid
        assert pid is not None
        assert pid == second.pid
        first.release()
        assert second.pid == pid
        second.release()
        assert second.pid is None
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    def test_what_was_written_is_there_after_the_next_start(self, opener):
        server = opener()
        write(server.start(), 100)
        server.release()
        assert length(server.start()) == 100

    def test_starting_again_adopts_the_living_server(self, opener):
        server = opener()
        url, pid = server.start(), server.pid
        assert [server.start() for _ in range(100)] == [url] * 100
        assert server.pid == pid
        server.release()
        assert server.pid is None, "a hundred starts are one claim"

    def test_releasing_what_is_not_held_does_nothing(self, opener):
        user, stranger = opener(), opener()
        stranger.release()
        user.start()
        stranger.release()
        assert user.pid is not None
        user.release()
        user.release()

    def test_processes_that_open_at_once_share_one_server(self, opener):
        here = opener()
        processes = [open_elsewhere(here) for _ in range(4)]
        pids = {pid_line(process) for process in processes}
        assert len(pids) == 1
        for process in processes[:3]:
            process.communicate()
        assert here.pid in pids
        processes[3].communicate()
        assert here.pid is None

    def test_starting_and_releasing_in_any_order_never_stops_a_server_in_use(self, opener):
        write(opener().start(), 1)
        users = [opener() for _ in range(4)]

        def come_and_go(user: EmbeddedServer) -> list[int]:
            seen = []
            for _ in range(10):
                seen.append(length(user.start()))
                user.release()
            return seen

        with ThreadPoolExecutor(len(users)) as pool:
            assert list(pool.map(come_and_go, users)) == [[1] * 10] * 4

    def test_nobody_starts_or_stops_while_another_does(self, opener):
        class Leaping(SystemClock):
            def monotonic_s(self) -> float:
                return next(hours_s)

        hours_s = itertools.count(0, 3600)
        user, newcomer = opener(), opener(clock=Leaping())
        user.start()
        newcomer.start()
        with (user.directory / "start.lock").open() as busy:
            fcntl.flock(busy, fcntl.LOCK_EX)
            with pytest.raises(EmbeddedServerFailed, match="another process"):
                opener(clock=Leaping()).start()
            with pytest.raises(EmbeddedServerFailed, match="another process"):
                newcomer.release()
        user.release()
        assert user.pid is None, "the newcomer's claim was given up all the same"

    def test_a_forked_child_gives_up_nothing_of_its_parent(self, opener):
        script = OPEN.replace(
            "sys.stdin",
            "import os\n"
            "child = os.fork()\n"
            "if child == 0:\n"
            "    server.release(); server.start(); server.release(); os._exit(0)\n"
            "assert os.waitpid(child, 0)[1] == 0\n"
            "print(server.pid, flush=True)\n"
            "sys.stdin",
        )
        here = opener()
        command = [sys.executable, "-c", script, str(here.directory.parent), ""]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert pid_line(process) == pid_line(process) == here.pid
            process.communicate()
        assert process.returncode == 0
        assert here.pid is None

    def test_only_this_user_can_enter(self, opener, tmp_path):
        (tmp_path / "data" / "server").mkdir(parents=True, mode=0o755)
        server = opener()
        url = server.start()
        assert stat.S_IMODE(server.directory.stat().st_mode) == 0o700
        assert stat.S_IMODE(socket_of(url).stat().st_mode) == 0o700
        with client_of(url) as client:
            assert client.config_get("port") == {"port": "0"}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("append*")["appendonly"] == "yes"

    def test_a_start_takes_a_moment(self, opener):
        server = opener()
        began_s = time.monotonic()
        server.start()
        assert time.monotonic() - began_s < 2, "0.05 s on an idle machine"


class TestCrashes:
    def test_of_the_opener_lose_nothing(self, opener):
        here = opener()
        process = open_elsewhere(here)
        pid = pid_line(process)
        write(f"unix://{here.directory}/server.sock", 50)
        process.kill()
        process.communicate()
        assert here.pid == pid, "the server outlives its opener"
        assert length(here.start()) == 50
        assert here.pid == pid
        here.release()
        assert here.pid is None, "a killed opener's claim ends with it"

    def test_of_the_server_lose_nothing_acknowledged(self, opener):
        server, other = opener(), opener()
        url = server.start()
        assert other.start() == url
        write(url, 50)
        old = crash(server)
        with client_of(url) as client, pytest.raises(redis.ConnectionError):
            client.ping()
        assert server.start() == url
        assert server.pid != old
        assert length(url) == 50
        assert other.start() == url
        other.release()
        assert server.pid is not None

    def test_of_the_server_while_it_is_written_to(self, opener):
        server = opener()
        url = server.start()
        acknowledged = 0
        killer = threading.Timer(0.1, crash, [server])
        killer.start()
        with client_of(url) as client, suppress(redis.ConnectionError):
            while True:
                client.xadd("s", {"e": "x" * 100})
                acknowledged += 1
        killer.join()
        assert acknowledged > 0
        assert length(server.start()) in (acknowledged, acknowledged + 1)

    def test_leave_a_stale_socket_and_a_process_id_that_is_anothers_now(self, opener):
        server = opener()
        write(server.start(), 3)
        crash(server)
        assert (server.directory / "server.sock").is_socket()
        with subprocess.Popen(["sleep", "60"]) as bystander:
            (server.directory / "server.pid").write_text(f"{bystander.pid}\n")
            assert server.pid is None
            assert length(server.start()) == 3
            assert server.pid not in (None, bystander.pid)
            server.release()
            assert bystander.poll() is None
            bystander.kill()

    @pytest.mark.parametrize("cut_bytes", [1, 2, 17, 40])
    def test_cut_the_tail_of_the_file(self, opener, cut_bytes):
        server = opener()
        write(server.start(), 20)
        crash(server)
        file = append_only_file(server)
        os.truncate(file, file.stat().st_size - cut_bytes)
        url = server.start()
        assert length(url) == 19, "only the command that was cut is gone"
        with client_of(url) as client:
            client.xadd("s", {"e": "after"}, id="2-1")
        crash(server)
        assert length(server.start()) == 20, "what came after the cut is whole"

    def test_an_empty_file_and_notes_that_were_never_written(self, opener):
        server = opener()
        write(server.start(), 5)
        crash(server)
        os.truncate(append_only_file(server), 0)
        (server.directory / "socket-path").write_text("")
        (server.directory / "server.pid").write_text("")
        assert length(server.start()) == 0
        assert server.pid is not None


class LoadingClock(SystemClock):
    """A clock that moves on only when a server answers that it is loading."""

    def __init__(self) -> None:
        self.step_s = 0.0
        self.answers: list[str] = []

    def heard(self, reply: bytes) -> str:
        self.answers.append(classify(reply))
        return self.answers[-1]

    def monotonic_s(self) -> float:
        return self.step_s * self.answers.count("loading")


@pytest.fixture
def loading_clock(monkeypatch: pytest.MonkeyPatch) -> LoadingClock:
    clock = LoadingClock()
    monkeypatch.setattr(embedded, "classify", clock.heard)
    return clock


class TestStarting:
    def test_waits_while_the_server_loads_its_file(self, opener, tmp_path, loading_clock):
        filled(opener())
        loading_clock.step_s = embedded.START_LIMIT_S  # loading is not silence
        server = opener(server_binary=slow_loader(tmp_path), clock=loading_clock)
        assert length(server.start()) == SLOW_COUNT
        assert loading_clock.answers.count("loading") > 1
        assert loading_clock.answers[-1] == "ready"

    def test_gives_up_a_server_that_loads_for_ever(self, opener, tmp_path, loading_clock):
        server = filled(opener())
        loading_clock.step_s = embedded.LOAD_LIMIT_S
        hasty = opener(server_binary=slow_loader(tmp_path), clock=loading_clock)
        with pytest.raises(EmbeddedServerFailed, match="does not answer"):
            hasty.start()
        assert length(server.start()) == SLOW_COUNT, "the server itself was left alone"

    def test_goes_on_when_the_server_is_killed_meanwhile(self, opener, tmp_path):
        filled(opener())
        loading = opener(server_binary=slow_loader(tmp_path))
        with ThreadPoolExecutor(1) as pool:
            started = pool.submit(loading.start)
            killed = eventually_sync(lambda: loading.pid)
            os.kill(killed, signal.SIGKILL)
            assert length(started.result(timeout=30)) == SLOW_COUNT
        assert loading.pid not in (None, killed)

    def test_goes_on_when_the_server_is_killed_before_it_detaches(self, opener, tmp_path):
        marker = tmp_path / "was-killed"
        binary = wrapper(tmp_path, f'if [ ! -e "{marker}" ]; then : >"{marker}"; kill -9 $$; fi')
        assert length(opener(server_binary=binary).start()) == 0
        assert marker.exists()

    def test_adopts_the_server_of_an_opener_killed_while_it_waited(self, opener, tmp_path):
        server = filled(opener())
        process = open_elsewhere(server, slow_loader(tmp_path))
        pid = eventually_sync(lambda: server.pid)
        process.kill()
        process.communicate()
        assert length(server.start()) == SLOW_COUNT
        assert server.pid == pid

    def test_a_server_that_does_not_answer_is_named_and_left_alone(self, opener, monkeypatch):
        server, other = opener(), opener()
        server.start()
        pid = server.pid
        assert pid is not None
        monkeypatch.setattr(embedded, "START_LIMIT_S", 0.1)
        monkeypatch.setattr(embedded, "PROBE_TIMEOUT_S", 0.1)
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(EmbeddedServerFailed, match=f"process {pid}"):
                other.start()
        finally:
            os.kill(pid, signal.SIGCONT)
        other.start()
        assert other.pid == pid

    def test_a_file_that_cannot_be_read_is_shown_with_the_servers_words(self, opener):
        server = opener()
        server.start()
        server.release()
        manifest = next((server.directory / "appendonlydir").glob("*.manifest"))
        text = manifest.read_text()
        manifest.write_text("nonsense\n")
        with pytest.raises(EmbeddedServerFailed, match="manifest") as caught:
            server.start()
        assert isinstance(caught.value, LogUnavailable)
        assert "REDIS_URL" in caught.value.remedy
        assert server.pid is None
        manifest.write_text(text)
        other = opener()
        other.start()
        other.release()
        assert other.pid is None, "a start that failed left no claim"

    def test_a_program_that_is_no_server(self, opener, tmp_path):
        with pytest.raises(EmbeddedServerFailed, match=r"nowhere.*no program"):
            opener(server_binary="nowhere").start()
        with pytest.raises(EmbeddedServerFailed, match="did not start"):
            opener(server_binary="false").start()
        with pytest.raises(EmbeddedServerFailed, match="ended while it started"):
            opener(server_binary="true").start()
        broken = tmp_path / "broken"
        broken.write_text("#!/no/such/interpreter\n")
        broken.chmod(0o700)
        with pytest.raises(EmbeddedServerFailed, match="cannot run"):
            opener(server_binary=str(broken)).start()
        assert opener().start(), "none of them left anything behind"

    def test_a_directory_that_cannot_be_made(self, opener, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(EmbeddedServerFailed, match="data_dir"):
            opener(tmp_path / "file").start()

    def test_a_directory_that_is_gone_is_said_at_the_end(self, opener, tmp_path):
        server = opener()
        server.start()
        pid = server.pid
        assert pid is not None
        moved = tmp_path / "moved"
        server.directory.rename(moved)
        with pytest.raises(EmbeddedServerFailed, match="is gone"):
            server.release()
        moved.rename(server.directory)
        assert server.pid == pid
        server.start()
        server.release()
        assert server.pid is None


class TestLongPaths:
    @pytest.fixture
    def runtime(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:  # a short path, which a socket needs
            monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
            yield Path(folder)

    def test_the_socket_moves_to_a_private_folder_that_all_openers_find(
        self, runtime, opener, tmp_path, monkeypatch
    ):
        directory = tmp_path / ("long " * 30)
        server, other = opener(directory), opener(directory)
        url = server.start()
        folder = socket_of(url).parent
        assert folder.parent == runtime
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        write(url, 2)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "elsewhere"))
        assert other.start() == url
        assert length(url) == 2

    @pytest.mark.usefixtures("runtime")
    def test_a_folder_that_another_user_made_is_refused(self, opener, tmp_path):
        if os.getuid() != 0:
            pytest.skip("only root can make another user's folder")
        directory = tmp_path / ("long " * 30)
        server = opener(directory)
        folder = socket_of(server.start()).parent
        server.release()
        os.chown(folder, 12345, 12345)
        with pytest.raises(EmbeddedServerFailed, match="user 12345's"):
            server.start()
        assert server.pid is None

    def test_a_link_or_a_file_in_its_place_is_refused(self, tmp_path):
        (tmp_path / "target").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "target")
        (tmp_path / "file").write_text("")
        for name in ("link", "file"):
            with pytest.raises(EmbeddedServerFailed, match=name):
                make_private(tmp_path / name)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (b"", "silent"),
        (b"+PONG\r\n", "ready"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "loading"),
        (b"-BUSY a script is running\r\n", "ready"),
        (b"-MISCONF Errors writing to the AOF file\r\n", "ready"),
    ],
)
def test_what_a_reply_says(reply, answer):
    assert classify(reply) == answer
