"""Training: a run is a pure function of its trial, and of the data and code that the trial names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.nn.parallel import DistributedDataParallel

from kmixup.experiments.batches import Batches
from kmixup.experiments.checkpoints import load_checkpoint, save_checkpoint, save_model
from kmixup.experiments.distributed import here
from kmixup.experiments.evaluate import error_rate, evaluate
from kmixup.experiments.methods import build_method
from kmixup.experiments.models import build_model
from kmixup.experiments.points import Points, load_points
from kmixup.experiments.provenance import environment, origin_of
from kmixup.experiments.run import Curves, Match, Run, Seconds
from kmixup.experiments.trial import Trial
from kmixup.mixup import KMixup

_MATCH_BATCHES = 8
# Accuracies are counted for this many batches at once: small networks take little longer than the counting.
_COUNT_EVERY = 64


def run(
    trial: Trial,
    *,
    data_dir: Path | None = None,
    device: str = "cpu",
    threads: int = 1,
    checkpoints: Path | None = None,
    save_every: float = 30.0,
    models: Path | None = None,
    on_epoch: Callable[[Training], object] | None = None,
    points: Points | None = None,
) -> Run:
    """Train and test one trial.

    Args:
        trial: The settings.
        data_dir: Where data files are.
        device: Where to train.
        threads: CPU threads of this process; numbers may differ in the last digits with another count.
        checkpoints: Folder for a checkpoint of a long training, from which the same call resumes to the same numbers.
        save_every: Seconds between checkpoints.
        models: Folder for the trained model.
        on_epoch: Called after every epoch, with the training under way.
        points: What to train and test on instead of the trial's own points.

    Returns:
        The run. A loss or an output that is not finite ends training: the run is marked diverged and has no error.

    Raises:
        ValueError: If a name or an option is wrong, or the trial does not fit its data.
        OSError: If data files cannot be read.
    """
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        # Initial weights and dropout take no generator in PyTorch: they get a seeded global one, put back after.
        with torch.random.fork_rng():
            training = Training(trial, data_dir=data_dir, device=device, points=points)
            if checkpoints is not None:
                # The first process's file, if any, for all: the others may lie on machines that have none.
                state = load_checkpoint(checkpoints, trial, origin=training.origin.tag) if here().first else None
                state = here().agree(state)
                if state is not None:
                    training.load_state_dict(state)
            saved = perf_counter()
            while not training.done:
                training.epoch()
                if checkpoints is not None and here().first and perf_counter() - saved > save_every:
                    save_checkpoint(checkpoints, trial, training.state_dict())
                    saved = perf_counter()
                if on_epoch is not None:
                    on_epoch(training)
            if models is not None and here().first and not training.diverged:
                save_model(training.model, trial, training.origin, models)
            return training.finish()
    finally:
        torch.set_num_threads(threads_before)


def learning_rate(trial: Trial, epoch: float) -> float:
    """Learning rate at a time counted in epochs, 0 at the start; within an epoch it changes during the warm-up only.

    A milestone is a whole number of epochs, one at least.
    """
    if epoch < trial.warmup_epochs:
        return trial.lr * epoch / trial.warmup_epochs
    passed = sum(epoch >= max(1, round(share * trial.epochs)) for share in trial.milestones)
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
        origin: What the run is made from.
        points: The points, on the device.
        data: Training and test points among them.
        calibration: Of alpha; None without mixing.
        model: Takes normalised inputs.
        network: The model as it trains: wrapped, if several processes train it together.
        optimizer: SGD.
        method: What mixes.
        epochs_done: Epochs behind us.
        curves: Learning curves so far, by their name in `kmixup.experiments.run.Curves`.
        diverged: Whether the loss stopped being finite.
    """

    def __init__(
        self, trial: Trial, *, data_dir: Path | None = None, device: str = "cpu", points: Points | None = None
    ) -> None:
        self._start, self._cpu_start = perf_counter(), process_time()
        self.trial = trial
        self.device = torch.device(device)
        points = load_points(trial, data_dir) if points is None else points
        self.origin = origin_of(trial, points.data.source)
        self.calibration = points.calibrate(trial)  # on the host: not every device has float64
        self.points = points.to(self.device)
        self.data = data = self.points.data
        self._batches = Batches(data, trial)
        # `KMixup` tells ranks apart itself.
        self._generators = {**self._batches.generators, "mixing": Generator().manual_seed(trial.seed_for("mixing"))}
        torch.manual_seed(trial.seed_for("model"))
        self.model = build_model(trial.model, tuple(data.x_train.shape[1:]), data.num_classes, trial.model_options)
        self.model.to(self.device).to(memory_format=self._batches.memory_format)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=trial.lr,
            momentum=trial.momentum,
            weight_decay=trial.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )
        self.network = DistributedDataParallel(self.model) if here().world > 1 else self.model
        mixer = KMixup(
            trial.k,
            self.calibration.alpha_k if self.calibration else 0.0,
            metric=trial.metric,
            pairing=trial.pairing,
            lam_per=trial.lam_per,
            generator=self._generators["mixing"],
        )
        self.method = build_method(trial.method, self.network, mixer, trial.method_options)
        self._by_epoch = self._batches.fit_whole(self.method)
        # Attacks need the pixels, so the raw points stay too.
        self._judged = {"test_error": (data.x_test, data.y_test)}
        if len(self.points.y_validation):
            self._judged["validation_error"] = (self.points.x_validation, self.points.y_validation)
        self._normalised = {name: self._batches.normalised(x) for name, (x, _) in self._judged.items()}
        self.epochs_done = 0
        self.diverged = False
        self.curves: dict[str, list[float]] = {"train_loss": [], "train_accuracy": [], **{n: [] for n in self._judged}}

    @property
    def done(self) -> bool:
        """Whether there is nothing left to train."""
        return self.diverged or self.epochs_done >= self.trial.epochs

    def epoch(self) -> None:
        """One pass over the training data, then the test error, and the validation error if points are held out."""
        self.pass_once()
        self.epochs_done += 1
        for name, (_, y) in self._judged.items():
            error = error_rate(self.model, self._normalised[name], y)
            self.curves[name].append(error)
            self.diverged |= math.isnan(error)

    def pass_once(self) -> None:
        """One pass over the training data."""
        trial = self.trial
        self._set_learning_rate(self.epochs_done)
        if not self.model.training:  # to set it module by module takes as long as a step of a small network
            self.model.train()
        losses: list[Tensor] = []
        accuracies: list[Tensor] = []
        steps: list[Step] = []
        for step in self.steps():
            losses.append(step.loss)
            steps.append(step)
            if len(steps) == _COUNT_EVERY or len(losses) == self._batches.per_epoch:
                accuracies += [accuracy(steps)] * len(steps)
                steps = []
            if self.epochs_done < trial.warmup_epochs:
                self._set_learning_rate(self.epochs_done + len(losses) / self._batches.per_epoch)
        train_loss = here().mean(torch.stack(losses).mean()).item()
        self.diverged = not math.isfinite(train_loss)
        self.curves["train_loss"].append(train_loss)
        self.curves["train_accuracy"].append(here().mean(torch.stack(accuracies).mean()).item())

    def _set_learning_rate(self, epoch: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.trial, epoch)

    def steps(self) -> Iterator[Step]:
        """One epoch, step by step."""
        if self._by_epoch:
            for x, targets in self._batches.mixed(self.method):
                with self._autocast():
                    outputs = self.network(x)
                yield self._descend(outputs, targets)
        else:
            for x, y in self.batches():
                yield self.step(x, y)

    def step(self, x: Tensor, y: Tensor) -> Step:
        """One step of the optimiser on one batch."""
        with self._autocast():
            outputs, plan = self.method.forward(self.network, x)
        targets = self._batches.one_hot.index_select(0, y)
        if plan is not None:
            targets = plan.mix(targets)
        return self._descend(outputs, targets)

    def _descend(self, outputs: Tensor, targets: Tensor) -> Step:
        # Cross-entropy is affine in the target, so this is the two-target loss in one call.
        loss = F.cross_entropy(outputs.float(), targets, label_smoothing=self.method.smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return Step(loss.detach(), outputs.detach(), targets)

    def finish(self) -> Run:
        """The run, judged on the test points, and on the validation points if there are any."""
        trial, calibration = self.trial, self.calibration
        test = validation = None
        if not self.diverged:
            test, *held_out = [
                evaluate(
                    self.model,
                    x,
                    y,
                    mean=self.data.mean,
                    std=self.data.std,
                    epsilons=trial.attack_epsilons if name == "test_error" else (),
                    sigmas=trial.noise_sigmas if name == "test_error" else (),
                    generator=Generator().manual_seed(trial.seed_for("noise")),
                )
                for name, (x, y) in self._judged.items()
            ]
            validation = held_out[0].clean if held_out else None
        test_error = self.curves["test_error"]
        return Run(
            id=trial.id,
            trial=trial,
            source=self.origin.source,
            code=dict(self.origin.code),
            options=dict(self.origin.options),
            final_error=None if self.diverged else test_error[-1],
            best_error=None if self.diverged else min(test_error),
            test=test and test.clean,
            validation=validation,
            attack_error=test.attack_error if test else {},
            noise_error=test.noise_error if test else {},
            diverged=self.diverged,
            alpha_k=calibration.alpha_k if calibration else None,
            xi=calibration.xi if calibration else None,
            xi_k=calibration.xi_k if calibration and trial.adjusts_alpha else None,
            attainable=calibration.attainable if calibration else True,
            match=self._match(),
            curves=Curves.model_validate(self.curves),
            seconds=self._seconds(),
            environment=environment(str(self.device), torch.get_num_threads(), here().world),
            note=self.data.note,
        )

    def _seconds(self) -> Seconds:
        return Seconds(
            total=perf_counter() - self._start, matching=self.method.seconds, cpu=process_time() - self._cpu_start
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on."""
        return {
            "trial": self.trial.id,
            "origin": self.origin.tag,
            "epochs_done": self.epochs_done,
            "diverged": self.diverged,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generators": {purpose: generator.get_state() for purpose, generator in self._generators.items()},
            "global_generator": torch.get_rng_state(),
            "curves": {name: list(values) for name, values in self.curves.items()},
            "seconds": self._seconds().model_dump(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken, to the same numbers."""
        self.epochs_done, self.diverged = state["epochs_done"], state["diverged"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for purpose, generator in self._generators.items():
            if here().first or purpose != "augment":  # that stream is rank 0's own
                generator.set_state(state["generators"][purpose])
        torch.set_rng_state(state["global_generator"])
        self.curves = {name: list(values) for name, values in state["curves"].items()}
        seconds = Seconds.model_validate(state["seconds"])
        self._start, self._cpu_start = perf_counter() - seconds.total, process_time() - (seconds.cpu or 0.0)
        self.method.seconds = seconds.matching

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of one epoch, not mixed, with their classes: a new order, augmented, normalised."""
        return self._batches.plain()

    def _autocast(self) -> AbstractContextManager[Any]:
        half = self.trial.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16) if half else nullcontext()

    def _match(self) -> Match | None:
        """Means over the first batches of one more epoch."""
        if self.calibration is None:
            return None
        stats = []
        for (x, y), _ in zip(self.batches(), range(_MATCH_BATCHES), strict=False):
            plan = self.method.plans(x.unsqueeze(0))
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
