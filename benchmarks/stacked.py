"""Several trials of a cell as one stacked model (torch.func): measured, for the engine does not do it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch.func import functional_call, stack_module_state, vmap

from benchmarks.timing import in_turns, ratio, threads
from benchmarks.training import SMALL
from kmixup.experiments.recipe import read_recipe
from kmixup.experiments.training import Training

TRIALS = (5, 20)
# After these many steps from equal weights the two ways are compared, and again after a whole run.
STEPS = 50


def stacked(counts: list[int], budget: float) -> Iterator[dict[str, Any]]:
    """One step of N networks at once beside N steps of one: forward, backward, optimiser; and where both end."""
    with threads(1):
        for table, dataset, k, alpha in SMALL:
            wanted = {"dataset": dataset, "k": k, "alpha": alpha, "method": "k-mixup"}
            cell = next(cell for cell in read_recipe(table).cells if cell.matches(wanted))
            for n in TRIALS:
                pair = _Pair([Training(cell.trial(seed)) for seed in range(n)])
                pair.train(STEPS)
                differences = {f"{STEPS} steps": pair.difference()}
                pair.train(pair.steps - STEPS)
                differences["a run"] = pair.difference()
                times = in_turns({"separate": pair.separate, "stacked": pair.stacked}, budget=budget / 2)
                case = {"section": "stacked", "threads": 1, "dtype": "float32", "B": pair.size, "k": k, "d": pair.width}
                name = f"{n} trials: {table}, {dataset}"
                gain = ratio(times, "separate", "stacked")
                yield {**case, "quantity": f"gain of {name}", "value": gain, "unit": "ratio"}
                for after, value in differences.items():
                    quantity = f"difference after {after} of {name}"
                    yield {**case, "quantity": quantity, "value": value, "unit": "relative"}


class _Pair:
    """The same networks twice: one by one, and stacked; each with batches of its own data, the same for both."""

    def __init__(self, trainings: list[Training]) -> None:
        trial, data = trainings[0].trial, [training.data for training in trainings]
        self.size, self.width = trial.batch_size, data[0].x_train[0].numel()
        self.models = [training.model.train() for training in trainings]
        self.points = torch.stack([part.x_train for part in data])
        self.targets = torch.stack([F.one_hot(part.y_train, part.num_classes).float() for part in data])
        self.steps = trial.epochs * (self.points.shape[1] // self.size)
        self.generator = torch.Generator().manual_seed(0)
        self.draw()
        stacked, self.buffers = stack_module_state(self.models)
        self.params = {name: value.detach().clone().requires_grad_() for name, value in stacked.items()}
        self.shape = copy.deepcopy(self.models[0]).to("meta")

        def sgd(params: Any) -> torch.optim.Optimizer:
            return torch.optim.SGD(
                params, trial.lr, momentum=trial.momentum, weight_decay=trial.weight_decay, fused=True
            )

        self.optimizers = [sgd(model.parameters()) for model in self.models]
        self.optimizer = sgd(list(self.params.values()))

    def separate(self) -> None:
        for model, optimizer, x, y in zip(self.models, self.optimizers, self.x, self.y, strict=True):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def stacked(self) -> None:
        outputs = vmap(lambda p, b, x: functional_call(self.shape, (p, b), (x,)))(self.params, self.buffers, self.x)
        loss = F.cross_entropy(outputs.flatten(0, 1), self.y.flatten(0, 1)) * len(self.models)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def draw(self) -> None:
        """The next batch of every trial."""
        batch = torch.randperm(self.points.shape[1], generator=self.generator)[: self.size]
        self.x, self.y = self.points[:, batch], self.targets[:, batch]

    def train(self, steps: int) -> None:
        """Both ways, at the first learning rate."""
        for _ in range(steps):
            self.separate()
            self.stacked()
            self.draw()

    @torch.no_grad()
    def difference(self) -> float:
        """Largest difference of a weight, beside the largest weight."""
        ours = [dict(model.named_parameters()) for model in self.models]
        gaps, sizes = [], []
        for name, together in self.params.items():
            apart = torch.stack([params[name] for params in ours])
            gaps.append((apart - together).abs().max())
            sizes.append(apart.abs().max())
        return float(torch.stack(gaps).max() / torch.stack(sizes).max())
