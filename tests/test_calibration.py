"""Closed forms against quadrature, golden values of the paper, what mixers do in batches, Algorithm 1 as printed."""

import collections
import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import polars
import pytest
import torch
from scipy.integrate import quad
from scipy.sparse import csr_array
from scipy.special import entr
from scipy.stats import beta
from sklearn.datasets import load_breast_cancer, load_iris

from kmixup import (
    Estimate,
    KMixup,
    algorithm_1,
    alpha_for,
    assign,
    calibrate,
    cost_matrix,
    matched_sq_distance,
    mean_sq_distance,
    min_lam_sq,
    transport_cost,
)
from kmixup.calibration import RULES
from kmixup.lam import mean_label_entropy


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scalar_standardised(data: np.ndarray) -> torch.Tensor:
    """One mean and one standard deviation for the whole table, the preprocessing that fits the paper's xi."""
    return torch.from_numpy((data - data.mean()) / data.std())


def gaussian(n: int = 500, d: int = 4) -> torch.Tensor:
    return torch.randn(n, d, generator=generator(), dtype=torch.float64)


# --- closed forms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1e-3, 0.05, 0.1, 0.5, 1, 2, 10, 100, 1e3, 1e4])
def test_min_lam_sq_equals_quadrature(alpha):
    # Substituting lam = t^(1/alpha) removes the singularity of the density at 0; the integrand is symmetric in lam.
    log_beta = 2 * math.lgamma(alpha) - math.lgamma(2 * alpha)

    def integrand(t: float) -> float:
        lam = t ** (1 / alpha)
        return lam**2 * math.exp((alpha - 1) * math.log1p(-lam) - log_beta) / alpha

    if alpha < 600:
        value, _ = quad(integrand, 0, 0.5**alpha, epsabs=0, epsrel=1e-12, limit=500)
    else:  # concentrated at 1/2, where the density itself is smooth
        value, _ = quad(lambda v: v**2 * beta.pdf(v, alpha, alpha), 0.5 - 12 / math.sqrt(8 * alpha), 0.5, epsrel=1e-12)
    assert min_lam_sq(alpha) == pytest.approx(2 * value, rel=1e-10)


def test_min_lam_sq_equals_a_monte_carlo_mean_within_five_sigma():
    lam = np.random.default_rng(0).beta(0.3, 0.3, 200_000)
    sample = np.minimum(lam, 1 - lam) ** 2
    assert abs(sample.mean() - min_lam_sq(0.3)) < 5 * sample.std() / math.sqrt(len(sample))


def test_min_lam_sq_rises_from_zero_to_a_quarter():
    values = [min_lam_sq(alpha) for alpha in (0, *np.logspace(-6, 8, 60), math.inf)]
    assert values[0] == 0
    assert values[-1] == 0.25
    assert all(a < b for a, b in itertools.pairwise(values))
    assert min_lam_sq(1) == pytest.approx(1 / 12)  # uniform lam: 2 * integral of v^2 up to 1/2


@pytest.mark.parametrize("alpha", [1e-4, 0.05, 1, 30, 1e5])
def test_alpha_for_inverts_min_lam_sq(alpha):
    assert alpha_for(min_lam_sq(alpha)) == pytest.approx(alpha, rel=1e-7)


@pytest.mark.parametrize("alpha", [1e-3, 0.2, 1, 7.5, 300])
def test_the_mean_entropy_of_mixed_labels_equals_quadrature(alpha):
    law = beta(alpha, alpha)

    def entropy(u: float) -> float:
        lam = law.ppf(u)
        return float(entr(lam) + entr(1 - lam))

    value, _ = quad(entropy, 0, 0.5, epsrel=1e-10, limit=400)
    assert mean_label_entropy(alpha) == pytest.approx(2 * value, rel=1e-5, abs=1e-9)
    assert mean_label_entropy(0) == 0
    assert mean_label_entropy(math.inf) == math.log(2)


