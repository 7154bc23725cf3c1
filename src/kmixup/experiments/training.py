"""Training: a run is a pure function of its trial."""

from __future__ import annotations

import hashlib
import math
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kmixup.calibration import Calibration, calibrate
from kmixup.experiments.checkpoints import resume, save_checkpoint, save_model
from kmixup.experiments.datasets import DATASETS, Data
from kmixup.experiments.datasets.data import normalise
from kmixup.experiments.distributed import here
from kmixup.experiments.methods import METHODS, EpochMixing, Erm, Method
from kmixup.experiments.models import MODELS
from kmixup.experiments.run import Curves, Environment, Match, Run, Seconds
from kmixup.experiments.trial import Trial, unknown

_EVALUATION_BATCH = 1000
_SAVE_SECONDS = 30
_MATCH_BATCHES = 8
# Up to this many numbers of training data, all batches of an epoch are mixed at once.
_WHOLE_EPOCH_NUMBERS = 2**22
# Accuracies are counted for this many batches at once: small networks take little longer than the counting.
_COUNT_EVERY = 64


def run(
    trial: Trial,
    *,
    data_dir: Path | None = None,
    device: str = "cpu",
    threads: int = 1,
    checkpoints: Path | None = None,
    models: Path | None = None,
    on_epoch: Callable[[Training], object] | None = None,
) -> Run:
    """Train and test one trial.

    Args:
        trial: The settings.
        data_dir: Where data files are.
        device: Where to train.
        threads: CPU threads of this process; numbers may differ in the last digits with another count.
        checkpoints: Folder for a checkpoint of a long training, from which the same call resumes to the same numbers.
        models: Folder for the trained model.
        on_epoch: Called after every epoch, with the training under way.

    Returns:
        The run. A loss that is not finite ends training: the run is marked diverged and has no error.
    """
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        # Initial weights and dropout take no generator in PyTorch: they get a seeded global one, put back after.
        with torch.random.fork_rng():
            training = Training(trial, data_dir=data_dir, device=device)
            if checkpoints is not None:
                resume(training, checkpoints)
            saved = perf_counter()
            while not training.done:
                training.epoch()
                if checkpoints is not None and here().first and perf_counter() - saved > _SAVE_SECONDS:
                    save_checkpoint(training, checkpoints)
                    saved = perf_counter()
                if on_epoch is not None:
                    on_epoch(training)
            if models is not None and here().first and not training.diverged:
                save_model(training.model, trial, models)
            return training.finish()
    finally:
        torch.set_num_threads(threads_before)


def seed_for(trial: Trial, purpose: str) -> int:
    """A seed of its own for each use of randomness in a trial, so that changing one draw leaves the others."""
    return int.from_bytes(hashlib.sha256(f"{trial.seed}/{purpose}".encode()).digest()[:7], "big")


def learning_rate(trial: Trial, epoch: float) -> float:
    """Learning rate at a time counted in epochs, 0 at the start; within an epoch it changes during the warm-up only."""
    if epoch < trial.warmup_epochs:
        return trial.lr * epoch / trial.warmup_epochs
    passed = sum(epoch >= round(share * trial.epochs) for share in trial.milestones)
    return trial.lr * trial.lr_decay**passed


class Step(NamedTuple):
    """One step of the optimiser: the loss of its batch, the outputs ``[B, C]`` before it, the soft targets."""

    loss: Tensor
    outputs: Tensor
    targets: Tensor


