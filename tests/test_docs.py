"""The documentation runs: every Python block of the README and of each page, in order, in one namespace a page.

A block that cannot run carries ``<!-- skip: next "why" -->`` above it. Bash, TOML and output blocks are not run.
"""

from __future__ import annotations

import contextlib
import unittest
from pathlib import Path

import pytest
import torch
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

_ROOT = Path(__file__).parents[1]
_PAGES = [_ROOT / "README.md", *sorted((_ROOT / "docs").rglob("*.md"))]


@pytest.mark.filterwarnings("default")  # pages also show other libraries, and their warnings are not ours
@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_the_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # what an example writes stays out of the repository
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for example in Sybil([PythonCodeBlockParser(), SkipParser()]).parse(page).examples():
            with contextlib.suppress(unittest.SkipTest):  # one skipped block, not the page
                example.evaluate()
