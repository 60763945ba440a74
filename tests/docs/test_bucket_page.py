from __future__ import annotations

from pathlib import Path

import boto3
import pytest

from service.cli.main import run
from tests.docs.pages import ROOT, blocks, commands
from tests.docs.test_tutorial import run_page

PAGE = ROOT / "docs" / "howto" / "archive-to-a-bucket.md"


@pytest.mark.usefixtures("folder")
async def test_the_page_about_buckets_does_what_it_says(
    s3_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="chats")
    assert await run_page(PAGE) == 2
    assert (folder / "data" / "archive-cache").is_dir()


@pytest.mark.usefixtures("folder")
def test_the_command_line_takes_a_bucket_everywhere(
    s3_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="commands")
    [named] = [words for b in blocks(PAGE) for words in commands(b) if words[0] == "eventlog"]
    options = [named[1], named[2].replace("chats", "commands")]
    for words in (["import", "examples/data"], ["status"], ["doctor"], ["query", "FROM sessions"]):
        assert run([*options, *words]) == 0, capsys.readouterr().err
    assert run(["--archive-dir", "s3://nobody-s/x", "query", "FROM sessions"]) == 1
    assert "there is no such bucket" in capsys.readouterr().err
    assert run(["--archive-dir", "s3://key:s3cret@bucket/x", "status"]) == 2
    assert "s3cret" not in capsys.readouterr().err
