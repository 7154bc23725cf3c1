"""Nested batches: walked by name, rebuilt in their own type, their leaves taken apart by rows."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kmixup.native import readable

DROP = object()
"""What a function given to `map_leaves` returns for a leaf that is to go."""


def map_leaves(
    function: Callable[..., Any],
    tree: Any,
    *others: Any,
    path: str = "",
    stop: Callable[[str], bool] | None = None,
) -> Any:
    """Apply a function to every leaf of a nested batch.

    Containers are mappings of any kind, lists, tuples, namedtuples and dataclasses; they keep their type. A list or
    tuple without a tensor or an array anywhere in it (captions, file names) is one leaf.

    Args:
        function: ``function(path, leaf, *leaves of the others)``; `DROP` removes the leaf (None where it has no key).
        tree: The batch.
        *others: Batches of the same structure.
        path: Name of the batch itself; names below it follow after dots.
        stop: Whether what has this path is to be taken as a leaf.

    Returns:
        The same structure with what the function returned; the batch itself is not changed.

    Raises:
        ValueError: If another batch lacks a part.
    """
    parts = None if isinstance(tree, Tensor) or (stop is not None and stop(path)) else _parts(tree)
    if parts is None:
        return function(path, tree, *others)
    mapped = {}
    for name, part in parts.items():
        below = f"{path}.{name}" if path else str(name)
        mapped[name] = map_leaves(function, part, *(_part(o, name, below) for o in others), path=below, stop=stop)
    return _rebuilt(tree, mapped)


def named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """The leaves of a nested batch with their paths, as `map_leaves` meets them."""
    found: list[tuple[str, Any]] = []
    map_leaves(lambda path, leaf: found.append((path, leaf)), tree)
    return found


def has_names(x: Any) -> bool:
    """Whether a batch is a container whose parts have names: a mapping, a namedtuple, a dataclass."""
    return isinstance(x, Mapping) or hasattr(x, "_fields") or _is_dataclass(x)


def batch_length(x: Any) -> tuple[int, torch.device]:
    """Number of samples of a structured batch, and where it lives: its first tensor or array with a batch decides.

    Raises:
        TypeError: If there is none.
    """
    for _, leaf in named_leaves(x):
        if is_data(leaf) and leaf.ndim:
            return len(leaf), leaf.device if isinstance(leaf, Tensor) else torch.device("cpu")
    raise TypeError(f"there must be a tensor or a numpy array with the batch first, got {describe(x)}.")


def tensor_of(x: Any) -> Any:
    """A tensor as it is, an array as a tensor: on its memory, or on a copy where torch takes no such array.

    Raises:
        ValueError: If values of a masked array are missing.
    """
    if not isinstance(x, np.ndarray):
        return x
    if isinstance(x, np.ma.MaskedArray):  # netCDF readers give them, with -9999 or the like under the mask
        if np.ma.is_masked(x):
            raise ValueError(
                f"an array has {int(np.ma.count_masked(x))} masked values: missing values cannot be mixed. "
                "Fill them (x.filled(value)) or drop those rows."
            )
        x = x.data
    if not x.dtype.isnative:  # FITS readers give big-endian numbers
        x = x.astype(x.dtype.newbyteorder("="))
    # pandas hands out read-only arrays, and fields of packed records do not lie in whole numbers' steps
    steps = all(stride >= 0 and stride % x.itemsize == 0 for stride in x.strides)
    shareable = x.flags.writeable and x.flags.aligned and steps
    return torch.from_numpy(x if shareable else x.copy())


def given_tensor(x: Any, name: str) -> Tensor:
    """An argument that is a tensor or an array, as a tensor.

    Raises:
        TypeError: If it is neither, by its name.
    """
    x = tensor_of(x)
    if not isinstance(x, Tensor):
        raise TypeError(
            f"{name} must be a tensor or a numpy array, got {type(x).__name__}. Use torch.as_tensor({name})."
        )
    return x


def is_data(leaf: Any) -> bool:
    """Whether a leaf is a tensor or an array."""
    return isinstance(leaf, (Tensor, np.ndarray))


def is_mixable(leaf: Any) -> bool:
    """Whether a leaf is a floating-point or complex tensor or array."""
    if isinstance(leaf, Tensor):
        return leaf.is_floating_point() or leaf.is_complex()
    return isinstance(leaf, np.ndarray) and leaf.dtype.kind in "fc"


def as_real(x: Tensor) -> Tensor:
    """Numbers that lie in memory as they are: complex ones as pairs, ``[..., 2]``; a lazy sign or conjugate applied."""
    x = x.resolve_neg()
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def tv_kind(leaf: Any) -> str | None:
    """The name of the type of one of torchvision's tv_tensors, None for anything else. Imports no torchvision."""
    kind = type(leaf)
    if kind is Tensor or not kind.__module__.startswith("torchvision.tv_tensors"):
        return None
    return kind.__name__


def describe(leaf: Any) -> str:
    """A leaf as messages call it: dtype and shape, or its type."""
    return f"{leaf.dtype} {list(leaf.shape)}" if is_data(leaf) else type(leaf).__name__


def refuse_layout(x: Tensor, name: str) -> None:
    """Refuse sparse and nested tensors.

    Raises:
        TypeError: With the remedy.
    """
    if x.layout is not torch.strided or x.is_nested:
        remedy = "Pad it: x.to_padded_tensor(0.0)" if x.is_nested else "Use x.to_dense()"
        raise TypeError(f"{name} must be a dense tensor, got layout {x.layout}, shape {list(x.shape)}. {remedy}.")


