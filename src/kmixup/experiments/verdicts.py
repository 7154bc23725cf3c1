r"""Verdicts on claims: a formula over comparisons in, held / contradicted / undecided / not tested out. Pure.

``AtLeast`` combines comparisons (all of these, some of these, all but one), and nests: "the best of these beats the
best of those" is "some of these beats all of those". Every formula gives a lower bound of its effect and one of the
opposite effect, each wrong with probability ``level`` at most. The verdict compares them with the margin: held if the
effect lies above it, contradicted if it lies below, undecided otherwise, not tested if no outcome of these runs could
have decided. It never rests on the absence of significance, and a better run never makes it worse.

Without a scale of the noise from elsewhere no such rule can decide with fewer than five seeds. If it ever says "held"
it must, with better runs, say so of equal advantages, whatever their size, hence of every all-positive result, and that
comes up without any effect with probability 2^-n: 6.25 % at four seeds. A t-test evades this by not being monotone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kmixup.experiments.comparisons import LEVEL, TOLERANCE, Arm, Comparison, pair

Outcome = Literal["held", "contradicted", "undecided", "not tested"]
OUTCOMES: tuple[Outcome, ...] = ("held", "contradicted", "undecided", "not tested")


@dataclass(frozen=True, eq=False)
class AtLeast:
    """At least ``needed`` of these parts have an effect: its effect is the ``needed``-th largest of theirs.

    The opposite, "fewer than ``needed`` have", is the same formula on the other side: at least ``len - needed + 1``
    have an effect against it. Bonferroni's partial conjunction (Benjamini and Heller, 2008) bounds both: all of m need
    no correction, one of m shares the level among m.

    Where one part suffices, two thirds of the level go to the part that decides the printed table: five seeds then do,
    as 2/3 of 5 % is more than 1/32. Printed numbers are not made from these runs, so this choice costs no validity; the
    best is never chosen on the runs that judge it.
    """

    children: tuple[Node, ...]
    needed: int

    @property
    def leaves(self) -> tuple[Comparison, ...]:
        """Every comparison of the formula."""
        return tuple(leaf for child in self.children for leaf in child.leaves)

    @property
    def effect(self) -> float | None:
        """From the means; None if a cell has no runs."""
        effects = [child.effect for child in self.children]
        known = [effect for effect in effects if effect is not None]
        return sorted(known)[-self.needed] if len(known) == len(effects) else None

    @property
    def published(self) -> float | None:
        """The same formula on the printed numbers, as far as they are known."""
        known = sorted(child.published for child in self.children if child.published is not None)
        return known[-max(self.needed - len(self.children) + len(known), 1)] if known else None

    def able(self, side: int) -> bool:
        """Whether these runs could decide on this side."""
        return sum(child.able(side) for child in self.children) >= self._need(side)

    def bound(self, level: float, side: int) -> np.ndarray:
        """What the effect times ``side`` (1 or -1) exceeds, but for a probability of ``level`` at most."""
        shares = self._shares(level, side, [child.able(side) for child in self.children])
        bounds = [child.bound(share, side) for child, share in zip(self.children, shares, strict=True)]
        return np.sort(np.stack(bounds), axis=0)[-self._need(side)]

    def detectable(self, level: float, side: int) -> float:
        """As for a comparison; of the hardest one that is needed."""
        shares = self._shares(level, side, [child.able(side) for child in self.children])
        found = [child.detectable(share, side) for child, share in zip(self.children, shares, strict=True)]
        return sorted(found)[self._need(side) - 1]

    def seeds_needed(self, margin: float, level: float, side: int) -> float:
        """As for a comparison, if every cell is run; of the hardest one that is needed.

        Parts of which it is not known may be hard or easy: these seeds are enough, if there is a number of them.
        """
        shares = self._shares(level, side, [True] * len(self.children))
        found = [child.seeds_needed(margin, share, side) for child, share in zip(self.children, shares, strict=True)]
        easy, hard = (
            sorted(if_unknown if math.isnan(each) else each for each in found)[self._need(side) - 1]
            for if_unknown in (0.0, math.inf)
        )
        return math.nan if easy < hard == math.inf else hard

    def _need(self, side: int) -> int:
        return self.needed if side > 0 else len(self.children) - self.needed + 1

    def _shares(self, level: float, side: int, able: Sequence[bool]) -> list[float]:
        """The level of each child. It depends on which runs exist and on printed numbers, never on the runs' values."""
        parts = max(sum(able) - self._need(side) + 1, 1)
        printed = [
            -math.inf if c.published is None or not a else side * c.published
            for c, a in zip(self.children, able, strict=True)
        ]
        if self._need(side) > 1 or parts == 1 or max(printed) == -math.inf:
            return [level / parts] * len(able)
        shares = [level / 3 / (parts - 1)] * len(able)
        shares[printed.index(max(printed))] = level * 2 / 3
        return shares


