"""Means with their errors, against numpy and scipy."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from kmixup import Estimate


def test_an_estimate_is_the_mean_and_its_standard_error():
    values = torch.randn(37, generator=torch.Generator().manual_seed(0))
    found = Estimate.of(values)
    assert found.n == 37
    assert found.mean == pytest.approx(float(values.double().mean()), rel=1e-12)
    assert found.std_error == pytest.approx(stats.sem(values.double().numpy()), rel=1e-12)


@pytest.mark.parametrize("values", [[1, 2, 4], np.array([1.0, 2.0, 4.0]), torch.tensor([[1], [2], [4]])])
def test_values_come_in_any_form(values):
    assert Estimate.of(values).mean == pytest.approx(7 / 3)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_the_interval_is_students(level):
    values = [0.3, 1.2, -0.7, 2.2]
    low, high = stats.t.interval(level, 3, np.mean(values), stats.sem(values))
    assert Estimate.of(values).interval(level) == pytest.approx((low, high))


def test_the_interval_covers_as_often_as_it_says():
    draws = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covered = sum(low < 0 < high for low, high in (Estimate.of(row).interval(0.9) for row in draws))
    assert abs(covered / 2000 - 0.9) < 5 * math.sqrt(0.09 / 2000)


def test_an_exact_value_has_no_width_and_a_single_draw_no_end():
    assert Estimate.exact(3.0).interval() == (3.0, 3.0)
    assert Estimate.of([3.0]) == Estimate(3.0, math.inf, 1)
    assert Estimate.of([3.0]).interval() == (-math.inf, math.inf)


@pytest.mark.parametrize(("level", "enough"), [(0.9, 5), (0.95, 6), (0.99, 8)])
@pytest.mark.parametrize("value", [-1.0, 0.1, 1 / 3])
def test_equal_draws_show_something_where_the_sign_test_does(level, enough, value):
    for n in range(2, 12):
        found = Estimate.of([value] * n)
        assert found.std_error == 0
        shown = stats.binomtest(n, n).pvalue <= 1 - level
        assert shown == (n >= enough)
        assert found.interval(level) == ((found.mean, found.mean) if shown else (-math.inf, math.inf))


def test_what_cannot_be_estimated_is_refused():
    with pytest.raises(ValueError, match="at least one draw"):
        Estimate.of([])
    with pytest.raises(ValueError, match=r"level must be in \(0, 1\), got 95"):
        Estimate.of([1.0, 2.0]).interval(95)
