"""CutMix of the pairs of a plan: the partner's box is pasted, and lam is the area that is left."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kmixup.lam import drawn_on
from kmixup.plan import MixPlan
from kmixup.streams import process_stream
from kmixup.structure import is_data, tensor_of, tv_kind


@dataclass(frozen=True, eq=False, repr=False)
class CutPlan(MixPlan):
    r"""A plan that pastes a box of the partner instead of averaging with it; everything else is `kmixup.MixPlan`'s.

    .. math:: \tilde x_i = (1 - M_i) \odot x_i + M_i \odot x_{\text{partner}(i)}, \qquad
        \lambda_i = 1 - \frac{|M_i|}{H W}

    `mix` pastes in what has the boxes' height and width last, ``[B, ..., H, W]`` of any dtype (images, 8-bit images,
    maps of classes), and weights targets ``[B]`` and ``[B, C]`` with lam. Losses and accuracies use that lam.

    Attributes:
        boxes: Top, left, bottom and right of what is pasted, in pixels, the last two exclusive; int64, shape ``[4]``
            (one for the batch) or ``[b, 4]``, as lam is ``[]`` or ``[b]``.
        size: Height and width of the images, (H, W).
    """

    boxes: Tensor = field(kw_only=True)
    size: tuple[int, int] = field(kw_only=True)

    def __getitem__(self, rows: slice) -> CutPlan:
        """The part of the plan for consecutive samples, see `kmixup.MixPlan`."""
        part = super().__getitem__(rows)
        return replace(part, boxes=self.boxes[rows]) if self.boxes.ndim == 2 else part  # pyright: ignore[reportReturnType]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> CutPlan:
        """The same plan on another device."""
        moved = super().to(device, non_blocking)
        return replace(moved, boxes=self.boxes.to(device, non_blocking=non_blocking))  # pyright: ignore[reportReturnType]

    def pasted(self) -> Tensor:
        """Where the partner's pixels are, M: bool, shape ``[H, W]`` or ``[b, H, W]``."""
        row, column = (torch.arange(n, device=self.boxes.device) for n in self.size)
        top, left, bottom, right = self.boxes[..., None, None].unbind(-3)
        return (row[:, None] >= top) & (row[:, None] < bottom) & (column >= left) & (column < right)

    def mix_leaf(self, path: str, own: Any, other: Any) -> Any:
        """One leaf of `mix`: images are pasted, targets weighted.

        Raises:
            ValueError: If a leaf of three dimensions or more does not end in the boxes' height and width.
        """
        if not is_data(own) or own.ndim < 3:
            return super().mix_leaf(path, own, other)
        if tuple(own.shape[-2:]) != self.size:
            at = f" at {path!r}" if path else ""
            raise ValueError(
                f"the boxes are for images [..., {self.size[0]}, {self.size[1]}], got {list(own.shape)}{at}. "
                "Cut with the size of the images, cut(plan, x.shape[-2:]); targets are [B] or [B, C]."
            )
        theirs = self.partner_of(own, other if self.from_second else None)
        if isinstance(own, np.ndarray):
            return self._paste(tensor_of(self.own(own)), tensor_of(theirs)).numpy()
        if tv_kind(own):
            plain = self._paste(self.own(own).as_subclass(Tensor), theirs.as_subclass(Tensor))
            return plain.as_subclass(type(own))
        return self._paste(self.own(own), theirs)

    def _paste(self, own: Tensor, theirs: Tensor) -> Tensor:
        inside = self.pasted().to(own.device)
        if inside.ndim == 3:
            inside = inside.view(-1, *(1,) * (own.ndim - 3), *self.size)
        pasted = torch.where(inside, theirs, own)
        form = torch.channels_last if own.ndim == 4 else torch.channels_last_3d
        if own.ndim in (4, 5) and not own.is_contiguous() and own.is_contiguous(memory_format=form):
            return pasted.contiguous(memory_format=form)
        return pasted


def cut(
    plan: MixPlan, size: tuple[int, int], *, generator: torch.Generator | None = None, per_process: bool = True
) -> CutPlan:
    r"""CutMix with the partners of a plan: a random box for each lam, clipped at the border, and lam corrected to it.

    .. math:: h = \lfloor H \sqrt{1 - \lambda} \rfloor, \quad w = \lfloor W \sqrt{1 - \lambda} \rfloor, \quad
        \text{centre uniform over the pixels}

    Example::

        plan = cut(mixer.plan(x), x.shape[-2:])
        loss = plan.loss(F.cross_entropy, model(plan.mix(x)), y)

    With ``KMixup(k=1)`` this is CutMix; with larger k the box comes from the partner that k-mixup matches. As in the
    released code of CutMix half the box lies on either side of its centre, half rounded down.

    Args:
        plan: Partners, and the lam that the boxes are drawn for: one box for the batch, or one for each sample, as
            ``lam_per`` says.
        size: Height and width of the images, ``x.shape[-2:]``.
        generator: Source of the centres; default: torch's global generator.
        per_process: False to draw the same centres on every rank, as for `kmixup.KMixup`.

    Returns:
        The plan.

    Raises:
        ValueError: If ``size`` is not two positive numbers.

    References:
        Yun et al. (2019), *CutMix: Regularization strategy to train strong classifiers with localizable features*,
        arXiv:1905.04899, Algorithm 1.
    """
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size must be the height and width of the images, got {tuple(size)}. Use x.shape[-2:].")
    height, width = (int(n) for n in size)
    generator = process_stream(generator, per_process=per_process)
    shape, on, device = (*plan.lam.shape, 2), drawn_on(generator), plan.lam.device
    uniform = torch.rand(shape, generator=generator, device=on, dtype=torch.float32).to(device, non_blocking=True)
    sides = torch.tensor([height, width], device=device)
    # A draw of float32 times the length may round up to the length itself.
    centre = torch.minimum((uniform * sides).long(), sides - 1)
    half = (sides * (1 - plan.lam.unsqueeze(-1)).sqrt()).long() // 2
    low, high = (centre - half).clamp(min=0), torch.minimum(centre + half, sides)
    lam = 1 - (high - low).prod(-1).to(plan.lam.dtype) / (height * width)
    drawn = {each.name: getattr(plan, each.name) for each in fields(MixPlan)}
    return CutPlan(**{**drawn, "lam": lam}, boxes=torch.cat([low, high], -1), size=(height, width))
