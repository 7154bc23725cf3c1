"""A random sample of mutants of the core, each file against its own tests: `python tests/mutants.py [FILE ...]`.

Needs mutmut 3. Survivors are printed with their change; those that tests/mutants.md names as equivalent do not count.
A seed draws the same mutants from the same source. `--write` puts the count of each file into tests/mutants.md.
"""

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mutmut.configuration import reset_config
from mutmut.mutation.diff_apply import apply_mutant, get_diff_for_mutant
from mutmut.mutation.file_mutation import mutate_file_contents

ROOT = Path(__file__).parents[1]
NOTES = ROOT / "tests/mutants.md"
CORE = ["lam", "cost", "assignment", "rectangles", "matching", "plan", "targets", "samples", "labels", "mixup"]
CORE += ["cutmix", "coupling", "calibration"]
TESTS = {file: file for file in CORE} | {
    f"experiments/{file}": "experiments_verdicts" for file in ("verdicts", "comparisons")
}
# mutmut's own frames stand between a caller and us, no graph compiles through them, and ranks are processes of their
# own: these tests meet a mutant only where it stands in the source itself.
BARE = "names_the_callers_line or compile or gloo_ranks"
CONFIG = """
[tool.mutmut]
source_paths = ["src"]
also_copy = ["results", "docs", "README.md", "PAPER.md"]
only_mutate = ["src/kmixup/{file}.py"]
pytest_add_cli_args = ["-m", "not slow", "-k", "not ({bare})", "-p", "no:cacheprovider"]
pytest_add_cli_args_test_selection = ["tests/test_{tests}.py"]
timeout_multiplier = 2.0
timeout_constant = 5.0
track_dependencies = false
use_git_change_detection = false
"""
# file, mutants, seed, tried, died, equivalent, alive
ROW = re.compile(r"^\| `(.+?)` \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|\n", re.MULTILINE)


def run(tree: Path, *module: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(tree / "src")}
    return subprocess.run([sys.executable, "-m", *module], cwd=tree, env=env, capture_output=True, text=True)


def change(name: str) -> tuple[str, str]:
    """The line that a mutant takes away, and the one that it puts there."""
    shown = get_diff_for_mutant(name).splitlines()
    lines = [line for line in shown if not line.startswith(("---", "+++"))]
    return tuple(" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")


def dies_bare(tree: Path, file: str, name: str) -> bool:
    """Whether a mutant that survived mutmut fails the tests that mutmut cannot run."""
    source, tests = tree / f"src/kmixup/{file}.py", f"tests/test_{TESTS[file]}.py"
    if not re.search(rf"def test_\w*({BARE.replace(' or ', '|')})", (tree / tests).read_text()):
        return False
    before = source.read_text()
    apply_mutant(name)
    died = run(tree, "pytest", "-q", "-x", "-k", BARE, "-p", "no:cacheprovider", tests).returncode == 1
    source.write_text(before)
    return died


def sampled(file: str, sample: int, seed: int, equivalent: set[str]) -> tuple[list[int], list[tuple[str, str, str]]]:
    """How many mutants there are, were tried, died, change nothing; and those that lived: name, line, changed line."""
    path = f"src/kmixup/{file}.py"
    module = f"kmixup.{file.replace('/', '.')}"
    every = sorted(f"{module}.{name}" for name in mutate_file_contents(path, (ROOT / path).read_text()).mutant_names)
    names = random.Random(seed).sample(every, min(sample, len(every)))
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "runs*", "site", "build", "mutants"))
        with (tree / "pyproject.toml").open("a") as config:
            config.write(CONFIG.format(file=file, tests=TESTS[file], bare=BARE))
        said = run(tree, "mutmut", "run", "--max-children", "1", *names).stdout
        meta = tree / f"mutants/{path}.meta"
        codes = json.loads(meta.read_text())["exit_code_by_key"] if meta.exists() else {}
        if any(codes.get(name) is None for name in names):
            raise SystemExit(said[-2000:])
        with contextlib.chdir(tree):
            reset_config()
            survived = [(name, *change(name)) for name in names if codes[name] in (0, 33)]  # 33: no test came by
            changing = [mutant for mutant in survived if mutant[2] not in equivalent]
            alive = [mutant for mutant in changing if not dies_bare(tree, file, mutant[0])]
        died = len(names) - len(survived) + len(changing) - len(alive)
        return [len(every), len(names), died, len(survived) - len(changing)], alive


def write(file: str, counts: list[int]) -> None:
    """Put a file's row into tests/mutants.md, and the sum of all rows."""
    text = NOTES.read_text()
    rows = {name: [int(count) for count in row] for name, *row in ROW.findall(text)} | {file: counts}
    lines = [f"| `{name}` | {' | '.join(map(str, rows[name]))} |\n" for name in TESTS if name in rows]
    _, _, tried, died, same, _ = (sum(column) for column in zip(*rows.values(), strict=True))
    share = f"Of {tried} mutants {same} change nothing; of the others {died} died, {died / (tried - same):.1%}.\n"
    text = re.sub(r"Of \d+ mutants .*\n", share, ROW.sub("", text))
    head, rule, rest = text.partition("| --: | --: | --: | --: | --: | --: |\n")
    NOTES.write_text(head + rule + "".join(lines) + rest)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", default=list(TESTS), metavar="FILE", help=", ".join(TESTS))
    parser.add_argument("--sample", type=int, default=30, help="mutants of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="put the counts into tests/mutants.md")
    options = parser.parse_args()
    equivalent = set(re.findall(r"`(.+?)` *\|", NOTES.read_text()))
    alive = 0
    for file in options.files:
        (every, tried, died, same), lived = sampled(file, options.sample, options.seed, equivalent)
        alive += len(lived)
        print(f"{file}: {tried} of {every} mutants, {died} killed, {same} equivalent, {len(lived)} alive", flush=True)
        for name, old, line in lived:
            print(f"  {name}\n    - {old}\n    + {line}", flush=True)
        if options.write:
            write(file, [every, options.seed, tried, died, same, len(lived)])
    sys.exit(alive > 0)
