"""The two-target form: what a batch has under its own labels and under its partners', as one mean."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kmixup.interpolation import interpolate
from kmixup.structure import describe, is_mixable, map_leaves, named_leaves
from kmixup.targets import labelled


def checked_losses(losses: Any) -> Any:
    """Losses in float32 at least, in the structure in which a loss function returned them.

    Raises:
        TypeError: If something there is no floating-point tensor.
    """

    def leaf(path: str, loss: Any) -> Tensor:
        if not isinstance(loss, Tensor) or not loss.is_floating_point():
            at = f" at {path!r}" if path else ""
            raise TypeError(
                f"loss_fn must return a floating-point tensor or a structure of them, got {describe(loss)}{at}. "
                "Return the losses alone, and log inside."
            )
        return loss if loss.dtype.itemsize >= 4 else loss.float()

    return map_leaves(leaf, losses)


def mixed_loss(
    own: Any, theirs: Any, lam: Tensor, weights: Tensor, labels: tuple[Any, Any], ignore_index: int | None, batch: int
) -> Any:
    """One loss of two: under the own labels and under the partners'.

    Args:
        own: Losses under the own labels: one number, or one per sample ``[b, ...]``, or a structure of them.
        theirs: Losses under the partners' labels, in the same structure.
        lam: Weight of the own label, shape ``[]`` or ``[b]``.
        weights: The same where a loss has a row per sample, ``[]`` or ``[b]``: 1 for what is not mixed.
        labels: The own and the partners' labels that the losses belong to.
        ignore_index: Class index of what has no label; used where labels have the shape of the loss.
        batch: Number of samples, b.

    Returns:
        Scalars, in the structure of the losses.

    Raises:
        ValueError: If lam varies over the batch and a loss is one number, or has another length.
    """
    mine, partners = (dict(named_leaves(each)) for each in labels)

    def counted(path: str, shape: torch.Size) -> tuple[Tensor, Tensor] | None:
        at = path if path in mine else ""  # losses by task beside labels by task, or labels for all
        y = mine.get(at)
        if ignore_index is None or not isinstance(y, Tensor) or y.shape != shape or is_mixable(y):
            return None
        return labelled(y, ignore_index), labelled(partners[at], ignore_index)

    def leaf(path: str, own: Tensor, theirs: Tensor) -> Tensor:
        if own.ndim == 0:
            if lam.ndim:
                raise ValueError(
                    "loss_fn must return one loss per sample when lam differs between samples, got one number. "
                    'Use reduction="none", or KMixup(lam_per="batch").'
                )
            return interpolate(own, theirs, lam)
        if len(own) != batch:
            raise ValueError(f"loss_fn must return one loss for each of {batch} samples, got {list(own.shape)}.")
        return weighted_mean(own, theirs, weights, counted(path, own.shape))

    return map_leaves(leaf, own, theirs)


def weighted_mean(own: Tensor, theirs: Tensor, lam: Tensor, counted: tuple[Tensor, Tensor] | None = None) -> Tensor:
    r"""Mean over a batch of what each sample has under its own label and under its partner's.

    .. math:: \frac{\sum_i \lambda_i\, m_i\, a_i + (1 - \lambda_i)\, n_i\, b_i}
                   {\sum_i \lambda_i\, m_i + (1 - \lambda_i)\, n_i}

    Args:
        own: Values under the own labels, a, shape ``[b, ...]``.
        theirs: Values under the partners' labels, b, same shape.
        lam: Weight of the own label, shape ``[]`` or ``[b]``.
        counted: Which of each count, m and n, bool, of that shape; None for all.

    Returns:
        The mean, a scalar; NaN if nothing counts.
    """
    if counted is None:
        return interpolate(own, theirs, lam).mean()
    own, theirs = (values.masked_fill(~counts, 0.0) for values, counts in zip((own, theirs), counted, strict=True))
    share = interpolate(counted[0].to(own.dtype), counted[1].to(own.dtype), lam)
    return interpolate(own, theirs, lam).sum() / share.sum()