def test_alpha_for_knows_the_limits():
    assert alpha_for(0) == 0
    assert alpha_for(0.25) == math.inf
    for moment in (-0.1, 0.26, float("nan")):
        with pytest.raises(ValueError, match=r"moment must be in \[0, 1/4\]"):
            alpha_for(moment)


def test_mean_sq_distance_equals_the_mean_over_all_pairs():
    x = gaussian(40) + 1e6
    pairs = (x[:, None] - x[None]).square().sum(-1)
    assert mean_sq_distance(x) == pytest.approx(float(pairs.mean()), rel=1e-9)
    assert mean_sq_distance(x.view(40, 2, 2)) == mean_sq_distance(x)
    assert mean_sq_distance(x.float() - 1e6) == pytest.approx(mean_sq_distance(x.float().double() - 1e6), rel=1e-6)


def test_matched_sq_distance_agrees_with_an_independent_loop_within_five_sigma():
    x, k = gaussian(), 8
    estimate = matched_sq_distance(x, k, pairs=8000, generator=generator())
    draw = np.random.default_rng(1)
    costs = []
    for _ in range(1000):
        a, b = (x[draw.choice(len(x), k, replace=False)] for _ in range(2))
        cost = cost_matrix(a, b)
        costs.append(float(transport_cost(cost, assign(cost))))
    error = math.hypot(estimate.std_error, np.std(costs) / math.sqrt(len(costs)))
    assert estimate.n == 1000
    assert abs(estimate.mean - np.mean(costs)) < 5 * error


def test_matched_distances_shrink_as_k_grows():
    means = [matched_sq_distance(gaussian(), k, generator=generator()).mean for k in (1, 2, 4, 16, 64)]
    assert means == sorted(means, reverse=True)


# --- the paper's numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "published"),
    [
        (load_iris, {0.05: 0.07, 0.1: 0.10, 1.0: 0.22}),  # Table 5
        (load_breast_cancer, {0.05: 0.19, 0.1: 0.26, 1.0: 0.59}),
    ],
)
def test_the_printed_xi_of_table_5_is_half_of_the_definition(load, published):
    x = scalar_standardised(load().data)
    for alpha, printed in published.items():
        # Truncated or rounded to two digits in print, from a Monte Carlo estimate.
        assert calibrate(x, 1, alpha).printed_xi == pytest.approx(printed, abs=0.011)


# --- calibration ------------------------------------------------------------------------------------------------------


def test_the_exact_rule_keeps_xi_and_the_none_rule_keeps_alpha():
    x = gaussian()
    exact = calibrate(x, 16, 0.2, "exact", generator=generator())
    assert exact.attainable
    assert exact.xi_k == pytest.approx(exact.xi, rel=1e-6)
    assert exact.alpha_k > exact.alpha
    none = calibrate(x, 16, 0.2, "none", generator=generator())
    assert none.alpha_k == 0.2
    assert none.xi_k < none.xi


def test_the_sqrt_rule_asks_for_the_square_root_of_the_ratio():
    found = calibrate(gaussian(), 16, 0.2, "sqrt", generator=generator())
    ratio = found.sq_distance / found.matched.mean
    assert min_lam_sq(found.alpha_k) == pytest.approx(min_lam_sq(0.2) * math.sqrt(ratio), rel=1e-6)


def test_xi_is_the_root_mean_squared_perturbation_of_real_plans():
    # min(lam, 1 - lam) |x - partner|, over many batches of a mixer with alpha_k.
    x = gaussian(512)
    found = calibrate(x, 8, 0.3, generator=generator())
    mixer = KMixup(8, found.alpha_k, lam_per="sample", generator=generator(1))
    squares = []
    for _ in range(60):
        plan = mixer.plan(x)
        weight = torch.minimum(plan.lam, 1 - plan.lam)
        squares.append(float((weight.unsqueeze(1) * (x - x[plan.partner])).square().sum(1).mean()))
    error = np.std(squares) / math.sqrt(len(squares)) + found.matched.std_error * min_lam_sq(found.alpha_k)
    assert abs(np.mean(squares) - found.xi**2) < 5 * error


