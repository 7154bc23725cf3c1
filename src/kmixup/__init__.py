"""k-mixup: mixup along exact optimal transport matchings.

>>> mixer = KMixup(k=16, alpha=1.0, num_classes=10)
>>> x_mixed, y_soft = mixer(x, y)
"""

from kmixup.calibration import (
    Calibration,
    Estimate,
    algorithm_1,
    alpha_for,
    calibrate,
    matched_sq_distance,
    mean_sq_distance,
    min_lam_sq,
)
from kmixup.config import show_config
from kmixup.diagnostics import Diagnosis, KDiagnosis, diagnose
from kmixup.manifold import KManifoldMixup
from kmixup.mixing import KMixup
from kmixup.plan import MixPlan, MixStats
from kmixup.transport import assign, cost_matrix, transport_cost

__version__ = "0.1.0"

__all__ = [
    "Calibration",
    "Diagnosis",
    "Estimate",
    "KDiagnosis",
    "KManifoldMixup",
    "KMixup",
    "MixPlan",
    "MixStats",
    "algorithm_1",
    "alpha_for",
    "assign",
    "calibrate",
    "cost_matrix",
    "diagnose",
    "matched_sq_distance",
    "mean_sq_distance",
    "min_lam_sq",
    "show_config",
    "transport_cost",
]
