"""The arguments of a mixer: one check for each, at construction and whenever it is assigned to."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable
from functools import partial
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np
import torch

from kmixup.assignment import check_solver
from kmixup.cost import METRICS
from kmixup.lam import checked_alpha
from kmixup.roles import check_leaves
from kmixup.streams import Streamed

Pairing = Literal["roll", "shuffle"]
LamPer = Literal["batch", "block", "sample"]
MatchOn = Literal["inputs", "target", "both"]


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < 1:
        raise ValueError(f"{name} must be >= 1, got {value}." + (" k=1 is mixup." if name == "k" else ""))
    return int(value)


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> Any:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")
    return value


def _function_or_none(name: str, value: Any) -> Any:
    if value is not None and not callable(value):
        raise TypeError(
            f"{name} must be a function of the inputs, got {type(value).__name__}."
            + (" To match on a tensor you already have: plan = mixer.plan(points); plan.mix(x)." * (name == "features"))
        )
    return value


def _metric(metric: Any) -> Any:
    if not callable(metric) and metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)} or a function of (x, y), got {metric!r}.")
    return metric


def _probability(p: Any) -> float:
    if isinstance(p, bool) or not isinstance(p, Real) or not 0 <= float(p) <= 1:
        raise ValueError(f"p must be a probability in [0, 1], got {p!r}.")
    return float(p)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}.")
    return float(value)


def _within(within: Any) -> Any:
    if within not in (None, "label"):
        raise ValueError(f'within must be None or "label", got {within!r}. Other groups: mixer(x, y, where=mask).')
    return within


def _solver(solver: Any) -> Any:
    check_solver(solver)
    return solver


def _generator(generator: Any) -> Any:
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator must be a torch.Generator, got {type(generator).__name__}. "
            "Use torch.Generator().manual_seed(seed)."
        )
    return generator


CHECKS: dict[str, Callable[[Any], Any]] = {
    "k": partial(_count, "k"),
    "alpha": checked_alpha,
    "metric": _metric,
    "pairing": partial(_choice, "pairing", choices=get_args(Pairing)),
    "lam_per": partial(_choice, "lam_per", choices=get_args(LamPer)),
    "num_classes": lambda value: None if value is None else _count("num_classes", value),
    "p": _probability,
    "generator": _generator,
    "features": partial(_function_or_none, "features"),
    "labels_getter": partial(_function_or_none, "labels_getter"),
    "leaves": check_leaves,
    "within": _within,
    "label_weight": partial(_number, "label_weight"),
    "match_on": partial(_choice, "match_on", choices=get_args(MatchOn)),
    "solver": _solver,
}


class Checked(Streamed):
    """A module whose arguments are attributes, checked whenever they are assigned to.

    A network among them (``features``, a metric) is not registered: its weights are not ours to save, move or train.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        check = CHECKS.get(name)
        if check is None:
            super().__setattr__(name, value)
        else:
            object.__setattr__(self, name, check(value))


def warn_small(batch: int, k: int, largest: int) -> None:
    """Say that a batch is too small for k, in the first DataLoader worker alone."""
    worker = torch.utils.data.get_worker_info()
    if worker is None or worker.id == 0:
        warnings.warn(
            f"a batch of {batch} is too small for k={k}: using k={largest} here. Use larger batches or drop_last=True.",
            stacklevel=callers_level(),
        )


def callers_level() -> int:
    """The stacklevel at which a warning of the calling function names the line outside kmixup and torch."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("kmixup", "torch"):
        frame, level = frame.f_back, level + 1
    return level
