"""Markdown pages: their fenced blocks, and how Python and shell blocks are run."""

from __future__ import annotations

import ast
import inspect
import io
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
RUN_MARK = "<!-- run by tests/docs -->"
"""Before a block of the README, or on a how-to page: run what follows."""

_FENCE = re.compile(r"^(?P<fence>`{3,}|~{3,})(?P<language>\w*)\s*$")


class Block(NamedTuple):
    """A fenced block; `line` is where its fence stands, from 1."""

    language: str
    text: str
    line: int
    is_marked: bool
    """The mark stands right before it."""
    output: str | None
    """The text block right after it: what it prints."""


def markdown_pages() -> list[Path]:
    """Return every markdown page of the project."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    return sorted([*found, *ROOT.glob("tests/**/*.md")])


def blocks(page: Path) -> list[Block]:
    """Return the page's fenced blocks in order."""
    found = list(_fenced(page.read_text(encoding="utf-8").splitlines()))
    return [
        block._replace(output=found[index + 1].text)
        if index + 1 < len(found) and found[index + 1].language == "text" and touching
        else block
        for index, (block, touching) in enumerate(zip(found, _touching(page, found), strict=True))
    ]


def _fenced(lines: list[str]) -> Iterator[Block]:
    start, language, fence = 0, "", ""
    for number, line in enumerate(lines, 1):
        match = _FENCE.match(line)
        if fence and line.rstrip() == fence:
            before = next((text for text in reversed(lines[: start - 1]) if text.strip()), "")
            text = "".join(f"{each}\n" for each in lines[start : number - 1])
            yield Block(language, text, start, before.strip() == RUN_MARK, None)
            fence = ""
        elif match and not fence:
            start, language, fence = number, match["language"], match["fence"]
    assert not fence, f"line {start}: a block that does not end"


def _touching(page: Path, found: list[Block]) -> Iterator[bool]:
    """Yield for each block whether nothing but blank lines parts it from the next."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for block, following in zip(found, [*found[1:], None], strict=True):
        end = block.line + block.text.count("\n") + 1
        yield following is not None and not any(
            text.strip() for text in lines[end : following.line - 1]
        )


def new_namespace(name: str) -> dict[str, object]:
    """Return the namespace of a module of its own, as a prompt would have it."""
    module = ModuleType(name)
    sys.modules[name] = module  # msgspec looks there for the names in annotations
    return vars(module)


async def run_python(page: Path, block: Block, namespace: dict[str, object]) -> None:
    """Run a block as `python -m asyncio` would; fail where it prints something else than stated."""
    place = f"{page.relative_to(ROOT)}:{block.line}"
    code = compile(block.text, place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    printed = io.StringIO()
    with redirect_stdout(printed):
        result = eval(code, namespace)
        if inspect.isawaitable(result):
            await result
    assert printed.getvalue() == (block.output or ""), place


def commands(block: Block) -> list[list[str]]:
    """Return the words of each `$ ` line of a console block, comments left out."""
    joined = block.text.replace("\\\n", " ")
    lines = [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ")]
    return [shlex.split(line, comments=True) for line in lines]
