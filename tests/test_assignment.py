"""Assignments against brute force, scipy in float64, and optima planted by construction."""

import itertools

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from kmixup import assign, cost_matrix, transport_cost


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points(n: int, k: int, d: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, k, d, generator=generator(seed), dtype=torch.float64).to(dtype)


def optimum(cost: np.ndarray) -> float:
    return float(cost[linear_sum_assignment(cost)].sum())


# --- assignment -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 6, 7])
def test_assign_equals_brute_force_over_all_permutations(k):
    cost = torch.rand(30, k, k, generator=generator(k), dtype=torch.float64)
    perms = torch.tensor(list(itertools.permutations(range(k))))
    best = torch.stack([c[torch.arange(k), perms].sum(1).min() for c in cost])
    torch.testing.assert_close(transport_cost(cost, assign(cost)) * k, best)


@pytest.mark.parametrize("solver", ["scipy", "enumerate"])
@pytest.mark.parametrize("shape", [(5, 5), (0, 5, 5), (7, 5, 5), (2, 3, 5, 5)])
def test_every_solver_finds_the_same_cost_for_every_leading_shape(solver, shape):
    cost = torch.randn(*shape, generator=generator(0), dtype=torch.float64)
    sigma = assign(cost, solver)
    assert sigma.dtype == torch.int64
    assert sigma.shape == shape[:-1]
    expected = torch.tensor([optimum(c) / 5 for c in cost.reshape(-1, 5, 5).numpy()], dtype=torch.float64)
    torch.testing.assert_close(transport_cost(cost, sigma).flatten(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solver", ["scipy", "enumerate"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_costs_of_half_precision_and_with_gradients_are_summed_exactly(dtype, solver):
    cost = torch.rand(20, 8, 8, generator=generator(0)).to(dtype)  # 8 is the most that are enumerated
    sigma = assign(cost.clone().requires_grad_(), solver)
    assert not sigma.requires_grad
    ours, least = (transport_cost(cost.double(), found) for found in (sigma, assign(cost.double(), "scipy")))
    torch.testing.assert_close(ours, least)


@pytest.mark.parametrize("solver", ["scipy", "enumerate"])
def test_costs_that_differ_in_their_tenth_digit_are_told_apart(solver):
    cost = 1 + 1e-9 * torch.rand(20, 6, 6, generator=generator(0), dtype=torch.float64)
    assert torch.equal(assign(cost, solver), assign(cost - 1, solver))


LEVELS = {
    "noise": lambda c: c,
    "rows of their own size": lambda c: c + 100 * torch.rand(c.shape[0], c.shape[1], 1, generator=generator(1)),
    "a far row": lambda c: torch.where(torch.arange(c.shape[1]).unsqueeze(1) == 3, 1e9, c),
    "a far column": lambda c: torch.where(torch.arange(c.shape[1]) == 3, 1e9, c),
    "below zero": lambda c: c - 5,
    "both signs": lambda c: c - 0.5,
    "a sum beyond float32": lambda c: c * 3e38,
    "both signs, sums beyond float32": lambda c: c * 1.6e38 * (-1.0) ** torch.arange(c.shape[1]),
}


@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize("k", [16, 128])
def test_rows_and_columns_of_any_level_are_solved_exactly(kind, k):
    cost = LEVELS[kind](torch.rand(max(2, 2**13 // k**2), k, k, generator=generator(0)))
    sigma = assign(cost).numpy()
    for matrix, found in zip(cost.double().numpy(), sigma, strict=True):
        best = linear_sum_assignment(matrix)[1]
        costs = [matrix[np.arange(k), columns] for columns in (found, best)]
        ours, least = (each[each != 1e9] for each in costs)  # beside one so large no digit of the others would count
        assert sorted(found) == list(range(k))
        assert ours.sum() <= least.sum() + 1e-6 * np.abs(least).sum()


def test_a_planted_permutation_is_recovered():
    # A convex gradient moves points optimally (Brenier): y = grad phi(x) is matched with its own x.
    x = points(10, 40, 6, seed=0)
    y = x + 0.5 * x.pow(3)  # phi(x) = |x|^2 / 2 + sum_j x_j^4 / 8
    hidden = torch.stack([torch.randperm(40, generator=generator(b)) for b in range(10)])
    shuffled = y.gather(1, hidden.unsqueeze(2).expand_as(y))
    sigma = assign(cost_matrix(x, shuffled))
    torch.testing.assert_close(hidden.gather(1, sigma), torch.arange(40).expand(10, 40))


def test_optimal_matchings_are_cyclically_monotone():
    x, y = points(1, 12, 3, seed=0)[0], points(1, 12, 3, seed=1)[0]
    cost = cost_matrix(x, y)
    matched = cost[:, assign(cost)]  # matched[i, j]: from x_i to the partner of x_j
    swap_gain = matched.diagonal()[:, None] + matched.diagonal()[None, :] - matched - matched.T
    assert swap_gain.max() <= 1e-12


def test_transport_cost_equals_pots_wasserstein_distance():
    x, y = points(1, 25, 4, seed=0)[0], points(1, 25, 4, seed=1)[0]
    cost = cost_matrix(x, y)
    weights = np.full(25, 1 / 25)
    expected = ot.emd2(weights, weights, cost.numpy())
    assert float(transport_cost(cost, assign(cost))) == pytest.approx(expected, rel=1e-10)


def test_scaling_the_costs_does_not_change_the_matching():
    cost = torch.rand(5, 20, 20, generator=generator(0), dtype=torch.float64)
    for scale in (1e-12, 1e12):
        torch.testing.assert_close(assign(cost * scale), assign(cost))


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solver", "k"),
    [*itertools.product(["auto", "scipy", "enumerate"], [2, 6]), ("scipy", 100), ("auto", 100)],
)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_nonfinite_cost_is_refused_before_any_solver_sees_it(solver, bad, k):
    cost = torch.zeros(3, k, k)
    cost[1, 0, 1] = bad
    first = r"1 infinite or NaN entries, the first at \[1, 0, 1\]"
    with pytest.raises(ValueError, match=f"{first}. Remove NaN from the data, or rescale it if squares overflow.$"):
        assign(cost, solver)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: assign(torch.zeros(2, 3)), "square matrices"),
        (lambda: assign(torch.zeros(4)), "square matrices"),
        (lambda: assign(torch.zeros(2, 0, 0)), "k >= 1"),
        (lambda: assign(torch.zeros(2, 2, dtype=torch.int64)), "floating point"),
        (
            lambda: assign(torch.zeros(2, 2), "sinkhorn"),
            "solver must be one of auto, enumerate, native, scipy, got 'sinkhorn'",
        ),
        (
            lambda: assign(torch.zeros(9, 9), "lapcpp"),
            "^solver 'lapcpp' is gone since 0.2. Use solver='auto', which is faster.$",
        ),
        (lambda: assign(torch.zeros(9, 9), "enumerate"), "k <= 8, got k=9"),
        (lambda: cost_matrix(torch.zeros(3, 2), torch.zeros(3, 4)), "equal leading shape and d"),
        (lambda: cost_matrix(torch.zeros(3), torch.zeros(3)), "equal leading shape and d"),
        (lambda: cost_matrix(torch.zeros(2, 3, 2), torch.zeros(1, 3, 2)), "equal leading shape and d"),
        (lambda: cost_matrix(torch.zeros(3, 2), torch.zeros(3, 2), "manhattan"), "metric must be one of"),
        (lambda: cost_matrix(torch.zeros(3, 2), torch.zeros(3, 2), lambda x, y: x), r"costs \[3, 3\].*got \[3, 2\]"),
        (lambda: cost_matrix(torch.zeros(3, 2), torch.zeros(3, 2), lambda x, y: 0.0), "got float"),
    ],
)
def test_a_wrong_argument_is_named_in_the_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_solver_is_a_registered_op_that_compiles_without_graph_breaks():
    torch.library.opcheck(torch.ops.kmixup.assign, (torch.rand(3, 6, 6), "auto"))
    cost = torch.rand(3, 6, 6, generator=generator(0))
    compiled = torch.compile(lambda c: assign(c) + 0, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(cost), assign(cost))
