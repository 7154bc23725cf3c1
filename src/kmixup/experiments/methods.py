"""Training methods by name: what a step does with a batch before the loss.

To add one: write a builder, give it a line in `METHODS`; or name your own, ``module:function``. A builder is
``builder(model, mixer, **options)``; the mixer is a `kmixup.KMixup` that holds k, alpha_k, metric, pairing, lam_per and
the trial's stream of randomness. It returns a `Method`, or simply a function from a batch to its `kmixup.MixPlan`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kmixup.cost import cost_matrix, widest_float
from kmixup.cutmix import cut
from kmixup.experiments.named import is_own, own, read_options
from kmixup.experiments.trial import unknown
from kmixup.manifold import KManifoldMixup
from kmixup.mixup import KMixup
from kmixup.plan import MixPlan

__all__ = ["METHODS", "Method", "build_method", "each", "read_method_options", "rolled"]


@runtime_checkable
class Method(Protocol):
    """What a step does with a batch.

    Attributes:
        seconds: Time spent so far on pairing and matching.
        whole_epochs: Whether batches may be planned long before the model sees them: `plans` says all, and `forward` is
            no more than the model on the mixed batch.
        smoothing: Share of every target that the loss spreads evenly over all classes, in [0, 1).
    """

    smoothing: float
    seconds: float
    whole_epochs: bool

    def plans(self, x: Tensor) -> MixPlan | None:
        """One plan for some batches, each mixed within itself.

        Args:
            x: The batches, each in random order, shape ``[n, B, ...]``.

        Returns:
            A plan for the n * B samples laid end to end; None if nothing is mixed at the input.
        """
        ...

    def forward(self, model: nn.Module, x: Tensor) -> tuple[Tensor, MixPlan | None]:
        """Outputs for the batch as this method trains on it, and the plan that the loss needs; None for none."""
        ...


class Erm:
    """Empirical risk minimisation: no mixing.

    Args:
        smoothing: See `Method`.

    Paper: Section 5, ERM.
    """

    seconds = 0.0
    whole_epochs = True

    def __init__(self, smoothing: float = 0.0) -> None:
        self.smoothing = smoothing

    def plans(self, x: Tensor) -> MixPlan | None:
        """Nothing is mixed."""
        return None

    def forward(self, model: nn.Module, x: Tensor) -> tuple[Tensor, MixPlan | None]:
        """The batch as it is."""
        return model(x), None


class InputMixing:
    """Mixes the input as plans say, whoever makes them.

    Args:
        draw: Makes one plan for batches ``[n, B, ...]``, see `Method.plans`.
        clean_pass: What the released code does besides, for k > 1: a forward pass of the clean batch, in train mode.
            Its outputs are not used, but it updates the statistics of batch norm, so k > 1 and k = 1 differ in more
            than k.
        whole_epochs: Whether ``draw`` takes many batches at once.
    """

    smoothing = 0.0

    def __init__(
        self, draw: Callable[[Tensor], MixPlan], *, clean_pass: bool = False, whole_epochs: bool = True
    ) -> None:
        self.seconds = 0.0
        self.whole_epochs = whole_epochs and not clean_pass
        self._draw = draw
        self._clean_pass = clean_pass

    def plans(self, x: Tensor) -> MixPlan:
        """A new plan."""
        start = perf_counter()
        plan = self._draw(x)
        self.seconds += perf_counter() - start
        return plan

    def forward(self, model: nn.Module, x: Tensor) -> tuple[Tensor, MixPlan | None]:
        """The mixed batch, and its plan."""
        if self._clean_pass:
            with torch.no_grad():
                model(x)
        plan = self.plans(x.unsqueeze(0))
        return model(plan.mix(x)), plan


class ManifoldMixing:
    """Mixes the input or the output of one of some layers, drawn in every step.

    Paper: Table 8.
    """

    smoothing = 0.0
    whole_epochs = False

    def __init__(self, manifold: KManifoldMixup) -> None:
        self.seconds = 0.0  # the matching happens inside the forward pass, and is not timed
        self._manifold = manifold

    def plans(self, x: Tensor) -> MixPlan | None:
        """What is mixed is drawn within the pass."""
        return None

    def forward(self, model: nn.Module, x: Tensor) -> tuple[Tensor, MixPlan | None]:
        """Outputs of the model, one of its places mixed, and the plan."""
        return self._manifold(x)


def each(plan: Callable[[Tensor], MixPlan]) -> Callable[[Tensor], MixPlan]:
    """Plans for many batches from what makes a plan for one."""

    def plans(x: Tensor) -> MixPlan:
        made = [plan(batch) for batch in x]
        if len(made) == 1:
            return made[0]
        partner, unmatched = (torch.stack([getattr(one, name) for one in made]) for name in ("partner", "unmatched"))
        lam = torch.stack([one.lam.expand(x.shape[1]) for one in made])
        return MixPlan.of_batches(partner, lam, unmatched)

    return plans


def rolled(mixer: KMixup) -> Callable[[Tensor], MixPlan]:
    """k-mixup of batches that are in random order already: blocks meet in the order they are in, all at once.

    Given the order of a batch and its lam, the plan is `kmixup.KMixup.meet`'s: both match by `kmixup.KMixup.pair`.
    """
    one_by_one = each(mixer.plan)

    def plans(x: Tensor) -> MixPlan:
        batches, size = x.shape[:2]
        if size < 2 * mixer.k:
            return one_by_one(x)  # the mixer takes the largest k that fits, and says so
        lam = mixer.draw_lam(batches, size, mixer.k, mixer.stream()).expand(batches, size)
        order = torch.arange(size, device=x.device)
        partner, unmatched = mixer.pair(x.flatten(2), order.expand(batches, size)), order.roll(mixer.k)
        return MixPlan.of_batches(partner, lam.to(widest_float(x.device)).to(x.device), unmatched)

    return plans


def erm(model: nn.Module, mixer: KMixup) -> Method:
    """No mixing."""
    return Erm()


def label_smoothing(model: nn.Module, mixer: KMixup, *, smoothing: float = 0.1) -> Method:
    """No mixing; the loss sees targets of which a share is spread evenly over all classes.

    Args:
        model: Not used.
        mixer: Not used.
        smoothing: The share, in [0, 1).

    Raises:
        ValueError: If the share is out of range.
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing must be in [0, 1), got {smoothing}. 0 is method 'erm'.")
    return Erm(smoothing)


