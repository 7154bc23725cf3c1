"""The budgeted search: equal budgets, no test rows, resumed after any death, and what its numbers say."""

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time

import optuna
import pytest
import torch
from typer.testing import CliRunner

from kmixup import calibrate
from kmixup.cli.app import app
from kmixup.experiments.datasets import load_data
from kmixup.experiments.files import parse_settings
from kmixup.experiments.pictures.tuned import search_picture
from kmixup.experiments.trial import Trial
from kmixup.experiments.tune import tune
from kmixup.experiments.tuned import RIVALS, SEARCHED, Attempt, Refit, Search, Tuned

MINE = """
import numpy as np

def load(data_dir, seed, *, poison: bool = False, leak: bool = False, n: int = 80):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n + 40, 2))
    y = (x[:, 0] + 0.5 * rng.normal(size=n + 40) > 0).astype(int)
    x_test, y_test = x[n:].copy(), y[n:].copy()
    if poison:
        x_test, y_test = 5 - 7 * x_test, 1 - y_test
    x, y = x[:n], y[:n]
    if leak:
        x, y = np.concatenate([x, x_test]), np.concatenate([y, y_test])
    return x, y, x_test, y_test
"""

NETWORK = """
from pathlib import Path
import torch

def network(input_shape, num_classes):
    calls = Path("calls")
    calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
    if len(calls.read_text()) == int(Path("fails").read_text()):
        raise MemoryError("no memory left")
    return torch.nn.Linear(input_shape[0], num_classes)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


@pytest.fixture(autouse=True)
def _quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


def asked(recipe="heuristic", budget=2, *, refits=2, splits=1, sampler="tpe", pruner="none", **trial):
    shared = {"dataset": "mine:load", "model": "fc", "model_options": {"hidden": [8]}, "epochs": 2, "batch_size": 16}
    shared |= {"lr": 0.05, "validation": 0.25, "method": "erm"}
    return Search(
        trial=Trial(**{**shared, **trial}),
        recipe=recipe,
        budget=budget,
        refits=refits,
        splits=splits,
        sampler=sampler,
        pruner=pruner,
    )


def found(tuned):
    """All numbers of a search, and what was tried; not the time it took."""
    exclude = {"search": True, "name": True, "attempts": {method: {"__all__": {"seconds"}} for method in SEARCHED}}
    return tuned.model_dump(exclude=exclude)


# --- the test rows ----------------------------------------------------------------------------------------------------


def test_test_rows_decide_nothing_and_a_leak_of_them_would_show(folder):
    """The same to the last bit whatever the test rows hold; where they are among the training rows, it is not."""

    def searched(**options):
        return found(tune(asked(dataset_options=options), out=folder / "out"))

    assert searched(poison=True) == searched()
    assert searched(poison=True, leak=True) != searched(leak=True)


def test_the_rows_that_judge_come_from_one_split_of_the_data_for_all_seeds(folder):
    """A loader that splits by its seed is asked for one split, so that no seed trains on another's test rows."""
    noting = "with open('seeds', 'a') as file:\n        file.write(f'{seed}\\n')\n    rng = np.random"
    (folder / "split.py").write_text(MINE.replace("rng = np.random", noting))
    tune(asked(dataset="split:load", splits=2, refits=3, seed=5), out=folder / "out")
    seeds = set((folder / "seeds").read_text().split())
    trial = Trial(dataset="split:load", model="fc", seed=5)
    assert seeds == {"0", str(trial.seed_for("data") % 2**31)}  # 0: for the hash of what it returns


# --- budgets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["heuristic", "xi", "grid", "search"])
def test_every_method_gets_the_same_budget(recipe, folder):
    steps = []
    tuned = tune(asked(recipe, 3), out=folder / "out", on_step=steps.append)
    assert len(steps) == steps[-1].done == steps[-1].total == len(SEARCHED) * (3 + 2)
    assert [step.done for step in steps] == list(range(1, len(steps) + 1))
    of_k_mixup = [step for step in steps if step.study.startswith("k-mixup") and "anew" not in step.study]
    assert len(of_k_mixup) == 3
    for method in RIVALS:
        assert len(tuned.attempts[method]) == 3
        assert len({json.dumps(attempt.searched) for attempt in tuned.attempts[method]}) == 3
    assert len(tuned.attempts["k-mixup"]) == (1 if recipe == "xi" else 3)
    assert all(attempt.settings["k"] > 1 for attempt in tuned.attempts["k-mixup"])
    for method in SEARCHED:
        assert [refit.seed for refit in tuned.refits[method]] == [1000, 1001]