@pytest.mark.parametrize("rule", RULES)
def test_k_one_changes_nothing(rule):
    found = calibrate(gaussian(), 1, 0.7, rule)
    assert found.alpha_k == 0.7
    assert found.attainable
    assert found.xi_k == pytest.approx(found.xi)
    assert found.matched.std_error == 0


@pytest.mark.parametrize("max_alpha", [100.0, math.inf])
def test_an_unattainable_xi_is_reported_not_hidden(max_alpha):
    found = calibrate(gaussian(), 64, 10.0, max_alpha=max_alpha, generator=generator())
    assert not found.attainable
    assert found.alpha_k == max_alpha
    assert found.xi_k < found.xi
    assert found.max_xi == math.sqrt(found.matched.mean) / 2 < found.xi


def simulated(mixer: KMixup, x: torch.Tensor, batch: int, batches: int = 400) -> Estimate:
    """Mean squared distance of partners in batches that a training loop would draw."""
    draw = np.random.default_rng(5)
    rows = [draw.choice(len(x), batch, replace=False) for _ in range(batches)]
    return Estimate.of([mixer.plan(x[own]).stats(x[own]).matched_sq_distance for own in rows])


def agree(a: Estimate, b: Estimate) -> bool:
    return abs(a.mean - b.mean) < 5 * math.hypot(a.std_error, b.std_error)


def test_d_k_is_the_mean_over_all_pairs_of_disjoint_sets():
    x = gaussian(6, 2)
    costs = []
    for first in itertools.combinations(range(6), 2):
        for second in itertools.combinations(sorted(set(range(6)) - set(first)), 2):
            cost = cost_matrix(x[list(first)], x[list(second)])
            costs.append(float(transport_cost(cost, assign(cost))))
    found = calibrate(x, 2, 0.2, batch_size=4, pairs=40_000, generator=generator()).matched
    assert found.std_error < 0.02 * found.mean
    assert abs(found.mean - np.mean(costs)) < 5 * found.std_error


@pytest.mark.parametrize(
    ("options", "batch"),
    [
        ({}, 64),
        ({}, 90),  # the last block is smaller
        ({"pairing": "shuffle"}, 32),  # a sample meets itself in half of the blocks' draws
        ({"metric": "cosine"}, 64),
        ({"features": lambda batch: batch[:, :1]}, 64),
    ],
)
def test_d_k_is_what_the_mixer_does_in_training(options, batch):
    x = gaussian(100)
    found = calibrate(x, KMixup(16, 1.0, **options), 0.2, batch_size=batch, generator=generator())
    assert agree(found.matched, simulated(KMixup(16, 1.0, generator=generator(1), **options), x, batch))


@pytest.mark.parametrize(("n", "k", "alpha_k"), [(64, 32, 0.437), (150, 16, 2.83)])
def test_small_data_are_calibrated_to_sets_that_share_no_points(n, k, alpha_k):
    if n == 150:
        x = torch.tensor(load_iris().data)
        x = (x - x.mean(0)) / x.std(0)
    else:
        x = torch.randn(64, 16, generator=generator())
    found = calibrate(x, k, 0.2, pairs=100_000, generator=generator())
    assert found.alpha_k == pytest.approx(alpha_k, rel=0.05)
    assert found.matched.mean > matched_sq_distance(x, k, generator=generator()).mean  # those share points


def test_calibrate_with_k_and_with_a_mixer_are_one():
    x, mixer = gaussian(), KMixup(8, 5.0, generator=generator(7))
    state = mixer.generator.get_state()
    assert calibrate(x, mixer, 0.2, generator=generator()) == calibrate(x, 8, 0.2, generator=generator())
    assert torch.equal(mixer.generator.get_state(), state)
    assert mixer.alpha == 5.0


def test_a_k_that_does_not_fit_the_batch_is_measured_as_the_mixer_shrinks_it():
    x = gaussian(40)
    with pytest.warns(UserWarning, match="too small for k=32: using k=16"):
        found = calibrate(x, 32, 0.2, batch_size=32, generator=generator())
    assert agree(found.matched, calibrate(x, 16, 0.2, batch_size=32, generator=generator(1)).matched)