def refuse_length(leaf: Any, batch: int, path: str = "") -> None:
    """Refuse a leaf that does not have the batch first.

    Raises:
        TypeError: If it is neither tensor nor array nor list.
        ValueError: If it has another length.
    """
    at = f" at {path!r}" if path else ""
    if isinstance(leaf, (list, tuple)):
        length, got = len(leaf), f"a {type(leaf).__name__} of {len(leaf)}"
    elif is_data(leaf):
        if isinstance(leaf, Tensor):
            refuse_layout(leaf, path or "x")
        length, got = (leaf.shape[0] if leaf.ndim else None), f"shape {list(leaf.shape)}"
    else:
        raise TypeError(f"every leaf must be a tensor or a numpy array, got {type(leaf).__name__}{at}.")
    if length != batch:
        raise ValueError(
            f"every leaf must have the plan's batch length {batch} first, got {got}{at}. "
            "Plan, inputs and labels belong to one batch, batch first."
        )


def refuse_unmixable(leaf: Any, path: str = "") -> None:
    """Refuse a leaf that cannot be interpolated: integer images, class indices, boxes, masks.

    Raises:
        TypeError: With the remedy.
    """
    if not is_mixable(leaf) or tv_kind(leaf) not in (None, "Image", "Video"):
        at = f" at {path!r}" if path else ""
        raise TypeError(
            f"only floating-point or complex tensors can be mixed, got {tv_kind(leaf) or describe(leaf)}{at}. "
            "Scale images to float first; give class labels as one-hot, or use plan.loss with class indices; boxes "
            "and masks of the partner: plan.partner_of."
        )


def take(leaf: Any, index: Tensor) -> Any:
    """Rows of a leaf, by index ``[b]``."""
    if isinstance(leaf, Tensor):
        return leaf.index_select(0, index.to(leaf.device))
    if isinstance(leaf, np.ndarray):
        return leaf[index.cpu().numpy()]
    return type(leaf)([leaf[i] for i in index.tolist()])


def choose(condition: Tensor, yes: Any, no: Any) -> Any:
    """Rows of one leaf where the condition (``[]`` or ``[b]``) holds, else of the other."""
    if isinstance(yes, Tensor):
        return torch.where(per_row(condition.to(yes.device), yes.ndim), yes, no)
    if isinstance(yes, np.ndarray):
        return np.where(per_row(condition.cpu(), yes.ndim).numpy(), yes, no)
    flags = condition.expand(len(yes)).tolist()
    return type(yes)([a if flag else b for flag, a, b in zip(flags, yes, no, strict=True)])


def nowhere(flags: Tensor) -> bool:
    """Whether no flag is set, as far as that can be read without waiting for a device."""
    return flags.device.type == "cpu" and readable(flags) and not bool(flags.any())


def per_row(values: Tensor, ndim: int) -> Tensor:
    """Values ``[b]`` beside a tensor of ``ndim`` dimensions with the batch first; one value ``[]`` stays."""
    return values.view(-1, *(1,) * (ndim - 1)) if values.ndim else values


def _parts(tree: Any) -> dict[Any, Any] | None:
    """The parts of a container by name, None for a leaf."""
    if isinstance(tree, Mapping):
        return dict(tree.items())  # a TensorDict iterates over its rows; its items are its parts
    if isinstance(tree, (list, tuple)):
        if not any(_holds_data(part) for part in tree):
            return None
        return dict(zip(getattr(tree, "_fields", range(len(tree))), tree, strict=True))
    return (
        {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree)} if _is_dataclass(tree) else None
    )


def _holds_data(tree: Any) -> bool:
    if is_data(tree):
        return True
    parts = tree if isinstance(tree, (list, tuple)) else (_parts(tree) or {}).values()
    return any(_holds_data(part) for part in parts)


def _part(tree: Any, name: Any, path: str) -> Any:
    try:
        return tree[name] if isinstance(tree, Mapping) or not isinstance(name, str) else getattr(tree, name)
    except (AttributeError, IndexError, KeyError, TypeError):
        raise ValueError(f"the second batch must have the structure of the first, and has no {path!r}.") from None


def _rebuilt(tree: Any, parts: dict[Any, Any]) -> Any:
    if isinstance(tree, Mapping):
        kept = {name: part for name, part in parts.items() if part is not DROP}
        if type(tree) is dict:
            return kept
        if not isinstance(tree, MutableMapping):
            return type(tree)(kept)  # pyright: ignore[reportCallIssue]
        rebuilt = copy.copy(tree)  # keeps what a BatchFeature, a defaultdict or a TensorDict has beside its entries
        for name in parts.keys() - kept.keys():
            del rebuilt[name]
        for name, part in kept.items():
            rebuilt[name] = part
        return rebuilt
    values = [None if part is DROP else part for part in parts.values()]
    if _is_dataclass(tree):
        rebuilt = copy.copy(tree)
        for name, value in zip(parts, values, strict=True):
            object.__setattr__(rebuilt, name, value)  # frozen ones too
        return rebuilt
    return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)


def _is_dataclass(x: Any) -> bool:
    return dataclasses.is_dataclass(x) and not isinstance(x, type)