def test_the_xi_recipe_keeps_the_perturbation_of_the_best_alpha_at_k_1(folder):
    steps = []
    tuned = tune(asked("xi", 5), out=folder / "out", on_step=steps.append)
    first = [step for step in steps if step.study == "k-mixup, alpha at k = 1"]
    assert len(first) == 3
    best = min(step.error for step in first)
    names = {f"k-mixup, k at the xi of {step.setting}" for step in first if step.error == best}
    (second,) = {step.study for step in steps if step.study.startswith("k-mixup, k at")}
    assert second in names
    alpha = float(second.rpartition("=")[2])
    for attempt in tuned.attempts["k-mixup"]:
        assert attempt.settings["alpha"] > alpha


def test_the_grid_trains_k_with_the_alpha_that_perturbs_as_much(folder):

    tuned = tune(asked("grid", 4), out=folder / "out")
    x = load_data("mine:load").x_train
    for attempt in tuned.attempts["k-mixup"]:
        searched = attempt.searched
        expected = calibrate(
            x, searched["k"], searched["alpha"], batch_size=16, generator=torch.Generator().manual_seed(0)
        )
        assert attempt.settings["alpha"] == pytest.approx(expected.alpha_k)


def test_a_budget_that_the_recipe_cannot_spend_is_refused(folder):
    with pytest.raises(ValueError, match=r"recipe 'heuristic' has 3 settings of k-mixup here \(k = 2, 4, 8\), got a"):
        tune(asked("heuristic", 4), out=folder / "out")
    with pytest.raises(ValueError, match="it needs a budget of 2 at least, got 1"):
        tune(asked("xi", 1), out=folder / "out")
    with pytest.raises(ValueError, match="validation must be > 0, got 0"):
        asked(validation=0.0)
    with pytest.raises(ValueError, match="leave method, k and alpha out"):
        asked(method="k-mixup", k=4, alpha=1.0)


def test_splits_are_averaged_and_shared_by_all_settings(folder):
    one = tune(asked(), out=folder / "out")
    both = tune(asked(splits=2), out=folder / "out")
    other = tune(asked(splits=2, seed=1), out=folder / "out")
    for method in SEARCHED:
        for first, mean in zip(one.attempts[method], both.attempts[method], strict=True):
            assert abs(2 * mean.error - first.error) <= 1  # the other split's error is a share
    assert found(both)["attempts"] != found(one)["attempts"] != found(other)["attempts"]


def test_settings_that_go_badly_are_given_up_and_count_as_tried(folder):
    tuned = tune(asked("search", 6, pruner="halving", epochs=6), out=folder / "out")
    pruned = [attempt for method in SEARCHED for attempt in tuned.attempts[method] if attempt.error is None]
    assert pruned
    assert all(len(tuned.attempts[method]) == 6 for method in SEARCHED)
    assert all(tuned.winner(method).error is not None for method in SEARCHED)


# --- death and resumption ---------------------------------------------------------------------------------------------


def test_what_is_finished_is_not_done_again_and_a_larger_search_goes_on(folder):
    first = tune(asked("search", 2), out=folder / "out")
    steps = []
    again = tune(asked("search", 2), out=folder / "out", on_step=steps.append)
    assert not steps
    assert again == first
    more = tune(asked("search", 3), out=folder / "out")
    for method in SEARCHED:
        assert more.attempts[method][:2] == first.attempts[method]
    whole = tune(asked("search", 3), out=folder / "elsewhere")
    assert found(whole)["attempts"] == found(more)["attempts"]  # resumed or not, the sampler draws the same


def test_a_database_that_cannot_be_opened_is_said_without_its_password(folder):
    with pytest.raises(ValueError, match=r"the database of --storage cannot be opened: .*Correct its address") as said:
        tune(asked(), out=folder / "out", storage="foo://me:secret@there/x")
    assert "secret" not in str(said.value)


@pytest.mark.parametrize("storage", [None, "kept/journal", "sqlite:///tune.db"])
def test_a_setting_that_failed_is_tried_again(storage, folder):
    (folder / "nets.py").write_text(NETWORK)
    (folder / "kept").mkdir()
    (folder / "fails").write_text("3")
    search = asked(model="nets:network", model_options={})
    with pytest.raises(MemoryError, match="no memory left"):
        tune(search, out=folder / "out", storage=storage)
    (folder / "fails").write_text("0")
    steps = []
    resumed = tune(search, out=folder / "out", storage=storage, on_step=steps.append)
    assert len(steps) == len(SEARCHED) * (2 + 2) - 2
    straight = tune(search, out=folder / "other")
    assert resumed.refits == straight.refits
    for method in SEARCHED:
        tried, expected = (
            {json.dumps(one.searched): one.error for one in made.attempts[method]} for made in (resumed, straight)
        )
        assert tried == expected


