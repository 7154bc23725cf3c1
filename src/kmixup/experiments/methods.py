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

from kmixup.experiments.recipe import Trial
from kmixup.mixing import KMixup, MixPlan
from kmixup.transport import cost_matrix

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


def _k_mixup(trial: Trial, alpha_k: float, generator: Generator, model: nn.Module) -> Method:
    mixer = KMixup(
        trial.k,
        alpha_k,
        metric=trial.metric,
        pairing=trial.pairing,
        lam_per=trial.lam_per,
        generator=generator,
    )
    return InputMixing(mixer.plan)


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
}
