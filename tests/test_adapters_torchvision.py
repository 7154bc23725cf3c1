"""`KMixup` among torchvision's v2 transforms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.transforms import v2

from kmixup import KMixup

BRIGHT = 10.0


class Samples(Dataset[Any]):
    def __init__(self, as_dict: bool) -> None:
        self.as_dict = as_dict

    def __len__(self) -> int:
        return 40

    def __getitem__(self, i: int) -> Any:
        x, y = torch.full((3, 8, 8), BRIGHT * (i % 4)), i % 4
        return {"image": x, "digit": y, "path": f"{i}.png"} if self.as_dict else (x, y)


def test_random_choice_gives_cutmix_or_k_mixup_and_both_come_up() -> None:
    torch.manual_seed(0)
    choice = v2.RandomChoice([v2.CutMix(num_classes=4), KMixup(4, float("inf"), num_classes=4)])
    x, y = default_collate([Samples(False)[i] for i in range(16)])
    kinds = set()
    for _ in range(20):
        mixed, soft = choice(x, y)
        assert (mixed.shape, soft.shape) == (x.shape, (16, 4))
        torch.testing.assert_close(soft.sum(1), torch.ones(16))
        kinds.add("interpolated" if (mixed % BRIGHT > 0).any() or (soft == 0.5).any() else "pasted")
    assert kinds == {"interpolated", "pasted"}


@pytest.mark.parametrize("workers", [0, 2])
def test_as_collate_function_it_mixes_batches_and_the_labels_with_them(workers: int) -> None:
    mix = KMixup(4, 1.0, num_classes=4)
    loader = DataLoader(
        Samples(False), batch_size=16, num_workers=workers, collate_fn=v2.Compose([default_collate, mix])
    )
    sizes = []
    for x, soft in loader:
        sizes.append(len(x))
        # every sample's brightness is its class, so that the mixed image and the mixed label must tell the same story
        torch.testing.assert_close(x[:, 0, 0, 0], BRIGHT * (soft @ torch.arange(4.0)), rtol=1e-4, atol=1e-4)
    assert sizes == [16, 16, 8]


@pytest.mark.parametrize("getter", [lambda sample: sample["digit"], lambda sample: "digit"], ids=["labels", "key"])
def test_dict_samples_go_through_a_labels_getter_as_in_v2(getter: Any) -> None:
    batch = default_collate([Samples(True)[i] for i in range(16)])
    theirs = v2.MixUp(num_classes=4, labels_getter=lambda sample: sample["digit"])(batch)
    ours = KMixup(4, 1.0, num_classes=4, labels_getter=getter)(batch)
    assert ours.keys() == theirs.keys()
    assert ours["path"] == theirs["path"]
    assert (ours["image"].shape, ours["digit"].shape) == (theirs["image"].shape, theirs["digit"].shape)
    torch.testing.assert_close(ours["image"][:, 0, 0, 0], BRIGHT * (ours["digit"] @ torch.arange(4.0)))


def test_at_alpha_zero_images_come_back_unchanged() -> None:
    x, y = default_collate([Samples(False)[i] for i in range(16)])
    mixed, soft = v2.Compose([KMixup(4, 0.0, num_classes=4)])(x, y)
    assert torch.equal(mixed, x)
    assert torch.equal(soft.argmax(1), y)
