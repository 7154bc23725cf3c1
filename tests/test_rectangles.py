"""Rectangular, padded and masked matchings, against brute force and scipy problem by problem."""

import itertools
from time import process_time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from kmixup import assign, cost_matrix, match, native, transport_cost

INF = torch.inf
SOLVERS = [
    pytest.param("native", marks=pytest.mark.skipif(not native.available(), reason=native.description())),
    "scipy",
    "auto",
]
each_solver = pytest.mark.parametrize("solver", SOLVERS)
served = ["scipy", *(["native"] if native.available() else [])]


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def least(cost: np.ndarray) -> float | None:
    """The least sum over all matchings of min(n, m) pairs, by trying each; None if all hold a forbidden pair."""
    cost = cost if cost.shape[0] <= cost.shape[1] else cost.T
    n, m = cost.shape
    sums = (sum(cost[i, j] for i, j in enumerate(columns)) for columns in itertools.permutations(range(m), n))
    best = min(sums, default=0.0)
    return None if best == np.inf else float(best)


def total(cost: np.ndarray, columns: Tensor) -> float:
    """The sum of a matching, which has min(n, m) pairs and no column twice."""
    rows = np.flatnonzero(columns.numpy() >= 0)
    chosen = columns.numpy()[rows]
    assert len(rows) == len(set(chosen.tolist())) == min(cost.shape)
    return float(cost[rows, chosen].sum())


entries = st.one_of(st.integers(-3, 3).map(float), st.floats(-10, 10), st.just(np.inf))


@st.composite
def batches(draw):
    """Costs ``[b, n, m]``, +inf among them, a mask of forbidden pairs, and how many rows and columns count."""
    b, n, m = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 5))
    numbers = draw(st.lists(entries, min_size=b * n * m, max_size=b * n * m))
    masked = draw(st.lists(st.sampled_from([False] * 4 + [True]), min_size=b * n * m, max_size=b * n * m))
    rows, columns = (draw(st.lists(st.integers(0, most), min_size=b, max_size=b)) for most in (n, m))
    return torch.tensor(numbers, dtype=torch.float64).view(b, n, m), torch.tensor(masked).view(b, n, m), rows, columns


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(batch=batches(), maximize=st.booleans())
def test_forbidden_pairs_and_padding_are_what_brute_force_finds_or_names_as_infeasible(batch, maximize):
    cost, forbidden, rows, columns = batch
    problems = cost.masked_fill(forbidden, INF).numpy()
    problems = [problem[:n, :m] for problem, n, m in zip(problems, rows, columns, strict=True)]
    optima = [least(problem) for problem in problems]
    given_cost = cost.clone()
    for b in range(len(cost)):  # what does not count may hold anything
        given_cost[b, rows[b] :] = torch.nan
        given_cost[b, :, columns[b] :] = -INF
    given_cost[forbidden] = torch.nan
    given_cost = -given_cost if maximize else given_cost
    for solver in served:
        options = {"forbidden": forbidden, "rows": rows, "columns": torch.tensor(columns), "maximize": maximize}
        if None in optima:
            with pytest.raises(ValueError, match=rf"problem \[{optima.index(None)}\] is infeasible"):
                match(given_cost, solver=solver, **options)
            continue
        columns_of = match(given_cost, solver=solver, **options)
        for found, problem, optimum, n in zip(columns_of, problems, optima, rows, strict=True):
            assert (found[n:] == -1).all()
            assert total(problem, found[:n]) == pytest.approx(optimum, abs=1e-9)


@each_solver
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 70), (70, 3), (40, 60), (60, 40), (50, 50)])
@pytest.mark.parametrize("maximize", [False, True])
def test_a_rectangle_costs_what_scipy_finds(n, m, maximize, dtype, solver):
    cost = rand(2, 3, n, m, dtype=dtype)
    found = match(cost, maximize=maximize, solver=solver)
    assert found.shape == (2, 3, n)
    assert found.dtype == torch.int64
    for problem, columns in zip(cost.double().reshape(-1, n, m).numpy(), found.reshape(-1, n), strict=True):
        best = problem[linear_sum_assignment(problem, maximize=maximize)].sum()
        assert total(problem, columns) == pytest.approx(best, rel=1e-6 if dtype == torch.float32 else 1e-12)


