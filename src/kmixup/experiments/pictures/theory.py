"""What Sections 3 and 4 state, measured and drawn: manifolds, clusters, bands, the expansion.

kmixup reproduce theory       (every simulation; minutes)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter, NullLocator
from torch import Generator, Tensor

from kmixup import theory
from kmixup.estimate import Estimate
from kmixup.experiments.datasets import DATASETS
from kmixup.mixup import KMixup
from kmixup.style import BLUE, GREY, ORANGE, WIDTH, save, series, style
from kmixup.theory import ClusterStudy, SupportStudy, matching_rate

_TAIL = 64  # slopes of W_2^2 are fitted from here on: smaller k still feel the size of the manifold
_EXPANDED = 96  # points that Theorem 4.1 is evaluated on: all their pairs are


def theory_pictures(out: Path, *, seed: int = 0, max_k: int = 4096) -> list[Path]:
    """What Sections 3 and 4 state, measured: manifolds, clusters, bands, the expansion.

    Args:
        out: Folder for the files.
        seed: Of all draws.
        max_k: Largest k of Section 3.1; 4096 takes minutes.

    Returns:
        The files written.

    Paper: Proposition 3.2.
    """
    ks = [2**i for i in range(int(math.log2(max_k)) + 1)]
    manifolds = (theory.sphere(1), theory.sphere(2, ambient=10), theory.swiss_roll(), theory.torus(3))
    generator = Generator().manual_seed(seed)
    supports = [
        theory.study_support(manifold, ks, pairs=16384, min_draws=6, generator=generator) for manifold in manifolds
    ]
    pictures = {
        "theory-manifold": manifold_support(supports),
        "theory-clusters": crossing_matches(_cluster_studies(min(max_k, 256), seed)),
        "theory-bands": bands(_band_studies(min(max_k, 1024), seed)),
        "theory-expansion": expansion(_expansion_study(seed)),
    }
    return [file for name, figure in pictures.items() for file in save(figure, out / name)]


def manifold_support(studies: Sequence[SupportStudy]) -> Figure:
    """Proposition 3.2: the share of couplings near the manifold, and how fast W_2^2 falls.

    Args:
        studies: One per manifold.

    Returns:
        The figure.

    Paper: Proposition 3.2.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
        left, right = figure.subplots(1, 2)
        tail = min(_TAIL, studies[0].ks[-2])
        for study, look in zip(studies, series(), strict=False):
            left.errorbar(study.ks, study.share, study.share_error, **look.line, label=study.manifold.name)
            left.plot(study.ks, study.bound, ":", color=look.colour, linewidth=1)
            scaled = np.array(study.sq_cost) / study.sq_cost[0]
            fitted = study.slope(from_k=tail)
            right.plot(study.ks, scaled, **look.line, label=f"{study.manifold.name}: slope {fitted:.2f}")
            ks = torch.tensor([k for k in study.ks if k >= tail], dtype=torch.float64)
            rate = matching_rate(ks, study.manifold.dim)
            right.plot(ks, rate * (scaled[-1] / float(rate[-1])) * 0.6, "--", color=look.colour, linewidth=0.8)
        left.plot([], [], ":", color=GREY, label="at least, by W₂²")
        left.set(xlabel="k", ylabel="share of couplings", ylim=(0, 1.03))
        left.set_title("Couplings within a quarter of the injectivity radius")
        right.plot([], [], "--", color=GREY, linewidth=0.8, label="1/k, log(k)/k, k$^{-2/d}$ (shifted)")
        right.set(yscale="log", xlabel="k", ylabel="W₂², relative to k = 1")
        right.set_title(f"Squared cost of the matching; slopes from k = {tail} on")
        right.legend(loc="lower left")
        for axes in (left, right):
            _powers_of_two(axes, studies[0].ks)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        return figure


