"""Structured batches: what is mixed, what follows the partner, what is kept, and what is refused with the remedy."""

import collections
import copy
import dataclasses
import re
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision import tv_tensors

from kmixup import KMixup

Pair = collections.namedtuple("Pair", "image label")


@dataclasses.dataclass(frozen=True)
class Record:
    image: torch.Tensor
    label: torch.Tensor
    path: list[str]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=generator(seed))


Y = torch.arange(16) % 3


def mixer(**options) -> KMixup:
    return KMixup(**{"k": 4, "alpha": 1.0, "num_classes": 3, "generator": generator(), **options})


def plan_of(points: torch.Tensor, **options):
    return mixer(**options).plan(points)


# --- structure --------------------------------------------------------------------------------------------------------


def test_nested_inputs_are_mixed_with_their_labels():
    views = {"rgb": rand(16, 3, 8, 8), "thermal": rand(16, 1, 8, 8, seed=1)}
    batch = {"views": views, "age": rand(16), "label": Y}
    out = mixer(features=lambda sample: sample["views"]["rgb"])(batch)
    plan = plan_of(views["rgb"])
    torch.testing.assert_close(out["views"], plan.mix(views))
    torch.testing.assert_close(out["age"], plan.mix(batch["age"]))
    torch.testing.assert_close(out["label"], plan.mix(F.one_hot(Y, 3).float()))
    with pytest.raises(ValueError, match=r"one floating-point tensor to match on, got 3 .*views\.rgb"):
        mixer()(batch)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda image, label: Pair(image, label),
        lambda image, label: collections.OrderedDict(image=image, label=label),
        lambda image, label: collections.UserDict(image=image, label=label),
        lambda image, label: types.MappingProxyType({"image": image, "label": label}),
        lambda image, label: Record(image, label, ["a.png"] * 16),
    ],
    ids=["namedtuple", "OrderedDict", "UserDict", "MappingProxyType", "dataclass"],
)
def test_a_batch_with_names_keeps_its_type(wrap):
    x = rand(16, 3)
    batch = wrap(x, Y)
    out = mixer()(batch)
    assert type(out) is type(batch)
    expected = mixer()(x, Y)
    fields = out if hasattr(out, "keys") else {name: getattr(out, name) for name in ("image", "label")}
    torch.testing.assert_close(fields["image"], expected[0])
    torch.testing.assert_close(fields["label"], expected[1])
    torch.testing.assert_close(x, rand(16, 3), rtol=0, atol=0)


def test_labels_are_found_below_the_top_and_by_any_getter():
    x = rand(16, 3)
    expected = mixer()(x, Y)[1]
    nested = {"inputs": {"image": x}, "targets": {"label": Y}}
    torch.testing.assert_close(mixer()(nested)["targets"]["label"], expected)
    deep = {"image": x, "meta": {"digit": Y}}
    for getter in (lambda s: s["meta"]["digit"], lambda s: "digit", lambda s: "meta.digit"):
        torch.testing.assert_close(mixer(labels_getter=getter)(deep)["meta"]["digit"], expected)


def test_what_is_no_array_stays_the_samples_own():
    batch = {"image": rand(16, 3), "label": Y, "path": [f"{i}.png" for i in range(16)], "epoch": torch.tensor(3)}
    batch |= {"names": np.array(["a"] * 16), "note": None, "rate": 0.5, "index": torch.arange(16)}
    out = mixer()(batch)
    for name in batch.keys() - {"image", "label"}:
        assert out[name] is batch[name], name


def test_in_eval_mode_and_at_alpha_zero_nothing_else_is_touched_or_refused():
    batch = {"image": torch.zeros(16, 3, 4, 4, dtype=torch.uint8), "mask": torch.zeros(16, 4, 4).long(), "label": Y}
    batch["boxes"] = tv_tensors.BoundingBoxes(torch.zeros(16, 4), format="XYXY", canvas_size=(4, 4))

    def never(sample):
        raise AssertionError("features are not needed")

    for off in (mixer(features=never).eval(), mixer(features=never, alpha=0.0), mixer(leaves={"absent": "own"}).eval()):
        state = off.generator.get_state()
        out = off(batch)
        assert all(out[name] is batch[name] for name in ("image", "mask", "boxes"))
        torch.testing.assert_close(out["label"], F.one_hot(Y, 3).float())
        assert torch.equal(off.generator.get_state(), state)


