"""k-mixup for scikit-learn: a sampler for any estimator that takes sample weights, and two neural networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from kmixup.cost import Metric
from kmixup.mixup import KMixup, LamPer, Pairing
from kmixup.plan import MixPlan, tensor_of

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, RegressorMixin, clone
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils import check_random_state, get_tags, validation
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d
except ImportError as error:
    raise ImportError(
        f"kmixup.adapters.sklearn needs scikit-learn >= 1.6: pip install 'kmixup[sklearn]' ({error})"
    ) from error

# scikit-learn has no annotations, and what a type checker infers for these two is wrong.
_check_sample_weight: Any = validation._check_sample_weight
_validate_data: Any = validation.validate_data

_FLOATS = (np.float64, np.float32)

# An epoch draws as many rows as the weights add up to, within 1 to this many times the distinct rows: weights count
# repeated rows, but weights in the millions must not make epochs of millions.
_LONGEST_EPOCH = 10


class KMixupSampler(BaseEstimator):
    r"""Vicinal data with hard labels and sample weights, for any estimator that takes ``sample_weight``.

    .. math:: (\tilde x_i, y_i) \text{ with weight } \lambda_i w_i, \qquad
        (\tilde x_i, y_{\sigma(i)}) \text{ with weight } (1 - \lambda_i)\, w_{\sigma(i)}

    A weighted loss on these rows is the two-target mixup loss. The two rows of a pair with equal labels are one row
    with the sum of the weights, and rows of weight 0 are left out, so alpha = 0 returns the data. Continuous targets
    are mixed instead: one row, the weighted mean of the two targets, which has the same squared-error minimiser.

    Args:
        k: Points per k-batch, >= 1; 1 is mixup.
        alpha: Parameter of Beta(alpha, alpha), >= 0.
        metric: Cost of a pair, see `kmixup.KMixup`.
        pairing: ``"roll"`` or ``"shuffle"``, see `kmixup.KMixup`.
        lam_per: One lam per ``"block"`` of k, per ``"sample"``, or one for all (``"batch"``).
        draws: How many times the whole data set is mixed anew; the results are stacked.
        standardize: Match on columns scaled to unit variance. The mixed rows stay in the units of the data.
        random_state: Seed, ``RandomState`` or None, as everywhere in scikit-learn.

    Attributes:
        n_features_in_: Number of columns seen.
        feature_names_in_: Their names, for frames with string names.
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
        standardize: bool = True,
        random_state: Any = None,
    ) -> None:
        self.k = k
        self.alpha = alpha
        self.metric: Metric = metric
        self.pairing: Pairing = pairing
        self.lam_per: LamPer = lam_per
        self.draws = draws
        self.standardize = standardize
        self.random_state = random_state

    def fit_resample(self, X: Any, y: Any, sample_weight: Any = None) -> tuple[Any, Any, np.ndarray]:
        """Mix the whole data set.

        Args:
            X: Numeric columns (categories one-hot), shape ``[N, d]``: array, sparse matrix, pandas or polars frame.
            y: Class labels ``[N]``, multi-label indicators ``[N, C]``, or continuous targets ``[N]`` or ``[N, C]``.
            sample_weight: Weight of each row, >= 0; default 1.

        Returns:
            ``X_mixed, y_mixed, weight``: frames stay frames with their column names, at most ``2 * draws * N`` rows.

        Raises:
            ValueError: If data are missing or not numeric, or an argument is out of range.
        """
        _check_at_least("draws", self.draws, 1)
        data, target = _validate_data(
            self, X, y, accept_sparse="csr", dtype=_FLOATS, multi_output=True, ensure_min_samples=1
        )
        weight = _weights(sample_weight, data)
        data, target, weight = _dense(data)[weight > 0], target[weight > 0], weight[weight > 0]
        if target.ndim == 2 and target.shape[1] == 1:
            target = column_or_1d(target, warn=True)
        continuous = target.dtype.kind == "f" and bool((target != np.floor(target)).any())  # scikit-learn's rule

        generator = _generator(self.random_state)
        mixer = KMixup(
            self.k,
            self.alpha,
            metric=self.metric,
            pairing=self.pairing,
            lam_per=self.lam_per,
            generator=generator,
            per_process=False,
        )
        points = np.asarray(StandardScaler().fit_transform(data)) if self.standardize else data
        self.plans_ = [mixer.plan(torch.from_numpy(np.ascontiguousarray(points))) for _ in range(self.draws)]
        spread = _mixed_targets if continuous else _two_labels
        parts = [spread(plan, plan.mix(np.ascontiguousarray(data)), target, weight) for plan in self.plans_]
        mixed, labels, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
        return _like(X, mixed), _like(y, labels), weights

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        return tags


