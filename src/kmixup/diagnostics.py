"""What k and alpha will do to your data, before any training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kmixup.calibration import Calibration, calibrate
from kmixup.mixup import KMixup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_REFERENCE = 2000  # points among which the nearest neighbour of a midpoint is sought


@dataclass(frozen=True)
class KDiagnosis:
    """What one k does to the data, whatever alpha is.

    Attributes:
        k: Points per k-batch.
        distance: Root mean squared distance of partners, in units of the data.
        same_class_share: Share of pairs with equal labels, in [0, 1].
        intrusion_share: Share of midpoints of pairs whose nearest other sample has neither label of the pair, in
            [0, 1]: there mixup teaches a label that the data contradict (manifold intrusion, Guo et al., 2019).
        matching_seconds: Time to plan one batch, on this machine.
        calibrations: For each alpha, the alpha_k that keeps its perturbation at this k.
    """

    k: int
    distance: float
    same_class_share: float
    intrusion_share: float
    matching_seconds: float
    calibrations: tuple[Calibration, ...]


@dataclass(frozen=True)
class Diagnosis:
    """A table over k and alpha: `print` it, or `plot` it.

    Attributes:
        rows: One entry per k.
        alphas: The alphas of mixup (k = 1) that were asked for.
        batch_size: Samples per batch that was planned.
        batches: Number of batches.
    """

    rows: tuple[KDiagnosis, ...]
    alphas: tuple[float, ...]
    batch_size: int
    batches: int

    def __str__(self) -> str:
        header = ["k", "distance", "same class", "intrusion", "ms/batch"] + [f"alpha_k({a:g})" for a in self.alphas]
        lines = [header]
        for row in self.rows:
            shares = [f"{100 * row.same_class_share:.1f} %", f"{100 * row.intrusion_share:.1f} %"]
            alphas = [f"{c.alpha_k:.3g}" + ("" if c.attainable else "*") for c in row.calibrations]
            lines.append([str(row.k), f"{row.distance:.4g}", *shares, f"{1000 * row.matching_seconds:.2f}", *alphas])
        widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
        text = "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
        )
        if not all(c.attainable for row in self.rows for c in row.calibrations):
            text += "\n* the perturbation of this alpha is out of reach at this k: partners are too close"
        return text

    def plot(self) -> Figure:
        """Distance, label agreement and intrusion against k; needs matplotlib.

        Returns:
            The figure; save it with ``figure.savefig(path)``.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 3), layout="constrained")
        left, right = figure.subplots(1, 2)
        ks = [row.k for row in self.rows]
        left.plot(ks, [row.distance for row in self.rows], "o-", color="#0072B2")
        left.set(xscale="log", xlabel="k", ylabel="RMS distance of partners", ylim=(0, None))
        right.plot(ks, [row.same_class_share for row in self.rows], "o-", color="#0072B2", label="same class")
        right.plot(ks, [row.intrusion_share for row in self.rows], "s--", color="#D55E00", label="intrusion")
        right.set(xscale="log", xlabel="k", ylabel="share of pairs", ylim=(0, 1))
        right.legend(frameon=False)
        for axes in (left, right):
            axes.set_xticks(ks, [str(k) for k in ks], minor=False)
            axes.minorticks_off()
            axes.spines[["top", "right"]].set_visible(False)
        return figure


def diagnose(
    x: Tensor,
    y: Tensor,
    *,
    ks: Sequence[int] = (1, 2, 4, 8, 16, 32),
    alphas: Sequence[float] = (0.1, 0.2, 1.0),
    metric: str = "sqeuclidean",
    batch_size: int = 256,
    batches: int = 16,
    generator: torch.Generator | None = None,
) -> Diagnosis:
    """Measure what k-mixup would do to the data: how far, how often across classes, where labels would be wrong.

    Args:
        x: Data as the mixer will see them, floating point, shape ``[N, ...]``.
        y: Class indices, shape ``[N]``.
        ks: Values of k, each at most half of the batch.
        alphas: Values of alpha for mixup (k = 1); for each k the alpha_k of equal perturbation is given.
        metric: Cost of the matching, see `KMixup`.
        batch_size: Samples per batch; the whole data set if it is smaller.
        batches: Batches to plan for each k.
        generator: Source of randomness; default: torch's global generator.

    Returns:
        The diagnosis.

    Raises:
        ValueError: If lengths differ, or a k does not fit into the batch.

    Paper: Appendix A, hyperparameter tuning.
    """
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    if len(x) != len(y) or y.ndim != 1:
        raise ValueError(f"y must be class indices [N] for N = {len(x)} samples, got shape {list(y.shape)}.")
    batch_size = min(batch_size, len(x))
    if not ks or max(ks) > batch_size // 2:
        raise ValueError(f"every k must be at most half of the batch of {batch_size}, got {list(ks)}.")
    rows = []
    for k in ks:
        # lam = 1/2: the midpoints, where mixup moves points farthest.
        mixer = KMixup(k, math.inf, metric=metric, generator=generator)  # pyright: ignore[reportArgumentType]
        distances, same_class, intrusions, seconds = [], [], [], []
        for _ in range(batches):
            rows_of = torch.randperm(len(x), generator=generator)[:batch_size].to(x.device)
            start = perf_counter()
            plan = mixer.plan(x[rows_of])
            seconds.append(perf_counter() - start)
            stats = plan.stats(x[rows_of], y[rows_of])
            distances.append(stats.matched_sq_distance)
            same_class.append(stats.same_class_share)
            intrusions.append(_intrusion(x, y, rows_of, rows_of[plan.partner], generator))
        rows.append(
            KDiagnosis(
                k=k,
                distance=math.sqrt(sum(distances) / batches),
                same_class_share=sum(same_class) / batches,
                intrusion_share=sum(intrusions) / batches,
                matching_seconds=sorted(seconds)[batches // 2],
                calibrations=tuple(calibrate(x, k, alpha, generator=generator) for alpha in alphas),
            )
        )
    return Diagnosis(tuple(rows), tuple(float(alpha) for alpha in alphas), batch_size, batches)


def _intrusion(x: Tensor, y: Tensor, own: Tensor, partner: Tensor, generator: torch.Generator | None) -> float:
    """Share of midpoints whose nearest sample, the pair itself left out, has neither label of the pair."""
    reference = torch.randperm(len(x), generator=generator)[:_REFERENCE].to(x.device)
    points = x[reference].flatten(1)
    midpoints = (x[own].flatten(1) + x[partner].flatten(1)) / 2
    distance = torch.cdist(midpoints, points)
    of_the_pair = (reference == own.unsqueeze(1)) | (reference == partner.unsqueeze(1))
    nearest = distance.masked_fill(of_the_pair, math.inf).argmin(1)
    label = y[reference[nearest]]
    return float(((label != y[own]) & (label != y[partner])).double().mean())
