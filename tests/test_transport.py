"""Cost matrices and assignments against brute force, scipy in float64, and optima planted by construction."""

import itertools

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from kmixup import assign, cost_matrix, transport, transport_cost
from kmixup.transport import METRICS, _has_lapcpp, chained_cost

RELATIVE = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 1e-5, torch.bfloat16: 1e-5}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points(n: int, k: int, d: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(n, k, d, generator=generator(seed), dtype=torch.float64).to(dtype)


def optimum(cost: np.ndarray) -> float:
    return float(cost[linear_sum_assignment(cost)].sum())


def assert_optimal(x: torch.Tensor, y: torch.Tensor, dtype: torch.dtype, metric: str = "sqeuclidean") -> None:
    """The matching found in ``dtype`` costs, in the float64 problem, no more than the float64 optimum."""
    x, y = x.to(dtype), y.to(dtype)
    sigma = assign(cost_matrix(x, y, metric)).numpy()
    for b in range(len(x)):
        exact = cdist(x[b].double().numpy(), y[b].double().numpy(), metric)
        found = exact[np.arange(len(exact)), sigma[b]].sum()
        best = optimum(exact)
        assert sorted(sigma[b]) == list(range(len(exact)))
        assert found <= best * (1 + RELATIVE[dtype]) + 1e-300, f"problem {b}: {found} > {best}"


@pytest.fixture(autouse=True)
def products_on_one_thread(monkeypatch):
    """Matrix products even for little data, and both kinds: numpy's for small blocks, torch's for larger ones."""
    monkeypatch.setattr("kmixup.transport._DIRECT_WORK", 0)
    monkeypatch.setattr("kmixup.transport._has_small_kernels", lambda: True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# --- the data that decide whether a matching is exact -----------------------------------------------------------------

KINDS = {
    "gaussian": lambda x: x,
    "ties": lambda x: (2 * x).round(),
    "duplicates": lambda x: x[:, torch.arange(x.shape[1]) // 2],
    "offset 1e4": lambda x: x + 1e4,
    "scale 1e6": lambda x: x * 1e6,
    "scale 1e-6": lambda x: x * 1e-6,
    "two far clusters": lambda x: x + 1e3 * (torch.arange(x.shape[1]) % 2).unsqueeze(1),
    "one large coordinate": lambda x: torch.cat([x[..., :1] * 1e4, x[..., 1:]], -1),
}
BEYOND_FLOAT16 = {"scale 1e6", "one large coordinate"}


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(kind, dtype) for kind in KINDS for dtype in RELATIVE if not (dtype == torch.float16 and kind in BEYOND_FLOAT16)],
    ids=str,
)
def test_the_matching_is_optimal_in_float64_whatever_the_data_and_dtype(kind, dtype):
    # 30 combinations x the sum of n = 20,000 problems over the suite, most of them small.
    for k, d, n in [(2, 3, 200), (3, 40, 150), (5, 2, 130), (8, 60, 120), (16, 5, 50), (33, 100, 14), (128, 30, 3)]:
        x = KINDS[kind](points(n, k, d, seed=k))
        y = KINDS[kind](points(n, k, d, seed=1000 + k))
        assert_optimal(x, y, dtype)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("d", [2, 50])
def test_every_metric_is_matched_exactly_in_float32(metric, d):
    assert_optimal(points(20, 16, d, seed=0) + 3, points(20, 16, d, seed=1) + 3, torch.float32, metric)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("d", [1, 2, 17, 300])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("k", "m"), [(5, 7), (16, 16), (32, 48), (16, 128)])
def test_costs_equal_scipys_for_every_leading_shape(metric, d, shape, threads, k, m):
    torch.set_num_threads(threads)
    x = torch.randn(*shape, k, d, generator=generator(0), dtype=torch.float64)
    y = torch.randn(*shape, m, d, generator=generator(1), dtype=torch.float64)
    pairs = zip(x.view(-1, k, d), y.view(-1, m, d), strict=True)
    expected = np.stack([cdist(a, b, metric) for a, b in pairs]).reshape(*shape, k, m)
    torch.testing.assert_close(cost_matrix(x, y, metric), torch.from_numpy(expected), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
def test_float32_costs_far_from_the_origin_keep_their_digits(metric):
    x, y = (points(2, 6, 64, seed=seed, dtype=torch.float32) + 1e4 for seed in (0, 1))
    exact = cost_matrix(x.double(), y.double(), metric)
    torch.testing.assert_close(cost_matrix(x, y, metric).double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("metric", "d"), [("sqeuclidean", 3), ("sqeuclidean", 90), ("euclidean", 90), ("cosine", 90)])
def test_a_chains_costs_equal_those_of_its_blocks(kind, metric, d):
    x = KINDS[kind](points(1, 60, d, seed=0))[0].float()
    chain = torch.randperm(60, generator=generator(0)).repeat(2)[:72]
    blocks = x[chain].view(6, 12, d).double()
    exact = cost_matrix(blocks[1:], blocks[:-1], metric)
    atol = 1e-6 if metric == "cosine" else 0
    torch.testing.assert_close(chained_cost(x, chain, 12, metric).double(), exact, rtol=2e-5, atol=atol)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
def test_near_duplicates_keep_their_digits_wherever_the_rest_of_the_data_lie(metric):
    x = points(6, 20, 300, seed=0, dtype=torch.float32).sigmoid()  # far from the origin, as images in [0, 1] are
    y = x + 1e-5 * points(6, 20, 300, seed=1, dtype=torch.float32)
    exact = cost_matrix(x.double(), y.double(), metric)
    torch.testing.assert_close(cost_matrix(x, y, metric).double(), exact, rtol=2e-5, atol=0)
    chain, both = torch.arange(40), torch.cat([x[0], y[0]])
    exact = cost_matrix(y[:1].double(), x[:1].double(), metric)
    torch.testing.assert_close(chained_cost(both, chain, 20, metric).double(), exact, rtol=2e-5, atol=0)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("d", "offset"), [(3, 0.0), (40, 0.0), (40, 1e3)])
