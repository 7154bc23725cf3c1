"""The sampler: what its rows and weights mean, for every kind of column; and estimators trained on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from lightgbm import LGBMClassifier, early_stopping
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, make_classification
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.class_weight import compute_sample_weight
from torch.nn import functional as F

from kmixup.adapters.sklearn import KMixupSampler, Vicinal


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


@pytest.mark.parametrize("kind", [np.asarray, np.int64, list, pd.Series, lambda y: pd.Series(y.astype(int)), pl.Series])
def test_whole_numbers_are_continuous_targets_where_one_says_so(kind: Any) -> None:
    x, y = load_diabetes(return_X_y=True)
    sampler = KMixupSampler(k=4, targets="continuous", random_state=0)
    assert (y == np.floor(y)).all()
    _, targets, weight = sampler.fit_resample(x, kind(y))
    expected = KMixupSampler(k=4, random_state=0).fit_resample(x, y + 0.5)
    np.testing.assert_allclose(np.asarray(targets) + 0.5, expected[1])
    np.testing.assert_array_equal(weight, expected[2])
    with pytest.raises(ValueError, match=r'targets="continuous" needs numbers, got y of <U1'):
        sampler.fit_resample(x, np.full(len(x), "a"))
    with pytest.raises(ValueError, match="targets must be auto, classes or continuous, got 'regression'"):
        KMixupSampler(targets="regression").fit_resample(x, y)  # pyright: ignore[reportArgumentType]


def test_the_estimator_in_vicinal_decides_what_whole_numbers_are() -> None:
    x, y = load_diabetes(return_X_y=True)
    trees = GradientBoostingRegressor(loss="absolute_error", n_estimators=10, random_state=0)  # else both ways are one
    sampler = KMixupSampler(k=4, random_state=0)
    fractional, whole = (Vicinal(trees, sampler).fit(x, y + shift).predict(x) for shift in (0.5, 0.0))
    np.testing.assert_allclose(fractional, whole + 0.5)
    kept = Vicinal(trees, KMixupSampler(k=4, targets="classes", random_state=0)).fit(x, y).predict(x)
    assert np.abs(kept - whole).max() > 0.1
    assert sampler.targets == "auto"
    halves = Vicinal(DecisionTreeClassifier(), sampler).fit(x, (y > 100) * 1.0)
    assert halves.sampler_.targets == "classes"


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


@pytest.mark.parametrize("draws", [1, 2])
def test_alpha_zero_returns_the_data_with_their_weights_divided_among_the_draws(draws: int) -> None:
    x, y = iris()
    mixed, labels, weight = KMixupSampler(alpha=0, draws=draws).fit_resample(x, y)
    np.testing.assert_array_equal(mixed, np.concatenate([x] * draws))
    np.testing.assert_array_equal(labels, np.concatenate([y] * draws))
    np.testing.assert_array_equal(weight, 1 / draws)


@pytest.mark.parametrize("options", [{"draws": 3}, {"keep_original": True}, {"draws": 2, "keep_original": True}])
def test_draws_and_the_original_rows_do_not_weaken_the_regularisation_of_an_estimator(options: Any) -> None:
    x, y = iris()
    alone = LogisticRegression(C=0.1, max_iter=1000, tol=1e-10)
    unmixed = Vicinal(alone, KMixupSampler(alpha=0, **options)).fit(x, y).estimator_
    np.testing.assert_allclose(unmixed.coef_, alone.fit(x, y).coef_, atol=1e-5)
    _, _, weight = KMixupSampler(k=4, random_state=0, **options).fit_resample(x, y)
    np.testing.assert_allclose(weight.sum(), len(x))


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


@pytest.mark.parametrize("k", [1, 8])
def test_weights_that_balance_the_classes_still_do_once_mixed_and_counting_rows_does_not(k: int) -> None:
    x, y = make_classification(400, weights=[0.9], flip_y=0, random_state=0)

    def share(weight: np.ndarray, labels: np.ndarray) -> float:
        return weight[labels == 1].sum() / weight.sum()

    sampler = KMixupSampler(k=k, lam_per="batch", random_state=0)
    _, labels, weight = sampler.fit_resample(x, y, compute_sample_weight("balanced", y))
    assert share(weight, labels) == pytest.approx(0.5)
    _, labels, weight = sampler.fit_resample(x, y)
    assert share(weight, labels) == pytest.approx((y == 1).mean())
    assert share(weight * compute_sample_weight("balanced", labels), labels) < 0.45


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


# --- columns that are no plain numbers --------------------------------------------------------------------------------


def people(n: int = 300) -> tuple[pd.DataFrame, np.ndarray]:
    """Two numbers, a flag, a code and a name, and a class that the first number decides."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "income": rng.normal(size=n),
            "age": rng.uniform(20, 60, n),
            "smoker": rng.random(n) < 0.3,
            "region": rng.integers(0, 5, n),
            "town": pd.Categorical(rng.choice(["Bergen", "Oslo", "Voss"], n)),
        }
    )
    return frame, (frame.income > 0).to_numpy().astype(int)


