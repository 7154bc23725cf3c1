"""The command line, on recipes and data of the test's own."""

import json
import sys

import pytest
from typer.testing import CliRunner

from kmixup import cli
from kmixup.cli.app import app

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


def kmixup(*arguments):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "160"}, catch_exceptions=False)


def test_a_recipe_and_data_of_ones_own_are_reproduced_reported_and_exported(folder):
    first = kmixup("reproduce", "mine.toml", "--jobs", "1")
    assert first.exit_code == 0
    assert "4 trials, 0 finished before, 4 to run" in first.output
    assert "(2)" in first.output
    again = kmixup("reproduce", "mine.toml", "--jobs", "1")
    assert "4 trials, 4 finished before, 0 to run" in again.output
    assert len(list((folder / "runs").glob("*.json"))) == 4

    assert kmixup("report", "mine.toml", "--to", "r.csv").exit_code == 0
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
    assert "0 held, 0 not held, " in every
    assert kmixup("claims", "table9", "--to", "new/claims.md").exit_code == 0
    assert "## table1: " not in (folder / "new" / "claims.md").read_text()


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


def test_train_runs_one_trial_once(folder):
    settings = ["dataset=csv", "dataset_options.path=mine.csv", "model=fc", "model_options.hidden=[4]", "epochs=1"]
    first = kmixup("train", *settings, "k=4", "alpha=1", "batch_size=16")
    assert first.exit_code == 0
    assert "test error" in first.output
    assert "nothing to do" in kmixup("train", *settings, "k=4", "alpha=1", "batch_size=16").output
    assert len(list((folder / "runs").glob("*.json"))) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reproduce", "tabel1"], "unknown recipe 'tabel1'. Did you mean 'table1'?"),
        (["reproduce", "table1", "--where", "kk=1"], "unknown setting 'kk'. Did you mean 'k'?"),
        (["train", "dataset=irsi", "model=fc"], "unknown dataset 'irsi'. Did you mean 'iris'?"),
        (["report", "table1", "--measure", "worst"], "measure must be one of final, best, got 'worst'."),
        (["report", "table1", "--to", "x.pdf"], "a report file ends in .md, .csv, .html"),
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


def test_help_names_every_command():
    text = kmixup("--help").output
    assert all(command in text for command in ("train", "reproduce", "report", "export", "data"))
