"""The files to run it with: what can be checked of them without a container engine or root."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from eventlog import settings
from eventlog.settings import NO_SETTINGS, Settings, load_settings
from service.cli.commands import MODULES
from service.cli.main import app
from service.metrics.families import families
from tests.docs.pages import ROOT

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
DEVELOPMENT = yaml.safe_load((ROOT / "compose.dev.yaml").read_text(encoding="utf-8"))
ALERTS = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
PROGRAMS = {
    **{name: each for name, each in COMPOSE["services"].items() if "build" in each},
    **DEVELOPMENT["services"],
}
OF_OTHERS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"}
OF_COMPOSE = {"SERVER_MAXMEMORY", "BOT_HANDLERS"}
KNOWN = {*settings._ENVIRONMENT, *NO_SETTINGS, *OF_OTHERS, *OF_COMPOSE}
HAS_HTTP = "serve" in MODULES
"""Whether this version serves HTTP; the files are for one that does."""
_VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::?([-?])([^}]*))?\}")


def is_known(name: str) -> bool:
    return name in KNOWN or (not HAS_HTTP and name.startswith("EVENTLOG_HTTP_"))


def filled(text: str) -> str:
    """Return a text of a compose file as a container gets it where nothing is set."""
    return _VARIABLE.sub(lambda m: m[3] if m[2] == "-" else "given", text).replace("$$", "$")


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)
    elif isinstance(value, str):
        yield value


def parse(words: list[str]) -> None:
    """Have the command line parse the words; it raises where it would refuse them."""
    if not HAS_HTTP and ("serve" in words or "up" in words):
        pytest.skip("this version has no HTTP")
    command = typer.main.get_command(app)
    context = command.make_context("eventlog", list(words))
    name, sub, rest = command.resolve_command(context, [*context._protected_args, *context.args])
    sub.make_context(name, rest, parent=context)


class TestCompose:
    @pytest.mark.parametrize("name", PROGRAMS)
    def test_what_runs_is_a_command(self, name):
        parse([filled(word) for word in PROGRAMS[name]["command"]])

    @pytest.mark.parametrize("file", [COMPOSE, DEVELOPMENT], ids=["compose", "dev"])
    def test_variables_are_known_and_secrets_have_no_default(self, file):
        found = {m[1]: m[2] for text in texts(file) for m in _VARIABLE.finditer(text)}
        assert [name for name in found if not is_known(name)] == []
        for name in found:
            if re.search("PASSWORD|TOKEN", name):
                assert found[name] == "?", name
        for service in file["services"].values():
            for name in service.get("environment", {}):
                assert is_known(name) or "build" not in service, name

    def test_each_waits_for_a_server_that_keeps_what_it_is_given(self):
        server = COMPOSE["services"]["log-server"]
        command = server["command"][-1]
        assert "--appendonly yes" in command
        assert "--maxmemory-policy noeviction" in command
        assert "log:/data" in server["volumes"]
        for name, service in COMPOSE["services"].items():
            if "build" in service:
                assert service["depends_on"]["log-server"] == {"condition": "service_healthy"}
                assert service["read_only"], name
                assert service["cap_drop"] == ["ALL"]
                assert service["healthcheck"]["test"][0] == "CMD"

    def test_nothing_listens_beyond_the_machine_and_images_are_pinned(self):
        for file in (COMPOSE, DEVELOPMENT):
            for service in file["services"].values():
                assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
                image = service.get("image", "x:1")
                assert re.search(r":.*\d", image), image

    def test_up_is_asked_by_a_command(self):
        _, program, *words = COMPOSE["services"]["up"]["healthcheck"]["test"]
        assert program == "eventlog"
        parse(words)

    def test_volumes_are_declared(self):
        for file in (COMPOSE, DEVELOPMENT):
            named = {
                volume.partition(":")[0]
                for service in file["services"].values()
                for volume in service.get("volumes", [])
            }
            assert {each for each in named if not each.startswith(".")} == file["volumes"].keys()


class TestImage:
    def test_it_runs_without_rights_and_what_it_runs_is_a_command(self):
        assert re.search(r"^USER \d+:\d+$", DOCKERFILE, re.MULTILINE)
        [words] = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
        parse(yaml.safe_load(words))

    def test_versions_are_pinned_and_stages_are_two(self):
        assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["python:${PYTHON}"] * 2
        assert re.search(r"^ARG PYTHON=\d+\.\d+\.\d+-slim-\w+$", DOCKERFILE, re.MULTILINE)

    def test_its_variables_are_known(self):
        assert all(is_known(n) for n in re.findall(r"(?:EVENTLOG|REDIS)_\w+(?==)", DOCKERFILE))

    def test_the_wheel_finds_all_that_it_is_made_of(self):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
        needed = {
            *wheel["packages"],
            "pyproject.toml",
            "README.md",
            *project["project"]["license-files"],
        }
        needed |= {path.partition("/")[0] for path in wheel["force-include"]}
        ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        assert {line[1:] for line in ignored if line.startswith("!")} == needed


class TestExample:
    def names(self) -> list[str]:
        return re.findall(r"^#?([A-Z][A-Z0-9_]+)=", EXAMPLE, re.MULTILINE)

    def test_every_setting_is_there_once_and_none_that_is_not(self):
        names = self.names()
        assert len(names) == len(set(names))
        assert [name for name in names if not is_known(name)] == []
        assert KNOWN - set(names) == set()

    def test_every_line_has_its_comment(self):
        lines = EXAMPLE.splitlines()
        for i, line in enumerate(lines):
            if re.match(r"#?[A-Z0-9_]+=", line) and not line.startswith("#AWS_"):
                assert lines[i - 1].startswith("# "), line

    def test_what_it_shows_is_accepted(self):
        shown = dict(
            re.findall(r"^#?((?:EVENTLOG|REDIS|SESSION)_\w+)=(.*)$", EXAMPLE, re.MULTILINE)
        )
        environment = {
            name: value for name, value in shown.items() if name in settings._ENVIRONMENT
        }
        loaded = load_settings(environment=environment)
        assert loaded.url == "rediss://bot@db.example:6380/0"
        # As it is, it is complete but for the two secrets.
        plain = dict(re.findall(r"^([A-Z]\w+)=(.*)$", EXAMPLE, re.MULTILINE))
        assert plain == {"REDIS_PASSWORD": "", "EVENTLOG_HTTP_TOKENS": ""}
        for name, variable in ((n, v) for v, n in settings._ENVIRONMENT.items()):
            default = getattr(Settings(), name)
            if (
                isinstance(default, int | str)
                and default
                and name in ("lease_ttl_ms", "durability")
            ):
                assert shown[variable] == str(default)


class TestUnits:
    @pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
    def test_what_runs_is_a_command(self, unit):
        [start] = re.findall(r"^ExecStart=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
        program, *words = shlex.split(start.replace("%i", "mybot"))
        assert program == "/opt/eventlog/bin/eventlog"
        parse(words)

    @pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
    def test_its_variables_are_known(self, unit):
        text = unit.read_text(encoding="utf-8")
        assert "DynamicUser=yes" in text
        assert all(is_known(name) for name in re.findall(r"((?:EVENTLOG|REDIS)_\w+)=", text))

    @pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
    @pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
    def test_systemd_takes_it_and_finds_it_well_shut_in(self, unit, tmp_path):
        text = unit.read_text(encoding="utf-8").replace(
            "/opt/eventlog/bin/eventlog", sys.executable
        )
        copy = tmp_path / unit.name
        copy.write_text(text, encoding="utf-8")
        verified = self._analyze("verify", "--man=no", copy)
        if "Failed to" in verified.stderr:  # no unit search path, as in a container without systemd
            pytest.skip(verified.stderr)
        assert (verified.returncode, verified.stderr) == (0, "")
        rated = self._analyze("security", "--offline=true", "--threshold=25", copy)
        assert rated.returncode == 0, rated.stdout[-200:]

    @staticmethod
    def _analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
        command = ["systemd-analyze", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


class TestAlerts:
    RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]

    def test_each_is_complete(self):
        names = [rule["alert"] for rule in self.RULES]
        assert len(set(names)) == len(names) > 10
        for rule in self.RULES:
            assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert rule["annotations"].keys() == {"summary", "action"}
            assert re.fullmatch(r"\d+[mh]", rule.get("for", "1m"))

    def test_each_asks_for_metrics_and_labels_that_there_are(self):
        by_name = {each.name: set(each.labels) for each in families()}
        for rule in self.RULES:
            asked = re.findall(r"\b(eventlog_\w+)", rule["expr"])
            assert asked
            labels = {"instance", "le"}
            for name in asked:
                labels |= by_name[name.removesuffix("_bucket")]
            for grouping in re.findall(r"(?:by|on) \(([^)]*)\)", rule["expr"]):
                assert {label.strip() for label in grouping.split(",")} <= labels, rule["alert"]
            assert rule["expr"].count("(") == rule["expr"].count(")")

    def test_what_it_says_to_run_are_commands(self):
        for rule in self.RULES:
            for line in re.findall(r"`eventlog ([^`]+)`", rule["annotations"]["action"]):
                assert line.split()[0] in MODULES, line
