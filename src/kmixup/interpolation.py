"""lam applied: to samples, to losses, to counts. What has weight 0 contributes nothing, not even NaN or infinity."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kmixup.native import readable
from kmixup.structure import per_row, tensor_of, tv_kind


def mix_rows(own: Any, other: Any, partner: Tensor, lam: Tensor) -> Any:
    r"""Each sample with its partner, in the dtype, memory format and type of image that came; numpy stays numpy.

    Args:
        own: The samples, floating point or complex, shape ``[b, ...]``.
        other: Where partners come from, shape ``[B, ...]``.
        partner: Index into ``other``, int64, shape ``[b]``.
        lam: Weight of the sample itself, shape ``[]`` or ``[b]``.

    Returns:
        :math:`\lambda_i x_i + (1 - \lambda_i)\, x_{\text{partner}(i)}`, shape ``[b, ...]``.
    """
    if isinstance(own, np.ndarray):
        return mix_rows(tensor_of(own), tensor_of(other), partner, lam).numpy()
    if tv_kind(own):
        plain = mix_rows(own.as_subclass(Tensor), other.as_subclass(Tensor), partner, lam)
        return plain.as_subclass(type(own))
    if own.ndim in (4, 5) and not own.is_contiguous():
        form = torch.channels_last if own.ndim == 4 else torch.channels_last_3d
        if own.is_contiguous(memory_format=form):  # index_select would give it up: select where channels are last
            own, other = own.movedim(1, -1), other.movedim(1, -1)
            return mix_rows(own, other, partner, lam).movedim(-1, 1)
    if own.is_complex():
        own, other = (torch.view_as_real(x.resolve_conj()) for x in (own, other))
        return torch.view_as_complex(mix_rows(own, other, partner, lam))
    if own.dtype.itemsize < 4:  # half precision would round lam to three digits: mix in float32, round once
        return mix_rows(own.float(), other.float(), partner, lam).to(own.dtype)
    return interpolate(own, other.index_select(0, partner.to(own.device)), lam, overwrite=True)


def interpolate(own: Tensor, other: Tensor, lam: Tensor, *, overwrite: bool = False) -> Tensor:
    """``lam * own + (1 - lam) * other``.

    Args:
        own: Floating point, float32 at least, shape ``[b, ...]`` (or ``[]`` with one lam).
        other: Same shape, dtype and device.
        lam: Weight of ``own``, shape ``[]`` or ``[b]``; rounded to the dtype of ``own`` first.
        overwrite: Whether the result may take the memory of ``other``.

    Returns:
        The interpolation; where the weight of one of the two is 0, the other itself.
    """
    lam = lam.to(own.dtype)
    weight = per_row(lam.to(own.device), own.ndim)
    # Where nothing has to be read back from a device, look first: it spares passes over the data.
    look = lam.device.type == "cpu" and not lam.requires_grad and readable(lam)
    if look and lam.ndim == 0 and float(lam) in (0.0, 1.0):
        return own.clone() if lam else other
    if not look or (lam.ndim and bool(((lam == 0) | (lam == 1)).any())):
        mixed = torch.lerp(other, own, weight)
        return torch.where(weight == 1, own, torch.where(weight == 0, other, mixed))  # 0 * inf and 0 * NaN are not 0
    overwrite &= not (own.requires_grad or other.requires_grad)
    return other.lerp_(own, weight) if overwrite else torch.lerp(other, own, weight)
