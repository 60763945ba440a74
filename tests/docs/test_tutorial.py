from __future__ import annotations

from pathlib import Path

import pytest

from service.cli.main import run
from tests.docs.pages import (
    ROOT,
    RUN_MARK,
    blocks,
    commands,
    markdown_pages,
    new_namespace,
    run_python,
)

TUTORIAL = ROOT / "docs" / "tutorial.md"
RUN_PAGES = [
    page
    for page in markdown_pages()
    if page.parent.name == "howto" and RUN_MARK in page.read_text(encoding="utf-8")
]


def of_language(page: Path, language: str) -> bool:
    return any(block.language == language for block in blocks(page))


def identify(page: Path) -> str:
    return page.name


async def run_page(page: Path) -> int:
    namespace = new_namespace(f"page_{page.stem.replace('-', '_')}")
    count = 0
    for block in blocks(page):
        if block.language == "python":
            await run_python(page, block, namespace)
            count += 1
    return count


async def test_the_tutorial_does_what_it_says(folder: Path) -> None:
    assert await run_page(TUTORIAL) > 10
    assert (folder / "tutorial-data" / "server" / "appendonlydir").is_dir()


def test_every_step_of_the_tutorial_says_what_it_prints() -> None:
    for block in blocks(TUTORIAL):
        assert ("print(" in block.text) == (block.output is not None) or block.language != "python"


@pytest.mark.parametrize("page", [p for p in RUN_PAGES if of_language(p, "python")], ids=identify)
@pytest.mark.usefixtures("folder")
async def test_python_on_a_how_to_page(page: Path) -> None:
    assert await run_page(page)


@pytest.mark.parametrize("page", [p for p in RUN_PAGES if of_language(p, "console")], ids=identify)
@pytest.mark.usefixtures("folder")
def test_commands_on_a_how_to_page(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = [words for b in blocks(page) if b.language == "console" for words in commands(b)]
    ran = [words for words in shown if words[0] == "eventlog" and "up" not in words]
    assert ran
    for words in ran:
        assert run(words[1:]) == 0, (words, capsys.readouterr().err)
