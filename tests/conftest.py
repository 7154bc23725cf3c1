"""What several files of tests need: two processes of torchrun, and a browser for the tests of pages.

Without a browser those are skipped; KMIXUP_REQUIRE_BROWSER=1 makes that a failure.
"""

import os
import shutil
import subprocess
import sys
import textwrap
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
# A thread of gloo can abort a process whose work is done while the interpreter is torn down: see `leave`.
LEAVE = "\nfrom kmixup.experiments.distributed import leave\nleave()\n"
REMEDY = (
    "Install one (Debian: apt-get install chromium; elsewhere: python -m playwright install chromium) or name it in "
    "KMIXUP_CHROMIUM."
)


@pytest.fixture
def on_two_ranks(tmp_path):
    """A function that runs a script (its text) in two processes of torchrun, and returns what they printed."""

    def run(script, *arguments):
        file = tmp_path / "ranks.py"
        file.write_text(textwrap.dedent(script) + LEAVE)
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(file)]
        path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        command = [*launch, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500, env=environment)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


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
