"""python docs/metrics.py: renders whether matching on other features is better into docs/choosing.md.

It reads results/metrics.json; ``python docs/metrics.py --run`` makes that file first. Every arm has the xi of mixup
with alpha = 0.2, so that they differ in who is mixed with whom alone; seeds are paired.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from kmixup import KMixup, calibrate
from kmixup.experiments.comparisons import Arm, pair
from kmixup.experiments.datasets import load_data
from kmixup.experiments.files import write_whole
from kmixup.experiments.models import build_model
from kmixup.experiments.report.scorecard import fill
from kmixup.experiments.verdicts import interval

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "choosing.md"
ERRORS = ROOT / "results" / "metrics.json"
SEEDS, ROWS, EPOCHS, BATCH, K, ALPHA = 12, 1000, 20, 64, 16, 0.2


def pixels(x: Tensor) -> None:
    """Matching on the inputs themselves."""


def pca(components: int) -> Callable[[Tensor], Callable[[Tensor], Tensor]]:
    """Coordinates in the directions in which the training points vary most."""

    def fit(x: Tensor) -> Callable[[Tensor], Tensor]:
        directions = torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[:components].T
        return lambda batch: batch.flatten(1) @ directions

    return fit


def random_features(count: int) -> Callable[[Tensor], Callable[[Tensor], Tensor]]:
    """One layer of a network that was never trained."""

    def fit(x: Tensor) -> Callable[[Tensor], Tensor]:
        weights = torch.randn(x.shape[1], count, generator=torch.Generator().manual_seed(0)) / x.shape[1] ** 0.5
        return lambda batch: (batch.flatten(1) @ weights).relu()

    return fit


ARMS = {
    "pixels": pixels,
    "PCA, 10 components": pca(10),
    "PCA, 30 components": pca(30),
    "512 random features": random_features(512),
}


def trained(seed: int, arm: str) -> tuple[float, float, bool]:
    """Test error in percent, the alpha that gives the xi, and whether one does."""
    data = load_data("mnist-5000", seed=seed, options={"n_train": ROWS})
    x, x_test = data.x_train.flatten(1), data.x_test.flatten(1)
    generator = torch.Generator().manual_seed(seed)
    mixer = KMixup(K, 1.0, num_classes=10, features=ARMS[arm](x), generator=generator)
    found = calibrate(x, mixer, ALPHA, batch_size=BATCH, generator=torch.Generator().manual_seed(seed))
    mixer.alpha = found.alpha_k
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_model("fc", (x.shape[1],), 10, {"hidden": [120, 120, 84]})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [EPOCHS // 2, 3 * EPOCHS // 4])
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x), generator=generator).split(BATCH):
            mixed, targets = mixer(x[batch], data.y_train[batch])
            optimizer.zero_grad()
            F.cross_entropy(model(mixed), targets).backward()
            optimizer.step()
        schedule.step()
    with torch.no_grad():
        error = 100 * float((model(x_test).argmax(1) != data.y_test).double().mean())
    return error, found.alpha_k, found.attainable


def run() -> None:
    """Train all arms of all seeds; the file is written after each seed."""
    found: dict[str, dict[str, list]] = {arm: {"errors": [], "alphas": [], "attainable": []} for arm in ARMS}
    for seed in range(SEEDS):
        for arm, values in found.items():
            for name, value in zip(values, trained(seed, arm), strict=True):
                values[name].append(value)
        write_whole(ERRORS, json.dumps(found, indent=1) + "\n")


def render() -> str:
    """A row an arm, each against the pixels."""
    found = json.loads(ERRORS.read_text(encoding="utf-8"))
    arms = {arm: Arm(dict(enumerate(values["errors"]))) for arm, values in found.items()}
    lines = ["| matched on | alpha | test error, % | gain on pixels |", "|---|---|---|---|"]
    better = worse = 0
    for arm, values in found.items():
        cells = [f"{sum(values['alphas']) / len(values['alphas']):.2f}" + "*" * (not all(values["attainable"]))]
        cells.append(f"{sum(values['errors']) / len(values['errors']):.2f}")
        if arm == "pixels":
            cells.append("")
        else:
            gain = pair(arms[arm], arms["pixels"])
            low, high = interval(gain)
            better, worse = better + (low > 0), worse + (high < 0)
            cells.append(f"{gain.effect:+.2f} [{low:+.2f}, {high:+.2f}]")
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    seeds = len(found["pixels"]["errors"])
    return (
        f"{ROWS:,} of MNIST's digits, a fully connected network, k = {K}, {seeds} seeds, every arm at the xi of mixup "
        f"with alpha = {ALPHA}: of {len(found) - 1} sets of features **{better}** did better than pixels, **{worse}** "
        "worse (exact 90 % intervals over seeds).\n\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", action="store_true", help="train first")
    if parser.parse_args().run:
        run()
    write_whole(PAGE, fill(PAGE.read_text(encoding="utf-8"), "metrics", render()))
