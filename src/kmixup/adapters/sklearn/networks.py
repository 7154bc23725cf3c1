"""Two neural networks trained with k-mixup, as scikit-learn estimators."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import check_classification_targets
from torch.nn import functional as F

from kmixup.adapters.sklearn.tables import FLOATS, dense, merged, row_weights, validate_data
from kmixup.adapters.sklearn.training import MixedNetwork


class KMixupClassifier(ClassifierMixin, MixedNetwork):
    """A PyTorch network trained with k-mixup, as a scikit-learn classifier.

    Fitting depends on the weighted rows alone: not on their order, and a weight of 2 is the row twice. Everything that
    is random comes from ``random_state``, also on threads; torch's global generator is neither read nor advanced. (A
    network of your own may draw from it, as dropout does: it is seeded, given back, and such fits take turns.)

    Args:
        k: Points per k-batch, >= 1; 1 is mixup.
        alpha: Parameter of Beta(alpha, alpha), >= 0; 0 trains without mixing.
        metric: Cost of a pair, see `kmixup.KMixup`.
        pairing: ``"roll"`` or ``"shuffle"``, see `kmixup.KMixup`.
        within: ``"label"`` to mix within classes alone, see `kmixup.KMixup`.
        label_weight: What a pair of different class costs more, see `kmixup.KMixup`.
        match_on: ``"inputs"``; for regression also ``"target"``, or ``"both"`` with equal weight, see `kmixup.KMixup`.
        hidden_sizes: Widths of the hidden layers (ReLU).
        epochs: Passes over the data.
        batch_size: Least rows per step, in batches of nearly equal size; ``2 * k`` for the k asked for. Less than twice
            as many data are one batch.
        learning_rate: Initial rate of AdamW.
        schedule: ``"cosine"``: the rate falls to 0 over ``epochs`` passes; or ``"constant"``.
        weight_decay: Of AdamW.
        standardize: Scale columns to mean 0 and variance 1 before matching, mixing and training.
        early_stopping: Hold out ``validation_fraction`` of the distinct rows, unmixed; stop when their loss has not
            fallen for ``n_iter_no_change`` epochs, and keep the weights of the lowest. The schedule still aims at
            ``epochs``.
        validation_fraction: Share of rows held out, in (0, 1), stratified by class.
        n_iter_no_change: Epochs of patience.
        warm_start: `fit` goes on from the present weights (and scale of columns), for ``epochs`` more.
        module: Function from the numbers of inputs and outputs to a network, instead of ``hidden_sizes``.
        device: Where to train and predict: in the precision of the data on the CPU, in float32 elsewhere.
        verbose: Print a line per epoch.
        random_state: Seed, ``RandomState`` or None.

    Attributes:
        classes_: Class labels, in the order of `predict_proba`.
        module_: The trained network, on standardised columns, in eval mode.
        loss_curve_: Mean two-target loss of each epoch.
        validation_curve_: With early stopping, mean loss of the rows held out after each epoch.
        n_iter_: Number of epochs trained.
        n_features_in_: Number of columns seen.
        feature_names_in_: Their names, for frames with string names.
    """

    classes_: np.ndarray
    _loss = staticmethod(F.cross_entropy)

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> KMixupClassifier:
        """Train.

        Args:
            X: Numeric columns, shape ``[N, d]``: array, sparse matrix (made dense), pandas or polars frame.
            y: Class labels, shape ``[N]``.
            sample_weight: Weight of each row, >= 0; default 1.

        Returns:
            The estimator itself.

        Raises:
            ValueError: If an argument is out of range, the data are no numbers, or training diverges.
        """
        self._check_arguments()
        data, labels = validate_data(self, X, y, accept_sparse="csr", dtype=FLOATS, reset=not self._goes_on())
        check_classification_targets(labels)
        if not self._goes_on():
            self.classes_ = np.unique(labels)
        self._train(*self._rows(data, labels, sample_weight), len(self.classes_))
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> KMixupClassifier:
        """Train for one epoch more, for searches that prune and for data in parts.

        ``epochs`` calls with the same data are `fit`. The first call decides the scale of the columns. After `fit` it
        goes on from the weights there, and the schedule starts again.

        Args:
            X: As in `fit`.
            y: As in `fit`.
            classes: All class labels there will be; needed in the first call.
            sample_weight: As in `fit`.

        Returns:
            The estimator itself.

        Raises:
            ValueError: If ``classes`` is missing, or the learning rate has fallen to 0.
        """
        self._check_arguments()
        first = not hasattr(self, "module_")
        data, labels = validate_data(self, X, y, accept_sparse="csr", dtype=FLOATS, reset=first)
        check_classification_targets(labels)
        if first and classes is None:
            raise ValueError("classes is required in the first call of partial_fit. Pass classes=np.unique(y).")
        if first:
            self.classes_ = np.unique(classes)
        self._train_once(*self._rows(data, labels, sample_weight), len(self.classes_))
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities, shape ``[N, C]``, in the order of ``classes_``."""
        return torch.from_numpy(self._outputs(X)).softmax(1).numpy()

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithms of the class probabilities, shape ``[N, C]``."""
        return torch.from_numpy(self._outputs(X)).log_softmax(1).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row, shape ``[N]``."""
        largest = self._outputs(X).argmax(1)
        return self.classes_[largest]

    def _rows(self, data: Any, labels: np.ndarray, sample_weight: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        unknown = np.setdiff1d(labels, self.classes_)
        if len(unknown):
            raise ValueError(f"y holds {unknown.tolist()}, which are not among the classes {self.classes_.tolist()}.")
        codes = np.searchsorted(self.classes_, labels).astype(np.int64)
        return merged(dense(data), codes, row_weights(sample_weight, data))


class KMixupRegressor(RegressorMixin, MixedNetwork):
    """A PyTorch network trained with k-mixup on squared error, as a scikit-learn regressor.

    Several targets are fitted together. Targets are scaled to mean 0 and variance 1 for training, whatever
    ``standardize`` says, and predicted in their own units. Arguments and attributes are those of `KMixupClassifier`;
    ``match_on="target"`` matches what is predicted, as C-Mixup samples it (Yao et al., 2022).
    """

    _loss = staticmethod(F.mse_loss)

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> KMixupRegressor:
        """Train.

        Args:
            X: Numeric columns, shape ``[N, d]``: array, sparse matrix (made dense), pandas or polars frame.
            y: Targets, shape ``[N]`` or ``[N, C]``.
            sample_weight: Weight of each row, >= 0; default 1.

        Returns:
            The estimator itself.

        Raises:
            ValueError: If an argument is out of range, the data are no numbers, or training diverges.
        """
        x, y, weight = self._rows(X, y, sample_weight, first=not self._goes_on())
        self._train(x, y, weight, y.shape[1])
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> KMixupRegressor:
        """Train for one epoch more, for searches that prune and for data in parts.

        ``epochs`` calls with the same data are `fit`. The first call decides the scale of columns and targets. After
        `fit` it goes on from the weights there, and the schedule starts again.

        Args:
            X: As in `fit`.
            y: As in `fit`.
            sample_weight: As in `fit`.

        Returns:
            The estimator itself.

        Raises:
            ValueError: If the learning rate has fallen to 0.
        """
        x, y, weight = self._rows(X, y, sample_weight, first=not hasattr(self, "module_"))
        self._train_once(x, y, weight, y.shape[1])
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

    def _rows(self, X: Any, y: Any, sample_weight: Any, *, first: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self._check_arguments()
        options = {"accept_sparse": "csr", "dtype": FLOATS, "multi_output": True, "y_numeric": True, "reset": first}
        data, targets = validate_data(self, X, y, **options)
        ndim, targets = targets.ndim, targets.reshape(len(targets), -1).astype(data.dtype)
        x, y_rows, weight = merged(dense(data), targets, row_weights(sample_weight, data))
        if first:
            self._target_ndim = ndim
            self.target_scaler_ = StandardScaler().fit(y_rows, sample_weight=weight)
        return x, np.asarray(self.target_scaler_.transform(y_rows)), weight
