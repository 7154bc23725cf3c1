"""A random sample of mutants of the core, each file against its own tests: `python tests/mutants.py [FILE ...]`.

Needs mutmut 3. Survivors are printed with their change; those that tests/mutants.md names as equivalent do not count.
"""

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = ["lam", "cost", "assignment", "matching", "plan", "targets", "samples", "mixup", "calibration"]
TESTS = {file: file for file in CORE} | {
    f"experiments/{file}": "experiments_verdicts" for file in ("verdicts", "comparisons")
}
CONFIG = """
[tool.mutmut]
source_paths = ["src"]
also_copy = ["results", "docs", "README.md", "PAPER.md"]
only_mutate = ["src/kmixup/{file}.py"]
# mutmut's own frames stand between a caller and us
pytest_add_cli_args = ["-m", "not slow", "-k", "not names_the_callers_line", "-p", "no:cacheprovider"]
pytest_add_cli_args_test_selection = ["tests/test_{tests}.py"]
timeout_multiplier = 2.0
timeout_constant = 5.0
process_isolation = "forkserver"
"""


def mutmut(tree: Path, *arguments: str) -> str:
    run = subprocess.run([sys.executable, "-m", "mutmut", *arguments], cwd=tree, capture_output=True, text=True)
    return run.stdout + run.stderr


def change(tree: Path, name: str) -> tuple[str, str]:
    """The line that a mutant takes away, and the one that it puts there."""
    lines = [line for line in mutmut(tree, "show", name).splitlines() if not line.startswith(("---", "+++"))]
    return tuple(" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")


def survivors(file: str, sample: int, seed: int) -> tuple[int, list[tuple[str, str, str]]]:
    """The number of mutants tried, and those that lived: name, line, changed line."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "runs*", "site", "build", "mutants"))
        with (tree / "pyproject.toml").open("a") as config:
            config.write(CONFIG.format(file=file, tests=TESTS[file]))
        said = mutmut(
            tree, "run", "none of them"
        )  # makes the mutants, times the tests and stops: no mutant has this name
        meta = tree / f"mutants/src/kmixup/{file}.py.meta"
        if not meta.exists():
            raise SystemExit(said[-2000:])
        names = sorted(json.loads(meta.read_text())["exit_code_by_key"])
        names = random.Random(seed).sample(names, min(sample, len(names)))
        said = mutmut(tree, "run", "--max-children", "1", *names)
        codes = json.loads(meta.read_text())["exit_code_by_key"]
        if any(codes[name] is None for name in names):
            raise SystemExit(said[-2000:])
        lived = [name for name in names if codes[name] in (0, 33)]  # survived, or no test came by
        return len(names), [(name, *change(tree, name)) for name in lived]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", default=list(TESTS), metavar="FILE", help=", ".join(TESTS))
    parser.add_argument("--sample", type=int, default=30, help="mutants of each file")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    equivalent = set(re.findall(r"`(.+?)` *\|", (ROOT / "tests/mutants.md").read_text()))
    alive = 0
    for file in options.files:
        tried, lived = survivors(file, options.sample, options.seed)
        new = [(name, old, line) for name, old, line in lived if line not in equivalent]
        alive += len(new)
        print(f"{file}: {tried} mutants, {tried - len(lived)} killed, {len(lived) - len(new)} equivalent", flush=True)
        for name, old, line in new:
            print(f"  {name}\n    - {old}\n    + {line}", flush=True)
    sys.exit(alive > 0)
