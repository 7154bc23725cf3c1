"""The compiled core: optimal on every kind of data, on every instruction set that this processor has."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from kmixup import native

pytestmark = pytest.mark.skipif(not native.available(), reason=f"no compiled core: {native.description()}")


@pytest.mark.parametrize("metric", native.METRICS)
@pytest.mark.parametrize(("size", "k", "d"), [(64, 16, 2), (100, 16, 784), (130, 32, 5), (7, 3, 2), (5, 9, 100)])
def test_every_block_of_an_order_meets_the_block_before_it_at_least_cost(size, k, d, metric):
    generator = torch.Generator().manual_seed(0)
    points, order = torch.randn(size, d, generator=generator), torch.randperm(size, generator=generator)
    partner, before = native.roll(points, order, k, metric), order.roll(k)
    optimum = 0.0
    for b in range(0, size, k):
        cost = cdist(points[order[b : b + k]].double(), points[before[b : b + k]].double(), metric)
        optimum += cost[linear_sum_assignment(cost)].sum()
    gaps = torch.linalg.vector_norm(points.double() - points[partner].double(), dim=1)
    total = float(gaps.square().sum() if metric == "sqeuclidean" else gaps.sum())
    assert sorted(partner.tolist()) == list(range(size))
    assert total == pytest.approx(optimum, rel=1e-6)
    assert torch.equal(partner, native.match(points, points, order, before, k, metric))


def test_costs_are_those_of_scipy():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(3, 17, 70, generator=generator), torch.randn(3, 5, 70, generator=generator)
    expected = np.stack([cdist(a.double(), b.double(), "sqeuclidean") for a, b in zip(x, y, strict=True)])
    torch.testing.assert_close(native.costs(x, y), torch.from_numpy(expected).float(), rtol=1e-6, atol=0)


def test_forbidden_pairs_that_leave_no_matching_are_reported():
    cost = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0))
    cost[1, 0] = torch.inf
    with pytest.raises(native.InfeasibleError, match="problem 1") as caught:
        native.solve(cost)
    assert caught.value.problem == 1