def crossing_matches(studies: Mapping[str, Sequence[ClusterStudy]]) -> Figure:
    """Lemma 3.3 and Theorem 3.4: the share of matches that cross between clusters.

    Args:
        studies: Title -> studies over k; a panel each.

    Returns:
        The figure.

    Paper: Theorem 3.4.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
        grid = figure.subplots(1, len(studies), sharey=True, squeeze=False)[0]
        for axes, (title, panel) in zip(grid, studies.items(), strict=True):
            ks = np.array([study.k for study in panel])

            def share(values: list[float], ks: np.ndarray = ks) -> np.ndarray:
                return np.array(values) / ks

            axes.plot(ks, share([s.bound_hops for s in panel]), ":", color=GREY, label="bound with $m - 1$ hops")
            axes.plot(ks, share([s.bound for s in panel]), "--", color=GREY, label="bound of Theorem 3.4")
            axes.plot(ks, share([s.lemma_exact for s in panel]), color=ORANGE, label="Lemma 3.3, exact mean")
            axes.plot(ks, share([s.flow.mean for s in panel]), color=BLUE, label="flow between clusters")
            axes.errorbar(
                ks,
                share([s.optimal.mean for s in panel]),
                share([2 * s.optimal.std_error for s in panel]),
                fmt="o",
                color="black",
                markersize=3,
                label="optimal matchings (± 2 s.e.)",
                zorder=5,
            )
            axes.set(yscale="log", xlabel="k", title=title)
            _powers_of_two(axes, ks.tolist())
        grid[0].set(ylabel="share of matches that cross", ylim=(None, 1.1))
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        return figure


def bands(panels: Mapping[str, tuple[Sequence[int], Mapping[str, Sequence[Estimate]]]]) -> Figure:
    """Theorem 3.5: the share of crossing matches with both ends in the bands, against k.

    Args:
        panels: Title -> the ks, and per label of a band the shares.

    Returns:
        The figure.

    Paper: Theorem 3.5.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (title, (ks, lines)) in zip(grid, panels.items(), strict=True):
            for (label, shares), look in zip(lines.items(), series(), strict=False):
                errors = [2 * share.std_error for share in shares]
                axes.errorbar(ks, [share.mean for share in shares], errors, **look.line, label=label)
            axes.set(xlabel="k", title=title, ylim=(0, 1.03))
            axes.legend(loc="best")
            _powers_of_two(axes, ks)
        grid[0].set_ylabel("share of crossing matches\nin the bands (± 2 s.e.)")
        return figure


@dataclass(frozen=True)
class ExpansionStudy:
    """Theorem 4.1 on one model and data set.

    Attributes:
        one_minus_lam: Values of 1 - lam.
        rest_at: Absolute remainder at each, per k.
        ks: Values of k.
        terms: Name of a term -> its value per k, at ``alpha``.
        alpha: Of the second panel.
        alphas: Values of alpha.
        rest_share: Absolute remainder as a share of (1 - lam)^2's mean, per k over ``alphas``, in units of its value at
            the largest alpha for the smallest k.
    """

    one_minus_lam: Sequence[float]
    rest_at: Mapping[int, Sequence[float]]
    ks: Sequence[int]
    terms: Mapping[str, Sequence[float]]
    alpha: float
    alphas: Sequence[float]
    rest_share: Mapping[int, Sequence[float]]


