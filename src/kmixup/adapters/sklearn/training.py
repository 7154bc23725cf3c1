"""How the two networks are trained: passes over weighted rows, every batch mixed anew."""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from kmixup.adapters.sklearn.tables import FLOATS, check_at_least, dense, seeded_generator, validate_data
from kmixup.cost import Metric
from kmixup.mixup import KMixup, MatchOn, Pairing

# An epoch draws as many rows as the weights add up to, within 1 to this many times the distinct rows: weights count
# repeated rows, but weights in the millions must not make epochs of millions.
_LONGEST_EPOCH = 10

# torch's global generator is one for all threads: who builds or trains a network that draws from it holds this.
_GLOBAL_GENERATOR = threading.Lock()


class MixedNetwork(BaseEstimator):
    """A PyTorch network trained with k-mixup: what `KMixupClassifier` and `KMixupRegressor` share."""

    module_: nn.Module
    scaler_: StandardScaler | None
    loss_curve_: list[float]
    validation_curve_: list[float]
    n_iter_: int
    _loss: Callable[..., Tensor]

    def __init__(
        self,
        k: int = 16,
        alpha: float = 1.0,
        *,
        metric: Metric = "sqeuclidean",
        pairing: Pairing = "roll",
        within: Literal["label"] | None = None,
        label_weight: float = 0.0,
        match_on: MatchOn = "inputs",
        hidden_sizes: Sequence[int] = (128, 128),
        epochs: int = 100,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        schedule: Literal["cosine", "constant"] = "cosine",
        weight_decay: float = 1e-4,
        standardize: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        module: Callable[[int, int], nn.Module] | None = None,
        device: str = "cpu",
        verbose: bool = False,
        random_state: Any = None,
    ) -> None:
        self.k = k
        self.alpha = alpha
        self.metric: Metric = metric
        self.pairing: Pairing = pairing
        self.within: Literal["label"] | None = within
        self.label_weight = label_weight
        self.match_on: MatchOn = match_on
        self.hidden_sizes = hidden_sizes
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.schedule: Literal["cosine", "constant"] = schedule
        self.weight_decay = weight_decay
        self.standardize = standardize
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.module = module
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # --- what the estimators call -------------------------------------------------------------------------------------

    def _check_arguments(self) -> None:
        for name in ("epochs", "batch_size", "n_iter_no_change"):
            check_at_least(name, getattr(self, name), 1)
        if isinstance(self.hidden_sizes, str) or not isinstance(self.hidden_sizes, (Sequence, np.ndarray)):
            raise ValueError(
                f"hidden_sizes must be a sequence of integers >= 1, got {self.hidden_sizes!r}. "
                f"One hidden layer is ({self.hidden_sizes},)."
            )
        for size in self.hidden_sizes:
            check_at_least("each of hidden_sizes", size, 1)
        if self.schedule not in ("cosine", "constant"):
            raise ValueError(f"schedule must be cosine or constant, got {self.schedule!r}.")

    def _goes_on(self) -> bool:
        return self.warm_start and hasattr(self, "module_")

    def _train(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray, outputs: int) -> None:
        """``epochs`` passes over merged rows, or as many as early stopping allows."""
        train, held_out = self._split(y)
        if not self._goes_on():
            self._begin(x[train], weight[train], outputs)
        self._passes, self._optimizer, self.validation_curve_ = 0, None, []
        data = self._tensors(x[train], y[train], weight[train])
        validation = self._tensors(x[held_out], y[held_out], weight[held_out])
        optimizer, best, lowest = self._new_optimizer(), None, 0
        for _ in range(self.epochs):
            seconds = self._pass(*data, optimizer)
            if self.early_stopping:
                self.validation_curve_.append(self._validation_loss(*validation))
                lowest = int(np.argmin(self.validation_curve_))
                if lowest == len(self.validation_curve_) - 1:
                    best = copy.deepcopy(self.module_.state_dict())
            self._report(seconds)
            if self.early_stopping and len(self.validation_curve_) > lowest + self.n_iter_no_change:
                break
        if best is not None:
            self.module_.load_state_dict(best)
        self._passes = 0  # what comes after starts the schedule again
        self._refuse_divergence()

    def _train_once(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray, outputs: int) -> None:
        """One more pass, over merged rows."""
        if self.early_stopping:
            raise ValueError("partial_fit cannot stop early: stop calling it instead, and set early_stopping=False.")
        if not hasattr(self, "module_"):
            self._begin(x, weight, outputs)
        if self._passes >= self.epochs and self.schedule == "cosine":
            raise ValueError(
                f"after epochs={self.epochs} calls of partial_fit the learning rate has fallen to 0. Raise epochs "
                '(set_params), or use schedule="constant" for a stream without end.'
            )
        if self._optimizer is None:
            self._optimizer = self._new_optimizer()
        self._report(self._pass(*self._tensors(x, y, weight), self._optimizer))
        self._refuse_divergence()

    def _outputs(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        x = dense(validate_data(self, X, accept_sparse="csr", dtype=FLOATS, reset=False))
        dtype = next(self.module_.parameters()).dtype
        return self._forward(torch.tensor(self._scaled(x), dtype=dtype)).numpy()

    # --- the pieces ---------------------------------------------------------------------------------------------------

    def _begin(self, x: np.ndarray, weight: np.ndarray, outputs: int) -> None:
        """A new network, the scale of its inputs and its stream of random numbers."""
        self.scaler_ = StandardScaler().fit(x, sample_weight=weight) if self.standardize else None
        generator = seeded_generator(self.random_state)
        seed = int(torch.randint(2**62, (), generator=generator))
        if self.module is None:
            sizes = [x.shape[1], *self.hidden_sizes, outputs]
            self.module_ = _fully_connected(sizes, torch.Generator().manual_seed(seed))
        else:
            with _global_generator(seed, self.device):
                self.module_ = self.module(x.shape[1], outputs)
        # Only the CPU is sure to have float64, and elsewhere it is slow.
        on_cpu = torch.device(self.device).type == "cpu"
        self.module_.to(self.device, torch.from_numpy(x).dtype if on_cpu else torch.float32)
        self._stream, self._optimizer, self._passes = generator.get_state(), None, 0
        self.loss_curve_, self.validation_curve_, self.n_iter_ = [], [], 0

    def _split(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows to train on and rows held out. Rows are distinct by now, so none has a twin on the other side."""
        rows = np.arange(len(y))
        if not self.early_stopping:
            return rows, rows[:0]
        train, held_out = train_test_split(
            rows,
            test_size=self.validation_fraction,
            random_state=seeded_generator(self.random_state).initial_seed(),
            stratify=y if isinstance(self, ClassifierMixin) else None,
        )
        return np.sort(train), np.sort(held_out)

    def _tensors(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled inputs and targets on the device, in the precision of the network; weights stay in float64."""
        dtype = next(self.module_.parameters()).dtype
        inputs, targets = torch.tensor(self._scaled(x), dtype=dtype), torch.from_numpy(y)
        targets = targets.to(dtype) if targets.is_floating_point() else targets
        return inputs.to(self.device), targets.to(self.device), torch.from_numpy(weight)

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        return x if self.scaler_ is None or not len(x) else np.asarray(self.scaler_.transform(x))

    def _new_optimizer(self) -> torch.optim.AdamW:
        return torch.optim.AdamW(
            self.module_.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay, foreach=True
        )

    def _pass(self, x: Tensor, y: Tensor, weight: Tensor, optimizer: torch.optim.AdamW) -> float:
        """One epoch; how many seconds it took."""
        start, total = time.perf_counter(), 0.0
        generator = torch.Generator()
        generator.set_state(self._stream)
        names = ("metric", "pairing", "within", "label_weight", "match_on")
        options = {name: getattr(self, name) for name in names}
        mixer = KMixup(self.k, self.alpha, **options, generator=generator, per_process=False)
        draws = min(max(round(float(weight.sum())), len(x)), _LONGEST_EPOCH * len(x))
        batches = max(1, draws // self.batch_size)
        alone: Any = nullcontext()  # our own layers draw nothing; a network of the user's may, as for dropout
        if self.module is not None:
            alone = _global_generator(int(torch.randint(2**62, (), generator=generator)), self.device)
        self.module_.train()
        with alone:
            # Batches of nearly equal size, none smaller than asked for: it would be too small for k.
            for step, rows in enumerate(_epoch(weight, draws, generator).to(x.device).tensor_split(batches)):
                done = (self._passes + step / batches) / self.epochs if self.schedule == "cosine" else 0.0
                for group in optimizer.param_groups:
                    group["lr"] = self.learning_rate * (1 + math.cos(math.pi * done)) / 2
                plan = mixer.plan(x[rows], y=y[rows])
                loss = plan.loss(self._loss, self.module_(plan.mix(x[rows])), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += float(loss.detach()) * len(rows)
        self.module_.eval()
        self._stream = generator.get_state()
        self._passes += 1
        self.n_iter_ += 1
        self.loss_curve_.append(total / draws)
        return time.perf_counter() - start

    @torch.no_grad()
    def _forward(self, x: Tensor) -> Tensor:
        """Outputs on the host."""
        return torch.cat([self.module_(part.to(self.device)).cpu() for part in x.split(4096)])

    def _validation_loss(self, x: Tensor, y: Tensor, weight: Tensor) -> float:
        losses = self._loss(self._forward(x).double(), y.cpu(), reduction="none").double()
        return float((losses.reshape(len(x), -1).mean(1) * weight).sum() / weight.sum())

    def _report(self, seconds: float) -> None:
        if self.verbose:
            validation = f", validation {self.validation_curve_[-1]:.4f}" if self.validation_curve_ else ""
            print(f"epoch {self._passes}/{self.epochs}: loss {self.loss_curve_[-1]:.4f}{validation}, {seconds:.2f} s")

    def _refuse_divergence(self) -> None:
        if not all(torch.isfinite(parameter).all() for parameter in self.module_.parameters()):
            raise ValueError(
                f"training diverged: weights are not finite. Lower learning_rate (now {self.learning_rate}), or set "
                "standardize=True."
            )


def _fully_connected(sizes: Sequence[int], generator: torch.Generator) -> nn.Module:
    """Linear layers with ReLU between them, initialised as torch does it, from a generator of their own."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layer: Any = nn.utils.skip_init(nn.Linear, inputs, outputs)
        nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
        nn.init.uniform_(layer.bias, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs), generator=generator)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@contextmanager
def _global_generator(seed: int, device: str) -> Iterator[None]:
    """The global generator of torch, seeded for this block and given back as it was; one thread at a time."""
    on = torch.device(device)
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[on] if on.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _epoch(weight: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """Rows of one epoch: systematic resampling by weight, in random order. Of weights 1, each row exactly once."""
    cumulative = weight.cumsum(0)
    offset = torch.rand((), generator=generator, dtype=torch.float64)
    positions = (torch.arange(draws, dtype=torch.float64) + offset) * (cumulative[-1] / draws)
    rows = torch.searchsorted(cumulative, positions, right=True).clamp_(max=len(weight) - 1)
    return rows[torch.randperm(draws, generator=generator)]
