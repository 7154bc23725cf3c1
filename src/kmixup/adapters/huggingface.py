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
from kmixup.plan import MixPlan

try:
    from transformers import Trainer
    from transformers.loss.loss_utils import ForCausalLMLoss
    from transformers.modeling_outputs import BaseModelOutput
except ImportError as error:
    raise ImportError(
        f"kmixup.adapters.huggingface needs transformers and accelerate: pip install 'kmixup[huggingface]' ({error})"
    ) from error

if TYPE_CHECKING:
    _Base = Trainer
else:
    _Base = object

_IGNORED = -100  # the label that Transformers' losses leave out


class KMixupTrainerMixin(_Base):
    """k-mixup for any Trainer subclass: ``class MyTrainer(KMixupTrainerMixin, Seq2SeqTrainer)``.

    In training the floating-point inputs of each batch are mixed (images, audio, features, embeddings); attention masks
    show what either sample shows; what else has a rule in the mixer's ``leaves`` follows it. A mixer that matches by
    labels gets them; they never reach the model: the loss is the two-target form on its logits, scaled for gradient
    accumulation as the Trainer scales its own. A model that encodes and decodes decodes each mixed input twice, with
    either target as the teacher; a causal language model whose ``input_ids`` are ``"own"`` in ``leaves`` sees each one
    twice, with either text. Evaluation and prediction are the Trainer's, unmixed, with the same collator; with a
    ``loss_fn`` the loss of evaluation is that.

    Args:
        *args: Arguments of the Trainer.
        mixer: The mixer. Its ``features`` function, if any, gets the dict of inputs.
        loss_fn: ``loss_fn(logits, labels)``, the mean over the batch, or one loss per label or per sample where lam
            differs between samples. The one output ``[B, 1]`` of a regression comes in the shape ``[B]`` of floating
            labels. Default: cross-entropy over the labels that are not -100, with the label smoothing of the
            TrainingArguments, for class indices ``[B, ...]`` and logits ``[B, ..., C]`` or ``[B, C, ...]``. The labels
            of a causal language model (that is itself ``model``, not inside a module of yours) come shifted to what
            each position predicts.
        **kwargs: Arguments of the Trainer. Its ``compute_loss_func`` is called with either target; it gives one number
            for a batch, and needs ``KMixup(lam_per="batch")``.

    Raises:
        ValueError: If one process has several GPUs, or the loss does not go with the mixer.
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
        if self.compute_loss_func is not None and loss_fn is not None:
            raise ValueError("loss_fn and compute_loss_func are two losses. Give one of them.")
        if self.compute_loss_func is not None and mixer.lam_per != "batch":
            raise ValueError(
                f"compute_loss_func gives one number for a batch, and lam_per={mixer.lam_per!r} needs one loss per "
                'sample. Use KMixup(lam_per="batch"), or loss_fn=lambda logits, labels: ... with reduction="none".'
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
        """The two-target loss of the mixed batch in training; in evaluation ``loss_fn``, else the Trainer's loss."""
        if not model.training and self.loss_fn is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels, encoder, decoder = self._split(inputs)
        mixes = model.training and self.mixer.mixes  # where nothing is mixed, nothing is refused
        if mixes and not any(isinstance(x, Tensor) and x.is_floating_point() for x in encoder.values()):
            raise TypeError(
                f"no floating-point input to mix among {sorted(encoder)}. Token ids cannot be mixed: give the model "
                "embeddings (inputs_embeds) or features."
            )
        if mixes:
            plan = self.mixer.plan(encoder, y=labels, where=self.rows_to_mix(inputs))
            encoder = self.mixer.mix(plan, encoder)
        else:
            plan = self.mixer.identity(len(labels), labels.device)
            encoder, decoder = {**encoder, **decoder}, {}  # one target, one pass
        forward = _Forward(model, encoder)
        aligned = self._aligned(labels)
        loss_of: Any = self.compute_loss_func
        if loss_of is not None:
            count = {"num_items_in_batch": num_items_in_batch}
            loss = plan.loss(lambda _, t: loss_of(forward(t[1]), t[0], **count), None, (labels, decoder))
        else:
            loss = self._mean_loss(plan, forward, aligned, decoder)
            if num_items_in_batch is not None:
                # The Trainer expects this batch's share of the mean over the accumulated batch; without a count it
                # divides the mean of each batch by the number of batches itself.
                loss = loss * (aligned.ne(_IGNORED).sum() / num_items_in_batch)
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # the count is over all processes, DDP takes their mean
        return (loss, forward.first) if return_outputs else loss

    def rows_to_mix(self, inputs: dict[str, Any]) -> Tensor | None:
        """Rows of a batch to mix among themselves, a boolean mask ``[B]``; None, unless overridden: all."""
        return None

    def _split(self, inputs: dict[str, Any]) -> tuple[Tensor, dict[str, Any], dict[str, Any]]:
        """Labels, what the model sees, and what goes with the labels in its place: what a decoder is taught with."""
        found = [name for name in self.label_names if name in inputs]
        if len(found) != 1:
            raise ValueError(
                f"one of the inputs {sorted(inputs)} must be the labels, found {found}. "
                "Set TrainingArguments(label_names=[...])."
            )
        labels = inputs[found[0]]
        rest = {name: x for name, x in inputs.items() if name != found[0]}
        config: Any = getattr(self.model, "config", None)
        if self._is_causal() and self.mixer.leaves.get("input_ids") == "own":  # the labels are this text
            tensors = {name: x for name, x in rest.items() if isinstance(x, Tensor) and not x.is_floating_point()}
            return labels, rest, {name: x for name, x in tensors.items() if x.shape == labels.shape}
        if not getattr(config, "is_encoder_decoder", False):
            return labels, rest, {}
        decoder = {name: x for name, x in rest.items() if name.startswith("decoder_")}
        if not {"decoder_input_ids", "decoder_inputs_embeds"} & set(decoder):
            ids = labels.roll(1, -1).masked_fill(labels.roll(1, -1) == _IGNORED, config.pad_token_id)
            ids[..., 0] = config.decoder_start_token_id
            decoder["decoder_input_ids"] = ids
        return labels, {name: x for name, x in rest.items() if name not in decoder}, decoder

    def _aligned(self, labels: Tensor) -> Tensor:
        """Labels of what each position predicts: for a causal language model the next token."""
        if not self._is_causal():
            return labels
        labels = labels.roll(-1, -1)
        labels[..., -1] = _IGNORED
        return labels

    def _is_causal(self) -> bool:
        """Whether the model is one that generates, and shifts its labels itself."""
        model: Any = self.model
        # Transformers also falls back to this loss for every class that it does not know: classifiers of users' own.
        if getattr(model, "loss_function", None) is not ForCausalLMLoss or not model.can_generate():
            return False
        return not model.config.is_encoder_decoder

    def _mean_loss(self, plan: MixPlan, forward: _Forward, labels: Tensor, decoder: dict[str, Any]) -> Tensor:
        """The mean over the labels that count, see `kmixup.MixPlan.loss`; 0 if none does."""
        loss_fn = self._loss_fn(labels)

        def of_one_target(_: None, target: Any) -> tuple[Tensor]:
            logits, wanted = _logits(forward(target[1])), target[0]
            if wanted.is_floating_point() and logits.shape == (*wanted.shape, 1):
                logits = logits.squeeze(-1)  # as Transformers does; [B, 1] against [B] would broadcast to [B, B]
            loss = loss_fn(logits, wanted)
            if not isinstance(loss, Tensor):
                raise TypeError(f"loss_fn must return one tensor, got {type(loss).__name__}. Sum several losses in it.")
            return (loss,)  # in the place where the labels are in a target

        if not labels.ne(_IGNORED).any():
            return 0 * _logits(forward(decoder)).sum()
        return plan.loss(of_one_target, None, (labels, decoder))[0]

    def _loss_fn(self, labels: Tensor) -> Callable[[Any, Tensor], Tensor]:
        if self.loss_fn is not None:
            return self.loss_fn
        if labels.is_floating_point():
            raise TypeError(
                f"labels are {labels.dtype}, and cross-entropy takes class indices. Choose the loss: "
                "loss_fn=F.mse_loss for regression, F.binary_cross_entropy_with_logits for multi-label targets."
            )
        return partial(_cross_entropy, label_smoothing=self.args.label_smoothing_factor)

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


