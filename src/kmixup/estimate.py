"""A mean with its error: everything that averages gives one of these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """The mean of independent draws, or an exact value.

    Attributes:
        mean: The estimate.
        std_error: Its standard error; 0 for an exact value, ``inf`` for a single draw.
        n: Number of independent draws; 0 for an exact value.
    """

    mean: float
    std_error: float
    n: int

    @classmethod
    def of(cls, values: Tensor | np.ndarray | Sequence[float]) -> Estimate:
        """The mean of independent values.

        Args:
            values: One number per draw, shape ``[n]``, any real dtype.

        Raises:
            ValueError: If there are no values.
        """
        draws = torch.as_tensor(values, device="cpu").detach().double().flatten()
        n = len(draws)
        if n == 0:
            raise ValueError("values must hold at least one draw, got none.")
        # From the first draw on: the mean of equal values may differ from them in the last digit.
        spread = float((draws - draws[0]).std()) if n > 1 else math.inf
        return cls(float(draws.mean()), spread / math.sqrt(n), n)

    @classmethod
    def exact(cls, value: float) -> Estimate:
        """A value without error."""
        return cls(float(value), 0.0, 0)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Student's confidence interval of the mean.

        Draws that are all equal have no spread to judge by: theirs is the interval of the sign test, by which equal
        draws show something where chance gives them one sign with a probability of 1 - level at most. That takes six
        of them at 95 %.

        Args:
            level: Its probability, in (0, 1).

        Returns:
            Both ends: the value itself if it is exact or all of enough draws; the whole line after a single draw, or
            where all of a few are equal.

        Raises:
            ValueError: If the level is no probability between 0 and 1.
        """
        if not 0 < level < 1:
            raise ValueError(f"level must be in (0, 1), got {level}. Use 0.95 for 95 %.")
        if self.n == 0:
            return self.mean, self.mean
        if self.n == 1 or (self.std_error == 0 and 2 ** (1 - self.n) > 1 - level):
            return -math.inf, math.inf
        from scipy.special import stdtrit  # imported where used, as everywhere in the core

        half = float(stdtrit(self.n - 1, (1 + level) / 2)) * self.std_error
        return self.mean - half, self.mean + half
