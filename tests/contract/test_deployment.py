"""The server of the compose file, started as its container would be, and the health checks."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import redis
import yaml

from eventlog import EventLog
from eventlog.server_binary import find_server_binary
from service.checks import examine
from service.judging import Finding
from service.metrics.serving import serving_metrics
from tests.docs.pages import ROOT
from tests.logs import message
from tests.support import eventually_sync, free_port
from tests.unit.test_deployment import COMPOSE, DOCKERFILE, filled

SECRET = "s3cret-x9"


@pytest.fixture
def shims(tmp_path: Path) -> Path:
    """A folder for PATH with the programs of the server's image."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "valkey-server").symlink_to(find_server_binary(None))
    client = shutil.which("valkey-cli") or shutil.which("redis-cli")
    if client:
        (folder / "valkey-cli").symlink_to(client)
    return folder


def test_the_server_starts_asks_for_the_password_and_satisfies_the_doctor(tmp_path, shims):
    port = free_port()
    service = COMPOSE["services"]["log-server"]
    *shell, script = service["command"]
    script = filled(script).replace("valkey-server -", f"valkey-server - --port {port}", 1)
    environment = {
        "PATH": f"{shims}:{os.environ['PATH']}",
        "REDIS_PASSWORD": SECRET,
        "MAXMEMORY": filled(service["environment"]["MAXMEMORY"]),
        "SERVER_DIR": str(tmp_path),
    }
    process = subprocess.Popen([*shell, script], env=environment, stdout=subprocess.DEVNULL)
    try:
        client = redis.Redis(port=port, password=SECRET)

        def is_up() -> bool:
            try:
                return bool(client.ping())
            except redis.exceptions.RedisError:
                return False

        eventually_sync(is_up)
        with pytest.raises(redis.exceptions.AuthenticationError):
            redis.Redis(port=port).ping()
        assert SECRET not in Path(f"/proc/{process.pid}/cmdline").read_text()
        findings = asyncio.run(_examined(f"redis://127.0.0.1:{port}", tmp_path / "archive"))
        assert [each for each in findings if each.verdict == "act"] == []
        if (shims / "valkey-cli").exists():
            check = filled(service["healthcheck"]["test"][1]).replace(" ping", f" -p {port} ping")
            run = ["sh", "-c", check]
            assert subprocess.run(run, env=environment, check=False).returncode == 0
            assert subprocess.run(
                run,
                env={**environment, "REDIS_PASSWORD": "wrong"},
                check=False,
                capture_output=True,
            ).returncode
    finally:
        process.terminate()
        assert process.wait(timeout=20) == 0  # the server is what gets the signal, not a shell


async def _examined(url: str, archive: Path) -> list[Finding]:
    async with EventLog.open(url, password=SECRET, archive_dir=archive) as log:
        await log.append(message("c", 1))
        return await examine(log)


async def test_the_health_checks_of_http_pass_and_fail(log):
    checks = [
        service["healthcheck"]["test"]
        for service in COMPOSE["services"].values()
        if "build" in service and service["healthcheck"]["test"][1] == "python"
    ]
    in_image = DOCKERFILE.split("  CMD ", 1)[1].splitlines()[0]
    checks.append(["CMD", *yaml.safe_load(in_image)])
    assert len(checks) == 3
    port, closed = free_port(), free_port()
    async with serving_metrics(log, str(port)):
        for _, _, option, source in checks:
            for where, is_well in ((port, True), (closed, False)):
                text = source.replace(":8420/ready", f":{where}/health")
                text = text.replace(":8420/", f":{where}/").replace(":9464/", f":{where}/")
                code = await _run(sys.executable, option, text)
                assert (code == 0) == is_well, text


async def _run(*words: str) -> int:
    process = await asyncio.create_subprocess_exec(
        *words,
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()


def test_shell_words_of_the_compose_file_are_well_formed():
    for service in COMPOSE["services"].values():
        for part in (service.get("command"), service.get("entrypoint")):
            if isinstance(part, list) and part[:2] == ["sh", "-c"]:
                assert (
                    subprocess.run(["sh", "-n", "-c", filled(part[2])], check=False).returncode == 0
                )
                assert shlex.split(filled(part[2]), comments=False)
