r"""Comparisons: what the runs of some cells, paired by seed, say about one effect. Pure: no files, no torch.

Trials of one seed share their data and initial weights, so that cells are compared seed by seed: a comparison has one
number per seed, the *advantage*, the percentage points by which the runs of that seed favour a claim. Its bounds are
those of the exact sign-flip test. They are order statistics of means of advantages: a better run never lowers them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np
from scipy import special

LEVEL = 0.05
POWER = 0.8
MOST_SEEDS = 1000

# The error in percent of a run that diverged: never dropped, for that would flatter its cell.
DIVERGED = 100.0

# Errors are multiples of 100 over the size of the test set; sums of them differ in the last digits.
TOLERANCE = 1e-9
_GENERATORS = 14


@dataclass(frozen=True, eq=False)
class Arm:
    """The runs of one cell, under one attack if there are several.

    Attributes:
        errors: Error in percent by seed; None for a run that diverged.
        published: The printed error.
        published_sd: Standard deviation of one run, as the printed confidence has it; plans cells without runs.
        cell: What tells cells apart: arms of one cell share its runs, which are counted once.
    """

    errors: Mapping[int, float | None]
    published: float | None = None
    published_sd: float | None = None
    cell: Hashable = field(default_factory=object)

    def error(self, seed: int) -> float:
        """Error in percent; `DIVERGED` if the run diverged."""
        error = self.errors[seed]
        return DIVERGED if error is None else error


@dataclass(frozen=True, eq=False)
class Comparison:
    """Advantages of one cell over another, seed by seed: the exact sign-flip interval of their mean.

    Attributes:
        advantages: Percentage points in favour of the claim, shape ``[..., n]``; simulations use the leading axes.
        published: The printed advantage.
        published_sd: Standard deviation of one advantage, as printed.
        arms: The cells behind it.
        seeds: The seeds that all of them have, in the order of the advantages.

    Source: the interval is Hartigan's (1969), the inversion of the sign-flip test.
    """

    advantages: np.ndarray
    published: float | None = None
    published_sd: float | None = None
    arms: tuple[Arm, ...] = ()
    seeds: tuple[int, ...] = ()

    @property
    def n(self) -> int:
        """Seeds."""
        return self.advantages.shape[-1]

    @property
    def leaves(self) -> tuple[Comparison, ...]:
        """Itself."""
        return (self,)

    @property
    def effect(self) -> float | None:
        """Mean advantage; None without runs."""
        return float(self.advantages.mean()) if self.n else None

    def able(self, side: int) -> bool:
        """Whether these seeds could decide at all."""
        return self._rank(self.n, LEVEL) > 0

    def bound(self, level: float, side: int) -> np.ndarray:
        """What the effect times ``side`` (1 or -1) exceeds, but for a probability of ``level`` at most."""
        rank = self._rank(self.n, level)
        if rank == 0:
            return np.full(self.advantages.shape[:-1], -np.inf)
        return self._sorted[..., rank - 1] if side > 0 else -self._sorted[..., -rank]

    def detectable(self, level: float, side: int) -> float:
        """The smallest true effect that these seeds would show with 80 % power; infinite if there is none."""
        if self._rank(self.n, level) == 0:
            return math.inf
        return self._detectable_ratio(self.n, level) * float(self.advantages.std(ddof=1))

    def seeds_needed(self, margin: float, level: float, side: int) -> float:
        """Seeds that show the printed effect (else the one found) with 80 % power.

        Infinite if the sign is wrong; nan if nothing printed or found says the effect, or its spread.
        """
        effect, sd = self.published if self.published is not None else self.effect, self._sd
        if effect is not None and side * (effect - margin) <= TOLERANCE:
            return math.inf
        if effect is None or sd is None:
            return math.nan
        # Ten standard deviations are certain, and still within the reach of the noncentral t.
        ratio = min(side * (effect - margin) / sd, 10.0) if sd else 10.0
        # A normal test with known noise needs this many, hence every test of the mean as many.
        enough = ((special.ndtri(1 - level) + special.ndtri(POWER)) / ratio) ** 2
        n = max(2, math.floor(enough))
        while n <= MOST_SEEDS and self._power(n, ratio, level) < POWER:
            n += 1
        return n if n <= MOST_SEEDS else math.inf

    @property
    def _sd(self) -> float | None:
        own = float(self.advantages.std(ddof=1)) if self.n > 1 else None
        return self.published_sd if self.n < 3 and self.published_sd is not None else own

    @cached_property
    def _sorted(self) -> np.ndarray:
        return np.sort(self.advantages @ _subsets(self.n), axis=-1)

    @classmethod
    @cache
    def _detectable_ratio(cls, n: int, level: float) -> float:
        """In standard deviations of an advantage."""
        low, high = 0.0, 10.0
        while high - low > 1e-7:
            middle = (low + high) / 2
            low, high = (low, middle) if cls._power(n, middle, level) >= POWER else (middle, high)
        return high

    @staticmethod
    def _rank(n: int, level: float) -> int:
        return math.floor(level * 2 ** min(n, _GENERATORS) + TOLERANCE)

    @classmethod
    def _power(cls, n: int, ratio: float, level: float) -> float:
        """The t-test's, which sign flips share; where all signs must agree, the probability that they do bounds it."""
        rank = cls._rank(n, level)
        if rank == 0:
            return 0.0
        power = 1 - float(special.nctdtr(n - 1, ratio * math.sqrt(n), special.stdtrit(n - 1, 1 - level)))
        return min(power, float(special.ndtr(ratio)) ** n) if rank == 1 and n <= _GENERATORS else power


