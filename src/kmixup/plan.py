"""A drawn mixing: who is mixed with whom, and how much. Applying it is pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from kmixup.cost import widest_float


@dataclass(frozen=True)
class MixStats:
    """What one plan does to one batch.

    Attributes:
        matched_sq_distance: Mean squared Euclidean distance between a sample and its partner.
        unmatched_sq_distance: The same without the matching, under the identity pairing of the same blocks.
        self_share: Share of samples that are their own partner, in [0, 1].
        same_class_share: Share of pairs with equal labels, in [0, 1]; None without labels.
    """

    matched_sq_distance: float
    unmatched_sq_distance: float
    self_share: float
    same_class_share: float | None


@dataclass(frozen=True, eq=False)
class MixPlan:
    r"""Who is mixed with whom, and how much; reusable on anything that belongs to the same batch.

    .. math:: \tilde x_i = \lambda_i x_i + (1 - \lambda_i)\, x_{\text{partner}(i)}

    Attributes:
        partner: Index of the sample mixed with, int64, shape ``[B]``.
        lam: Weight of the sample itself, in [0, 1], float64 (float32 on mps), shape ``[]`` (one for the batch) or
            ``[B]``; applied in the dtype of what is mixed.
        unmatched: The partner under the identity pairing, before the matching, int64, shape ``[B]``.
        from_second: True if ``partner`` indexes a second batch instead of the same one.

    Paper: Section 2, displacement interpolation.
    """

    partner: Tensor
    lam: Tensor
    unmatched: Tensor
    from_second: bool = False

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

    def __len__(self) -> int:
        return self.partner.shape[0]

    def to(self, device: torch.device | str) -> MixPlan:
        """The same plan on another device."""
        return replace(
            self, partner=self.partner.to(device), lam=self.lam.to(device), unmatched=self.unmatched.to(device)
        )

    def mix(self, x: Any, x2: Any = None) -> Any:
        """Interpolate each sample with its partner.

        Args:
            x: A tensor, a numpy array, or a nested dict, list or tuple of them; every leaf floating point, batch first.
            x2: The second batch, in the same structure; exactly when the plan was made with one.

        Returns:
            The same structure; each leaf keeps its shape and dtype, numpy stays numpy. Differentiable in ``x``.

        Raises:
            TypeError: If a leaf is not floating point (integer images, class indices).
            ValueError: If a leaf has another batch length, or ``x2`` is missing or superfluous.
        """
        second = self._second(x, x2, "x2")
        return self._mix_leaf(x, second) if isinstance(x, Tensor) else tree_map(self._mix_leaf, x, second)

    def loss(self, loss_fn: Callable[..., Tensor], outputs: Any, y: Any, y2: Any = None) -> Tensor:
        r"""Two-target form of the mixed loss, for any loss and any kind of label.

        .. math:: \lambda\, \ell(f(\tilde x), y) + (1 - \lambda)\, \ell(f(\tilde x), y_{\text{partner}})

        Equal to the loss of the mixed targets whenever the loss is affine in the target, as cross-entropy is.

        Args:
            loss_fn: ``loss_fn(outputs, y)``; with one lam per block or sample it must keep the batch dimension
                (``reduction="none"``), and the result is averaged here.
            outputs: Outputs of the model on the mixed batch.
            y: Labels of the unmixed batch (any pytree that ``loss_fn`` takes), batch first.
            y2: Labels of the second batch; exactly when the plan was made with one.

        Returns:
            The loss, a scalar.

        Raises:
            ValueError: If lam varies over the batch and ``loss_fn`` returns one number, or if lengths differ.
        """
        own = _at_least_float32(loss_fn(outputs, y))
        theirs = _at_least_float32(loss_fn(outputs, self.partner_of(y, y2)))
        if own.ndim == 0:
            if self.lam.ndim:
                raise ValueError(
                    "loss_fn must return one loss per sample when lam differs between samples, got one number. "
                    'Use reduction="none", or KMixup(lam_per="batch").'
                )
            return _interpolate(own, theirs, self.lam.to(own))
        if len(own) != len(self):
            raise ValueError(f"loss_fn must return one loss for each of {len(self)} samples, got {list(own.shape)}.")
        return _interpolate(own, theirs, _weights(self.lam.to(own), own.ndim)).mean()

    def accuracy(self, outputs: Tensor, y: Tensor, y2: Tensor | None = None) -> Tensor:
        r"""Share of correct predictions, each of the two targets counted with its weight.

        .. math:: \lambda\, 1[\hat y = y] + (1 - \lambda)\, 1[\hat y = y_{\text{partner}}]

        Args:
            outputs: Scores on the mixed batch, shape ``[B, C, ...]``; the class dimension is 1.
            y: Class indices ``[B, ...]``, or soft targets ``[B, C, ...]`` whose largest entry is taken.
            y2: Labels of the second batch; exactly when the plan was made with one.

        Returns:
            Mean accuracy in [0, 1], a scalar.
        """

        def classes(labels: Tensor) -> Tensor:
            return labels.argmax(1) if labels.is_floating_point() else labels

        predicted = outputs.argmax(1)
        own = (predicted == classes(y)).float()
        theirs = (predicted == classes(self.partner_of(y, y2))).float()
        return torch.lerp(theirs, own, _weights(self.lam.float(), own.ndim)).mean()

    def partner_of(self, y: Any, y2: Any = None) -> Any:
        """The partner's entry for each sample: labels, metadata, anything batch first.

        Args:
            y: A tensor, a numpy array, or a nested dict, list or tuple of them, batch first, any dtype.
            y2: The second batch; exactly when the plan was made with one.

        Returns:
            The same structure, each leaf indexed by ``partner``.
        """

        def take(leaf: Any) -> Any:
            if isinstance(leaf, np.ndarray):
                return leaf[self.partner.cpu().numpy()]
            return leaf.index_select(0, self.partner.to(leaf.device))

        tree_map(lambda leaf: _refuse_length(leaf, len(self)), y)
        return tree_map(take, self._second(y, y2, "y2"))

    def stats(self, x: Any, y: Any = None, x2: Any = None, y2: Any = None) -> MixStats:
        """Distances and label agreement of the pairs of this plan.

        Args:
            x: The unmixed batch (or the features that were matched): a tensor, an array or a pytree, batch first.
            y: Labels, class indices ``[B]`` or soft targets ``[B, C]``; optional.
            x2: The second batch; exactly when the plan was made with one.
            y2: Its labels.

        Returns:
            The statistics, as plain numbers.
        """

        def mean_sq_distance(pairing: MixPlan) -> float:
            gaps = tree_map(lambda a, b: _rows(a) - _rows(b), x, pairing.partner_of(x, x2))
            return float(sum(gap.square().sum(1).mean() for gap in tree_leaves(gaps)))

        same_class = None
        if y is not None:
            mine, theirs = tensor_of(y), tensor_of(self.partner_of(y, y2))
            if mine.is_floating_point() and mine.ndim > 1:
                mine, theirs = mine.argmax(1), theirs.argmax(1)
            same_class = float((mine == theirs).double().mean())
        own_index = torch.arange(len(self), device=self.partner.device)
        return MixStats(
            matched_sq_distance=mean_sq_distance(self),
            unmatched_sq_distance=mean_sq_distance(replace(self, partner=self.unmatched)),
            self_share=0.0 if self.from_second else float((self.partner == own_index).double().mean()),
            same_class_share=same_class,
        )

    def _second(self, x: Any, x2: Any, name: str) -> Any:
        if self.from_second and x2 is None:
            raise ValueError(
                f"{name} is required: this plan pairs with a second batch. Pass the batch it was made with."
            )
        if not self.from_second and x2 is not None:
            raise ValueError(f"{name} was given, but this plan pairs within one batch. Make it with mixer.plan(x, x2).")
        return x2 if self.from_second else x

    def _mix_leaf(self, own: Any, other: Any) -> Any:
        if isinstance(own, np.ndarray):
            return self._mix_leaf(tensor_of(own), tensor_of(other)).numpy()
        _refuse_length(own, len(self))
        if not own.is_floating_point():
            raise TypeError(
                f"only floating-point tensors can be mixed, got {own.dtype} of shape {list(own.shape)}. "
                "Scale images to float first; give class labels as one-hot, or use plan.loss with class indices."
            )
        if own.dtype.itemsize < 4:  # half precision would round lam to three digits: mix in float32, round once
            return self._mix_leaf(own.float(), other.float()).to(own.dtype)
        partners = other.index_select(0, self.partner.to(own.device))
        return _interpolate(own, partners, _weights(self.lam.to(own), own.ndim))


def _interpolate(own: Tensor, other: Tensor, lam: Tensor) -> Tensor:
    """``lam * own + (1 - lam) * other``, into ``other`` where it can be; a partner of weight 0 contributes nothing."""
    mixed = torch.lerp(other, own, lam) if other.requires_grad or own.requires_grad else other.lerp_(own, lam)
    alone = lam == 1
    # Where nothing has to be read back from a device, look first: it spares a pass over the data.
    if lam.device.type == "cpu" and not torch.compiler.is_compiling() and not alone.any():
        return mixed
    return torch.where(alone, own, mixed)  # 0 * inf and 0 * NaN are not 0


def _at_least_float32(loss: Tensor) -> Tensor:
    return loss if loss.dtype.itemsize >= 4 else loss.float()


def _weights(lam: Tensor, ndim: int) -> Tensor:
    return lam.view(-1, *(1,) * (ndim - 1)) if lam.ndim else lam


def batch_length(x: Any) -> tuple[int, torch.device]:
    """Number of samples of a structured batch, and where it lives: its first tensor or array with a batch decides.

    Raises:
        TypeError: If there is none.
    """
    for leaf in tree_leaves(x):
        if isinstance(leaf, (Tensor, np.ndarray)) and leaf.ndim:
            return len(leaf), leaf.device if isinstance(leaf, Tensor) else torch.device("cpu")
    raise TypeError("x must hold a tensor or a numpy array, batch first.")


def tensor_of(x: Any) -> Tensor:
    """A tensor as it is, an array as a tensor: on its memory, or on a copy where torch takes no such array."""
    if not isinstance(x, np.ndarray):
        return x
    shareable = x.flags.writeable and all(stride >= 0 for stride in x.strides)  # pandas hands out read-only arrays
    return torch.from_numpy(x if shareable else x.copy())


def _rows(x: Any) -> Tensor:
    x = tensor_of(x)
    return x.reshape(len(x), -1).to(torch.promote_types(x.dtype, torch.float32))


def _refuse_length(leaf: Any, batch: int) -> None:
    if not isinstance(leaf, (Tensor, np.ndarray)):
        raise TypeError(f"every leaf must be a tensor or a numpy array, got {type(leaf).__name__}.")
    if leaf.ndim == 0 or leaf.shape[0] != batch:
        raise ValueError(f"every leaf must have the plan's batch length {batch} first, got shape {list(leaf.shape)}.")