def as_pandas(frame: pd.DataFrame) -> Any:
    return frame


def as_polars(frame: pd.DataFrame) -> Any:
    columns: dict[str, Any] = {name: frame[name].to_numpy() for name in frame.columns[:-1]}
    return pl.DataFrame({**columns, "town": pl.Series(frame.town.tolist(), dtype=pl.Categorical)})


def as_objects(frame: pd.DataFrame) -> Any:
    return frame.to_numpy(dtype=object)


def columns(table: Any) -> list[np.ndarray]:
    """The columns of any table as arrays."""
    if isinstance(table, np.ndarray):
        return list(table.T)
    return [np.asarray(table[name]) for name in table.columns]


@pytest.mark.parametrize("kind", [as_pandas, as_polars, as_objects])
def test_each_row_takes_the_categories_of_the_sample_whose_label_it_carries(kind: Any) -> None:
    frame, y = people()
    listed = ["region"] if kind is not as_objects else [2, 3, 4]
    sampler = KMixupSampler(k=4, categorical_features=listed, random_state=0)
    mixed, labels, weight = sampler.fit_resample(kind(frame), y)
    assert type(mixed) is type(kind(frame))
    assert sampler.categorical_features_.tolist() == [False, False, True, True, True]
    assert sampler.n_features_in_ == 5

    (plan,) = sampler.plans_
    partner, lam = plan.partner.numpy(), plan.lam.numpy()
    codes = np.stack([frame.smoker, frame.region, frame.town.cat.codes], 1)
    same = (codes == codes[partner]).all(1) & (y == y[partner])
    assert 0 < same.sum() < len(y)
    first, second = np.flatnonzero(same | (lam > 0)), np.flatnonzero(~same & (lam < 1))
    source = np.concatenate([first, partner[second]])
    income, age, smoker, region, town = columns(mixed)
    np.testing.assert_array_equal(labels, y[source])
    np.testing.assert_array_equal(smoker, frame.smoker.to_numpy()[source])
    np.testing.assert_array_equal(region, frame.region.to_numpy()[source])
    np.testing.assert_array_equal(town, np.asarray(frame.town)[source])
    place = np.concatenate([first, second])
    for got, column in ((income, frame.income.to_numpy()), (age, frame.age.to_numpy())):
        expected = lam * column + (1 - lam) * column[partner]
        np.testing.assert_allclose(got.astype(float), expected[place])
    np.testing.assert_allclose(weight, np.concatenate([np.where(same, 1.0, lam)[first], (1 - lam)[second]]))


def test_a_frame_keeps_the_types_of_its_categories() -> None:
    frame, y = people()
    mixed, _, _ = KMixupSampler(k=4, random_state=0).fit_resample(frame, y)
    assert mixed.dtypes[["smoker", "town"]].tolist() == frame.dtypes[["smoker", "town"]].tolist()
    boosting = HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype")
    model = Vicinal(boosting, KMixupSampler(k=4, random_state=0)).fit(frame, y)
    assert model.score(frame, y) > 0.9
    assert model.estimator_.is_categorical_.tolist() == [False, False, False, False, True]
    assert list(model.feature_names_in_) == list(frame.columns)


