"""The Trainer and Accelerate, with real models in real short trainings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, SequentialSampler, TensorDataset
from transformers import (
    CLIPVisionConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from kmixup import KMixup, MixPlan
from kmixup.adapters.huggingface import KMixupTrainer, KMixupTrainerMixin

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 32,
    "num_train_epochs": 1,
    "learning_rate": 0.1,
    "lr_scheduler_type": "constant",
    "optim": "sgd",
    "save_strategy": "no",
    "report_to": [],
    "disable_tqdm": True,
    "use_cpu": True,
    "dataloader_pin_memory": False,
    "max_grad_norm": 0.0,
}


def images(n: int = 64) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (n,), generator=generator)
    pixels = torch.randn(n, 1, 8, 8, generator=generator) + labels.view(-1, 1, 1, 1)
    return [
        {"pixel_values": x, "labels": int(y), "path": f"{i}.png"}
        for i, (x, y) in enumerate(zip(pixels, labels, strict=True))
    ]


def vit(num_labels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return ViTForImageClassification(
        ViTConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=8,
            patch_size=4,
            num_channels=1,
            num_labels=num_labels,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


class OnFeatures(nn.Module):
    """A head on pre-computed features, with the plain signature the Trainer divides the loss for."""

    def __init__(self, inputs: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(inputs, 3)

    def forward(self, features: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.head(features)
        return {"logits": logits} if labels is None else {"loss": F.cross_entropy(logits, labels), "logits": logits}


class OnFeaturesWithCount(OnFeatures):
    """The same with the signature for which the Trainer counts the items of the accumulated batch."""

    def forward(self, features: Tensor, labels: Tensor | None = None, **kwargs: Any) -> dict[str, Tensor]:
        return super().forward(features, labels)


def features(n: int = 128) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(n, 4, generator=generator), torch.randint(3, (n,), generator=generator)
    return [{"features": row, "labels": int(label)} for row, label in zip(x, y, strict=True)]


def arguments(folder: Path, **options: Any) -> TrainingArguments:
    return TrainingArguments(output_dir=str(folder), **{**DEFAULTS, **options})


def accuracy(prediction: Any) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}


def trained(trainer: Trainer) -> dict[str, Tensor]:
    trainer.train()
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def test_at_alpha_zero_training_and_metrics_are_those_of_the_plain_trainer(tmp_path: Path) -> None:
    common = {"train_dataset": images(), "eval_dataset": images(), "compute_metrics": accuracy}
    plain = Trainer(vit(), arguments(tmp_path), **common)
    mixed = KMixupTrainer(vit(), arguments(tmp_path), mixer=KMixup(k=4, alpha=0), **common)
    torch.testing.assert_close(trained(mixed), trained(plain))
    expected, got = plain.evaluate(), mixed.evaluate()
    assert got["eval_accuracy"] == expected["eval_accuracy"]
    assert got["eval_loss"] == pytest.approx(expected["eval_loss"], rel=1e-5)


def test_evaluation_is_not_mixed_whatever_alpha(tmp_path: Path) -> None:
    plain = Trainer(vit(), arguments(tmp_path), eval_dataset=images(), compute_metrics=accuracy).evaluate()
    mixer = KMixup(k=4, alpha=1.0)
    mixed = KMixupTrainer(
        vit(), arguments(tmp_path), eval_dataset=images(), compute_metrics=accuracy, mixer=mixer
    ).evaluate()
    assert (mixed["eval_loss"], mixed["eval_accuracy"]) == (plain["eval_loss"], plain["eval_accuracy"])


def test_mixing_changes_what_is_learned_and_the_model_learns(tmp_path: Path) -> None:
    options = {"num_train_epochs": 15, "per_device_train_batch_size": 16, "optim": "adamw_torch", "learning_rate": 0.01}
    trainer = KMixupTrainer(
        vit(),
        arguments(tmp_path, **options),
        train_dataset=images(),
        eval_dataset=images(),
        compute_metrics=accuracy,
        mixer=KMixup(k=4, alpha=1.0, generator=torch.Generator().manual_seed(0)),
    )
    trainer.train()
    assert trainer.evaluate()["eval_accuracy"] > 0.9


def test_the_model_sees_mixed_inputs_and_no_labels(tmp_path: Path) -> None:
    model, seen = OnFeatures(), []
    model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    KMixupTrainer(model, arguments(tmp_path), train_dataset=features(32), mixer=KMixup(k=4, alpha=float("inf"))).train()
    (kwargs,) = seen
    assert set(kwargs) == {"features"}
    originals = torch.stack([row["features"] for row in features(32)])
    assert torch.cdist(kwargs["features"], originals).min() > 0


class InOrder(KMixupTrainer):
    """Takes the rows in the order of the data set."""

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


class Replayed(KMixup):
    """Plays plans back in turn."""

    def __init__(self, plans: list[MixPlan]) -> None:
        super().__init__(k=4, alpha=1.0, lam_per="sample")
        self.plans = list(plans)

    def plan(self, x: Any, x2: Any = None, **options: Any) -> MixPlan:
        return self.plans.pop(0)


def four_plans_and_the_same_as_one(sizes: list[int]) -> tuple[list[MixPlan], MixPlan]:
    draws = torch.Generator().manual_seed(0)
    mixer = KMixup(k=4, alpha=1.0, lam_per="sample", generator=draws, per_process=False)
    plans = [mixer.plan(torch.randn(n, 4, generator=draws)) for n in sizes]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    partner = torch.cat([plan.partner + start for plan, start in zip(plans, starts, strict=True)])
    return plans, MixPlan(partner, torch.cat([plan.lam for plan in plans]), partner)


@pytest.mark.parametrize(
    ("model", "n"), [(OnFeatures, 128), (OnFeaturesWithCount, 128), (OnFeaturesWithCount, 104)], ids=str
)
def test_four_accumulated_batches_give_the_update_of_one_with_the_same_plans(
    tmp_path: Path, model: Callable[[], nn.Module], n: int
) -> None:
    four, one = four_plans_and_the_same_as_one([32, 32, 32, n - 96])
    common = {"train_dataset": features(n)}
    accumulated = InOrder(model(), arguments(tmp_path, gradient_accumulation_steps=4), mixer=Replayed(four), **common)
    whole = InOrder(model(), arguments(tmp_path, per_device_train_batch_size=n), mixer=Replayed([one]), **common)
    before = model().state_dict()
    after = trained(whole)
    assert not torch.equal(after["head.weight"], before["head.weight"])
    torch.testing.assert_close(trained(accumulated), after)


def test_label_smoothing_of_the_arguments_is_used(tmp_path: Path) -> None:
    smoothed = arguments(tmp_path, label_smoothing_factor=0.3)
    plain = trained(Trainer(vit(), smoothed, train_dataset=images()))
    mixed = trained(KMixupTrainer(vit(), smoothed, train_dataset=images(), mixer=KMixup(4, 0)))
    torch.testing.assert_close(mixed, plain)
    unsmoothed = trained(KMixupTrainer(vit(), arguments(tmp_path), train_dataset=images(), mixer=KMixup(4, 0)))
    assert not torch.equal(unsmoothed["classifier.weight"], mixed["classifier.weight"])


@pytest.mark.parametrize("generator", [None, torch.Generator], ids=["global", "own"])
def test_a_resumed_run_draws_the_plans_of_an_unbroken_one(tmp_path: Path, generator: Any) -> None:
    def trainer(folder: Path, **options: Any) -> KMixupTrainer:
        mixer = KMixup(k=4, alpha=1.0, generator=None if generator is None else generator().manual_seed(0))
        saving = {"save_strategy": "steps", "save_steps": 2, "num_train_epochs": 2, **options}
        return KMixupTrainer(OnFeatures(), arguments(folder, **saving), train_dataset=features(), mixer=mixer)

    unbroken = trained(trainer(tmp_path / "unbroken"))
    trainer(tmp_path / "broken", max_steps=2).train()
    resumed = trainer(tmp_path / "broken")
    resumed.train(resume_from_checkpoint=str(tmp_path / "broken" / "checkpoint-2"))
    torch.testing.assert_close(dict(resumed.model.state_dict()), unbroken)


def test_regression_takes_the_loss_it_is_given(tmp_path: Path) -> None:
    rows = [{**row, "labels": float(row["labels"])} for row in features(32)]
    trainer = KMixupTrainer(
        OnFeatures(),
        arguments(tmp_path),
        train_dataset=rows,
        mixer=KMixup(4, 1.0),
        loss_fn=lambda outputs, targets: F.mse_loss(outputs[:, 0], targets),
    )
    trainer.train()
    assert trainer.state.log_history[-1]["train_loss"] > 0
    with pytest.raises(TypeError, match=r"labels are torch\.float32, and cross-entropy takes class indices"):
        KMixupTrainer(OnFeatures(), arguments(tmp_path), train_dataset=rows, mixer=KMixup(4, 1.0)).train()


@pytest.mark.parametrize("lam_per", ["batch", "sample"])
def test_the_one_output_of_a_regression_meets_labels_of_its_own_shape(tmp_path: Path, lam_per: Any) -> None:
    torch.manual_seed(0)
    x, y, model = torch.randn(8, 1, 8, 8), torch.randn(8), vit(num_labels=1)
    plan = KMixup(4, 1.0, lam_per=lam_per).plan(x)
    loss_fn = partial(F.mse_loss, reduction="none" if lam_per == "sample" else "mean")
    trainer = trainer_for(model, tmp_path, Replayed([plan]), loss_fn=loss_fn)
    got = trainer.compute_loss(model, {"pixel_values": x, "labels": y})
    outputs = model(plan.mix(x)).logits[:, 0]
    errors = [(outputs - t).double() ** 2 for t in (y, y[plan.partner])]
    torch.testing.assert_close(got.double(), (plan.lam * errors[0] + (1 - plan.lam) * errors[1]).mean())


@pytest.mark.parametrize("lam_per", ["batch", "sample"])
@pytest.mark.parametrize("model", [OnFeatures, OnFeaturesWithCount])
def test_a_loss_that_is_given_is_that_of_evaluation_too(tmp_path: Path, model: Any, lam_per: Any) -> None:
    def loss_fn(logits: Tensor, labels: Tensor) -> Tensor:
        losses = F.cross_entropy(logits, labels, label_smoothing=0.5, reduction="none")
        return losses.mean() if lam_per == "batch" else losses

    rows, net, mixer = features(32), model().requires_grad_(False), KMixup(4, 1.0, lam_per=lam_per)
    common = {"eval_dataset": rows, "compute_metrics": accuracy}
    metrics = KMixupTrainer(net, arguments(tmp_path), mixer=mixer, loss_fn=loss_fn, **common).evaluate()
    x, y = torch.stack([row["features"] for row in rows]), torch.tensor([row["labels"] for row in rows])
    assert metrics["eval_loss"] == pytest.approx(float(loss_fn(net(x)["logits"], y).mean()), rel=1e-5)
    assert metrics["eval_accuracy"] == pytest.approx(float((net(x)["logits"].argmax(1) == y).float().mean()))


def test_token_ids_are_refused_with_the_remedy(tmp_path: Path) -> None:
    trainer = KMixupTrainer(OnFeatures(), arguments(tmp_path), mixer=KMixup(4, 1.0))
    trainer.model.train()
    with pytest.raises(TypeError, match=r"no floating-point input to mix among \['features'\].*inputs_embeds"):
        trainer.compute_loss(trainer.model, {"features": torch.ones(4, 4).long(), "labels": torch.zeros(4).long()})
    with pytest.raises(ValueError, match=r"must be the labels, found \[\]"):
        trainer.compute_loss(trainer.model, {"features": torch.ones(4, 4)})


@pytest.mark.parametrize("off", ["alpha", "eval"])
def test_where_nothing_is_mixed_token_ids_are_not_refused(tmp_path: Path, off: str) -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=7, n_embd=8, n_layer=1, n_head=2, n_positions=6)).eval()
    mixer = KMixup(4, 0.0) if off == "alpha" else KMixup(4, 1.0).eval()
    ids = torch.randint(7, (4, 6), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    expected = model(**batch).loss
    trainer = KMixupTrainer(model, arguments(tmp_path), mixer=mixer)
    for part in model.modules():
        part.training = part is model  # the trainer sees train mode, dropout does not
    torch.testing.assert_close(trainer.compute_loss(model, batch), expected)


# --- losses and labels ------------------------------------------------------------------------------------------------


def trainer_for(model: nn.Module, folder: Path, mixer: KMixup, **options: Any) -> KMixupTrainer:
    trainer = KMixupTrainer(model, arguments(folder), train_dataset=[0], mixer=mixer, **options)
    trainer.model.train()
    return trainer


class OfTokens(nn.Linear):
    """A head on each token's features, or on each pixel's (``channels_first``)."""

    def __init__(self, channels_first: bool = False) -> None:
        super().__init__(4, 3)
        self.channels_first = channels_first

    def forward(self, features: Tensor, labels: Tensor | None = None, **kwargs: Any) -> dict[str, Tensor]:
        logits = super().forward(features)
        return {"logits": logits.movedim(-1, 1) if self.channels_first else logits}


@pytest.mark.parametrize("lam_per", ["batch", "block", "sample"])
@pytest.mark.parametrize("count", [None, torch.tensor(3)], ids=["uncounted", "counted"])
def test_the_mean_is_over_the_labels_that_count(tmp_path: Path, lam_per: Any, count: Tensor | None) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(8, 4), torch.tensor([0, 1, 2, -100, -100, -100, -100, -100])
    model = OnFeatures()
    for alpha in (0.0, 1.0):
        plans = [KMixup(4, alpha, lam_per=lam_per).plan(x)]
        (plan,) = plans
        got = trainer_for(model, tmp_path, Replayed(plans)).compute_loss(
            model, {"features": x, "labels": y}, num_items_in_batch=count
        )
        logits = model(plan.mix(x))["logits"]
        lam = plan.lam.expand(8)
        losses = [F.cross_entropy(logits, t, reduction="none") for t in (y, y[plan.partner])]
        total = (lam * losses[0] + (1 - lam) * losses[1]).sum()
        counting = (lam * (y >= 0) + (1 - lam) * (y[plan.partner] >= 0)).sum()
        torch.testing.assert_close(got.double(), total / counting)
        if alpha == 0:
            torch.testing.assert_close(got, F.cross_entropy(logits, y))


@pytest.mark.parametrize("channels_first", [False, True], ids=["[B, T, C]", "[B, C, T]"])
@pytest.mark.parametrize("lam_per", ["batch", "sample"])
def test_labels_of_tokens_and_of_pixels_have_a_default_loss(tmp_path: Path, channels_first: bool, lam_per: Any) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(8, 5, 4), torch.randint(3, (8, 5))
    y[torch.rand(8, 5) < 0.3] = -100
    model = OfTokens(channels_first)
    trainer = trainer_for(model, tmp_path, KMixup(4, 0.0, lam_per=lam_per))
    got = trainer.compute_loss(model, {"features": x, "labels": y})
    torch.testing.assert_close(got, F.cross_entropy(nn.Linear.forward(model, x).flatten(0, 1), y.flatten()))


def test_logits_that_do_not_fit_the_labels_are_refused(tmp_path: Path) -> None:
    model = OfTokens()
    trainer = trainer_for(model, tmp_path, KMixup(4, 1.0))
    with pytest.raises(ValueError, match=r"logits of shape \[8, 5, 3\] and labels of shape \[8\] do not fit.*loss_fn="):
        trainer.compute_loss(model, {"features": torch.randn(8, 5, 4), "labels": torch.zeros(8).long()})


def test_a_loss_must_be_one_tensor(tmp_path: Path) -> None:
    model = OnFeatures()
    trainer = trainer_for(model, tmp_path, KMixup(4, 1.0), loss_fn=lambda o, t: {"loss": F.cross_entropy(o, t)})
    with pytest.raises(TypeError, match="loss_fn must return one tensor, got dict"):
        trainer.compute_loss(model, {"features": torch.randn(8, 4), "labels": torch.zeros(8).long()})


def test_a_batch_without_a_label_that_counts_teaches_nothing(tmp_path: Path) -> None:
    model = OnFeatures()
    trainer = trainer_for(model, tmp_path, KMixup(4, 1.0))
    loss = trainer.compute_loss(model, {"features": torch.randn(8, 4), "labels": torch.full((8,), -100)})
    loss.backward()
    assert float(loss.detach()) == 0
    assert not model.head.weight.grad.any()


def test_the_trainers_compute_loss_func_is_called_with_either_target(tmp_path: Path) -> None:
    seen: list[Any] = []

    def weighted(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        seen.append(num_items_in_batch)
        return F.cross_entropy(outputs["logits"], labels, weight=torch.tensor([1.0, 5.0, 1.0]))

    torch.manual_seed(0)
    x, y, model = torch.randn(16, 4), torch.randint(3, (16,)), OnFeatures()
    plan = KMixup(4, 1.0).plan(x)
    replayed = Replayed([plan])
    replayed.lam_per = "batch"
    trainer = trainer_for(model, tmp_path, replayed, compute_loss_func=weighted)
    got = trainer.compute_loss(model, {"features": x, "labels": y}, num_items_in_batch=16)
    assert seen == [16, 16]
    logits = model(plan.mix(x))["logits"]
    own, theirs = (weighted({"logits": logits}, t) for t in (y, y[plan.partner]))
    torch.testing.assert_close(got, torch.lerp(theirs, own, plan.lam.float()))

    for mixer, options, message in (
        (KMixup(4, 1.0, lam_per="sample"), {}, r"lam_per='sample' needs one loss per sample"),
        (KMixup(4, 1.0), {"loss_fn": F.cross_entropy}, "two losses"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer_for(model, tmp_path, mixer, compute_loss_func=weighted, **options)


def test_a_mask_shows_what_either_sample_shows(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(8, 5, 4), torch.randint(3, (8, 5))
    mask = (torch.arange(5) < torch.randint(1, 6, (8, 1))).long()
    model, seen = OfTokens(), []
    model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    plan = KMixup(4, 1.0, lam_per="sample").plan(x)
    plan.lam[0] = 1.0
    batch = {"features": x, "attention_mask": mask, "labels": y}
    trainer_for(model, tmp_path, Replayed([plan])).compute_loss(model, batch)
    expected = mask | mask[plan.partner]
    expected[0] = mask[0]
    assert torch.equal(seen[0]["attention_mask"], expected)
    assert not torch.equal(expected, mask)


def test_inputs_in_doubt_are_refused_or_follow_the_mixers_rule(tmp_path: Path) -> None:
    model, seen = OfTokens(), []
    model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    batch = {"features": torch.randn(8, 5, 4), "question": torch.ones(8, 5).long(), "labels": torch.ones(8, 5).long()}
    with pytest.raises(TypeError, match=r"'question' holds torch.int64.*leaves=\{'question': ...\}"):
        trainer_for(model, tmp_path, KMixup(4, 1.0)).compute_loss(model, batch)
    trainer_for(model, tmp_path, KMixup(4, 1.0, leaves={"question": "own"})).compute_loss(model, batch)
    assert torch.equal(seen[0]["question"], batch["question"])


def test_a_causal_language_model_is_taught_the_next_token(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 1, "vocab_size": 11, "n_positions": 6, "eos_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(**sizes, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
    y = torch.randint(11, (8, 6))
    y[:, 4:] = -100
    batch = {"inputs_embeds": torch.randn(8, 6, 8), "labels": y}
    expected = model(**batch).loss
    trainer = trainer_for(model, tmp_path, KMixup(4, 0.0))
    torch.testing.assert_close(trainer.compute_loss(model, dict(batch)), expected)
    count = y[:, 1:].ne(-100).sum()
    torch.testing.assert_close(trainer.compute_loss(model, dict(batch), num_items_in_batch=2 * count), expected / 2)


class Unlisted(PreTrainedModel):
    """A classifier of one's own, for which Transformers falls back to the loss of a causal language model."""

    config_class = PreTrainedConfig

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        self.head = nn.Linear(4, 3)
        self.post_init()

    def forward(self, features: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.head(features)
        return {"logits": logits} if labels is None else {"loss": F.cross_entropy(logits, labels), "logits": logits}


def test_a_classifier_that_transformers_does_not_know_is_taught_the_label_of_its_own_row(tmp_path: Path) -> None:
    model, y = Unlisted(PreTrainedConfig()), torch.arange(8) % 3
    batch = {"features": torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), "labels": y}
    trainer = trainer_for(model, tmp_path, KMixup(4, 0.0))
    torch.testing.assert_close(trainer.compute_loss(model, batch), model(**batch)["loss"])