Node = Comparison | AtLeast


def all_of(parts: Sequence[Node], exceptions: int = 0) -> Node:
    """Each of these, but for so many exceptions."""
    return _at_least(parts, max(len(parts) - exceptions, 1))


def some_of(parts: Sequence[Node]) -> Node:
    """One of these, whichever."""
    return _at_least(parts, 1)


def _at_least(parts: Sequence[Node], needed: int) -> Node:
    return parts[0] if len(parts) == 1 else AtLeast(tuple(parts), needed)


def best_of(ours: Sequence[Arm], theirs: Sequence[Arm]) -> Node:
    """The best of ours errs less than the best of theirs: some of ours less than each of theirs."""
    return some_of([all_of([pair(mine, other) for other in theirs]) for mine in ours])


@dataclass(frozen=True)
class Verdict:
    """What runs say about a claim.

    Attributes:
        outcome: Held, contradicted, undecided, not tested.
        effect: The formula's effect from the means, in percentage points; None if one of its cells has no runs.
        low: The effect lies above, but for a probability of 5 %.
        high: The effect lies below, but for a probability of 5 %.
        margin: What the effect must exceed.
        published: The same formula on the printed numbers, as far as they are known.
        seeds: Fewest and most seeds of a comparison.
        detectable: The smallest true effect beyond the margin that these runs would show with 80 % power.
        seeds_needed: Seeds of every cell that would decide, if the printed effect (else the one found) is the true one;
            None if they are more than 1000, or not known.
        unknown: What neither the printed numbers nor the runs say, so that the seeds needed are not known.
        comparisons: How many the formula has.
        untested: How many of them have too few seeds to decide anything.
        missing: Cells without a run. A cell, and a run, counts once, however many attacks on it are compared.
        diverged: Runs that diverged; they count as 100 % error.
        ties: Differences that are exactly zero; they count against both sides.
        unpaired: Runs that no comparison uses, as the cell they are compared with lacks their seed.
    """

    outcome: Outcome
    effect: float | None
    low: float
    high: float
    margin: float
    published: float | None
    seeds: tuple[int, int]
    detectable: float | None
    seeds_needed: int | None
    unknown: Literal["", "effect", "spread"]
    comparisons: int
    untested: int
    missing: int
    diverged: int
    ties: int
    unpaired: int

    @property
    def borne(self) -> bool | None:
        """Whether the printed numbers themselves bear the claim; None if they are not known."""
        return None if self.published is None else self.published > self.margin + TOLERANCE


def interval(claim: Node) -> tuple[float, float]:
    """The interval of the effect, in points, each end wrong with a probability of `LEVEL`; infinite where unknown."""
    return float(claim.bound(LEVEL, 1)), -float(claim.bound(LEVEL, -1))


def judge(claim: Node, margin: float = 0.0) -> Verdict:
    """Decide a claim.

    Args:
        claim: The formula.
        margin: In percentage points: "by 0.1 %" is held where the effect is shown to exceed 0.1.
    """
    low, high = interval(claim)
    outcome: Outcome = "undecided"
    if math.isinf(low) and math.isinf(high):
        outcome = "not tested"
    elif low > margin + TOLERANCE:
        outcome = "held"
    elif high < margin - TOLERANCE:
        outcome = "contradicted"
    leaves = claim.leaves
    arms = {arm for leaf in leaves for arm in leaf.arms}
    runs = {(arm.cell, seed): error for arm in arms for seed, error in arm.errors.items()}
    used = {(arm.cell, seed) for leaf in leaves for arm in leaf.arms for seed in leaf.seeds}
    expected = claim.published if claim.published is not None else claim.effect
    needed = math.nan if expected is None else claim.seeds_needed(margin, LEVEL, 1 if expected > margin else -1)
    no_effect = any(leaf.published is None and leaf.effect is None for leaf in leaves)
    detectable = claim.detectable(LEVEL, 1)
    return Verdict(
        outcome=outcome,
        effect=claim.effect,
        low=low,
        high=high,
        margin=margin,
        published=claim.published,
        seeds=(min(leaf.n for leaf in leaves), max(leaf.n for leaf in leaves)),
        detectable=None if math.isinf(detectable) else detectable,
        seeds_needed=int(needed) if math.isfinite(needed) else None,
        unknown="" if not math.isnan(needed) else "effect" if no_effect else "spread",
        comparisons=len(leaves),
        untested=sum(not leaf.able(1) for leaf in leaves),
        missing=len({arm.cell for arm in arms} - {cell for cell, _ in runs}),
        diverged=sum(error is None for error in runs.values()),
        ties=sum(int(np.count_nonzero(np.abs(leaf.advantages) <= TOLERANCE)) for leaf in leaves),
        unpaired=len(runs.keys() - used),
    )
