"""A draw inside a compiled graph: one opaque op, for it is random, decided by the data and solved on the host.

The op finds what draws by number: it can take neither a module nor a metric function. What it reads there, it reads
when it runs; the shapes depend on its own arguments alone.
"""

from __future__ import annotations

import weakref
from itertools import count
from typing import Protocol

import torch
from torch import Tensor

from kmixup.cost import widest_float
from kmixup.plan import MixPlan


class Planner(Protocol):
    """What draws a plan."""

    def drawn(self, points: Tensor, other: Tensor | None, y: Tensor | None, where: Tensor | None) -> MixPlan:
        """A plan for points ``[B, ...]``: from ``other`` if there is one, by labels, among the rows to mix."""
        ...


_planners: weakref.WeakValueDictionary[int, Planner] = weakref.WeakValueDictionary()
_numbers = count()


def register(planner: Planner) -> int:
    """A number by which the op ``kmixup::plan`` finds the planner while it lives."""
    number = next(_numbers)
    _planners[number] = planner
    return number


torch.library.define(
    "kmixup::plan",
    "(Tensor points, Tensor? other, Tensor? y, Tensor? where, int planner, bool per_sample, bool by_group) -> "
    "(Tensor, Tensor, Tensor, Tensor)",
    tags=(torch.Tag.nondeterministic_seeded,),  # two calls with equal inputs are two draws
)

_Tensors = tuple[Tensor, Tensor, Tensor, Tensor]


@torch.library.impl("kmixup::plan", "default")
def _plan(
    points: Tensor,
    other: Tensor | None,
    y: Tensor | None,
    where: Tensor | None,
    planner: int,
    per_sample: bool,
    by_group: bool,
) -> _Tensors:
    plan = _planners[planner].drawn(points, other, y, where)
    unmatched = plan.unmatched.clone() if plan.unmatched is plan.partner else plan.unmatched
    k = plan.k if plan.k is not None else torch.zeros_like(plan.partner)
    return plan.partner, plan.lam, unmatched, k if by_group else k.new_empty(0)


@torch.library.register_fake("kmixup::plan")
def _(
    points: Tensor,
    other: Tensor | None,
    y: Tensor | None,
    where: Tensor | None,
    planner: int,
    per_sample: bool,
    by_group: bool,
) -> _Tensors:
    batch = points.shape[0]
    lam = points.new_empty((batch,) if per_sample else (), dtype=widest_float(points.device))
    rows = [points.new_empty(n, dtype=torch.int64) for n in (batch, batch, batch if by_group else 0)]
    return rows[0], lam, rows[1], rows[2]


def planned(
    planner: int, points: Tensor, other: Tensor | None, y: Tensor | None, where: Tensor | None, *, per_sample: bool
) -> MixPlan:
    """The plan of a planner, drawn when the graph runs.

    Args:
        planner: Its number, see `register`.
        points: What is matched, ``[B, ...]``.
        other: A second batch, or None.
        y: Labels to match by, or None.
        where: Rows to mix, or None.
        per_sample: Whether lam is ``[B]``.
    """
    by_group = y is not None or where is not None
    partner, lam, unmatched, k = torch.ops.kmixup.plan(points, other, y, where, planner, per_sample, by_group)
    return MixPlan(partner, lam, unmatched, other is not None, k=k if by_group else None)
