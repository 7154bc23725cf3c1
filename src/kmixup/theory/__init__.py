"""The theory of k-mixup, executable: one function per definition, lemma and theorem. See PAPER.md for the map."""

from kmixup.lam import ThetaMoments, local_lam_moments, theta_moments
from kmixup.theory.bands import band_matches, printed_band, safe_band
from kmixup.theory.clusters import (
    Balls,
    ClusterStudy,
    cluster_counts,
    cross_matches,
    cross_share_bound,
    expected_imbalance,
    imbalance,
    study_clusters,
)
from kmixup.theory.expansion import LOSSES, Expansion, expand, objective, objective_at
from kmixup.theory.flow import cluster_flow, exact_up_to, flow_cross_matches
from kmixup.theory.local import Couplings, all_couplings, local_distribution, local_distributions
from kmixup.theory.manifolds import Manifold, sphere, swiss_roll, torus
from kmixup.theory.reversion import MeanReversion, mean_reversion
from kmixup.theory.support import (
    SupportStudy,
    excursion,
    manifold_share,
    manifold_share_bound,
    matching_rate,
    study_support,
)

__all__ = [
    "LOSSES",
    "Balls",
    "ClusterStudy",
    "Couplings",
    "Expansion",
    "Manifold",
    "MeanReversion",
    "SupportStudy",
    "ThetaMoments",
    "all_couplings",
    "band_matches",
    "cluster_counts",
    "cluster_flow",
    "cross_matches",
    "cross_share_bound",
    "exact_up_to",
    "excursion",
    "expand",
    "expected_imbalance",
    "flow_cross_matches",
    "imbalance",
    "local_distribution",
    "local_distributions",
    "local_lam_moments",
    "manifold_share",
    "manifold_share_bound",
    "matching_rate",
    "mean_reversion",
    "objective",
    "objective_at",
    "printed_band",
    "safe_band",
    "sphere",
    "study_clusters",
    "study_support",
    "swiss_roll",
    "theta_moments",
    "torus",
]