def test_continuous_targets_of_different_categories_are_not_averaged() -> None:
    frame, _ = people()
    y = frame.age.to_numpy() / 7
    sampler = KMixupSampler(k=4, random_state=0)
    _, targets, weight = sampler.fit_resample(frame[["income", "smoker"]], y)
    (plan,) = sampler.plans_
    partner, lam = plan.partner.numpy(), plan.lam.numpy()
    same = (frame.smoker.to_numpy() == frame.smoker.to_numpy()[partner]) | (lam == 1)
    own = np.where(same, lam * y + (1 - lam) * y[partner], y)
    np.testing.assert_allclose(targets, np.concatenate([own, y[partner[~same]]]))
    np.testing.assert_allclose(weight.sum(), len(y))


def test_categories_take_part_in_the_matching() -> None:
    frame, y = people()
    town = np.asarray(frame.town)

    def same_town(k: int) -> float:
        sampler = KMixupSampler(k=k, draws=20, random_state=0)
        sampler.fit_resample(frame[["income", "town"]], y)
        return float(np.mean([town == town[plan.partner.numpy()] for plan in sampler.plans_]))

    assert same_town(1) < 0.4
    assert same_town(16) > 0.6


def test_a_mixed_value_is_missing_where_either_is() -> None:
    frame, y = people()
    missing = np.random.default_rng(1).random(len(y)) < 0.1
    numbers = frame[["income", "age"]].assign(income=frame.income.where(~missing))
    sampler = KMixupSampler(k=4, random_state=0)
    mixed, _, _ = sampler.fit_resample(numbers, np.zeros(len(y)))  # one class: one row for each sample
    (plan,) = sampler.plans_
    np.testing.assert_array_equal(mixed.income.isna(), missing | missing[plan.partner.numpy()])
    assert mixed.age.notna().all()
    unmixed, _, _ = KMixupSampler(alpha=0).fit_resample(numbers, y)
    pd.testing.assert_frame_equal(unmixed, numbers)
    model = Vicinal(HistGradientBoostingClassifier(max_iter=5), KMixupSampler(k=4, random_state=0))
    assert model.fit(numbers, y).score(numbers, y) > 0.85
    with pytest.raises(ValueError, match="LogisticRegression does not accept missing values"):
        Vicinal(LogisticRegression(), KMixupSampler(k=4)).fit(numbers, y)


def test_a_column_without_a_value_changes_no_match() -> None:
    x, y = iris()
    rows, _, weight = KMixupSampler(k=4, random_state=0).fit_resample(np.column_stack([x, np.full(len(x), np.nan)]), y)
    expected, _, expected_weight = KMixupSampler(k=4, random_state=0).fit_resample(x, y)
    np.testing.assert_array_equal(rows[:, :4], expected)
    np.testing.assert_array_equal(weight, expected_weight)
    assert np.isnan(rows[:, 4]).all()


def test_missing_categories_are_categories_of_their_own() -> None:
    frame, y = people()
    town = frame.town.astype(object).where(frame.income > -1, None).astype("string")
    mixed, _, _ = KMixupSampler(k=4, random_state=0).fit_resample(frame[["income"]].assign(town=town), y)
    assert set(mixed.town.dropna()) == {"Bergen", "Oslo", "Voss"}
    assert mixed.town.isna().any()


