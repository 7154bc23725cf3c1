"""What conftest.py promises of ``page``: clean pages pass, others fail, and a missing browser is said."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = {
    "clean": ("<p>fine</p>", "1 passed"),
    "console": ("<script>console.error('broken so')</script>", "console: broken so"),
    "error": ("<script>nothing_of_that_name()</script>", "nothing_of_that_name is not defined"),
    "request": ("<img alt='' src='http://127.0.0.1:9/picture.png'>", "request: http://127.0.0.1:9/picture.png"),
}


def outcome(folder: Path, html: str, **environment: str) -> str:
    """What pytest says of one test that opens a page, with the fixtures of ours."""
    (folder / "conftest.py").write_text(Path(__file__).with_name("conftest.py").read_text())
    (folder / "page.html").write_text(html)
    (folder / "test_page.py").write_text(
        f"def test_page(page):\n    page.goto('{(folder / 'page.html').as_uri()}')\n    page.wait_for_timeout(200)\n"
    )
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name} | environment
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-W", "error", "-p", "no:cacheprovider", str(folder)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True).stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", PAGES)
def test_a_page_with_an_error_or_a_request_fails_its_test(browser, tmp_path, kind):
    html, said = PAGES[kind]
    assert said in (found := outcome(tmp_path, html)), found
    assert ("passed" in found and "error" not in found) == (kind == "clean"), found


@pytest.mark.slow
@pytest.mark.parametrize(("required", "ends"), [("0", "1 skipped"), ("1", "1 error")])
def test_without_a_browser_tests_are_skipped_or_fail_and_say_how_to_get_one(tmp_path, required, ends):
    missing = {"KMIXUP_CHROMIUM": str(tmp_path / "chromium"), "KMIXUP_REQUIRE_BROWSER": required}
    found = outcome(tmp_path, "", **missing)
    assert ends in found, found
    assert "apt-get install chromium" in found