# --- rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float32, torch.uint8])
def test_attention_masks_are_united_and_lengths_take_the_maximum(dtype):
    lengths = torch.randint(1, 11, (16,), generator=generator())
    mask = torch.arange(10) < lengths[:, None]
    batch = {"input_values": rand(16, 10) * mask, "attention_mask": mask.to(dtype), "lengths": lengths, "labels": Y}
    out = mixer(alpha=float("inf"))(batch)
    plan = plan_of(batch["input_values"], alpha=float("inf"))
    assert out["attention_mask"].dtype == dtype
    assert torch.equal(out["attention_mask"].bool(), mask | mask[plan.partner])
    assert torch.equal(out["lengths"], torch.maximum(lengths, lengths[plan.partner]))
    assert torch.equal(out["input_values"] > 0, out["attention_mask"].bool())


def test_a_partner_of_weight_zero_adds_nothing_to_a_mask():
    mask = torch.arange(10) < torch.arange(1, 17)[:, None]
    batch = {"input_values": rand(16, 10), "attention_mask": mask, "labels": Y}
    m = mixer(p=0.5, lam_per="sample")
    out = m(batch)["attention_mask"]
    plan = plan_of(batch["input_values"], p=0.5, lam_per="sample")
    alone = (plan.lam == 1)[:, None]
    assert 0 < int(alone.sum()) < 16
    assert torch.equal(out, torch.where(alone, mask, mask | mask[plan.partner]))


def test_leaves_say_what_a_leaf_is_by_name_or_path_or_for_all_below():
    x, mask = rand(16, 3), torch.arange(5) < torch.arange(1, 17)[:, None]
    batch = {"image": x, "pad": mask, "more": {"pad": mask, "boxes": [rand(2, 4), rand(3, 4)]}, "n": Y, "label": Y}
    rules = {"more.pad": "intersection", "pad": "union", "boxes": "drop", "n": "max"}
    out = mixer(leaves=rules)(batch)
    partner = plan_of(x).partner
    assert torch.equal(out["pad"], mask | mask[partner])
    assert torch.equal(out["more"]["pad"], mask & mask[partner])
    assert torch.equal(out["n"], torch.maximum(Y, Y[partner]))
    assert out["more"].keys() == {"pad"}
    own = mixer(leaves={"pad": "own", "more": "own"})(batch)
    assert own["more"]["boxes"][1] is batch["more"]["boxes"][1]
    assert torch.equal(own["pad"], mask)


@pytest.mark.parametrize("make", [torch.Tensor.float, torch.Tensor.half, lambda x: x.float().numpy()])
def test_lengths_in_floating_point_take_the_maximum_too(make):
    wave, lengths = rand(16, 10), torch.arange(16) % 5
    out = mixer()({"wave": wave, "audio_lengths": make(lengths), "label": Y})["audio_lengths"]
    expected = torch.maximum(lengths, lengths[plan_of(wave).partner])
    assert out.dtype == make(lengths).dtype
    assert torch.as_tensor(out).tolist() == expected.tolist()


@pytest.mark.parametrize("turn", [1, -1])
def test_of_several_rules_the_nearest_counts_and_of_these_the_longest(turn):
    x, mask = rand(16, 3), torch.arange(5) < torch.arange(1, 17)[:, None]
    inner = {"mask": mask, "boxes": [rand(2, 4), rand(3, 4)]}
    batch = {"image": x, "mask": mask, "a": {**inner, "deep": {"mask": mask}}, "b": dict(inner), "label": Y}
    rules = {"mask": "union", "a.mask": "own", "a": "drop", "b": "own", "b.mask": "intersection"}
    out = mixer(leaves=dict(list(rules.items())[::turn]))(batch)
    partner = plan_of(x).partner
    assert torch.equal(out["mask"], mask | mask[partner])
    assert torch.equal(out["a"]["mask"], mask)
    assert torch.equal(out["a"]["deep"]["mask"], mask | mask[partner])
    assert torch.equal(out["b"]["mask"], mask & mask[partner])
    assert torch.equal(out["b"]["boxes"][0], inner["boxes"][0])
    (only,) = (mixer(leaves={"mask": "union", "a.mask": "own"})({"image": x, "a": {"mask": mask}, "label": Y}),)
    assert torch.equal(only["a"]["mask"], mask)


def test_a_dropped_field_of_a_namedtuple_is_none():
    named = collections.namedtuple("named", "image boxes label")
    out = mixer(leaves={"boxes": "drop"})(named(rand(16, 3), rand(16, 4), Y))
    assert type(out) is named
    assert out.boxes is None