def test_sparse_data_stay_sparse_and_are_mixed_as_dense_ones() -> None:
    x = sparse.random(200, 40, density=0.3, format="csr", random_state=0)  # no two rows alike, no ties
    y = np.arange(200) % 3
    got, labels, weight = KMixupSampler(k=4, draws=2, keep_original=True, random_state=0).fit_resample(x, y)
    expected, *others = KMixupSampler(k=4, draws=2, keep_original=True, random_state=0).fit_resample(x.toarray(), y)
    assert sparse.issparse(got)
    assert got.nnz < 0.6 * expected.size
    np.testing.assert_allclose(got.toarray(), expected, atol=1e-12)
    np.testing.assert_array_equal(labels, others[0])
    np.testing.assert_array_equal(weight, others[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"when": pd.Timestamp("2020-01-01")}, r"column 'when' is datetime64.*neither a number nor a category"),
        ({"rate": pd.Series([1.5, None] * 150, dtype=object)}, "column 'rate' is of type object and holds numbers"),
        ({"income": np.inf}, "Input X contains infinity"),
    ],
    ids=["time", "objects", "infinity"],
)
def test_columns_that_can_not_be_mixed_are_refused_by_name(change: Any, message: str) -> None:
    frame, y = people()
    with pytest.raises(ValueError, match=message):
        KMixupSampler(k=4).fit_resample(frame.assign(**change), y)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("region", r"must list columns, got 'region'. Use \['region'\]"),
        (["county"], "names 'county', which is no column of X"),
        ([9], "names 9, which is no column of X"),
        ([True, False], "is a mask of 2 columns, and X has 5"),
    ],
    ids=str,
)
def test_categories_that_are_not_there_are_refused(listed: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KMixupSampler(categorical_features=listed).fit_resample(*people())


def test_without_a_number_there_is_nothing_to_mix() -> None:
    frame, y = people()
    for table in (frame[["smoker", "town"]], frame[["smoker"]].to_numpy()):
        with pytest.raises(ValueError, match="X has no column of numbers to mix"):
            KMixupSampler().fit_resample(table, y)
    with pytest.raises(ValueError, match="a sparse X must hold numbers alone"):
        KMixupSampler(categorical_features=[0]).fit_resample(sparse.eye_array(300).tocsr(), y)


def test_the_original_rows_can_come_first_with_half_of_the_weights() -> None:
    x, y = iris()
    given = np.random.default_rng(0).integers(0, 3, len(x)).astype(float)
    rows, labels, weight = KMixupSampler(k=4, keep_original=True, random_state=0).fit_resample(x, y, given)
    mixed = KMixupSampler(k=4, random_state=0).fit_resample(x, y, given)
    present = given > 0
    for got, own, added in zip((rows, labels, 2 * weight), (x, y, given), mixed, strict=True):
        np.testing.assert_array_equal(got, np.concatenate([own[present], added]))


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


def boosters() -> list[Any]:
    from xgboost import XGBClassifier

    return [
        (XGBClassifier(n_estimators=200, early_stopping_rounds=3, n_jobs=1), {"verbose": False}),
        (LGBMClassifier(n_estimators=200, verbose=-1, n_jobs=1), {"callbacks": [early_stopping(3, verbose=False)]}),
    ]


@pytest.mark.filterwarnings("ignore:The argument 'eval_set' is deprecated")  # LightGBM 4.7, and older need it
@pytest.mark.parametrize("which", [0, 1], ids=["xgboost", "lightgbm"])
def test_an_estimator_stops_early_on_validation_data_that_are_not_mixed(which: int) -> None:
    pytest.importorskip("xgboost")
    estimator, options = boosters()[which]
    x, y = load_breast_cancer(return_X_y=True)
    x_train, x_held, y_train, y_held = train_test_split(x, y, random_state=0, stratify=y)
    sampler = KMixupSampler(k=4, random_state=0)
    model = Vicinal(estimator, sampler).fit(x_train, y_train, eval_set=[(x_held, y_held)], **options).estimator_
    rows, labels, weight = sampler.fit_resample(x_train, y_train)
    by_hand = boosters()[which][0].fit(
        rows, labels, sample_weight=weight, eval_set=[(x_held, y_held)], **boosters()[which][1]
    )
    name = ("best_iteration", "best_iteration_")[which]
    assert getattr(model, name) == getattr(by_hand, name) < 190


def test_a_pipeline_inside_is_refused_with_the_order_that_works() -> None:
    x, y = iris()
    with pytest.raises(ValueError, match=r"Put Vicinal last in the pipeline"):
        Vicinal(make_pipeline(StandardScaler(), LogisticRegression()), KMixupSampler(k=4)).fit(x, y)
    with pytest.raises(ValueError, match=r"KNeighborsClassifier\.fit takes no sample_weight"):
        Vicinal(KNeighborsClassifier(), KMixupSampler(k=4)).fit(x, y)
    assert (
        make_pipeline(StandardScaler(), Vicinal(LogisticRegression(), KMixupSampler(k=4))).fit(x, y).score(x, y) > 0.8
    )


def test_vicinal_hands_on_logarithms_of_probabilities() -> None:
    x, y = iris()
    model = Vicinal(LogisticRegression(max_iter=1000), KMixupSampler(k=4, random_state=0)).fit(x, y)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(x)), model.predict_proba(x))
    assert not hasattr(Vicinal(GradientBoostingRegressor()), "predict_log_proba")
