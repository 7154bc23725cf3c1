"""Structured batches: what is matched, what is mixed, what follows the partner, what is kept, what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kmixup.plan import MixPlan
from kmixup.structure import (
    DROP,
    describe,
    is_data,
    is_mixable,
    map_leaves,
    named_leaves,
    refuse_layout,
    refuse_length,
    tensor_of,
    tv_kind,
)

Role = Literal["mix", "union", "intersection", "max", "own", "drop"]

ROLES = ("mix", "union", "intersection", "max", "own", "drop")

_LABELS = ("label", "labels", "target", "targets", "y")

# Names that leave no doubt. A padding mask does: in some libraries it is true at the padding.
_MASK = re.compile(r"(input_|encoder_|pixel_|feature_|audio_)?attention_mask|pixel_mask")
_LENGTH = re.compile(r"(input_|audio_|seq_|sequence_)?lengths?")
# Floating point or not, these cannot be averaged.
_ANNOTATION = re.compile(r"(.*_)?(masks?|boxes|bbox(es)?|key_?points|segmentations?|segmentation_maps?)")


def check_leaves(leaves: Mapping[str, Role] | None) -> dict[str, Role]:
    """The rules of a mixer, checked.

    Raises:
        TypeError: If it is not a mapping.
        ValueError: If a rule is unknown.
    """
    if leaves is not None and not isinstance(leaves, Mapping):
        raise TypeError(f'leaves must map names to rules, such as {{"attention_mask": "union"}}, got {leaves!r}.')
    for name, role in (leaves or {}).items():
        if role not in ROLES:
            raise ValueError(f"leaves[{name!r}] must be one of {', '.join(ROLES)}, got {role!r}.")
    return dict(leaves or {})


def points_of(
    x: Any,
    features: Callable[[Any], Any] | None,
    leaves: Mapping[str, Role] = MappingProxyType({}),
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
    elif isinstance(x, Tensor):
        found, candidates = x, [("", x)] if is_mixable(x) else []
    else:
        found, named = x, [(path, leaf) for path, leaf in named_leaves(x) if path != labels]
        candidates = [(path, leaf) for path, leaf in named if _role(path, leaf, leaves) == "mix"]
    if len(candidates) != 1:
        seen = ", ".join(f"{path} {describe(leaf)}".strip() for path, leaf in candidates or named_leaves(found)[:4])
        if candidates:
            raise ValueError(
                f"{source} must hold one floating-point tensor to match on, got {len(candidates)} ({seen}). "
                "Choose with KMixup(features=lambda x: ...)."
            )
        if features is None:
            for path, leaf in named_leaves(x):
                if path and path != labels and _role(path, leaf, leaves) is None:
                    _refuse(path, leaf)
        raise TypeError(
            f"{source} must be floating point, got {seen}. Convert it with .float(), images to [0, 1]; inputs are "
            "tensors or arrays, also in dicts and tuples."
        )
    points = tensor_of(candidates[0][1]).detach()
    refuse_layout(points, source)
    if tv_kind(points):
        points = points.as_subclass(Tensor)
    if points.is_complex():
        points = torch.view_as_real(points.resolve_conj())
    if points.ndim == 0 or points.shape[0] == 0:
        raise ValueError(f"{source} must be a batch of at least one sample, got shape {list(points.shape)}.")
    return points


def label_path(sample: Any, getter: Callable[[Any], Any] | None) -> str:
    """Where a sample has its labels.

    Args:
        sample: A structure with names.
        getter: From the sample to its labels, as in torchvision v2, or to their name; None for the usual names.

    Raises:
        ValueError: If there is not exactly one.
    """
    named, wanted = named_leaves(sample), None
    if getter is None:
        found = [path for path, _ in named if _last(path) in _LABELS]
    else:
        wanted = getter(sample)
        found = [path for path, leaf in named if leaf is wanted or (isinstance(wanted, str) and _fits(path, wanted))]
    if len(found) != 1:
        raise ValueError(
            f"the labels must be one of the keys {[path for path, _ in named]}, found {found}. "
            'Use KMixup(labels_getter=lambda sample: sample["..."]).'
        )
    return found[0]


def with_labels(sample: Any, labels: str, soft: Any) -> Any:
    """The sample with its labels replaced."""
    return map_leaves(lambda path, leaf: soft if path == labels else leaf, sample)


def mix_inputs(plan: MixPlan, x: Any, leaves: Mapping[str, Role], *, labels: str | None = None) -> Any:
    """Mix a structured batch, each leaf by its rule.

    Args:
        plan: Who is mixed with whom.
        x: The batch.
        leaves: Rules by name or dotted path, of a leaf or of what holds leaves. Others follow from name and type:
            floating-point and complex leaves are mixed; attention masks are united, lengths take the maximum; integer
            and bool leaves ``[B]``, numbers and strings stay the sample's own.
        labels: Path of the labels, which are left alone.

    Returns:
        The same structure.

    Raises:
        TypeError: If a leaf has no rule, or nothing is mixed.
        ValueError: If a rule names no leaf, or a leaf has another batch length.
    """
    used: set[str] = set()
    mixed: list[str] = []
    batch = plan.whole or len(plan)

    def follow(path: str, leaf: Any) -> Any:
        rule = _rule(path, leaves)
        if rule is not None:
            used.add(rule)
        if path == labels:
            return leaf
        role = _role(path, leaf, leaves)
        if role is None:
            _refuse(path, leaf)
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

    result = map_leaves(follow, x, stop=lambda path: _rule(path, leaves) is not None)
    missing = [name for name in leaves if name not in used]
    if missing:
        raise ValueError(f"leaves names {missing}, and the batch has {[path for path, _ in named_leaves(x)]}.")
    if not mixed:
        raise TypeError(
            f"no input is mixed of {[path for path, _ in named_leaves(x)]}, so that labels must not be either. "
            "Give floating-point inputs: images in [0, 1], embeddings instead of ids."
        )
    return result


def _role(path: str, leaf: Any, leaves: Mapping[str, Role]) -> Role | None:
    """What becomes of a leaf; None if that is in doubt."""
    rule = _rule(path, leaves)
    if rule is not None:
        return leaves[rule]
    if not is_data(leaf) or leaf.ndim == 0:
        return "own"
    name = _last(path).lower()
    if _MASK.fullmatch(name):
        return "union"
    if tv_kind(leaf) not in (None, "Image", "Video") or _ANNOTATION.fullmatch(name):
        return None
    if is_mixable(leaf):
        return "mix"
    number = isinstance(leaf, Tensor) or leaf.dtype.kind in "biu"
    if number and leaf.ndim == 1 and _LENGTH.fullmatch(name):
        return "max"
    return "own" if leaf.ndim == 1 or not number else None


def _refuse(path: str, leaf: Any) -> None:
    what = f"{path!r} holds {tv_kind(leaf) or ''} {describe(leaf)}".replace("  ", " ")
    remedy = f"Say what becomes of it: KMixup(..., leaves={{{path!r}: ...}}), one of {', '.join(ROLES)}"
    if tv_kind(leaf) or _ANNOTATION.fullmatch(_last(path).lower()):
        raise ValueError(
            f"{what}: boxes, points and masks of two images cannot be averaged. {remedy}. To train on those of both, "
            "take the partner's from plan.partner_of, with weights lam and 1 - lam, or use plan.loss."
        )
    if str(leaf.dtype).endswith("uint8") and leaf.ndim > 2:
        raise TypeError(f"{what}: 8-bit images are not mixed. Convert images to float first, in [0, 1]. {remedy}.")
    raise TypeError(
        f"{what}: maps of classes, category columns and token ids cannot be averaged. {remedy}. plan.loss takes "
        "maps of classes as labels; ids can be mixed after their embedding (KManifoldMixup)."
    )


def _rule(path: str, leaves: Mapping[str, Role]) -> str | None:
    """The rule for what has this path, or for what it lies in."""
    while path:
        for name in leaves:
            if _fits(path, name):
                return name
        path = path.rpartition(".")[0]
    return None


def _fits(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")


def _last(path: str) -> str:
    return path.rpartition(".")[2]


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