class KMixupSeq2SeqTrainer(KMixupTrainerMixin, Seq2SeqTrainer):
    pass


def whisper() -> WhisperForConditionalGeneration:
    torch.manual_seed(0)
    layers = {f"{side}_layers": 1 for side in ("encoder", "decoder")}
    heads = {f"{side}_attention_heads": 2 for side in ("encoder", "decoder")}
    widths = {f"{side}_ffn_dim": 16 for side in ("encoder", "decoder")}
    positions = {"max_source_positions": 10, "max_target_positions": 12, "num_mel_bins": 8, "d_model": 16}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "vocab_size": 50}
    none = {"suppress_tokens": None, "begin_suppress_tokens": None}
    return WhisperForConditionalGeneration(WhisperConfig(**layers, **heads, **widths, **positions, **ids, **none))


@pytest.mark.parametrize("given", [False, True], ids=["made from the labels", "in the batch"])
def test_a_mixed_recording_is_decoded_with_either_transcript_as_teacher(tmp_path: Path, given: bool) -> None:
    model = whisper()
    x, y = torch.randn(8, 8, 20), torch.randint(3, 50, (8, 5))
    y[2:5, 3:] = -100
    plan = KMixup(4, 1.0, lam_per="sample").plan(x)
    batch: dict[str, Any] = {"input_features": x, "labels": y}
    if given:
        batch["decoder_input_ids"] = torch.cat([torch.ones(8, 1).long(), y[:, :-1].masked_fill(y[:, :-1] < 0, 0)], 1)
    args = Seq2SeqTrainingArguments(str(tmp_path), report_to=[], use_cpu=True)
    trainer = KMixupSeq2SeqTrainer(model, args, train_dataset=[0], mixer=Replayed([plan]))
    got, outputs = trainer.compute_loss(model.train(), batch, return_outputs=True)

    total, counting = torch.zeros(()), torch.zeros(())
    for target, weight in ((y, plan.lam), (y[plan.partner], 1 - plan.lam)):
        logits = model(input_features=plan.mix(x), labels=target).logits
        losses = F.cross_entropy(logits.movedim(-1, 1), target, reduction="none").sum(1)
        total = total + (weight.float() * losses).sum()
        counting = counting + (weight.float() * (target >= 0).sum(1)).sum()
    torch.testing.assert_close(got, total / counting)
    torch.testing.assert_close(outputs.logits, model(input_features=plan.mix(x), labels=y).logits)


