"""A real browser without a screen: the system's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT_MS = 10_000


def executable() -> str:
    """Return the browser's path; without one the test is skipped, and in CI it fails."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is not None:
        return found
    said = "no browser found: `apt-get install chromium` brings one"
    if os.environ.get("CI") == "true":
        pytest.fail(said)
    pytest.skip(said)


@asynccontextmanager
async def browser_running() -> AsyncIterator[Browser]:
    """Give a browser with a profile of its own."""
    path = executable()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def browsing(browser: Browser, base_url: str) -> AsyncIterator[BrowserContext]:
    """Give windows that share nothing with others. What a page throws, or its policy refuses, fails."""
    context = await browser.new_context(base_url=base_url, viewport={"width": 1280, "height": 860})
    faults: list[str] = []

    def watch(page: Page) -> None:
        page.on("pageerror", lambda error: faults.append(f"{page.url}: {error}"))
        page.on(
            "console",
            lambda said: (
                faults.append(f"{page.url}: {said.text}")
                if said.type == "error" and "Content Security Policy" in said.text
                else None
            ),
        )

    context.set_default_timeout(WAIT_MS)
    context.on("page", watch)
    try:
        yield context
    finally:
        await context.close()
    assert faults == []