def expansion(study: ExpansionStudy) -> Figure:
    """Theorem 4.1: the order of the remainder, the terms against k, and the remainder against alpha.

    Args:
        study: What to draw.

    Returns:
        The figure.

    Paper: Theorem 4.1.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        for (k, rests), look in zip(study.rest_at.items(), series(), strict=False):
            left.plot(study.one_minus_lam, rests, **look.line, label=f"k = {k}")
        t, first = np.array(study.one_minus_lam), next(iter(study.rest_at.values()))
        left.plot(t, first[0] * (t / t[0]) ** 3 * 2, "--", color=GREY, label="slope 3")
        left.set(xscale="log", yscale="log", xlabel=r"$1 - \lambda$", title=r"Remainder at fixed $\lambda$")
        left.legend()
        for (name, values), look in zip(study.terms.items(), series(), strict=False):
            middle.plot(study.ks, values, **look.line, label=name)
        middle.axhline(0, color=GREY, linewidth=0.6)
        middle.set(xlabel="k", title=rf"Terms of the loss, $\alpha = {study.alpha:g}$")
        _powers_of_two(middle, study.ks)
        middle.legend()
        for (k, shares), look in zip(study.rest_share.items(), series(), strict=False):
            right.plot(study.alphas, shares, **look.line, label=f"k = {k}")
        right.set(xscale="log", yscale="log", xlabel=r"$\alpha$", title=r"Mean remainder / $E[(1 - \lambda)^2]$")
        right.set_ylim(top=6 * max(max(shares) for shares in study.rest_share.values()))
        right.legend(loc="upper center", ncols=3, columnspacing=1, handletextpad=0.4)
        return figure


def _tensor(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def _cluster_studies(max_k: int, seed: int) -> dict[str, list[theory.ClusterStudy]]:
    generator = Generator().manual_seed(seed)
    ks = [2**i for i in range(2, int(math.log2(max_k)) + 1)]
    centres = {
        "2 clusters": _tensor([[0, 0], [10, 0]]),
        "3 equidistant clusters": _tensor([[0, 0], [10, 0], [5, 75**0.5]]),
        "5 clusters in a line": _tensor([[10 * i, 0] for i in range(5)]),
    }
    return {
        title: theory.study_clusters(theory.Balls(where, 0.4), ks, draws=200, generator=generator)
        for title, where in centres.items()
    }


def _band_studies(max_k: int, seed: int) -> dict[str, tuple[list[int], dict[str, list[Estimate]]]]:
    generator = Generator().manual_seed(seed)
    ks = [2**i for i in range(2, int(math.log2(max_k)) + 1)]
    disks = theory.Balls(_tensor([[0, 0], [4, 0]]), 1.0)
    # A in two tiny parts: the far one's squared distance to B is 1 + 0.8 apart^2, so it is matched to B directly.
    apart, tiny = 0.4, 1e-3
    u = 0.1 * apart**2
    parts = theory.Balls(_tensor([[0, 0], [u, math.sqrt(apart**2 - u**2)], [1, 0]]), tiny)

    def to_a_and_b(points: Tensor) -> Tensor:
        to_each = parts.distance(points)
        return torch.stack([to_each[..., :2].amin(-1), to_each[..., 2]], dim=-1)

    gap = 1 - 2 * tiny
    printed = theory.printed_band(apart / 2 + tiny, tiny, gap)
    safe = theory.safe_band(apart + 2 * tiny, 2 * tiny, gap)
    disks_printed = theory.printed_band(1, 1, disks.gap)
    cases = {
        "Two disks (connected)": (
            disks,
            disks.distance,
            disks.gap,
            {
                rf"$\epsilon$ = {disks_printed:g}, as printed": disks_printed,
                r"$\epsilon$ = 0.1": 0.1,
                r"$\epsilon$ = 0.05": 0.05,
            },
        ),
        "A in two parts, B a disk": (
            parts,
            to_a_and_b,
            gap,
            {rf"$\epsilon$ = {printed:.3f}, as printed": printed, rf"$\epsilon$ = {safe:.3f}, from diameters": safe},
        ),
    }
    panels = {}
    for title, (balls, distance, distance_apart, widths) in cases.items():
        shares: dict[str, list[Estimate]] = {label: [] for label in widths}
        for k in ks:
            draws = max(64, 8192 // k)
            x, y = (balls.sample(draws, k, generator)[0] for _ in range(2))
            for label, eps in widths.items():
                in_band, cross = theory.band_matches(x, y, distance, distance_apart, eps)
                shares[label].append(_ratio(in_band.double(), cross.double()))
        panels[title] = (ks, shares)
    return panels


def _ratio(part: Tensor, whole: Tensor) -> Estimate:
    """The share that the sum of one count has of the other's, over independent draws; error to first order."""
    share = float(part.sum() / whole.sum())
    around = Estimate.of((part - share * whole) / whole.mean())
    return Estimate(share, around.std_error, around.n)


def _expansion_study(seed: int) -> ExpansionStudy:
    """A small smooth network trained with 32-mixup on the ring, expanded on the points it was trained on."""
    generator = Generator().manual_seed(seed)
    data = DATASETS["one-ring"](None, seed)
    x, y = data.x_train[:_EXPANDED].double(), data.y_train[:_EXPANDED]
    targets = torch.nn.functional.one_hot(y, 2).double()
    model = _smooth_model(x, targets, seed, generator)
    ks, alpha = (1, 2, 4, 8, 16, 32), 1.0
    one_minus_lam = [0.0025 * 2**i for i in range(8)]
    alphas = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0]
    rest_at, rest_share = {}, {}
    terms: dict[str, list[float]] = {"$R_1$": [], "$R_2$": [], "$R_3$": [], "remainder": []}
    for k in ks:
        partners = theory.local_distributions(x, k, draws=20_000, generator=generator)
        parts = theory.expand(model, x, targets, partners)

        def rest(alpha: float, partners: Tensor = partners, parts: theory.Expansion = parts) -> float:
            return float(theory.objective(model, x, targets, partners, alpha) - parts.objective(alpha))

        for name, value in zip(terms, (*(float(term) for term in parts.terms(alpha)), rest(alpha)), strict=True):
            terms[name].append(value)
        if k in (1, 8, 32):
            rest_at[k] = [
                abs(float(theory.objective_at(model, x, targets, partners, 1 - t) - parts.at(1 - t)))
                for t in one_minus_lam
            ]
            rest_share[k] = [abs(rest(a)) / theory.local_lam_moments(a)[1] for a in alphas]
    return ExpansionStudy(one_minus_lam, rest_at, ks, terms, alpha, alphas, rest_share)


def _smooth_model(x: Tensor, targets: Tensor, seed: int, generator: Generator) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2)).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    mixer = KMixup(32, 1.0, generator=generator)
    for _ in range(500):
        plan = mixer.plan(x)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(plan.mix(x)), plan.mix(targets)).backward()
        optimizer.step()
    return model.requires_grad_(False).eval()


def _powers_of_two(axes: Axes, ks: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    shown = list(ks)[:: 1 if len(ks) <= 7 else 2]
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_major_formatter(FixedFormatter([str(k) for k in shown]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