class Training:
    """A trial under way: a model, its optimiser, the streams of randomness, the learning curves.

    Seeds the global generator of torch; `run` restores it.

    Attributes:
        trial: The settings.
        data: The data, on the device.
        model: Takes normalised inputs.
        optimizer: SGD.
        method: What mixes.
        epochs_done: Epochs behind us.
        diverged: Whether the loss stopped being finite.
    """

    def __init__(self, trial: Trial, *, data_dir: Path | None = None, device: str = "cpu") -> None:
        self._start = perf_counter()
        self.trial = trial
        self.device = torch.device(device)
        self.data = _on_device(load_data(trial, data_dir), self.device)
        self._place = here()
        # Ranks agree on the batches, each augments its share with its own draws, and `KMixup` tells ranks apart itself.
        purposes = {"batches": "batches", "augment": "augment", "mixing": "mixing"}
        if not self._place.first:
            purposes["augment"] = f"augment on rank {self._place.rank}"
        self._generators = {
            name: Generator().manual_seed(seed_for(trial, purpose)) for name, purpose in purposes.items()
        }
        torch.manual_seed(seed_for(trial, "model"))
        build = _named("model", trial.model, MODELS)
        self.model = build(tuple(self.data.x_train.shape[1:]), self.data.num_classes, **trial.model_options)
        self._memory_format = torch.channels_last if trial.channels_last else torch.contiguous_format
        self.model.to(self.device).to(memory_format=self._memory_format)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=trial.lr,
            momentum=trial.momentum,
            weight_decay=trial.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )
        self._network = DistributedDataParallel(self.model) if self._place.world > 1 else self.model
        self.calibration = _calibrate(trial, self.data)
        alpha_k = self.calibration.alpha_k if self.calibration else 0.0
        build = _named("method", trial.method, METHODS)
        self.method: Method = build(trial, alpha_k, self._generators["mixing"], self._network)
        self._one_hot = torch.eye(self.data.num_classes, device=self.device)
        # Normalised once where nothing has to come before it; attacks need the pixels, so the raw test data stay too.
        self._x_train = self.data.x_train if self.data.augment else self._normalised(self.data.x_train)
        size = min(trial.batch_size, len(self._x_train))
        self._steps_per_epoch = len(self._x_train) // size
        small = self.data.augment is None and self._x_train.numel() <= _WHOLE_EPOCH_NUMBERS
        self._by_epoch = small and size >= 2 * trial.k and self._place.world == 1
        self._x_test = self._normalised(self.data.x_test).contiguous(memory_format=self._memory_format)
        self.epochs_done = 0
        self.diverged = False
        self._curves: dict[str, list[float]] = {"train_loss": [], "train_accuracy": [], "test_error": []}

    @property
    def done(self) -> bool:
        """Whether there is nothing left to train."""
        return self.diverged or self.epochs_done >= self.trial.epochs

    def epoch(self) -> None:
        """One pass over the training data, then the test error."""
        self._pass()
        self.epochs_done += 1
        self._curves["test_error"].append(error_rate(self.model, self._x_test, self.data.y_test))

    def _pass(self) -> None:
        """One pass over the training data."""
        trial = self.trial
        self._set_learning_rate(self.epochs_done)
        if not self.model.training:  # to set it module by module takes as long as a step of a small network
            self.model.train()
        losses: list[Tensor] = []
        accuracies: list[Tensor] = []
        steps: list[Step] = []
        for step in self._steps():
            losses.append(step.loss)
            steps.append(step)
            if len(steps) == _COUNT_EVERY or len(losses) == self._steps_per_epoch:
                accuracies += [accuracy(steps)] * len(steps)
                steps = []
            if self.epochs_done < trial.warmup_epochs:
                self._set_learning_rate(self.epochs_done + len(losses) / self._steps_per_epoch)
        train_loss = self._place.mean(torch.stack(losses).mean()).item()
        self.diverged = not math.isfinite(train_loss)
        self._curves["train_loss"].append(train_loss)
        self._curves["train_accuracy"].append(self._place.mean(torch.stack(accuracies).mean()).item())

    def _set_learning_rate(self, epoch: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.trial, epoch)

    def _steps(self) -> Iterator[Step]:
        """One epoch, step by step."""
        if isinstance(self.method, (Erm, EpochMixing)) and self._by_epoch:
            for x, targets in self._mixed_epoch(self.method):
                with self._autocast():
                    outputs = self._network(x)
                yield self._descend(outputs, targets)
        else:
            for x, y in self.batches():
                yield self.step(x, y)

    def step(self, x: Tensor, y: Tensor) -> Step:
        """One step of the optimiser on one batch."""
        with self._autocast():
            outputs, plan = self.method.forward(self._network, x)
        targets = self._one_hot.index_select(0, y)
        if plan is not None:
            targets = plan.mix(targets)
        return self._descend(outputs, targets)

    def _descend(self, outputs: Tensor, targets: Tensor) -> Step:
        # Cross-entropy is affine in the target, so this is the two-target loss in one call.
        loss = F.cross_entropy(outputs.float(), targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return Step(loss.detach(), outputs.detach(), targets)

    def _mixed_epoch(self, method: Erm | EpochMixing) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch with their targets, mixed all at once."""
        order = self._order()
        flat = order.view(-1)
        x = self._x_train.index_select(0, flat).unflatten(0, order.shape)
        targets = self._one_hot.index_select(0, self.data.y_train.index_select(0, flat))
        x, targets = method.mix_epoch(x, targets.unflatten(0, order.shape))
        return zip(x.unbind(), targets.unbind(), strict=True)

    def finish(self) -> Run:
        """The run, with the attacks that the trial asks for."""
        trial = self.trial
        attack_error: dict[str, float] = {}
        if trial.attack_epsilons and not self.diverged:
            from kmixup.experiments.attacks import fgsm_errors

            errors = fgsm_errors(
                self.model, self.data.x_test, self.data.y_test, trial.attack_epsilons, self.data.mean, self.data.std
            )
            attack_error = {f"{epsilon:g}": error for epsilon, error in errors.items()}
        test_error = self._curves["test_error"]
        calibration = self.calibration
        return Run(
            id=trial.id,
            trial=trial,
            source=self.data.source,
            final_error=None if self.diverged else test_error[-1],
            best_error=None if self.diverged else min(test_error),
            attack_error=attack_error,
            diverged=self.diverged,
            alpha_k=calibration.alpha_k if calibration else None,
            xi=calibration.xi if calibration else None,
            xi_k=calibration.xi_k if calibration and trial.adjusts_alpha else None,
            attainable=calibration.attainable if calibration else True,
            match=self._match(),
            curves=Curves.model_validate(self._curves),
            seconds=Seconds(total=perf_counter() - self._start, matching=self.method.seconds),
            environment=_environment(str(self.device), torch.get_num_threads(), self._place.world),
            note=self.data.note,
        )

    def seconds_per_epoch(self, budget: float) -> float:
        """Time of an epoch, from as many steps as fit in ``budget`` seconds (one at least) and an evaluation."""
        self.model.train()
        times: list[float] = []
        while sum(times) < budget and len(times) < 200:
            start = perf_counter()
            for _ in self._steps():
                times.append(perf_counter() - start)
                start = perf_counter()
                if sum(times) >= budget and len(times) > 1:
                    break
        part = min(_EVALUATION_BATCH, len(self._x_test))
        start = perf_counter()
        error_rate(self.model, self._x_test[:part], self.data.y_test[:part])
        evaluation = (perf_counter() - start) * len(self._x_test) / part
        # The first step warms caches up; it is counted only if there is no other.
        measured = times[1:] or times
        return self._steps_per_epoch * sum(measured) / len(measured) + evaluation

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on."""
        return {
            "trial": self.trial.id,
            "epochs_done": self.epochs_done,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generators": {purpose: generator.get_state() for purpose, generator in self._generators.items()},
            "global_generator": torch.get_rng_state(),
            "curves": {name: list(values) for name, values in self._curves.items()},
            "seconds": {"total": perf_counter() - self._start, "matching": self.method.seconds},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken, to the same numbers.

        Raises:
            ValueError: If the state belongs to another trial.
        """
        if state["trial"] != self.trial.id:
            raise ValueError(
                f"the checkpoint belongs to trial {state['trial']}, this is {self.trial.id}. "
                "Delete the checkpoint, or train with its settings."
            )
        self.epochs_done = state["epochs_done"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for purpose, generator in self._generators.items():
            if self._place.first or purpose != "augment":  # that stream is rank 0's own
                generator.set_state(state["generators"][purpose])
        torch.set_rng_state(state["global_generator"])
        self._curves = {name: list(values) for name, values in state["curves"].items()}
        self._start = perf_counter() - state["seconds"]["total"]
        self.method.seconds = state["seconds"]["matching"]

    def _order(self) -> Tensor:
        """A new order of the training points, a row a batch. An incomplete last batch is left out."""
        order = torch.randperm(len(self._x_train), generator=self._generators["batches"]).to(self.device)
        size = min(self.trial.batch_size, len(order))
        return order[: len(order) // size * size].view(-1, size)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of one epoch: a new order, augmented, normalised."""
        data = self.data
        for batch in map(self._place.share, self._order()):
            x = self._x_train.index_select(0, batch)
            if data.augment is not None:
                x = self._normalised(data.augment(x, self._generators["augment"]))
            yield x.contiguous(memory_format=self._memory_format), data.y_train.index_select(0, batch)

    def _autocast(self) -> AbstractContextManager[Any]:
        half = self.trial.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16) if half else nullcontext()

    def _normalised(self, x: Tensor) -> Tensor:
        return normalise(x, self.data.mean, self.data.std)

    def _match(self) -> Match | None:
        """Means over the first batches of one more epoch."""
        if self.calibration is None:
            return None
        stats = []
        for (x, y), _ in zip(self.batches(), range(_MATCH_BATCHES), strict=False):
            plan = self.method.plan(x)
            if plan is None:
                return None
            stats.append(plan.stats(x, y))
        fields = Match.model_fields
        return Match(**{name: sum(getattr(s, name) for s in stats) / len(stats) for name in fields})


def accuracy(steps: Sequence[Step]) -> Tensor:
    """Mean accuracy of some steps' batches, before each step: the lam-weighted accuracy where they were mixed.

    That is the target's weight of the predicted class.
    """
    predicted = torch.cat([step.outputs for step in steps]).argmax(1, keepdim=True)
    return torch.cat([step.targets for step in steps]).gather(1, predicted).mean()


@torch.no_grad()
def error_rate(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of wrong predictions, in eval mode; the model's mode is put back."""
    was_training = model.training
    model.eval()
    wrong = sum(
        (model(part).argmax(1) != labels).sum()
        for part, labels in zip(x.split(_EVALUATION_BATCH), y.split(_EVALUATION_BATCH), strict=True)
    )
    model.train(was_training)
    return float(wrong) / len(y)


def _subset(data: Data, trial: Trial) -> Data:
    if trial.train_size is None or trial.train_size == len(data.x_train):
        return data
    if trial.train_size > len(data.x_train):
        raise ValueError(f"train_size must be at most {len(data.x_train)}, got {trial.train_size}.")
    generator = Generator().manual_seed(seed_for(trial, "subset"))
    chosen = torch.randperm(len(data.x_train), generator=generator)[: trial.train_size]
    return replace(data, x_train=data.x_train[chosen], y_train=data.y_train[chosen])


def _on_device(data: Data, device: torch.device) -> Data:
    tensors = {name: getattr(data, name).to(device) for name in ("x_train", "y_train", "x_test", "y_test")}
    return replace(data, **tensors)


def calibrate_trial(trial: Trial, data_dir: Path | None = None) -> Calibration | None:
    """The alpha_k and xi that a run of this trial would have; None without mixing."""
    return _calibrate(trial, load_data(trial, data_dir))


def load_data(trial: Trial, data_dir: Path | None = None) -> Data:
    """The data of a trial, split, with its number of training points."""
    data = _named("dataset", trial.dataset, DATASETS)(data_dir, seed_for(trial, "data"), **trial.dataset_options)
    return _subset(data, trial)


def check_names(trial: Trial) -> None:
    """Fail now rather than after the data are loaded.

    Raises:
        ValueError: If there is no such data set, model or method.
    """
    for kind, registry in (("dataset", DATASETS), ("model", MODELS), ("method", METHODS)):
        _named(kind, getattr(trial, kind), registry)


def _named(kind: str, name: str, registry: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    if name not in registry:
        raise ValueError(unknown(kind, name, registry))
    return registry[name]


def _calibrate(trial: Trial, data: Data) -> Calibration | None:
    if trial.method == "erm":
        return None
    generator = Generator().manual_seed(seed_for(trial, "calibration"))
    x = normalise(data.x_train, data.mean, data.std)
    rule, k = (trial.alpha_rule, trial.k) if trial.adjusts_alpha else ("none", 1)
    return calibrate(x, k, trial.alpha, rule, max_alpha=trial.max_alpha, generator=generator)


def _environment(device: str, threads: int, processes: int) -> Environment:
    return Environment(
        commit=_commit(),
        versions=_versions(),
        device=device,
        processor=_processor(device),
        threads=threads,
        processes=processes,
    )


@lru_cache(maxsize=1)
def _commit() -> str:
    """The commit of the sources in use; empty outside a checkout."""
    here = Path(__file__).parent
    try:
        top = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", here.parent], cwd=here, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return top.stdout.strip() + ("+changes" if changed.stdout.strip() else "") if top.returncode == 0 else ""


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    packages = ("kmixup", "torch", "numpy", "scipy", "lapcpp", "scikit-learn")
    found = {"python": platform.python_version()}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


@lru_cache
def _processor(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
