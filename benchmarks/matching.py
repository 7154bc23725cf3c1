"""Per batch: the library beside torchvision's MixUp, the paper's Figure 5 and an older commit; solvers alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import process_time, thread_time
from types import ModuleType
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor
from torchvision.transforms import v2

from benchmarks.before import before
from benchmarks.peers import figure_5, figure_5_matching, solvers
from benchmarks.timing import Times, in_turns, ratio, seconds, threads
from kmixup import KMixup, assign, cost_matrix
from kmixup.experiments.datasets import load_data
from kmixup.matching import partners

Row = dict[str, Any]

CLASSES = 10

# (B, k, shape of a sample). torchvision's MixUp takes images only.
SHAPES = [
    (64, 16, (2, 1, 1)),
    (128, 8, (30, 1, 1)),
    (128, 16, (1, 28, 28)),
    (128, 16, (3, 32, 32)),
    (512, 32, (3, 32, 32)),
    (512, 64, (3, 32, 32)),
    (1024, 256, (3, 32, 32)),
    (256, 32, (3, 64, 64)),
    (1024, 16, (54, 1, 1)),
]
KS = (16, 32, 64, 256)
PROBLEMS = 32


def images(batch: int, shape: tuple[int, ...], seed: int) -> Tensor:
    """Noise with the mean and the spread of natural images in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return (0.47 + 0.25 * torch.randn(batch, *shape, generator=generator)).clamp(0, 1)


def shapes(budget: float) -> Iterator[Row]:
    """Every shape in float32 on one thread: a whole call, inputs and labels mixed; new data in every call."""
    older = before()
    with threads(1):
        for batch, k, shape in SHAPES:
            calls = _whole_calls(batch, k, shape, older)
            times = in_turns(calls, budget=budget, rare=["figure 5"])
            pairs = [("library", "torchvision"), ("figure 5", "library"), ("before", "library")]
            case = {"B": batch, "k": k, "d": int(np.prod(shape))}
            yield from _rows(case, times, [pair for pair in pairs if pair[0] in calls])


def _whole_calls(batch: int, k: int, shape: tuple[int, ...], older: ModuleType | None) -> dict[str, Callable[[], Any]]:
    rng = np.random.default_rng(0)
    sets = [images(batch, shape, seed) for seed in range(8)]
    y = torch.randint(CLASSES, (batch,), generator=torch.Generator().manual_seed(2))
    one_hot = torch.eye(CLASSES)[y].numpy()
    mixer, mixup = KMixup(k, 1.0, num_classes=CLASSES), v2.MixUp(alpha=1.0, num_classes=CLASSES)
    _check(sets[0].flatten(1), k)

    def draw() -> Tensor:
        return sets[rng.integers(len(sets))]

    def rows() -> np.ndarray:
        return draw().flatten(1).numpy()

    calls: dict[str, Callable[[], Any]] = {
        "library": lambda: mixer(draw(), y),
        "torchvision": lambda: mixup(draw(), y),
        "figure 5": lambda: figure_5(rows(), one_hot, rows(), one_hot[::-1], k, 1.0, rng),
    }
    if older:
        old = older.KMixup(k, 1.0, num_classes=CLASSES)
        calls["before"] = lambda: old(draw(), y)
    return calls


def solver(budget: float) -> Iterator[Row]:
    """Assignments alone, 32 problems a call, other ones in every call: noise, real digits, points in the plane."""
    digits = load_data("mnist-5000").x_train.flatten(1)
    plane = torch.rand(40_000, 2, generator=torch.Generator().manual_seed(0))
    with threads(1):
        for k in KS:
            noise = torch.rand(4, PROBLEMS, k, k, generator=torch.Generator().manual_seed(k))
            for kind, costs in (("noise", noise), ("digits", _costs(digits, k)), ("plane", _costs(plane, k))):
                calls = _solver_calls(costs)
                times = in_turns(calls, budget=budget / 4, rare=["POT"])
                times = {name: [t and t / PROBLEMS for t in each] for name, each in times.items()}
                pairs = [(name, "library") for name in calls if name != "library"]
                yield from _rows({"B": k, "k": k, "d": 0, "kind": kind}, times, pairs)