def test_other_data_or_settings_are_another_search(folder):
    first = tune(asked(), out=folder / "out")
    (folder / "mine.py").write_text(MINE.replace("0.5 * rng", "0.9 * rng"))
    assert tune(asked(), out=folder / "out").name != first.name
    assert tune(asked(lr=0.01), out=folder / "out").name != first.name


@pytest.mark.slow
def test_a_search_that_was_killed_keeps_its_finished_trials(folder):
    command = ["tune", "mine:load", "epochs=60", "lr=0.05", "batch_size=16", "model_options.hidden=[8]"]
    command += ["--budget", "2", "--refits", "2", "--jobs", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "kmixup", *command], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    for line in process.stdout:
        if line.startswith("[3/16]"):
            break
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()

    def states():
        storage = optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(folder / "runs/tune/tune.journal"))
        )
        names = optuna.get_all_study_names(storage)
        trials = {name: optuna.load_study(study_name=name, storage=storage).trials for name in names}
        return {(name, t.number): (t.state.name, t.datetime_complete) for name in names for t in trials[name]}

    def finished(all_states):
        return {key: value for key, value in all_states.items() if value[0] == "COMPLETE"}

    before = states()
    assert 3 <= len(finished(before)) < 16
    resumed = CliRunner().invoke(app, command, catch_exceptions=False)
    assert resumed.exit_code == 0
    after = states()
    assert finished(before).items() <= finished(after).items()
    assert len(finished(after)) == 16
    assert not [key for key, value in after.items() if value[0] == "RUNNING"]


@pytest.mark.slow
def test_processes_share_a_search_and_find_what_one_finds(folder):
    shared = tune(asked("grid", 2), out=folder / "two", jobs=2)
    assert found(shared)["refits"] == found(tune(asked("grid", 2), out=folder / "one"))["refits"]


# --- what the numbers say ---------------------------------------------------------------------------------------------


def made(errors, validation=0.2, **winner):
    trial = Trial(
        dataset="iris", model="fc", model_options={"hidden": [8]}, validation=validation, method="erm", lr=0.05
    )
    settings = {
        "erm": {"method": "erm", "weight_decay": 1e-3},
        "label-smoothing": {"method": "label-smoothing", "method_options": {"smoothing": 0.2}},
        "mixup": {"method": "mixup", "alpha": 0.5},
        "k-mixup": {"method": "k-mixup", "k": 8, "alpha": 1.25},
    }
    return Tuned(
        search=Search(trial=trial, refits=len(errors["erm"])),
        name="iris",
        budget=1,
        num_classes=3,
        attempts={
            method: (Attempt(number=0, searched={}, settings=settings[method], error=0.1, nll=1.0),)
            for method in SEARCHED
        },
        refits={
            method: tuple(Refit(seed=1000 + i, error=error) for i, error in enumerate(errors[method]))
            for method in SEARCHED
        },
    )


def test_the_gain_is_paired_and_its_error_counts_the_rows_that_splits_share():
    base = {"label-smoothing": [0.2, 0.2, 0.2], "mixup": [0.2, 0.2, 0.2]}
    tuned = made({**base, "erm": [0.30, 0.40, 0.20], "k-mixup": [0.28, 0.37, 0.16]})
    gain = tuned.gain("erm")
    assert gain.mean == pytest.approx(3.0)  # 2, 3 and 4 points: standard deviation 1
    assert gain.std_error == pytest.approx(math.sqrt(1 / 3 + 0.2 / 0.8))
    assert gain.n == 3
    assert tuned.gain("k-mixup", "erm").mean == pytest.approx(-3.0)


def test_a_run_that_diverged_counts_as_wrong_throughout():
    errors = {method: [0.2, 0.2] for method in SEARCHED}
    assert made({**errors, "k-mixup": [None, 0.2]}).gain("erm").mean == pytest.approx(-40.0)


@pytest.mark.parametrize(
    ("errors", "advice"),
    [
        ({"k-mixup": [0.10, 0.10, 0.10]}, "Advice: use k-mixup; it beats every rival of equal budget."),
        ({"k-mixup": [0.40, 0.40, 0.40]}, "Advice: leave k-mixup out here."),
        ({"k-mixup": [0.19, 0.21, 0.20]}, "Advice: no gain on no mixing is shown."),
        (
            {"k-mixup": [0.10, 0.10, 0.10], "mixup": [0.11, 0.10, 0.10]},
            "Advice: k-mixup beats no mixing, but is not shown to beat mixup; take the simpler of these.",
        ),
    ],
)
def test_the_advice_rests_on_intervals(errors, advice):
    tuned = made({**{method: [0.20, 0.21, 0.20] for method in SEARCHED}, **errors})
    *_, last = tuned.findings()
    assert last.startswith(advice)


