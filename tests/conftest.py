"""A browser for the tests of pages. Without one they are skipped; KMIXUP_REQUIRE_BROWSER=1 makes that a failure."""

import os
import shutil
from pathlib import Path

import pytest

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LOCAL = ("file:", "data:", "blob:", "about:")
REMEDY = (
    "Install one (Debian: apt-get install chromium; elsewhere: python -m playwright install chromium) or name it in "
    "KMIXUP_CHROMIUM."
)


def missing(what):
    message = f"{what} {REMEDY}"
    if os.environ.get("KMIXUP_REQUIRE_BROWSER") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture(scope="module")
def browser():
    """Chromium, headless: KMIXUP_CHROMIUM, the system's, or Playwright's own.

    For a module, not for the session: Playwright's event loop runs as long as it is open, and no test beside may start
    its own meanwhile.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        missing("Pages are tested through Playwright: pip install playwright, and a Chromium.")
    found = os.environ.get("KMIXUP_CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    with sync_playwright() as playwright:
        path = Path(found or playwright.chromium.executable_path)
        if not path.exists():
            missing(f"There is no Chromium at {path}." if found else "There is no Chromium.")
        opened = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture
def page(browser):
    """A page of its own profile; an error in it fails its test, and so does a request that leaves this machine."""
    faults = []

    def request(sent):
        if not sent.url.startswith(LOCAL):
            faults.append(f"request: {sent.url}")

    context = browser.new_context(accept_downloads=True)
    context.set_default_timeout(30_000)
    opened = context.new_page()
    opened.on("console", lambda said: faults.append(f"console: {said.text}") if said.type == "error" else None)
    opened.on("pageerror", lambda error: faults.append(f"error: {error}"))
    opened.on("request", request)
    yield opened
    context.close()
    assert not faults, "\n".join(faults)
