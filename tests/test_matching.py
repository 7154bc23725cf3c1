"""Where blocks meet: optimal block by block, a bijection, equal to what 941bd26 gave, and one for many batches."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from kmixup import KMixup, MixPlan
from kmixup.matching import match_blocks, match_parts, partners

GOLDEN = json.loads((Path(__file__).parent / "golden" / "pairs_941bd26.json").read_text())


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def order_of(batch: int, seed: int = 0) -> torch.Tensor:
    return torch.randperm(batch, generator=torch.Generator().manual_seed(seed))


def golden_points(case: dict) -> torch.Tensor:
    number = torch.arange(1.0, case["batch"] * case["d"] + 1, dtype=torch.float64)
    return torch.sin(number**1.37).view(case["batch"], case["d"]).to(getattr(torch, case["dtype"]))


@pytest.mark.parametrize("case", GOLDEN, ids=lambda c: f"B{c['batch']}-k{c['k']}-d{c['d']}-{c['metric']}")
def test_given_an_order_the_partners_are_those_of_941bd26(case):
    x, order = golden_points(case), torch.tensor(case["order"])
    partner = partners(x, order, case["k"], metric=case["metric"])
    assert partner.tolist() == case["partner"]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda c: f"B{c['batch']}-k{c['k']}-d{c['d']}-{c['metric']}")
def test_given_order_and_lam_an_epoch_equals_plans_batch_by_batch_to_the_bit(case):
    x, targets = golden_points(case).float(), rand(case["batch"], 5, seed=1, dtype=torch.float32).softmax(1)
    mixer = KMixup(case["k"], 1.0, metric=case["metric"])
    orders = [order_of(case["batch"], seed) for seed in range(3)]
    lam = rand(3, 1, seed=2).sigmoid()
    plans = [mixer.meet(x, order, weight[0]) for order, weight in zip(orders, lam, strict=True)]
    # An epoch of the engine: batches that come in their order, all at once.
    batches = torch.stack([x[order] for order in orders])
    partner = partners(batches, None, case["k"], metric=case["metric"])
    unmatched = torch.arange(case["batch"]).roll(case["k"])
    epoch = MixPlan.of_batches(partner, lam.expand(3, case["batch"]), unmatched)
    mixed = epoch.mix(batches.flatten(0, 1)).unflatten(0, (3, -1))
    soft = epoch.mix(torch.cat([targets[order] for order in orders])).unflatten(0, (3, -1))
    for b, (order, plan) in enumerate(zip(orders, plans, strict=True)):
        assert torch.equal(order[partner[b]], plan.partner[order])
        assert torch.equal(mixed[b], plan.mix(x)[order])
        assert torch.equal(soft[b], plan.mix(targets)[order])


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine"])
@pytest.mark.parametrize(("batch", "k"), [(6, 3), (16, 8), (43, 8), (50, 16), (70, 32), (200, 100), (9, 9), (7, 1)])
def test_every_block_is_matched_optimally_with_the_block_before_it(batch, k, metric):
    x, order = rand(batch, 5), order_of(batch)
    partner = partners(x, order, k, metric=metric)
    assert torch.equal(partner.sort().values, torch.arange(batch))
    before = order.roll(k)
    for start in range(0, batch, k):
        block, candidates = order[start : start + k], before[start : start + k]
        assert set(partner[block].tolist()) == set(candidates.tolist())
        cost = cdist(x[block], x[candidates], metric)
        found = sum(cdist(x[i : i + 1], x[partner[i] : partner[i] + 1], metric).item() for i in block)
        assert found == pytest.approx(cost[linear_sum_assignment(cost)].sum(), rel=1e-12)


@pytest.mark.parametrize("k", [1, 3, 8, 24])
def test_two_sets_are_matched_block_by_block_as_in_figure_5(k):
    x, x2 = rand(20, 24, 3), rand(20, 24, 3, seed=1)
    sigma = match_blocks(x, x2, k, metric="euclidean")
    for a, b, found in zip(x, x2, sigma, strict=True):
        for start in range(0, 24, k):
            cost = cdist(a[start : start + k], b[start : start + k])  # the paper's Figure 5
            expected = linear_sum_assignment(cost)[1] + start
            np.testing.assert_array_equal(found[start : start + k].numpy(), expected)


def test_many_batches_at_once_are_matched_as_one_by_one():
    x = rand(2, 3, 29, 4)
    orders = torch.stack([order_of(29, seed) for seed in range(6)]).view(2, 3, 29)
    together = partners(x, orders, 8)
    for place in np.ndindex(2, 3):
        assert torch.equal(together[place], partners(x[place], orders[place], 8))
    assert torch.equal(partners(x, orders[0, 0], 8)[1, 2], partners(x[1, 2], orders[0, 0], 8))


@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-30, 1e-19, 1.0, 1e19, 1e30, 1e35])
@pytest.mark.parametrize("d", [3, 90])
def test_float32_points_whose_squares_vanish_or_overflow_are_matched_exactly(scale, d):
    whole = (100 * rand(64, d)).round()  # stays exact at every scale that float32 has
    x = (whole * scale).float() if scale > 1e-40 else torch.ldexp(whole.float(), torch.tensor(-149))
    order = order_of(64)
    partner = partners(x, order, 32)
    exact = x.double()
    for block, before in zip(order.split(32), order.roll(32).split(32), strict=True):
        cost = cdist(exact[block] / exact.abs().max(), exact[before] / exact.abs().max(), "sqeuclidean")
        found = ((exact[block] - exact[partner[block]]) / exact.abs().max()).square().sum()
        assert float(found) <= cost[linear_sum_assignment(cost)].sum() * (1 + 1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("k", [1, 2, 8])
def test_rows_that_are_not_finite_are_named(bad, k):
    x = rand(16, 3)
    x[5, 1] = x[9, 0] = bad
    with pytest.raises(ValueError, match=r"^x has 2 row\(s\) .* values, the first is row 5. Remove or impute them.$"):
        partners(x, None, k)
    with pytest.raises(ValueError, match="x2 has 2"):
        match_blocks(rand(16, 3), x, k)
    with pytest.raises(ValueError, match=r"first is row 5 of batch \[1\]"):
        partners(torch.stack([rand(16, 3), x]), None, k)


@pytest.mark.parametrize("k", [0, 17])
def test_a_k_that_does_not_fit_is_refused(k):
    with pytest.raises(ValueError, match=f"k must be between 1 and the number of points 16, got {k}"):
        partners(rand(16, 3), None, k)


def test_sets_of_different_shape_are_refused():
    with pytest.raises(ValueError, match=r"^x and x2 must have the same shape, got \[16, 3\] and \[12, 3\]\.$"):
        match_blocks(rand(16, 3), rand(12, 3), 4)


@pytest.mark.parametrize("solver", ["auto", "scipy"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_points_in_half_precision_are_matched_as_in_float32(dtype, solver):
    x, x2, order = rand(32, 40).to(dtype), rand(32, 40, seed=1).to(dtype), order_of(32)
    found = partners(x, order, 16, solver=solver)
    assert torch.equal(found, partners(x.double(), order, 16))
    assert torch.equal(match_blocks(x, x2, 16, solver=solver), match_blocks(x.double(), x2.double(), 16))


def test_points_are_never_changed_and_no_gradient_is_recorded():
    x = rand(16, 20, dtype=torch.float32)
    kept = x.clone()
    partners(x, order_of(16), 8)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("solver", ["auto", "scipy"])
def test_a_last_block_of_one_point_must_be_finite_too(solver):
    x = rand(17, 3)
    x[16, 2] = float("nan")
    with pytest.raises(ValueError, match=r"x has 1 .* first is row 16"):
        match_blocks(x, rand(17, 3), 8, solver=solver)
    with pytest.raises(ValueError, match=r"x2 has 1 .* first is row 16"):
        match_blocks(rand(17, 3), x, 8, solver=solver)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda c: f"B{c['batch']}-k{c['k']}-d{c['d']}-{c['metric']}")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_compiled_core_and_the_reference_match_alike(case, dtype):
    x, order = golden_points(case).to(dtype), torch.tensor(case["order"])
    found = [partners(x, order, case["k"], metric=case["metric"], solver=solver) for solver in ("auto", "scipy")]
    assert torch.equal(found[0], found[1])


# --- blocks of any sizes ----------------------------------------------------------------------------------------------

PARTS = [
    (torch.arange(18).view(2, 9), torch.arange(18, 36).view(2, 9)),
    (torch.tensor([[40, 41]]), torch.tensor([[38, 39]])),
]


def penalty(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return (left.unsqueeze(2) * right.unsqueeze(1)) % 5


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
def test_blocks_of_any_sizes_are_matched_at_costs_that_their_rows_adjust(metric):
    x = rand(42, 3)
    adjusted = {"metric": metric, "solver": "auto", "adjust": lambda cost, i, j: cost + penalty(i, j)}
    for (left, right), found in zip(PARTS, match_parts(x, PARTS, **adjusted), strict=True):
        costs = penalty(left, right).numpy() + np.stack(
            [cdist(x[i], x[j], metric) for i, j in zip(left, right, strict=True)]
        )
        for cost, rows, own in zip(costs, right.tolist(), found.tolist(), strict=True):
            best = cost[linear_sum_assignment(cost)].sum()
            assert cost[range(len(rows)), [rows.index(row) for row in own]].sum() == pytest.approx(best)


def test_the_solver_that_was_asked_for_serves_and_points_that_are_not_finite_are_named():
    x = rand(42, 3)
    with pytest.raises(ValueError, match="takes k <= 8, got k=9"):
        match_parts(x, PARTS, metric="sqeuclidean", solver="enumerate", adjust=lambda cost, i, j: cost)
    for call in (lambda: partners(x, None, 9, solver="enumerate"), lambda: match_blocks(x, x, 9, solver="enumerate")):
        with pytest.raises(ValueError, match="takes k <= 8, got k=9"):
            call()
    x[7, 1] = float("nan")
    with pytest.raises(ValueError, match=r"x has 1 .* first is row 7"):
        match_parts(x, PARTS, metric="sqeuclidean", solver="auto", adjust=lambda cost, i, j: cost)
