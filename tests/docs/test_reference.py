from __future__ import annotations

import importlib
import re

import msgspec
import pytest

from eventlog import errors
from eventlog.settings import Settings
from eventlog.vocabulary import VOCABULARY
from service.cli.commands import registered
from tests.docs.reference_parts import PAGE, PARTS, rewritten, sections

REWRITE = "run `python -m tests.docs.reference_parts`"
TEXT = PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PARTS)
def test_a_made_section_says_what_the_code_says(name: str) -> None:
    assert sections(TEXT)[name] == PARTS[name]().strip("\n") + "\n", REWRITE


def test_rewriting_changes_nothing() -> None:
    assert rewritten(TEXT) == TEXT, REWRITE


def test_no_setting_type_or_code_is_missing() -> None:
    for setting in Settings.__struct_fields__:
        assert f"| `{setting}` |" in TEXT
    for event_type in VOCABULARY:
        assert f"| `{event_type.__struct_config__.tag}`<br>" in TEXT
        for field in msgspec.structs.fields(event_type):
            assert f"`{field.name}`" in TEXT
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, errors.EventLogError):
            assert f"| `{error.code}` |" in TEXT
    for command in registered().registered_commands:
        assert command.callback is not None
        assert f"### eventlog {command.name or command.callback.__name__}\n" in TEXT


def imports() -> list[tuple[str, str]]:
    table = re.search(r"## Python\n(.*?)\n## ", TEXT, re.DOTALL)
    assert table
    rows = re.findall(r"^\| `([\w.]+)` \| (.*) \|$", table[1], re.MULTILINE)
    return [(module, name) for module, cell in rows for name in re.findall(r"`(\w+)`", cell)]


@pytest.mark.parametrize(("module", "name"), imports())
def test_what_is_to_be_imported_is_there(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)
