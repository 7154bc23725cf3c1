"""CutMix of matched pairs: its definition, written again, and that everything else is the plan's."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision import tv_tensors

from kmixup import CutPlan, KMixup, MixPlan, cut

SIZE = (9, 12)


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(batch: int = 12, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(batch, 3, *SIZE, generator=stream(seed), dtype=dtype)


def cutmix_of_the_paper(x, partner, lam, centre):
    """Yun et al. (2019), Algorithm 1, and the released rand_bbox: one sample at a time, one pixel at a time."""
    mixed, corrected = x.clone(), []
    height, width = x.shape[-2:]
    for i in range(len(x)):
        share = float(lam if lam.ndim == 0 else lam[i])
        cy, cx = (centre if centre.ndim == 1 else centre[i]).tolist()
        cut_h, cut_w = int(height * np.sqrt(1 - share)), int(width * np.sqrt(1 - share))
        pasted = 0
        for row in range(height):
            for column in range(width):
                if cy - cut_h // 2 <= row < cy + cut_h // 2 and cx - cut_w // 2 <= column < cx + cut_w // 2:
                    mixed[i, :, row, column] = x[partner[i], :, row, column]
                    pasted += 1
        corrected.append(1 - pasted / (height * width))
    return mixed, torch.tensor(corrected, dtype=torch.float64)


@pytest.mark.parametrize("lam_per", ["batch", "block", "sample"])
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("seed", range(5))
def test_a_cut_plan_is_cutmix_of_the_plans_pairs(lam_per, k, seed):
    x = images(seed=seed)
    plan = KMixup(k, 1.0, lam_per=lam_per, generator=stream(seed)).plan(x)
    made = cut(plan, SIZE, generator=stream(seed + 1))
    uniform = torch.rand(*plan.lam.shape, 2, generator=stream(seed + 1))
    centre = (uniform * torch.tensor(SIZE)).long()
    mixed, lam = cutmix_of_the_paper(x, plan.partner, plan.lam, centre)
    torch.testing.assert_close(made.mix(x), mixed, rtol=0, atol=0)
    torch.testing.assert_close(made.lam.expand(12), lam, rtol=0, atol=1e-15)
    assert torch.equal(made.partner, plan.partner)
    assert made.lam.shape == plan.lam.shape


def test_targets_losses_and_accuracy_use_the_corrected_lam():
    x, y = images(), torch.arange(12) % 3
    plan = KMixup(4, 1.0, lam_per="sample", generator=stream()).plan(x)
    made = cut(plan, SIZE, generator=stream(1))
    assert not torch.equal(made.lam, plan.lam)
    by_hand = MixPlan(plan.partner, made.lam, plan.unmatched)
    one_hot, logits = F.one_hot(y, 3).double(), torch.randn(12, 3, dtype=torch.float64)
    torch.testing.assert_close(made.mix(one_hot), by_hand.mix(one_hot))
    torch.testing.assert_close(made.accuracy(logits, y), by_hand.accuracy(logits, y))
    loss = made.loss(lambda o, t: F.cross_entropy(o, t, reduction="none"), logits, y)
    torch.testing.assert_close(loss, F.cross_entropy(logits, made.mix(one_hot)))


def test_the_centre_is_uniform_over_the_pixels_and_boxes_stay_inside():
    lam = torch.full((20000,), 0.5, dtype=torch.float64)
    itself = torch.arange(20000)
    boxes = cut(MixPlan(itself, lam, itself), SIZE, generator=stream()).boxes
    assert (boxes >= 0).all()
    assert (boxes[:, 2] <= SIZE[0]).all()
    assert (boxes[:, 3] <= SIZE[1]).all()
    # int(9 sqrt(1/2)) // 2 = 3: centres 0 .. 3 have their top at the border, 4 .. 8 at centre - 3
    counts = torch.bincount(boxes[:, 0], minlength=6)
    assert counts[0] == pytest.approx(20000 * 4 / 9, abs=5 * (20000 * 20 / 81) ** 0.5)
    assert counts[1:6].tolist() == pytest.approx([20000 / 9] * 5, abs=5 * (20000 * 8 / 81) ** 0.5)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_what_is_not_cut_keeps_every_bit_and_shows_nothing_of_its_partner(alpha):
    """A box without area: lam is 1, for the labels too, and NaN of a partner stays where it is."""
    x = images()
    mixer = KMixup(2, alpha, p=0.0 if alpha else 1.0, lam_per="sample", generator=stream())
    made = cut(mixer.plan(x), SIZE)
    spoiled = torch.full_like(x, torch.nan)
    spoiled[::2] = x[::2]
    assert (made.lam == 1).all()
    assert torch.equal(made.mix(spoiled)[::2], x[::2])


def test_gradients_reach_own_and_pasted_pixels_once():
    x = images(4).requires_grad_()
    plan = MixPlan(torch.tensor([1, 0, 3, 2]), torch.tensor(0.5, dtype=torch.float64), torch.arange(4))
    made = cut(plan, SIZE, generator=stream())
    made.mix(x).sum().backward()
    assert 0 < float(made.lam) < 1
    assert torch.equal(x.grad, torch.ones_like(x))  # what is pasted into one is covered in it by the other


def test_a_part_of_a_cut_plan_gives_the_same_rows():
    for lam_per in ("batch", "sample"):
        x = images()
        made = cut(KMixup(4, 1.0, lam_per=lam_per, generator=stream()).plan(x), SIZE, generator=stream())
        parts = made.split(5)
        assert all(isinstance(part, CutPlan) for part in parts)
        torch.testing.assert_close(torch.cat([part.mix(x) for part in parts]), made.mix(x), rtol=0, atol=0)
        assert torch.equal(made.to("cpu").mix(x), made.mix(x))
        assert repr(made).startswith("CutPlan(12 samples")


def test_pixels_of_any_kind_are_pasted_and_keep_their_kind():
    made = cut(KMixup(4, 1.0, lam_per="sample", generator=stream()).plan(images()), SIZE, generator=stream())
    pixels = (images() * 255).to(torch.uint8)
    assert made.mix(pixels).dtype == torch.uint8
    assert torch.equal(made.mix(pixels[:, 0]), made.mix(pixels)[:, 0])  # maps of classes [B, H, W]
    assert np.array_equal(made.mix(pixels.numpy()), made.mix(pixels).numpy())
    tv = made.mix(tv_tensors.Image(pixels))
    assert isinstance(tv, tv_tensors.Image)
    assert torch.equal(tv.as_subclass(torch.Tensor), made.mix(pixels))
    video = images(24).view(12, 2, 3, *SIZE)
    assert torch.equal(made.mix(video)[:, 1], made.mix(video[:, 1]))
    last = images().to(memory_format=torch.channels_last)
    assert made.mix(last).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(made.mix(last), made.mix(images()))


def test_partners_from_a_second_batch_are_pasted():
    x, x2 = images(), images(seed=5)
    plan = KMixup(4, 1.0, generator=stream()).plan(x, x2)
    made = cut(plan, SIZE, generator=stream())
    inside = made.pasted()
    assert torch.equal(made.mix(x, x2)[:, :, inside], x2[plan.partner][:, :, inside])
    assert torch.equal(made.mix(x, x2)[:, :, ~inside], x[:, :, ~inside])


def test_an_image_one_pixel_high_has_no_half_to_paste():
    x = images()[:, :, :1]
    plan = cut(KMixup(4, 1.0, generator=stream()).plan(x), x.shape[-2:], generator=stream())
    assert plan.lam == 1
    assert torch.equal(plan.mix(x), x)


def test_what_has_no_boxes_height_and_width_is_refused():
    made = cut(KMixup(4, 1.0, generator=stream()).plan(images()), SIZE)
    what = r"the boxes are for images \[..., 9, 12\], got \[12, 3, 8, 8\]"
    remedy = r"Cut with the size of the images, cut\(plan, x.shape\[-2:\]\); targets are \[B\] or \[B, C\]"
    with pytest.raises(ValueError, match=rf"{what}. {remedy}.$"):
        made.mix(torch.rand(12, 3, 8, 8))
    with pytest.raises(ValueError, match=f"{what} at 'image'. Cut"):
        made.mix({"image": torch.rand(12, 3, 8, 8)})
    with pytest.raises(ValueError, match="size must be the height and width"):
        cut(made, (3, 9, 12))
    with pytest.raises(TypeError, match="only floating-point"):
        made.mix(torch.arange(12))


def test_ranks_draw_centres_of_their_own(monkeypatch):
    plan = KMixup(4, 1.0, lam_per="sample", generator=stream()).plan(images())
    monkeypatch.setenv("WORLD_SIZE", "2")
    boxes = {}
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        boxes[rank] = [cut(plan, SIZE, generator=stream(), per_process=apart).boxes for apart in (True, False)]
    assert not torch.equal(boxes["0"][0], boxes["1"][0])
    assert torch.equal(boxes["0"][1], boxes["1"][1])
