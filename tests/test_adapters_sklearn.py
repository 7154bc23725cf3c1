"""Scikit-learn's own checks of the estimators of the scikit-learn adapter."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from kmixup.adapters.sklearn import KMixupClassifier, KMixupRegressor, KMixupSampler, Vicinal

WEIGHTS_PAIR_ROWS = (
    "the number of rows decides which rows are paired, so a weight of 2 is not the same draw as two rows"
)


@pytest.mark.filterwarnings("ignore")  # scikit-learn's checks warn on purpose
@parametrize_with_checks(
    [
        KMixupClassifier(epochs=30),  # as few as its accuracy checks allow
        KMixupRegressor(epochs=30),
        Vicinal(LogisticRegression(), KMixupSampler(random_state=0)),
    ],
    expected_failed_checks=lambda estimator: (
        {
            "check_sample_weight_equivalence_on_dense_data": WEIGHTS_PAIR_ROWS,
            "check_sample_weight_equivalence_on_sparse_data": WEIGHTS_PAIR_ROWS,
        }
        if isinstance(estimator, Vicinal)
        else {}
    ),
)
def test_scikit_learns_own_checks_pass(estimator: Any, check: Any) -> None:
    check(estimator)
