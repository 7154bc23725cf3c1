"""The documentation runs: the blocks of the README and of each page, in order, and what is rendered is what runs say.

A Python block that cannot run carries ``<!-- skip: next "why" -->`` above it. Of the shell's blocks each line is
checked: ``kmixup`` commands run, trainings for one epoch and sweeps as dry runs. TOML and output blocks are not run.
"""

from __future__ import annotations

import contextlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

import pytest
import torch
import typer
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from kmixup.cli import main
from kmixup.cli.app import app

_ROOT = Path(__file__).parents[1]
_PAGES = [_ROOT / "README.md", *sorted((_ROOT / "docs").rglob("*.md"))]
_WITH_SHELL = [page for page in [*_PAGES, _ROOT / "CONTRIBUTING.md"] if "```bash" in page.read_text(encoding="utf-8")]

# Lines that need files or a network that a test has not: their names, options and arguments are parsed, no more.
_OUT_OF_REACH = ("uci", "FOLDER", "photos", "fetch", "export")


@pytest.mark.filterwarnings("default")  # pages also show other libraries, and their warnings are not ours
@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_the_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # what an example writes stays out of the repository
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for example in Sybil([PythonCodeBlockParser(), SkipParser()]).parse(page).examples():
            with contextlib.suppress(unittest.SkipTest):  # one skipped block, not the page
                example.evaluate()


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("page", _WITH_SHELL, ids=lambda page: str(page.relative_to(_ROOT)))
def test_the_lines_of_the_shell_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(_ROOT / "examples", tmp_path / "examples")
    (tmp_path / "results").mkdir()  # one table's runs: what the commands do does not hang on how many there are
    shutil.copy(_ROOT / "results" / "table7.jsonl", tmp_path / "results")
    shutil.copy(_ROOT / "PAPER.md", tmp_path)
    _write_wine(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    blocks = Sybil([CodeBlockParser("bash", lambda _: None)]).parse(page).examples()
    lines = [line for block in blocks for line in str(block.parsed).replace("\\\n", " ").splitlines()]
    commands = [words for line in lines if (words := shlex.split(line, comments=True))]
    assert commands
    for words in commands:
        _run(words, monkeypatch)


def _run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    match words:
        case ["cd", folder]:
            monkeypatch.chdir(folder)
        case ["make", target]:
            assert re.search(rf"^{target}:", (_ROOT / "Makefile").read_text(), re.MULTILINE), words
        case ["pip", "install", *_]:
            pass  # below, once
        case ["kmixup", *arguments] if any(name in word for word in words for name in _OUT_OF_REACH):
            _parse(arguments)
        case ["kmixup", *arguments]:
            monkeypatch.setattr(sys, "argv", ["kmixup", *_bounded(arguments)])
            with pytest.raises(SystemExit) as stop:
                main()
            assert not stop.value.code, words
        case _:
            pytest.fail(f"{words}: a line that this test does not know")


def _bounded(arguments: list[str]) -> list[str]:
    """The same command, so that it trains for one epoch at most."""
    if arguments[0] == "train":
        return [*(word for word in arguments if not word.startswith("epochs=")), "epochs=1"]
    if arguments[0] == "tune":
        return [*arguments, *("--epochs", "1", "--budget", "2", "--refits", "2", "--jobs", "1")]
    return [*arguments, "--dry-run"] if arguments[0] == "reproduce" and "--dry-run" not in arguments else arguments


def _parse(arguments: list[str]) -> None:
    command, context = typer.main.get_command(app), None
    while isinstance(command, typer.core.TyperGroup):
        context = command.make_context(command.name, list(arguments), parent=context, resilient_parsing=False)
        _, command, arguments = command.resolve_command(context, arguments)
    command.make_context(command.name, list(arguments), parent=context)


def _write_wine(folder: Path) -> None:
    from sklearn.datasets import load_wine

    wine = load_wine(as_frame=True).frame.rename(columns={"target": "cultivar"})
    folder.mkdir()
    wine.to_csv(folder / "wine.csv", index=False)


def test_pip_takes_the_install_lines_and_the_first_example_runs_on_what_it_installs(tmp_path: Path) -> None:
    readme = (_ROOT / "README.md").read_text(encoding="utf-8")
    lines = [shlex.split(line, comments=True) for line in readme.splitlines() if line.startswith("pip install ")]
    assert ["pip", "install", "."] in lines
    source = tmp_path / "clone"
    shutil.copytree(
        _ROOT, source, ignore=shutil.ignore_patterns(".*", "runs", "site", "build", "*.so", "results", "tests", "docs")
    )
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    for line in lines:
        done = subprocess.run([*pip, "--dry-run", *line[2:]], cwd=source, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    target = tmp_path / "site-packages"
    subprocess.run([*pip, "--target", str(target), "."], cwd=source, check=True, capture_output=True)
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[:1]
    where = f"import sys\nsys.path.insert(0, {str(target)!r})\n"
    check = "\nimport kmixup\nassert kmixup.__file__.startswith(sys.path[0]), kmixup.__file__\n"
    done = subprocess.run([sys.executable, "-c", where + example + check], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_whether_it_helps_and_what_it_costs_are_what_runs_and_measurements_say() -> None:
    summary = runpy.run_path(str(_ROOT / "docs" / "summary.py"))
    for page, text in summary["render"]().items():
        assert text == page.read_text(encoding="utf-8"), f"{page}: run python docs/summary.py"


@pytest.mark.parametrize("name", ["boosting", "metrics"])
def test_what_a_page_says_of_an_experiment_is_what_its_committed_results_say(name: str) -> None:
    script = runpy.run_path(str(_ROOT / "docs" / f"{name}.py"))
    assert script["render"]() in script["PAGE"].read_text(encoding="utf-8"), f"run python docs/{name}.py"


def test_when_it_helps_and_what_diagnose_says_of_it_are_what_the_committed_runs_say() -> None:
    when = runpy.run_path(str(_ROOT / "docs" / "when.py"))
    assert when["render"]() in when["PAGE"].read_text(encoding="utf-8"), "run python docs/when.py"
    assert when["evidence"]() == when["EVIDENCE"].read_text(encoding="utf-8"), "run python docs/when.py"


@pytest.mark.parametrize("page", [_ROOT / "README.md", _ROOT / "PAPER.md", *_PAGES[1:]], ids=lambda page: page.name)
def test_relative_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in target or path.startswith("tutorials/"):  # made by `make docs`, which checks them
            continue
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}, target