def test_complex_spectrograms_are_mixed_as_their_waves_are():
    window = torch.hann_window(128)
    wave = torch.randn(8, 1024, generator=generator())

    def stft(x):
        return torch.stft(x, 128, return_complex=True, window=window)

    y = torch.arange(8) % 3
    spec = stft(wave)
    mixed, _ = mixer(k=2)(spec, y)
    plan = mixer(k=2).plan(spec)
    torch.testing.assert_close(mixed, stft(plan.mix(wave)), rtol=0, atol=1e-4)
    torch.testing.assert_close(mixer(k=2)({"spec": spec, "label": y})["spec"], mixed)
    torch.testing.assert_close(torch.from_numpy(mixer(k=2)(spec.numpy(), y.numpy())[0]), mixed)
    on_real = mixer(k=2).plan(torch.view_as_real(spec))
    assert torch.equal(plan.partner, on_real.partner)


def test_images_and_videos_of_torchvision_keep_their_type():
    for kind in (tv_tensors.Image, tv_tensors.Video):
        x = rand(16, 3, 4, 4)
        mixed, _ = mixer()(kind(x), Y)
        assert type(mixed) is kind
        torch.testing.assert_close(mixed.as_subclass(torch.Tensor), mixer()(x, Y)[0])
        sample = mixer()({"seen": kind(x), "label": Y})
        assert type(sample["seen"]) is kind
        torch.testing.assert_close(sample["seen"].as_subclass(torch.Tensor), mixer()(x, Y)[0])


def test_one_number_for_each_sample_is_matched_and_mixed():
    x = rand(16)
    torch.testing.assert_close(mixer()({"dose": x, "label": Y})["dose"], plan_of(x).mix(x))


# --- refusals ---------------------------------------------------------------------------------------------------------

BOXES = tv_tensors.BoundingBoxes(torch.zeros(16, 4), format="XYXY", canvas_size=(4, 4))
IMAGE = rand(16, 3, 4, 4)


@pytest.mark.parametrize(
    ("leaf", "error", "message"),
    [
        (
            {"boxes": BOXES},
            ValueError,
            "'boxes' holds BoundingBoxes.*leaves={'boxes'.*of both, take the .*partner_of.* or use plan.loss.$",
        ),
        ({"seg": tv_tensors.Mask(torch.zeros(16, 4, 4))}, ValueError, "'seg' holds Mask.*plan.loss"),
        ({"boxes": torch.zeros(16, 5, 4)}, ValueError, "'boxes' holds.*cannot be averaged"),
        ({"mask": torch.zeros(16, 4, 4)}, ValueError, "'mask' holds torch.float32.*masks.*plan.loss"),
        ({"mask": torch.zeros(16, 4, 4).long()}, ValueError, "'mask' holds torch.int64.*plan.loss"),
        ({"map": torch.zeros(16, 4, 4).long()}, TypeError, "'map' holds torch.int64.*maps of classes.*leaves={'map'"),
        ({"cat": torch.zeros(16, 2).long()}, TypeError, "'cat' holds.*category columns.*KManifoldMixup"),
        ({"input_ids": torch.zeros(16, 9).long()}, TypeError, "'input_ids' holds.*token ids"),
        ({"other": IMAGE.byte()}, TypeError, "'other' holds torch.uint8.*to float.*leaves={'other'"),
        ({"other": IMAGE.byte().numpy()}, TypeError, "'other' holds uint8.*to float"),
        ({"padding_mask": torch.zeros(16, 4).bool()}, ValueError, "'padding_mask' holds torch.bool"),
        ({"deep": {"mask": torch.zeros(16, 2).bool()}}, ValueError, "'deep.mask' holds"),
        ({"short": torch.zeros(7, 2)}, ValueError, r"batch length 16 first, got shape \[7, 2\] at 'short'"),
        ({"sparse": torch.eye(16).to_sparse()}, TypeError, "sparse must be a dense tensor.*to_dense"),
    ],
)
def test_what_is_in_doubt_is_refused_and_the_message_shows_the_argument(leaf, error, message):
    with pytest.raises(error, match=message):
        mixer(features=lambda sample: sample["image"])({"image": IMAGE, "label": Y, **leaf})


