"""k-mixup: draw a plan (who is mixed with whom, and how much), then apply it.

The draw is random and lives in `KMixup.plan`; the deed is pure and lives in `MixPlan`.
"""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import lru_cache
from itertools import count
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from kmixup.plan import MixPlan, tensor_of
from kmixup.streams import process_stream
from kmixup.transport import ENUMERATE_UP_TO, METRICS, SOLVERS, Metric, Solver, assign, chained_cost, cost_matrix

Pairing = Literal["roll", "shuffle"]
LamPer = Literal["batch", "block", "sample"]

_PAIRINGS = ("roll", "shuffle")
_LAM_PER = ("batch", "block", "sample")
_LABEL_KEYS = ("label", "labels", "target", "targets", "y")


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
        alpha: Parameter of Beta(alpha, alpha), >= 0. 0 switches mixing off, ``inf`` makes lam 1/2.
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
        self.alpha = _checked_alpha(alpha)
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
        self.pairing = _checked_choice("pairing", pairing, _PAIRINGS)
        self.lam_per = _checked_choice("lam_per", lam_per, _LAM_PER)
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
        self.solver = _checked_choice("solver", solver, SOLVERS)
        self._warned = False
        self._handle = _register(self)

    def forward(self, *inputs: Any) -> Any:
        """Mix a batch.

        Args:
            *inputs: ``x, y``, or one ``(x, y)`` pair, or one dict sample that holds both. ``x`` is a floating-point
                tensor, array or pytree, batch first; ``y`` class indices ``[B]``, soft targets ``[B, C]``, or
                regression targets ``[B, ...]``.

        Returns:
            ``x_mixed, y_soft`` in the structure that came; ``x`` keeps its dtype, soft targets are float32 at least.
            In eval mode ``x`` itself and the one-hot targets.

        Raises:
            TypeError: If ``x`` is not floating point, or labels are missing.
            ValueError: If labels and inputs do not fit, rows are not finite, or ``num_classes`` is needed.
        """
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            return self._mix_sample(inputs[0])
        if len(inputs) == 1 and isinstance(inputs[0], (tuple, list)):
            inputs = tuple(inputs[0])
        if len(inputs) != 2:
            raise TypeError(
                f"KMixup takes inputs and labels, got {len(inputs)} argument(s). "
                "Use mixer(x, y); without labels: plan = mixer.plan(x); plan.mix(x)."
            )
        x, y = inputs
        y_soft = self._soft_targets(y)
        if not self.training:
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
        points = self._points(x, "x")
        other = None if x2 is None else self._points(x2, "x2")
        if other is not None and other.shape != points.shape:
            raise ValueError(
                f"x and x2 must have the same shape, got {list(points.shape)} and {list(other.shape)}. "
                "Drop the last incomplete batch (drop_last=True)."
            )
        if torch.compiler.is_compiling():
            partner, lam, unmatched = torch.ops.kmixup.plan(points, other, self._handle)
        else:
            partner, lam, unmatched = self._draw(points, other)
        return MixPlan(partner, lam, unmatched, from_second=other is not None)

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
        self._handle = _register(self)

    # --- labels -------------------------------------------------------------------------------------------------------

    def _soft_targets(self, y: Any) -> Any:
        if isinstance(y, np.ndarray):
            return self._soft_targets(tensor_of(y)).numpy()
        if not isinstance(y, Tensor):
            raise TypeError(f"y must be a tensor or a numpy array, got {type(y).__name__}. Use torch.as_tensor(y).")
        if y.is_floating_point():
            return y.float() if y.dtype.itemsize < 4 else y
        if y.dtype == torch.bool:
            raise TypeError("y must not be bool: use y.long() for two classes, y.float() for multi-label targets.")
        if self.num_classes is None:
            raise ValueError(
                f"num_classes is required to turn {y.dtype} labels into soft targets. Use KMixup(..., num_classes=C), "
                "or plan.loss(loss_fn, outputs, y) with class indices, or y.float() for regression targets."
            )
        if y.ndim != 1:
            raise ValueError(
                f"integer labels must have shape [B], got {list(y.shape)}. Use plan.loss for masks, y.float() for "
                "multi-label targets."
            )
        soft = torch.zeros(y.shape[0], self.num_classes, device=y.device)
        try:
            return soft.scatter_(1, y.long().unsqueeze(1), 1.0)
        except RuntimeError:
            _refuse_labels(y, self.num_classes)
            raise

    def _mix_sample(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """Mix a dict batch: its labels, and every floating-point leaf beside them. Ids and paths pass through."""
        if self.labels_getter is None:
            keys = [key for key in sample if key in _LABEL_KEYS]
        else:
            found = self.labels_getter(sample)
            keys = [found] if isinstance(found, str) else [key for key, value in sample.items() if value is found]
        if len(keys) != 1 or keys[0] not in sample:
            raise ValueError(
                f"the labels must be one of the keys {list(sample)}, found {keys}. "
                'Use KMixup(labels_getter=lambda sample: sample["..."]).'
            )
        rest = {key: value for key, value in sample.items() if key != keys[0]}
        floating = {key: value for key, value in rest.items() if _is_floating(value)}
        images = [k for k, v in rest.items() if isinstance(v, Tensor) and v.ndim > 2 and not v.is_floating_point()]
        if images or not floating:
            raise TypeError(
                f"no floating-point inputs to mix under {images or list(rest)}. Convert images to float first."
            )
        x_mixed, y_soft = self(floating, sample[keys[0]])
        return {**sample, **x_mixed, keys[0]: y_soft}

    # --- points -------------------------------------------------------------------------------------------------------

    def _points(self, x: Any, name: str) -> Tensor:
        """The tensor that is matched, detached: gradients never flow through the matching."""
        (features,) = self._features
        points, source = x, name
        if features is not None:
            source = f"features({name})"
            with torch.no_grad():
                points = features(x)
        leaves = [points] if isinstance(points, Tensor) else tree_leaves(points)
        leaves = [leaf for leaf in leaves if _is_floating(leaf)]
        if len(leaves) != 1:
            found = ", ".join(_describe(leaf) for leaf in tree_leaves(points)[:4])
            if len(leaves) > 1:
                raise ValueError(
                    f"{source} must hold one floating-point tensor to match on, got {len(leaves)} ({found}). "
                    "Choose with KMixup(features=lambda x: ...)."
                )
            raise TypeError(
                f"{source} must be floating point, got {found}. Convert it with .float(), images to [0, 1]."
            )
        points = tensor_of(leaves[0]).detach()
        if points.ndim == 0 or points.shape[0] == 0:
            raise ValueError(f"{source} must be a batch of at least one sample, got shape {list(points.shape)}.")
        return points

    # --- the draw -----------------------------------------------------------------------------------------------------

    def _draw(self, points: Tensor, other: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        batch, device = points.shape[0], points.device
        lam_dtype = _lam_dtype(device)
        if not self.training or self.alpha == 0 or (batch == 1 and other is None):
            itself = torch.arange(batch, device=device)
            return itself, torch.ones((), dtype=lam_dtype, device=device), itself

        if device.type == "cpu":
            _let_malloc_keep_batches()
        generator = process_stream(self.generator) if self.per_process else self.generator
        pairing = "second" if other is not None else self.pairing
        k = self._fitting_k(batch, pairing)
        pairs = _pair(batch, k, pairing, generator, device)
        drawn = self._draw_lam(batch, k, pairs.order, generator)
        lam = torch.from_numpy(drawn).to(lam_dtype).to(device)  # float64 does not exist on every device
        second = points if other is None else other
        if k == 1:  # nothing to match, so nothing has looked at the values yet
            matched = pairs.candidate
            for name, batch_of in (("x", points), ("x2", second)):
                if not _surely_finite(batch_of):
                    _refuse_rows(batch_of, name)
        else:
            try:
                x = points.reshape(batch, -1)
                # The points are detached: only a metric of the caller's own can hold what has gradients.
                with torch.no_grad() if callable(self.metric) else nullcontext():
                    matched = self._match(x, x if other is None else other.reshape(batch, -1), pairs, k)
            except ValueError:
                _refuse_rows(points, "x")
                _refuse_rows(second, "x2")
                raise
        if pairing != "roll":  # the order is the batch's own
            return matched, lam, pairs.candidate
        order, candidate, _ = pairs
        return matched.scatter(0, order, matched), lam, candidate.scatter(0, order, candidate)

    def _fitting_k(self, batch: int, pairing: str) -> int:
        # Rolled blocks must not meet themselves, so two have to fit. A second batch or a shuffle has no such need.
        largest = batch // 2 if pairing == "roll" else batch
        if self.k > largest and not self._warned:
            self._warned = True
            warnings.warn(
                f"a batch of {batch} is too small for k={self.k}: using k={largest} here. "
                "Use larger batches or drop_last=True.",
                stacklevel=_callers_level(),
            )
        return min(self.k, largest)

    def _draw_lam(self, batch: int, k: int, order: Tensor, generator: torch.Generator | None) -> np.ndarray:
        """One number, or one per sample."""
        draws = {"batch": (), "block": (-(-batch // k),), "sample": (batch,)}[self.lam_per]
        lam = draw_lam(self.alpha, draws, generator)
        if self.p < 1:
            on = generator.device if generator else None
            mixed = torch.rand(draws, generator=generator, device=on).cpu() < self.p
            lam = np.where(mixed.numpy(), lam, 1.0)
        if self.lam_per == "block":
            of_block, lam = lam, np.empty(batch)
            lam[order.cpu().numpy()] = of_block.repeat(k)[:batch]
        return lam

    def _match(self, x: Tensor, y: Tensor, pairs: _Pairs, k: int) -> Tensor:
        """Partners in the order of ``order``: block by block the optimal assignment; the last block may be smaller."""
        order, candidate, chain = pairs
        ragged = order.shape[0] % k
        full = order.shape[0] - ragged
        if chain is not None:
            costs = [chained_cost(x, chain[: full + k] if ragged else chain, k, self.metric)]
        else:
            opposite = y if candidate is order else y.index_select(0, candidate)
            blocks = (full // k, k, x.shape[1])
            costs = [cost_matrix(x[:full].view(blocks), opposite[:full].view(blocks), self.metric)]
        if ragged:
            rows, columns = x[order[full:]], y[candidate[full:]]
            costs.append(cost_matrix(rows.unsqueeze(0), columns.unsqueeze(0), self.metric))
        if x.device.type != "cpu" and k > ENUMERATE_UP_TO:  # one copy to the host for all blocks
            host = torch.cat([cost.flatten() for cost in costs]).cpu()
            parts = host.split([cost.numel() for cost in costs])
            costs = [part.view(cost.shape) for part, cost in zip(parts, costs, strict=True)]
        sigmas = [assign(cost, self.solver).to(x.device) for cost in costs]
        if not ragged:
            return candidate.view(-1, k).gather(1, sigmas[0]).view(-1)
        matched = candidate[:full].view(-1, k).gather(1, sigmas[0]).view(-1)
        return torch.cat([matched, candidate[full:].gather(0, sigmas[1].view(-1))])


# --- torch.compile ----------------------------------------------------------------------------------------------------
# The draw is one opaque op: random, data-dependent and solved on the host. It finds its mixer by number, because
# an op can take neither a module nor a generator.

_mixers: weakref.WeakValueDictionary[int, KMixup] = weakref.WeakValueDictionary()
_handles = count()


def _register(mixer: KMixup) -> int:
    handle = next(_handles)
    _mixers[handle] = mixer
    return handle


torch.library.define(
    "kmixup::plan",
    "(Tensor points, Tensor? other, int handle) -> (Tensor, Tensor, Tensor)",
    tags=(torch.Tag.nondeterministic_seeded,),  # two calls with equal inputs are two draws
)


@torch.library.impl("kmixup::plan", "default")
def _plan_op(points: Tensor, other: Tensor | None, handle: int) -> tuple[Tensor, Tensor, Tensor]:
    partner, lam, unmatched = _mixers[handle]._draw(points, other)
    return partner, lam, unmatched.clone() if unmatched is partner else unmatched


@torch.library.register_fake("kmixup::plan")
def _(points: Tensor, other: Tensor | None, handle: int) -> tuple[Tensor, Tensor, Tensor]:
    mixer, batch = _mixers[handle], points.shape[0]
    one = not mixer.training or mixer.alpha == 0 or mixer.lam_per == "batch" or (batch == 1 and other is None)
    lam = points.new_empty(() if one else (batch,), dtype=_lam_dtype(points.device))
    return points.new_empty(batch, dtype=torch.int64), lam, points.new_empty(batch, dtype=torch.int64)


# --- checks -----------------------------------------------------------------------------------------------------------


def _checked_count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < 1:
        raise ValueError(f"{name} must be >= 1, got {value}." + (" k=1 is mixup." if name == "k" else ""))
    return int(value)


def _checked_alpha(alpha: Any) -> float:
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float, np.integer, np.floating)):
        raise TypeError(f"alpha must be a number, got {alpha!r}.")
    if not alpha >= 0:
        raise ValueError(f"alpha must be >= 0 (inf allowed), got {alpha}. Use alpha=0 to switch mixing off.")
    return float(alpha)


def _checked_choice(name: str, value: Any, choices: tuple[str, ...]) -> Any:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")
    return value


def _refuse_labels(y: Tensor, num_classes: int) -> None:
    if len(y) and (y.min() < 0 or y.max() >= num_classes):
        outside = (y < 0) | (y >= num_classes)
        first = int(outside.nonzero()[0])
        raise ValueError(
            f"labels must lie in 0..{num_classes - 1} for num_classes={num_classes}, got {int(outside.sum())} outside, "
            f"the first {int(y[first])} at row {first}. Correct the labels or num_classes."
        )


def _surely_finite(points: Tensor) -> bool:
    """One sum over the batch; False may also mean that a finite batch overflowed."""
    total = points.sum(dtype=torch.promote_types(points.dtype, torch.float32))
    if points.device.type == "cuda":  # reading the sum here would be a copy to the host
        torch._assert_async(torch.isfinite(total), "NaN or inf in the batch")  # pyright: ignore[reportPrivateImportUsage]
        return True
    return bool(torch.isfinite(total))


def _refuse_rows(points: Tensor, name: str) -> None:
    """Say which rows are not finite, if any is."""
    bad = ~torch.isfinite(points.reshape(len(points), -1)).all(1)
    if bad.any():
        raise ValueError(
            f"{name} has {int(bad.sum())} row(s) with NaN or infinite values, the first is row "
            f"{int(bad.nonzero()[0])}. Remove or impute them."
        )


# --- small pure pieces ------------------------------------------------------------------------------------------------


class _Pairs(NamedTuple):
    """Whom to match: block b of ``order`` with block b of ``candidate``, both permutations of the batch.

    Rolled blocks meet the block before them: ``order`` and ``candidate`` are then the two ends of one ``chain``.
    """

    order: Tensor
    candidate: Tensor
    chain: Tensor | None = None


def _pair(batch: int, k: int, pairing: str, generator: torch.Generator | None, device: torch.device) -> _Pairs:
    if pairing == "second":
        own = torch.arange(batch, device=device)
        return _Pairs(own, own)
    drawn = torch.randperm(batch, generator=generator, device=generator.device if generator else None).to(device)
    if pairing == "shuffle":
        return _Pairs(torch.arange(batch, device=device), drawn)
    chain = torch.cat([drawn[-k:], drawn])
    return _Pairs(drawn, chain[:batch], chain)


@lru_cache(maxsize=1)
def _let_malloc_keep_batches() -> None:
    """Free a block of 32 MB, never touched, so that what a batch frees stays at hand for the next one.

    glibc gives memory back to the system beyond twice the largest block that was ever freed, of at most 32 MB. To get a
    batch's worth of memory anew each time took longer than to copy the batch.
    """
    torch.empty(2**25 - 2**12, dtype=torch.uint8)


def _lam_dtype(device: torch.device) -> torch.dtype:
    # For small alpha many lam lie closer to 1 than float32 can tell: 22 % of them at alpha = 0.05, 8 % in float64.
    return torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64


def draw_lam(alpha: float, shape: tuple[int, ...], generator: torch.Generator | None) -> np.ndarray:
    """Beta(alpha, alpha) by inversion: exact for every alpha, where ratios of gamma draws underflow for small ones."""
    on = generator.device if generator else None
    uniform = torch.rand(shape, generator=generator, device=on, dtype=torch.float64).cpu().numpy()
    if alpha == float("inf"):
        return np.full(shape, 0.5)
    from scipy.special import betaincinv  # imported where used: half the time of `import kmixup` otherwise

    return np.asarray(betaincinv(alpha, alpha, uniform))


def _callers_level() -> int:
    """The stacklevel at which a warning of the calling function names the line outside kmixup and torch."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("kmixup", "torch"):
        frame, level = frame.f_back, level + 1
    return level


def _is_floating(leaf: Any) -> bool:
    if isinstance(leaf, np.ndarray):
        return np.issubdtype(leaf.dtype, np.floating)
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _describe(leaf: Any) -> str:
    return f"{leaf.dtype} {list(leaf.shape)}" if isinstance(leaf, (Tensor, np.ndarray)) else type(leaf).__name__