def llava() -> LlavaForConditionalGeneration:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**sizes, num_hidden_layers=2, image_size=8, patch_size=4, projection_dim=16)
    text = LlamaConfig(**sizes, num_hidden_layers=1, vocab_size=40, num_key_value_heads=2, max_position_embeddings=32)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=39)
    return LlavaForConditionalGeneration(config)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_language_model_sees_a_mixed_image_with_either_text_and_its_mask(tmp_path: Path, alpha: float) -> None:
    model, passes = llava(), []
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    x, text = torch.randn(8, 3, 8, 8), torch.randint(38, (8, 5))
    mask = (torch.arange(9) < torch.randint(6, 10, (8, 1))).long()
    ids = torch.cat([torch.full((8, 4), 39), text], 1) * mask
    labels = ids.masked_fill((ids == 39) | (mask == 0), -100)
    plan = KMixup(4, alpha, lam_per="sample").plan(x)
    mixer = Replayed([plan])
    mixer.alpha, mixer.leaves = alpha, {"input_ids": "own"}
    batch = {"pixel_values": x, "input_ids": ids, "attention_mask": mask, "labels": labels}
    got = trainer_for(model, tmp_path, mixer).compute_loss(model, batch)
    assert len(passes) == (1 if alpha == 0 else 2)

    total, counting = torch.zeros(()), torch.zeros(())
    for rows, weight in ((torch.arange(8), plan.lam), (plan.partner, 1 - plan.lam)):
        logits = model(pixel_values=plan.mix(x), input_ids=ids[rows], attention_mask=mask[rows]).logits
        losses = F.cross_entropy(logits[:, :-1].movedim(-1, 1), labels[rows, 1:], reduction="none").sum(1)
        total = total + (weight.float() * losses).sum()
        counting = counting + (weight.float() * (labels[rows, 1:] >= 0).sum(1)).sum()
    torch.testing.assert_close(got, total / counting)


