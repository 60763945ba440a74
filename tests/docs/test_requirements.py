from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "requirements.md"
LAST_IN_SECTION = {"A": 6, "B": 6, "C": 6, "D": 5, "E": 6, "F": 6, "G": 15}
IDS = [f"{section}{n}" for section, last in LAST_IN_SECTION.items() for n in range(1, last + 1)]
_ROW = re.compile(r"^\| ([A-G]\d+) \| (.+) \| (.+) \| (.+) \|$", re.MULTILINE)
_TEST = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")


def rows() -> dict[str, tuple[str, ...]]:
    found = _ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert len({row[0] for row in found}) == len(found)
    return {row[0]: row[1:] for row in found}


ROWS = rows()


@cache
def names_in(path: str) -> frozenset[str]:
    """Return the tests of a file as pytest names them."""
    found: set[str] = set()
    classes: dict[str, set[str]] = {}
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            classes[node.name] = {n for base in node.bases for n in classes.get(name_of(base), ())}
            classes[node.name] |= {
                each.name
                for each in node.body
                if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
            }
            found |= {f"{node.name}::{name}" for name in classes[node.name]}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
    return frozenset(name for name in found if "test_" in name)


def name_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def test_no_row_is_missing_and_all_are_in_order() -> None:
    assert list(ROWS) == IDS


@pytest.mark.parametrize("row", IDS)
def test_the_tests_of_a_row_exist(row: str) -> None:
    for path, name in _TEST.findall(ROWS[row][2]):
        assert (ROOT / path).is_file(), path
        assert name in names_in(path), f"{path}::{name}"


@pytest.mark.parametrize("row", IDS)
def test_a_row_that_is_served_in_any_part_is_shown(row: str) -> None:
    _, today, shown = ROWS[row]
    if today.startswith("Not yet served"):
        assert shown == "-" or _TEST.search(shown)
    else:
        assert _TEST.search(shown), "served by whose word?"
    assert not _TEST.sub("", shown).strip(" -"), "only tests go here"
