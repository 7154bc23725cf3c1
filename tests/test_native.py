"""The compiled core: optimal on every kind of data, on every instruction set that this processor has."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from kmixup import native, show_config
from kmixup.config import config

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "kmixup" / "_native"

needs_core = pytest.mark.skipif(not native.available(), reason=f"no compiled core: {native.description()}")
DTYPES = pytest.mark.parametrize("dtype", native.DTYPES, ids=["float32", "float64"])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Kinds of data: points, and the power of two by which float64 costs of them neither overflow nor vanish.
def scaled(exponent32: int, exponent64: int):
    def points(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, float]:
        unit = 2.0 ** (exponent32 if dtype == torch.float32 else exponent64)
        return (torch.randn(shape, generator=seeded(), dtype=torch.float64) * unit).to(dtype), unit

    return points


def beside_a_huge_constant(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, float]:
    points, unit = scaled(-80, -560)(shape, dtype)
    points[..., 0] = 2.0**100
    return points, unit


def two_scales(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, float]:
    points, unit = scaled(0, 0)(shape, dtype)
    points[..., ::2, :] *= 2.0**-20
    return points, unit


KINDS = {
    "noise": scaled(0, 0),
    "scale 1e-6": scaled(-20, -20),
    "scale 1e6": scaled(20, 20),
    "offset 1e4": lambda shape, dtype: ((scaled(0, 0)(shape, torch.float64)[0] + 1e4).to(dtype), 1.0),
    "ties": lambda shape, dtype: (torch.randint(0, 3, shape, generator=seeded()).to(dtype), 1.0),
    "duplicates": lambda shape, dtype: (scaled(0, 0)(shape, dtype)[0][..., torch.arange(shape[-2]) // 3, :], 1.0),
    "all equal": lambda shape, dtype: (torch.full(shape, 0.3, dtype=dtype), 1.0),
    "squares vanish": scaled(-80, -560),
    "subnormal": scaled(-140, -1062),
    "squares overflow": scaled(80, 560),
    "differences overflow": scaled(126, 1022),
    "beside a huge constant": beside_a_huge_constant,
    "two scales": two_scales,
}


def within_range(points: Tensor) -> Tensor:
    """The same points without the infinities of the largest scale."""
    limit = torch.finfo(points.dtype).max
    return points.clamp(-limit, limit)


def least(x: Tensor, y: Tensor, metric: str, unit: float) -> float:
    """The cost of the optimum, and of no other matching, in float64."""
    cost = cdist(x.double().numpy() / unit, y.double().numpy() / unit, metric)
    return cost[linear_sum_assignment(cost)].sum()


def cost_of(x: Tensor, y: Tensor, metric: str, unit: float) -> float:
    gaps = torch.linalg.vector_norm(x.double() / unit - y.double() / unit, dim=-1)
    return float(gaps.square().sum() if metric == "sqeuclidean" else gaps.sum())


def assert_optimal(
    x: Tensor, y: Tensor, left: Tensor, right: Tensor, partner: Tensor, k: int, metric: str, unit: float
):
    """Block by block: the same points meet, and at the least cost."""
    for b in range(0, len(left), k):
        here, there = left[b : b + k], right[b : b + k]
        assert sorted(partner[here].tolist()) == sorted(there.tolist())
        optimum = least(x[here], y[there], metric, unit)
        total = cost_of(x[here], y[partner[here]], metric, unit)
        assert total <= optimum * (1 + (1e-6 if x.dtype == torch.float32 else 1e-12))


@needs_core
@DTYPES
@pytest.mark.parametrize("metric", native.METRICS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("size", "k", "d"), [(23, 5, 1), (64, 16, 2), (50, 16, 17), (40, 9, 64), (37, 12, 65)])
def test_a_matching_is_optimal_on_every_kind_of_data(kind, size, k, d, metric, dtype):
    points, unit = KINDS[kind]((size, d), dtype)
    points, order = within_range(points), torch.randperm(size, generator=seeded())
    partner = native.roll(points, order, k, metric)
    assert_optimal(points, points, order, order.roll(k), partner, k, metric, unit)


@needs_core
@DTYPES
@pytest.mark.parametrize("kind", ["noise", "offset 1e4", "ties", "squares vanish"])
@pytest.mark.parametrize(("size", "k", "d"), [(130, 64, 784), (66, 33, 3072), (9, 4, 12288), (300, 256, 3)])
def test_a_matching_is_optimal_for_images_and_large_blocks(kind, size, k, d, dtype):
    points, unit = KINDS[kind]((size, d), dtype)
    order = torch.randperm(size, generator=seeded())
    assert_optimal(points, points, order, order.roll(k), native.roll(points, order, k), k, "sqeuclidean", unit)


@needs_core
@DTYPES
@pytest.mark.parametrize("d", [1, 2, 15, 16, 33, 64, 65, 127, 1024, 2049, 12288])
@pytest.mark.parametrize("metric", native.METRICS)
def test_every_cost_is_that_of_scipy(d, metric, dtype):
    x = torch.randn(2, 17, d, generator=seeded(), dtype=dtype) + 100
    y = torch.randn(2, 5, d, generator=seeded(1), dtype=dtype) + 100
    expected = np.stack([cdist(a.double(), b.double(), metric) for a, b in zip(x, y, strict=True)])
    got = native.costs(x, y, metric)
    assert got.dtype == dtype
    rtol = 1e-6 if dtype == torch.float32 else 1e-14
    torch.testing.assert_close(got.double(), torch.from_numpy(expected), rtol=rtol, atol=0)


@needs_core
def test_points_may_lie_anywhere_in_memory():
    generator = seeded()
    wide = torch.randn(40, 2 * 70, generator=generator)
    order = torch.randperm(40, generator=generator)
    for points in (wide[:, 1:71], wide[:, ::2], wide[:, 3:].T[:70].T, wide[::2].repeat_interleave(2, 0)[:, 70:]):
        expected = native.roll(points.clone(), order, 7)
        assert torch.equal(native.roll(points, order, 7), expected)
        torch.testing.assert_close(native.costs(points, points), native.costs(points.clone(), points), rtol=0, atol=0)
    assert torch.equal(native.roll(wide, order.repeat_interleave(2)[::2], 7), native.roll(wide, order, 7))


@needs_core
def test_leading_dimensions_are_problems_of_their_own():
    points = torch.randn(2, 3, 20, 5, generator=seeded())
    orders = torch.stack([torch.randperm(20, generator=seeded(s)) for s in range(6)]).view(2, 3, 20)
    together, shared = native.roll(points, orders, 6), native.roll(points, orders[0, 0], 6)
    one_set = native.roll(points[0, 0], orders, 6)
    for index in np.ndindex(2, 3):
        assert torch.equal(together[index], native.roll(points[index], orders[index], 6))
        assert torch.equal(shared[index], native.roll(points[index], orders[0, 0], 6))
        assert torch.equal(one_set[index], native.roll(points[0, 0], orders[index], 6))
    assert native.roll(points[:0], orders[:0], 6).shape == (0, 3, 20)


@needs_core
@DTYPES
def test_two_sets_meet_as_they_stand_or_in_orders_of_their_own(dtype):
    x, y = (torch.randn(30, 8, generator=seeded(s), dtype=dtype) for s in (0, 1))
    left, right = (torch.randperm(30, generator=seeded(s)) for s in (2, 3))
    stand = torch.arange(30)
    assert_optimal(x, y, stand, stand, native.match(x, y, None, None, 7), 7, "sqeuclidean", 1.0)
    assert_optimal(x, y, left, right, native.match(x, y, left, right, 7), 7, "sqeuclidean", 1.0)
    assert_optimal(x, x, stand, right, native.match(x, x, None, right, 7), 7, "sqeuclidean", 1.0)
    assert torch.equal(native.roll(x, None, 7), native.roll(x, stand, 7))
    assert torch.equal(native.roll(x, left, 7), native.match(x, x, left, left.roll(7), 7))


@needs_core
def test_blocks_of_one_or_of_more_than_there_are():
    points, order = torch.randn(6, 2, generator=seeded()), torch.randperm(6, generator=seeded())
    alone = native.roll(points, order, 1)
    assert torch.equal(alone[order], order.roll(1))
    assert torch.equal(native.match(points, points, order, order, 100), torch.arange(6))


@needs_core
@DTYPES
@pytest.mark.parametrize(("k", "m"), [(1, 1), (4, 4), (4, 9), (9, 4), (1, 7), (7, 1), (40, 33), (200, 256)])
@pytest.mark.parametrize("kind", ["noise", "ties", "negative", "constant", "forbidden", "large"])
def test_an_assignment_is_that_of_scipy(kind, k, m, dtype):
    cost = torch.randn(4, k, m, generator=seeded(), dtype=dtype)
    if kind == "ties":
        cost = cost.mul(2).round()
    elif kind == "negative":
        cost = cost - 1000
    elif kind == "constant":
        cost = torch.ones_like(cost)
    elif kind == "large":
        cost = cost * (torch.finfo(dtype).max / 100)
    elif kind == "forbidden":
        diagonal = torch.eye(k, m, dtype=torch.bool)
        cost[(torch.rand(4, k, m, generator=seeded()) < 0.7) & ~diagonal] = torch.inf
    for layout in (cost, cost.mT.contiguous().mT):
        column = native.solve(layout)
        for matrix, columns in zip(cost.double() / 2.0**30, column, strict=True):
            rows, chosen = np.nonzero(columns.numpy() >= 0)[0], columns[columns >= 0].numpy()
            assert len(set(chosen)) == len(chosen) == min(k, m)
            numbers = matrix.numpy()
            optimum = numbers[linear_sum_assignment(numbers)]
            assert numbers[rows, chosen].sum() <= optimum.sum() + 1e-14 * np.abs(optimum).sum()


@needs_core
def test_forbidden_pairs_that_leave_no_matching_are_reported():
    cost = torch.rand(3, 4, 4, generator=seeded())
    cost[1, 0] = torch.inf
    cost[2, :, 2] = torch.inf
    with pytest.raises(native.InfeasibleError, match="problem 1: the forbidden pairs leave no matching") as caught:
        native.solve(cost)
    assert caught.value.problem == 1
    with pytest.raises(native.InfeasibleError, match="problem 0"):
        native.solve(cost[2])
    hall = torch.rand(5, 8, generator=seeded())
    hall[:3, 2:] = torch.inf  # three rows, two columns
    for matrix in (hall, hall.T, hall[:, :5]):
        with pytest.raises(native.InfeasibleError):
            native.solve(matrix)


@needs_core
@pytest.mark.parametrize("bad", [torch.nan, -torch.inf])
def test_a_cost_that_is_no_number_is_reported(bad):
    cost = torch.rand(3, 5, 6, generator=seeded())
    cost[2, 4, 3] = bad
    for matrices in (cost, cost.mT):
        with pytest.raises(native.NotFiniteError, match="problem 2") as caught:
            native.solve(matrices)
        assert caught.value.problem == 2


@needs_core
@DTYPES
@pytest.mark.parametrize("k", [1, 5, 40])
def test_where_no_pair_may_be_forbidden_infinity_is_not_finite(k, dtype):
    cost = torch.rand(3, k, k, generator=seeded(), dtype=dtype)
    assert torch.equal(native.solve(cost, may_forbid=False), native.solve(cost))
    cost[2, 0, k - 1] = torch.inf
    with pytest.raises(native.NotFiniteError, match="problem 2"):
        native.solve(cost, may_forbid=False)


@needs_core
def test_only_the_rows_and_columns_that_count_are_solved():
    cost = torch.rand(2, 3, 5, 8, generator=seeded())
    sizes = torch.tensor([[[5, 8], [2, 8], [5, 3]], [[0, 8], [5, 0], [99, 99]]])
    column = native.solve(cost, sizes)
    assert torch.equal(column[0, 1, :2], native.solve(cost[0, 1, :2]))
    assert torch.equal(column[0, 2], native.solve(cost[0, 2, :, :3]))
    assert (column >= 0).sum(-1).tolist() == [[5, 2, 3], [0, 0, 5]]
    strided = sizes.repeat_interleave(2, -1)[..., ::2]
    assert torch.equal(native.solve(cost, strided), column)


@needs_core
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(("size", "d"), [(7, 1), (20, 3), (20, 100)])
def test_a_point_that_is_no_number_is_reported(bad, size, d):
    points = torch.randn(2, size, d, generator=seeded())
    points[1, -1, -1] = bad
    for metric in native.METRICS:
        with pytest.raises(native.NotFiniteError, match="problem 1"):
            native.roll(points, None, 5, metric)


@needs_core
@pytest.mark.parametrize("bad", [-1, 8, 2**62])
def test_an_index_outside_the_batch_is_an_error(bad):
    points, order = torch.randn(8, 2, generator=seeded()), torch.arange(8)
    order[5] = bad
    for k in (1, 3):
        with pytest.raises(IndexError, match="indices of points"):
            native.roll(points, order, k)


@needs_core
@pytest.mark.parametrize("threads", [2, 3, 64])
def test_threads_change_nothing(threads):
    points = torch.randn(3, 1000, 800, generator=seeded())
    order = torch.randperm(1000, generator=seeded())
    expected = native.roll(points, order, 64)
    assert torch.equal(native.roll(points, order, 64, threads=threads), expected)
    points[2, order[-1]] = torch.nan
    with pytest.raises(native.NotFiniteError, match="problem 2"):
        native.roll(points, order, 64, threads=threads)


@needs_core
@pytest.mark.slow
def test_each_other_instruction_set_keeps_the_contract():
    from kmixup._native import core

    chosen = "test_a_matching or test_every_cost or test_an_assignment"
    for level in set(core.levels()) - {native.description()}:
        told = {"KMIXUP_CORE": level}
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__, "-k", chosen]
        run = subprocess.run(command, env=os.environ | told, capture_output=True, text=True, cwd=ROOT)
        assert run.returncode == 0, f"{level}: {run.stdout[-2000:]}"


def test_the_core_can_be_switched_off_and_says_so():
    code = "from kmixup import native, show_config; show_config(); assert not native.available()"
    told = {"KMIXUP_CORE": "off"}
    shown = subprocess.run([sys.executable, "-c", code], env=os.environ | told, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "none, switched off by KMIXUP_CORE=off" in shown.stdout


def test_a_core_that_was_built_from_other_sources_is_not_called():
    code = "import sys, types; sys.modules['kmixup._native.core'] = types.ModuleType('core'); import kmixup; "
    code += "kmixup.show_config(); print(kmixup.assign(__import__('torch').eye(9)).shape)"
    told = {name: value for name, value in os.environ.items() if name != "KMIXUP_CORE"}
    run = subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True)
    assert "none, built from another version of the sources: build it again" in run.stdout, run.stderr
    assert "[9]" in run.stdout


@needs_core
def test_an_unknown_instruction_set_is_refused():
    told = {"KMIXUP_CORE": "mmx"}
    run = subprocess.run([sys.executable, "-c", "import kmixup"], env=os.environ | told, capture_output=True, text=True)
    assert "KMIXUP_CORE must be off or one of baseline" in run.stderr


def test_show_config_names_the_core_and_the_versions(capsys):
    show_config()
    printed = capsys.readouterr().out
    assert torch.__version__ in printed
    assert native.description() in config()["core"]
    assert config()["core"] in printed


# --- Without Python -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None or not SOURCE.exists(), reason="needs gcc and the core's source")
def test_the_core_runs_clean_under_sanitizers(tmp_path):
    sanitizers = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{SOURCE}"]
    kinds = {"baseline": [], "wide": ["-DVECTOR_BYTES=64"], "scalar": ["-DKMIXUP_SCALAR"]}
    if native.available() and native.description() != "baseline":
        kinds["avx2"] = ["-mavx2", "-mfma"]
    driver = str(ROOT / "tests" / "native_driver.c")
    for kind, flags in kinds.items():
        for real in ("float", "double"):
            program = str(tmp_path / f"{kind}_{real}")
            macros = [f"-DREAL={real}", f"-DISA={kind}"]
            compiled = subprocess.run(
                ["gcc", *sanitizers, *flags, *macros, driver, str(SOURCE / "core.c"), "-lm", "-o", program],
                capture_output=True,
                text=True,
            )
            if "cannot find -lasan" in compiled.stderr or "libasan" in compiled.stderr:
                pytest.skip("gcc has no sanitizers here")
            assert compiled.returncode == 0, compiled.stderr
            run = subprocess.run([program], capture_output=True, text=True)
            assert run.returncode == 0, run.stdout + run.stderr
            assert "cases" in run.stdout