def test_at_alpha_zero_a_sequence_to_sequence_training_is_the_trainers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    rows = [{"input_features": torch.randn(8, 20), "labels": labels} for labels in torch.randint(3, 50, (16, 5))]
    args = Seq2SeqTrainingArguments(str(tmp_path), **{**DEFAULTS, "per_device_train_batch_size": 8})
    plain = trained(Seq2SeqTrainer(whisper(), args, train_dataset=rows))
    mixed = trained(KMixupSeq2SeqTrainer(whisper(), args, train_dataset=rows, mixer=KMixup(4, 0.0)))
    torch.testing.assert_close(mixed, plain, rtol=1e-4, atol=1e-5)
    assert not torch.equal(mixed["model.encoder.conv1.weight"], whisper().state_dict()["model.encoder.conv1.weight"])


# --- Accelerate -------------------------------------------------------------------------------------------------------


def test_accelerates_accumulate_gives_the_update_of_one_batch_with_the_same_plans() -> None:
    four, one = four_plans_and_the_same_as_one([32] * 4)
    x, y = (torch.stack([torch.as_tensor(row[key]) for row in features()]) for key in ("features", "labels"))

    def step(plans: list[MixPlan], steps: int) -> Tensor:
        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=steps)
        model = OnFeatures().head
        loader = DataLoader(TensorDataset(x, y), batch_size=128 // steps)
        model, optimizer, loader = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1), loader)
        mixer = Replayed(plans)
        for x_batch, y_batch in loader:
            with accelerator.accumulate(model):
                plan = mixer.plan(x_batch)
                logits = model(plan.mix(x_batch))
                accelerator.backward(plan.loss(lambda o, t: F.cross_entropy(o, t, reduction="none"), logits, y_batch))
                optimizer.step()
                optimizer.zero_grad()
        return model.weight.detach()

    torch.testing.assert_close(step(four, 4), step([one], 1))