def test_costs_are_differentiable_in_the_points(metric, d, offset):
    x, y = points(2, 4, d, seed=0) + offset, points(2, 4, d, seed=1) + offset
    assert torch.autograd.gradcheck(
        lambda a, b: cost_matrix(a, b, metric), (x.requires_grad_(), y.requires_grad_()), atol=1e-4
    )


@pytest.mark.parametrize("d", [999, 30_000])  # 30,000: more than one product's worth for numpy
@pytest.mark.parametrize("k", [3, 32, 33, 48])
def test_long_points_are_multiplied_to_the_last_coordinate(k, d):
    x, y = (points(2, k, d, seed=seed, dtype=torch.float32) for seed in (0, 1))
    exact = torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    torch.testing.assert_close(cost_matrix(x, y).double(), exact, rtol=1e-5, atol=0)


def test_little_data_are_subtracted_coordinate_by_coordinate(monkeypatch):
    x, y = (points(2, 6, 64, seed=seed, dtype=torch.float32) + 1e4 for seed in (0, 1))
    monkeypatch.setattr("kmixup.transport._DIRECT_WORK", 2 * 6 * 6 * 64)
    monkeypatch.setattr("kmixup.transport._expanded", None)
    exact = cost_matrix(x.double(), y.double())
    torch.testing.assert_close(cost_matrix(x, y).double(), exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        chained_cost(torch.cat([y[0], x[0]]), torch.arange(12), 6).double(), exact[:1], rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("offset", [0.0, 3.0, 1e4])
def test_large_batches_are_centred_before_the_product_if_they_lie_far_from_the_origin(offset, monkeypatch):
    monkeypatch.setattr("kmixup.transport._PROBE_FROM", 0)
    monkeypatch.setattr("kmixup.transport._repaired", None)
    x = points(1, 60, 200, seed=0)[0].float() + offset
    chain = torch.randperm(60, generator=generator(0))
    blocks = x[chain].view(5, 12, 200).double()
    exact = torch.cdist(blocks[1:], blocks[:-1], compute_mode="donot_use_mm_for_euclid_dist").square()
    torch.testing.assert_close(chained_cost(x, chain, 12).double(), exact, rtol=1e-5, atol=0)


def test_identical_points_cost_exactly_nothing():
    x = points(4, 10, 100, seed=0, dtype=torch.float32) * 100 + 1e3
    assert cost_matrix(x, x).diagonal(dim1=-2, dim2=-1).abs().max() == 0


def test_a_zero_vector_is_at_cosine_zero_from_everything_itself_included():
    x = torch.zeros(1, 2, 3)
    x[0, 1, 0] = 1
    torch.testing.assert_close(cost_matrix(x, x, "cosine"), torch.tensor([[[1.0, 1.0], [1.0, 0.0]]]))


def test_cosine_costs_do_not_under_or_overflow():
    x = points(1, 4, 20, seed=0, dtype=torch.float32)
    for scale in (1e-30, 1e30):
        torch.testing.assert_close(cost_matrix(x * scale, x, "cosine"), cost_matrix(x, x, "cosine"), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_costs_are_computed_in_float32(dtype):
    x = points(1, 8, 200, seed=0, dtype=dtype)
    cost = cost_matrix(x, x.flip(1))
    assert cost.dtype == torch.float32
    exact = cost_matrix(x.double(), x.flip(1).double())
    torch.testing.assert_close(cost.double(), exact, rtol=1e-5, atol=0)


def test_autocast_does_not_lower_the_precision_of_costs():
    x, y = (points(1, 32, 200, seed=seed, dtype=torch.float32) for seed in (0, 1))
    with torch.autocast("cpu", torch.bfloat16):
        inside = cost_matrix(x, y)
    torch.testing.assert_close(inside, cost_matrix(x, y), rtol=0, atol=0)


# --- assignment -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 6, 7])
def test_assign_equals_brute_force_over_all_permutations(k):
    cost = torch.rand(30, k, k, generator=generator(k), dtype=torch.float64)
    perms = torch.tensor(list(itertools.permutations(range(k))))
    best = torch.stack([c[torch.arange(k), perms].sum(1).min() for c in cost])
    torch.testing.assert_close(transport_cost(cost, assign(cost)) * k, best)


@pytest.mark.parametrize("solver", ["scipy", "lapcpp", "enumerate"])
@pytest.mark.parametrize("shape", [(5, 5), (0, 5, 5), (7, 5, 5), (2, 3, 5, 5)])
def test_every_solver_finds_the_same_cost_for_every_leading_shape(solver, shape):
    cost = torch.randn(*shape, generator=generator(0), dtype=torch.float64)
    sigma = assign(cost, solver)
    assert sigma.dtype == torch.int64
    assert sigma.shape == shape[:-1]
    expected = torch.tensor([optimum(c) / 5 for c in cost.reshape(-1, 5, 5).numpy()], dtype=torch.float64)
    torch.testing.assert_close(transport_cost(cost, sigma).flatten(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_many_costs_are_solved_on_several_threads_to_the_same_cost(threads, monkeypatch):
    import lapcpp

    used = []
    solve = lapcpp.lapjv_batch

    def counted(cost, *, n_threads, **options):
        used.append(n_threads)
        return solve(cost, n_threads=n_threads, **options)

    monkeypatch.setattr("lapcpp.lapjv_batch", counted)
    torch.set_num_threads(threads)
    cost = torch.rand(130, 32, 32, generator=generator(0), dtype=torch.float64)
    expected = torch.tensor([optimum(c) / 32 for c in cost.numpy()], dtype=torch.float64)
    torch.testing.assert_close(transport_cost(cost, assign(cost, "lapcpp")), expected, rtol=1e-12, atol=0)
    assign(cost[:9], "lapcpp")  # too little to share
    assert used == [threads, 1]


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


@pytest.mark.parametrize("solver", ["lapcpp", "scipy"])
@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize("k", [16, 128])
def test_levelled_rows_lead_to_the_same_cost(kind, solver, k, monkeypatch):
    cost = LEVELS[kind](torch.rand(max(2, 2**13 // k**2), k, k, generator=generator(0)))
    called = []
    monkeypatch.setattr(transport, "_levelled", lambda c, level=transport._levelled: called.append(1) or level(c))
    sigma = assign(cost, solver).numpy()
    assert called
    for matrix, found in zip(cost.double().numpy(), sigma, strict=True):
        best = linear_sum_assignment(matrix)[1]
        costs = [matrix[np.arange(k), columns] for columns in (found, best)]
        ours, least = (each[each != 1e9] for each in costs)  # beside one so large no digit of the others would count
        assert sorted(found) == list(range(k))
        assert ours.sum() <= least.sum() + 1e-6 * np.abs(least).sum()


def test_levels_are_of_no_consequence_and_leave_no_cost_below_zero():
    cost = torch.rand(8, 32, 32, generator=generator(0)) + torch.arange(32.0).unsqueeze(1)
    levelled = transport._levelled(cost)
    taken = cost - levelled
    torch.testing.assert_close(taken, taken[..., :1].expand_as(taken), rtol=0, atol=1e-5)
    assert levelled.min() >= 0
    assert levelled.mean() < 0.1 * cost.mean()


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


def test_lapcpp_is_what_the_tests_run_by_default():
    assert _has_lapcpp()


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("solver", "k"),
    [*itertools.product(["auto", "scipy", "lapcpp", "enumerate"], [2, 6]), ("scipy", 100), ("lapcpp", 100)],
)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_nonfinite_cost_is_refused_before_any_solver_sees_it(solver, bad, k):
    cost = torch.zeros(3, k, k)
    cost[1, 0, 1] = bad
    with pytest.raises(ValueError, match=r"1 infinite or NaN entries, the first at \[1, 0, 1\]"):
        assign(cost, solver)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: assign(torch.zeros(2, 3)), "square matrices"),
        (lambda: assign(torch.zeros(4)), "square matrices"),
        (lambda: assign(torch.zeros(2, 0, 0)), "k >= 1"),
        (lambda: assign(torch.zeros(2, 2, dtype=torch.int64)), "floating point"),
        (lambda: assign(torch.zeros(2, 2), "sinkhorn"), "solver must be one of"),
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


def test_a_missing_solver_is_an_error_not_a_fallback(monkeypatch):
    monkeypatch.setattr("kmixup.transport._has_lapcpp", lambda: False)
    with pytest.raises(ImportError, match="pip install kmixup"):
        assign(torch.zeros(5, 5), "lapcpp")
    cost = -torch.eye(5)
    torch.testing.assert_close(assign(cost), torch.arange(5))  # "auto" takes scipy


def test_the_solver_is_a_registered_op_that_compiles_without_graph_breaks():
    torch.library.opcheck(torch.ops.kmixup.assign, (torch.rand(3, 6, 6), "auto"))
    cost = torch.rand(3, 6, 6, generator=generator(0))
    compiled = torch.compile(lambda c: assign(c) + 0, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(cost), assign(cost))
