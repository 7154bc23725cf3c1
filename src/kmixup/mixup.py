"""k-mixup as one call: arguments, a plan, a mixed batch.

A plan is random draws (order, lam) met by a pure matching; applying it is pure and lives in `kmixup.plan`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from kmixup.assignment import Solver, check_solver
from kmixup.compiled import register
from kmixup.cost import METRICS, Metric, widest_float
from kmixup.lam import checked_alpha, draw_lam
from kmixup.matching import match_blocks, partners
from kmixup.plan import MixPlan, batch_length
from kmixup.samples import floating_inputs, label_key, points_of
from kmixup.streams import draw_order, process_stream
from kmixup.targets import soft_targets

Pairing = Literal["roll", "shuffle"]
LamPer = Literal["batch", "block", "sample"]


class KMixup(nn.Module):
    r"""k-mixup: mixup between sets of k samples, matched by the exact optimal assignment.

    .. math::
        \tilde x_i = \lambda x_i + (1 - \lambda)\, x_{\sigma(i)}, \qquad
        \sigma = \arg\min_{\sigma \in S_k} \sum_i \|x_i - x_{\sigma(i)}\|^2, \quad
        \lambda \sim \mathrm{Beta}(\alpha, \alpha)

    Example::

        mixer = KMixup(k=16, alpha=1.0, num_classes=10)
        for x, y in loader:
            x, y = mixer(x, y)
            loss = F.cross_entropy(model(x), y)

    In eval mode nothing is mixed. Under `torch.distributed` (or torchrun) and in DataLoader workers each process draws
    its own stream from the same seed; ``per_process=False`` makes them equal.

    Args:
        k: Points per k-batch, >= 1. ``k=1`` is mixup. A batch smaller than ``2 * k`` uses the largest k that fits,
            with one warning.
        alpha: Parameter of Beta(alpha, alpha), >= 0. 0 switches mixing off, ``inf`` makes lam 1/2. May be assigned to
            while training.
        metric: Cost of a pair: ``"sqeuclidean"`` (the paper's text), ``"euclidean"`` (its Figure 5), ``"cosine"``, or a
            function of two point sets ``[n, k, d]`` (samples flattened) that returns costs ``[n, k, k]``.
        features: Function from the inputs to what is matched, shape ``[B, ...]``; the inputs themselves are mixed.
        pairing: ``"roll"`` matches each block of k of a random order with the block before it: no self-pairs, each
            sample a partner exactly once. ``"shuffle"`` matches with a random permutation, as the released code does.
        lam_per: One lam per ``"batch"``, per ``"block"`` of k, or per ``"sample"``.
        num_classes: Number of classes, to turn integer labels into soft targets.
        p: Probability of mixing, drawn as often as lam.
        generator: Source of all randomness; default: torch's global generator. Keep it on the CPU.
        labels_getter: For a dict sample: function from the sample to its labels, as in torchvision v2, or to their key.
            Default: the one key among label, labels, target, targets, y.
        per_process: False to draw the same stream on every rank and in every worker.
        solver: Assignment solver, see `kmixup.assign`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range. Every message names the argument, the value and the remedy.

    Paper: Section 2, k-mixup.
    """

    def __init__(
        self,
        k: int,
        alpha: float,
        *,
        metric: Metric = "sqeuclidean",
        features: Callable[[Any], Any] | None = None,
        pairing: Pairing = "roll",
        lam_per: LamPer = "batch",
        num_classes: int | None = None,
        p: float = 1.0,
        generator: torch.Generator | None = None,
        labels_getter: Callable[[Mapping[str, Any]], Any] | None = None,
        per_process: bool = True,
        solver: Solver = "auto",
    ) -> None:
        super().__init__()
        self.k = _checked_count("k", k)
        self.alpha = alpha
        if not callable(metric) and metric not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(METRICS)} or a function of (x, y), got {metric!r}.")
        if features is not None and not callable(features):
            raise TypeError(
                f"features must be a function of the inputs, got {type(features).__name__}. "
                "To match on a tensor you already have: plan = mixer.plan(features); plan.mix(x)."
            )
        self.metric: Metric = metric
        # In a tuple, so that a network used for matching is not registered: its weights are not ours to save or train.
        self._features = (features,)
        self.pairing = _checked_choice("pairing", pairing, get_args(Pairing))
        self.lam_per = _checked_choice("lam_per", lam_per, get_args(LamPer))
        self.num_classes = None if num_classes is None else _checked_count("num_classes", num_classes)
        if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p <= 1:
            raise ValueError(f"p must be a probability in [0, 1], got {p!r}.")
        self.p = float(p)
        if generator is not None and not isinstance(generator, torch.Generator):
            raise TypeError(
                f"generator must be a torch.Generator, got {type(generator).__name__}. "
                "Use torch.Generator().manual_seed(seed)."
            )
        self.generator = generator
        self.labels_getter = labels_getter
        self.per_process = per_process
        check_solver(solver)
        self.solver: Solver = solver
        self._warned = False
        self._handle = register(self)

    @property
    def alpha(self) -> float:
        """Parameter of Beta(alpha, alpha)."""
        return self._alpha

    @alpha.setter
    def alpha(self, alpha: float) -> None:
        self._alpha = checked_alpha(alpha)
        self._off = self._alpha == 0  # a compiled graph is guarded by this alone, not by every step of a schedule

    @property
    def features(self) -> Callable[[Any], Any] | None:
        """From the inputs to what is matched; None for the inputs themselves."""
        return self._features[0]

    def forward(self, *inputs: Any) -> Any:
        """Mix a batch.

        Args:
            *inputs: ``x, y``, or one ``(x, y)`` pair, or one dict sample that holds both. ``x`` is a floating-point
                tensor, array or pytree, batch first; ``y`` class indices ``[B]``, soft targets ``[B, C]``, or
                regression targets ``[B, ...]``.

        Returns:
            ``x_mixed, y_soft`` in the structure that came; ``x`` keeps its dtype, soft targets are float32 at least.
            In eval mode and for alpha = 0 ``x`` itself and the one-hot targets.

        Raises:
            TypeError: If ``x`` is not floating point, or labels are missing.
            ValueError: If labels and inputs do not fit, rows are not finite, or ``num_classes`` is needed.
        """
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            sample = inputs[0]
            labels = label_key(sample, self.labels_getter)
            x_mixed, y_soft = self(floating_inputs(sample, labels), sample[labels])
            return {**sample, **x_mixed, labels: y_soft}
        if len(inputs) == 1 and isinstance(inputs[0], (tuple, list)):
            inputs = tuple(inputs[0])
        if len(inputs) != 2:
            raise TypeError(
                f"KMixup takes inputs and labels, got {len(inputs)} argument(s). "
                "Use mixer(x, y); without labels: plan = mixer.plan(x); plan.mix(x)."
            )
        x, y = inputs
        y_soft = soft_targets(y, self.num_classes)
        if self._off or not self.training:
            return x, y_soft
        plan = self.plan(x)
        if y_soft.shape[0] != len(plan):
            raise ValueError(f"x and y must have the same length, got {len(plan)} and {len(y_soft)}.")
        return plan.mix(x), plan.mix(y_soft)

    def plan(self, x: Any, x2: Any = None) -> MixPlan:
        """Draw partners and lam for a batch.

        Args:
            x: Inputs (or features to match on), floating point, batch first, shape ``[B, ...]``. A pytree needs
                ``features``, unless it has one floating-point leaf.
            x2: An independent second batch of the same shape, as in the paper's Figure 5: partners come from it.

        Returns:
            The plan. The identity in eval mode, for alpha = 0, and for a batch of one.

        Raises:
            TypeError: If the points are not floating point.
            ValueError: If rows hold NaN or inf, or the two batches differ in shape.

        Paper: Figure 5, k-mixup implementation.
        """
        if self._off or not self.training:
            return self._identity(*batch_length(x), from_second=x2 is not None)
        points = points_of(x, self.features, "x")
        other = None if x2 is None else points_of(x2, self.features, "x2")
        if other is not None and other.shape != points.shape:
            raise ValueError(
                f"x and x2 must have the same shape, got {list(points.shape)} and {list(other.shape)}. "
                "Drop the last incomplete batch (drop_last=True)."
            )
        if torch.compiler.is_compiling():
            tensors = torch.ops.kmixup.plan(points, other, self._handle, self.lam_per != "batch")
            return MixPlan(*tensors, from_second=other is not None)
        return self.drawn(points, other)

    def meet(self, points: Tensor, order: Tensor, lam: Tensor, other: Tensor | None = None) -> MixPlan:
        """The plan that given draws lead to: the pure half of `plan`.

        Args:
            points: What is matched, floating point, shape ``[B, ...]``.
            order: The random order of the batch (for ``pairing="shuffle"`` the permutation), int64, shape ``[B]``.
            lam: Weight of each sample itself, shape ``[]`` or ``[B]``.
            other: A second batch, of the same shape: partners come from it, and ``order`` plays no part.

        Returns:
            The plan.

        Raises:
            ValueError: If rows hold NaN or inf.
        """
        k = self._fitting_k(len(points), other is not None)
        x = points.reshape(len(points), -1)
        if other is None:
            rolled = self.pairing == "roll"
            unmatched = torch.empty_like(order).scatter_(0, order, order.roll(k)) if rolled else order
            return MixPlan(self.pair(x, order), lam, unmatched)
        with torch.no_grad():  # a metric of the caller's own may hold what has gradients
            partner = match_blocks(x, other.reshape(x.shape), k, metric=self.metric, solver=self.solver)
        return MixPlan(partner, lam, torch.arange(len(x), device=x.device), from_second=True)

    def pair(self, points: Tensor, order: Tensor) -> Tensor:
        """Partners within batches ``[..., B, d]`` in given orders ``[..., B]``, any number of batches at once."""
        k = self._fitting_k(points.shape[-2], second=False)
        with torch.no_grad():
            if self.pairing == "roll":
                return partners(points, order, k, metric=self.metric, solver=self.solver)
            permuted = points.gather(-2, order.unsqueeze(-1).expand_as(points))
            return order.gather(-1, match_blocks(points, permuted, k, metric=self.metric, solver=self.solver))

    def draw_lam(self, batches: int, batch: int, k: int, generator: torch.Generator | None) -> Tensor:
        """Weights of the samples of some batches, in the order of their blocks; 1 where ``p`` says not to mix.

        Args:
            batches: Number of batches, n.
            batch: Samples in each, B.
            k: Points per block.
            generator: Source of randomness; default: torch's global generator.

        Returns:
            lam, float64 on the CPU, shape ``[n, 1]`` for one lam per batch, else ``[n, B]``.
        """
        draws = {"batch": 1, "block": -(-batch // k), "sample": batch}[self.lam_per]
        lam = draw_lam(self.alpha, (batches, draws), generator)
        if self.p < 1:
            on = generator.device if generator else None
            lam = torch.where(torch.rand(lam.shape, generator=generator, device=on).cpu() < self.p, lam, 1.0)
        return lam.repeat_interleave(k, 1)[:, :batch] if self.lam_per == "block" else lam

    def stream(self) -> torch.Generator | None:
        """The generator to draw from in this process, see `kmixup.streams.process_stream`."""
        return process_stream(self.generator) if self.per_process else self.generator

    def extra_repr(self) -> str:
        """What `print(mixer)` shows."""
        parts = [f"k={self.k}", f"alpha={self.alpha:g}"]
        parts += [f"{name}={getattr(self, name)!r}" for name in ("metric", "pairing", "lam_per", "num_classes", "p")]
        return ", ".join(parts)

    def get_extra_state(self) -> Tensor:
        """The generator's state for `state_dict`, so that a resumed run continues the same stream."""
        return torch.empty(0, dtype=torch.uint8) if self.generator is None else self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Continue a saved stream; torch's global generator is never saved or set."""
        if (len(state) == 0) != (self.generator is None):
            raise ValueError(
                "the saved mixer and this one must both have a generator, or both none. "
                "Build this one with generator=torch.Generator() to continue a saved stream."
            )
        if self.generator is not None:
            self.generator.set_state(state.cpu())

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        if self.generator is not None:  # spawned workers need it by value: not every torch pickles a generator
            state["generator"] = (str(self.generator.device), self.generator.get_state().numpy())
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if isinstance(self.generator, tuple):
            device, generator_state = self.generator
            self.generator = torch.Generator(device)
            self.generator.set_state(torch.from_numpy(generator_state))
        self._handle = register(self)

    def drawn(self, points: Tensor, other: Tensor | None) -> MixPlan:
        """The plan for points that are checked: what a compiled graph calls."""
        batch, device = len(points), points.device
        if self._off or not self.training or (batch == 1 and other is None):
            return self._identity(batch, device, from_second=other is not None)
        generator = self.stream()
        order = torch.arange(batch, device=device) if other is not None else draw_order(batch, generator, device)
        lam = self.draw_lam(1, batch, self._fitting_k(batch, other is not None), generator)[0]
        lam = (lam[0] if self.lam_per == "batch" else lam).to(widest_float(device)).to(device)
        if self.lam_per == "block" and self.pairing == "roll":
            lam = torch.empty_like(lam).scatter_(0, order, lam)
        return self.meet(points, order, lam, other)

    def _identity(self, batch: int, device: torch.device, from_second: bool) -> MixPlan:
        return MixPlan.identity(batch, per_sample=self.lam_per != "batch", device=device, from_second=from_second)

    def _fitting_k(self, batch: int, second: bool) -> int:
        # Rolled blocks must not meet themselves, so two have to fit. A second batch or a shuffle has no such need.
        largest = batch if second or self.pairing == "shuffle" else max(1, batch // 2)
        if self.k > largest and not self._warned:
            self._warned = True
            worker = torch.utils.data.get_worker_info()
            if worker is None or worker.id == 0:
                warnings.warn(
                    f"a batch of {batch} is too small for k={self.k}: using k={largest} here. "
                    "Use larger batches or drop_last=True.",
                    stacklevel=_callers_level(),
                )
        return min(self.k, largest)


# --- checks -----------------------------------------------------------------------------------------------------------


def _checked_count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < 1:
        raise ValueError(f"{name} must be >= 1, got {value}." + (" k=1 is mixup." if name == "k" else ""))
    return int(value)


def _checked_choice(name: str, value: Any, choices: tuple[str, ...]) -> Any:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")
    return value


def _callers_level() -> int:
    """The stacklevel at which a warning of the calling function names the line outside kmixup and torch."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("kmixup", "torch"):
        frame, level = frame.f_back, level + 1
    return level
