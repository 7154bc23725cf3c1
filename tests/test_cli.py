"""The command line, on recipes and data of the test's own."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from kmixup import __version__, cli
from kmixup.cli.app import app
from kmixup.experiments.recipe import read_recipe
from kmixup.experiments.reproduce import run_trials
from kmixup.experiments.runs import RunStore

RECIPE = """
title = "Mine"
trials = 2
[shared]
dataset = "csv"
dataset_options = { path = "mine.csv", scaling = "standard" }
model = "fc"
model_options = { hidden = [8] }
epochs = 2
batch_size = 16
[[cell]]
method = "erm"
[[cell]]
k = 4
alpha = 1.0
published = { error = 10.0, xi = 0.5 }
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text("".join(f"{i % 7},{i * i % 5},{'yes' if i % 3 else 'no'}\n" for i in range(60)))
    (tmp_path / "mine.toml").write_text(RECIPE)
    return tmp_path


def kmixup(*arguments, columns=160):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": str(columns)}, catch_exceptions=False)


def as_process(*arguments, **environment):
    """The command as a shell starts it: exit status, standard output and standard error in one, as bytes."""
    return subprocess.run(
        [sys.executable, "-m", "kmixup", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


def test_a_recipe_and_data_of_ones_own_are_reproduced_reported_and_exported(folder):
    first = kmixup("reproduce", "mine.toml", "--jobs", "1")
    assert first.exit_code == 0
    assert "4 trials, 0 finished before, 4 to run" in first.output
    assert "(2)" in first.output
    again = kmixup("reproduce", "mine.toml", "--jobs", "1")
    assert "4 trials, 4 finished before, 0 to run" in again.output
    assert len(list((folder / "runs").glob("*.json"))) == 4

    assert kmixup("report", "mine.toml", "--to", "r.csv").output == "wrote r.csv\n"
    assert len((folder / "r.csv").read_text().splitlines()) == 3
    assert kmixup("export", "mine.toml").exit_code == 0
    lines = (folder / "results" / "mine.jsonl").read_text().splitlines()
    assert len(lines) == len({json.loads(line)["id"] for line in lines}) == 4
    assert "# mine: Mine" in (folder / "results" / "mine.md").read_text()
    elsewhere = kmixup("reproduce", "mine.toml", "--out", "new", "--also", "results", "--jobs", "1")
    assert "4 finished before, 0 to run" in elsewhere.output


def test_claims_are_listed_for_every_table_or_for_some(folder):
    every = kmixup("claims").output
    assert "## table1: " in every
    assert "## table9: " in every
    assert "**0 held, 0 contradicted, 0 undecided, " in every
    assert kmixup("claims", "table9", "--to", "new/claims.md").exit_code == 0
    assert "## table1: " not in (folder / "new" / "claims.md").read_text()
    assert "No two readings have been run" in kmixup("claims", "table9", "--readings").output
    (folder / "page.md").write_text("a\n<!-- scorecard -->\n<!-- end of scorecard -->\nb\n")
    assert kmixup("claims", "table9", "--into", "page.md").output == "wrote page.md\n"
    assert (folder / "page.md").read_text().startswith("a\n<!-- scorecard -->\nThe paper's 5 sentences")


def test_a_broken_run_file_is_named_and_run_again(folder):
    kmixup("reproduce", "mine.toml", "--where", "k=4", "--trials", "1", "--jobs", "1")
    (file,) = (folder / "runs").glob("*.json")
    file.write_text(file.read_text()[:100])
    assert f"not a run, counts as missing: runs/{file.name}" in kmixup("report", "mine.toml").output
    again = kmixup("reproduce", "mine.toml", "--where", "k=4", "--trials", "1", "--jobs", "1")
    assert f"not a run, counts as missing: runs/{file.name}" in again.output
    assert "1 trials, 0 finished before, 1 to run" in again.output


def test_fewer_epochs_are_marked_as_reduced_and_where_picks_cells(folder):
    made = kmixup("reproduce", "mine.toml", "--epochs", "1", "--trials", "1", "--where", "k=4", "--jobs", "1")
    assert "1 trials, 0 finished before, 1 to run" in made.output
    assert "epochs 1 instead of 2" in made.output
    assert "1 of 2 trials" in made.output


def test_dry_run_shows_alpha_k_and_xi_beside_the_published_and_trains_nothing(folder):
    plan = kmixup("reproduce", "mine.toml", "--dry-run", "--jobs", "1")
    assert plan.exit_code == 0
    assert "compare xi/2" in plan.output
    assert "0.5" in plan.output
    assert "About" in plan.output
    assert not (folder / "runs").exists()


def test_a_trial_whose_data_are_missing_fails_alone_with_what_to_do(folder):
    (folder / "mine.csv").unlink()
    made = kmixup("reproduce", "mine.toml", "--jobs", "1")
    assert made.exit_code == 1
    assert "4 trials failed: FileNotFoundError: no file mine.csv" in made.output
    plan = kmixup("reproduce", "mine.toml", "--dry-run", "--jobs", "1")
    assert "cells cannot run yet" in plan.output


def test_what_cannot_run_is_said_before_the_rest_runs(folder):
    data = 'dataset = "csv"\ndataset_options = { path = "mine.csv", scaling = "standard" }\n'
    cells = RECIPE.replace(data, "").replace('method = "erm"', 'method = "erm"\ndataset = "iris"')
    (folder / "two.toml").write_text(cells.replace("k = 4\n", f"k = 4\n{data}"))
    (folder / "mine.csv").unlink()
    made = kmixup("reproduce", "two.toml", "--jobs", "1")
    assert made.exit_code == 1
    before, after = made.output.split("two: 4 trials, 0 finished before, 2 to run, 2 that cannot run.")
    assert "csv cannot be read" in before
    assert "[2/2] iris, ERM, seed 1: " in after
    assert "2 trials failed: FileNotFoundError: no file mine.csv" in after


def test_train_runs_one_trial_once(folder):
    settings = ["dataset=csv", "dataset_options.path=mine.csv", "model=fc", "model_options.hidden=[4]", "epochs=1"]
    first = kmixup("train", *settings, "k=4", "alpha=1", "batch_size=16")
    assert first.exit_code == 0
    assert "test error" in first.output
    assert "nothing to do" in kmixup("train", *settings, "k=4", "alpha=1", "batch_size=16").output
    assert len(list((folder / "runs").glob("*.json"))) == 1


def test_a_trial_that_was_run_before_is_trained_again_for_a_model_that_was_not_kept(folder):
    settings = ["dataset=csv", "dataset_options.path=mine.csv", "model=fc", "model_options.hidden=[4]", "epochs=1"]
    settings += ["k=4", "alpha=1", "batch_size=16", "noise_sigmas=[0.5]"]
    kmixup("train", *settings)
    (run_file,) = (folder / "runs").glob("*.json")
    assert "its model was not kept: it is trained again." in kmixup("train", *settings, "--keep").output
    (kept,) = (folder / "runs").glob("*.json")
    attacked = " ".join(kmixup("attack", str(kept.relative_to(folder)), "--noise", "0.5").output.split())
    error = json.loads(kept.read_text())["noise_error"]["0.5"]
    assert f"noise, 0.5 {100 * error:.2f}" in attacked
    assert kept == run_file
    assert "nothing to do" in kmixup("train", *settings, "--keep").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reproduce", "tabel1"], "unknown recipe 'tabel1'. Did you mean 'table1'?"),
        (["reproduce", "table1", "--where", "kk=1"], "unknown setting 'kk'. Did you mean 'k'?"),
        (
            ["reproduce", "table1", "--where", "k=1", "--where", "k=16"],
            "k is given twice, got 'k=16' last. Give it once",
        ),
        (["reproduce", "table1", "--set", "seed=7"], "seed is no setting of a cell, whose trials have the seeds 0, "),
        (["reproduce", "figures-of-mine.toml"], "no recipe file figures-of-mine.toml."),
        (["train", "dataset=irsi", "model=fc"], "unknown dataset 'irsi'. Did you mean 'iris'?"),
        (["report", "table1", "--measure", "worst"], "measure must be one of final, best, got 'worst'."),
        (["report", "table1", "--to", "x.pdf"], "a report file ends in .md, .csv, .tex, .html"),
        (["report", "table1", "--reading", "as-printed", "--to", "x.html"], "a page shows every reading that was run"),
        (["reproduce", "figure4"], "`kmixup curves table9 --where k=1,32 --where alpha=1,10 --to figure4`"),
        (
            ["reproduce", "figure5"],
            "unknown picture 'figure5'. Did you mean 'figure1', 'figure2', 'figure3' or 'figure4'?",
        ),
        (["reproduce", "table12"], "unknown recipe 'table12'. Did you mean 'table1', 'table2', 'table3', "),
        (["claims", "table99"], "'table9', 'table10' or 'table11'? Known: "),
        (["train", "dataset=iris"], "model is missing: say model=NAME, one of densenet-bc, fc, lenet"),
        (["train", "dataset=iris", "model=fc", "--data-dir", "no"], "--data-dir: there is no no (from "),
        (["reproduce", "mine.toml", "--data-dir", "no"], "--data-dir: there is no no (from "),
        (["report", "table1", "--also", "no"], "--also: there is no no (from "),
        (["export", "table1"], "no runs of table1 in runs, so nothing was written."),
        (["attack", "no.json"], "the run file: there is no no.json (from "),
        (["reproduce", "table1", "--where", "k=3"], "no cell of table1 has k=3. It has k=1,2,4,8,16."),
        (
            ["train", "dataset=iris", "model=fc", "model_options.hidden=[4]", "--device", "gpu"],
            "--device gpu cannot be",
        ),
        (["reproduce", "table1", "--device", "gpu"], "--device gpu cannot be used here. Leave it out for the CPU."),
        (
            ["train", "dataset=iris", "model=fc", "k=two"],
            "k: Input should be a valid integer, unable to parse string as an integer, got 'two'",
        ),
        (["data", "fetch", "mnits"], "unknown data set to fetch 'mnits'. Did you mean 'mnist'?"),
        (["claims", "table9", "--to", "mine.csv/x.md"], "mine.csv"),
        (["list", "modells"], "unknown list 'modells'. Did you mean 'models'?"),
    ],
)
def test_a_users_mistake_is_one_line_that_says_what_to_do(folder, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["kmixup", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    error = capsys.readouterr().err
    assert message in error.replace("\n", " ")
    assert "Traceback" not in error


def test_ctrl_c_says_how_to_resume(folder, monkeypatch):
    from kmixup.experiments import sweep

    calls = []

    def interrupted(trial, **options):
        calls.append(trial)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(trial, **options)

    run = sweep.run
    monkeypatch.setattr(sweep, "run", interrupted)
    made = kmixup("reproduce", "mine.toml", "--jobs", "1")
    assert made.exit_code == 130
    assert "Interrupted: 1 of 4 trials are finished and kept" in made.output
    monkeypatch.setattr(sweep, "run", run)
    assert "4 trials, 1 finished before, 3 to run" in kmixup("reproduce", "mine.toml", "--jobs", "1").output


def export_of(folder):
    lines = (folder / "results" / "mine.jsonl").read_text().splitlines()
    return {json.loads(line)["id"]: line for line in lines}


def test_export_only_adds_to_evidence_unless_told_to_replace_it(folder):
    kmixup("reproduce", "mine.toml", "--jobs", "1")
    kmixup("export", "mine.toml")
    before = export_of(folder)
    assert len(before) == 4
    new = kmixup(
        "reproduce", "mine.toml", "--where", "k=4", "--trials", "1", "--epochs", "1", "--out", "n", "--jobs", "1"
    )
    assert new.exit_code == 0
    exported = kmixup("export", "mine.toml", "--out", "n")
    assert "wrote results/mine.jsonl\nwrote results/mine.md\n5 runs, 1 of them new." in exported.output
    assert before.items() <= export_of(folder).items()
    assert "(2)" in (folder / "results" / "mine.md").read_text()
    kmixup("export", "mine.toml", "--out", "n", "--replace")
    assert len(export_of(folder)) == 1


def test_export_refuses_another_table_of_the_same_name_and_another_result_of_the_same_trial(folder):
    kmixup("reproduce", "mine.toml", "--jobs", "1")
    kmixup("export", "mine.toml")
    before = (folder / "results" / "mine.jsonl").read_text()
    kmixup("reproduce", "mine.toml", "--set", "lr=0.2", "--trials", "1", "--jobs", "1")
    with pytest.raises(ValueError, match="holds 4 runs of cells that mine does not have here"):
        kmixup("export", "mine.toml", "--set", "lr=0.2")
    first = folder / "runs" / f"{min(export_of(folder))}.json"
    document = json.loads(first.read_text())
    first.write_text(json.dumps({**document, "final_error": 0.987}))
    with pytest.raises(ValueError, match=f"another result of csv, .* \\({first.stem}\\)"):
        kmixup("export", "mine.toml")
    assert (folder / "results" / "mine.jsonl").read_text() == before


def test_export_refuses_a_cell_with_runs_of_different_data_in_the_folder_or_together_with_the_file(folder):
    kmixup("reproduce", "mine.toml", "--trials", "1", "--jobs", "1")
    kmixup("export", "mine.toml")
    before = (folder / "results" / "mine.jsonl").read_text()
    data = folder / "mine.csv"
    data.write_text(data.read_text().replace("0,0,no", "6,0,no"))
    different = r"csv, ERM has runs of different data, .*\. Move the files of all but one away\."
    # Seeds that the file lacks, of other data.
    kmixup("reproduce", "mine.toml", "--out", "corrected", "--jobs", "1")
    for first in (folder / "runs").glob("*.json"):
        (folder / "corrected" / first.name).unlink()
    with pytest.raises(ValueError, match=rf"with the runs that results/mine\.jsonl holds, {different} Or .* --replace"):
        kmixup("export", "mine.toml", "--out", "corrected")
    # Both seeds in one folder, each of its own data.
    kmixup("reproduce", "mine.toml", "--jobs", "1")
    for replace in ((), ("--replace",)):
        with pytest.raises(ValueError, match=rf"^{different}$"):
            kmixup("export", "mine.toml", *replace)
    assert (folder / "results" / "mine.jsonl").read_text() == before


def test_output_that_is_no_terminal_has_a_line_per_trial_with_its_result_and_the_time_left(folder):
    lines = kmixup("reproduce", "mine.toml", "--jobs", "1").output.splitlines()
    first, *_, last = [line for line in lines if line.startswith("[")]
    assert first.startswith("[1/4] csv, ERM, seed 0: ")
    assert re.search(r"% error in \d+\.\d s; about \d+ s left$", first)
    assert last.startswith("[4/4] csv, k = 4, alpha = 1, seed 1: ")
    assert "Runs: runs, 4 of them new." in lines
    assert "-:--:--" not in kmixup("reproduce", "mine.toml", "--jobs", "1").output


def test_a_terminal_has_a_bar_with_the_time_left_from_the_first_trial_on(folder):
    terminal = Console(force_terminal=True, width=100, file=io.StringIO())
    recipe = read_recipe("mine.toml").where(method="erm")
    result = run_trials(recipe, RunStore(folder / "runs"), jobs=1, console=terminal)
    assert result.done == 2
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", terminal.file.getvalue())
    assert re.search(r"mine .* 1/2 .* about \d+ s left", shown)


@pytest.mark.parametrize("columns", [40, 60])
def test_a_narrow_terminal_cuts_no_k_and_no_number(folder, columns):
    plan = kmixup("reproduce", "mine.toml", "--dry-run", "--jobs", "1", columns=columns)
    assert "csv, k = 4, alpha = 1: alpha_k" in " ".join(plan.output.split())
    assert "…" not in plan.output + kmixup("cost", "table3", columns=columns).output


@pytest.mark.slow
def test_the_costs_in_the_docs_are_those_that_the_command_counts():
    page = (Path(__file__).parents[1] / "docs" / "images.md").read_text()
    (command,) = re.findall(r"`kmixup (cost .*)`:", page)
    printed = [" ".join(line.split()) for line in kmixup(*command.split()).output.splitlines()]
    rows = re.findall(r"^\| (table\d+: .*) \|$", page, re.M)
    assert len(rows) >= 7
    for row in rows:
        assert row.replace(" | ", " ") in printed


def test_runs_of_an_older_kmixup_are_named_together_and_converted(folder):
    kmixup("reproduce", "mine.toml", "--jobs", "1")
    (folder / "old").mkdir()
    for file in (folder / "runs").glob("*.json"):
        document = json.loads(file.read_text())
        for name in ("schema", "source", "options", "code", "test"):
            del document[name]
        (folder / "old" / file.name).write_text(json.dumps(document))
    count = len(list((folder / "old").iterdir()))
    named = kmixup("report", "mine.toml", "--out", "old").output
    assert f"and {count - 1} more like it (a run of schema 1, this kmixup has 2. `kmixup runs convert` makes" in named
    (folder / "old" / "other.json").write_text("{}")
    said = kmixup("runs", "convert", "old", "--out", "new").output
    assert "left as it is: old/other.json: not a run: it has no trial" in said
    assert f"{count} runs converted into new." in said
    assert len(list((folder / "new").glob("*.json"))) == count


def test_every_command_that_reads_runs_names_broken_files(folder):
    kmixup("reproduce", "mine.toml", "--jobs", "1")
    (folder / "runs" / "bad.json").write_text("{")
    named = "not a run, counts as missing: runs/bad.json"
    for arguments in (("report", "mine.toml"), ("claims", "table9"), ("export", "mine.toml")):
        assert named in kmixup(*arguments).output, arguments
    for arguments in (("curves", "mine.toml", "--to", "c"), ("reproduce", "mine.toml", "--jobs", "1")):
        assert named in kmixup(*arguments).output, arguments


def test_list_shows_names_and_settings_with_their_defaults():
    text = " ".join(kmixup("list").output.split())
    for expected in (
        "table1 Toy data",
        "mnist-5000 5,000 digits",
        "preact-resnet18",
        "k-manifold-mixup",
        "epochs = 200",
    ):
        assert expected in text
    assert "mnist" not in kmixup("list", "models").output
    # Not on a terminal: a line each.
    assert all(line.startswith("  ") for line in kmixup("list", "models", columns=40).output.splitlines()[1:])


def test_version_and_shell_completion():
    assert kmixup("--version").output == f"kmixup {__version__}\n"
    assert "--install-completion" in kmixup("--help").output


def test_a_code_page_without_our_signs_gets_plain_ones_and_colours_can_be_off(folder):
    kmixup("reproduce", "mine.toml", "--jobs", "1")
    for encoding in ("cp437", "ascii"):
        shown = as_process("report", "mine.toml", PYTHONIOENCODING=encoding, NO_COLOR="1", FORCE_COLOR="1")
        assert shown.returncode == 0, shown.stdout
        text = shown.stdout.decode(encoding)
        assert ("+-" if encoding == "ascii" else "±") in text
        assert "?" not in text
        assert not re.search(r"\x1b\[[34]\d", text)
    written = as_process("report", "mine.toml", "--to", "r.md", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert written.stdout == b"wrote r.md\n"
    assert "±" in (folder / "r.md").read_bytes().decode("utf-8")


def test_a_notebooks_backend_does_not_stop_a_picture(folder):
    kmixup("reproduce", "mine.toml", "--jobs", "1")
    drawn = as_process("curves", "mine.toml", "--to", "c", MPLBACKEND="module://no_such_backend")
    assert drawn.returncode == 0, drawn.stdout
    assert (folder / "c.png").exists()


@pytest.mark.parametrize(
    ("package", "extra", "arguments"),
    [("typer", "experiments", ["list"]), ("pydantic", "experiments", ["list"]), ("optuna", "tune", ["tune", "iris"])],
)
def test_a_base_install_says_which_extra_the_command_needs(package, extra, arguments):
    without = f"import sys; sys.modules['{package}'] = None; sys.argv = {['kmixup', *arguments]}"
    code = f"{without}; from kmixup.cli import main; main()"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert found.stderr == f"error: this needs {package}, which is not installed. Run: pip install 'kmixup[{extra}]'\n"


def test_train_says_what_alpha_k_became_and_that_it_was_out_of_reach(folder):
    settings = ["dataset=csv", "dataset_options.path=mine.csv", "model=fc", "model_options.hidden=[4]", "epochs=1"]
    text = kmixup("train", *settings, "k=16", "alpha=4", "batch_size=48", "alpha_rule=exact", "max_alpha=5").output
    assert "alpha_k = 5, by alpha_rule = exact." in text
    assert "No alpha_k up to max_alpha = 5 reaches the xi of k = 1." in text
    assert "The run: runs/" in text


def test_help_names_every_command():
    text = kmixup("--help").output
    commands = ("demo", "list", "reproduce", "report", "curves", "claims", "cost", "export", "train", "attack", "data")
    assert all(re.search(rf"^│ {command} ", text, re.M) for command in commands)
