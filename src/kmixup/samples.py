"""Structured batches: what is matched, what is mixed, what follows the partner, what is kept, what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kmixup.plan import MixPlan
from kmixup.roles import NO_RULES, Role, mixed_leaves, refuse_doubt, refuse_role, role_of, rule_of, rules_of
from kmixup.structure import (
    DROP,
    as_real,
    describe,
    is_mixable,
    map_leaves,
    named_leaves,
    refuse_layout,
    refuse_length,
    tensor_of,
    tv_kind,
)


def points_of(
    x: Any,
    features: Callable[[Any], Any] | None,
    leaves: Mapping[str, Role] = NO_RULES,
    *,
    name: str = "x",
    labels: str | None = None,
) -> Tensor:
    """The tensor that is matched, detached: gradients never flow through the matching.

    Args:
        x: Inputs, a tensor, an array or a structure of them, batch first.
        features: From the inputs to what is matched; None for the inputs themselves. A network in train mode is
            called in eval mode, so that no statistics move and no dropout decides the matching.
        leaves: Rules of the mixer.
        name: What the inputs are called in messages.
        labels: Path of the labels, which are not matched.

    Returns:
        Points, floating point, shape ``[B, ...]``.

    Raises:
        TypeError: If nothing is floating point or complex, or the batch is a list.
        ValueError: If there are several candidates, or no samples.
    """
    source = name
    if isinstance(x, list):
        raise TypeError(
            f"{name} must not be a list: stack its samples into one tensor (torch.stack), padded if their sizes "
            "differ. Several inputs go in a tuple or a dict."
        )
    if features is not None:
        source = f"features({name})"
        found = _features(features, x)
        candidates = [(path, leaf) for path, leaf in named_leaves(found) if is_mixable(leaf)]
    else:
        found, candidates = x, list(mixed_leaves(x, leaves, labels=labels).items())
    if len(candidates) != 1:
        seen = ", ".join(f"{path} {describe(leaf)}".strip() for path, leaf in candidates or named_leaves(found)[:4])
        if candidates:
            raise ValueError(
                f"{source} must hold one floating-point tensor to match on, got {len(candidates)} ({seen}). "
                "Choose with KMixup(features=lambda x: ...)."
            )
        if features is None:
            refuse_doubt(x, leaves, labels=labels)
        raise TypeError(
            f"{source} must be floating point, got {seen}. Convert it with .float(), images to [0, 1]; inputs are "
            "tensors or arrays, also in dicts and tuples."
        )
    points = tensor_of(candidates[0][1]).detach()
    refuse_layout(points, source)
    if tv_kind(points):
        points = points.as_subclass(Tensor)
    points = as_real(points)
    if points.ndim == 0 or points.shape[0] == 0:
        raise ValueError(f"{source} must be a batch of at least one sample, got shape {list(points.shape)}.")
    return points


def with_labels(sample: Any, labels: str, soft: Any) -> Any:
    """The sample with its labels replaced."""
    return map_leaves(lambda path, leaf: soft if path == labels else leaf, sample)


def mix_inputs(plan: MixPlan, x: Any, leaves: Mapping[str, Role], *, labels: str | None = None) -> Any:
    """Mix a structured batch, each leaf by its rule.

    Args:
        plan: Who is mixed with whom.
        x: The batch.
        leaves: Rules by name or dotted path, of a leaf or of what holds leaves; the nearest counts, and of these the
            longest. Others follow from name and type: floating-point and complex leaves are mixed; attention masks are
            united, lengths take the maximum; integer and bool leaves ``[B]``, numbers and strings stay the sample's
            own.
        labels: Path of the labels, which are left alone.

    Returns:
        The same structure.

    Raises:
        TypeError: If a leaf has no rule, or nothing is mixed.
        ValueError: If a rule names no leaf, or a leaf has another batch length.
    """
    used: set[str] = set()
    mixed: list[str] = []
    batch, paths = plan.whole or len(plan), [path for path, _ in named_leaves(x)]

    def of_one_rule(path: str) -> bool:
        rule = rule_of(path, leaves)
        return rule is not None and all(rule_of(each, leaves) == rule for each in paths if each.startswith(f"{path}."))

    def follow(path: str, leaf: Any) -> Any:
        used.update(rules_of(path, leaves))
        if path == labels:
            return leaf
        role = role_of(path, leaf, leaves)
        if role is None:
            refuse_role(path, leaf)
        if role == "own":
            return plan.own(leaf)
        if role == "drop":
            return DROP
        for below, part in named_leaves(leaf):
            refuse_length(part, batch, f"{path}.{below}" if below else path)
        if role == "mix":
            mixed.append(path)
            return plan.mix(leaf)
        return plan.combine(leaf, str(role))

    result = map_leaves(follow, x, stop=of_one_rule)
    missing = [name for name in leaves if name not in used]
    if missing:
        raise ValueError(f"leaves names {missing}, and the batch has {paths}.")
    if not mixed:
        raise TypeError(
            f"no input is mixed of {paths}, so that labels must not be either. "
            "Give floating-point inputs: images in [0, 1], embeddings instead of ids."
        )
    return result


def _features(features: Callable[[Any], Any], x: Any) -> Any:
    network = features if isinstance(features, nn.Module) else getattr(features, "__self__", None)
    training = [part for part in network.modules() if part.training] if isinstance(network, nn.Module) else []
    for part in training:
        part.training = False  # not network.eval(): a part may refuse it, or was in eval mode already
    try:
        with torch.no_grad():
            return features(x)
    finally:
        for part in training:
            part.training = True