def _two_labels(
    plan: MixPlan, mixed: np.ndarray, y: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    partner, lam = plan.partner.numpy(), np.broadcast_to(plan.lam.double().numpy(), len(plan))
    own, theirs = lam * weight, (1 - lam) * weight[partner]
    same = (y == y[partner]).reshape(len(y), -1).all(1)
    own, theirs = np.where(same, own + theirs, own), np.where(same, 0.0, theirs)
    rows = np.concatenate([np.flatnonzero(own), np.flatnonzero(theirs)])
    labels = np.concatenate([y[own > 0], y[partner][theirs > 0]])
    return mixed[rows], labels, np.concatenate([own[own > 0], theirs[theirs > 0]])


def _mixed_targets(
    plan: MixPlan, mixed: np.ndarray, y: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    partner, lam = plan.partner.numpy(), np.broadcast_to(plan.lam.double().numpy(), len(plan))
    own, theirs = lam * weight, (1 - lam) * weight[partner]
    total = own + theirs
    share = (own / total).reshape(-1, *(1,) * (y.ndim - 1))
    return mixed, share * y + (1 - share) * y[partner], total


def _estimator_has(method: str) -> Callable[[Vicinal], bool]:
    return lambda vicinal: hasattr(getattr(vicinal, "estimator_", vicinal.estimator), method)


class Vicinal(MetaEstimatorMixin, BaseEstimator):
    """Any estimator that takes ``sample_weight``, trained on the rows and weights of a `KMixupSampler`.

    Made for pipelines, cross-validation and grid search (``sampler__k``, ``sampler__alpha``): the weights stay with
    their rows, and prediction and scoring see the data as they are.

    Args:
        estimator: Classifier or regressor whose ``fit`` takes ``sample_weight``.
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

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Vicinal:
        """Mix the data, then fit the estimator on them; arguments as in `KMixupSampler.fit_resample`."""
        self.sampler_ = KMixupSampler() if self.sampler is None else clone(self.sampler)
        mixed, labels, weight = self.sampler_.fit_resample(X, y, sample_weight)
        self.estimator_ = clone(self.estimator)
        self.estimator_.fit(mixed, labels, sample_weight=weight)
        return self

    def predict(self, X: Any) -> Any:
        """Predictions of the fitted estimator."""
        check_is_fitted(self)
        return self.estimator_.predict(X)

    @available_if(_estimator_has("predict_proba"))
    def predict_proba(self, X: Any) -> Any:
        """Class probabilities of the fitted estimator."""
        check_is_fitted(self)
        return self.estimator_.predict_proba(X)

    @available_if(_estimator_has("decision_function"))
    def decision_function(self, X: Any) -> Any:
        """Decision values of the fitted estimator."""
        check_is_fitted(self)
        return self.estimator_.decision_function(X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Score of the fitted estimator, on the data as they are."""
        check_is_fitted(self)
        return self.estimator_.score(X, y, sample_weight)

    @property
    def classes_(self) -> np.ndarray:
        """Class labels of the fitted classifier."""
        return self.estimator_.classes_

    @property
    def n_features_in_(self) -> int:
        """Number of columns seen."""
        return self.sampler_.n_features_in_

    def __sklearn_tags__(self) -> Any:
        tags, inner = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.estimator_type, tags.classifier_tags = inner.estimator_type, inner.classifier_tags
        tags.regressor_tags, tags.target_tags = inner.regressor_tags, inner.target_tags
        tags.input_tags.sparse = True
        return tags


class _KMixupNetwork(BaseEstimator):
    """A fully connected network trained with k-mixup: what the classifier and the regressor share."""

    module_: nn.Module
    loss_curve_: list[float]
    scaler_: StandardScaler | None

    def __init__(
        self,
        k: int = 16,
        alpha: float = 1.0,
        *,
        metric: Metric = "sqeuclidean",
        pairing: Pairing = "roll",
        hidden_sizes: Sequence[int] = (128, 128),
        epochs: int = 100,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        standardize: bool = True,
        module: Callable[[int, int], nn.Module] | None = None,
        device: str = "cpu",
        random_state: Any = None,
    ) -> None:
        self.k = k
        self.alpha = alpha
        self.metric: Metric = metric
        self.pairing: Pairing = pairing
        self.hidden_sizes = hidden_sizes
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.standardize = standardize
        self.module = module
        self.device = device
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _train(
        self,
        x: np.ndarray,
        y: np.ndarray,
        weight: np.ndarray,
        outputs: int,
        loss_fn: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        """Fit ``module_`` on merged rows ``x`` (standardised here), targets ``y`` and positive weights."""
        for name, least in (("epochs", 1), ("batch_size", 1)):
            _check_at_least(name, getattr(self, name), least)
        self.scaler_ = StandardScaler().fit(x, sample_weight=weight) if self.standardize else None
        points = torch.from_numpy(self._scaled(x)).to(self.device)
        targets = torch.from_numpy(y).to(self.device)
        generator = _generator(self.random_state)
        mixer = KMixup(
            self.k, self.alpha, metric=self.metric, pairing=self.pairing, generator=generator, per_process=False
        )
        # The network draws its initial weights (and its dropout) from torch's global generator: leave that untouched.
        device = torch.device(self.device)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            build = self.module if self.module is not None else self._fully_connected
            self.module_ = build(x.shape[1], outputs).to(device, points.dtype)
            self._descend(mixer, points, targets, torch.from_numpy(weight), loss_fn, generator)
        self.module_.eval()
        if not all(torch.isfinite(parameter).all() for parameter in self.module_.parameters()):
            raise ValueError(
                f"training diverged: weights are not finite. Lower learning_rate (now {self.learning_rate}), or set "
                "standardize=True."
            )

    def _descend(
        self,
        mixer: KMixup,
        x: Tensor,
        y: Tensor,
        weight: Tensor,
        loss_fn: Callable[[Tensor, Tensor], Tensor],
        generator: torch.Generator,
    ) -> None:
        draws = min(max(round(float(weight.sum())), len(x)), _LONGEST_EPOCH * len(x))
        batches = math.ceil(draws / self.batch_size)
        optimizer = torch.optim.AdamW(
            self.module_.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, foreach=True
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs * batches)
        self.loss_curve_ = []
        self.module_.train()
        for _ in range(self.epochs):
            total = 0.0
            # Batches of nearly equal size: a small last one would be a batch too small for k.
            for rows in _epoch(weight, draws, generator).to(x.device).tensor_split(batches):
                x_batch, y_batch = x[rows], y[rows]
                plan = mixer.plan(x_batch)
                loss = plan.loss(loss_fn, self.module_(plan.mix(x_batch)), y_batch)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += float(loss.detach()) * len(rows)
            self.loss_curve_.append(total / draws)

    def _fully_connected(self, inputs: int, outputs: int) -> nn.Module:
        sizes = [inputs, *self.hidden_sizes]
        hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*hidden, nn.Linear(sizes[-1], outputs))

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        return x if self.scaler_ is None else np.asarray(self.scaler_.transform(x))

    @torch.no_grad()
    def _outputs(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        x = _dense(_validate_data(self, X, accept_sparse="csr", dtype=_FLOATS, reset=False))
        dtype = next(self.module_.parameters()).dtype
        parts = [
            self.module_(tensor_of(self._scaled(part)).to(self.device, dtype)).cpu()
            for part in np.split(x, range(4096, len(x), 4096))
        ]
        return torch.cat(parts).numpy()


class KMixupClassifier(ClassifierMixin, _KMixupNetwork):
    """A PyTorch network trained with k-mixup, as a scikit-learn classifier.

    Fitting depends on the weighted rows alone: not on their order, and a weight of 2 is the row twice. Everything that
    is random comes from ``random_state``; torch's global generator is neither read nor advanced.

    Args:
        k: Points per k-batch, >= 1; 1 is mixup.
        alpha: Parameter of Beta(alpha, alpha), >= 0; 0 trains without mixing.
        metric: Cost of a pair, see `kmixup.KMixup`.
        pairing: ``"roll"`` or ``"shuffle"``, see `kmixup.KMixup`.
        hidden_sizes: Widths of the hidden layers (ReLU).
        epochs: Passes over the data.
        batch_size: Rows per step, at least ``2 * k`` for the k asked for.
        learning_rate: Initial rate of AdamW; it falls to 0 along a cosine.
        weight_decay: Of AdamW.
        standardize: Scale columns to mean 0 and variance 1 before matching, mixing and training.
        module: Function from the numbers of inputs and outputs to a network, instead of ``hidden_sizes``.
        device: Where to train and predict.
        random_state: Seed, ``RandomState`` or None.

    Attributes:
        classes_: Class labels, in the order of `predict_proba`.
        module_: The trained network, on standardised columns, in eval mode.
        loss_curve_: Mean two-target loss of each epoch.
        n_features_in_: Number of columns seen.
        feature_names_in_: Their names, for frames with string names.
    """

    classes_: np.ndarray

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> KMixupClassifier:
        """Train.

        Args:
            X: Numeric columns, shape ``[N, d]``: array, sparse matrix (made dense), pandas or polars frame.
            y: Class labels, shape ``[N]``.
            sample_weight: Weight of each row, >= 0; default 1.

        Returns:
            The estimator itself.
        """
        data, labels = _validate_data(self, X, y, accept_sparse="csr", dtype=_FLOATS)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        x, y_codes, weight = _merged(_dense(data), codes, _weights(sample_weight, data))
        self._train(x, y_codes.astype(np.int64), weight, len(self.classes_), nn.functional.cross_entropy)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities, shape ``[N, C]``, in the order of ``classes_``."""
        return torch.from_numpy(self._outputs(X)).softmax(1).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row, shape ``[N]``."""
        largest = self._outputs(X).argmax(1)
        return self.classes_[largest]


class KMixupRegressor(RegressorMixin, _KMixupNetwork):
    """A PyTorch network trained with k-mixup on squared error, as a scikit-learn regressor.

    Several targets are fitted together. Targets are scaled to mean 0 and variance 1 for training, whatever
    ``standardize`` says, and predicted in their own units. Arguments and attributes are those of `KMixupClassifier`.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> KMixupRegressor:
        """Train.

        Args:
            X: Numeric columns, shape ``[N, d]``: array, sparse matrix (made dense), pandas or polars frame.
            y: Targets, shape ``[N]`` or ``[N, C]``.
            sample_weight: Weight of each row, >= 0; default 1.

        Returns:
            The estimator itself.
        """
        data, targets = _validate_data(
            self, X, y, accept_sparse="csr", dtype=_FLOATS, multi_output=True, y_numeric=True
        )
        self._target_ndim = targets.ndim
        targets = targets.reshape(len(targets), -1).astype(data.dtype)
        x, y_rows, weight = _merged(_dense(data), targets, _weights(sample_weight, data))
        self.target_scaler_ = StandardScaler().fit(y_rows, sample_weight=weight)
        y_scaled = np.asarray(self.target_scaler_.transform(y_rows))
        self._train(x, y_scaled, weight, y_rows.shape[1], nn.functional.mse_loss)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predicted targets, shape ``[N]`` or ``[N, C]`` as in `fit`."""
        outputs = self._outputs(X)
        outputs = np.asarray(self.target_scaler_.inverse_transform(outputs))
        return outputs[:, 0] if self._target_ndim == 1 else outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _dense(data: Any) -> np.ndarray:
    return data.toarray() if sparse.issparse(data) else data


def _weights(sample_weight: Any, data: Any) -> np.ndarray:
    weight = _check_sample_weight(sample_weight, data, dtype=np.float64)
    if (weight < 0).any():
        raise ValueError(f"sample_weight must be >= 0, got {int((weight < 0).sum())} negative weights.")
    if not weight.any():
        raise ValueError("sample_weight must not be zero for every row. Drop the argument to weigh all rows equally.")
    return weight


def _merged(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct rows of positive weight in an order that is their own, each with the sum of its weights.

    From here on a row of weight 2 and a row that comes twice are the same, to the last bit.
    """
    rows = np.column_stack([x, y])[weight > 0] + 0.0  # -0.0 and 0.0 are one value
    rows = np.ascontiguousarray(rows)
    as_bytes = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))[:, 0]
    _, first, group = np.unique(as_bytes, return_index=True, return_inverse=True)
    keep = np.flatnonzero(weight > 0)[first]
    return np.ascontiguousarray(x[keep]), np.ascontiguousarray(y[keep]), np.bincount(group, weight[weight > 0])


def _epoch(weight: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Rows of one epoch: systematic resampling by weight, in random order. Of weights 1, each row exactly once."""
    cumulative = weight.cumsum(0)
    offset = torch.rand((), generator=generator, dtype=torch.float64)
    positions = (torch.arange(draws, dtype=torch.float64) + offset) * (cumulative[-1] / draws)
    rows = torch.searchsorted(cumulative, positions, right=True).clamp_(max=len(weight) - 1)
    return rows[torch.randperm(draws, generator=generator)]


def _generator(random_state: Any) -> torch.Generator:
    return torch.Generator().manual_seed(int(check_random_state(random_state).randint(2**31 - 1)))


def _check_at_least(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}.")


def _like(original: Any, values: np.ndarray) -> Any:
    """The values in the container that came: a pandas or polars frame or series with its names, else the array."""
    kind, library = type(original), type(original).__module__.split(".")[0]
    if hasattr(original, "columns") and values.ndim == 2:
        names = list(original.columns)
        return kind(values, schema=names) if library == "polars" else kind(values, columns=names)
    if library in ("pandas", "polars") and hasattr(original, "dtype"):
        if library == "polars":
            return kind(original.name, values, dtype=original.dtype)
        return kind(values, name=original.name, dtype=original.dtype)
    return values
