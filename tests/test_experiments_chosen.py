"""Tuning by validation, on made-up runs whose right choice is known; relations whose strength is known."""

import math

import numpy as np
import pytest
from scipy import stats

from kmixup.experiments.chosen import gains, relation, tune_by_validation, untuned
from kmixup.experiments.recipe import read_recipe
from kmixup.experiments.run import Curves, Environment, Evaluation, Run, Seconds

METHODS = ("erm", "label-smoothing", "mixup", "k-mixup")


@pytest.fixture(scope="module")
def recipe():
    return read_recipe("study").where(group=["study-tableswine", "study-tablesiris"])


def made(trial, test, validation, nll=1.0, diverged=False):
    figures = {
        name: None if diverged else Evaluation(error=error, nll=nll, calibration_error=0.1)
        for name, error in (("test", test), ("validation", validation))
    }
    return Run(
        id=trial.id,
        trial=trial,
        source="s",
        final_error=None if diverged else test,
        best_error=None if diverged else test,
        noise_error={} if diverged else {"0.5": test + 0.1},
        diverged=diverged,
        curves=Curves(train_loss=[1.0], train_accuracy=[1.0], test_error=[test]),
        seconds=Seconds(total=1.0, matching=0.0),
        environment=Environment(commit="", versions={}, device="cpu", processor="", threads=1),
        **figures,
    )


def runs_of(recipe, seeds=(0,), figures=lambda cell, number, seed: (0.2, 0.2)):
    return [
        made(cell.trial(seed), *figures(cell, number, seed))
        for seed in seeds
        for number, cell in enumerate(recipe.cells)
    ]


def test_validation_chooses_and_the_test_points_play_no_part(recipe):
    def figures(cell, number, seed):
        """The setting that is worst on the test points is best on validation."""
        return (0.9, 0.1) if cell.settings.alpha == 20 or cell.settings.weight_decay == 0.03 else (0.01, 0.3)

    tuned = tune_by_validation(recipe, runs_of(recipe, figures=figures), METHODS)
    for runs in tuned.chosen.values():
        assert runs["mixup"].trial.alpha == 20
        assert runs["erm"].trial.weight_decay == 0.03
    assert tuned.values("mixup", "error") == {group: {0: pytest.approx(90.0)} for group in tuned.groups}
    assert tuned.values("mixup", "noise_error")["study-tablesiris"][0] == pytest.approx(100.0)


def test_of_equal_errors_the_likelihood_decides_and_a_diverged_run_is_never_chosen(recipe):
    def run(number, cell):
        diverged = cell.settings.alpha == 0.05
        return made(
            cell.trial(0),
            0.2,
            0.0 if diverged else 0.2,
            nll=0.5 if cell.settings.alpha == 5 else 1.0,
            diverged=diverged,
        )

    tuned = tune_by_validation(recipe, [run(*each) for each in enumerate(recipe.cells)], METHODS)
    assert {runs["mixup"].trial.alpha for runs in tuned.chosen.values()} == {5}


def test_every_split_offers_the_same_settings_and_those_that_lack_one_are_named(recipe):
    few = [run for run in runs_of(recipe, seeds=range(4)) if run.trial.seed == 0 or run.trial.alpha in (0, 1)]
    lacking = next(run for run in few if run.trial.seed == 3 and run.trial.k == 4)
    tuned = tune_by_validation(recipe, [run for run in few if run.id != lacking.id], METHODS)
    assert tuned.grids["mixup"] == ("alpha 1",)
    assert tuned.grids["k-mixup"] == tuple(f"k {k}, alpha 1{rule}" for k in (4, 16) for rule in ("", ", alpha_k exact"))
    assert len(tuned.grids["erm"]) == 8
    assert len(tuned.chosen) == 7
    assert len(tuned.incomplete) == 1
    assert tuned.incomplete[0][1] == 3


ARMS = {"none": {"method": "erm", "weight_decay": 1e-4}, "ours": {"k": 16, "alpha": 1.0, "alpha_rule": "none"}}
WAYS = (
    lambda recipe, runs: tune_by_validation(recipe, runs, METHODS),
    lambda recipe, runs: untuned(recipe, runs, ARMS),
)