class Typical(Comparison):
    """A comparison of the median: the sign test, for errors so near 0 and so skewed that a test of the mean fails."""

    @property
    def effect(self) -> float | None:
        """Median advantage; None without runs."""
        return float(np.median(self.advantages)) if self.n else None

    @cached_property
    def _sorted(self) -> np.ndarray:
        return np.sort(self.advantages, axis=-1)

    @staticmethod
    def _rank(n: int, level: float) -> int:
        return int(np.count_nonzero(special.bdtr(np.arange((n + 1) // 2, dtype=float), n, 0.5) <= level))

    @classmethod
    def _power(cls, n: int, ratio: float, level: float) -> float:
        rank = cls._rank(n, level)
        return float(special.bdtr(rank - 1, n, special.ndtr(-ratio))) if rank else 0.0


def contrast(
    terms: Sequence[tuple[float, Arm]], offset: float = 0.0, kind: type[Comparison] = Comparison
) -> Comparison:
    """``offset`` plus a weighted sum of errors, one for each seed that all arms have.

    Args:
        terms: Weights and arms: positive where an error favours the claim.
        offset: In percent.
        kind: `Comparison`, or `Typical` for the median.
    """
    arms = tuple(arm for _, arm in terms)
    seeds = tuple(sorted(set.intersection(*(set(arm.errors) for arm in arms))))
    advantages = [offset + sum(weight * arm.error(seed) for weight, arm in terms) for seed in seeds]
    printed = [arm.published for arm in arms]
    spreads = [arm.published_sd for arm in arms]
    return kind(
        np.array(advantages, dtype=float),
        None
        if None in printed
        else offset + sum(w * p for (w, _), p in zip(terms, printed, strict=True) if p is not None),
        None
        if None in spreads
        else math.hypot(*(w * s for (w, _), s in zip(terms, spreads, strict=True) if s is not None)),
        arms,
        seeds,
    )


def pair(ours: Arm, theirs: Arm) -> Comparison:
    """Our cell against theirs: positive where ours errs less."""
    return contrast([(-1.0, ours), (1.0, theirs)])


def average(pairs: Sequence[tuple[Arm, Arm]]) -> Comparison:
    """On average over these pairs (ours, theirs), seed by seed: needs a run of every cell."""
    weight = 1 / len(pairs)
    return contrast([term for ours, theirs in pairs for term in ((-weight, ours), (weight, theirs))])


@cache
def _subsets(n: int) -> np.ndarray:
    """Weights of the means of subsets, shape ``[n, 2^min(n, 14) - 1]``: all of them, beyond 14 seeds a fixed group.

    A group of sign flips gives an exact test (Hemerik and Goeman, 2018), where a sample of them gives one on average.
    """
    generators = np.eye(min(n, _GENERATORS), n, dtype=np.int64)
    if n > _GENERATORS:
        generators[:, _GENERATORS:] = np.random.default_rng(n).integers(2, size=(_GENERATORS, n - _GENERATORS))
    flips = np.arange(1, 2 ** len(generators))[:, None] >> np.arange(len(generators)) & 1
    members = flips @ generators % 2
    return (members / members.sum(axis=1, keepdims=True)).T
