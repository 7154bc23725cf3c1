"""Per batch: the library beside Figure 5, torchvision's MixUp and the floor; growth with k and B; a whole pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor
from torchvision.transforms import v2

from benchmarks.peers import ByHand, figure_5, figure_5_matching
from benchmarks.timing import clock, in_turns, ratio, seconds, threads
from kmixup import KMixup
from kmixup.assignment import Solver
from kmixup.plan import MixPlan

Row = dict[str, Any]

CLASSES = 10
FLOOR = ("product", "solver", "read and write")

# (B, k, shape of a sample). torchvision's MixUp takes images only.
SHAPES = [
    (64, 16, (2, 1, 1)),
    (128, 16, (1, 28, 28)),
    (128, 16, (3, 32, 32)),
    (512, 32, (3, 32, 32)),
    (512, 64, (3, 32, 32)),
    (1024, 256, (3, 32, 32)),
    (256, 32, (3, 64, 64)),
]
RELATIVE = {torch.float32: 1e-5, torch.float64: 1e-9, torch.bfloat16: 1e-5}


def images(batch: int, shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> Tensor:
    """Noise with the mean and the spread of natural images in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return (0.47 + 0.25 * torch.randn(batch, *shape, generator=generator)).clamp(0, 1).to(dtype)


def shapes(counts: list[int], budget: float) -> Iterator[Row]:
    """Every shape in float32, at each number of threads."""
    for count in counts:
        with threads(count):
            for batch, k, shape in SHAPES:
                yield from _case("shapes", batch, k, shape, torch.float32, count, budget)


def dtypes(counts: list[int], budget: float) -> Iterator[Row]:
    """One shape in other precisions. The floor is defined for what multiplies exactly enough: not for bfloat16."""
    with threads(counts[0]):
        for dtype in (torch.float64, torch.bfloat16):
            yield from _case("dtypes", 512, 32, (3, 32, 32), dtype, counts[0], budget)


def solvers(counts: list[int], budget: float) -> Iterator[Row]:
    """Every shape with lapcpp and with scipy, which solves where lapcpp is not installed."""
    with threads(1):
        for batch, k, shape in SHAPES:
            x = images(batch, shape, 0, torch.float32)
            mixers: dict[str, Callable[[], Any]] = {}
            for name in ("lapcpp", "scipy"):
                _check_rolled(x, k, name)
                mixers[name] = partial(KMixup(k, 1.0, solver=name).plan, x)
            times = in_turns(mixers, budget=budget / 2)
            case = {"section": "solvers", "threads": 1, "dtype": "float32", "B": batch, "k": k, "d": x[0].numel()}
            for name in mixers:
                yield {**case, "quantity": name, "value": seconds(times, name), "unit": "s"}
            yield {**case, "quantity": "scipy / lapcpp", "value": ratio(times, "scipy", "lapcpp"), "unit": "ratio"}


def growth(counts: list[int], budget: float) -> Iterator[Row]:
    """Cost against k at B = 512, and against B at k = 32, for images of 3 x 32 x 32."""
    with threads(counts[0]):
        for k in (1, 2, 4, 8, 16, 32, 64, 128, 256):
            yield from _case("growth with k", 512, k, (3, 32, 32), torch.float32, counts[0], budget / 2)
        for batch in (64, 128, 256, 512, 1024, 2048):
            yield from _case("growth with B", batch, 32, (3, 32, 32), torch.float32, counts[0], budget / 2)


def whole_pass(counts: list[int], budget: float) -> Iterator[Row]:
    """One pass of matching over 50,000 samples of 3072 numbers: k = 32, B = 512, every batch in turn."""
    size, batch, k, d = 50_000, 512, 32, 3072
    data = images(size, (d,), 0, torch.float32)
    second = data[torch.randperm(size, generator=torch.Generator().manual_seed(1))]
    _check_pairs(data[:batch], second[:batch], k)
    for count in counts:
        with threads(count):
            mixer = KMixup(k, 1.0, generator=torch.Generator().manual_seed(0))
            times = {"library": 0.0, "figure 5": 0.0, "solver": 0.0}
            tick = clock()
            for x1, x2 in zip(data.split(batch), second.split(batch), strict=True):
                times["library"] += _timed(partial(mixer.plan, x1), tick)
                times["figure 5"] += _timed(partial(figure_5_matching, x1.numpy(), x2.numpy(), k), tick)
                whole = len(x1) // k * k  # made last: to copy the batch empties the caches
                times["solver"] += _timed(ByHand(x1[:whole], x2[:whole], k).solve, tick)
        case = {"section": "whole pass", "threads": count, "dtype": "float32", "B": batch, "k": k, "d": d}
        for name, value in times.items():
            yield {**case, "quantity": name, "value": value, "unit": "s"}
        yield {**case, "quantity": "figure 5 / library", "value": times["figure 5"] / times["library"], "unit": "ratio"}