def test_the_interval_of_alpha_k_is_that_of_the_distance():
    found = calibrate(gaussian(), 16, 0.2, generator=generator())
    low, high = found.alpha_interval
    assert low < found.alpha_k < high
    near, far = found.matched.interval()
    assert min_lam_sq(low) * far == pytest.approx(min_lam_sq(0.2) * found.sq_distance)
    assert min_lam_sq(high) * near == pytest.approx(min_lam_sq(0.2) * found.sq_distance)
    assert calibrate(gaussian(), 16, 0.2, "none", generator=generator()).alpha_interval == (0.2, 0.2)
    assert calibrate(gaussian(), 1, 0.2).alpha_interval == (0.2, 0.2)


def test_the_interval_of_alpha_k_covers_the_right_one():
    x = gaussian(100)
    right = calibrate(x, 8, 0.2, pairs=400_000, generator=generator(99)).alpha_k
    intervals = [calibrate(x, 8, 0.2, pairs=2000, generator=generator(seed)).alpha_interval for seed in range(100)]
    assert sum(low <= right <= high for low, high in intervals) > 84  # five sigma below 95


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("k", [1, 8])
def test_no_rule_answers_with_more_than_max_alpha(rule, k):
    found = calibrate(gaussian(), k, 3.0, rule, max_alpha=2.0, generator=generator())
    assert (found.alpha_k, found.attainable) == (2.0, False)
    assert found.alpha_interval == (2.0, 2.0)


def test_a_block_that_meets_itself_moves_nothing():
    found = calibrate(gaussian(16), KMixup(16, 1.0, pairing="shuffle"), 0.2, batch_size=16)
    assert (found.matched.mean, found.xi_k, found.attainable) == (0.0, 0.0, False)


def test_calibration_does_not_depend_on_the_origin():
    x = gaussian().float()
    near, far = (calibrate(points, 8, 0.2, generator=generator()) for points in (x, x + 1e4))
    assert far.matched.mean == pytest.approx(near.matched.mean, rel=1e-3)  # float32 keeps a thousandth at 1e4
    assert far.alpha_k == pytest.approx(near.alpha_k, rel=3e-3)


def test_finite_numbers_whose_sum_overflows_are_no_missing_values():
    x = torch.full((40, 8), 3e4, dtype=torch.float16) + 100 * gaussian(40, 8).half()
    assert calibrate(x, 4, 0.2, generator=generator()).attainable


@pytest.mark.parametrize("make", [lambda x: x.numpy(), lambda x: x.tolist(), lambda x: pd.DataFrame(x.numpy())])
def test_arrays_lists_and_frames_are_taken(make):
    x = gaussian(50)
    assert calibrate(make(x), 4, 0.2, generator=generator()) == calibrate(x, 4, 0.2, generator=generator())


def test_a_structured_batch_is_matched_on_its_features_and_measured_on_what_is_mixed():
    x = gaussian(60, 6)
    parts = {"a": x[:, :2].reshape(60, 2, 1), "b": x[:, 2:], "id": torch.arange(60)}
    together = KMixup(4, 1.0, features=lambda batch: torch.cat([batch["a"].flatten(1), batch["b"]], 1))
    found, expected = (calibrate(*args, 0.2, generator=generator()) for args in ((parts, together), (x, 4)))
    assert found.matched.mean == pytest.approx(expected.matched.mean)
    assert found.sq_distance == pytest.approx(expected.sq_distance)


@dataclasses.dataclass
class Record:
    x: torch.Tensor
    names: list[str]


