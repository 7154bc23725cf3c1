"""Data as a mixer sees them: what can be taken, batches as training draws them, and whom the mixer pairs in each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kmixup.cost import widest_float
from kmixup.lam import drawn_on
from kmixup.mixup import KMixup
from kmixup.roles import NO_RULES, Role, mixed_leaves, refuse_doubt
from kmixup.samples import points_of
from kmixup.structure import as_real, is_data, is_mixable, map_leaves, named_leaves, take, tensor_of

# Numbers of the data that are worked on at once: what a processor's cache holds.
_CHUNK = 1 << 16


class Pairs(NamedTuple):
    """Whom a mixer paired, batch by batch.

    Attributes:
        own: Rows of the data that make each batch, int64, shape ``[n, B]``.
        partner: Row that each is mixed with, int64, shape ``[n, B]``.
    """

    own: Tensor
    partner: Tensor


@dataclass(frozen=True, eq=False)
class Data:
    """Data, and what of them is mixed: that alone is measured.

    Attributes:
        whole: All of them in their structure, batch first: what features see.
        mixed: The leaves that are mixed, floating point, shape ``[N, ...]`` each; complex numbers as pairs.
    """

    whole: Any
    mixed: list[Tensor]

    def __len__(self) -> int:
        return len(self.mixed[0])

    @property
    def device(self) -> torch.device:
        """Where the data live: what is mixed first decides."""
        return self.mixed[0].device


def as_data(x: Any, name: str = "x", leaves: Mapping[str, Role] = NO_RULES) -> Data:
    """Data as tensors, batch first; what cannot be mixed is refused.

    Args:
        x: A tensor or array ``[N, ...]``, a data frame or column of numbers, nested lists of numbers, or what else the
            mixer takes: mappings, tuples, namedtuples, dataclasses. Or what this function returned.
        name: What it is called in messages.
        leaves: Rules of the mixer.

    Returns:
        The same structure, of tensors, and what is mixed of it. Frames and lists of numbers become float64.

    Raises:
        TypeError: If it is none of these, or it is in doubt what becomes of a leaf.
        ValueError: If nothing is floating point, columns are not numbers, or what is mixed differs in length or holds
            rows with NaN or inf.
    """
    if isinstance(x, Data):
        return x
    whole = _tensors(x, name)
    refuse_doubt(whole, leaves)
    mixed = [as_real(leaf) for leaf in mixed_leaves(whole, leaves).values()]
    if not mixed or not all(leaf.ndim and len(leaf) and leaf.is_floating_point() for leaf in mixed):
        got = ", ".join(f"{leaf.dtype} {list(leaf.shape)}" for _, leaf in named_leaves(whole)[:4] if is_data(leaf))
        raise ValueError(f"{name} must be a floating-point batch [N, ...] with N >= 1, got {got or type(x).__name__}.")
    lengths = {len(leaf) for leaf in mixed}
    if len(lengths) > 1:
        raise ValueError(f"every part of {name} must have one length N, got {sorted(lengths)}.")
    for leaf in mixed:
        # One cheap sum finds every NaN and infinity; finite numbers whose sum overflows are then looked at one by one.
        if math.isfinite(leaf.detach().sum()):
            continue
        bad = (~torch.isfinite(leaf.reshape(len(leaf), -1))).any(1).nonzero().flatten().tolist()
        if bad:
            raise ValueError(
                f"{name} has {len(bad)} row(s) with NaN or infinite values, the first is row {bad[0]}. "
                "Remove or impute them."
            )
    return Data(whole, mixed)


def flat_rows(data: Data, rows: Tensor) -> Tensor:
    """All that is mixed of some rows, side by side, in the widest float of its device, shape ``[n, D]``."""
    parts = [leaf.index_select(0, rows.to(leaf.device)) for leaf in data.mixed]
    return torch.cat([part.reshape(len(rows), -1).to(widest_float(part.device)) for part in parts], 1)


def sq_distances(data: Data, pairs: Pairs) -> Tensor:
    """Squared Euclidean distance of every pair, in the space that is mixed, shape ``[n, B]``."""
    gaps = flat_rows(data, pairs.own.flatten()) - flat_rows(data, pairs.partner.flatten())
    return gaps.square().sum(1).view(pairs.own.shape)


def mean_sq_distance(x: Any) -> float:
    r"""Mean squared distance of two independent draws from the data, exactly: twice the total variance.

    .. math:: D_1 = E\|x - x'\|^2 = 2 \sum_j \mathrm{Var}(x_j)

    Args:
        x: Data, shape ``[N, ...]``, or anything that `calibrate` takes; samples are flattened.

    Returns:
        The mean, in squared units of the data.

    Raises:
        ValueError: If the data are not floating point, or not finite.

    Paper: Algorithm 1, step 1.
    """
    return 2 * sum(_total_variance(leaf.detach().reshape(len(leaf), -1)) for leaf in as_data(x).mixed)


def whole_blocks(n: int, k: int, batch_size: int = 256) -> int:
    """A batch of whole blocks of k: about ``batch_size`` samples, at least two blocks, all of the data at most."""
    return min(n, k * max(2, batch_size // k))


def draw_subsets(count: int, n: int, size: int, generator: torch.Generator | None) -> Tensor:
    """Independent uniform subsets of ``range(n)`` in random order, without a permutation of n for each.

    Args:
        count: Number of subsets.
        n: Size of the whole.
        size: Size of a subset.
        generator: Source of randomness; default: torch's global generator.

    Returns:
        int64, shape ``[count, size]``.
    """
    rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator, device=drawn_on(generator))))
    return torch.from_numpy(np.stack([rng.choice(n, size, replace=False) for _ in range(count)]))


def paired_batches(
    mixer: KMixup, data: Data, *, batch_size: int, batches: int, generator: torch.Generator | None = None
) -> Iterator[Pairs]:
    """Whom a mixer pairs in batches of the data, each drawn without replacement as an epoch draws them.

    Args:
        mixer: Its k, pairing, metric, features, leaves and solver are measured; its generator is left alone.
        data: From `as_data`.
        batch_size: Samples per batch, at most N.
        batches: Number of batches, independent of each other given the data.
        generator: Source of randomness; default: torch's global generator.

    Yields:
        Their pairs, some batches at a time.

    Raises:
        ValueError: If the mixer matches by labels.
    """
    if mixer.by_label:
        raise ValueError(
            f"the mixer has {mixer.by_label}, and there are no labels here. Measure one without; plan.stats(x, y) "
            "measures a plan."
        )
    device, features = data.device, mixer.features
    drawn = draw_subsets(batches, len(data), batch_size, generator).to(device)
    orders = draw_subsets(batches, batch_size, batch_size, generator).to(device)
    at_once = max(1, _CHUNK // (batch_size * flat_rows(data, drawn[0, :1]).shape[1]))
    for own, order in zip(drawn.split(at_once), orders.split(at_once), strict=True):
        # Features may depend on the batch; the inputs themselves do not.
        parts = own.split(1) if features else (own,)
        points = [points_of(batch_of(data, part.flatten()), features, mixer.leaves) for part in parts]
        points = torch.cat([each.reshape(len(each), -1) for each in points])
        partner = mixer.pair(points.view(*own.shape, -1), order.to(points.device)).to(device)
        yield Pairs(own, own.gather(1, partner))


def batch_of(data: Data, rows: Tensor) -> Any:
    """Some rows of the data, in their structure; what has no row for each sample stays."""

    def leaf(_: str, part: Any) -> Any:
        rowed = isinstance(part, (list, tuple)) or (is_data(part) and part.ndim)
        return take(part, rows) if rowed and len(part) == len(data) else part

    return map_leaves(leaf, data.whole)


def _total_variance(points: Tensor) -> float:
    # Centred in double precision a slice at a time: no double copy of a large data set.
    wide = widest_float(points.device)
    parts = points.split(max(1, _CHUNK // max(1, points.shape[1])))
    mean = torch.stack([part.to(wide).sum(0) for part in parts]).sum(0) / len(points)
    return sum(float((part.to(wide) - mean).square().sum()) for part in parts) / len(points)


def _tensors(x: Any, name: str) -> Any:
    if hasattr(x, "columns") and hasattr(x, "to_numpy"):
        return _frame(x, name)
    if hasattr(x, "to_numpy"):  # a single column
        return torch.from_numpy(np.array(x, dtype=np.float64))
    if isinstance(x, (list, tuple)) and not any(is_data(leaf) for _, leaf in named_leaves(x)):
        try:
            x = np.array(x)
        except ValueError:
            raise ValueError(f"{name} is a list whose rows differ in length. Give each row the same columns.") from None
        x = x.astype(np.float64) if x.dtype.kind in "biuf" else x
    if is_data(x):
        if isinstance(x, np.ndarray) and x.dtype.kind not in "biufc":
            raise ValueError(f"{name} must hold numbers, got an array of {x.dtype}. Encode what is no number.")
    elif not any(is_data(leaf) for _, leaf in named_leaves(x)):
        remedy = f" Use {name}.toarray()." if hasattr(x, "toarray") else ""
        raise TypeError(
            f"{name} must be a tensor, an array, a data frame, or a structure of tensors and arrays, "
            f"got {type(x).__name__}.{remedy}"
        )
    return map_leaves(lambda _, leaf: _tensor(leaf), x)


def _tensor(leaf: Any) -> Any:
    if not isinstance(leaf, np.ndarray) or leaf.dtype.kind not in "biufc":
        return leaf
    if isinstance(leaf, np.ma.MaskedArray) and is_mixable(leaf):  # what is masked is missing, and is refused as such
        leaf = np.ma.filled(leaf, np.nan)
    return leaf if np.ma.is_masked(leaf) else tensor_of(leaf)


def _frame(frame: Any, name: str) -> Tensor:
    """A data frame of pandas or polars as float64, missing values as NaN."""
    columns, other = [], []
    # By place, not by name: columns of pandas may share one.
    series = frame.items() if hasattr(frame, "items") else zip(frame.columns, frame.get_columns(), strict=True)
    for column, values in series:
        kind = getattr(values.dtype, "kind", None) or values.to_numpy().dtype.kind
        if kind in "biuf":
            columns.append(np.asarray(values, dtype=np.float64))
        else:
            other.append(str(column))
    if other:
        raise ValueError(
            f"{name} has {len(other)} column(s) that are not numbers: {', '.join(other[:5])}. Encode or drop them: a "
            "distance, and a mixture, needs numbers."
        )
    if not columns:
        raise ValueError(f"{name} has no columns.")
    return torch.from_numpy(np.stack(columns, 1))