def _solver_calls(costs: Tensor) -> dict[str, Callable[[], Any]]:
    rng, arrays = np.random.default_rng(0), costs.numpy()

    def with_package(name: str, solve: Callable[[np.ndarray], list[np.ndarray]]) -> Callable[[], Any]:
        _check_cost(arrays[0], solve(arrays[0]), name)
        return lambda: solve(arrays[rng.integers(len(arrays))])

    packages = {name: with_package(name, solve) for name, solve in solvers().items()}
    return {"library": lambda: assign(costs[rng.integers(len(costs))]), **packages}


def growth(budget: float) -> Iterator[Row]:
    """Time of a call against k, at B = 512 for images of 3 x 32 x 32."""
    with threads(1):
        for k in (1, 4, 16, 64, 256):
            calls = _whole_calls(512, k, (3, 32, 32), None)
            times = in_turns({name: calls[name] for name in ("library", "torchvision")}, budget=budget / 2)
            yield from _rows({"B": 512, "k": k, "d": 3072}, times, [])


def _rows(case: Row, times: Times, pairs: list[tuple[str, str]]) -> Iterator[Row]:
    for name in times:
        yield {**case, "quantity": name, "value": seconds(times, name), "unit": "s"}
    for above, below in pairs:
        yield {**case, "quantity": f"{above} / {below}", "value": ratio(times, above, below), "unit": "ratio"}


def second_threads(budget: float) -> Iterator[Row]:
    """Processor time of the process per processor time of the thread that calls: 1 where no other thread works."""
    with threads(1):
        for batch, k, shape in SHAPES:
            mixer, x = KMixup(k, 1.0), images(batch, shape, 0)
            mixer.plan(x)
            process, thread, calls = process_time(), thread_time(), 0
            while thread_time() - thread < budget / 10 or calls < 5:
                mixer.plan(x).mix(x)
                calls += 1
            share = (process_time() - process) / (thread_time() - thread)
            case = {"B": batch, "k": k, "d": int(np.prod(shape))}
            yield {**case, "quantity": "process / thread", "value": share, "unit": "ratio"}


def _costs(points: Tensor, k: int) -> Tensor:
    """Squared distances of random blocks of k, shape ``[4, PROBLEMS, k, k]``."""
    rng = torch.Generator().manual_seed(k)
    rows = torch.stack([torch.randperm(len(points), generator=rng)[: 2 * k] for _ in range(4 * PROBLEMS)])
    return cost_matrix(points[rows[:, :k]], points[rows[:, k:]]).unflatten(0, (4, PROBLEMS))


# --- the answers are checked before they are timed --------------------------------------------------------------------


def _check(x: Tensor, k: int) -> None:
    """Every block is matched optimally with the block before it; Figure 5's loop finds its optimum, too."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    found, other = partners(x, order, k), x[order.roll(k)]
    theirs = figure_5_matching(x[order].numpy(), other.numpy(), k)
    for block, candidates, start in zip(order.split(k), order.roll(k).split(k), range(0, len(x), k), strict=True):
        squared = cdist(x[block].double(), x[candidates].double(), "sqeuclidean")
        best = squared[linear_sum_assignment(squared)].sum()
        cost = float((x[block].double() - x[found[block]].double()).square().sum())
        assert cost <= best * (1 + 1e-6), f"not optimal: {cost} > {best}"
        assert len(theirs[start : start + k]) == len(block)


def _check_cost(costs: np.ndarray, columns: list[np.ndarray], name: str) -> None:
    for cost, found in zip(costs, columns, strict=True):
        best = cost[linear_sum_assignment(cost)].sum()
        total = cost[np.arange(len(cost)), np.asarray(found)].sum()
        assert total <= best * (1 + 1e-5), f"{name} is not optimal: {total} > {best}"
