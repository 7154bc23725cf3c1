"""k-mixup: mixup along exact optimal transport matchings.

>>> mixer = KMixup(k=16, alpha=1.0, num_classes=10)
>>> x_mixed, y_soft = mixer(x, y)
"""

from kmixup.assignment import Solver, assign, transport_cost
from kmixup.calibration import Calibration, algorithm_1, calibrate, matched_sq_distance
from kmixup.config import show_config
from kmixup.cost import Metric, cost_matrix
from kmixup.coupling import Coupling
from kmixup.cutmix import CutPlan, cut
from kmixup.diagnosis import Diagnosis, KDiagnosis
from kmixup.diagnostics import diagnose
from kmixup.estimate import Estimate
from kmixup.lam import alpha_for, min_lam_sq
from kmixup.manifold import KManifoldMixup
from kmixup.measure import mean_sq_distance
from kmixup.mixup import KMixup, LamPer, Pairing
from kmixup.plan import MixPlan
from kmixup.rectangles import match
from kmixup.stats import MixStats
from kmixup.tuning import suggest

__version__ = "0.2.0.dev0"

__all__ = [
    "Calibration",
    "Coupling",
    "CutPlan",
    "Diagnosis",
    "Estimate",
    "KDiagnosis",
    "KManifoldMixup",
    "KMixup",
    "LamPer",
    "Metric",
    "MixPlan",
    "MixStats",
    "Pairing",
    "Solver",
    "algorithm_1",
    "alpha_for",
    "assign",
    "calibrate",
    "cost_matrix",
    "cut",
    "diagnose",
    "match",
    "matched_sq_distance",
    "mean_sq_distance",
    "min_lam_sq",
    "show_config",
    "suggest",
    "transport_cost",
]
