"""Search spaces for k and alpha, asked of a trial that gives what it is told to."""

import optuna
import pytest
import torch

from kmixup import KMixup, calibrate, suggest
from kmixup.tuning import ALPHAS, RECIPES

X = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))


class Given:
    """A trial with given parameters; Optuna has no part in it."""

    def __init__(self, **params):
        self.params, self.offered, self.attrs = params, {}, {}

    def suggest_categorical(self, name, choices):
        self.offered[name] = list(choices)
        assert self.params[name] in choices
        return self.params[name]

    def suggest_float(self, name, low, high, *, log):
        self.offered[name] = (low, high, log)
        return self.params[name]

    def set_user_attr(self, key, value):
        self.attrs[key] = value


def test_the_heuristic_is_alpha_1_and_k_a_power_of_2():
    trial = Given(k=8)
    assert suggest(trial, "heuristic") == {"k": 8, "alpha": 1.0}
    assert trial.offered == {"k": [1, 2, 4, 8, 16, 32]}


def test_xi_searches_alpha_of_mixup_first_and_then_k_that_perturbs_as_much():
    first = Given(alpha=0.2)
    assert suggest(first, "xi") == {"k": 1, "alpha": 0.2}
    assert first.offered == {"alpha": list(ALPHAS)}
    second = Given(k=8)
    found = suggest(second, "xi", alpha=0.2, x=X, batch_size=64)
    assert second.offered.keys() == {"k"}
    expected = calibrate(X, 8, 0.2, batch_size=64, generator=torch.Generator().manual_seed(0))
    assert found == {"k": 8, "alpha": expected.alpha_k}
    assert found["alpha"] > 0.2
    assert expected.xi_k == pytest.approx(expected.xi, rel=1e-6)
    assert second.attrs["kmixup"] == {**found, "attainable": True}


def test_the_grid_chooses_both_and_the_search_any_alpha_between():
    grid = Given(k=4, alpha=10.0)
    assert suggest(grid, "grid") == {"k": 4, "alpha": 10.0}
    assert grid.offered == {"k": [1, 2, 4, 8, 16, 32], "alpha": list(ALPHAS)}
    assert grid.attrs["kmixup"] == {"k": 4, "alpha": 10.0}
    search = Given(k=2, alpha=0.33)
    assert suggest(search, alphas=(0.1, 1.0)) == {"k": 2, "alpha": 0.33}
    assert search.offered["alpha"] == (0.1, 1.0, True)


def test_an_alpha_out_of_reach_is_marked():
    trial = Given(k=32, alpha=100.0)
    assert suggest(trial, "grid", x=X)["alpha"] == 100.0
    assert not trial.attrs["kmixup"]["attainable"]


def test_a_trial_run_again_gets_the_same_alpha_and_draws_nothing_from_torch():
    before = torch.get_rng_state()
    found = [suggest(Given(k=4, alpha=0.5), "grid", x=X) for _ in range(2)]
    assert found[0] == found[1]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_k_of_which_two_blocks_do_not_fit_is_not_offered():
    trial = Given(k=4)
    suggest(trial, "heuristic", batch_size=20)
    assert trial.offered["k"] == [1, 2, 4, 8]
    with pytest.raises(ValueError, match=r"none of ks=\[16, 32\] fits twice into a batch of 20"):
        suggest(Given(k=16), ks=(16, 32), batch_size=20)


def test_what_does_not_go_with_the_recipe_is_refused():
    with pytest.raises(ValueError, match="recipe must be one of heuristic, xi, grid, search, got 'best'"):
        suggest(Given(), "best")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"alpha is the first result of recipe 'xi', got alpha=0\.2 with 'grid'"):
        suggest(Given(), "grid", alpha=0.2)
    with pytest.raises(ValueError, match="keeps the perturbation of k = 1 on your data at every k: give them as x"):
        suggest(Given(k=4), "xi", alpha=0.2)


@pytest.mark.parametrize("recipe", RECIPES)
def test_optunas_trials_make_mixers(recipe):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(3):
        trial = study.ask()
        found = suggest(trial, recipe, batch_size=64)
        mixer = KMixup(**found, num_classes=2)
        assert {"k": mixer.k, "alpha": mixer.alpha} == found == trial.user_attrs["kmixup"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # ray's own
def test_rays_search_takes_it_as_its_space():
    from ray.tune.search.optuna import OptunaSearch

    def space(trial):
        suggest(trial, "search", batch_size=64)

    search = OptunaSearch(space, metric="accuracy", mode="max", seed=0)
    for number in range(3):
        config = search.suggest(str(number))
        assert config is not None
        assert config.keys() == {"k", "alpha"}
        KMixup(**config)
        search.on_trial_complete(str(number), {"accuracy": 1.0})