def _timed(call: Callable[[], Any], tick: Callable[[], float]) -> float:
    start = tick()
    call()
    return tick() - start


def _case(
    section: str, batch: int, k: int, shape: tuple[int, ...], dtype: torch.dtype, count: int, budget: float
) -> Iterator[Row]:
    x, x2 = images(batch, shape, 0, dtype), images(batch, shape, 1, dtype)
    y = torch.randint(CLASSES, (batch,), generator=torch.Generator().manual_seed(2))
    flat, flat2 = x.flatten(1), x2.flatten(1)
    _check_rolled(x, k)
    mixer = KMixup(k, 1.0, num_classes=CLASSES)
    mixup = v2.MixUp(alpha=1.0, num_classes=CLASSES)
    contenders: dict[str, Callable[[], Any]] = {"library": lambda: mixer(x, y), "torchvision": lambda: mixup(x, y)}
    rare = ["figure 5"] if dtype != torch.bfloat16 else []
    if rare:
        _check_pairs(flat, flat2, k)
        one_hot = torch.eye(CLASSES)[y].numpy()
        rng = np.random.default_rng(0)
        arrays = (flat.numpy(), one_hot, flat2.numpy(), one_hot[::-1])
        contenders["figure 5"] = lambda: figure_5(*arrays, k, 1.0, rng)
    if rare and k > 1:
        by_hand = ByHand(flat, flat2, k, sets=max(4, min(64, 2**22 // (batch * k))))
        steps = (by_hand.multiply, by_hand.solve, by_hand.copy)
        contenders |= {"by hand": by_hand, **dict(zip(FLOOR, steps, strict=True))}
    times = in_turns(contenders, budget=budget, rare=rare)

    case = {"section": section, "threads": count, "dtype": str(dtype).removeprefix("torch."), "B": batch, "k": k}
    case["d"] = flat.shape[1]
    for name in contenders:
        yield {**case, "quantity": name, "value": seconds(times, name), "unit": "s"}
    ratios = {"library / torchvision": ratio(times, "library", "torchvision")}
    if rare:
        ratios["figure 5 / library"] = ratio(times, "figure 5", "library")
    if rare and k > 1:
        ratios["library / floor"] = ratio(times, "library", FLOOR)
        ratios["library / by hand"] = ratio(times, "library", "by hand")
    for name, value in ratios.items():
        yield {**case, "quantity": name, "value": value, "unit": "ratio"}


# --- the answers are checked before they are timed --------------------------------------------------------------------


def _check_rolled(x: Tensor, k: int, solver: Solver = "auto") -> None:
    """The mixed batch is the displacement interpolation along an optimal matching of each block with the one before."""
    plan = KMixup(k, 1.0, solver=solver, generator=torch.Generator().manual_seed(0)).plan(x)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))  # the mixer's first draw
    before = order.roll(k)
    for start in range(0, len(x), k):
        block, candidates = order[start : start + k], before[start : start + k]
        assert sorted(plan.partner[block].tolist()) == sorted(candidates.tolist())
        _check_optimal(x[block], x[candidates], x[plan.partner[block]], "sqeuclidean")
    exact = plan.lam.double() * x.double() + (1 - plan.lam.double()) * x[plan.partner].double()
    torch.testing.assert_close(plan.mix(x), exact.to(x.dtype))


def _check_pairs(x1: Tensor, x2: Tensor, k: int) -> None:
    """With a second batch and its metric, the library finds matchings of the same cost as Figure 5's."""
    plan: MixPlan = KMixup(k, 1.0, metric="euclidean").plan(x1, x2)
    theirs = figure_5_matching(x1.numpy(), x2.numpy(), k)
    for start in range(0, len(x1) // k * k, k):
        block = slice(start, start + k)
        _check_optimal(x1[block], x2[block], x2[plan.partner[block]], "euclidean")
        _check_optimal(x1[block], x2[block], x2[theirs[block]], "euclidean")


def _check_optimal(x: Tensor, y: Tensor, matched: Tensor, metric: str) -> None:
    left, right, chosen = (t.flatten(1).double().numpy() for t in (x, y, matched))
    cost = cdist(left, right, metric)
    best = cost[linear_sum_assignment(cost)].sum()
    gaps = np.square(left - chosen).sum(1)
    found = gaps.sum() if metric == "sqeuclidean" else np.sqrt(gaps).sum()
    assert found <= best * (1 + RELATIVE[x.dtype]), f"not optimal: {found} > {best}"