@each_solver
def test_each_padded_problem_is_solved_as_if_alone(solver):
    cost, generator = rand(40, 12, 17), torch.Generator().manual_seed(1)
    rows, columns = (torch.randint(most + 1, (40,), generator=generator) for most in (12, 17))
    together = match(cost, rows=rows, columns=columns, solver=solver)
    for b, (n, m) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        assert torch.equal(together[b, :n], match(cost[b, :n, :m], solver=solver))
        assert (together[b, n:] == -1).all()
    one_side = match(cost, rows=rows, solver=solver)
    assert ((one_side >= 0).sum(1) == rows).all()


@each_solver
def test_half_precision_strides_and_gradients_are_no_obstacle(solver):
    cost = rand(3, 9, 6)
    expected = match(cost, solver=solver)
    assert torch.equal(match(cost.mT.contiguous().mT, solver=solver), expected)
    assert torch.equal(match(cost.clone().requires_grad_(), solver=solver), expected)
    rounded = cost.to(torch.bfloat16)
    assert torch.equal(match(rounded, solver=solver), match(rounded.double(), solver=solver))


@each_solver
def test_a_mask_may_be_one_for_all_problems(solver):
    cost, mask = rand(4, 5, 5), torch.eye(5, dtype=torch.bool)
    found = match(cost, forbidden=mask, solver=solver)
    assert (found != torch.arange(5)).all()
    assert torch.equal(found, match(cost.masked_fill(mask, INF), solver=solver))
    assert torch.equal(found, match(-cost.masked_fill(mask, INF), maximize=True, solver=solver))


@each_solver
def test_a_column_of_its_own_lets_a_row_stay_alone_at_a_price(solver):
    cost = torch.tensor([[1.0, 9.0], [2.0, 9.0]])
    found = match(torch.nn.functional.pad(cost, (0, 2), value=3.0), solver=solver)
    assert found[0] == 0
    assert found[1] >= 2


@each_solver
def test_square_costs_are_matched_as_assign_does(solver):
    cost = rand(5, 20, 20)
    assert torch.equal(match(cost, solver=solver), assign(cost, solver))


@each_solver
@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0), (0, 0)])
def test_nothing_to_match_is_no_error(shape, solver):
    assert torch.equal(match(torch.zeros(shape), solver=solver), torch.full(shape[:-1], -1))


# --- refusals ---------------------------------------------------------------------------------------------------------


@each_solver
def test_an_infeasible_problem_says_which_rows_or_columns_lack_partners(solver):
    cost = torch.rand(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    cost[1, 2, :3, 2:] = INF
    problem = (
        r"problem \[1, 2\] is infeasible: of 4 rows and 6 columns, rows \[0, 1, 2\] may only meet columns \[0, 1\]"
    )
    remedy = r"To leave a row alone at a price, give it a column of its own: torch.nn.functional.pad\(cost, \(0, n\), "
    with pytest.raises(ValueError, match=rf"{problem}. {remedy}value=price\).$"):
        match(cost, solver=solver)
    with pytest.raises(ValueError, match=r"of 6 rows and 4 columns, columns \[0, 1, 2\] may only meet rows \[0, 1\]"):
        match(cost.mT, solver=solver)
    with pytest.raises(ValueError, match=r"problem is infeasible: of 2 rows and 6 columns, rows \[1\] .* columns \[\]"):
        match(-cost[0, 0, :2], forbidden=torch.tensor([[False], [True]]), maximize=True, solver=solver)
    few = torch.full((2, 3), 2)
    few[1, 2] = 1  # one of the three rows that share two columns: enough for it
    assert match(cost, rows=few, solver=solver)[1, 2, 0] in (0, 1)


@each_solver
def test_of_many_rows_without_enough_columns_the_first_are_named_and_the_rest_counted(solver):
    n, first = 1000, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    cost = rand(n, n)
    cost[:, -1] = INF
    start = process_time()
    with pytest.raises(ValueError, match=r"is infeasible") as error:
        match(cost, solver=solver)
    assert process_time() - start < 10  # a search through a list took half a minute
    assert f"rows [{first}, and 990 more] may only meet columns [{first}, and 989 more]. To" in str(error.value)


def test_what_scipy_takes_is_taken():
    cost, forbidden = rand(4, 4).numpy(), np.eye(4, dtype=bool)
    assert match(cost).tolist() == assign(cost).tolist() == linear_sum_assignment(cost)[1].tolist()
    expected = linear_sum_assignment(np.where(forbidden, np.inf, cost))[1]
    assert match(cost, forbidden=forbidden).tolist() == expected.tolist()
    points = rand(5, 3).numpy()
    np.testing.assert_allclose(cost_matrix(points, points[:4]), cdist(points, points[:4], "sqeuclidean"), atol=1e-12)
    assert transport_cost(cost, assign(cost).numpy()) == pytest.approx(cost[range(4), assign(cost)].mean())


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: match([[1.0, 2.0]]), "cost"),
        (lambda: match(torch.zeros(1, 2), forbidden=[[True, False]]), "forbidden"),
        (lambda: assign([[1.0]]), "cost"),
        (lambda: cost_matrix(torch.zeros(1, 2), [[1.0, 2.0]]), "y"),
        (lambda: transport_cost(torch.zeros(1, 1), [0]), "sigma"),
    ],
)
def test_what_is_no_array_is_refused_by_its_name(call, name):
    with pytest.raises(
        TypeError, match=rf"^{name} must be a tensor or a numpy array, got list. Use torch.as_tensor\({name}\)"
    ):
        call()


