"""The batches of a trial's epochs: a new order each time, augmented, normalised, and mixed beforehand where it pays."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from kmixup.experiments.datasets import Data
from kmixup.experiments.datasets.data import normalise
from kmixup.experiments.distributed import here
from kmixup.experiments.methods import Method
from kmixup.experiments.trial import Trial

__all__ = ["Batches"]

# Up to this many numbers of training data, all batches of an epoch are mixed at once.
_WHOLE_EPOCH_NUMBERS = 2**22


class Batches:
    """Training points, epoch by epoch. An incomplete last batch is left out.

    Args:
        data: The data, on the device.
        trial: The settings: batch size, layout in memory, and the seed of the streams of randomness.

    Attributes:
        per_epoch: Batches of an epoch.
        generators: The streams: of the order, and of the augmentation.
        one_hot: Targets by class, ``[C, C]``.
        memory_format: How a batch lies in memory.
    """

    def __init__(self, data: Data, trial: Trial) -> None:
        place = here()
        # Ranks agree on the batches, each augments its share with its own draws.
        augment = "augment" if place.first else f"augment on rank {place.rank}"
        self.generators = {
            "batches": Generator().manual_seed(trial.seed_for("batches")),
            "augment": Generator().manual_seed(trial.seed_for(augment)),
        }
        self.memory_format = torch.channels_last if trial.channels_last else torch.contiguous_format
        self.one_hot = torch.eye(data.num_classes, device=data.x_train.device)
        self._data = data
        # Normalised once where nothing has to come before it.
        self._x = data.x_train if data.augment else self.normalised(data.x_train)
        self._size = min(trial.batch_size, len(self._x))
        self.per_epoch = len(self._x) // self._size

    def normalised(self, x: Tensor) -> Tensor:
        """Raw points as the model takes them."""
        return normalise(x, self._data.mean, self._data.std).contiguous(memory_format=self._format(x))

    def fit_whole(self, method: Method) -> bool:
        """Whether all batches of an epoch can be, and are worth being, mixed at once."""
        small = self._data.augment is None and self._x.numel() <= _WHOLE_EPOCH_NUMBERS
        return small and method.whole_epochs and here().world == 1

    def plain(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of one epoch with their classes; of several processes, this one's share."""
        data = self._data
        for batch in map(here().share, self._order()):
            x = self._x.index_select(0, batch)
            if data.augment is not None:
                x = normalise(data.augment(x, self.generators["augment"]), data.mean, data.std)
            yield x.contiguous(memory_format=self._format(x)), data.y_train.index_select(0, batch)

    def mixed(self, method: Method) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch with their targets, mixed all at once."""
        order = self._order()
        flat = order.view(-1)
        x = self._x.index_select(0, flat)
        targets = self.one_hot.index_select(0, self._data.y_train.index_select(0, flat))
        plan = method.plans(x.unflatten(0, order.shape))
        if plan is not None:
            x, targets = plan.mix(x), plan.mix(targets)
        return zip(x.split(self._size), targets.split(self._size), strict=True)

    def _order(self) -> Tensor:
        """A new order of the training points, a row a batch."""
        order = torch.randperm(len(self._x), generator=self.generators["batches"])
        return order[: self.per_epoch * self._size].view(-1, self._size).to(self._x.device)

    def _format(self, x: Tensor) -> torch.memory_format:
        return self.memory_format if x.ndim == 4 else torch.contiguous_format
