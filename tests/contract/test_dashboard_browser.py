"""The pages in a real browser: live, left and come back to, with keyboard, dark and small."""

from __future__ import annotations

from importlib.resources import files
from urllib.parse import quote

import pytest
import pytest_asyncio
from playwright.async_api import expect

from consumers import Worker
from consumers.retry import Retry
from eventlog import MessageReceived, MessageSent, ToolCalled, ToolReturned
from eventlog.errors import SendFailed
from service.http.dashboard.routes import pages
from tests.browser import browser_running, browsing
from tests.contract.test_dashboard import fill
from tests.http_service import running

pytestmark = [pytest.mark.timeout(60), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium():
    """One browser for all the tests here: it takes as long to start as they take."""
    async with browser_running() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def site(server_url, tmp_path, chromium):
    """A service with its pages, and a fresh profile that looks at it."""
    async with (
        running(server_url, pages=pages(), data_dir=str(tmp_path / "data")) as run,
        browsing(chromium, run.url) as browser,
    ):
        yield run, browser


async def test_a_session_is_followed_left_and_resumed(site):
    run, browser = site
    page = await browser.new_page()
    await page.goto("/sessions")
    await page.get_by_label("Ticket").fill("T-482")
    await page.get_by_label("What the agent is to do").fill("the login test is flaky")
    await page.get_by_role("button", name="Start the session").click()
    await page.wait_for_url("**/sessions/*")
    address, session = page.url, page.url.rpartition("/")[2]
    common = {"conversation": "ticket:T-482", "session": session}
    chat = page.locator("#chat")
    await expect(chat).to_contain_text("the login test is flaky")
    await expect(page.locator("#live")).to_have_text("live")

    await run.bridge.sessions.resume(session)
    await run.log.append(
        [
            MessageSent(**common, text="I'll run it in a loop.", sender="agent"),
            ToolCalled(**common, call="1", name="bash", arguments='{"command": "pytest -q"}'),
        ]
    )
    await expect(chat).to_contain_text("I'll run it in a loop.")
    tool = page.locator(".tool")
    await expect(tool).to_contain_text("pytest -q")
    await expect(tool).to_have_class("tool run")
    border = await tool.evaluate("each => getComputedStyle(each).borderLeftStyle")
    assert border == "dashed"
    await run.log.append(ToolReturned(**common, call="1", result="27 passed", duration_ms=1900))
    await expect(tool).to_have_class("tool")
    await expect(tool).to_contain_text("✓ 1.9 s")
    await page.get_by_label("Say something in this session").fill("take your time")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(chat).to_contain_text("take your time")
    await page.close()

    await run.log.append(
        [
            ToolCalled(
                **common, call="2", name="edit", arguments='{"path": "tests/test_login.py"}'
            ),
            ToolReturned(**common, call="2", result="changed on disk", is_error=True),
            MessageSent(**common, text="missed by who was away", sender="agent"),
        ]
    )
    page = await browser.new_page()
    await page.goto(address)
    await expect(page.locator("#resume")).to_have_text(
        "Resuming session… caught up with 2 entries since you left."
    )
    await expect(page.get_by_text("missed by who was away")).to_have_count(1)
    await expect(page.locator(".tool")).to_have_count(2)
    after = await page.locator("#since ~ li").all_inner_texts()
    assert "missed by who was away" in after[-1]
    assert len(after) == 2

    await run.log.append(MessageSent(**common, text="and live again", sender="agent"))
    await expect(page.get_by_text("and live again")).to_have_count(1)
    await expect(page.get_by_text("missed by who was away")).to_have_count(1)
    await run.bridge.sessions.complete(session)
    await expect(page.locator("#live")).to_have_text("ended just now")
    await page.reload()
    await expect(page.locator("#live")).to_have_text("historical: completed")
    entries = await page.locator("#chat [data-n]").evaluate_all("all => all.map(e => e.id)")
    assert len(entries) == len(set(entries))


async def test_a_dead_letter_is_replayed_from_the_page(site):
    run, browser = site
    broken = True
    worker = Worker(run.log, "answers")

    @worker.on("message.received", retry=Retry(attempts=1))
    async def answer(_event, _context) -> None:
        if broken:
            raise SendFailed("502 Bad Gateway", reason="bad_gateway")

    await run.log.append(MessageReceived(conversation="webhook:crm", text="Order 1182 shipped"))
    await worker.run_once()
    page = await browser.new_page()
    await page.goto("/")
    await page.get_by_role("link", name="Open").click()
    await expect(page.locator("#detail")).to_contain_text("502 Bad Gateway")
    await expect(page.locator("#detail")).to_contain_text("Order 1182 shipped")
    replay = page.get_by_role("button", name="Replay the selected")
    await expect(replay).to_be_disabled()
    await page.get_by_label("Select the letter of webhook:crm").check()
    broken = False
    await page.get_by_role("button", name="Replay 1 letter").click()
    await expect(page.get_by_text("1 letter asked to be replayed")).to_be_visible()
    await worker.run_once()
    # The page sees it by itself.
    await expect(page.locator("#how")).to_contain_text("None is parked")
    await expect(page.locator("nav")).not_to_contain_text("Dead letters 1")


async def test_a_query_shows_its_plot(site):
    run, browser = site
    hour_us = 3_600_000_000
    await run.log.append(
        [
            MessageReceived(conversation="a:1", text="x", occurred_at=(400_000 + n % 7) * hour_us)
            for n in range(40)
        ]
    )
    page = await browser.new_page()
    await page.goto("/sql")
    await page.get_by_label("Query").fill(
        "SELECT date_trunc('hour', occurred_at) AS hour, count(*) AS messages\n"
        "FROM messages GROUP BY 1 ORDER BY 1"
    )
    await page.keyboard.press("Control+Enter")
    await expect(page.locator("#plot svg")).to_be_visible(timeout=30_000)
    await expect(page.locator("#plot rect.bar")).to_have_count(7)
    await expect(page.get_by_role("status").first).to_contain_text("7 rows in")
    async with page.expect_download() as started:
        await page.get_by_role("button", name="CSV").click()
    download = await started.value
    assert download.suggested_filename == "result.csv"


async def test_pages_fit_a_phone_the_dark_and_the_keyboard(site):
    run, browser = site
    await run.log.append(
        MessageReceived(conversation=f"a:{'1' * 80}", text="w" * 300, sender="b" * 90)
    )
    page = await browser.new_page()
    await page.emulate_media(color_scheme="dark")
    await page.set_viewport_size({"width": 360, "height": 740})
    for path in ("/", "/conversations", f"/conversations/a:{'1' * 80}", "/sessions", "/dead-letters",
                 "/projections", "/archive", "/sql"):  # fmt: skip
        await page.goto(path)
        wide = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, path
        ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == "rgb(18, 21, 23)"
    await page.goto("/")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "Skip to the page"
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


async def test_axe_finds_nothing_in_light_or_dark(site):
    run, browser = site
    session = await fill(run)
    [letter, *_] = (await run.bridge.dead_letters.list()).items
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    paths = (
        "/",
        "/conversations",
        f"/sessions/{session}",
        "/sessions",
        f"/dead-letters/{quote(letter.letter, safe='')}",
        "/projections",
        "/archive",
        "/sql",
        "/sql/reports/tools",
        "/sessions/none",
    )
    page = await browser.new_page()
    found = []
    for path in paths:
        await page.goto(path)
        await page.evaluate(axe)
        # All but its colours a page has the same in the dark.
        for scheme, rules in (("light", {}), ("dark", {"runOnly": ["color-contrast"]})):
            await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            result = await page.evaluate("rules => axe.run(rules)", rules)
            found += [
                (path, scheme, each["id"], node["html"][:160], node["failureSummary"][:300])
                for each in result["violations"]
                for node in each["nodes"]
            ]
    assert found == [], "\n".join(map(str, found))


async def test_a_service_that_goes_away_is_told_and_its_return_taken_up(site):
    run, browser = site
    page = await browser.new_page()
    await page.clock.install()
    await page.goto("/")
    is_away = True

    async def answer(route) -> None:
        await (route.abort() if is_away else route.continue_())

    await page.route("**/*", answer)
    for _ in range(2):
        async with page.expect_event("requestfailed"):
            await page.clock.run_for(5_000)
    await expect(page.get_by_role("alert")).to_contain_text("The service does not answer since")
    is_away = False
    await run.log.append(MessageReceived(conversation="a:1", text="x"))
    await page.clock.run_for(15_000)
    await expect(page.get_by_role("alert")).to_be_hidden()