def on_image(more=(), **options):
    return mixer(features=lambda sample: sample["image"], **options)({"image": IMAGE, "label": Y, **dict(more)})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mixer(leaves={"mask": "average"}), ValueError, r"leaves\['mask'\] must be one of mix, union"),
        (lambda: mixer(leaves=["mask"]), TypeError, "leaves must map names to rules"),
        (lambda: on_image(leaves={"typo": "own"}), ValueError, r"leaves names \['typo'\]"),
        (lambda: on_image(leaves={"image": "own"}), TypeError, "no input is mixed"),
        (lambda: on_image({"ids": Y}, leaves={"ids": "mix"}), TypeError, "only floating-point or complex.*int64"),
        (lambda: on_image({"boxes": BOXES}, leaves={"boxes": "mix"}), TypeError, "BoundingBoxes"),
        (lambda: on_image({"meta": {"label": Y}}), ValueError, r"found .*meta\.label.*labels_getter"),
        (lambda: mixer()(torch.randn(50, 16, 4), Y), ValueError, r"got 50 and 16\. The batch comes first"),
        (
            lambda: mixer()([IMAGE, IMAGE], Y),
            TypeError,
            "if their sizes differ. Several inputs go in a tuple or a dict.$",
        ),
        (lambda: mixer()(torch.eye(16).to_sparse(), Y), TypeError, r"x must be a dense tensor.*sparse_coo.*to_dense"),
        (lambda: mixer()(np.ma.masked_equal(np.eye(16), 1), Y.numpy()), ValueError, r"16 masked values.*Fill"),
        (lambda: mixer()(np.eye(16), np.ma.masked_equal(Y.numpy(), 1)), ValueError, "masked values"),
    ],
)
def test_what_cannot_be_right_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: mixer()({"a": IMAGE, "b": rand(16), "label": Y}),
            ValueError,
            "x must hold one floating-point tensor to match on, got 2 (a torch.float32 [16, 3, 4, 4], b torch.float32 "
            "[16]). Choose with KMixup(features=lambda x: ...).",
        ),
        (
            lambda: mixer()({"photo": IMAGE.byte(), "label": Y}),
            TypeError,
            "'photo' holds torch.uint8 [16, 3, 4, 4]: 8-bit images are not mixed. Convert images to float first, in "
            "[0, 1]. Say what becomes of it: KMixup(..., leaves={'photo': ...}), one of mix, union, intersection, max, "
            "own, drop.",
        ),
        (
            lambda: mixer()({"ids": torch.zeros(16, 9).long(), "label": Y}),
            TypeError,
            "'ids' holds torch.int64 [16, 9]: maps of classes, category columns and token ids cannot be averaged. Say "
            "what becomes of it: KMixup(..., leaves={'ids': ...}), one of mix, union, intersection, max, own, drop. "
            "plan.loss takes maps of classes as labels; ids can be mixed after their embedding (KManifoldMixup).",
        ),
        (
            lambda: on_image(leaves={"image": "own"}),
            TypeError,
            "no input is mixed of ['image', 'label'], so that labels must not be either. Give floating-point inputs: "
            "images in [0, 1], embeddings instead of ids.",
        ),
        (
            lambda: mixer()({"image": IMAGE, "class": Y}),
            ValueError,
            "the labels must be one of the keys ['image', 'class'], found []. "
            'Use KMixup(labels_getter=lambda sample: sample["..."]).',
        ),
    ],
)
def test_a_refusal_says_what_came_and_what_to_do(call, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()


def test_nested_tensors_are_refused_with_padding_as_the_remedy():
    ragged = torch.nested.nested_tensor([torch.randn(i + 1, 3) for i in range(16)], layout=torch.jagged)
    with pytest.raises(TypeError, match="Pad it"):
        mixer()(ragged, Y)


def test_big_endian_and_unmasked_arrays_are_mixed():
    x = rand(16, 3).numpy()
    expected = mixer()(x, Y.numpy())
    for same in (x.astype(">f4"), np.ma.masked_equal(x, -9999.0)):
        mixed, soft = mixer()(same, Y.numpy().astype(">i8"))
        np.testing.assert_array_equal(mixed, expected[0])
        np.testing.assert_array_equal(soft, expected[1])


def test_fields_of_packed_records_are_mixed():
    records = np.zeros(16, dtype=[("id", "u1"), ("x", "f4", (3,)), ("z", "c8")])  # a row of 21 bytes
    records["x"], records["z"] = rand(16, 3), rand(16, seed=1)
    for name in ("x", "z"):
        mixed, expected = (mixer()(x, Y.numpy())[0] for x in (records[name], records[name].copy()))
        np.testing.assert_array_equal(mixed, expected)


@pytest.mark.parametrize("method", [False, True])
def test_a_feature_network_in_train_mode_moves_no_statistics_and_drops_nothing_out(method):
    body = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(3))
    body[2].eval()
    modes = [part.training for part in body.modules()]
    x = rand(16, 3) + 5
    mixer = KMixup(4, 1.0, features=body.forward if method else body, generator=generator())
    state = torch.get_rng_state()
    plan = mixer.plan(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert [part.training for part in body.modules()] == modes
    assert body[0].num_batches_tracked == 0
    expected = KMixup(4, 1.0, generator=generator()).plan(copy.deepcopy(body).eval()(x))
    assert torch.equal(plan.partner, expected.partner)


def test_the_mode_of_a_feature_network_is_put_back_when_it_raises():
    body = torch.nn.Linear(7, 2)
    with pytest.raises(RuntimeError):
        KMixup(4, 1.0, features=body).plan(rand(16, 3))
    assert body.training
