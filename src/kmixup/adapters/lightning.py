"""k-mixup for Lightning: mix each training batch once it is on its device. Needs no import of Lightning."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from torch import Tensor

from kmixup.mixup import KMixup
from kmixup.plan import MixPlan
from kmixup.structure import batch_length

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule as _Base
else:
    _Base = object


class KMixupMixin(_Base):
    """Mixes the inputs of training batches; validation, test and prediction batches stay as they are.

    Example::

        class Classifier(KMixupMixin, LightningModule):
            def __init__(self):
                super().__init__()
                self.model, self.mixer = ..., KMixup(k=16, alpha=1.0)

            def training_step(self, batch, batch_idx):
                x, y = batch  # x is mixed, y are the labels of the data set
                logits = self.model(x)
                self.log("train_acc", self.plan.accuracy(logits, y))
                return self.plan.loss(F.cross_entropy, logits, y)

    Batches are ``(x, y, ...)``, tuples (named ones too) or lists, with ``x`` a floating-point tensor or a structure;
    only ``x`` is mixed, and the batch stays of its type; a mixer that matches by labels gets ``y``. The mixer is a
    submodule, so a checkpoint carries the stream of its generator.

    Attributes:
        mixer: The mixer, to be set in ``__init__``.
        plan: The `kmixup.MixPlan` of the current batch; out of training the one that mixes nothing, so that a step
            shared by training and validation gives the plain loss and accuracy there.
    """

    mixer: KMixup
    plan: MixPlan

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Mix the inputs of a training batch. Raises TypeError for batches that are no ``(x, y, ...)``."""
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        if not self.trainer.training:
            vars(self).pop("plan", None)
            with suppress(TypeError):  # a batch without a tensor has no length, and so no plan
                self.plan = self.mixer.identity(*batch_length(batch))
            return batch
        if not isinstance(batch, (tuple, list)):
            raise TypeError(
                f"a training batch must be (x, y, ...), got {type(batch).__name__}. For others, write "
                "on_after_batch_transfer yourself: self.plan = self.mixer.plan(x), then self.mixer.mix(self.plan, x)."
            )
        x, *rest = batch
        self.plan = self.mixer.plan(x, y=rest[0] if rest else None, where=self.rows_to_mix(batch))
        parts = [self.mixer.mix(self.plan, x), *rest]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)

    def rows_to_mix(self, batch: Any) -> Tensor | None:
        """Rows of a training batch to mix among themselves, a boolean mask ``[B]``; None, unless overridden: all."""
        return None
