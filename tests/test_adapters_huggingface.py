"""The Trainer and Accelerate, with real models in real short trainings."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, SequentialSampler, TensorDataset
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

from kmixup import KMixup, MixPlan
from kmixup.adapters.huggingface import KMixupTrainer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def images(n: int = 64) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (n,), generator=generator)
    pixels = torch.randn(n, 1, 8, 8, generator=generator) + labels.view(-1, 1, 1, 1)
    return [
        {"pixel_values": x, "labels": int(y), "path": f"{i}.png"}
        for i, (x, y) in enumerate(zip(pixels, labels, strict=True))
    ]


def vit() -> nn.Module:
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
            num_labels=3,
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
    defaults: dict[str, Any] = {
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
    return TrainingArguments(output_dir=str(folder), **{**defaults, **options})


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

    def plan(self, x: Any, x2: Any = None) -> MixPlan:
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


def test_token_ids_are_refused_with_the_remedy(tmp_path: Path) -> None:
    trainer = KMixupTrainer(OnFeatures(), arguments(tmp_path), mixer=KMixup(4, 1.0))
    trainer.model.train()
    with pytest.raises(TypeError, match=r"no floating-point input to mix among \['features'\].*inputs_embeds"):
        trainer.compute_loss(trainer.model, {"features": torch.ones(4, 4).long(), "labels": torch.zeros(4).long()})
    with pytest.raises(ValueError, match=r"must be the labels, found \[\]"):
        trainer.compute_loss(trainer.model, {"features": torch.ones(4, 4)})


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


def on_two_ranks(script: str, folder: Path) -> str:
    file = folder / "two_ranks.py"
    # DistributedDataParallel leaves a thread of gloo that can abort a process whose work is done: see `leave`.
    end = "\nfrom kmixup.experiments.distributed import leave\nleave()\n"
    file.write_text(textwrap.dedent(script) + end)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", str(file)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run(launch, capture_output=True, text=True, check=False, timeout=500, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_two_ranks_draw_different_plans_from_one_seed(tmp_path: Path) -> None:
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
    assert on_two_ranks(script, tmp_path).count("checked") == 2


@pytest.mark.slow
def test_two_processes_give_the_update_of_one_with_the_same_plans(tmp_path: Path) -> None:
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
    on_two_ranks(script, tmp_path)
    _, one = four_plans_and_the_same_as_one([32, 32])
    for model in (OnFeatures, OnFeaturesWithCount):
        args = arguments(tmp_path, per_device_train_batch_size=64)
        expected = trained(InOrder(model(), args, train_dataset=features(64), mixer=Replayed([one])))
        for average in (True, False):
            torch.testing.assert_close(torch.load(tmp_path / f"{model.__name__}{average}.pt"), expected)
