"""Cost matrices against scipy in float64, and the matchings they lead to, on the data that decide."""

import re

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from kmixup import KMixup, assign, cost_matrix, match
from kmixup.cost import METRICS, widest_float

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
@pytest.mark.parametrize(("k", "m"), [(5, 7), (16, 16), (32, 48), (16, 128)])
def test_costs_equal_scipys_for_every_leading_shape(metric, d, shape, k, m):
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


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
def test_near_duplicates_keep_their_digits_wherever_the_rest_of_the_data_lie(metric):
    x = points(6, 20, 300, seed=0, dtype=torch.float32).sigmoid()  # far from the origin, as images in [0, 1] are
    y = x + 1e-5 * points(6, 20, 300, seed=1, dtype=torch.float32)
    exact = cost_matrix(x.double(), y.double(), metric)
    torch.testing.assert_close(cost_matrix(x, y, metric).double(), exact, rtol=2e-5, atol=0)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("d", "offset"), [(3, 0.0), (40, 0.0), (40, 1e3)])
def test_costs_are_differentiable_in_the_points(metric, d, offset):
    x, y = points(2, 4, d, seed=0) + offset, points(2, 4, d, seed=1) + offset
    assert torch.autograd.gradcheck(
        lambda a, b: cost_matrix(a, b, metric), (x.requires_grad_(), y.requires_grad_()), atol=1e-4
    )


@pytest.mark.parametrize("d", [1, 16, 17, 100])
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine"])
def test_the_distance_of_a_point_from_itself_has_the_gradient_zero(metric, d):
    x = torch.ones(1, d, dtype=torch.float64, requires_grad=True)
    cost_matrix(x, x.detach(), metric).sum().backward()
    assert torch.equal(x.grad, torch.zeros(1, d, dtype=torch.float64))


@pytest.mark.parametrize("d", [3, 100])
def test_a_zero_vector_has_no_direction_and_its_gradient_is_zero(d):
    x = torch.zeros(1, d, dtype=torch.float64, requires_grad=True)
    cost_matrix(x, points(1, 2, d, seed=0)[0], "cosine").sum().backward()
    assert torch.equal(x.grad, torch.zeros(1, d, dtype=torch.float64))


@pytest.mark.parametrize("d", [999, 30_000])  # 30,000: more than one product's worth for numpy
@pytest.mark.parametrize("k", [3, 32, 33, 48])
def test_long_points_are_multiplied_to_the_last_coordinate(k, d):
    x, y = (points(2, k, d, seed=seed, dtype=torch.float32) for seed in (0, 1))
    exact = torch.cdist(x.double(), y.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
    torch.testing.assert_close(cost_matrix(x, y).double(), exact, rtol=1e-5, atol=0)


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


@pytest.mark.parametrize("offset", [1e4, 1e5])
def test_cosine_costs_far_from_the_origin_are_accurate(offset):
    x, y = (points(1, 32, 3, seed=seed, dtype=torch.float32) + offset for seed in (0, 1))
    exact = cost_matrix(x.double(), y.double(), "cosine")
    torch.testing.assert_close(cost_matrix(x, y, "cosine").double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("d", [2, 16, 40])
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
def test_costs_that_carry_gradients_keep_their_digits_too(metric, d):
    x, y = (points(2, 30, d, seed=seed, dtype=torch.float32) + 1e4 for seed in (0, 1))
    exact = cost_matrix(x.double(), y.double(), metric)
    found = cost_matrix(x.requires_grad_(), y, metric)
    torch.testing.assert_close(found.detach().double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("x", "y"), [((3,), (2, 3)), ((2, 3), (3,)), ((2, 3), (2, 4)), ((5, 2, 3), (4, 2, 3)), ((2, 3), (1, 2, 3))], ids=str
)
def test_points_of_other_shapes_are_refused_with_both_shapes(x, y):
    said = re.escape(
        "x and y must be [..., k, d] and [..., m, d] with equal leading shape and d, "
        f"got {list(x)} and {list(y)}. Flatten each point to one row first."
    )
    with pytest.raises(ValueError, match=f"^{said}$"):
        cost_matrix(torch.zeros(x), torch.zeros(y))


def test_costs_compile_without_graph_breaks():
    x, y = torch.rand(6, 4), torch.rand(5, 4)
    compiled = torch.compile(cost_matrix, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, y), cost_matrix(x, y))


def test_a_lazy_sign_is_applied():
    lazy = torch.randn(6, 4, dtype=torch.complex64, generator=torch.Generator().manual_seed(0)).conj().imag
    assert lazy.is_neg()
    plain = lazy.clone()
    assert torch.equal(cost_matrix(lazy, lazy), cost_matrix(plain, plain))
    for solve in (assign, match):
        assert torch.equal(solve(lazy[:4]), solve(plain[:4]))
    number = torch._neg_view(torch.complex(plain, plain + 1))
    for x in (lazy, number):
        plans = [KMixup(2, 1.0, generator=torch.Generator().manual_seed(0)).plan(each) for each in (x, x.clone())]
        assert torch.equal(plans[0].partner, plans[1].partner)


def test_a_function_gives_the_costs_of_x_to_y():
    x, y = points(2, 4, 3, seed=0), points(2, 5, 3, seed=1)
    found = cost_matrix(x, y, lambda a, b: a.sum(-1)[..., None] - 2 * b.sum(-1)[..., None, :])
    torch.testing.assert_close(found, x.sum(-1).unsqueeze(-1) - 2 * y.sum(-1).unsqueeze(-2))
    half = cost_matrix(x, y, lambda a, b: torch.cdist(a, b).half())
    assert half.dtype == torch.float32  # no matching in half precision


@pytest.mark.parametrize(
    ("metric", "got"),
    [
        (lambda a, b: a @ b.mT @ b, "[2, 4, 3]"),
        (lambda a, b: 1.0, "float"),
        (lambda a, b: torch.zeros(2, 5, 4), "[2, 5, 4]"),
    ],
    ids=["width", "float", "transposed"],
)
def test_a_function_that_returns_no_costs_is_refused_with_what_it_gave(metric, got):
    said = re.escape(
        "metric must return a tensor of costs [2, 4, 5] for points [2, 4, 3] and [2, 5, 3], "
        f"got {got}. Return one cost per pair and keep the leading dimensions."
    )
    with pytest.raises(ValueError, match=f"^{said}$"):
        cost_matrix(points(2, 4, 3, seed=0), points(2, 5, 3, seed=1), metric)


def test_an_unknown_metric_is_refused_with_the_known_ones():
    said = "metric must be one of sqeuclidean, euclidean, cosine or a function of (x, y), got 'manhattan'."
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        cost_matrix(torch.zeros(2, 3), torch.zeros(2, 3), "manhattan")


def test_apples_gpus_compute_in_float32():
    assert widest_float(torch.device("mps")) == torch.float32
    assert widest_float(torch.device("cpu")) == torch.float64
