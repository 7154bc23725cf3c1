"""Training methods by name: what a step does with a batch before the loss. To add one: a builder, a line in `METHODS`.

A builder takes the trial, alpha_k, a generator and the model, and returns the method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from typing import Protocol

import torch
from torch import Generator, Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kmixup.cost import cost_matrix
from kmixup.experiments.trial import Trial
from kmixup.manifold import KManifoldMixup
from kmixup.matching import partners
from kmixup.mixup import KMixup
from kmixup.plan import MixPlan

__all__ = ["METHODS", "Method"]


class Method(Protocol):
    """One training step's forward pass.

    Attributes:
        seconds: Time spent so far on pairing and matching.
    """

    seconds: float

    def forward(self, model: nn.Module, x: Tensor) -> tuple[Tensor, MixPlan | None]:
        """Outputs for the batch as this method trains on it, and the plan that the loss needs; None for none."""
        ...

    def plan(self, x: Tensor) -> MixPlan | None:
        """A plan for this batch, without training on it; None if nothing is mixed at the input."""
        ...


class Erm:
    """Empirical risk minimisation: no mixing.

    Paper: Section 5, ERM.
    """

    seconds = 0.0

    def forward(self, model: nn.Module, x: Tensor) -> tuple[Tensor, MixPlan | None]:
        """The batch as it is."""
        return model(x), None

    def plan(self, x: Tensor) -> MixPlan | None:
        """Nothing is mixed."""
        return None

    def mix_epoch(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The batches as they are."""
        return x, targets


class InputMixing:
    """Mixes the input as a plan says, whoever makes the plan."""

    def __init__(self, draw: Callable[[Tensor], MixPlan]) -> None:
        self.seconds = 0.0
        self._draw = draw

    def forward(self, model: nn.Module, x: Tensor) -> tuple[Tensor, MixPlan | None]:
        """The mixed batch, and its plan."""
        plan = self.plan(x)
        return model(plan.mix(x)), plan

    def plan(self, x: Tensor) -> MixPlan:
        """A new plan for this batch."""
        start = perf_counter()
        plan = self._draw(x)
        self.seconds += perf_counter() - start
        return plan


class EpochMixing(InputMixing):
    """k-mixup of all batches of an epoch at once: equal in law to a plan per batch, without its cost per step.

    Args:
        mixer: What a single batch would be mixed with.
    """

    def __init__(self, mixer: KMixup) -> None:
        super().__init__(mixer.plan)
        self._mixer = mixer

    def mix_epoch(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mix each batch within itself.

        Args:
            x: The batches of an epoch, each in random order, shape ``[batches, B, ...]``; B >= 2 k.
            targets: Their targets, shape ``[batches, B, classes]``.

        Returns:
            Both, mixed.
        """
        start = perf_counter()
        batches, size = x.shape[:2]
        mixer = self._mixer
        lam = mixer.draw_lam(batches, size, mixer.k, mixer.stream()).expand(batches, size)
        # The batches are in random order already: blocks meet in the order they are in.
        partner = partners(x.flatten(2), None, mixer.k, metric=mixer.metric, solver=mixer.solver)
        plan = MixPlan.of_batches(partner, lam.to(x.device), torch.arange(size, device=x.device).roll(mixer.k))
        self.seconds += perf_counter() - start
        return tuple(plan.mix(each.flatten(0, 1)).view_as(each) for each in (x, targets))


class ReleaseMixing(InputMixing):
    """k-mixup with what the released code does besides, for k > 1: a forward pass of the clean batch, in train mode.

    Its outputs are not used, but it updates the statistics of batch norm, so k > 1 and k = 1 differ in more than k. An
    ablation, under its own name.
    """

    def forward(self, model: nn.Module, x: Tensor) -> tuple[Tensor, MixPlan | None]:
        """The clean batch for nothing, then the mixed batch, and its plan."""
        with torch.no_grad():
            model(x)
        return super().forward(model, x)


class ManifoldMixing:
    """Mixes the input or the output of one of some layers, drawn in every step.

    Paper: Table 8.
    """

    def __init__(self, manifold: KManifoldMixup) -> None:
        self.seconds = 0.0  # the matching happens inside the forward pass, and is not timed
        self._manifold = manifold

    def forward(self, model: nn.Module, x: Tensor) -> tuple[Tensor, MixPlan | None]:
        """Outputs of the model, one of its places mixed, and the plan."""
        return self._manifold(x)

    def plan(self, x: Tensor) -> MixPlan | None:
        """What is mixed is drawn within the pass."""
        return None


def _mixer(trial: Trial, alpha_k: float, generator: Generator) -> KMixup:
    return KMixup(
        trial.k,
        alpha_k,
        metric=trial.metric,
        pairing=trial.pairing,
        lam_per=trial.lam_per,
        generator=generator,
    )


def _k_mixup(trial: Trial, alpha_k: float, generator: Generator, model: nn.Module) -> Method:
    mixer = _mixer(trial, alpha_k, generator)
    return EpochMixing(mixer) if trial.pairing == "roll" else InputMixing(mixer.plan)


def _k_mixup_release(trial: Trial, alpha_k: float, generator: Generator, model: nn.Module) -> Method:
    mixing = ReleaseMixing if trial.k > 1 else InputMixing
    return mixing(_mixer(trial, alpha_k, generator).plan)


def _k_manifold_mixup(trial: Trial, alpha_k: float, generator: Generator, model: nn.Module) -> Method:
    options = {"layers": [], **trial.method_options}
    if isinstance(model, DistributedDataParallel):
        options["layers"] = [f"module.{layer}" for layer in options["layers"]]
    return ManifoldMixing(KManifoldMixup(model, mixer=_mixer(trial, alpha_k, generator), **options))


def _nearest_neighbour(trial: Trial, alpha_k: float, generator: Generator, model: nn.Module) -> Method:
    """Each sample's partner is one of its k nearest in the batch, drawn evenly: many samples may share a partner.

    Paper: Footnote 1, the nearest-neighbour strategy.
    """
    lam_only = KMixup(1, alpha_k, lam_per=trial.lam_per, generator=generator)

    def draw(x: Tensor) -> MixPlan:
        points = x.flatten(1)
        cost = cost_matrix(points, points, trial.metric)
        cost.fill_diagonal_(torch.inf)
        nearest = cost.topk(min(trial.k, len(x) - 1), largest=False).indices
        chosen = torch.randint(nearest.shape[1], (len(x), 1), generator=generator).to(x.device)
        return replace(lam_only.plan(x), partner=nearest.gather(1, chosen).squeeze(1))

    return InputMixing(draw)


METHODS: dict[str, Callable[[Trial, float, Generator, nn.Module], Method]] = {
    "erm": lambda trial, alpha_k, generator, model: Erm(),
    "mixup": _k_mixup,
    "k-mixup": _k_mixup,
    "nearest-neighbour": _nearest_neighbour,
    "k-mixup-release": _k_mixup_release,
    "k-manifold-mixup": _k_manifold_mixup,
}
