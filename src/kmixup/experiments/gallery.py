"""Makes the pictures by name: draws samples, trains models, runs the studies; `figures` does the drawing.

kmixup reproduce figure1      (3 data sets x 3 methods, 200 epochs each)
kmixup reproduce theory       (every simulation of Sections 3 and 4)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Generator, Tensor

from kmixup import theory
from kmixup.experiments import figures
from kmixup.experiments.datasets import DATASETS
from kmixup.experiments.recipe import make_trial
from kmixup.experiments.training import Training, run
from kmixup.mixing import KMixup

TOYS = {"One Ring": "one-ring", "Four Bars": "four-bars", "Swiss Roll": "swiss-roll"}
_K = 32
_GRID = 160
_EXPANDED = 96  # points that Theorem 4.1 is evaluated on: all their pairs are


def figure1(out: Path, *, seed: int = 0, epochs: int | None = None) -> list[Path]:
    """Decision surfaces of ERM, mixup and 32-mixup, all with alpha = 1, on the toy data; settings of Table 1.

    Args:
        out: Folder for the files.
        seed: Of the trials.
        epochs: Another number of epochs than Table 1's, for a first look; the picture says so.

    Returns:
        The files written.

    Paper: Figure 1.
    """
    methods = {
        "ERM": {"method": "erm"},
        "mixup": {"k": 1, "alpha": 1.0, "alpha_rule": "none"},
        f"{_K}-mixup": {"k": _K, "alpha": 1.0, "alpha_rule": "none"},
    }
    surfaces = {
        title: {
            name: _surface({"dataset": dataset, "seed": seed, **settings}, epochs) for name, settings in methods.items()
        }
        for title, dataset in TOYS.items()
    }
    whole = make_trial({"dataset": TOYS["One Ring"]}, "table1").epochs
    note = "" if epochs in (None, whole) else f"reduced protocol: {epochs} epochs instead of {whole}"
    return figures.save(figures.decision_surfaces(surfaces, note=note), out / "figure1")


def figure2(out: Path, *, seed: int = 0) -> list[Path]:
    """Couplings and 512 vicinal points for k = 1 and k = 32, alpha = 1.

    Args:
        out: Folder for the files.
        seed: Of the data and the draws.

    Returns:
        The files written.

    Paper: Figure 2.
    """
    points = {title: _toy(dataset, seed) for title, dataset in TOYS.items()}
    figure = figures.couplings(points, (1, _K), 1.0, Generator().manual_seed(seed))
    return figures.save(figure, out / "figure2")


def figure3(out: Path, *, seed: int = 0, draws: int = 20_000) -> list[Path]:
    """The locally-informed distribution of one random point per toy data set, k = 32.

    Args:
        out: Folder for the files.
        seed: Of the data, the points and the draws.
        draws: Draws of the partner.

    Returns:
        The files written.

    Paper: Figure 3.
    """
    generator = Generator().manual_seed(seed)
    panels = {}
    for title, dataset in TOYS.items():
        x, y = _toy(dataset, seed)
        index = int(torch.randint(len(x), (), generator=generator))
        distribution = theory.local_distribution(x, _K, index, draws=draws, generator=generator)
        panels[title] = figures.Partners(x, y, index, distribution)
    return figures.save(figures.partner_distributions(panels, _K), out / "figure3")


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
        "theory-manifold": figures.manifold_support(supports),
        "theory-clusters": figures.crossing_matches(_cluster_studies(min(max_k, 256), seed)),
        "theory-bands": figures.bands(_band_studies(min(max_k, 1024), seed)),
        "theory-expansion": figures.expansion(_expansion_study(seed)),
    }
    return [file for name, figure in pictures.items() for file in figures.save(figure, out / name)]


PICTURES: dict[str, Callable[..., list[Path]]] = {
    "figure1": figure1,
    "figure2": figure2,
    "figure3": figure3,
    "theory": theory_pictures,
}


def _toy(dataset: str, seed: int) -> tuple[Tensor, Tensor]:
    data = DATASETS[dataset](None, seed)
    return data.x_train, data.y_train


def _surface(settings: dict[str, object], epochs: int | None) -> figures.Surface:
    trial = make_trial({**settings, **({} if epochs is None else {"epochs": epochs})}, "table1")
    trained: list[Training] = []
    finished = run(trial, on_epoch=lambda training: trained.append(training) if not trained else None)
    model, data = trained[0].model, trained[0].data
    if finished.final_error is None:
        raise ValueError(f"training of {trial.dataset} with k = {trial.k} diverged: there is no surface to draw.")
    low, high = data.x_train.amin(0), data.x_train.amax(0)
    margin = 0.12 * (high - low)
    (left, bottom), (right, top) = (low - margin).tolist(), (high + margin).tolist()
    v, u = torch.meshgrid(torch.linspace(bottom, top, _GRID), torch.linspace(left, right, _GRID), indexing="ij")
    with torch.no_grad():
        probability = model.eval()(torch.stack([u, v], -1).view(-1, 2)).softmax(1)[:, 1].view(_GRID, _GRID)
    return figures.Surface(
        probability, (left, right, bottom, top), data.x_train[:400], data.y_train[:400], finished.final_error
    )


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


def _band_studies(max_k: int, seed: int) -> dict[str, tuple[list[int], dict[str, list[float]]]]:
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
        shares: dict[str, list[float]] = {label: [] for label in widths}
        for k in ks:
            draws = max(64, 8192 // k)
            x, y = (balls.sample(draws, k, generator)[0] for _ in range(2))
            for label, eps in widths.items():
                in_band, cross = theory.band_matches(x, y, distance, distance_apart, eps)
                shares[label].append(float(in_band.sum() / cross.sum()))
        panels[title] = (ks, shares)
    return panels


def _expansion_study(seed: int) -> figures.ExpansionStudy:
    """A small smooth network trained with 32-mixup on the ring, expanded on the points it was trained on."""
    generator = Generator().manual_seed(seed)
    x, y = _toy("one-ring", seed)
    x, targets = x.double()[:_EXPANDED], torch.nn.functional.one_hot(y[:_EXPANDED], 2).double()
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
    return figures.ExpansionStudy(one_minus_lam, rest_at, ks, terms, alpha, alphas, rest_share)


def _smooth_model(x: Tensor, targets: Tensor, seed: int, generator: Generator) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2)).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    mixer = KMixup(_K, 1.0, generator=generator)
    for _ in range(500):
        plan = mixer.plan(x)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(plan.mix(x)), plan.mix(targets)).backward()
        optimizer.step()
    return model.requires_grad_(False).eval()
