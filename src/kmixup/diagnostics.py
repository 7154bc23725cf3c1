"""What k and alpha will do to your data, before any training."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kmixup.calibration import RULES, Calibration, Rule, calibrated
from kmixup.cost import Metric, widest_float
from kmixup.diagnosis import Diagnosis, KDiagnosis
from kmixup.estimate import Estimate
from kmixup.geometry import intrinsic_dimension, intrusions
from kmixup.lam import checked_alpha, mean_label_entropy
from kmixup.measure import (
    Data,
    Pairs,
    as_data,
    batch_of,
    draw_subsets,
    flat_rows,
    mean_sq_distance,
    paired_batches,
    sq_distances,
)
from kmixup.mixup import KMixup
from kmixup.roles import NO_RULES

_REFERENCE = 2000  # points among which the nearest neighbour of a midpoint is sought, and whose dimension is taken
_TIMED = 5  # batches
_SCALES = 100  # columns whose standard deviations differ by more are worth a note


class _Labels(NamedTuple):
    """Either classes, int64 ``[N]``, or continuous targets ``[N, T]``."""

    classes: Tensor | None
    targets: Tensor | None


def diagnose(
    x: Any,
    y: Any,
    *,
    ks: Sequence[int] | None = None,
    alphas: Sequence[float] = (0.1, 0.2, 1.0),
    metric: Metric = "sqeuclidean",
    mixer: KMixup | None = None,
    batch_size: int = 256,
    batches: int = 16,
    max_alpha: float = 100.0,
    generator: torch.Generator | None = None,
) -> Diagnosis:
    """Measure what k-mixup would do to the data: how far, how often across classes, where labels would be wrong.

    Args:
        x: Data as the mixer will see them, floating point, shape ``[N, ...]``: a tensor, an array, a data frame of
            numbers, or what else the mixer takes.
        y: Labels, one per sample: class indices or names ``[N]``, one-hot or soft targets ``[N, C]``, or continuous
            targets ``[N]`` or ``[N, T]``. Floating-point numbers are classes if they are whole and take at most
            sqrt(N) values.
        ks: Values of k, each at most half of the batch; default: the powers of 2 up to 32 that fit.
        alphas: Values of alpha for mixup (k = 1); for each k the alpha_k of equal perturbation is given.
        metric: Cost of the matching, see `KMixup`.
        mixer: Measure this mixer's pairing, metric, features and leaves instead; its k and alpha play no part.
        batch_size: Samples per batch; the whole data set if it is smaller.
        batches: Batches to plan for each k, at least 2.
        max_alpha: Largest alpha_k.
        generator: Source of randomness; default: torch's global generator.

    Returns:
        The diagnosis.

    Raises:
        TypeError: If the data or labels have a type that cannot be read.
        ValueError: If lengths differ, rows or labels are missing, a k does not fit into the batch, or there are fewer
            than two samples.

    Paper: Appendix A, hyperparameter tuning.
    """
    data = as_data(x, leaves=NO_RULES if mixer is None else mixer.leaves)
    n, device = len(data), data.device
    labels = _read_labels(y, n, device)
    if n < 2:
        raise ValueError("x must have at least 2 samples to be mixed with each other, got 1.")
    if batches < 2 or batch_size < 2:
        raise ValueError(f"batches and batch_size must be >= 2, got {batches} and {batch_size}.")
    if mixer is not None and metric != "sqeuclidean":
        raise ValueError("metric was given beside a mixer. Give it to the mixer: KMixup(k, alpha, metric=...).")
    size = min(batch_size, n)
    ks = [k for k in (1, 2, 4, 8, 16, 32) if k <= size // 2] if ks is None else list(ks)
    if not ks or max(ks) > size // 2:
        raise ValueError(f"every k must be at most half of the batch of {size}, got {ks}.")
    alphas = tuple(checked_alpha(alpha) for alpha in alphas)
    sq_distance = mean_sq_distance(data)
    rows = []
    for k in sorted(set(ks)):
        at_k = copy.copy(mixer) if mixer is not None else KMixup(k, 1.0, metric=metric)
        at_k.k = k
        drawn = list(paired_batches(at_k, data, batch_size=size, batches=batches, generator=generator))
        distance = Estimate.of(torch.cat([sq_distances(data, pairs).mean(1) for pairs in drawn]))
        matched = Estimate.exact(sq_distance) if k == 1 else distance
        rules: dict[Rule, tuple[Calibration, ...]] = {
            rule: tuple(calibrated(k, alpha, rule, sq_distance, matched, max_alpha=max_alpha) for alpha in alphas)
            for rule in RULES
        }
        same = _same_class(labels.classes, drawn)
        seconds = _plan_seconds(at_k, data, size, generator)
        partners, draws = _different_partners(drawn, n)
        rows.append(
            KDiagnosis(
                k=k,
                sq_distance=matched,
                relative_distance=math.sqrt(matched.mean / sq_distance) if sq_distance else 1.0,
                same_class=same,
                intrusion=_intrusion(data, labels.classes, drawn, n, generator),
                target_sq_distance=_target_sq_distance(labels.targets, drawn),
                label_entropy=tuple((1 - same.mean) * mean_label_entropy(c.alpha_k) for c in rules["exact"])
                if same
                else None,
                partners=partners,
                draws=draws,
                matching_seconds=seconds,
                epoch_seconds=seconds * -(-n // size),
                rules=rules,
            )
        )
    sample = flat_rows(data, draw_subsets(1, n, min(n, _REFERENCE), generator)[0])
    return Diagnosis(
        rows=tuple(rows),
        alphas=alphas,
        batch_size=size,
        batches=batches,
        samples=n,
        classes=None if labels.classes is None else len(labels.classes.unique()),
        dimension=intrinsic_dimension(sample),
        notes=tuple(_notes(data, sample, labels, n)),
    )


def _same_class(classes: Tensor | None, drawn: Sequence[Pairs]) -> Estimate | None:
    if classes is None:
        return None
    return Estimate.of(torch.cat([(classes[own] == classes[partner]).cpu().double().mean(1) for own, partner in drawn]))


def _target_sq_distance(targets: Tensor | None, drawn: Sequence[Pairs]) -> Estimate | None:
    if targets is None:
        return None
    gaps = [(targets[own] - targets[partner]).square().sum(2).mean(1) for own, partner in drawn]
    return Estimate.of(torch.cat(gaps))


def _intrusion(
    data: Data, classes: Tensor | None, drawn: Sequence[Pairs], n: int, generator: torch.Generator | None
) -> Estimate | None:
    """Over batches, each with its own reference points."""
    if classes is None or n < 3:
        return None
    shares = []
    for pairs in drawn:
        references = draw_subsets(len(pairs.own), n, min(n, _REFERENCE), generator).to(classes.device)
        for own, partner, reference in zip(*pairs, references, strict=True):
            itself = (reference == own.unsqueeze(1)) | (reference == partner.unsqueeze(1))
            found = intrusions(
                (flat_rows(data, own), flat_rows(data, partner)),
                (classes[own], classes[partner]),
                flat_rows(data, reference),
                classes[reference],
                itself,
            )
            shares.append(float(found.cpu().double().mean()))
    return Estimate.of(shares)


def _different_partners(drawn: Sequence[Pairs], n: int) -> tuple[float, float]:
    """Different partners of a sample that was drawn, and how often it was drawn; means."""
    own, partner = (torch.cat([pairs[part].flatten() for pairs in drawn]) for part in (0, 1))
    samples = len(own.unique())
    return len((own * n + partner).unique()) / samples, len(own) / samples


def _plan_seconds(mixer: KMixup, data: Data, size: int, generator: torch.Generator | None) -> float:
    timed = copy.copy(mixer)
    timed.train()
    timed.alpha, timed.generator = 1.0, generator  # alpha = 0 would switch it off
    rows = draw_subsets(_TIMED, len(data), size, generator)
    seconds = []
    for batch in (batch_of(data, own) for own in rows):
        start = perf_counter()
        timed.plan(batch)
        seconds.append(perf_counter() - start)
    return median(seconds)


def _read_labels(y: Any, n: int, device: torch.device) -> _Labels:
    values = y.detach().cpu().numpy() if isinstance(y, Tensor) else y
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        raise ValueError(f"y has {int(np.ma.getmaskarray(values).sum())} masked value(s). Remove those samples.")
    values = np.asarray(values)
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.ndim == 0 or len(values) != n:
        raise ValueError(
            f"y must be class indices [N] or targets [N, ...] for N = {n} samples, got shape {list(values.shape)}."
        )
    if values.dtype.kind not in "biufUSO":
        raise TypeError(f"y must be numbers or names of classes, got {values.dtype}.")
    if values.dtype.kind in "fO":
        missing = _missing(values)
        if missing.any():
            raise ValueError(
                f"y has {int(missing.sum())} missing value(s), the first is row {int(missing.argmax())}. "
                "Remove those samples."
            )
    if (
        values.dtype.kind in "biuf"
        and values.ndim == 2
        and (values >= 0).all()
        and np.allclose(values.sum(1), 1, atol=1e-3)
    ):
        return _Labels(torch.from_numpy(values.argmax(1)).to(device), None)
    whole = values.dtype.kind == "f" and values.ndim == 1 and (values == np.rint(values)).all()
    if values.dtype.kind == "f" and not (whole and len(np.unique(values)) <= math.sqrt(n)):
        return _Labels(None, torch.from_numpy(values.reshape(n, -1)).to(widest_float(device)).to(device))
    if values.ndim > 1:
        raise ValueError(
            f"y must be class indices [N] or one-hot rows [N, C], got {values.dtype} {list(values.shape)}."
        )
    names = values.astype(str) if values.dtype.kind == "O" else values
    return _Labels(torch.from_numpy(np.unique(names, return_inverse=True)[1].reshape(-1)).to(device), None)


def _missing(values: np.ndarray) -> np.ndarray:
    """Which rows hold NaN, inf, None or pandas' NA."""
    if values.dtype.kind == "f":
        gone = ~np.isfinite(values)
    else:
        gone = np.array([v is None or type(v).__name__ == "NAType" or v != v for v in values.flat])
    return np.asarray(gone.reshape(len(values), -1).any(1))


def _notes(data: Data, sample: Tensor, labels: _Labels, n: int) -> Iterator[str]:
    table = data.whole
    if isinstance(table, Tensor) and table.is_floating_point() and table.ndim == 2:
        constant = int((table.amax(0) == table.amin(0)).sum())
        if constant:
            yield f"{constant} of {table.shape[1]} columns are constant: they change no distance."
        spread = sample.std(0)
        spread = spread[spread > 0]
        if len(spread) > 1 and float(spread.max() / spread.min()) > _SCALES:
            yield (
                f"Standard deviations of columns differ by a factor of {float(spread.max() / spread.min()):.0f}: those "
                "of the largest decide who is matched. Standardise the columns if their units are arbitrary."
            )
    repeated = len(sample) - len(sample.unique(dim=0))
    if repeated:
        yield f"{100 * repeated / len(sample):.1f} % of rows repeat another: matched with it, they are not moved."
    if labels.classes is not None:
        classes = len(labels.classes.unique())
        if classes == 1:
            yield "All samples are of one class: no label is ever mixed."
        elif classes > n / 2:
            yield f"y has {classes} classes for {n} samples. If it is a continuous target, pass floating-point numbers."
