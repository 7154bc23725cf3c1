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

    def drawn(self, points: Tensor, other: Tensor | None) -> MixPlan:
        """A plan for points ``[B, ...]``, with partners from ``other`` if there is one."""
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
    "(Tensor points, Tensor? other, int planner, bool per_sample) -> (Tensor, Tensor, Tensor)",
    tags=(torch.Tag.nondeterministic_seeded,),  # two calls with equal inputs are two draws
)


@torch.library.impl("kmixup::plan", "default")
def _plan(points: Tensor, other: Tensor | None, planner: int, per_sample: bool) -> tuple[Tensor, Tensor, Tensor]:
    plan = _planners[planner].drawn(points, other)
    unmatched = plan.unmatched.clone() if plan.unmatched is plan.partner else plan.unmatched
    return plan.partner, plan.lam, unmatched


@torch.library.register_fake("kmixup::plan")
def _(points: Tensor, other: Tensor | None, planner: int, per_sample: bool) -> tuple[Tensor, Tensor, Tensor]:
    batch = points.shape[0]
    lam = points.new_empty((batch,) if per_sample else (), dtype=widest_float(points.device))
    return points.new_empty(batch, dtype=torch.int64), lam, points.new_empty(batch, dtype=torch.int64)
