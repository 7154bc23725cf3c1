"""`match` beside other solvers on problems that are not square; `Coupling` beside torchcfm's sampler; what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from benchmarks.timing import in_turns, ratio, seconds, threads
from kmixup import Coupling, cost_matrix, match
from kmixup.experiments.datasets import load_data

Row = dict[str, Any]
Solve = Callable[[np.ndarray], np.ndarray]  # of one problem: the column of each row, -1 or beyond the columns for none

SETS = 4


class Problems(NamedTuple):
    """Costs ``[SETS, problems, n, m]``, forbidden pairs, how many columns count ``[SETS, problems]``."""

    cost: Tensor
    forbidden: Tensor | None = None
    columns: Tensor | None = None


def rectangles(budget: float) -> Iterator[Row]:
    """Assignments of problems that are not square, padded, or have forbidden pairs; other ones in every call."""
    generator = torch.Generator().manual_seed(0)
    with threads(1):
        for kind, make in KINDS.items():
            problems = make(generator)
            (_, count, n, m), rng = problems.cost.shape, np.random.default_rng(0)
            calls = {"library": lambda problems=problems, rng=rng: _library(problems, int(rng.integers(SETS)))}
            alone = [_alone(problems, s) for s in range(SETS)]
            for name, solve in _solvers().items():
                _check(alone[0], [solve(cost) for cost in alone[0]], _library(problems, 0), name)
                calls[name] = lambda solve=solve, alone=alone, rng=rng: [
                    solve(cost) for cost in alone[rng.integers(SETS)]
                ]
            times = in_turns(calls, budget=budget / 2, rare=["POT"])
            case = {"B": count, "k": n, "d": m, "kind": kind}
            for name in times:
                yield {**case, "quantity": name, "value": seconds(times, name) / count, "unit": "s"}
                if name != "library":
                    yield {
                        **case,
                        "quantity": f"{name} / library",
                        "value": ratio(times, name, "library"),
                        "unit": "ratio",
                    }


def couplings(budget: float) -> Iterator[Row]:
    """A batch coupled with another, costs included; how much shorter pairs are, and how many samples are kept."""
    with threads(1):
        for kind, batch, draw in _pairs_of_sets():
            rng = np.random.default_rng(0)
            sets = [draw(batch, seed) for seed in range(SETS)]
            coupling = Coupling(batch)
            calls = {"library": lambda sets=sets, rng=rng, c=coupling: c.sample_plan(*sets[rng.integers(SETS)])}
            case = {"B": batch, "k": batch, "d": sets[0][0].shape[1], "kind": kind}
            yield {**case, "quantity": "shorter", "value": _shorter(coupling, sets), "unit": "share"}
            if find_spec("torchcfm"):
                sampler = import_module("torchcfm.optimal_transport").OTPlanSampler("exact", warn=False)
                calls["torchcfm"] = lambda sets=sets, rng=rng, s=sampler: s.sample_plan(*sets[rng.integers(SETS)])
                yield {**case, "quantity": "torchcfm keeps", "value": _kept(sampler, sets), "unit": "share"}
            times = in_turns(calls, budget=budget / 2, rounds=(5, 400))
            for name in times:
                yield {**case, "quantity": name, "value": seconds(times, name), "unit": "s"}
            if "torchcfm" in times:
                quantity = "torchcfm / library"
                yield {**case, "quantity": quantity, "value": ratio(times, "torchcfm", "library"), "unit": "ratio"}


# --- problems ---------------------------------------------------------------------------------------------------------


def _sources(generator: torch.Generator) -> Problems:
    """Sources in a mixture: a small matrix for each utterance of a batch."""
    return Problems(torch.rand(SETS, 256, 4, 4, generator=generator))


def _detections(generator: torch.Generator) -> Problems:
    """Queries of a detector and at most 20 objects in an image, padded to 20."""
    cost = torch.rand(SETS, 32, 300, 20, generator=generator)
    return Problems(cost, columns=torch.randint(1, 21, (SETS, 32), generator=generator))


def _tracks(generator: torch.Generator) -> Problems:
    """Tracks and measurements in the plane, far pairs forbidden; a column of its own for each track that finds none."""
    tracks = 10 * torch.rand(SETS * 32, 50, 2, generator=generator)
    seen = tracks + 0.3 * torch.randn(tracks.shape, generator=generator)
    clutter = 10 * torch.rand(SETS * 32, 10, 2, generator=generator)
    cost = cost_matrix(tracks, torch.cat([seen, clutter], 1))
    cost = torch.nn.functional.pad(cost, (0, 50), value=1.0)
    forbidden = cost > 1.0
    forbidden[..., 60:] = ~torch.eye(50, dtype=torch.bool)
    return Problems(cost.unflatten(0, (SETS, -1)), forbidden.unflatten(0, (SETS, -1)))


def _noise(generator: torch.Generator) -> Problems:
    return Problems(torch.rand(SETS, 32, 100, 150, generator=generator))


KINDS = {"sources": _sources, "detections": _detections, "tracks": _tracks, "noise": _noise}


def _library(problems: Problems, s: int) -> Tensor:
    forbidden = None if problems.forbidden is None else problems.forbidden[s]
    columns = None if problems.columns is None else problems.columns[s]
    return match(problems.cost[s], forbidden=forbidden, columns=columns)


def _alone(problems: Problems, s: int) -> list[np.ndarray]:
    """Each problem as a matrix that is cut and masked already: no contender but the library is timed for that."""
    cost = problems.cost[s]
    if problems.forbidden is not None:
        cost = cost.masked_fill(problems.forbidden[s], torch.inf)
    counts = [cost.shape[-1]] * len(cost) if problems.columns is None else problems.columns[s].tolist()
    return [np.ascontiguousarray(each[:, :count]) for each, count in zip(cost.numpy(), counts, strict=True)]


def _solvers() -> dict[str, Solve]:
    def scipy(cost: np.ndarray) -> np.ndarray:
        column = np.full(len(cost), -1)
        rows, columns = linear_sum_assignment(cost)
        column[rows] = columns
        return column

    found = {"scipy": scipy}
    if find_spec("lap"):
        lap = import_module("lap")
        found["lapx"] = lambda cost: lap.lapjv(_finite(cost), extend_cost=True, return_cost=False)[0]
    if find_spec("ot"):
        ot = import_module("ot")

        def pot(cost: np.ndarray) -> np.ndarray:
            (n, m), size = cost.shape, max(cost.shape)
            square = np.zeros((size, size))  # rows and columns that all the others may have for nothing
            square[:n, :m] = _finite(cost)
            return ot.emd([], [], square).argmax(1)[:n]

        found["POT"] = pot
    return found


def _finite(cost: np.ndarray) -> np.ndarray:
    """Costs for solvers that know no infinity."""
    return np.where(np.isinf(cost), np.float32(1e4), cost) if np.isinf(cost).any() else cost


def _check(costs: list[np.ndarray], theirs: list[np.ndarray], ours: Tensor, name: str) -> None:
    def total(cost: np.ndarray, column: np.ndarray) -> float:
        rows = np.flatnonzero((column >= 0) & (column < cost.shape[1]))
        assert len(rows) == min(cost.shape), name
        return float(cost[rows, column[rows]].sum(dtype=np.float64))

    for cost, column, own in zip(costs, theirs, ours.numpy(), strict=True):
        assert abs(total(cost, column) - total(cost, own)) <= 1e-4 * abs(total(cost, own)), f"{name} is not optimal"


# --- sets -------------------------------------------------------------------------------------------------------------


def _pairs_of_sets() -> Iterator[tuple[str, int, Callable[[int, int], tuple[Tensor, Tensor]]]]:
    digits = 2 * load_data("mnist-5000").x_train.flatten(1) - 1

    def rows(count: int, seed: int) -> Tensor:
        return digits[torch.randperm(len(digits), generator=torch.Generator().manual_seed(seed))[:count]]

    def noise(count: int, seed: int) -> tuple[Tensor, Tensor]:
        return torch.randn(count, digits.shape[1], generator=torch.Generator().manual_seed(seed)), rows(count, seed)

    def data(count: int, seed: int) -> tuple[Tensor, Tensor]:
        return rows(2 * count, seed).split(count)  # pyright: ignore[reportReturnType]

    for batch in (128, 512):
        yield "noise to digits", batch, noise
        yield "digits to digits", batch, data
    for batch in (128, 512, 2048):
        yield "eight Gaussians to two moons", batch, plane


def plane(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Eight Gaussians on a circle, and two moons, ``[count, 2]`` each."""
    generator = torch.Generator().manual_seed(seed)
    angle = torch.randint(8, (count,), generator=generator) * torch.pi / 4
    gaussians = 5 * torch.stack([angle.cos(), angle.sin()], 1) + 0.3 * torch.randn(count, 2, generator=generator)
    turn, lower = torch.pi * torch.rand(count, generator=generator), torch.randint(2, (count,), generator=generator)
    moon = torch.stack([turn.cos() + lower, turn.sin() * (1 - 2 * lower) + 0.5 * lower], 1)
    return gaussians, 3 * moon - 1 + 0.2 * torch.randn(count, 2, generator=generator)


def _shorter(coupling: Coupling, sets: list[tuple[Tensor, Tensor]]) -> float:
    """By what share pairs are nearer to each other than pairs at random: mean lengths."""
    matched = unmatched = 0.0
    for x0, x1 in sets:
        matched += float((coupling.sample_plan(x0, x1)[1] - x0).norm(dim=1).mean())
        unmatched += float((x1 - x0).norm(dim=1).mean())
    return 1 - matched / unmatched


def _kept(sampler: Any, sets: list[tuple[Tensor, Tensor]]) -> float:
    """Share of the second set's samples that the sampler returns."""
    np.random.seed(0)
    return float(np.mean([len(sampler.sample_plan(x0, x1)[1].unique(dim=0)) / len(x1) for x0, x1 in sets]))