@pytest.mark.parametrize(
    ("wrap", "options"),
    [
        (lambda x: {"x": x, "attention_mask": (x[:, :2] > 0).float()}, {}),
        (lambda x: {"x": x, "aux": 100 * x[:, :2]}, {"leaves": {"aux": "own"}}),
        (lambda x: {"x": x, "aux": x[:, 0] / 0}, {"leaves": {"aux": "own"}, "features": lambda batch: batch["x"]}),
        (lambda x: {"x": x, "id": np.ma.array(range(len(x)), mask=False), "n": 3, "path": ["a"] * len(x)}, {}),
        (lambda x: collections.UserDict(x=x, id=torch.arange(len(x))), {}),
        (lambda x: Record(x, ["a"] * len(x)), {}),
        (lambda x: pd.DataFrame(x.numpy(), columns=list("aabc")), {}),
        (lambda x: polars.DataFrame(x.numpy()), {}),
        (lambda x: torch.view_as_complex(x.view(len(x), 2, 2)), {}),
    ],
    ids=["mask", "own", "own with NaN", "kept", "UserDict", "dataclass", "one name twice", "polars", "complex"],
)
def test_what_is_mixed_is_measured_and_nothing_else(wrap, options):
    x = gaussian(60)
    mixers = KMixup(4, 1.0, **options), KMixup(4, 1.0)
    found, expected = (calibrate(*args, 0.2, generator=generator()) for args in zip((wrap(x), x), mixers, strict=True))
    assert found.matched.mean == pytest.approx(expected.matched.mean)
    assert found.alpha_k == pytest.approx(expected.alpha_k)


@pytest.mark.parametrize("make", [lambda x: x, lambda x: pd.Series(x.numpy()), lambda x: x.tolist()])
def test_one_number_for_each_sample_is_a_point(make):
    x = gaussian(60, 1)
    assert calibrate(make(x[:, 0]), 4, 0.2, generator=generator()) == calibrate(x, 4, 0.2, generator=generator())


def test_a_leaf_in_doubt_is_refused_as_the_mixer_refuses_it():
    with pytest.raises(ValueError, match=r"'mask' holds .*leaves=\{'mask'"):
        calibrate({"x": gaussian(60), "mask": torch.ones(60, 4)}, 4, 0.2)


@pytest.mark.parametrize("k", [1, 4])
def test_missing_values_are_refused_by_row_whatever_k(k):
    x = gaussian(64)
    x[3, 1], x[9, 0] = math.nan, math.inf
    for call in (calibrate, algorithm_1):
        with pytest.raises(ValueError, match=r"x has 2 row\(s\) with NaN or infinite values, the first is row 3"):
            call(x, k, 0.2)
    with pytest.raises(ValueError, match="the first is row 3"):
        mean_sq_distance(x)


def test_equal_points_leave_alpha_alone():
    assert calibrate(torch.ones(50, 3), 4, 0.5).alpha_k == 0.5


def test_mixing_switched_off_stays_off():
    found = calibrate(gaussian(), 4, 0.0)
    assert (found.alpha_k, found.xi, found.attainable) == (0.0, 0.0, True)


@pytest.mark.parametrize(("k", "alpha"), [(4, 0.5), (16, 0.1)])
def test_algorithm_1_as_printed_agrees_with_the_closed_form(k, alpha):
    x = gaussian()
    exact = calibrate(x, k, alpha, pairs=40_000, generator=generator())
    printed = [algorithm_1(x, k, alpha, trials=5_000, c=1.01, generator=generator(s)).alpha_k for s in range(6)]
    # The loop stops at the first crossing of a noisy curve, so it may stop a little early; 5 sigma plus one step.
    assert abs(np.mean(printed) - exact.alpha_k) < 5 * np.std(printed) + 0.01 * exact.alpha_k


def test_algorithm_1_is_not_attainable_where_its_last_step_goes_beyond_gamma():
    found = algorithm_1(gaussian(), 6, 1.0, trials=2000, c=2.0, gamma=5.0, generator=generator())
    assert not found.attainable
    assert found.alpha_k == 8.0


def test_algorithm_1_stays_where_it_starts_if_partners_are_no_closer():
    # Its start is the moment that made xi (step 5), not a second draw of it that could fall short.
    found = [algorithm_1(gaussian(), 1, 1.0, trials=50, c=1.5, generator=generator(seed)) for seed in range(20)]
    near = [each.alpha_k for each in found if each.matched.mean >= each.sq_distance]
    assert len(near) > 5
    assert set(near) == {1.0}


