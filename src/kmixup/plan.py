"""A drawn mixing: who is mixed with whom, and how much. Applying it is pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from kmixup.cost import widest_float
from kmixup.interpolation import mix_rows
from kmixup.losses import checked_losses, mixed_loss, weighted_mean
from kmixup.roles import NO_RULES, Role, mixed_leaves
from kmixup.stats import MixStats, mean_sq_distance, same_class_share
from kmixup.structure import choose, map_leaves, named_leaves, nowhere, refuse_length, refuse_unmixable, take, tensor_of
from kmixup.targets import correct

# How what is not interpolated follows the partner.
_COMBINED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "union": torch.maximum,
    "max": torch.maximum,
    "intersection": torch.minimum,
}


@dataclass(frozen=True, eq=False, repr=False)
class MixPlan:
    r"""Who is mixed with whom, and how much; reusable on anything that belongs to the same batch.

    .. math:: \tilde x_i = \lambda_i x_i + (1 - \lambda_i)\, x_{\text{partner}(i)}

    A part of a plan, ``plan[8:16]`` or one of ``plan.split(8)``, takes inputs and labels of the whole batch and gives
    the mixed rows of its own: it may mix them with rows outside the part.

    A batch is a tensor, a numpy array, or mappings, lists, tuples, namedtuples and dataclasses of them, which keep
    their type; every leaf has the batch first.

    Attributes:
        partner: Index of the sample mixed with, int64, shape ``[b]``; b is the batch length B, less for a part.
        lam: Weight of the sample itself, in [0, 1], float64 (float32 on mps), shape ``[]`` (one for the batch) or
            ``[b]``; applied in the dtype of what is mixed.
        unmatched: The partner under the identity pairing, before the matching, int64, shape ``[b]``.
        k: Where labels or ``where`` decide: points per block that the sample's group allowed, int64, shape ``[b]``, 0
            for what is not mixed (left out, or alone in its class); else None.
        from_second: True if ``partner`` indexes a second batch instead of the same one.
        start: First row of a part.
        whole: Batch length B that a part belongs to; None for a whole plan.

    Paper: Section 2, displacement interpolation.
    """

    partner: Tensor
    lam: Tensor
    unmatched: Tensor
    from_second: bool = False
    start: int = 0
    whole: int | None = None
    k: Tensor | None = None

    @classmethod
    def identity(
        cls, batch: int, *, per_sample: bool = False, device: torch.device | None = None, from_second: bool = False
    ) -> MixPlan:
        """The plan that mixes nothing: each sample is its own partner, with weight 1.

        Args:
            batch: Number of samples, B.
            per_sample: Whether lam is ``[B]`` instead of one number.
            device: Where the plan lives.
            from_second: Whether the plan is for two batches.
        """
        itself = torch.arange(batch, device=device)
        lam = torch.ones(batch if per_sample else (), dtype=widest_float(itself.device), device=device)
        return cls(itself, lam, itself, from_second)

    @classmethod
    def of_batches(cls, partner: Tensor, lam: Tensor, unmatched: Tensor) -> MixPlan:
        """One plan for many batches laid end to end, each mixed within itself.

        Args:
            partner: Partners within each batch, int64, shape ``[n, B]``, see `kmixup.matching.partners`.
            lam: Weight of each sample itself, shape ``[n, B]``.
            unmatched: Partners before the matching, int64, shape ``[n, B]`` or ``[B]``.
        """
        batches, batch = partner.shape
        first = batch * torch.arange(batches, device=partner.device).unsqueeze(1)
        return cls((partner + first).flatten(), lam.flatten(), (unmatched + first).flatten())

    @property
    def weights(self) -> Tensor:
        """The weight that each sample is mixed with: lam, or 1 for what is not mixed, shape ``[]`` or ``[b]``."""
        return self.lam if self.k is None else torch.where(self.k == 0, torch.ones_like(self.lam), self.lam)

    def __len__(self) -> int:
        return self.partner.shape[0]

    def __repr__(self) -> str:
        lam = "lam" if self.lam.ndim == 0 else f"lam {list(self.lam.shape)}"
        if self.lam.device.type == "cpu":
            low, high = (float(self.lam.min()), float(self.lam.max())) if self.lam.numel() else (1.0, 1.0)
            lam += f" {low:.3g}" + (f"..{high:.3g}" if self.lam.ndim else "")
        part = "" if self.whole is None else f", rows {self.start}..{self.start + len(self) - 1} of {self.whole}"
        second = ", partners from a second batch" if self.from_second else ""
        return f"{type(self).__name__}({len(self)} samples, {lam}, on {self.partner.device}{part}{second})"

    def __getitem__(self, rows: slice) -> MixPlan:
        """The part of the plan for consecutive samples, ``plan[8:16]``.

        Raises:
            TypeError: If ``rows`` is not a slice of step 1.
        """
        if not isinstance(rows, slice) or rows.step not in (None, 1):
            raise TypeError(f"a plan is cut by a slice of consecutive samples, got {rows!r}. Use plan[start:stop].")
        start, stop, _ = rows.indices(len(self))
        part = {name: each[start:stop] for name, each in self._tensors() if each.ndim}
        return replace(self, **part, start=self.start + start, whole=self._whole)

    def split(self, sizes: int | Sequence[int]) -> tuple[MixPlan, ...]:
        """The plan in parts, as `torch.split` cuts a batch: match on the whole batch, train in micro-batches.

        Args:
            sizes: Samples per part (the last may be smaller), or a list of them that sums to the length.

        Returns:
            The parts. The mean of their losses, weighted by their lengths, is the loss of the whole.
        """
        lengths = [len(part) for part in self.partner.split(sizes if isinstance(sizes, int) else list(sizes))]
        return tuple(self[stop - length : stop] for length, stop in zip(lengths, accumulate(lengths), strict=True))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> MixPlan:
        """The same plan on another device; lam in the widest dtype that the device has."""
        at = widest_float(torch.device(device))
        moved = {name: each.to(at) if name == "lam" else each for name, each in self._tensors()}
        return replace(self, **{name: each.to(device, non_blocking=non_blocking) for name, each in moved.items()})

    def mix(self, x: Any, x2: Any = None) -> Any:
        """Interpolate each sample with its partner.

        Args:
            x: The batch; every leaf floating point or complex.
            x2: The second batch, in the same structure; exactly when the plan was made with one.

        Returns:
            The same structure, of length b; each leaf keeps its dtype and memory format, numpy stays numpy, a
            ``tv_tensors.Image`` stays one. Differentiable in ``x``.

        Raises:
            TypeError: If a leaf cannot be interpolated (integer images, class indices, boxes, masks).
            ValueError: If a leaf has another batch length, or ``x2`` is missing or superfluous.
        """
        return map_leaves(self.mix_leaf, x, self._second(x, x2, "x2"))

    def mix_leaf(self, path: str, own: Any, other: Any) -> Any:
        """One leaf of `mix`: what another kind of plan does in its own way."""
        refuse_length(own, self._whole, path)
        refuse_unmixable(own, path)
        return mix_rows(self._rows(own), other, self.partner, self.weights)

    def combine(self, x: Any, how: str, x2: Any = None) -> Any:
        """What follows the partner without being averaged: padding masks and lengths.

        Args:
            x: The batch, of any real dtype or bool.
            how: ``"union"`` or ``"max"``, the larger of the sample's and the partner's entry (of two masks, where
                either is true); ``"intersection"``, the smaller.
            x2: The second batch; exactly when the plan was made with one.

        Returns:
            The same structure, of length b. A partner of weight 0 plays no part.

        Raises:
            ValueError: If ``how`` is unknown, or a leaf has another batch length.
        """
        if how not in _COMBINED:
            raise ValueError(f"how must be one of {', '.join(_COMBINED)}, got {how!r}.")

        def leaf(path: str, own: Any, other: Any) -> Any:
            mine, theirs = self._own(path, own, other), self._partners(path, own, other)
            if isinstance(own, Tensor):
                return _COMBINED[how](mine, theirs)
            return _COMBINED[how](tensor_of(mine), tensor_of(theirs)).numpy()

        return map_leaves(leaf, x, self._second(x, x2, "x2"))

    def loss(
        self, loss_fn: Callable[..., Any], outputs: Any, y: Any, y2: Any = None, *, ignore_index: int | None = -100
    ) -> Any:
        r"""Two-target form of the mixed loss, for any loss and any kind of label.

        .. math:: \lambda\, \ell(f(\tilde x), y) + (1 - \lambda)\, \ell(f(\tilde x), y_{\text{partner}})

        Equal to the loss of the mixed targets whenever the loss is affine in the target, as cross-entropy is.

        Args:
            loss_fn: ``loss_fn(outputs, y)``; with one lam per block or sample it must keep the batch dimension
                (``reduction="none"``), and the result is averaged here. A tensor, or a structure of tensors.
            outputs: Outputs of the model on the mixed batch (on its own rows, for a part).
            y: Labels of the unmixed batch (any structure that ``loss_fn`` takes), batch first.
            y2: Labels of the second batch; exactly when the plan was made with one.
            ignore_index: Class index without a label. Where the loss has the shape of the labels, the mean is over what
                has one, each label counted with its weight. (A loss that is a mean itself has to leave them out
                itself.)

        Returns:
            The loss, a scalar, float32 at least; in the structure that ``loss_fn`` returns.

        Raises:
            TypeError: If ``loss_fn`` returns something that is no floating-point tensor.
            ValueError: If lam varies over the batch and ``loss_fn`` returns one number, or if lengths differ.
        """
        other = self._second(y, y2, "y2")
        # What has weight 0 is not even shown to the loss: the gradient of an infinite loss is NaN whatever its weight.
        mine = map_leaves(self._own, y, other)
        own = checked_losses(loss_fn(outputs, mine))
        dtype = reduce(torch.promote_types, (loss.dtype for _, loss in named_leaves(own)), torch.float32)
        shown = map_leaves(lambda path, own, other: self._partners(path, own, other, dtype), y, other)
        theirs = checked_losses(loss_fn(outputs, shown))
        return mixed_loss(own, theirs, self.lam, self.weights, (mine, shown), ignore_index, len(self))

    def accuracy(
        self,
        outputs: Tensor,
        y: Tensor,
        y2: Tensor | None = None,
        *,
        multi_label: bool = False,
        ignore_index: int | None = -100,
    ) -> Tensor:
        r"""Share of correct predictions, each of the two targets counted with its weight.

        .. math:: \lambda\, 1[\hat y = y] + (1 - \lambda)\, 1[\hat y = y_{\text{partner}}]

        Args:
            outputs: Scores on the mixed batch (of its own rows, for a part), shape ``[b, C, ...]``; the class dimension
                is 1. One score per sample, ``[b]`` or ``[b, 1, ...]``, is a logit: class 1 is predicted above 0.
            y: Labels of the unmixed batch: class indices ``[B, ...]`` or ``[B, 1, ...]``, or soft targets in the shape
                of the outputs, whose largest entry is taken.
            y2: Labels of the second batch; exactly when the plan was made with one.
            multi_label: Whether the C scores are logits of labels that may hold together; ``y`` has their shape, and
                each is counted.
            ignore_index: Class index of what has no label, and is left out.

        Returns:
            Mean accuracy in [0, 1], a scalar; NaN where nothing has a label.

        Raises:
            ValueError: If labels and outputs do not fit, or (looked at on the CPU only) soft targets do not sum to one.
        """
        options: dict[str, Any] = {"multi_label": multi_label, "ignore_index": ignore_index}
        partners = self.partner_of(y, y2)
        (own, mine), (theirs, their) = (correct(outputs, each, **options) for each in (self.own(y), partners))
        return weighted_mean(own.float(), theirs.float(), self.weights, (mine, their))

    def partner_of(self, y: Any, y2: Any = None) -> Any:
        """The partner's entry for each sample: labels, metadata, anything batch first.

        Args:
            y: The batch, any dtype; a list without tensors (captions, file names) is taken by its items.
            y2: The second batch; exactly when the plan was made with one.

        Returns:
            The same structure, each leaf indexed by ``partner``.

        Raises:
            ValueError: If a leaf has another batch length.
        """

        def leaf(path: str, own: Any, other: Any) -> Any:
            refuse_length(own, self._whole, path)
            return take(other, self.partner)

        return map_leaves(leaf, y, self._second(y, y2, "y2"))

    def own(self, x: Any) -> Any:
        """The samples' own entries: the batch itself, or the rows of a part; what is not batch first stays."""
        return x if self.whole is None else map_leaves(lambda _, leaf: self._rows(leaf), x)

    def stats(
        self, x: Any, y: Any = None, x2: Any = None, y2: Any = None, *, leaves: Mapping[str, Role] = NO_RULES
    ) -> MixStats:
        """Distances and label agreement of the pairs of this plan.

        Args:
            x: The unmixed batch (or the features that were matched). Of a structure counts what is mixed.
            y: Labels, class indices ``[B]`` or soft targets ``[B, C]``; optional.
            x2: The second batch; exactly when the plan was made with one.
            y2: Its labels.
            leaves: Rules of the mixer, where names and types do not say what is mixed.

        Returns:
            The statistics, as plain numbers.

        Raises:
            TypeError: If nothing is mixed.
            ValueError: If a leaf has another batch length.
        """
        x, x2 = mixed_leaves(x, leaves), None if x2 is None else mixed_leaves(x2, leaves)
        if not x:
            raise TypeError("x must hold floating-point or complex numbers, which are mixed. Scale images to float.")
        own, index = self.own(x), torch.arange(self.start, self.start + len(self), device=self.partner.device)
        unmatched = replace(self, partner=self.unmatched)
        return MixStats(
            matched_sq_distance=mean_sq_distance(own, self.partner_of(x, x2)),
            unmatched_sq_distance=mean_sq_distance(own, unmatched.partner_of(x, x2)),
            self_share=0.0 if self.from_second else float((self.partner == index).cpu().double().mean()),
            same_class_share=None if y is None else same_class_share(self.own(y), self.partner_of(y, y2)),
        )

    def _tensors(self) -> list[tuple[str, Tensor]]:
        named = ("partner", self.partner), ("lam", self.lam), ("unmatched", self.unmatched), ("k", self.k)
        return [(name, each) for name, each in named if each is not None]

    @property
    def _whole(self) -> int:
        return len(self) if self.whole is None else self.whole

    def _second(self, x: Any, x2: Any, name: str) -> Any:
        if self.from_second and x2 is None:
            raise ValueError(
                f"{name} is required: this plan pairs with a second batch. Pass the batch it was made with."
            )
        if not self.from_second and x2 is not None:
            raise ValueError(f"{name} was given, but this plan pairs within one batch. Make it with mixer.plan(x, x2).")
        return x2 if self.from_second else x

    def _rows(self, leaf: Any) -> Any:
        if self.whole is None or not hasattr(leaf, "__len__") or getattr(leaf, "ndim", 1) == 0:
            return leaf
        return leaf[self.start : self.start + len(self)] if len(leaf) == self.whole else leaf

    def _own(self, path: str, own: Any, other: Any) -> Any:
        """The samples' own rows; the partner's row where the own has weight 0."""
        refuse_length(own, self._whole, path)
        mine, none = self._rows(own), self.weights.float() == 0
        return mine if nowhere(none) else choose(none, take(other, self.partner), mine)

    def _partners(self, path: str, own: Any, other: Any, dtype: torch.dtype = torch.float32) -> Any:
        """The partners' rows; the own row where the partner has weight 0 in this dtype."""
        refuse_length(own, self._whole, path)
        theirs, alone = take(other, self.partner), self.weights.to(dtype) == 1
        return theirs if nowhere(alone) else choose(alone, self._rows(own), theirs)
