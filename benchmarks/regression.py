"""python -m benchmarks.regression: matching on targets beside C-Mixup's own rule, and the table of docs/labels.md.

Yao et al. (2022), C-Mixup, mix each sample with one of the training set, drawn with probability proportional to
exp(-|y - y'|^2 / 2h^2). Three sets that scikit-learn ships or makes, one network and one schedule for every method; on
one seed all share split and initial weights. Nothing was tuned.
With ``--render`` nothing is trained: the page is rendered from results/regression.csv.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_diabetes, load_wine, make_friedman1
from torch import Tensor
from torch.nn import functional as F

from benchmarks.timing import environment, threads
from kmixup import Estimate, KMixup, MixPlan
from kmixup.experiments.report.scorecard import fill

RESULTS = Path(__file__).parent / "results" / "regression.csv"
PAGE = Path(__file__).parents[1] / "docs" / "labels.md"

SEEDS, EPOCHS, BATCH, ALPHA, K = 10, 40, 64, 1.0, 16

Draw = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]  # all x, all y, rows: the mixed batch and its targets


def main() -> None:
    """Train what is asked for, write the results, render the page."""
    if "--render" not in sys.argv:
        with threads(1):
            rows = [
                {"data": data, "method": method, "seed": seed, "rmse": f"{rmse:.5f}"}
                for data in DATA
                for method in METHODS
                for seed, rmse in enumerate(errors(data, method))
            ]
        with RESULTS.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        RESULTS.with_suffix(".environment.json").write_text(json.dumps(environment(), indent=2) + "\n")
    PAGE.write_text(fill(PAGE.read_text(), "regression", render()))


def friedman(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Friedman's first problem: ten inputs, five of which count; noise of standard deviation 1."""
    return make_friedman1(400, noise=1.0, random_state=seed)


