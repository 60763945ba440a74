from __future__ import annotations

from pathlib import Path

from tests.cli import Cli
from tests.coding_agent import SESSION, CodingAgent


async def test_a_session_is_followed_to_its_end_and_once(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    async with CodingAgent(waits=False) as agent:
        words = ("poll", agent.platform.url, SESSION, "--ticket", "T-1", "--interval-ms", "1")
        for _ in range(2):
            result = await cli.run(*words, OPENCODE_SERVER_PASSWORD="s3cret")
            assert (result.code, result.out) == (0, f"session {SESSION}: completed\n"), result.err
            assert "s3cret" not in result.out + result.err
        tried = [request.headers["authorization"] for request in agent.platform.requests]
    assert set(tried) == {"Basic b3BlbmNvZGU6czNjcmV0"}
    page = (await cli.run("history", "ticket:T-1", "--json")).json()
    said = [each.get("text", "")[:7] for each in page["messages"]]
    assert said == ["The tes", "I run t", "`total`", "The tes", ""]


async def test_what_is_no_address_is_wrong_usage(tmp_path: Path) -> None:
    result = await Cli(tmp_path).run("poll", "nonsense", SESSION, "--ticket", "T-1")
    assert result.code == 2
    assert "URL" in result.err