def test_accelerate_checkpoints_the_mixers_stream(tmp_path: Path) -> None:
    accelerator = Accelerator(cpu=True)
    mixer = KMixup(k=4, alpha=1.0, generator=torch.Generator().manual_seed(0))
    accelerator.register_for_checkpointing(mixer)
    x = torch.randn(32, 4)
    mixer.plan(x)
    accelerator.save_state(str(tmp_path))
    expected = mixer.plan(x)
    mixer.plan(x)
    accelerator.load_state(str(tmp_path))
    resumed = mixer.plan(x)
    assert torch.equal(resumed.partner, expected.partner)
    assert torch.equal(resumed.lam, expected.lam)


# --- two processes ----------------------------------------------------------------------------------------------------


def test_two_ranks_draw_different_plans_from_one_seed(on_two_ranks: Callable[..., str]) -> None:
    script = """
        import torch
        from accelerate import Accelerator
        from accelerate.utils import set_seed
        from kmixup import KMixup

        accelerator = Accelerator(cpu=True)
        set_seed(0)
        x = torch.randn(64, 4)
        for generator in (None, torch.Generator().manual_seed(0)):
            plan = KMixup(k=4, alpha=1.0, lam_per="sample", generator=generator).plan(x)
            for drawn in (plan.partner, plan.lam):
                both = accelerator.gather(drawn[None].to(accelerator.device))
                assert len(both) == 2 and not torch.equal(both[0], both[1])
        same = KMixup(k=4, alpha=1.0, generator=torch.Generator().manual_seed(0), per_process=False).plan(x)
        both = accelerator.gather(same.partner[None])
        assert torch.equal(both[0], both[1])
        print("checked", flush=True)
        accelerator.end_training()
    """
    assert on_two_ranks(script).count("checked") == 2


