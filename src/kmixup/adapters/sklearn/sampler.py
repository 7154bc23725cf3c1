"""Vicinal data with hard labels and sample weights, and any estimator trained on them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier, is_regressor
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, column_or_1d

from kmixup.adapters.sklearn.tables import (
    FLOATS,
    category_codes,
    category_columns,
    check_at_least,
    columns_of,
    like,
    mixed_table,
    points_to_match,
    row_weights,
    seeded_generator,
    validate_data,
)
from kmixup.cost import Metric
from kmixup.mixup import KMixup, LamPer, Pairing
from kmixup.plan import MixPlan


class KMixupSampler(BaseEstimator):
    r"""Vicinal data with hard labels and sample weights, for any estimator that takes ``sample_weight``.

    .. math:: (\tilde x_i, y_i) \text{ with weight } \lambda_i w_i, \qquad
        (\tilde x_i, y_{\sigma(i)}) \text{ with weight } (1 - \lambda_i)\, w_{\sigma(i)}

    A weighted loss on these rows is the two-target mixup loss, and their weights sum to those of the data: with several
    draws (and the data themselves) each has its share, so that an estimator is regularised as it is alone. The two rows
    of a pair with equal labels are one row with the sum of the weights, and rows of weight 0 are left out, so alpha = 0
    returns the data. Continuous targets are mixed instead: one row, the weighted mean of the two targets, which has the
    same squared-error minimiser. (For another loss of a regression, ``targets="classes"`` keeps the two rows, and the
    loss the two-target one.)

    Categories are never averaged: each of the two rows takes the category of the sample whose label it carries, and a
    pair whose categories differ stays two rows, whatever its targets. In a frame, columns of type category, string or
    bool are categories by themselves. **Columns of numbers that are codes look like any other**: list them.

    A mixed value is missing (NaN) where either value is.

    Args:
        k: Points per k-batch, >= 1; 1 is mixup.
        alpha: Parameter of Beta(alpha, alpha), >= 0.
        metric: Cost of a pair, see `kmixup.KMixup`.
        pairing: ``"roll"`` or ``"shuffle"``, see `kmixup.KMixup`.
        lam_per: One lam per ``"block"`` of k, per ``"sample"``, or one for all (``"batch"``).
        draws: How many times the whole data set is mixed anew; the results are stacked, and share the weights.
        keep_original: Whether the data as they are come first, as one draw more.
        targets: Whether targets are ``"classes"`` (or labels, or values to be kept as they are) or ``"continuous"``;
            ``"auto"``: continuous if floating point and not all whole numbers. `Vicinal` asks its estimator instead.
        categorical_features: Further columns that hold categories, such as integer codes: names, numbers or a mask, as
            in imbalanced-learn's SMOTENC.
        standardize: Match on columns scaled to unit variance, a category counting as much as a number. The mixed rows
            stay in the units of the data. Sparse columns are scaled and not centred.
        random_state: Seed, ``RandomState`` or None, as everywhere in scikit-learn.

    Attributes:
        n_features_in_: Number of columns seen.
        feature_names_in_: Their names, for frames with string names.
        categorical_features_: Mask of the columns that are categories.
        plans_: The `kmixup.MixPlan` of each draw, over the rows of positive weight.

    Paper: Section 2, k-mixup.
    """

    def __init__(
        self,
        k: int = 16,
        alpha: float = 1.0,
        *,
        metric: Metric = "sqeuclidean",
        pairing: Pairing = "roll",
        lam_per: LamPer = "block",
        draws: int = 1,
        keep_original: bool = False,
        targets: Literal["auto", "classes", "continuous"] = "auto",
        categorical_features: Sequence[Any] | str | None = None,
        standardize: bool = True,
        random_state: Any = None,
    ) -> None:
        self.k = k
        self.alpha = alpha
        self.metric: Metric = metric
        self.pairing: Pairing = pairing
        self.lam_per: LamPer = lam_per
        self.draws = draws
        self.keep_original = keep_original
        self.targets: Literal["auto", "classes", "continuous"] = targets
        self.categorical_features = categorical_features
        self.standardize = standardize
        self.random_state = random_state

    def fit_resample(self, X: Any, y: Any, sample_weight: Any = None) -> tuple[Any, Any, np.ndarray]:
        """Mix the whole data set.

        Args:
            X: Columns of numbers, missing values allowed, and of categories, shape ``[N, d]``: array, sparse matrix of
                numbers, pandas or polars frame.
            y: Class labels ``[N]``, multi-label indicators ``[N, C]``, or continuous targets ``[N]`` or ``[N, C]``.
            sample_weight: Weight of each row, >= 0; default 1.

        Returns:
            ``X_mixed, y_mixed, weight``: frames stay frames with their column names, sparse matrices sparse; at most
            ``2 * draws * N`` rows (``N`` more with ``keep_original``).

        Raises:
            ValueError: If there is no number to mix, values are infinite, or an argument is out of range.
        """
        check_at_least("draws", self.draws, 1)
        table = X if hasattr(X, "shape") else np.asarray(X, dtype=object if self.categorical_features else None)
        numbers, codes, target = self._read(table, y)
        weight = row_weights(sample_weight, numbers)
        kept = np.flatnonzero(weight > 0)
        numbers, codes, target, weight = numbers[kept], codes[kept], target[kept], weight[kept]
        continuous = self._continuous(target)
        if continuous:  # integers cannot hold a mean
            target, y = target * 1.0, y * 1.0 if hasattr(y, "dtype") else y

        points, metric = points_to_match(numbers, codes, self.metric, standardize=self.standardize)
        mixer = KMixup(
            self.k,
            self.alpha,
            metric=metric,
            pairing=self.pairing,
            lam_per=self.lam_per,
            generator=seeded_generator(self.random_state),
            per_process=False,
        )
        self.plans_ = [mixer.plan(points) for _ in range(self.draws)]
        everything = np.arange(len(kept))
        parts = [(numbers, everything, target, weight)] if self.keep_original else []
        for plan in self.plans_:
            places, source, labels, weights = _spread(plan, target, weight, codes, continuous)
            parts.append((_mixed(plan, numbers)[places], source, labels, weights))
        mixed, sources, labels, weights = zip(*parts, strict=True)
        stacked = sparse.vstack(mixed, format="csr") if sparse.issparse(numbers) else np.concatenate(mixed)
        rows = mixed_table(table, kept[np.concatenate(sources)], stacked, self.categorical_features_)
        return rows, like(y, np.concatenate(labels)), np.concatenate(weights) / len(parts)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.target_tags.required = True
        return tags

    def _read(self, table: Any, y: Any) -> tuple[Any, np.ndarray, np.ndarray]:
        """Numeric columns, integer codes of the categories, and targets."""
        categories = category_columns(table, self.categorical_features)
        any_category = bool(categories.any())
        if any_category and sparse.issparse(table):
            raise ValueError("a sparse X must hold numbers alone: encode categories one-hot, or pass a dense table.")
        if any_category and categories.all():
            raise ValueError(
                "X has no column of numbers to mix: all are categories. Encode categories or flags that are to be "
                "averaged as numbers (one-hot, astype(float))."
            )
        numbers, target = validate_data(
            self,
            columns_of(table, ~categories) if any_category else table,
            y,
            accept_sparse="csr",
            dtype=FLOATS,
            multi_output=True,
            ensure_all_finite=True if sparse.issparse(table) else "allow-nan",
        )
        if any_category:
            validate_data(self, table, skip_check_array=True)  # number and names of all columns
        self.categorical_features_ = categories
        if target.ndim == 2 and target.shape[1] == 1:
            target = column_or_1d(target, warn=True)
        return numbers, category_codes(table, categories), target

    def _continuous(self, target: np.ndarray) -> bool:
        if self.targets not in ("auto", "classes", "continuous"):
            raise ValueError(f"targets must be auto, classes or continuous, got {self.targets!r}.")
        if self.targets == "continuous" and target.dtype.kind not in "iuf":
            raise ValueError(
                f'targets="continuous" needs numbers, got y of {target.dtype}. Convert it, or use targets="classes".'
            )
        fractional = target.dtype.kind == "f" and bool((target != np.floor(target)).any())  # scikit-learn's rule
        return self.targets == "continuous" or (self.targets == "auto" and fractional)


def _mixed(plan: MixPlan, numbers: Any) -> Any:
    if not sparse.issparse(numbers):
        return plan.mix(np.ascontiguousarray(numbers))
    lam = np.broadcast_to(plan.lam.numpy(), len(plan))[:, None].astype(numbers.dtype)
    mixed = numbers.multiply(lam).tocsr() + numbers[plan.partner.numpy()].multiply(1 - lam).tocsr()
    mixed.eliminate_zeros()
    return mixed


def _spread(
    plan: MixPlan, y: np.ndarray, weight: np.ndarray, codes: np.ndarray, continuous: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The rows that mixed samples become: which mixed sample, whose label and categories, the label, the weight."""
    partner, lam = plan.partner.numpy(), np.broadcast_to(plan.lam.double().numpy(), len(plan))
    own, theirs = lam * weight, (1 - lam) * weight[partner]
    same, labels = (codes == codes[partner]).all(1), y
    if continuous:
        share = (own / (own + theirs)).reshape(-1, *(1,) * (y.ndim - 1))
        labels = np.where(same.reshape(share.shape), share * y + (1 - share) * y[partner], y)
    else:
        same &= (y == y[partner]).reshape(len(y), -1).all(1)
    own, theirs = np.where(same, own + theirs, own), np.where(same, 0.0, theirs)
    first, second = np.flatnonzero(own), np.flatnonzero(theirs)
    return (
        np.concatenate([first, second]),
        np.concatenate([first, partner[second]]),
        np.concatenate([labels[first], y[partner[second]]]),
        np.concatenate([own[first], theirs[second]]),
    )


