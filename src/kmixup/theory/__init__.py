"""The theory of k-mixup, executable: one function per definition, lemma and theorem. See PAPER.md for the map."""

from kmixup.theory.expansion import LOSSES, Expansion, expand, local_lam_moments, objective, objective_at
from kmixup.theory.local import Couplings, all_couplings, local_distribution, local_distributions
from kmixup.theory.reversion import MeanReversion, ThetaMoments, mean_reversion, theta_moments

__all__ = [
    "LOSSES",
    "Couplings",
    "Expansion",
    "MeanReversion",
    "ThetaMoments",
    "all_couplings",
    "expand",
    "local_distribution",
    "local_distributions",
    "local_lam_moments",
    "mean_reversion",
    "objective",
    "objective_at",
    "theta_moments",
]
