"""The paper's sentences about a table, each decided by runs: held, not held, or not tested.

Trials of one seed share their data and initial weights, so cells are compared seed by seed. The tests are one-sided
paired t-tests at 5 %; where a sentence makes many comparisons, Holm's correction applies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from kmixup.experiments.recipe import Cell, Claim

LEVEL = 0.05

# Test error in percent by seed; for attacks by seed and epsilon.
Errors = Mapping[tuple[int, str], float]


@dataclass(frozen=True)
class Comparison:
    """One cell (or the best of several) against another.

    Attributes:
        label: Which, in words.
        difference: Mean over common seeds of ours minus theirs, in percentage points; negative favours the claim.
        p_for: Probability of a difference this favourable if there is none.
        p_against: The same for the opposite direction.
        by_seed: The differences.
    """

    label: str
    difference: float
    p_for: float
    p_against: float
    by_seed: Mapping[int, float]


@dataclass(frozen=True)
class Verdict:
    """What runs say about a claim.

    Attributes:
        claim: The sentence.
        verdict: ``"held"``, ``"not held"``, ``"not tested"``.
        detail: The numbers behind it, and the test.
    """

    claim: Claim
    verdict: Literal["held", "not held", "not tested"]
    detail: str


def judge(claim: Claim, cells: Sequence[Cell], errors: Sequence[Errors]) -> Verdict:
    """Decide a claim.

    Args:
        claim: The sentence.
        cells: Cells of the recipe.
        errors: Errors of each cell's runs, in percent, keyed by seed and attack (``""`` without one).
    """
    table = list(zip(cells, errors, strict=True))
    if claim.kind == "below":
        return _below(claim, table)
    if claim.kind == "best":
        return _best(claim, table)
    comparisons, missing = (_each if claim.kind == "better" else _best_of)(claim, table)
    return _decide(claim, comparisons, missing)


def compare(label: str, ours: Mapping[int, float], theirs: Mapping[int, float]) -> Comparison | None:
    """Paired comparison over the seeds that both have; None if there are fewer than two."""
    seeds = sorted(set(ours) & set(theirs))
    if len(seeds) < 2:
        return None
    by_seed = {seed: ours[seed] - theirs[seed] for seed in seeds}
    values = np.array(list(by_seed.values()))
    return Comparison(label, float(values.mean()), _p_below_zero(values), _p_below_zero(-values), by_seed)


def holm(p_values: Sequence[float], level: float = LEVEL) -> int:
    """How many of these hypotheses Holm's procedure rejects."""
    rejected = 0
    for rank, p in enumerate(sorted(p_values)):
        if p > level / (len(p_values) - rank):
            break
        rejected += 1
    return rejected


_Table = list[tuple[Cell, Errors]]


def _p_below_zero(values: np.ndarray) -> float:
    """One-sided t-test: small if the mean is below zero beyond chance. Equal values, which have no t: the sign test."""
    spread = values.std(ddof=1)
    if spread < 1e-12:
        return 0.5 ** len(values) if values[0] < -1e-12 else 1.0
    return float(stats.t.cdf(values.mean() / (spread / math.sqrt(len(values))), len(values) - 1))


def _sets(claim: Claim, table: _Table) -> dict[tuple[str, tuple[object, ...]], _Table]:
    """Cells that may be compared with each other: the same attack, the same value of the settings in ``same``."""
    sets: dict[tuple[str, tuple[object, ...]], _Table] = {}
    for cell, errors in table:
        attacks = sorted({attack for _, attack in errors if attack}, key=float) if claim.measure == "attack" else [""]
        for attack in attacks:
            key = (attack, tuple(str(cell.value(name)) for name in claim.same))
            here = {(seed, ""): error for (seed, which), error in errors.items() if which == attack}
            sets.setdefault(key, []).append((cell, here))
    return sets


def _by_seed(errors: Errors) -> dict[int, float]:
    return {seed: error for (seed, _), error in errors.items()}


def _label(claim: Claim, key: tuple[str, tuple[object, ...]]) -> str:
    attack, values = key
    parts = [f"{name}={value}" for name, value in zip(claim.same, values, strict=True) if value]
    return ", ".join(parts + ([f"epsilon={attack}"] if attack else []))


def _each(claim: Claim, table: _Table) -> tuple[list[Comparison], int]:
    comparisons, missing = [], 0
    for key, cells in _sets(claim, table).items():
        baselines = [errors for cell, errors in cells if cell.matches(claim.than)]
        for cell, errors in cells:
            if not cell.matches(claim.cells):
                continue
            names = ", ".join(f"{name}={cell.value(name)}" for name in claim.cells)
            found = [compare(f"{_label(claim, key)}, {names}", _by_seed(errors), _by_seed(base)) for base in baselines]
            comparisons += [comparison for comparison in found if comparison is not None]
            missing += sum(comparison is None for comparison in found)
    return comparisons, missing


