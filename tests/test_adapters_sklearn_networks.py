"""The two networks: what fitting depends on, and what it does not; searches, stopping, devices."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch.overrides import TorchFunctionMode

from kmixup.adapters.sklearn import KMixupClassifier, KMixupRegressor


def iris() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_iris(return_X_y=True)
    return x, y


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


@pytest.mark.parametrize(("n", "batch_size", "batches"), [(319, 64, 4), (100, 64, 1), (130, 32, 4), (128, 32, 4)])
def test_no_batch_is_smaller_than_asked_for_so_that_k_of_half_of_it_always_fits(
    n: int, batch_size: int, batches: int
) -> None:
    sizes: list[int] = []

    class Counting(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            sizes.append(len(x))
            return super().forward(x)

    x = np.random.default_rng(0).normal(size=(n, 3))
    KMixupClassifier(k=batch_size // 2, batch_size=batch_size, epochs=1, module=Counting, random_state=0).fit(
        x, np.arange(n) % 2
    )
    assert sum(sizes) == n
    assert len(sizes) == batches
    assert batch_size <= min(sizes)
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("name", ["epochs", "batch_size"])
def test_counts_must_be_positive_integers(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be an integer >= 1, got 0"):
        KMixupClassifier(**{name: 0}).fit(*iris())


@pytest.mark.parametrize("sizes", [64, "64", (0,), (8, 1.5)])
def test_hidden_sizes_must_be_a_sequence_of_positive_integers(sizes: Any) -> None:
    with pytest.raises(ValueError, match="hidden_sizes must be"):
        KMixupClassifier(hidden_sizes=sizes).fit(*iris())


def test_the_schedule_must_be_known() -> None:
    with pytest.raises(ValueError, match="schedule must be cosine or constant, got 'linear'"):
        KMixupClassifier(schedule="linear").fit(*iris())


# --- one pass at a time -----------------------------------------------------------------------------------------------


def with_dropout(inputs: int, outputs: int) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(inputs, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, outputs))


@pytest.mark.parametrize("module", [None, with_dropout], ids=["own layers", "dropout"])
def test_epochs_calls_of_partial_fit_are_fit(module: Any) -> None:
    x, y = iris()
    options: dict[str, Any] = {"k": 4, "epochs": 4, "module": module, "random_state": 0}
    whole, parts = KMixupClassifier(**options).fit(x, y), KMixupClassifier(**options)
    for _ in range(4):
        parts.partial_fit(x, y, classes=[0, 1, 2])
        parts = pickle.loads(pickle.dumps(parts))  # between two passes it can be stored
    np.testing.assert_array_equal(parts.predict_proba(x), whole.predict_proba(x))
    assert parts.loss_curve_ == whole.loss_curve_
    assert parts.n_iter_ == whole.n_iter_ == 4
    with pytest.raises(ValueError, match=r"after epochs=4 calls of partial_fit the learning rate has fallen to 0"):
        parts.partial_fit(x, y)


def test_epochs_calls_of_the_regressors_partial_fit_are_fit() -> None:
    x, y = load_diabetes(return_X_y=True)
    whole, parts = (KMixupRegressor(k=4, epochs=2, random_state=0) for _ in range(2))
    np.testing.assert_array_equal(parts.partial_fit(x, y).partial_fit(x, y).predict(x), whole.fit(x, y).predict(x))


def test_a_stream_in_parts_is_learned_at_a_constant_rate() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=0, stratify=y)
    model = KMixupClassifier(k=4, epochs=1, schedule="constant", random_state=0)
    for _ in range(20):
        for rows in np.array_split(np.arange(len(x_train)), 4):
            model.partial_fit(x_train[rows], y_train[rows], classes=[0, 1])
    assert model.n_iter_ == 80
    assert model.score(x_test, y_test) > 0.93


def test_partial_fit_names_what_it_lacks() -> None:
    x, y = iris()
    with pytest.raises(ValueError, match="classes is required in the first call of partial_fit"):
        KMixupClassifier().partial_fit(x, y)
    with pytest.raises(ValueError, match=r"y holds \[2\], which are not among the classes \[0, 1\]"):
        KMixupClassifier().partial_fit(x, y, classes=[0, 1])
    with pytest.raises(ValueError, match="partial_fit cannot stop early"):
        KMixupRegressor(early_stopping=True).partial_fit(x, y)


def test_a_warm_start_goes_on_from_the_weights_there() -> None:
    x, y = iris()
    warm = KMixupClassifier(k=4, epochs=10, warm_start=True, random_state=0).fit(x, y)
    once = warm.loss_curve_[-1]
    warm.fit(x, y)
    assert warm.n_iter_ == len(warm.loss_curve_) == 20
    assert np.mean(warm.loss_curve_[10:13]) < np.mean(warm.loss_curve_[:3])
    assert abs(warm.loss_curve_[10] - once) < abs(warm.loss_curve_[0] - once)
    cold = clone(warm).set_params(warm_start=False).fit(x, y).fit(x, y)
    assert cold.n_iter_ == 10
    with pytest.raises(ValueError, match=r"y holds \[7\], which are not among the classes"):
        warm.fit(x, np.where(y == 2, 7, y))


def test_early_stopping_keeps_the_weights_of_the_lowest_validation_loss() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 20)), rng.integers(0, 2, 300)  # noise: to go on is to overfit
    model = KMixupClassifier(
        k=4, alpha=0.0, epochs=200, learning_rate=0.01, early_stopping=True, validation_fraction=0.3, random_state=0
    )
    model.fit(x, y)
    curve = np.array(model.validation_curve_)
    assert model.n_iter_ == len(curve) == curve.argmin() + 1 + model.n_iter_no_change < 100
    assert curve.min() >= np.log(2) - 0.02  # what honest validation data can give
    losses = [log_loss(y[rows], model.predict_proba(x[rows])) for rows in np.array_split(np.arange(300), 2)]
    assert np.mean(losses) < curve[-1] + 0.1


def test_rows_that_come_twice_are_on_one_side_of_the_validation_split() -> None:
    x, y = iris()
    options: dict[str, Any] = {"k": 4, "epochs": 8, "early_stopping": True, "random_state": 0}
    twice = KMixupClassifier(**options).fit(np.repeat(x, 2, 0), np.repeat(y, 2))
    weighted = KMixupClassifier(**options).fit(x, y, np.full(len(x), 2.0))
    np.testing.assert_array_equal(twice.predict_proba(x), weighted.predict_proba(x))
    assert twice.validation_curve_ == weighted.validation_curve_


def test_verbose_prints_a_line_for_each_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = load_diabetes(return_X_y=True)
    KMixupRegressor(k=4, epochs=2, verbose=True, early_stopping=True, random_state=0).fit(x, y)
    first, second = capsys.readouterr().out.strip().splitlines()
    assert first.startswith("epoch 1/2: loss ")
    assert ", validation " in second
    KMixupRegressor(k=4, epochs=1, random_state=0).fit(x, y)
    assert not capsys.readouterr().out


def test_a_halving_search_takes_epochs_as_its_resource() -> None:
    x, y = iris()
    search = HalvingGridSearchCV(
        KMixupClassifier(random_state=0), {"k": [1, 4, 8]}, resource="epochs", max_resources=9, min_resources=3, cv=2
    ).fit(x, y)
    assert search.best_estimator_.n_iter_ == 9


# --- threads and devices ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [None, with_dropout], ids=["own layers", "dropout"])
def test_fits_on_threads_are_those_of_one_thread_and_leave_torchs_generator_alone(module: Any) -> None:
    x, y = iris()

    def probabilities(seed: int) -> np.ndarray:
        model = KMixupClassifier(k=4, epochs=2, module=module, random_state=seed)
        return model.fit(x, y).predict_proba(x)

    expected = [probabilities(seed) for seed in range(12)]
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(probabilities, range(12)))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(got, expected)


class NoFloat64(TorchFunctionMode):
    """A stand-in for Apple's GPU, which refuses float64: a name for the CPU, with the refusal."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "to" and any(str(argument) == "mps" for argument in args[1:]):
            assert torch.float64 not in (args[0].dtype, *args[1:]), "MPS does not support float64"
            args = (args[0], *("cpu" if str(argument) == "mps" else argument for argument in args[1:]))
        return func(*args, **kwargs)


