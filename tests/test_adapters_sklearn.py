"""The scikit-learn adapter: scikit-learn's own checks, and the estimators that people use beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from lightgbm import LGBMClassifier
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch.nn import functional as F

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


# --- the sampler ------------------------------------------------------------------------------------------------------


def iris() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_iris(return_X_y=True)
    return x, y


def test_the_weighted_loss_of_the_sampled_rows_is_the_two_target_loss() -> None:
    x, y = iris()
    sampler = KMixupSampler(k=4, alpha=1.0, random_state=0)
    mixed, labels, weight = sampler.fit_resample(x, y)
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3).double()
    losses = F.cross_entropy(model(torch.from_numpy(mixed)), torch.from_numpy(labels), reduction="none")
    (plan,) = sampler.plans_
    outputs = model(plan.mix(torch.from_numpy(x)))
    expected = plan.loss(lambda o, t: F.cross_entropy(o, t, reduction="none"), outputs, torch.from_numpy(y))
    torch.testing.assert_close((losses * torch.from_numpy(weight)).sum() / len(x), expected)


def test_the_squared_error_of_mixed_targets_has_the_gradient_of_the_two_target_loss() -> None:
    x, y = load_diabetes(return_X_y=True)
    given = np.random.default_rng(0).uniform(0.5, 2, len(x))
    sampler = KMixupSampler(k=4, alpha=1.0, random_state=0)
    mixed, targets, weight = sampler.fit_resample(x, y, given)
    (plan,) = sampler.plans_
    beta = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    merged = (torch.from_numpy(weight) * (torch.from_numpy(mixed) @ beta - torch.from_numpy(targets)) ** 2).sum()
    outputs = plan.mix(torch.from_numpy(x)) @ beta
    own, theirs = torch.from_numpy(y), torch.from_numpy(y)[plan.partner]
    own_weight, their_weight = torch.from_numpy(given), torch.from_numpy(given)[plan.partner]
    two = (plan.lam * own_weight * (outputs - own) ** 2 + (1 - plan.lam) * their_weight * (outputs - theirs) ** 2).sum()
    torch.testing.assert_close(torch.autograd.grad(merged, beta), torch.autograd.grad(two, beta))


@pytest.mark.parametrize("lam_per", ["batch", "block", "sample"])
def test_each_pair_of_different_labels_gives_two_rows_and_the_total_weight_is_kept(lam_per: Any) -> None:
    x, y = iris()
    sampler = KMixupSampler(k=8, alpha=1.0, lam_per=lam_per, random_state=3)
    mixed, labels, weight = sampler.fit_resample(x, y)
    (plan,) = sampler.plans_
    different = int((y != y[plan.partner.numpy()]).sum())
    assert 0 < different < len(x)
    assert len(mixed) == len(labels) == len(weight) == len(x) + different
    np.testing.assert_allclose(weight.sum(), len(x))


def test_alpha_zero_returns_the_data_with_weight_one() -> None:
    x, y = iris()
    mixed, labels, weight = KMixupSampler(alpha=0, draws=2).fit_resample(x, y)
    np.testing.assert_array_equal(mixed, np.concatenate([x, x]))
    np.testing.assert_array_equal(labels, np.concatenate([y, y]))
    np.testing.assert_array_equal(weight, 1.0)


def test_one_hot_blocks_still_sum_to_one() -> None:
    rng = np.random.default_rng(0)
    one_hot = np.eye(5)[rng.integers(0, 5, 64)]
    mixed, _, _ = KMixupSampler(k=4, random_state=0).fit_resample(one_hot, rng.integers(0, 2, 64))
    assert (mixed.max(1) < 1).any()
    np.testing.assert_allclose(mixed.sum(1), 1.0)


def test_a_row_of_weight_zero_is_as_good_as_absent() -> None:
    x, y = iris()
    weight = np.arange(len(x)) % 3 * 1.0
    with_zeros = KMixupSampler(k=4, random_state=0).fit_resample(x, y, weight)
    without = KMixupSampler(k=4, random_state=0).fit_resample(x[weight > 0], y[weight > 0], weight[weight > 0])
    for got, expected in zip(with_zeros, without, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_equal_seeds_draw_equal_rows_and_others_do_not() -> None:
    x, y = iris()
    first, again, other = (KMixupSampler(k=4, random_state=seed).fit_resample(x, y)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert len(first) != len(other) or (first != other).any()


def test_pandas_comes_back_as_pandas_with_its_names() -> None:
    x, y = load_iris(return_X_y=True, as_frame=True)
    y = y.map({0: "setosa", 1: "versicolor", 2: "virginica"}).astype("category")
    sampler = KMixupSampler(k=4, random_state=0)
    mixed, labels, weight = sampler.fit_resample(x, y)
    assert isinstance(mixed, pd.DataFrame)
    assert list(mixed.columns) == list(sampler.feature_names_in_) == list(x.columns)
    assert isinstance(labels, pd.Series)
    assert (labels.name, labels.dtype) == (y.name, y.dtype)
    assert len(mixed) == len(labels) == len(weight)


def test_polars_comes_back_as_polars_with_its_names() -> None:
    x, y = iris()
    frame = pl.DataFrame(x, schema=["a", "b", "c", "d"])
    labels_in = pl.Series("kind", [("setosa", "versicolor", "virginica")[label] for label in y])
    mixed, labels, _ = KMixupSampler(k=4, random_state=0).fit_resample(frame, labels_in)
    assert isinstance(mixed, pl.DataFrame)
    assert mixed.columns == ["a", "b", "c", "d"]
    assert isinstance(labels, pl.Series)
    assert (labels.name, labels.dtype) == ("kind", pl.String)


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(max_iter=1000),
        HistGradientBoostingClassifier(max_iter=15),
        LGBMClassifier(n_estimators=15, verbose=-1, n_jobs=1),
        pytest.param("xgboost", id="XGBClassifier"),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_any_estimator_with_sample_weight_learns_from_vicinal_data(estimator: Any) -> None:
    if estimator == "xgboost":
        estimator = pytest.importorskip("xgboost").XGBClassifier(n_estimators=15, n_jobs=1)
    x, y = load_breast_cancer(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=0, stratify=y)
    rows, labels, weight = KMixupSampler(k=16, alpha=0.2, draws=2, random_state=0).fit_resample(x_train, y_train)
    assert estimator.fit(rows, labels, sample_weight=weight).score(x_test, y_test) > 0.93


@pytest.mark.parametrize("draws", [0, 1.5, True])
def test_draws_must_be_a_positive_integer(draws: Any) -> None:
    with pytest.raises(ValueError, match="draws must be an integer >= 1"):
        KMixupSampler(draws=draws).fit_resample(*iris())


def test_negative_weights_are_refused() -> None:
    x, y = iris()
    with pytest.raises(ValueError, match="sample_weight must be >= 0, got 150 negative weights"):
        KMixupSampler().fit_resample(x, y, -np.ones(len(x)))


# --- any estimator, through Vicinal -----------------------------------------------------------------------------------


def test_at_alpha_zero_the_wrapped_estimator_scores_as_it_does_alone() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    alone = DecisionTreeClassifier(random_state=0)
    expected = cross_val_score(alone, x, y, cv=3)
    np.testing.assert_array_equal(cross_val_score(Vicinal(alone, KMixupSampler(alpha=0)), x, y, cv=3), expected)
    mixed = cross_val_score(Vicinal(alone, KMixupSampler(alpha=1.0, random_state=0)), x, y, cv=3)
    assert (mixed != expected).any()


def test_grid_search_chooses_k_and_alpha_for_a_regressor() -> None:
    x, y = load_diabetes(return_X_y=True)
    vicinal = Vicinal(GradientBoostingRegressor(n_estimators=10, random_state=0), KMixupSampler(random_state=0))
    search = GridSearchCV(vicinal, {"sampler__k": [1, 8], "sampler__alpha": [0.0, 0.5]}, cv=3).fit(x, y)
    assert search.best_score_ > 0.2
    assert len(set(search.cv_results_["mean_test_score"])) == 3  # at alpha = 0, k makes no difference


# --- the networks -----------------------------------------------------------------------------------------------------


def mixed_columns(n: int = 240) -> tuple[dict[str, list[Any]], np.ndarray]:
    """Two numeric columns and a category that decide the class together."""
    rng = np.random.default_rng(0)
    numeric, category = rng.normal(size=(n, 2)), rng.integers(0, 3, n)
    y = numeric[:, 0] + 2.0 * (category == 1) - (category == 2) > 0.3
    columns = {"width": list(numeric[:, 0]), "height": list(numeric[:, 1] * 100)}
    return {**columns, "colour": [("red", "green", "blue")[c] for c in category]}, np.where(y, "yes", "no")


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_grid_search_over_k_and_alpha_in_a_pipeline_with_categories(frame: Any) -> None:
    columns, y = mixed_columns()
    pipeline = make_pipeline(
        make_column_transformer(
            (StandardScaler(), ["width", "height"]), (OneHotEncoder(handle_unknown="ignore"), ["colour"])
        ),
        KMixupClassifier(epochs=40, standardize=False, random_state=0),
    )
    grid = {"kmixupclassifier__k": [1, 8], "kmixupclassifier__alpha": [0.1, 1.0]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(frame(columns), y)
    assert search.best_score_ > 0.85
    assert search.predict_proba(frame(columns)).shape == (240, 2)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_feature_names_are_kept_and_checked(frame: Any) -> None:
    columns, y = mixed_columns(40)
    x = frame({name: columns[name] for name in ("width", "height")})
    model = KMixupClassifier(k=2, epochs=1, random_state=0).fit(x, y)
    assert list(model.feature_names_in_) == ["width", "height"]
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame({"width": columns["width"], "depth": columns["height"]}))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_classifier_learns_in_the_precision_of_the_data(dtype: Any) -> None:
    x, y = load_breast_cancer(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x.astype(dtype), y, random_state=0, stratify=y)
    model = KMixupClassifier(k=8, alpha=1.0, epochs=30, random_state=0).fit(x_train, y_train)
    assert model.score(x_test, y_test) > 0.95
    probabilities = model.predict_proba(x_test)
    assert probabilities.dtype == dtype
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert model.loss_curve_[-1] < model.loss_curve_[0]


def test_the_regressor_predicts_several_targets_in_their_own_units() -> None:
    x, y = load_diabetes(return_X_y=True)
    both = np.stack([y, 1e4 - 10 * y], 1)
    x_train, x_test, y_train, y_test = train_test_split(x, both, random_state=0)
    model = KMixupRegressor(k=8, alpha=0.5, hidden_sizes=(32,), epochs=30, random_state=0).fit(x_train, y_train)
    assert model.predict(x_test).shape == y_test.shape
    assert model.score(x_test, y_test) > 0.3


def test_read_only_data_are_predicted_without_a_warning() -> None:
    x, y = iris()
    model = KMixupClassifier(k=4, epochs=1, standardize=False, random_state=0).fit(x, y)
    locked = x.copy()
    locked.flags.writeable = False
    np.testing.assert_array_equal(model.predict(locked), model.predict(x))


def test_fitting_does_not_depend_on_the_order_of_the_rows() -> None:
    x, y = iris()
    order = np.random.default_rng(0).permutation(len(x))
    first = KMixupClassifier(k=4, epochs=3, random_state=0).fit(x, y)
    second = KMixupClassifier(k=4, epochs=3, random_state=0).fit(x[order], y[order])
    np.testing.assert_array_equal(first.predict_proba(x), second.predict_proba(x))


def test_the_scale_of_small_weights_does_not_matter_and_huge_ones_stay_cheap() -> None:
    x, y = iris()
    weight = np.random.default_rng(0).uniform(0.5, 1.5, len(x))
    fits = [
        KMixupClassifier(k=4, epochs=2, random_state=0).fit(x, y, weight * scale).predict_proba(x)
        for scale in (2.0**-10, 2.0**-20, 2.0**20, 2.0**30)
    ]
    np.testing.assert_array_equal(fits[0], fits[1])
    np.testing.assert_array_equal(fits[2], fits[3])


def test_a_seed_reproduces_the_fit_and_leaves_torchs_generator_alone() -> None:
    x, y = iris()
    before = torch.get_rng_state()
    first, again, other = (
        KMixupClassifier(k=4, epochs=2, random_state=seed).fit(x, y).predict_proba(x) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_k_makes_no_difference_at_alpha_zero_and_does_at_alpha_one() -> None:
    x, y = iris()

    def probabilities(k: int, alpha: float) -> np.ndarray:
        return KMixupClassifier(k=k, alpha=alpha, epochs=2, random_state=0).fit(x, y).predict_proba(x)

    np.testing.assert_array_equal(probabilities(1, 0.0), probabilities(8, 0.0))
    assert (probabilities(1, 1.0) != probabilities(8, 1.0)).any()


def test_any_network_can_stand_in_for_the_default_one() -> None:
    x, y = iris()

    def network(inputs: int, outputs: int) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(inputs, 8), torch.nn.Dropout(0.1), torch.nn.Linear(8, outputs))

    model = KMixupClassifier(k=4, epochs=30, learning_rate=0.03, module=network, random_state=0).fit(x, y)
    assert isinstance(model.module_[1], torch.nn.Dropout)
    assert not model.module_.training
    assert model.score(x, y) > 0.9


def test_divergence_is_an_error_that_says_what_to_change() -> None:
    x, y = load_diabetes(return_X_y=True)
    model = KMixupRegressor(k=4, epochs=5, learning_rate=1e30, random_state=0)
    with pytest.raises(ValueError, match=r"training diverged.*Lower learning_rate"):
        model.fit(x, y)


@pytest.mark.parametrize("name", ["epochs", "batch_size"])
def test_counts_must_be_positive_integers(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be an integer >= 1, got 0"):
        KMixupClassifier(**{name: 0}).fit(*iris())
