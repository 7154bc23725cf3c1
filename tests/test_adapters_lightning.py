"""The Lightning mixin in real short trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from kmixup import KMixup, MixPlan
from kmixup.adapters.lightning import KMixupMixin

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")


def data(n: int = 128) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(3, (n,), generator=generator)
    return TensorDataset(torch.randn(n, 4, generator=generator) + 2 * F.one_hot(y, 4), y)


class Plain(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = nn.Linear(4, 3)
        self.seen: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.model(x), y)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.seen.append(x)
        self.log("val_acc", (self.model(x).argmax(1) == y).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.5)


class Mixed(KMixupMixin, Plain):
    def __init__(self, mixer: KMixup) -> None:
        super().__init__()
        self.mixer = mixer

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self.model(x)
        self.log("train_acc", self.plan.accuracy(logits, y), on_epoch=True)
        return self.plan.loss(F.cross_entropy, logits, y)


def fitted(
    module: pl.LightningModule, folder: Path, batch_size: int = 32, dataset: Any = None, **options: Any
) -> pl.Trainer:
    trainer = pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 2, "enable_checkpointing": False, **options},
    )
    train = DataLoader(data() if dataset is None else dataset, batch_size=batch_size)
    trainer.fit(module, train, DataLoader(data(), batch_size=128))
    return trainer


def mixer(**options: Any) -> KMixup:
    return KMixup(**{"k": 4, "alpha": 1.0, "generator": torch.Generator().manual_seed(0), **options})


def test_at_alpha_zero_training_and_metrics_are_those_without_the_mixin(tmp_path: Path) -> None:
    plain, mixed = Plain(), Mixed(mixer(alpha=0))
    expected = fitted(plain, tmp_path).callback_metrics["val_acc"]
    assert fitted(mixed, tmp_path).callback_metrics["val_acc"] == expected
    torch.testing.assert_close(mixed.model.state_dict(), plain.model.state_dict())


def test_training_batches_are_mixed_and_validation_batches_are_not(tmp_path: Path) -> None:
    plain, mixed = Plain(), Mixed(mixer())
    fitted(plain, tmp_path)
    trainer = fitted(mixed, tmp_path)
    assert not torch.equal(mixed.model.weight, plain.model.weight)
    assert len(mixed.seen) == 3  # the sanity check before the training, and two epochs
    for x in mixed.seen:
        torch.testing.assert_close(x, data().tensors[0])
    assert 0.4 < trainer.callback_metrics["train_acc"] < trainer.callback_metrics["val_acc"]


class SharedStep(Mixed):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        logits = self.model(x)
        expected = F.cross_entropy(logits, y), (logits.argmax(1) == y).float().mean()
        got = self.plan.loss(F.cross_entropy, logits, y), self.plan.accuracy(logits, y)
        torch.testing.assert_close(got, expected)
        self.seen.append(x)

    def predict_step(self, batch: Any, batch_idx: int) -> bool:
        return hasattr(self, "plan")


@pytest.mark.parametrize("batch_size", [32, 128])
def test_a_step_shared_with_validation_gives_the_plain_loss_and_accuracy_there(tmp_path: Path, batch_size: int) -> None:
    module = SharedStep(mixer())
    trainer = fitted(module, tmp_path, batch_size=batch_size)
    assert len(module.seen) == 3  # the sanity check before the training, and two epochs
    assert trainer.predict(module, DataLoader(["no", "tensor"], batch_size=2)) == [False]


class Replayed(KMixup):
    """Plays plans back in turn."""

    def __init__(self, plans: list[MixPlan]) -> None:
        super().__init__(k=4, alpha=1.0)
        self.plans = list(plans)

    def plan(self, x: Any, x2: Any = None, **options: Any) -> MixPlan:
        return self.plans.pop(0)


def test_four_accumulated_batches_give_the_update_of_one_with_the_same_plans(tmp_path: Path) -> None:
    draw = mixer()
    plans = [draw.plan(x) for x, _ in DataLoader(data(), batch_size=32)]
    lam = plans[0].lam  # one lam for all, so that the mean of means is the mean
    plans = [MixPlan(plan.partner, lam, plan.unmatched) for plan in plans]
    partner = torch.cat([plan.partner + 32 * i for i, plan in enumerate(plans)])
    four, one = Mixed(Replayed(plans)), Mixed(Replayed([MixPlan(partner, lam, partner)]))
    fitted(four, tmp_path, accumulate_grad_batches=4, max_epochs=1)
    fitted(one, tmp_path, batch_size=128, max_epochs=1)
    torch.testing.assert_close(four.model.state_dict(), one.model.state_dict())


def test_a_checkpoint_carries_the_mixers_stream(tmp_path: Path) -> None:
    module = Mixed(mixer())
    trainer = fitted(module, tmp_path, enable_checkpointing=True)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    other = Mixed(mixer(generator=torch.Generator().manual_seed(5)))
    other.load_state_dict(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"])
    x = data().tensors[0]
    assert torch.equal(other.mixer.plan(x).partner, module.mixer.plan(x).partner)


def test_batches_of_another_kind_are_refused_with_the_remedy(tmp_path: Path) -> None:
    module = Mixed(mixer())
    rows = [{"x": torch.randn(4), "y": 0} for _ in range(8)]
    with pytest.raises(TypeError, match=r"a training batch must be \(x, y, ...\), got dict"):
        fitted(module, tmp_path, dataset=rows)


class Named(NamedTuple):
    image: Any
    label: Any


@pytest.mark.parametrize("kind", [tuple, list, Named._make], ids=["tuple", "list", "named"])
def test_a_batch_keeps_its_type(kind: Any, tmp_path: Path) -> None:
    module = Mixed(mixer())
    rows = kind(next(iter(DataLoader(data(), batch_size=32))))
    options: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    module.trainer = pl.Trainer(default_root_dir=tmp_path, accelerator="cpu", logger=False, **options)
    module.trainer.training = True
    mixed = module.on_after_batch_transfer(rows, 0)
    assert type(mixed) is type(rows)
    torch.testing.assert_close(mixed[0], module.plan.mix(rows[0]))
    assert mixed[1] is rows[1]


class SomeRows(Mixed):
    def rows_to_mix(self, batch: Any) -> Tensor:
        return batch[1] != 2

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        y = batch[1]
        assert torch.equal(self.plan.partner_of(y), y)
        assert (self.plan.weights[y == 2] == 1).all()
        assert (self.plan.k[y != 2] > 0).all()
        self.seen.append(y)
        return super().training_step(batch, batch_idx)


def test_a_mixer_that_matches_by_labels_gets_them_and_a_hook_says_which_rows(tmp_path: Path) -> None:
    module = SomeRows(KMixup(4, 1.0, within="label"))
    fitted(module, tmp_path, max_epochs=1, limit_val_batches=0)
    assert len(torch.cat(module.seen)) == 128
