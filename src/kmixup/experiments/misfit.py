r"""Which reading of the paper explains its numbers best: misfit, and likelihood ratios with what they rest on. Pure.

With printed error y and our mean m of a cell under a reading, on the scale z = log(error + 1/2):

.. math:: z(y_j) - z(m_j) \sim N(0, u_j^2 + s_j^2 + \tau^2)

u and s are the printed and our standard error, s from the spread of all readings together, so that a noisy reading is
not rewarded. tau is what two laboratories differ by, estimated on the cells that no reading touches (no mixing, k = 1).
How far the cells of one data set share that difference is not known: a ratio is given as the range over three answers,
not at all, half of tau^2, all of it.

Where even the better of two readings is farther from the printed numbers than the reference cells are, the model of the
reference is too narrow for these cells: tau is then what the better reading leaves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Duel", "Place", "between_laboratories", "compare", "log_likelihood"]

SHARED = (0.0, 0.5, 1.0)

# Of a number with two decimals: keeps cells without any spread (0 % in every trial) from weighing infinitely.
_ROUNDING = 0.01 / math.sqrt(12)


@dataclass(frozen=True, eq=False)
class Place:
    """One cell of a table.

    Attributes:
        data: The data set.
        published: The printed error in percent.
        trials: How many trials the printed error is the mean of.
        confidence: The printed half width; None if there is none.
        errors: Our errors in percent by reading; equal lists where no reading touches the cell.
    """

    data: str
    published: float
    trials: int
    confidence: float | None
    errors: Mapping[str, Sequence[float]]

    def gap(self, reading: str) -> float:
        """Printed over ours, on the logarithmic scale."""
        return _log(self.published) - _log(float(np.mean(self.errors[reading])))

    def variance(self, reading: str) -> float:
        """Of the gap, without what laboratories differ by: printed and our standard error, squared."""
        spreads = [
            np.var([_log(error) for error in errors], ddof=1) for errors in self.errors.values() if len(errors) > 1
        ]
        weights = [len(errors) - 1 for errors in self.errors.values() if len(errors) > 1]
        pooled = float(np.average(spreads, weights=weights)) if spreads else 0.0
        # The printed half widths are taken as those of 95 %; without one, their trials scatter like ours.
        if self.confidence is None:
            printed = pooled / self.trials
        else:
            printed = (self.confidence / 1.96 / (self.published + 0.5)) ** 2
        return pooled / len(self.errors[reading]) + printed + (_ROUNDING / (self.published + 0.5)) ** 2


@dataclass(frozen=True)
class Duel:
    """Two readings on the cells that both have run.

    Attributes:
        one: The first reading.
        other: The second.
        cells: How many cells.
        misfit: Root mean square of ours less printed, in points, of each.
        tau: What laboratories differ by, on the logarithmic scale.
        ratio: Lowest and highest likelihood ratio of the first over the second, by how far data sets share tau.
        without: The same with each of the data sets left out.
    """

    one: str
    other: str
    cells: int
    misfit: tuple[float, float]
    tau: float
    ratio: tuple[float, float]
    without: Mapping[str, tuple[float, float]]


def between_laboratories(places: Sequence[Place], reading: str) -> float:
    """tau^2: the mean square of the gaps under a reading beyond their standard errors; 0 at least."""
    return max(0.0, float(np.mean([place.gap(reading) ** 2 - place.variance(reading) for place in places])))


def log_likelihood(places: Sequence[Place], reading: str, tau_sq: float, shared: float) -> float:
    """Log-density of the printed numbers under a reading.

    Args:
        places: The cells.
        reading: One that all of them have run.
        tau_sq: Variance between laboratories, on the logarithmic scale.
        shared: Which part of it the cells of one data set have in common, from 0 to 1.
    """
    gaps = np.array([place.gap(reading) for place in places])
    same = np.array([[one.data == other.data for other in places] for one in places])
    noise = np.diag([place.variance(reading) + (1 - shared) * tau_sq for place in places])
    covariance = noise + shared * tau_sq * same
    _, log_det = np.linalg.slogdet(2 * math.pi * covariance)
    return -0.5 * float(log_det + gaps @ np.linalg.solve(covariance, gaps))


def compare(one: str, other: str, places: Sequence[Place], reference: Sequence[Place]) -> Duel | None:
    """Compare two readings.

    Args:
        one: A reading.
        other: Another.
        places: Cells that the readings touch; those that lack one of the two are left out.
        reference: Cells that no reading touches.

    Returns:
        None without a cell that both have run, or without a reference.
    """
    both = [place for place in places if place.errors.get(one) and place.errors.get(other)]
    shared = [place for place in reference if place.errors.get(one)]
    if not both or not shared:
        return None
    better = min(between_laboratories(both, reading) for reading in (one, other))
    tau_sq = max(between_laboratories(shared, one), better)
    data = dict.fromkeys(place.data for place in both)
    rest = {name: [place for place in both if place.data != name] for name in data}
    gaps = [[np.mean(place.errors[r]) - place.published for place in both] for r in (one, other)]
    first, second = (math.sqrt(float(np.mean(np.square(each)))) for each in gaps)
    return Duel(
        one,
        other,
        len(both),
        (first, second),
        math.sqrt(tau_sq),
        _ratio(one, other, both, tau_sq),
        {name: _ratio(one, other, left, tau_sq) for name, left in rest.items() if left},
    )


def _ratio(one: str, other: str, places: Sequence[Place], tau_sq: float) -> tuple[float, float]:
    logs = [log_likelihood(places, one, tau_sq, c) - log_likelihood(places, other, tau_sq, c) for c in SHARED]
    # Beyond e^100 a ratio says no more.
    low, high = (math.exp(min(max(log, -100.0), 100.0)) for log in (min(logs), max(logs)))
    return low, high


def _log(error: float) -> float:
    return math.log(error + 0.5)