@pytest.mark.parametrize("compared", WAYS)
def test_runs_of_another_protocol_play_no_part_and_those_of_other_data_are_refused(recipe, compared):
    runs = runs_of(recipe, seeds=(0, 1))
    short = runs_of(recipe.override(epochs=1), seeds=(0, 1), figures=lambda cell, number, seed: (0.9, 0.0))
    assert compared(recipe, short + runs + short) == compared(recipe, runs)
    assert compared(recipe, short).chosen == {}
    assert len(compared(recipe.override(epochs=1), runs + short).chosen) == 4
    other = runs[-1].model_copy(update={"source": "corrected"})
    with pytest.raises(ValueError, match=r"study-tables.*, k = 16.* has runs of different data"):
        compared(recipe, [*runs[:-1], other])


def test_an_arm_of_one_setting_is_compared_on_the_splits_that_have_all_arms(recipe):
    def figures(cell, number, seed):
        return (0.3 if cell.matches(ARMS["ours"]) else 0.4 if cell.matches(ARMS["none"]) else 0.9, 0.2)

    runs = runs_of(recipe, seeds=(0, 1), figures=figures)
    lacking = next(run for run in runs if run.trial.seed == 1 and run.trial.weight_decay == 1e-4)
    choice = untuned(recipe, [run for run in runs if run.id != lacking.id], ARMS)
    assert [gain.mean for gain in gains(choice, "none", "ours", "error").values()] == pytest.approx([-10.0, -10.0])
    assert (len(choice.chosen), len(choice.incomplete)) == (3, 1)


def test_settings_that_differ_in_what_a_method_does_not_name_are_two(recipe, tmp_path):
    (tmp_path / "mine.toml").write_text(
        """
title = "Mine"
shared = { dataset = "iris", validation = 0.2, model = "fc", model_options = { hidden = [4] }, k = 4, alpha = 1 }
cell = [{ lr = 0.1 }, { lr = 0.01 }]
"""
    )
    mine = read_recipe(str(tmp_path / "mine.toml"))
    runs = runs_of(mine, figures=lambda cell, number, seed: (0.5, 0.1 * number))
    choice = tune_by_validation(mine, runs, ["k-mixup"])
    assert choice.grids == {"k-mixup": ("k 4, alpha 1, lr 0.1", "k 4, alpha 1, lr 0.01")}
    assert [found["k-mixup"].trial.lr for found in choice.chosen.values()] == [0.1]


def test_gains_are_paired_by_split(recipe):
    def figures(cell, number, seed):
        return (0.1 + 0.1 * seed - 0.05 * (cell.settings.method == "k-mixup"), 0.2)

    tuned = tune_by_validation(recipe, runs_of(recipe, seeds=(0, 1, 2), figures=figures), METHODS)
    for gain in gains(tuned, "k-mixup", "erm", "error").values():
        assert gain.mean == pytest.approx(5.0)
        assert gain.std_error == pytest.approx(0.0, abs=1e-9)
        assert gain.n == 3


def test_a_relation_is_spearmans_and_holds_for_sets_left_out_only_if_there_is_one():
    rng = np.random.default_rng(0)
    x = rng.normal(size=40)
    y = x + 0.3 * rng.normal(size=40)
    strong = relation(x, y)
    assert strong.rho == pytest.approx(stats.spearmanr(x, y).statistic)
    assert strong.low < strong.rho < strong.high
    assert strong.shown
    assert relation(x, -y).rho == pytest.approx(-strong.rho)
    none = [relation(rng.normal(size=20), rng.normal(size=20)) for _ in range(200)]
    assert np.mean([each.skill for each in none]) < 0
    assert np.mean([each.low > 0 or each.high < 0 for each in none]) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)
    assert not relation(np.ones(9), rng.normal(size=9)).shown
    with pytest.raises(ValueError, match="at least 5 data sets, got 4"):
        relation([1, 2, 3, 4], [1, 2, 3, 4])