def test_algorithm_1_says_when_it_reached_gamma():
    found = algorithm_1(gaussian(), 64, 25.0, trials=2000, c=2.0, generator=generator())
    assert not found.attainable
    assert found.alpha_k == 100.0  # after two steps


def test_algorithm_1_knows_that_no_lam_gives_more_than_one_half():
    # E[min(lam, 1 - lam)^2] is 1/12 at alpha = 1 and never more than 1/4: a ratio of distances above 3 is out of reach.
    found = algorithm_1(gaussian(500, 2), 11, 1.0, trials=20_000, c=1.5, generator=generator())
    assert 3.2 < found.sq_distance / found.matched.mean < 3.8
    assert not found.attainable


def test_calibration_is_reproducible_from_its_generator():
    assert calibrate(gaussian(), 8, 0.5, generator=generator()) == calibrate(gaussian(), 8, 0.5, generator=generator())
    usual = {"c": 1.01, "gamma": 100.0}  # what it takes where nothing is said
    printed = [algorithm_1(gaussian(), 4, 0.5, trials=500, generator=generator(), **said) for said in ({}, {}, usual)]
    assert printed[0] == printed[1] == printed[2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: min_lam_sq(-1), "alpha must be >= 0"),
        (lambda: min_lam_sq(float("nan")), "alpha must be >= 0"),
        (lambda: calibrate(gaussian(), 4, -1.0), "alpha must be >= 0"),
        (lambda: calibrate(gaussian(), 4, 1.0, "linear"), "rule must be one of exact, sqrt, none"),
        (lambda: calibrate(gaussian(), 4, 1.0, max_alpha=0), "max_alpha must be > 0"),
        (lambda: calibrate(gaussian(10), 11, 1.0), "k must be between 1 and the number of samples 10, got 11"),
        (lambda: calibrate(gaussian(10), 0, 1.0), "k must be between 1"),
        (lambda: calibrate(torch.zeros(5, 2, dtype=torch.uint8), 2, 1.0), "floating-point batch"),
        (lambda: calibrate(torch.tensor(1.0), 1, 1.0), "floating-point batch"),
        (lambda: calibrate(gaussian(), 4, 1.0, batch_size=0), "batch_size must be >= 1"),
        (lambda: calibrate([[1.0, 2.0], [1.0]], 1, 1.0), "rows differ in length"),
        (lambda: calibrate({"a": gaussian(4), "b": gaussian(5)}, 1, 1.0), r"one length N, got \[4, 5\]"),
        (lambda: calibrate(np.array([["a"], ["b"]]), 1, 1.0), "must hold numbers"),
        (lambda: calibrate(np.ma.array([[1.0], [2.0]], mask=[[0], [1]]), 1, 1.0), "the first is row 1"),
        (lambda: calibrate(pd.DataFrame({"a": [1.0], "colour": ["red"]}), 1, 1.0), "not numbers: colour"),
        (lambda: calibrate(pd.DataFrame({"a": pd.array([1, None, 3], "Int64")}), 1, 1.0), "the first is row 1"),
        (lambda: calibrate(pd.DataFrame(index=range(3)), 1, 1.0), "no columns"),
        (lambda: algorithm_1(gaussian(), 4, math.inf), "positive and finite"),
        (lambda: algorithm_1(gaussian(), 4, 0.0), "positive and finite"),
        (lambda: algorithm_1(gaussian(), 4, 1.0, c=1.0), "c must be > 1"),
        (lambda: algorithm_1(gaussian(10), 40, 1.0), "k must be between 1"),
    ],
)
def test_a_wrong_argument_is_named_in_the_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: calibrate(gaussian(), 4.0, 1.0), "k must be an integer or a KMixup, got 4.0"),
        (lambda: calibrate(csr_array(np.eye(4)), 2, 1.0), r"got csr_array. Use x.toarray\(\)"),
        (lambda: calibrate("table.csv", 2, 1.0), "x must be a tensor, an array, a data frame"),
    ],
)
def test_a_wrong_type_is_named_in_the_error(call, message):
    with pytest.raises(TypeError, match=message):
        call()
