"""The examples run as their page says."""

import shutil
import subprocess
import sys
from pathlib import Path

from kmixup.experiments.runs import RunStore

ROOT = Path(__file__).parents[1]


def test_the_page_shows_the_example_as_it_is():
    assert (ROOT / "examples" / "own.py").read_text().strip() in (ROOT / "docs" / "own.md").read_text()


def test_data_model_and_method_of_ones_own_are_trained_by_the_command_that_the_page_gives(tmp_path):
    shutil.copy(ROOT / "examples" / "own.py", tmp_path)
    page = (ROOT / "docs" / "own.md").read_text()
    (line,) = {line for line in page.splitlines() if line.startswith("kmixup train") and "mostly_itself" in line}
    assert line in (ROOT / "examples" / "own.py").read_text()
    done = subprocess.run([sys.executable, "-m", *line.split()], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (run,) = RunStore(tmp_path / "runs").all()
    assert set(run.code) == {"own:moons", "own:network", "own:mostly_itself"}
    assert run.options["method"] == {"least": 0.5}
    assert run.final_error < 0.3