def _best_of(claim: Claim, table: _Table) -> tuple[list[Comparison], int]:
    """The best of each side is chosen on half of the seeds and compared on the other half, both ways around.

    Chosen and compared on the same runs, the side with more cells would win by luck.
    """
    comparisons, missing = [], 0
    for key, cells in _sets(claim, table).items():
        sides = [
            [by_seed for cell, errors in cells if cell.matches(where) and (by_seed := _by_seed(errors))]
            for where in (claim.cells, claim.than)
        ]
        if not all(any(cell.matches(where) for cell, _ in cells) for where in (claim.cells, claim.than)):
            continue
        chosen: list[dict[int, float]] = [{}, {}]
        for parity in (0, 1):
            for side, best in zip(sides, chosen, strict=True):
                judged = [c for c in side if {seed % 2 for seed in c} == {0, 1}]
                if judged:
                    winner = min(judged, key=lambda c: np.mean([e for seed, e in c.items() if seed % 2 == parity]))
                    best.update({seed: e for seed, e in winner.items() if seed % 2 != parity})
        comparison = compare(_label(claim, key), *chosen)
        if comparison is None:
            missing += 1
        else:
            comparisons.append(comparison)
    return comparisons, missing


def _decide(claim: Claim, comparisons: list[Comparison], missing: int) -> Verdict:
    if not comparisons:
        return Verdict(claim, "not tested", "Needs two seeds or more of the cells it compares.")
    right = sum(c.difference < 0 for c in comparisons)
    ties = sum(c.difference == 0 for c in comparisons)
    wrong = len(comparisons) - right - ties
    clearly_for = holm([c.p_for for c in comparisons])
    clearly_against = holm([c.p_against for c in comparisons])
    # Signs, so that no data set or column outweighs another; averaged within a seed, for a seed's cells share its data.
    seeds = sorted({seed for c in comparisons for seed in c.by_seed})
    signs = np.array([np.mean([np.sign(c.by_seed[s]) for c in comparisons if s in c.by_seed]) for s in seeds])
    p = _p_below_zero(signs)
    worst = max(comparisons, key=lambda c: c.difference)
    detail = (
        f"{right} of {len(comparisons)} comparisons in the claimed direction ({clearly_for} significantly), "
        f"{ties} ties, {wrong} against it ({clearly_against} significantly); "
        f"overall p = {p:.2g} over {len(seeds)} seeds (one-sided t-test on signs). "
        f"Least favourable: {worst.label}: {worst.difference:+.2f}."
    )
    if claim.kind == "best-of":
        detail += " The best are chosen on half of the seeds and compared on the other half."
    if missing:
        detail += f" {missing} comparisons have too few runs."
    # The signs of a few lopsided comparisons must not outvote most of the others.
    held = p < LEVEL and not clearly_against and right > wrong
    return Verdict(claim, "held" if held else "not held", detail)


def _best(claim: Claim, table: _Table) -> Verdict:
    won, lost, significantly = 0, [], 0
    for key, cells in _sets(claim, table).items():
        means = [(float(np.mean(list(e.values()))), cell, e) for cell, e in cells if e]
        ours = [entry for entry in means if entry[1].matches(claim.cells)]
        others = [entry for entry in means if not entry[1].matches(claim.cells)]
        if not ours or not others:
            continue
        best, rival = min(ours, key=lambda m: m[0]), min(others, key=lambda m: m[0])
        if best[0] <= rival[0]:
            won += 1
            continue
        lost.append(f"{_label(claim, key)}: {best[0]:.2f} against {rival[0]:.2f}")
        comparison = compare("", _by_seed(best[2]), _by_seed(rival[2]))
        significantly += comparison is not None and comparison.p_against < LEVEL
    if not won + len(lost):
        return Verdict(claim, "not tested", "No set of cells has runs on both sides.")
    detail = f"Lowest mean (or tied) in {won} of {won + len(lost)} sets, {claim.exceptions} exceptions allowed."
    if lost:
        detail += f" Beaten, {significantly} times significantly (paired t-test): {'; '.join(lost)}."
    return Verdict(claim, "held" if len(lost) <= claim.exceptions else "not held", detail)


def _below(claim: Claim, table: _Table) -> Verdict:
    bound = claim.bound
    assert bound is not None
    parts, held = [], []
    for cell, errors in table:
        values = np.array(list(_by_seed(errors).values()))
        if not cell.matches(claim.cells) or len(values) < 2:
            continue
        limit = values.mean() + stats.t.ppf(1 - LEVEL, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
        held.append(limit < bound)
        parts.append(f"{cell.group or cell.settings.dataset}: {values.mean():.2f} (at most {limit:.2f})")
    if not parts:
        return Verdict(claim, "not tested", "Needs two seeds or more.")
    detail = f"{'; '.join(parts)}; bound {bound:g} (95 % upper confidence limit of the mean, t-distribution)."
    return Verdict(claim, "held" if all(held) else "not held", detail)