class _Forward:
    """The model on a mixed batch: once, or once for each teacher of a decoder, on what an encoder encoded once."""

    def __init__(self, model: torch.nn.Module, inputs: dict[str, Any]) -> None:
        self.model, self.inputs = model, inputs
        self.first: Any = None

    def __call__(self, decoder: dict[str, Any]) -> Any:
        if self.first is None:
            self.first = self.model(**{**self.inputs, **decoder})
            return self.first
        if not decoder:
            return self.first
        encoded = getattr(self.first, "encoder_last_hidden_state", None)
        if encoded is None:
            return self.model(**{**self.inputs, **decoder})
        masks = {name: x for name, x in self.inputs.items() if name.endswith("mask")}
        return self.model(encoder_outputs=BaseModelOutput(last_hidden_state=encoded), **masks, **decoder)


def _logits(outputs: Any) -> Tensor:
    return outputs["logits"] if isinstance(outputs, dict) else outputs[0]


def _cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """The loss of each label, 0 where it does not count."""
    if logits.shape[:-1] == labels.shape:
        logits = logits.movedim(-1, 1)
    elif logits.shape[:1] + logits.shape[2:] != labels.shape:
        raise ValueError(
            f"logits of shape {list(logits.shape)} and labels of shape {list(labels.shape)} do not fit: cross-entropy "
            "takes [B, ..., C] or [B, C, ...] and [B, ...]. Choose the loss: loss_fn=lambda logits, labels: ..."
        )
    logits = logits if logits.dtype.itemsize >= 4 else logits.float()
    return F.cross_entropy(logits, labels.long(), label_smoothing=label_smoothing, reduction="none")
