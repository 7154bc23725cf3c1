"""k-mixup as one call: arguments, a plan, a mixed batch.

A plan is random draws (order, lam) met by a pure matching; applying it is pure and lives in `kmixup.plan`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from kmixup.arguments import Checked, LamPer, MatchOn, Pairing, warn_small
from kmixup.assignment import Solver
from kmixup.compiled import planned, register
from kmixup.cost import Metric, widest_float
from kmixup.labels import beside, cut_blocks, matched_on
from kmixup.lam import draw_lam, drawn_on
from kmixup.matching import match_blocks, partners
from kmixup.native import readable
from kmixup.plan import MixPlan
from kmixup.roles import Role, label_path
from kmixup.samples import mix_inputs, points_of, with_labels
from kmixup.streams import draw_order
from kmixup.structure import batch_length, has_names, is_mixable, named_leaves
from kmixup.targets import refuse_unknown, soft_targets

# Arguments that let labels decide, as they are where labels do not.
_USUAL = {"within": None, "label_weight": 0.0, "match_on": "inputs"}


class KMixup(Checked):
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
    its own stream from the same seed; ``per_process=False`` makes ranks equal.

    Args:
        k: Points per k-batch, >= 1. ``k=1`` is mixup. A batch smaller than ``2 * k`` uses the largest k that fits,
            with one warning.
        alpha: Parameter of Beta(alpha, alpha), >= 0. 0 switches mixing off, ``inf`` makes lam 1/2.
        metric: Cost of a pair: ``"sqeuclidean"`` (the paper's text), ``"euclidean"`` (its Figure 5), ``"cosine"``, or a
            function of two point sets ``[n, k, d]`` (samples flattened) that returns costs ``[n, k, k]``.
        features: Function from the inputs to what is matched, shape ``[B, ...]``; the inputs themselves are mixed. A
            network (or a method of one) is called in eval mode and without gradients, whatever mode it is in.
        pairing: ``"roll"`` matches each block of k of a random order with the block before it: no self-pairs, each
            sample a partner exactly once. ``"shuffle"`` matches with a random permutation, as the released code does.
        lam_per: One lam per ``"batch"``, per ``"block"`` of k, or per ``"sample"``.
        num_classes: Number of classes, to turn integer labels into soft targets.
        p: Probability of mixing, drawn as often as lam.
        generator: Source of all randomness; default: torch's global generator. Keep it on the CPU.
        labels_getter: For a sample with names: function from the sample to its labels, as in torchvision v2, or to
            their name. Default: the one name among label, labels, target, targets, y.
        leaves: For a batch with names: what becomes of a leaf (or of what holds leaves), by its name or dotted path:
            ``"mix"``, ``"union"`` or ``"intersection"`` (masks), ``"max"`` (lengths), ``"own"``, ``"drop"``. Needed
            only for what is in doubt, which is refused.
        within: ``"label"`` draws blocks within each class, so that no pair crosses classes; a class of fewer than
            ``2 * k`` samples uses the largest k that fits, and one of a single sample is not mixed: ``plan.k``.
        label_weight: What a pair of different class costs more, in units of its block's mean cost; negative prefers
            other classes. Soft and multi-label targets by their overlap, see `kmixup.labels.Blocks.plan`.
        match_on: What is matched: ``"inputs"`` (or their features), the ``"target"`` alone (regression or soft
            targets), or ``"both"``, each in units of its root mean squared pairwise distance in the batch.
        per_process: False to draw the same on every rank, given generators of one state (in DataLoader workers also one
            base seed).
        solver: Assignment solver, see `kmixup.assign`.

    The arguments are attributes: they may be assigned to while training, as in a schedule of alpha, and are checked
    like here. A network given as ``features`` or ``metric`` is no part of the module: ``state_dict``, ``parameters``
    and ``to`` leave it alone.

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
        labels_getter: Callable[[Any], Any] | None = None,
        leaves: Mapping[str, Role] | None = None,
        within: Literal["label"] | None = None,
        label_weight: float = 0.0,
        match_on: MatchOn = "inputs",
        per_process: bool = True,
        solver: Solver = "auto",
    ) -> None:
        super().__init__(generator, per_process=per_process)
        self.k = k
        self.alpha = alpha
        self.metric: Metric = metric
        self.features: Callable[[Any], Any] | None = features
        self.pairing: Pairing = pairing
        self.lam_per: LamPer = lam_per
        self.num_classes = num_classes
        self.p = p
        self.labels_getter = labels_getter
        self.leaves: Mapping[str, Role] = leaves or {}
        self.within: Literal["label"] | None = within
        self.label_weight = label_weight
        self.match_on: MatchOn = match_on
        self.solver: Solver = solver
        self._warned = False
        self._handle = register(self)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        # A compiled graph is guarded by these alone, not by every step of a schedule.
        if name == "alpha":
            self._off = self.alpha == 0
        if name in ("within", "label_weight", "match_on"):
            used = [name for name, usual in _USUAL.items() if getattr(self, name, usual) != usual]
            self.by_label, self._in_match = " and ".join(used), used not in ([], ["match_on"])

    @property
    def mixes(self) -> bool:
        """Whether anything is mixed: in train mode, with alpha > 0."""
        return self.training and not self._off

    def forward(self, *inputs: Any, where: Any = None) -> Any:
        """Mix a batch.

        Args:
            *inputs: ``x, y``, or one ``(x, y)`` pair, or one sample that holds both by name (a mapping, a namedtuple,
                a dataclass, also nested). ``x`` is a floating-point or complex tensor, array or structure, batch first;
                ``y`` class indices ``[B]``, soft targets ``[B, C]``, or regression targets ``[B, ...]``.
            where: Rows to mix among themselves, a boolean mask ``[B]``; the rest stays as it is. Default: all.

        Returns:
            ``x_mixed, y_soft`` in the structure that came; ``x`` keeps its dtype, soft targets are float32 at least.
            In eval mode and for alpha = 0 ``x`` itself and the one-hot targets.

        Raises:
            TypeError: If ``x`` is not floating point, labels are missing, or it is in doubt what becomes of a leaf.
            ValueError: If labels and inputs do not fit, rows are not finite, or ``num_classes`` is needed.
        """
        if len(inputs) == 1 and has_names(inputs[0]):
            sample = inputs[0]
            labels = label_path(sample, self.labels_getter)
            x_mixed, y_soft = self._mixed(sample, dict(named_leaves(sample))[labels], where, labels)
            return with_labels(x_mixed, labels, y_soft)
        if len(inputs) == 1 and isinstance(inputs[0], (tuple, list)):
            inputs = tuple(inputs[0])
        if len(inputs) != 2:
            raise TypeError(
                f"KMixup takes inputs and labels, got {len(inputs)} argument(s). Use mixer(x, y) and keep what is "
                'beside them, or mixer({"image": x, "label": y, "index": i}); '
                "without labels: plan = mixer.plan(x); plan.mix(x)."
            )
        return self._mixed(*inputs, where)

    def _mixed(self, x: Any, y: Any, where: Any, labels: str | None = None) -> tuple[Any, Any]:
        y_soft = soft_targets(y, self.num_classes)
        if self._off or not self.training:
            return x, y_soft
        plan = self.plan(x, y=y, where=where, labels=labels)
        if y_soft.shape[0] != len(plan):
            raise ValueError(
                f"x and y must have the same length, got {len(plan)} and {len(y_soft)}. The batch comes first."
            )
        if self.num_classes is not None and is_mixable(y):
            refuse_unknown(y_soft, plan.k)
        return self.mix(plan, x, labels=labels), plan.mix(y_soft)

    def mix(self, plan: MixPlan, x: Any, *, labels: str | None = None) -> Any:
        """Mix inputs as a plan says, each leaf by its rule: masks and lengths are united, not averaged.

        Args:
            plan: From `plan`.
            x: A tensor, an array, or a structure of them; see ``leaves``.
            labels: Dotted path of labels in ``x``, which are left alone.

        Returns:
            The same structure.

        Raises:
            TypeError: If it is in doubt what becomes of a leaf, or nothing is mixed.
            ValueError: If ``leaves`` names what is not there, or a leaf has another batch length.
        """
        return plan.mix(x) if isinstance(x, (Tensor, np.ndarray)) else mix_inputs(plan, x, self.leaves, labels=labels)

    def plan(self, x: Any, x2: Any = None, *, y: Any = None, where: Any = None, labels: str | None = None) -> MixPlan:
        """Draw partners and lam for a batch.

        Args:
            x: Inputs (or features to match on), floating point or complex, batch first, shape ``[B, ...]``. A structure
                needs ``features``, unless one leaf alone is mixed.
            x2: An independent second batch of the same shape, as in the paper's Figure 5: partners come from it.
            y: Labels, as for a call; needed to match by them (``within``, ``label_weight``, ``match_on``), else unused.
            where: Rows to mix among themselves, a boolean mask ``[B]``; the others are not looked at. Default: all.
            labels: Dotted path of labels in ``x``, which are not matched.

        Returns:
            The plan. The identity in eval mode, for alpha = 0, and for a batch of one.

        Raises:
            TypeError: If the points are not floating point.
            ValueError: If rows hold NaN or inf, batches differ in shape, or labels are missing or do not fit.

        Paper: Figure 5, k-mixup implementation.
        """
        if self._off or not self.training:
            return self.identity(*batch_length(x), from_second=x2 is not None)
        points = points_of(x, self.features, self.leaves, labels=labels)
        y, where = beside(points, y, where, by_label=self.by_label, second=x2 is not None)
        points = matched_on(self.match_on, points, y, where, self.metric)
        other = None if x2 is None else points_of(x2, self.features, self.leaves, name="x2")
        if other is not None and other.shape != points.shape:
            raise ValueError(
                f"x and x2 must have the same shape, got {list(points.shape)} and {list(other.shape)}. "
                "Drop the last incomplete batch (drop_last=True)."
            )
        drawn_from = points, other, y if self._in_match else None, where
        if not readable(points):
            return planned(self._handle, *drawn_from, per_sample=self.lam_per != "batch")
        return self.drawn(*drawn_from)

    def identity(self, batch: int, device: torch.device | None = None, *, from_second: bool = False) -> MixPlan:
        """The plan that mixes nothing, with lam in the shape that ``lam_per`` says.

        Args:
            batch: Number of samples, B.
            device: Where the plan lives.
            from_second: Whether the plan is for two batches.
        """
        return MixPlan.identity(batch, per_sample=self.lam_per != "batch", device=device, from_second=from_second)

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
        if self._in_match:
            raise ValueError(f"{self.by_label} needs labels, and here are none. Use mixer.plan(x, y=y).")
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
            uniform = torch.rand(lam.shape, generator=generator, device=drawn_on(generator), dtype=torch.float32)
            lam = torch.where(uniform.cpu() < self.p, lam, 1.0)
        return lam.repeat_interleave(k, 1)[:, :batch] if self.lam_per == "block" else lam

    def extra_repr(self) -> str:
        """What `print(mixer)` shows."""
        parts = [f"k={self.k}", f"alpha={self.alpha:g}"]
        parts += [f"{name}={getattr(self, name)!r}" for name in ("metric", "pairing", "lam_per", "num_classes", "p")]
        parts += [f"{name}={getattr(self, name)!r}" for name in _USUAL if name in self.by_label]
        return ", ".join(parts)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._handle = register(self)

    def drawn(
        self, points: Tensor, other: Tensor | None, y: Tensor | None = None, where: Tensor | None = None
    ) -> MixPlan:
        """The plan for points that are checked: what a compiled graph calls."""
        batch, device = len(points), points.device
        if self._off or not self.training or (batch == 1 and other is None):
            return self.identity(batch, device, from_second=other is not None)
        generator = self.stream()
        order = draw_order(batch, generator, device) if other is None else torch.arange(batch, device=device)
        by_group, k = y is not None or where is not None, self._fitting_k(batch, other is not None)
        # How many blocks there are by label, the labels say: a draw for each that there could be.
        lam = self.draw_lam(1, batch, 1 if by_group else k, generator)
        lam = lam.view(() if self.lam_per == "batch" else -1).to(widest_float(device)).to(device, non_blocking=True)
        if by_group:
            blocks = cut_blocks(order, k, rolled=self.pairing == "roll", y=y if self.within else None, where=where)
            lam = lam[blocks.number.to(device)] if self.lam_per == "block" else lam
            rule = {"metric": self.metric, "solver": self.solver, "label_weight": self.label_weight}
            return blocks.plan(points, lam, y=y, **rule)
        if self.lam_per == "block" and self.pairing == "roll":
            lam = torch.empty_like(lam).scatter_(0, order, lam)
        return self.meet(points, order, lam, other)

    def _fitting_k(self, batch: int, second: bool) -> int:
        # Rolled blocks must not meet themselves, so two have to fit. A second batch or a shuffle has no such need.
        largest = batch if second or self.pairing == "shuffle" else max(1, batch // 2)
        if self.k > largest and not self._warned:
            self._warned = True
            warn_small(batch, self.k, largest)
        return min(self.k, largest)