@each_solver
@pytest.mark.parametrize("bad", [torch.nan, -INF])
def test_a_cost_that_is_no_number_is_named_unless_it_does_not_count(bad, solver):
    cost = rand(2, 3, 4)
    cost[1, 2, 0] = bad
    place = rf"must not be NaN or -inf, got {bad} at \[1, 2, 0\]"
    remedy = r"Forbid a pair whose cost is unknown: forbidden=cost.isnan\(\)"
    with pytest.raises(ValueError, match=rf"{place}. {remedy}.$"):
        match(cost, solver=solver)
    with pytest.raises(ValueError, match=r"must not be NaN or \+inf, got (nan|inf) at \[1, 2, 0\]"):
        match(-cost, maximize=True, solver=solver)
    with pytest.raises(ValueError, match=r"got .* at \[2, 0\]"):
        match(cost[1], solver=solver)
    assert match(cost, rows=[3, 2], solver=solver)[1, 2] == -1
    assert match(cost, forbidden=~cost.isfinite(), solver=solver).shape == (2, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: match(torch.zeros(3)), r"matrices \[..., n, m\]"),
        (
            lambda: match(torch.zeros(3, 4, dtype=torch.int64)),
            r"got torch.int64 \[3, 4\]. Convert it with cost.float\(\).$",
        ),
        (lambda: match(torch.zeros(3, 4), forbidden=torch.zeros(3, 4)), "forbidden must be bool"),
        (
            lambda: match(torch.zeros(3, 4), forbidden=torch.zeros(4, 3, dtype=torch.bool)),
            r"shape \[3, 4\], got \[4, 3\]",
        ),
        (lambda: match(torch.zeros(3, 4), forbidden=torch.zeros(2, 3, 4, dtype=torch.bool)), r"got \[2, 3, 4\]"),
        (lambda: match(torch.zeros(2, 3, 4), rows=3), r"rows must be integers, one for each problem, shape \[2\]"),
        (lambda: match(torch.zeros(2, 3, 4), columns=[1.0, 2.0]), "columns must be integers"),
        (lambda: match(torch.zeros(2, 3, 4), columns=[1, 5]), r"columns must be between 0 and 4.*got \[1, 5\]"),
        (lambda: match(torch.zeros(2, 3, 4), rows=[-1, 2]), "rows must be between 0 and 3"),
        (
            lambda: match(torch.zeros(3, 4), solver="enumerate"),
            "^solver 'enumerate' pairs all with all: match takes 'auto', 'native' or 'scipy'.$",
        ),
        (lambda: match(torch.zeros(3, 4), solver="sinkhorn"), "solver must be one of"),
    ],
)
def test_a_wrong_argument_is_named_in_the_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_it_is_a_registered_op_that_compiles_without_graph_breaks():
    cost, rows, columns = rand(3, 4, 6), torch.tensor([4, 2, 3]), torch.tensor([6, 6, 1])
    torch.library.opcheck(torch.ops.kmixup.match, (cost, cost > 1, rows, columns, False, "auto"))

    @torch.compile(fullgraph=True, backend="aot_eager")
    def compiled(cost: Tensor) -> Tensor:
        return match(cost, rows=rows, columns=[6, 6, 1], maximize=True) + 0

    assert torch.equal(compiled(cost), match(cost, rows=rows, columns=columns, maximize=True))


def test_no_problem_at_all_takes_empty_lists_of_rows_and_columns():
    assert match(torch.rand(0, 3, 2), rows=[], columns=[]).shape == (0, 3)
