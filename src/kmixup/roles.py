"""What each leaf of a batch is, by its name and its type: mixed, united, kept, labels, or in doubt."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

from torch import Tensor

from kmixup.structure import describe, is_data, is_mixable, named_leaves, tv_kind

Role = Literal["mix", "union", "intersection", "max", "own", "drop"]

ROLES = ("mix", "union", "intersection", "max", "own", "drop")

NO_RULES: Mapping[str, Role] = MappingProxyType({})
"""Of a mixer without ``leaves``."""

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


def role_of(path: str, leaf: Any, leaves: Mapping[str, Role]) -> Role | None:
    """What becomes of a leaf; None if that is in doubt.

    Args:
        path: Its dotted path; empty for a batch that is one tensor.
        leaf: The leaf.
        leaves: Rules of the mixer.
    """
    rule = rule_of(path, leaves)
    if rule is not None:
        return leaves[rule]
    if not is_data(leaf) or leaf.ndim == 0:
        return "own"
    name = _last(path).lower()
    if _MASK.fullmatch(name):
        return "union"
    if tv_kind(leaf) not in (None, "Image", "Video") or _ANNOTATION.fullmatch(name):
        return None
    number = isinstance(leaf, Tensor) or leaf.dtype.kind in "biuf"
    if number and leaf.ndim == 1 and _LENGTH.fullmatch(name):
        return "max"
    if is_mixable(leaf):
        return "mix"
    return "own" if leaf.ndim == 1 or not number else None


def rule_of(path: str, leaves: Mapping[str, Role]) -> str | None:
    """The name of the rule for what has this path, or for what it lies in: the nearest, and of these the longest."""
    return next(iter(rules_of(path, leaves)), None)


def rules_of(path: str, leaves: Mapping[str, Role]) -> list[str]:
    """The names of all rules that fit a path or what it lies in; the first is the rule."""
    fitting = []
    while path:
        fitting += sorted((name for name in leaves if _fits(path, name)), key=len, reverse=True)
        path = path.rpartition(".")[0]
    return fitting


def mixed_leaves(x: Any, leaves: Mapping[str, Role] = NO_RULES, *, labels: str | None = None) -> dict[str, Any]:
    """What is mixed of a batch: its leaves by their paths.

    Args:
        x: A tensor, an array or a structure of them.
        leaves: Rules of the mixer.
        labels: Path of the labels, which become soft targets.
    """
    if is_data(x):
        return {"": x} if is_mixable(x) else {}
    named = ((path, leaf) for path, leaf in named_leaves(x) if path != labels)
    return {path: leaf for path, leaf in named if role_of(path, leaf, leaves) == "mix"}


def refuse_doubt(x: Any, leaves: Mapping[str, Role] = NO_RULES, *, labels: str | None = None) -> None:
    """Refuse a structured batch with a leaf that may be many things.

    Args:
        x: The batch.
        leaves: Rules of the mixer.
        labels: Path of the labels.

    Raises:
        TypeError: If a leaf cannot be averaged for its type.
        ValueError: If it is an annotation: boxes, points, masks.
    """
    for path, leaf in named_leaves(x):
        if path and path != labels and role_of(path, leaf, leaves) is None:
            refuse_role(path, leaf)


def refuse_role(path: str, leaf: Any) -> None:
    """Refuse a leaf of which it is in doubt what becomes of it.

    Raises:
        TypeError: With the remedy.
        ValueError: With the remedy, for annotations.
    """
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


def _fits(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")


def _last(path: str) -> str:
    return path.rpartition(".")[2]