def proline(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The last of the thirteen measurements of a wine, from the twelve others."""
    x = load_wine().data
    return x[:, :12], x[:, 12]


DATA: dict[str, Callable[[int], tuple[np.ndarray, np.ndarray]]] = {
    "Diabetes": lambda seed: load_diabetes(return_X_y=True),
    "Friedman 1": friedman,
    "Wine, proline": proline,
}


def k_mixup(k: int = K, **options: Any) -> Callable[[torch.Generator], Draw]:
    """k-mixup of a batch within itself."""

    def make(generator: torch.Generator) -> Draw:
        mixer = KMixup(k, ALPHA, generator=generator, **options)

        def draw(x: Tensor, y: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            return mixer(x[rows], y[rows])

        return draw

    return make


def c_mixup(h: float) -> Callable[[torch.Generator], Draw]:
    """C-Mixup: partners from the whole training set, by a Gaussian kernel of the targets' distance; never oneself."""

    def make(generator: torch.Generator) -> Draw:
        lam_only = KMixup(1, ALPHA, generator=generator)

        def draw(x: Tensor, y: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            weight = torch.exp(-(torch.cdist(y[rows], y) ** 2) / (2 * h**2))
            weight[torch.arange(len(rows)), rows] = 0
            partner = torch.multinomial(weight + 1e-300, 1, generator=generator).squeeze(1)
            plan = MixPlan(partner, lam_only.plan(x[rows]).lam, partner, from_second=True)
            return plan.mix(x[rows], x), plan.mix(y[rows], y)

        return draw

    return make


METHODS: dict[str, Callable[[torch.Generator], Draw]] = {
    "no mixing": lambda generator: lambda x, y, rows: (x[rows], y[rows]),
    "mixup": k_mixup(1),
    'k-mixup, `match_on="inputs"`': k_mixup(),
    'k-mixup, `match_on="target"`': k_mixup(match_on="target"),
    'k-mixup, `match_on="both"`': k_mixup(match_on="both"),
    "C-Mixup, h = 0.2": c_mixup(0.2),
    "C-Mixup, h = 1": c_mixup(1.0),
}


def errors(data: str, method: str) -> list[float]:
    """Root mean squared error of each seed on the test third, in standard deviations of the training targets.

    The seeds' networks are trained side by side, as one of stacked layers: their gradients do not touch.
    """
    sets, streams, draws = [], [], []
    for seed in range(SEEDS):
        stream = torch.Generator().manual_seed(seed)
        x, y = (torch.from_numpy(np.asarray(a, np.float64)) for a in DATA[data](seed))
        order = torch.randperm(len(x), generator=stream)
        test, train = order[: len(x) // 3], order[len(x) // 3 :]
        x, y = ((a - a[train].mean(0)) / a[train].std(0) for a in (x, y.unsqueeze(1)))
        sets.append((x[train], y[train], x[test], y[test]))
        streams.append(stream)
        draws.append(METHODS[method](torch.Generator().manual_seed(1000 + seed)))
    widths = [sets[0][0].shape[1], 64, 64, 1]
    layers = [[_linear(stream, *pair) for stream in streams] for pair in pairwise(widths)]
    parameters = [torch.stack(part).requires_grad_() for layer in layers for part in zip(*layer, strict=True)]

    def outputs(x: Tensor) -> Tensor:
        for number in range(0, len(parameters), 2):
            x = torch.baddbmm(parameters[number + 1], x if number == 0 else x.relu(), parameters[number])
        return x

    optimizer = torch.optim.AdamW(parameters, lr=5e-3, weight_decay=1e-4, foreach=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    n = len(sets[0][0])
    for _ in range(EPOCHS):
        # Batches of nearly equal size: a small last one would be too small for k.
        orders = [torch.randperm(n, generator=stream).tensor_split(-(-n // BATCH)) for stream in streams]
        for rows in zip(*orders, strict=True):
            batches = [draw(x, y, part) for draw, (x, y, *_), part in zip(draws, sets, rows, strict=True)]
            x, y = (torch.stack(part) for part in zip(*batches, strict=True))
            loss = F.mse_loss(outputs(x), y, reduction="none").mean((1, 2)).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    with torch.no_grad():
        x, y = (torch.stack([each[place] for each in sets]) for place in (2, 3))
        return (outputs(x) - y).square().mean((1, 2)).sqrt().tolist()


def _linear(stream: torch.Generator, inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
    """Weights ``[inputs, outputs]`` and biases ``[1, outputs]``, initialised as torch does it."""
    bound = inputs**-0.5
    return tuple((2 * torch.rand(n, outputs, generator=stream, dtype=torch.float64) - 1) * bound for n in (inputs, 1))


def render() -> str:
    """A sentence of comparisons and the table, from the results alone: differences are between equal seeds."""
    with RESULTS.open(newline="") as stream:
        found = list(csv.DictReader(stream))
    rmse: dict[tuple[str, str], list[float]] = {}
    for row in found:
        rmse.setdefault((row["data"], row["method"]), []).append(float(row["rmse"]))

    def gap(data: str, method: str, other: str) -> Estimate:
        return Estimate.of([a - b for a, b in zip(rmse[data, method], rmse[data, other], strict=True)])

    def verdicts(method: str, other: str) -> str:
        ends = [gap(data, method, other).interval() for data in DATA]
        better, worse = sum(high < 0 for _, high in ends), sum(low > 0 for low, _ in ends)
        return f"better on {better}, worse on {worse}, undecided on {len(ends) - better - worse}"

    inputs, target, both = (f'k-mixup, `match_on="{name}"`' for name in ("inputs", "target", "both"))
    lines = [
        f"Of {len(DATA)} sets, matching on targets is {verdicts(target, inputs)} against matching on inputs, and "
        f"{verdicts(target, 'C-Mixup, h = 1')} against C-Mixup with h = 1; both against inputs: "
        f"{verdicts(both, inputs)}. "
        f"Matching on inputs against no mixing: {verdicts(inputs, 'no mixing')}.",
        "",
        f"| method | {' | '.join(DATA)} |",
        "|---" * (len(DATA) + 1) + "|",
    ]
    for method in METHODS:
        cells = []
        for data in DATA:
            difference = gap(data, method, "no mixing")
            low, high = difference.interval()
            beside = "" if method == "no mixing" else f" ({difference.mean:+.3f} [{low:+.3f}, {high:+.3f}])"
            cells.append(f"{np.mean(rmse[data, method]):.3f}{beside}")
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