@pytest.mark.parametrize(
    ("refits", "verdict"), [(2, "no difference is shown"), (5, "no difference is shown"), (6, "a loss")]
)
def test_one_difference_over_and_over_shows_something_only_from_six_refits_on(refits, verdict):
    # One of 28 rows more, of another number each time: equal but for their last digits.
    errors = {method: [row / 28 for row in range(1, refits + 1)] for method in SEARCHED}
    tuned = made({**errors, "k-mixup": [(row + 1) / 28 for row in range(1, refits + 1)]})
    assert {sentence.rpartition(": ")[2] for sentence in list(tuned.findings())[1:-1]} == {f"{verdict}."}
    low, high = (None, None) if refits < 6 else (pytest.approx(-100 / 28), pytest.approx(-100 / 28))
    assert json.loads(tuned.to_json())["gains"]["erm"] == {
        "points": pytest.approx(-100 / 28),
        "low": low,
        "high": high,
        "refits": refits,
    }
    _, gains, _ = search_picture(tuned).axes
    assert len(gains.lines) == 7


def test_of_equal_errors_the_higher_likelihood_wins():
    tuned = made({method: [0.2, 0.2] for method in SEARCHED})
    attempts = [(0, 0.1, 0.5), (1, 0.1, 0.4), (2, 0.2, 0.1), (3, None, None), (4, 0.1, None)]
    tried = tuple(Attempt(number=n, searched={}, settings={}, error=error, nll=nll) for n, error, nll in attempts)
    assert tuned.model_copy(update={"attempts": {"erm": tried}}).winner("erm").number == 1
    with pytest.raises(ValueError, match="the pruner gave up every setting of erm"):
        tuned.model_copy(update={"attempts": {"erm": tried[3:4]}}).winner("erm")


@pytest.mark.parametrize("method", SEARCHED)
def test_the_command_to_paste_is_the_winner_on_all_training_points(method):
    tuned = made({method: [0.2, 0.2] for method in SEARCHED})
    kmixup, train, *settings = shlex.split(tuned.command(method))
    assert (kmixup, train) == ("kmixup", "train")
    shared = {"dataset": "iris", "model": "fc", "model_options": {"hidden": [8]}, "lr": 0.05}
    assert Trial(**parse_settings(settings)) == Trial(**shared, **tuned.winner(method).settings)
    assert tuned.code() == "mixer = KMixup(k=8, alpha=1.25, num_classes=3)"


def test_the_picture_has_a_square_a_setting_and_an_interval_a_rival():
    figure = search_picture(made({method: [0.2, 0.21] for method in SEARCHED}))
    squares, gains, _ = figure.axes
    assert [text.get_text() for text in squares.texts] == ["10.0", "10.0"]
    assert [label.get_text() for label in gains.get_yticklabels()] == ["on no mixing", "on label smoothing", "on mixup"]


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_searches_a_table_and_says_what_it_found(folder):
    rows = [f"{i % 7},{i * i % 5},{'yes' if i % 3 else 'no'}\n" for i in range(60)]
    (folder / "mine.csv").write_text("a,b,bought\n" + "".join(rows))
    settings = ["batch_size=16", "lr=0.05", "model_options.hidden=[8]"]
    options = ["--target", "bought", "--budget", "1", "--epochs", "1", "--refits", "2", "--jobs", "1", "--out", "found"]
    result = CliRunner().invoke(app, ["tune", "mine.csv", *settings, *options], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    assert "[12/12] " in result.output
    assert "No test point was looked at" in result.output
    assert "mixer = KMixup(k=8, alpha=1, num_classes=2)" in result.output
    stored = json.loads((folder / "found/tune.json").read_text())
    assert set(stored["gains"]) == set(RIVALS)
    assert stored["code"] == "mixer = KMixup(k=8, alpha=1, num_classes=2)"
    Tuned.model_validate({name: stored[name] for name in Tuned.model_fields})
    assert (folder / "found/tune.png").exists()
    command = shlex.split(stored["command"])
    trained = CliRunner().invoke(app, command[1:])
    assert trained.exit_code == 0, trained.output
    assert "test error" in trained.output


def test_the_command_refuses_what_it_cannot_search():
    def refused(*arguments):
        return str(CliRunner().invoke(app, ["tune", *arguments, "--jobs", "1"]).exception)

    assert "--target names a column of a table, got class for iris" in refused("iris", "--target", "class")
    assert "recipe: Input should be 'heuristic', 'xi', 'grid' or 'search'" in refused("iris", "--recipe", "best")
    assert "there is no file or folder irs.csv, and unknown dataset 'irs.csv'" in refused("irs.csv")