@pytest.mark.slow
def test_two_processes_give_the_update_of_one_with_the_same_plans(
    on_two_ranks: Callable[..., str], tmp_path: Path
) -> None:
    script = f"""
        from pathlib import Path
        from test_adapters_huggingface import *

        first, second = four_plans_and_the_same_as_one([32, 32])[0]
        for average in (True, False):
            args = arguments(Path({str(tmp_path)!r}), average_tokens_across_devices=average)
            for model in (OnFeatures, OnFeaturesWithCount):
                plans = [first if args.process_index == 0 else second]
                trainer = InOrder(model(), args, train_dataset=features(64), mixer=Replayed(plans))
                trainer.train()
                if args.process_index == 0:
                    torch.save(trainer.model.state_dict(), f"{tmp_path}/{{model.__name__}}{{average}}.pt")
        torch.distributed.destroy_process_group()
    """
    on_two_ranks(script)
    _, one = four_plans_and_the_same_as_one([32, 32])
    for model in (OnFeatures, OnFeaturesWithCount):
        args = arguments(tmp_path, per_device_train_batch_size=64)
        expected = trained(InOrder(model(), args, train_dataset=features(64), mixer=Replayed([one])))
        for average in (True, False):
            torch.testing.assert_close(torch.load(tmp_path / f"{model.__name__}{average}.pt"), expected)


def test_a_mixer_that_matches_by_labels_gets_them_and_a_hook_says_which_rows(tmp_path: Path) -> None:
    plans, labels = [], []

    class Kept(KMixup):
        def plan(self, x: Any, x2: Any = None, **options: Any) -> MixPlan:
            plans.append(super().plan(x, x2, **options))
            labels.append(options["y"])
            return plans[-1]

    class SomeRows(KMixupTrainer):
        def rows_to_mix(self, inputs: dict[str, Any]) -> Tensor:
            return inputs["labels"] != 2

    mixer = Kept(4, 1.0, within="label")
    trained(SomeRows(OnFeatures(), arguments(tmp_path), train_dataset=features(), mixer=mixer))
    for plan, y in zip(plans, labels, strict=True):
        assert torch.equal(plan.partner_of(y), y)
        assert (plan.weights[y == 2] == 1).all()
    assert sum(len(plan) for plan in plans) >= 128