def k_mixup(model: nn.Module, mixer: KMixup) -> Method:
    """k-mixup of inputs; mixup for k = 1."""
    return InputMixing(rolled(mixer) if mixer.pairing == "roll" else each(mixer.plan))


def k_mixup_release(model: nn.Module, mixer: KMixup) -> Method:
    """k-mixup with the released code's extra forward pass of the clean batch."""
    return InputMixing(each(mixer.plan), clean_pass=True)


def k_manifold_mixup(
    model: nn.Module, mixer: KMixup, *, layers: Sequence[str] = (), mix_input: bool = True
) -> ManifoldMixing:
    """k-mixup of the input or of the output of one of ``layers``, drawn in every step."""
    if isinstance(model, DistributedDataParallel):
        layers = [f"module.{layer}" for layer in layers]
    return ManifoldMixing(KManifoldMixup(model, layers, mixer, mix_input=mix_input))


def nearest_neighbour(model: nn.Module, mixer: KMixup) -> Method:
    """Each sample's partner is one of its k nearest in the batch, drawn evenly: many samples may share a partner.

    Paper: Footnote 1, the nearest-neighbour strategy.
    """
    lam_only = KMixup(1, mixer.alpha, lam_per=mixer.lam_per, generator=mixer.generator)

    def plan(x: Tensor) -> MixPlan:
        points = x.flatten(1)
        cost = cost_matrix(points, points, mixer.metric)
        cost.fill_diagonal_(torch.inf)
        nearest = cost.topk(min(mixer.k, len(x) - 1), largest=False).indices
        chosen = torch.randint(nearest.shape[1], (len(x), 1), generator=mixer.generator).to(x.device)
        return replace(lam_only.plan(x), partner=nearest.gather(1, chosen).squeeze(1))

    return InputMixing(each(plan))


def k_cutmix(model: nn.Module, mixer: KMixup) -> Method:
    """CutMix with the partners of k-mixup; CutMix for k = 1. A box for each lam."""

    def plan(x: Tensor) -> MixPlan:
        if x.ndim < 4:
            raise ValueError(f"k-cutmix pastes boxes into images [B, ..., H, W], got {list(x.shape)}.")
        return cut(mixer.plan(x), (x.shape[-2], x.shape[-1]), generator=mixer.generator)

    # One box for a batch: not for several that are laid end to end.
    return InputMixing(each(plan), whole_epochs=False)


METHODS: dict[str, Callable[..., Method | Callable[[Tensor], MixPlan]]] = {
    "erm": erm,
    "label-smoothing": label_smoothing,
    "mixup": k_mixup,
    "k-mixup": k_mixup,
    "k-cutmix": k_cutmix,
    "nearest-neighbour": nearest_neighbour,
    "k-mixup-release": k_mixup_release,
    "k-manifold-mixup": k_manifold_mixup,
}


def read_method_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a method, defaults included, as its builder's signature reads them.

    Raises:
        ValueError: If there is no such method, or an option is unknown, missing or not of its type.
    """
    return read_options("method", name, _builder(name), options, given=("model", "mixer"))


def build_method(name: str, model: nn.Module, mixer: KMixup, options: Mapping[str, Any]) -> Method:
    """A method.

    Args:
        name: In `METHODS`, or ``module:function``.
        model: The network that it trains.
        mixer: With the trial's k, alpha_k, metric, pairing, lam_per and stream of randomness.
        options: As typed.

    Raises:
        TypeError: If a builder of the user's own returns neither a `Method` nor a function.
        ValueError: If the name or an option is wrong.
    """
    made: Any = _builder(name)(model, mixer, **read_method_options(name, options))
    if isinstance(made, Method):
        return made
    if callable(made):
        return InputMixing(each(cast("Callable[[Tensor], MixPlan]", made)))
    raise TypeError(f"{name} must return a Method or a function from a batch to its MixPlan, got {made!r}.")


def _builder(name: str) -> Callable[..., Any]:
    if is_own(name):
        return own(name)[0]
    if name not in METHODS:
        raise ValueError(unknown("method", name, METHODS) + " One of your own is module:function.")
    return METHODS[name]
