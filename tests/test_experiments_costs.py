"""Counted costs of the tables."""

from __future__ import annotations

import pytest

from kmixup.experiments.costs import Cost, estimate_seconds, recipe_costs, trial_flops
from kmixup.experiments.recipe import read_recipe
from kmixup.experiments.training import run
from kmixup.experiments.trial import Trial
from test_experiments_training import trial


def test_the_operations_of_lenet_are_those_of_its_layers():
    # Multiplications and additions per image: forward, and twice that backward but for the first layer's input.
    layers = [6 * 25 * 24 * 24, 16 * 6 * 25 * 8 * 8, 120 * 16 * 16, 120 * 84, 84 * 10]
    forward = 2 * sum(layers)
    step = 3 * forward - 2 * layers[0]
    trial = Trial(dataset="mnist", model="lenet", method="erm", epochs=3)
    assert trial_flops(trial) == 3 * (60_000 * step + 10_000 * forward)


def test_matching_adds_k_products_per_sample():
    base = Trial(dataset="mnist", model="lenet", k=1, alpha=1)
    matched = Trial(dataset="mnist", model="lenet", k=16, alpha=1)
    assert trial_flops(matched) - trial_flops(base) == 200 * 60_000 * 16 * 2 * 784


def test_preact_resnet18_has_the_operations_known_for_it():
    trial = Trial(dataset="cifar10", model="preact-resnet18", method="erm", epochs=1)
    forward = trial_flops(trial) / (3 * 50_000 + 10_000)
    assert forward / 2 == pytest.approx(0.56e9, rel=0.02)  # 0.56 G multiply-adds on 32 x 32, as commonly listed


@pytest.mark.parametrize("name", ["table3", "table4", "table6", "table8", "table9", "table10", "table11"])
def test_every_image_and_speech_table_has_a_cost(name):
    for cost in recipe_costs(read_recipe(name)):
        assert cost.total > 1e15
        assert 0 <= cost.matching < 0.5


def test_hours_are_operations_over_speed():
    assert Cost("x", 10, 3.6e15, 0.0).hours(1e12) == pytest.approx(10.0)


def test_unknown_data_sets_have_no_cost():
    with pytest.raises(ValueError, match="sizes of 'one-ring' are not known"):
        recipe_costs(read_recipe("table1"))


def test_an_estimate_is_near_the_time_it_estimates():
    t = trial(method="k-mixup", k=4, alpha=1.0, epochs=50)
    estimate = estimate_seconds(t)
    assert estimate == pytest.approx(run(t).seconds.total, rel=3)
