"""timm's training script: its mixup function, its models, losses and optimisers."""

from __future__ import annotations

from inspect import signature
from typing import Any

import pytest
import timm
import torch
from timm.data import Mixup
from timm.data.mixup import mixup_target, one_hot
from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from torch import Tensor, nn

from kmixup import KMixup
from kmixup.adapters.timm import TimmKMixup


def batch(n: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(4, (n,), generator=generator)
    rows = torch.arange(32) // 8
    stripe = 2.0 * (rows == y[:, None])  # each class is a bright stripe in its own place
    return torch.randn(n, 3, 32, 32, generator=generator) + stripe.view(n, 1, 32, 1), y


def small_model() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2}
    return timm.create_model("vit_tiny_patch16_224", num_classes=4, **sizes)


def test_it_has_what_a_training_script_uses_of_timms_own() -> None:
    for name in ("mixup_enabled", "label_smoothing", "num_classes", "multi_label", "__call__"):
        assert hasattr(Mixup(num_classes=4), name)
        assert hasattr(TimmKMixup(4, 1.0, num_classes=4), name)


@pytest.mark.parametrize("n", [1, 7, 31, 32])
def test_any_batch_size_gives_soft_targets_that_sum_to_one(n: int) -> None:
    x, y = batch(n)
    before = x.clone()
    mixed, soft = TimmKMixup(2, 1.0, num_classes=4)(x, y)
    assert mixed.shape == x.shape
    torch.testing.assert_close(x, before)
    torch.testing.assert_close(soft.sum(1), torch.ones(n))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_disabled_it_gives_the_images_and_timms_smoothed_targets(smoothing: float) -> None:
    x, y = batch()
    mixup_fn = TimmKMixup(4, 1.0, num_classes=4, label_smoothing=smoothing)
    mixup_fn.mixup_enabled = False
    same, soft = mixup_fn(x, y)
    assert same is x
    torch.testing.assert_close(soft, mixup_target(y, 4, lam=1.0, smoothing=smoothing))
    mixup_fn.mixup_enabled = True
    assert not torch.equal(mixup_fn(x, y)[0], x)


def test_the_targets_of_a_pair_are_timms() -> None:
    x, y = batch()
    plan = KMixup(4, 1.0, generator=torch.Generator().manual_seed(0)).plan(x)
    mixup_fn = TimmKMixup(4, 1.0, num_classes=4, label_smoothing=0.2, generator=torch.Generator().manual_seed(0))
    mixed, soft = mixup_fn(x, y)
    torch.testing.assert_close(mixed, plan.mix(x))
    lam, (own, theirs) = float(plan.lam), (one_hot(t, 4, on_value=0.85, off_value=0.05) for t in (y, y[plan.partner]))
    torch.testing.assert_close(soft, lam * own + (1 - lam) * theirs)
    torch.testing.assert_close(mixup_target(y, 4, lam=1.0, smoothing=0.2), one_hot(y, 4, 0.85, 0.05))


def test_multi_label_targets_are_smoothed_as_timm_does() -> None:
    x, _ = batch()
    y = torch.randint(2, (32, 4), generator=torch.Generator().manual_seed(1))
    mixup_fn = TimmKMixup(4, 0.0, num_classes=4, label_smoothing=0.2, multi_label=True)
    torch.testing.assert_close(mixup_fn(x, y)[1], mixup_target(y, 4, lam=1.0, smoothing=0.2, multi_label=True))
    with pytest.raises(ValueError, match=r"multi-label targets must have shape \[B, 4\], got \[32\]"):
        mixup_fn(x, y[:, 0])


def test_label_smoothing_outside_the_unit_interval_is_refused() -> None:
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\], got 1.5"):
        TimmKMixup(4, 1.0, num_classes=4, label_smoothing=1.5)


@pytest.mark.parametrize("name", sorted(set(signature(Mixup).parameters) - set(signature(TimmKMixup).parameters)))
def test_every_argument_of_timms_own_is_taken_or_answered(name: str) -> None:
    with pytest.raises(TypeError, match=rf"TimmKMixup has no argument {name}\. \w+"):
        TimmKMixup(k=4, **{name: 0.5})


def test_arguments_of_the_same_name_have_timms_defaults() -> None:
    ours, theirs = signature(TimmKMixup).parameters, signature(Mixup).parameters
    shared = set(ours) & set(theirs)
    assert shared == {"label_smoothing", "num_classes", "multi_label"}
    assert {name: ours[name].default for name in shared} == {name: theirs[name].default for name in shared}
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        TimmKMixup(k=4, colour=1)


def test_it_prints_as_one_line_that_says_what_it_does() -> None:
    mixup_fn = TimmKMixup(4, 0.5, num_classes=10, p=0.8)
    mixup_fn.mixup_enabled = False
    shown = str(mixup_fn)
    for part in ("TimmKMixup(k=4, alpha=0.5", "num_classes=10", "p=0.8", "label_smoothing=0.1", "mixup_enabled=False)"):
        assert part in shown
    assert "\n" not in shown


@pytest.mark.parametrize("loss_fn", [SoftTargetCrossEntropy(), BinaryCrossEntropy()], ids=lambda f: type(f).__name__)
def test_a_timm_training_learns_and_stops_mixing_when_told(loss_fn: Any) -> None:
    x, y = batch(35)
    model = small_model()
    mixup_fn = TimmKMixup(4, 1.0, num_classes=4, generator=torch.Generator().manual_seed(0))
    optimizer = create_optimizer_v2(model, opt="adamw", lr=3e-3)
    for epoch in range(40):
        mixup_fn.mixup_enabled = epoch < 30
        inputs, target = mixup_fn(x, y)
        loss = loss_fn(model(inputs), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        assert (model(x).argmax(1) == y).double().mean() > 0.9


def test_at_alpha_zero_the_loss_is_timms_label_smoothing_loss() -> None:
    x, y = batch()
    model = small_model().eval()
    inputs, target = TimmKMixup(4, 0.0, num_classes=4, label_smoothing=0.1)(x, y)
    expected = LabelSmoothingCrossEntropy(0.1)(model(x), y)
    torch.testing.assert_close(SoftTargetCrossEntropy()(model(inputs), target), expected)


def test_labels_and_a_mask_decide_whom_images_are_mixed_with() -> None:
    x, y = batch()
    where = torch.arange(32) % 4 > 0
    mixup_fn = TimmKMixup(2, 1.0, num_classes=4, label_smoothing=0.0, within="label")
    mixed, soft = mixup_fn(x, y, where=where)
    torch.testing.assert_close(soft, one_hot(y, 4))
    assert torch.equal(mixed[~where], x[~where])
    assert not torch.equal(mixed[where], x[where])