def _estimator_has(method: str) -> Callable[[Vicinal], bool]:
    return lambda vicinal: hasattr(getattr(vicinal, "estimator_", vicinal.estimator), method)


class Vicinal(MetaEstimatorMixin, BaseEstimator):
    """Any estimator that takes ``sample_weight``, trained on the rows and weights of a `KMixupSampler`.

    Made for pipelines, cross-validation and grid search (``sampler__k``, ``sampler__alpha``): the weights stay with
    their rows, and prediction and scoring see the data as they are.

    Args:
        estimator: Classifier or regressor whose ``fit`` takes ``sample_weight``; which of the two decides about the
            targets, where the sampler's ``targets`` are ``"auto"``.
        sampler: The sampler; default ``KMixupSampler()``.

    Attributes:
        estimator_: The fitted estimator.
        sampler_: The fitted sampler.
    """

    estimator_: Any
    sampler_: Any

    def __init__(self, estimator: Any, sampler: KMixupSampler | None = None) -> None:
        self.estimator = estimator
        self.sampler = sampler

    def fit(self, X: Any, y: Any, sample_weight: Any = None, **fit_params: Any) -> Vicinal:
        """Mix the data, then fit the estimator on them.

        Args:
            X: Inputs, see `KMixupSampler.fit_resample`.
            y: Labels or targets, see there.
            sample_weight: Weight of each row, >= 0; default 1.
            **fit_params: What else the estimator's ``fit`` takes, handed on as it is: ``eval_set``, ``callbacks``.

        Returns:
            The estimator itself.

        Raises:
            ValueError: If the estimator takes no ``sample_weight``.
        """
        _refuse_without_weights(self.estimator)
        self.sampler_ = KMixupSampler() if self.sampler is None else clone(self.sampler)
        if self.sampler_.targets == "auto" and (is_regressor(self.estimator) or is_classifier(self.estimator)):
            self.sampler_.targets = "continuous" if is_regressor(self.estimator) else "classes"
        mixed, labels, weight = self.sampler_.fit_resample(X, y, sample_weight)
        self.estimator_ = clone(self.estimator)
        self.estimator_.fit(mixed, labels, sample_weight=weight, **fit_params)
        return self

    def predict(self, X: Any) -> Any:
        """Predictions of the fitted estimator."""
        return self._fitted().predict(X)

    @available_if(_estimator_has("predict_proba"))
    def predict_proba(self, X: Any) -> Any:
        """Class probabilities of the fitted estimator."""
        return self._fitted().predict_proba(X)

    @available_if(_estimator_has("predict_log_proba"))
    def predict_log_proba(self, X: Any) -> Any:
        """Logarithms of the class probabilities of the fitted estimator."""
        return self._fitted().predict_log_proba(X)

    @available_if(_estimator_has("decision_function"))
    def decision_function(self, X: Any) -> Any:
        """Decision values of the fitted estimator."""
        return self._fitted().decision_function(X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Score of the fitted estimator, on the data as they are."""
        return self._fitted().score(X, y, sample_weight)

    @property
    def classes_(self) -> np.ndarray:
        """Class labels of the fitted classifier."""
        return self.estimator_.classes_

    @property
    def n_features_in_(self) -> int:
        """Number of columns seen."""
        return self.sampler_.n_features_in_

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the columns seen, for frames with string names."""
        return self.sampler_.feature_names_in_

    def __sklearn_tags__(self) -> Any:
        tags, inner = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.estimator_type, tags.classifier_tags = inner.estimator_type, inner.classifier_tags
        tags.regressor_tags, tags.target_tags = inner.regressor_tags, inner.target_tags
        tags.input_tags = inner.input_tags
        return tags

    def _fitted(self) -> Any:
        check_is_fitted(self)
        return self.estimator_


def _refuse_without_weights(estimator: Any) -> None:
    parameters = inspect.signature(estimator.fit).parameters
    takes_anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if isinstance(estimator, Pipeline):
        raise ValueError(
            "a pipeline hands no sample_weight on to its last step. Put Vicinal last in the pipeline: "
            "make_pipeline(StandardScaler(), Vicinal(estimator, sampler))."
        )
    if "sample_weight" not in parameters and not takes_anything:
        raise ValueError(
            f"{type(estimator).__name__}.fit takes no sample_weight, which carries the two labels of a mixed row. "
            "Choose an estimator that does."
        )