@pytest.mark.parametrize(("estimator", "data"), [(KMixupClassifier, load_iris), (KMixupRegressor, load_diabetes)])
def test_a_device_without_float64_gets_float32(estimator: Any, data: Any) -> None:
    x, y = data(return_X_y=True)
    model = estimator(k=4, epochs=2, device="mps", early_stopping=True, random_state=0)
    with NoFloat64():
        predicted = model.fit(x, y).predict(x)
    assert next(model.module_.parameters()).dtype == torch.float32
    assert np.isfinite(predicted).all()


def test_the_networks_match_by_labels_and_targets() -> None:
    x, y = iris()
    options = {"k": 4, "epochs": 3, "random_state": 0, "alpha": float("inf")}
    within, plain, away = (
        KMixupClassifier(**options, **rule).fit(x, y).loss_curve_[-1]
        for rule in ({"within": "label"}, {}, {"label_weight": -2.0})
    )
    assert within < plain < away  # the two labels of a pair: one, sometimes two, mostly two
    x, y = load_diabetes(return_X_y=True)
    target, both, inputs = (
        KMixupRegressor(**options, match_on=match_on).fit(x, y).loss_curve_[-1]
        for match_on in ("target", "both", "inputs")
    )
    assert target < both < inputs  # the two targets of a pair are close, closer than chance, as inputs have it


def test_labels_that_cannot_decide_are_refused_with_the_remedy() -> None:
    x, y = iris()
    with pytest.raises(TypeError, match=r"match_on='target' needs floating-point targets.*label_weight"):
        KMixupClassifier(k=4, epochs=1, match_on="target").fit(x, y)
    with pytest.raises(ValueError, match=r'within="label" needs class indices.*match_on'):
        KMixupRegressor(k=4, epochs=1, within="label").fit(x, x[:, 0])
