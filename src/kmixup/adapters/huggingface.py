"""k-mixup for the Hugging Face Trainer: mixed in training, left alone in evaluation. Accelerate needs no adapter."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kmixup.mixup import KMixup

try:
    from transformers import Trainer
except ImportError as error:
    raise ImportError(
        f"kmixup.adapters.huggingface needs transformers and accelerate: pip install 'kmixup[huggingface]' ({error})"
    ) from error

if TYPE_CHECKING:
    _Base = Trainer
else:
    _Base = object


class KMixupTrainerMixin(_Base):
    """k-mixup for any Trainer subclass: ``class MyTrainer(KMixupTrainerMixin, Seq2SeqTrainer)``.

    In training the floating-point inputs of each batch are mixed (images, audio, features, embeddings); everything else
    goes to the model as it is. The labels never reach the model: the loss is the two-target form on its logits, scaled
    for gradient accumulation as the Trainer scales its own. Evaluation and prediction are the Trainer's, unmixed, with
    the same collator.

    Args:
        *args: Arguments of the Trainer.
        mixer: The mixer. Its ``features`` function, if any, gets the dict of floating-point inputs.
        loss_fn: ``loss_fn(logits, labels)``, the mean over the batch, or one loss per sample where lam differs between
            samples. Default: cross-entropy with the label smoothing of the TrainingArguments.
        **kwargs: Arguments of the Trainer.
    """

    def __init__(
        self, *args: Any, mixer: KMixup, loss_fn: Callable[[Any, Tensor], Tensor] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if self.args.n_gpu > 1:
            raise ValueError(
                f"k-mixup needs one process per GPU, got one process for {self.args.n_gpu}. Launch the script with "
                "torchrun or accelerate launch."
            )
        self.mixer = mixer
        self.loss_fn = loss_fn

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The two-target loss of the mixed batch in training, the Trainer's loss in evaluation."""
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels, rest = self._split(inputs)
        floating = {name: x for name, x in rest.items() if isinstance(x, Tensor) and x.is_floating_point()}
        if not floating:
            raise TypeError(
                f"no floating-point input to mix among {sorted(rest)}. Token ids cannot be mixed: give the model "
                "embeddings (inputs_embeds) or features."
            )
        plan = self.mixer.plan(floating)
        outputs = model(**{**rest, **plan.mix(floating)})
        loss = plan.loss(self._loss_fn(labels), outputs["logits"] if isinstance(outputs, dict) else outputs[0], labels)
        if num_items_in_batch is not None:
            # The Trainer expects this batch's share of the mean over the accumulated batch; without a count it divides
            # the mean of each batch by the number of batches itself.
            loss = loss * (labels.ne(-100).sum() / num_items_in_batch)
            if self.args.average_tokens_across_devices:
                loss = loss * self.accelerator.num_processes  # the count is over all processes, DDP takes their mean
        return (loss, outputs) if return_outputs else loss

    def _split(self, inputs: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        found = [name for name in self.label_names if name in inputs]
        if len(found) != 1:
            raise ValueError(
                f"one of the inputs {sorted(inputs)} must be the labels, found {found}. "
                "Set TrainingArguments(label_names=[...])."
            )
        return inputs[found[0]], {name: x for name, x in inputs.items() if name != found[0]}

    def _loss_fn(self, labels: Tensor) -> Callable[[Any, Tensor], Tensor]:
        if self.loss_fn is not None:
            return self.loss_fn
        if labels.is_floating_point():
            raise TypeError(
                f"labels are {labels.dtype}, and cross-entropy takes class indices. Choose the loss: "
                "loss_fn=F.mse_loss for regression, F.binary_cross_entropy_with_logits for multi-label targets."
            )
        reduction = "mean" if self.mixer.lam_per == "batch" else "none"
        return partial(F.cross_entropy, label_smoothing=self.args.label_smoothing_factor, reduction=reduction)

    # The Trainer saves torch's global generator with each checkpoint; a mixer with its own is saved beside it.

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        torch.save(self.mixer.state_dict(), self._mixer_file(output_dir))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is not None and self._mixer_file(checkpoint).exists():
            self.mixer.load_state_dict(torch.load(self._mixer_file(checkpoint), weights_only=True))

    def _mixer_file(self, checkpoint: str) -> Path:
        return Path(checkpoint) / f"kmixup_{self.args.process_index}.pt"


class KMixupTrainer(KMixupTrainerMixin, Trainer):
    """The Hugging Face Trainer with k-mixup in training; arguments as in `KMixupTrainerMixin`.

    Example::

        trainer = KMixupTrainer(model, args, train_dataset=train, eval_dataset=test, mixer=KMixup(k=16, alpha=1.0))
        trainer.train()
    """
