"""Which reading explains the published numbers: likelihood ratios against an oracle, and of data from one reading."""

import math

import numpy as np
import pytest
from scipy import stats

from kmixup.experiments.misfit import Place, between_laboratories, compare, log_likelihood

ROUNDING = 0.01 / math.sqrt(12)


def place(data="ring", published=2.0, trials=20, confidence=None, **errors):
    return Place(data, published, trials, confidence, errors)


def test_the_variance_pools_the_readings_and_adds_the_printed_one():
    # In logarithms of error + 1/2 the first reading has variance 1/2 of 2 degrees less 1, the second none.
    one = place(a=[math.e - 0.5, math.e**2 - 0.5], b=[1.0, 1.0, 1.0])
    pooled = 0.5 / 3
    rounding = (ROUNDING / 2.5) ** 2
    assert one.variance("a") == pytest.approx(pooled / 2 + pooled / 20 + rounding)
    assert one.variance("b") == pytest.approx(pooled / 3 + pooled / 20 + rounding)
    printed = place(confidence=0.196, a=[math.e - 0.5, math.e**2 - 0.5], b=[1.0, 1.0, 1.0])
    assert printed.variance("a") == pytest.approx(pooled / 2 + (0.1 / 2.5) ** 2 + rounding)
    assert place(a=[1.0]).variance("a") == pytest.approx(rounding)
    assert one.gap("b") == pytest.approx(math.log(2.5 / 1.5))


def test_what_laboratories_differ_by_is_what_standard_errors_leave():
    gaps = [place(published=2.0, a=[1.0, 1.0]), place(published=1.0, a=[2.0, 2.0])]
    expected = math.log(2.5 / 1.5) ** 2 - ROUNDING**2 * (2.5**-2 + 1.5**-2) / 2
    assert between_laboratories(gaps, "a") == pytest.approx(expected)
    assert between_laboratories([place(published=1.0, a=[0.0, 2.5])], "a") == 0


@pytest.mark.parametrize("shared", [0.0, 0.5, 1.0])
def test_the_likelihood_is_the_multivariate_normal_density(shared):
    places = [
        place("ring", 2.0, a=[1.0, 2.0]),
        place("ring", 3.0, a=[3.0, 3.5]),
        place("roll", 9.0, confidence=0.5, a=[20.0, 21.0]),
    ]
    same = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    tau_sq = 0.3
    covariance = np.diag([p.variance("a") for p in places]) + tau_sq * ((1 - shared) * np.eye(3) + shared * same)
    expected = stats.multivariate_normal(np.zeros(3), covariance).logpdf([p.gap("a") for p in places])
    assert log_likelihood(places, "a", tau_sq, shared) == pytest.approx(expected)


def test_a_ratio_is_a_range_over_what_data_sets_share_and_leaves_each_out_once():
    same = {"a": [1.5, 1.6], "b": [1.5, 1.6]}
    reference = [place(published=2.0, **same), place(published=1.0, **same)]
    places = [
        place("ring", 2.0, a=[2.0, 2.1], b=[4.0, 4.1]),
        place("ring", 3.0, a=[3.0, 3.1], b=[5.0, 5.1]),
        place("roll", 5.0, a=[6.0, 6.1], b=[5.0, 5.1]),
        place("roll", 5.0, a=[6.0, 6.1]),
        place("roll", 5.0, a=[6.0, 6.1], b=[]),
    ]
    found = compare("a", "b", places, reference)
    tau_sq = between_laboratories(reference, "a")

    def ratios(which):
        logs = [log_likelihood(which, "a", tau_sq, c) - log_likelihood(which, "b", tau_sq, c) for c in (0, 0.5, 1)]
        return pytest.approx((math.exp(min(logs)), math.exp(max(logs))))

    assert (found.one, found.other, found.cells) == ("a", "b", 3)
    assert found.ratio == ratios(places[:3])
    assert found.without == {"ring": ratios(places[2:3]), "roll": ratios(places[:2])}
    assert found.misfit == pytest.approx(
        (math.sqrt((0.05**2 * 2 + 1.05**2) / 3), math.sqrt((2.05**2 * 2 + 0.05**2) / 3))
    )
    assert found.tau == pytest.approx(math.sqrt(tau_sq))
    other = compare("b", "a", places, reference)
    assert other.ratio == pytest.approx((1 / found.ratio[1], 1 / found.ratio[0]))


def test_where_the_better_reading_misses_by_more_than_laboratories_differ_it_sets_the_scale():
    reference = [place(published=1.5, a=[1.5, 1.5], b=[1.5, 1.5])]
    places = [place("ring", 2.0, a=[4.0, 4.0], b=[6.0, 6.0])]
    found = compare("a", "b", places, reference)
    assert found.tau == pytest.approx(math.sqrt(between_laboratories(places, "a")))
    assert found.tau > math.sqrt(between_laboratories(reference, "a"))
    assert 1 < found.ratio[1] < 10


def test_a_ratio_beyond_all_doubt_stays_a_number():
    reference = [place(published=1.5, a=[1.5, 1.5])]
    found = compare("a", "b", [place(published=2.0, a=[2.0, 2.0], b=[9.0, 9.0])], reference)
    assert found.ratio == (math.exp(100), math.exp(100))
    assert found.without == {}


def test_nothing_is_compared_without_cells_or_without_a_reference():
    both = place(a=[1.0, 2.0], b=[1.0, 2.0])
    assert compare("a", "b", [both], []) is None
    assert compare("a", "b", [place(a=[1.0, 2.0])], [both]) is None


def test_the_reading_that_made_the_numbers_wins_most_often():
    rng = np.random.default_rng(0)
    wins = 0
    for _ in range(200):
        lab = rng.normal(0, 0.1, 8)
        truth = rng.uniform(1, 10, 8)
        printed = (truth + 0.5) * np.exp(lab) - 0.5
        reference = [place(published=printed[i], a=list(truth[i] + rng.normal(0, 0.1, 5))) for i in range(4)]
        places = [
            place(
                f"d{i}",
                printed[i],
                a=list(truth[i] + rng.normal(0, 0.1, 5)),
                b=list(1.4 * truth[i] + rng.normal(0, 0.1, 5)),
            )
            for i in range(4, 8)
        ]
        found = compare("a", "b", places, reference)
        wins += found.ratio[0] > 1
    assert wins >= 180
