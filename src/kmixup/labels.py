"""Matching that knows labels: blocks within groups, costs that labels shift, and targets as points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kmixup.arguments import MatchOn
from kmixup.assignment import Solver
from kmixup.cost import Metric, widest_float
from kmixup.matching import match_parts
from kmixup.plan import MixPlan
from kmixup.structure import describe, refuse_length, tensor_of


@dataclass(frozen=True)
class Blocks:
    """A random order of a batch, cut in blocks that meet within their own group: the rest meets nobody.

    Attributes:
        parts: For each size s, the rows of its blocks and of those that they meet: two int64 tensors ``[n, s]``.
        k: Points per block that the group of each row allowed, int64, shape ``[B]``; 0 for a row that meets nobody:
            it is left out, or alone in its group.
        number: Which block a row lies in, int64, shape ``[B]``: a number below B, equal within a block.
    """

    parts: list[tuple[Tensor, Tensor]]
    k: Tensor
    number: Tensor

    def plan(
        self,
        points: Tensor,
        lam: Tensor,
        *,
        metric: Metric,
        solver: Solver,
        y: Tensor | None = None,
        label_weight: float = 0.0,
    ) -> MixPlan:
        r"""Match every block with the one that it meets, at costs that labels shift.

        .. math:: C_{ij} + w\, \bar C\, D(y_i, y_j), \qquad D(y, y') = \frac{2 |y - y'|_1}{|y + y'|_1 + |y - y'|_1}

        with the block's mean cost. D is 1 for different and 0 for equal classes, and one minus the overlap
        (sum of minima over sum of maxima) of soft or multi-label targets.

        Args:
            points: What is matched, floating point, shape ``[B, ...]``. Rows that meet nobody may hold anything.
            lam: Weight of each sample itself, shape ``[]`` or ``[B]``.
            metric: Cost of a pair, C, see `kmixup.cost_matrix`.
            solver: See `kmixup.assign`.
            y: Class indices ``[B]`` or non-negative targets ``[B, C]``; needed for a weight.
            label_weight: w, in units of the block's mean cost.

        Returns:
            The plan.

        Raises:
            ValueError: If rows hold NaN or inf, or labels have no difference.
        """
        device = points.device
        labels = _comparable(y).to(device) if label_weight and y is not None else None

        def shifted(cost: Tensor, left: Tensor, right: Tensor) -> Tensor:
            if labels is None:
                return cost
            cost = cost.to(widest_float(device))  # under a large weight distances are its last digits
            mean = cost.mean((-2, -1), keepdim=True)
            return cost + label_weight * mean * _distance(labels[left], labels[right])

        k = self.k.to(device)
        points = points.reshape(len(points), -1)
        points = torch.where((k == 0).unsqueeze(1), torch.zeros((), dtype=points.dtype, device=device), points)
        parts = [(left.to(device), right.to(device)) for left, right in self.parts]
        with torch.no_grad():  # a metric of the caller's own may hold what has gradients
            matched = match_parts(points, parts, metric=metric, solver=solver, adjust=shifted)
        partner = torch.arange(len(points), device=device)
        unmatched = partner.clone()
        for (left, right), found in zip(parts, matched, strict=True):
            partner[left.flatten()], unmatched[left.flatten()] = found.flatten(), right.flatten()
        return MixPlan(partner, torch.where(k == 0, torch.ones_like(lam), lam) if lam.ndim else lam, unmatched, k=k)


def cut_blocks(order: Tensor, k: int, *, rolled: bool, y: Tensor | None = None, where: Tensor | None = None) -> Blocks:
    """Cut an order in blocks group by group: each class, of the rows that take part, is a batch of its own.

    Args:
        order: A permutation of the batch, int64, shape ``[B]``.
        k: Points per block; a group of n points takes ``min(k, n // 2)``, 1 at least, or ``min(k, n)`` if not rolled.
        rolled: Whether a block meets the one before it (``pairing="roll"``), or rows in place meet rows in the order.
        y: Labels whose classes are the groups: class indices ``[B]``, or one-hot or multi-hot rows ``[B, C]``, smoothed
            or not, of which equal rows are a class. None for one group.
        where: Rows that take part, bool, shape ``[B]``; None for all.

    Returns:
        The blocks, on the host.

    Raises:
        ValueError: If rows are mixtures of classes, or no labels at all.
    """
    order = order.cpu()
    batch = len(order)
    groups = torch.zeros_like(order) if y is None else _classes(y)

    def by_group(rows: Tensor) -> Tensor:
        return rows[groups[rows].argsort(stable=True)]

    rows = by_group(order if where is None else order[where.cpu()[order]])
    _, counts = groups[rows].unique_consecutive(return_counts=True)
    n, start = (each.repeat_interleave(counts) for each in (counts, counts.cumsum(0) - counts))
    place = torch.arange(len(rows), device=order.device) - start
    fits = (n // 2 if rolled else n).clamp(1, k)
    head = place // fits * fits
    size = torch.minimum(fits, n - head)
    left, right = (rows, rows[start + (place - fits) % n]) if rolled else (by_group(rows.sort().values), rows)
    allowed, number = torch.zeros_like(order), torch.arange(batch, device=order.device)
    allowed[left], number[left] = torch.where(n == 1, 0, fits), left[start + head]
    parts = [(left[size == s].view(-1, s), right[size == s].view(-1, s)) for s in size.unique().tolist()]
    return Blocks(parts, allowed, number)


def beside(points: Tensor, y: Any, where: Any, *, by_label: str, second: bool) -> tuple[Tensor | None, Tensor | None]:
    """Labels and mask as tensors that belong to the points, checked.

    Args:
        points: What is matched, shape ``[B, ...]``.
        y: Labels, batch first.
        where: Boolean mask ``[B]``, or None.
        by_label: The arguments that need labels; empty if none does.
        second: Whether partners come from a second batch.

    Returns:
        Labels ``[B, ...]``, None where nothing needs them; the mask ``[B]``, or None.

    Raises:
        TypeError: If labels are neither tensor nor array, or the mask is not boolean.
        ValueError: If labels are needed and missing, lengths differ, or there is a second batch.
    """
    if second and (by_label or where is not None):
        raise ValueError(
            f"{by_label or 'where'} is for one batch, and x2 is another. Leave x2 out, or the argument; conditions of "
            "two batches go into features."
        )
    if where is not None:
        where = tensor_of(where)
        if not isinstance(where, Tensor) or where.dtype != torch.bool:
            raise TypeError(
                f"where must be a boolean mask [B] of the rows to mix, got {describe(where)}. Use where=y != 3, say."
            )
        if list(where.shape) != [len(points)]:
            raise ValueError(f"where must have shape [{len(points)}], one per sample, got {list(where.shape)}.")
        where = where.to(points.device)
    if not by_label:
        return None, where
    if y is None:
        raise ValueError(
            f"y is required: this mixer has {by_label}, which needs labels. Use mixer(x, y) or mixer.plan(x, y=y)."
        )
    y = tensor_of(y)
    if not isinstance(y, Tensor):
        raise TypeError(f"y must be a tensor or a numpy array to match by, got {type(y).__name__}.")
    refuse_length(y, len(points), "y")
    return y.detach(), where


def matched_on(match_on: MatchOn, points: Tensor, y: Tensor | None, where: Tensor | None, metric: Metric) -> Tensor:
    r"""What is matched: the inputs, the targets, or both as one point, each in its own units.

    .. math:: \|p_i - p_j\|^2 = \frac{\|x_i - x_j\|^2}{\overline{\|x - x'\|^2}}
        + \frac{\|y_i - y_j\|^2}{\overline{\|y - y'\|^2}}

    Args:
        match_on: ``"inputs"``, ``"target"`` or ``"both"``. For ``"both"`` means are over all pairs of rows that take
            part; what does not vary is at distance 0.
        points: The inputs, shape ``[B, ...]``.
        y: Regression or soft targets, floating point, shape ``[B, ...]``.
        where: Rows that take part; None for all.
        metric: Of the mixer.

    Returns:
        Points, shape ``[B, ...]``; both are in the wider of the two precisions, float32 at least.

    Raises:
        TypeError: If targets are no floating-point numbers.
        ValueError: If the metric does not add up over columns.
    """
    if match_on == "inputs" or y is None:
        return points
    if not y.is_floating_point():
        raise TypeError(
            f"match_on={match_on!r} needs floating-point targets, whose distance says how far two samples are apart, "
            f'got {describe(y)}. For classes use within="label" or label_weight, or give soft targets [B, C].'
        )
    y = y.to(points.device)
    if match_on == "target":
        return y
    if metric not in ("sqeuclidean", "euclidean"):
        raise ValueError(
            f'match_on="both" adds squared distances and needs the metric sqeuclidean or euclidean, got {metric!r}. '
            "Or give features that hold the targets."
        )
    dtype = torch.promote_types(torch.promote_types(points.dtype, y.dtype), torch.float32)
    return torch.cat([_in_own_units(each, where).to(dtype) for each in (points, y)], 1)


def _classes(y: Tensor) -> Tensor:
    """Which class each row belongs to, int64 ``[B]``, on the host."""
    y = _labels(y, 'within="label"').cpu()
    if y.ndim == 1:
        return y
    if len(y.unique()) > 2:
        raise ValueError(
            'within="label" needs classes: class indices [B], or one-hot or multi-hot rows with two different numbers '
            f"in all, got {len(y.unique())}. For mixed or weighted targets use label_weight, which takes their overlap."
        )
    return y.unique(dim=0, return_inverse=True)[1]


def _comparable(y: Tensor) -> Tensor:
    """Labels whose difference is a cost: int64 ``[B]``, or floating point ``[B, C]``, which is looked at on the CPU."""
    y = _labels(y, "label_weight")
    if y.ndim == 2 and y.device.type == "cpu" and not bool(((y >= 0) & torch.isfinite(y)).all()):
        raise ValueError(
            "label_weight needs class indices, or soft or multi-label targets that are finite and not negative. "
            'For regression targets use match_on="target" or "both".'
        )
    return y


def _labels(y: Tensor, name: str) -> Tensor:
    """Class indices ``[B]``, or rows ``[B, C]`` as floating point."""
    if y.ndim == 2 and y.shape[1] > 1 and (y.is_floating_point() or y.dtype == torch.bool):
        return y if y.is_floating_point() else y.float()
    if y.is_floating_point() or y.is_complex() or y.ndim == 0 or y.numel() != len(y):
        raise ValueError(
            f"{name} needs class indices [B] or rows [B, C] in floating point, got {describe(y)}. For regression "
            'targets use match_on="target" or "both".'
        )
    return y.reshape(-1).long()


def _in_own_units(points: Tensor, where: Tensor | None) -> Tensor:
    """Points ``[B, d]`` over their root mean squared pairwise distance: twice that from the mean, all pairs counted."""
    points = points.reshape(len(points), -1)
    points = points.float() if points.dtype.itemsize < 4 else points
    taking = points if where is None else torch.where(where.unsqueeze(1), points, 0.0)
    n = len(points) if where is None else where.sum()
    # A row that is not finite spoils itself alone here, so that the matching can name it.
    centred = points - torch.nan_to_num(taking.sum(0) / n, 0.0, 0.0, 0.0)
    counted = centred if where is None else torch.where(where.unsqueeze(1), centred, 0.0)
    widest = widest_float(points.device)
    scale = (2 * torch.linalg.vector_norm(counted, dtype=widest).square() / n).sqrt()
    return centred / torch.where(torch.isfinite(scale) & (scale > 0), scale, 1.0)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """How different the labels of two blocks are, in [0, 1]: ``[n, s]`` or ``[n, s, C]`` to ``[n, s, s]``."""
    if a.ndim == 2:
        return (a.unsqueeze(2) != b.unsqueeze(1)).float()
    a, b = a.to(widest_float(a.device)), b.to(widest_float(b.device))
    apart = torch.cdist(a, b, p=1.0)
    both = a.sum(-1).unsqueeze(2) + b.sum(-1).unsqueeze(1)
    return 2 * apart / (both + apart).clamp(min=torch.finfo(a.dtype).tiny)
