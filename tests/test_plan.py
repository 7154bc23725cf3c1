"""Applying a plan: the formula, the structures it takes, the losses, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kmixup import KMixup, MixPlan, assign, cost_matrix, transport_cost


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def labels(batch: int, classes: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(classes, (batch,), generator=torch.Generator().manual_seed(seed))


def drawn(batch: int = 12, k: int = 4, lam_per: str = "batch", seed: int = 0, dtype=torch.float64) -> MixPlan:
    mixer = KMixup(k, 1.0, lam_per=lam_per, generator=torch.Generator().manual_seed(seed))
    return mixer.plan(rand(batch, 3, dtype=dtype))


def column(plan: MixPlan, ndim: int = 2) -> torch.Tensor:
    return plan.lam.view(-1, *[1] * (ndim - 1)) if plan.lam.ndim else plan.lam


@pytest.mark.parametrize("lam_per", ["batch", "block", "sample"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-15), (torch.float32, 1e-6)])
def test_mixing_is_torchvisions_formula(lam_per, dtype, tolerance):
    plan = drawn(lam_per=lam_per, dtype=dtype)
    x = torch.rand(12, 3, 4, 4, dtype=dtype, generator=torch.Generator().manual_seed(1))
    lam = column(plan, 4).to(dtype)
    by_hand = x[plan.partner].mul(1.0 - lam).add_(x.mul(lam))  # torchvision.transforms.v2.MixUp
    torch.testing.assert_close(plan.mix(x), by_hand, rtol=0, atol=tolerance)


def test_a_plan_on_a_second_batch_takes_the_partner_from_there():
    x, x2 = rand(8, 3), rand(8, 3, seed=1)
    plan = KMixup(4, 1.0, generator=torch.Generator().manual_seed(0)).plan(x, x2)
    torch.testing.assert_close(plan.mix(x, x2), plan.lam * x + (1 - plan.lam) * x2[plan.partner])
    assert plan.from_second


def test_mixing_moves_nothing_in_place_and_keeps_dtypes():
    plan = drawn()
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = rand(12, 3, dtype=torch.float64).to(dtype)
        before = x.clone()
        assert plan.mix(x).dtype == dtype
        torch.testing.assert_close(x, before, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_mixed_in_float32_and_rounded_once(dtype):
    plan = drawn(dtype=torch.float32)
    x = rand(12, 50).to(dtype)
    exact = (plan.lam * x.float() + (1 - plan.lam) * x.float()[plan.partner]).to(dtype)
    torch.testing.assert_close(plan.mix(x), exact, rtol=torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("lam_per", ["batch", "block", "sample"])
def test_the_gradient_flows_through_x_with_its_weights(lam_per):
    plan = drawn(lam_per=lam_per)
    x = rand(12, 3).requires_grad_()
    plan.mix(x).sum().backward()
    lam = plan.lam.expand(12)
    expected = lam.clone().index_add_(0, plan.partner, 1 - lam)  # own weight, plus what partners take
    torch.testing.assert_close(x.grad, expected.unsqueeze(1).expand(12, 3))
    assert torch.autograd.gradcheck(plan.mix, rand(12, 3, seed=3).requires_grad_())


def test_mixing_keeps_the_batch_mean_when_every_sample_is_a_partner_once():
    plan, x = drawn(batch=30, k=4), rand(30, 5)
    torch.testing.assert_close(plan.mix(x).mean(0), x.mean(0))


def test_wasserstein_distance_is_linear_along_the_displacement():
    # Displacement interpolation is a geodesic of W2: at lam it lies (1 - lam) of the way.
    x, x2 = rand(32, 3), rand(32, 3, seed=1)
    plan = KMixup(32, 1.0).plan(x, x2)

    def w2(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        cost = cost_matrix(a, b)
        return transport_cost(cost, assign(cost)).sqrt()

    for lam in (0.0, 0.25, 0.7, 1.0):
        at_lam = replace(plan, lam=torch.tensor(lam, dtype=torch.float64))
        torch.testing.assert_close(w2(x, at_lam.mix(x, x2)), (1 - lam) * w2(x, x2))


def test_pytrees_numpy_and_tensors_mix_alike():
    plan, x = drawn(), rand(12, 3)
    expected = plan.mix(x)
    tree = plan.mix({"a": x, "b": [x, (x.numpy(),)]})
    torch.testing.assert_close(tree["a"], expected)
    torch.testing.assert_close(tree["b"][0], expected)
    assert isinstance(tree["b"][1][0], np.ndarray)
    np.testing.assert_array_equal(tree["b"][1][0], expected.numpy())
    np.testing.assert_array_equal(plan.partner_of(x.numpy()), x[plan.partner].numpy())


# --- losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam_per", ["batch", "block", "sample"])
def test_two_target_cross_entropy_equals_soft_target_cross_entropy(lam_per):
    plan = drawn(lam_per=lam_per, dtype=torch.float32)
    logits, y = rand(12, 5, dtype=torch.float32), labels(12, 5)
    soft = F.cross_entropy(logits, plan.mix(F.one_hot(y, 5).float()))

    def loss_fn(z, t):
        return F.cross_entropy(z, t, reduction="none" if lam_per != "batch" else "mean")

    torch.testing.assert_close(plan.loss(loss_fn, logits, y), soft, rtol=0, atol=1e-6)


def test_per_pixel_losses_are_weighted_per_sample_and_averaged():
    plan = drawn(lam_per="sample")
    logits, masks = rand(12, 3, 4, 4), labels(12 * 16, 3).view(12, 4, 4)

    def pixel_loss(z, t):
        return F.cross_entropy(z, t, reduction="none")

    by_hand = torch.stack(
        [
            plan.lam[i] * pixel_loss(logits[i : i + 1], masks[i : i + 1]).mean()
            + (1 - plan.lam[i]) * pixel_loss(logits[i : i + 1], masks[plan.partner[i]][None]).mean()
            for i in range(12)
        ]
    ).mean()
    torch.testing.assert_close(plan.loss(pixel_loss, logits, masks), by_hand)


@pytest.mark.parametrize("lam_per", ["batch", "block", "sample"])
def test_positions_without_a_label_are_left_out_of_the_mean(lam_per):
    plan = drawn(lam_per=lam_per)
    logits, y = rand(12, 3, 5), labels(60, 3).view(12, 5)
    y[::3, 1:] = -100
    lam, j = column(plan), plan.partner

    def pixel_loss(z, t):
        return F.cross_entropy(z, t, reduction="none")

    total = (lam * pixel_loss(logits, y) + (1 - lam) * pixel_loss(logits, y[j])).sum()
    count = (lam * (y >= 0) + (1 - lam) * (y[j] >= 0)).sum()
    torch.testing.assert_close(plan.loss(pixel_loss, logits, y), total / count)
    everywhere = plan.loss(pixel_loss, logits, y, ignore_index=None)
    torch.testing.assert_close(everywhere, total / 60)


@pytest.mark.parametrize("lam_per", ["batch", "sample"])
def test_without_mixing_the_loss_is_the_losss_own_mean(lam_per):
    plan = MixPlan.identity(12, per_sample=lam_per == "sample")
    logits, y = rand(12, 3), labels(12, 3)
    y[4:] = -100
    reduction = "none" if lam_per == "sample" else "mean"
    found = plan.loss(lambda z, t: F.cross_entropy(z, t, reduction=reduction), logits, y)
    torch.testing.assert_close(found, F.cross_entropy(logits, y))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("lam_per", ["batch", "sample"])
def test_losses_in_half_precision_are_averaged_in_float32(dtype, lam_per):
    plan = drawn(batch=64, lam_per=lam_per)
    values = 1000 + rand(64, 1).abs()
    y = torch.arange(64)

    def half_loss(_, t):
        losses = values.squeeze(1)[t].to(dtype)
        return losses if lam_per == "sample" else losses[0]

    rounded = values.squeeze(1).to(dtype).float()
    own, theirs = (rounded, rounded[plan.partner]) if lam_per == "sample" else (rounded[0], rounded[plan.partner[0]])
    found = plan.loss(half_loss, None, y)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, (plan.lam.float() * own + (1 - plan.lam.float()) * theirs).mean())


def test_a_weight_that_half_precision_takes_for_one_leaves_the_partner_its_share():
    plan = MixPlan(torch.tensor([1, 0]), torch.tensor([0.9999, 0.0]), torch.tensor([1, 0]))
    loss = plan.loss(lambda outputs, y: (1000 * y).half(), None, torch.tensor([0, 1]))
    assert float(loss) == pytest.approx(0.05, rel=1e-3)  # 1e-4 of a partner's 1000, and nothing


def test_losses_by_task_come_back_by_task():
    plan = drawn(lam_per="sample")
    y = {"species": labels(12, 3), "sex": labels(12, 2, seed=1)}
    y["sex"][:3] = -100
    out = {"species": rand(12, 3), "sex": rand(12, 2, seed=1)}

    def by_task(o, t):
        return {name: F.cross_entropy(o[name], t[name], reduction="none") for name in o}

    found = plan.loss(by_task, out, y)
    for name in y:
        alone = plan.loss(lambda o, t: F.cross_entropy(o, t, reduction="none"), out[name], y[name])
        torch.testing.assert_close(found[name], alone)
    with pytest.raises(TypeError, match=r"structure of them, got int at '1\.log'"):
        plan.loss(lambda o, t: (by_task(o, t)["sex"], {"log": 1}), out, y)


# --- weights of 0 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam_per", ["batch", "sample"])
@pytest.mark.parametrize("worst", [float("nan"), float("inf"), -float("inf")])
def test_what_has_weight_zero_contributes_nothing(lam_per, worst):
    per_sample = lam_per == "sample"
    # Sample 3 is bad. Its partner is 2; 2 and 1 have it, or itself, at weight 1.
    lam = torch.tensor([0.5, 1.0, 1.0, 0.0]) if per_sample else torch.tensor(1.0)
    plan = MixPlan(torch.tensor([1, 3, 3, 2]), lam.double(), torch.arange(4))
    x = rand(4, 2)
    x[3] = worst
    expected = torch.stack([(x[0] + x[1]) / 2, x[1], x[2], x[2]]) if per_sample else x
    torch.testing.assert_close(plan.mix(x), expected, equal_nan=True)
    torch.testing.assert_close(plan.mix(x.float()), expected.float(), equal_nan=True)
    y = torch.arange(4)
    losses = x[:, 0]

    def loss_fn(_, t):
        return losses[t] if per_sample else losses[t[:3]].mean()

    torch.testing.assert_close(plan.loss(loss_fn, None, y), expected[:, 0][: 4 if per_sample else 3].mean())


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("lam", [1.0, 1 - 1e-12, 0.0, 1e-60])  # 1 and 0 in the float32 of the losses
def test_the_gradient_of_an_infinite_loss_of_weight_zero_is_not_nan(lam, per_sample):
    weights = torch.tensor([lam, lam] if per_sample else lam, dtype=torch.float64)
    plan = MixPlan(torch.tensor([1, 0]), weights, torch.arange(2))
    used = torch.arange(2) if lam > 0.5 else torch.tensor([1, 0])
    scores = F.one_hot(used, 2).float().requires_grad_()

    def loss_fn(p: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        each = -p.gather(1, y[:, None])[:, 0].log()
        return each if per_sample else each.mean()

    loss = plan.loss(loss_fn, scores, torch.tensor([0, 1]))
    loss.backward()
    assert float(loss.detach()) == 0
    torch.testing.assert_close(scores.grad, -F.one_hot(used, 2) / 2.0)


def test_a_label_of_weight_zero_is_not_shown_to_the_loss_whosever_it_is():
    seen = []
    plan = MixPlan(torch.tensor([1, 2, 0]), torch.tensor([0.0, 0.5, 1.0]).double(), torch.arange(3))
    plan.loss(lambda _, y: seen.append(y) or torch.zeros(3), None, torch.arange(3))
    assert [y.tolist() for y in seen] == [[1, 1, 2], [1, 2, 2]]


# --- accuracy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam_per", ["batch", "sample"])
def test_accuracy_of_one_logit_is_the_weighted_share_of_right_signs(lam_per):
    plan = drawn(batch=32, lam_per=lam_per)
    y = labels(32, 2)
    logits = rand(32)
    right = ((logits > 0) == y).float()
    theirs = ((logits > 0) == y[plan.partner]).float()
    expected = (plan.lam.float() * right + (1 - plan.lam.float()) * theirs).mean()
    for shape in ((32,), (32, 1)):
        torch.testing.assert_close(plan.accuracy(logits.view(shape), y.view(shape).float()), expected)
        torch.testing.assert_close(plan.accuracy(logits.view(shape), y), expected)


def test_pixels_without_a_label_do_not_count():
    plan = drawn(lam_per="sample")
    y = torch.zeros(12, 4, 4, dtype=torch.long)
    y[::2, 2:] = 255
    outputs = torch.zeros(12, 2, 4, 4)
    outputs[:, 0] = 9.0
    assert plan.accuracy(outputs, y, ignore_index=255) == 1
    assert plan.accuracy(outputs, y.where(y == 0, -100)) == 1
    assert plan.accuracy(outputs, y) < 1


def test_several_labels_are_counted_each_when_asked():
    plan, many = drawn(), torch.randint(2, (12, 5), generator=torch.Generator().manual_seed(1)).float()
    logits = rand(12, 5)
    hits = [((logits > 0) == y.bool()).double().mean() for y in (many, many[plan.partner])]
    expected = plan.lam * hits[0] + (1 - plan.lam) * hits[1]
    torch.testing.assert_close(plan.accuracy(logits, many, multi_label=True).double(), expected, rtol=1e-5, atol=0)


# --- parts of a plan --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam_per", ["batch", "sample"])
def test_parts_of_a_plan_mix_rows_of_the_whole_batch(lam_per):
    plan, x, y = drawn(lam_per=lam_per), rand(12, 3), labels(12, 3)
    reduction = "none" if lam_per == "sample" else "mean"
    outputs, mixed = rand(12, 3, seed=1), plan.mix(x)

    def loss_fn(z, t):
        return F.cross_entropy(z, t, reduction=reduction)

    parts = plan.split(5)
    assert [len(part) for part in parts] == [5, 5, 2] == [len(part) for part in plan.split([5, 5, 2])]
    torch.testing.assert_close(torch.cat([part.mix(x) for part in parts]), mixed, rtol=0, atol=0)
    assert torch.equal(torch.cat([part.partner_of(y) for part in parts]), plan.partner_of(y))
    names = [str(i) for i in range(12)]
    assert [name for part in parts for name in part.partner_of(names)] == [names[j] for j in plan.partner]
    for value in ("loss", "accuracy"):
        args = (loss_fn,) if value == "loss" else ()
        each = [getattr(p, value)(*args, o, y) * len(p) for p, o in zip(parts, outputs.split(5), strict=True)]
        torch.testing.assert_close(sum(each) / 12, getattr(plan, value)(*args, outputs, y), rtol=1e-6, atol=0)
    inner = plan[2:9][1:3]
    torch.testing.assert_close(inner.mix(x), mixed[3:5], rtol=0, atol=0)
    torch.testing.assert_close(inner.own(x), x[3:5], rtol=0, atol=0)
    mask = rand(12, 4) > 0
    assert torch.equal(inner.combine(mask, "union"), plan.combine(mask, "union")[3:5])
    assert inner.stats(x, y).matched_sq_distance >= 0
    with pytest.raises(ValueError, match="batch length 12 first"):
        inner.mix(x[3:5])
    for bad in (3, slice(None, None, 2)):
        with pytest.raises(TypeError, match="slice of consecutive samples"):
            plan[bad]


def test_accuracy_of_the_true_mixture_is_the_larger_weight_where_classes_differ():
    plan = drawn(lam_per="sample")
    y = torch.arange(12)  # all classes differ
    predictions = F.one_hot(y, 12).double()  # always the sample's own class
    lam = plan.lam.float()
    torch.testing.assert_close(plan.accuracy(predictions, y), lam.mean())
    torch.testing.assert_close(plan.accuracy(predictions[plan.partner], y), (1 - lam).mean())
    torch.testing.assert_close(plan.accuracy(predictions, F.one_hot(y, 12).float()), lam.mean())


def test_stats_measure_what_they_say():
    x, y = rand(64, 2), labels(64, 3)
    plan = KMixup(16, 1.0, generator=torch.Generator().manual_seed(0)).plan(x)
    stats = plan.stats(x, y)
    assert stats.matched_sq_distance == pytest.approx(float((x - x[plan.partner]).square().sum(1).mean()))
    assert stats.unmatched_sq_distance == pytest.approx(float((x - x[plan.unmatched]).square().sum(1).mean()))
    assert stats.matched_sq_distance < 0.5 * stats.unmatched_sq_distance
    assert stats.self_share == 0
    assert stats.same_class_share == pytest.approx(float((y == y[plan.partner]).double().mean()))
    assert plan.stats(x, F.one_hot(y, 3).float()).same_class_share == stats.same_class_share
    assert plan.stats(x).same_class_share is None
    assert plan.stats(x.numpy(), y.numpy()) == stats


def test_stats_of_a_structure_are_those_of_what_is_mixed():
    x, y = rand(64, 2), labels(64, 3)
    plan = KMixup(16, 1.0, generator=torch.Generator().manual_seed(0)).plan(x)
    kept = {"attention_mask": 100 * x, "id": 1000 * y, "path": ["a.png"] * 64, "epoch": 3}
    assert plan.stats({"image": x, "label": y, **kept}, y) == plan.stats(x, y)
    aux = {"image": x, "aux": 100 * x}
    assert plan.stats(aux, y, leaves={"aux": "own"}) == plan.stats(x, y)
    assert plan.stats(aux).matched_sq_distance == pytest.approx((1 + 100**2) * plan.stats(x).matched_sq_distance)
    assert plan.stats(torch.view_as_complex(x)) == plan.stats(x)
    with pytest.raises(TypeError, match="x must hold floating-point or complex numbers"):
        plan.stats({"id": y})


def test_the_released_codes_shuffle_mixes_samples_with_themselves_and_roll_does_not():
    x = rand(64, 2)
    for pairing, share in (("shuffle", 1.0), ("roll", 0.0)):
        mixer = KMixup(64 if pairing == "shuffle" else 32, 1.0, pairing=pairing)
        assert mixer.plan(x).stats(x).self_share == share


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: p.mix(torch.zeros(12, 3, dtype=torch.uint8)), TypeError, "uint8.*Scale images to float"),
        (lambda p: p.mix({"y": labels(12, 3)}), TypeError, "one-hot, or use plan.loss"),
        (lambda p: p.mix(torch.zeros(11, 3)), ValueError, r"batch length 12 first, got shape \[11, 3\]"),
        (lambda p: p.mix({"a": torch.zeros(11, 3)}), ValueError, r"got shape \[11, 3\] at 'a'"),
        (lambda p: p.mix(torch.tensor(1.0)), ValueError, "batch length 12"),
        (lambda p: p.mix({"path": "a.png"}), TypeError, "every leaf must be a tensor or a numpy array, got str"),
        (lambda p: p.mix(torch.zeros(12, 3), torch.zeros(12, 3)), ValueError, "x2 was given, but"),
        (lambda p: p.loss(F.cross_entropy, torch.zeros(12, 3), labels(9, 3)), ValueError, "size|batch length"),
        (lambda p: p.partner_of(labels(9, 3)), ValueError, "batch length 12"),
    ],
)
def test_what_cannot_be_mixed_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(drawn())


def test_a_missing_second_batch_is_refused():
    plan = KMixup(4, 1.0).plan(rand(8, 3), rand(8, 3))
    with pytest.raises(ValueError, match="x2 is required"):
        plan.mix(rand(8, 3))
    with pytest.raises(ValueError, match="y2 is required"):
        plan.accuracy(rand(8, 3), labels(8, 3))

    mask = torch.ones(8, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="x2 is required"):
        plan.combine(mask, "union")


def test_a_plan_on_a_second_batch_measures_and_combines_with_what_comes_from_there():
    x, x2 = rand(8, 3), rand(8, 3, seed=1)
    plan = KMixup(4, 1.0, generator=torch.Generator().manual_seed(0)).plan(x, x2)
    stats = plan.stats(x, x2=x2)
    assert stats.matched_sq_distance == pytest.approx(float((x - x2[plan.partner]).square().sum(1).mean()))
    assert stats.unmatched_sq_distance == pytest.approx(float((x - x2[plan.unmatched]).square().sum(1).mean()))
    assert torch.equal(plan.combine(x > 0, "union", x2 > 0), (x > 0) | (x2 > 0)[plan.partner])
    y, y2, outputs = labels(8, 3), labels(8, 3, seed=1), rand(8, 3, seed=2)
    assert plan.stats(x, y, x2, y2).same_class_share == float((y == y2[plan.partner]).double().mean())
    own, theirs = F.cross_entropy(outputs, y), F.cross_entropy(outputs, y2[plan.partner])
    torch.testing.assert_close(plan.loss(F.cross_entropy, outputs, y, y2), plan.lam * own + (1 - plan.lam) * theirs)
    right = ((outputs.argmax(1) == label).double().mean() for label in (y, y2[plan.partner]))
    assert float(plan.accuracy(outputs, y, y2)) == pytest.approx(
        float(plan.lam * next(right) + (1 - plan.lam) * next(right))
    )


def test_labels_of_another_length_are_refused_by_the_place_where_they_lie():
    plan, y = drawn(), {"a": labels(12, 3), "b": labels(9, 3)}
    with pytest.raises(ValueError, match=r"batch length 12 first.* at 'b'"):
        plan.loss(lambda outputs, y: F.cross_entropy(outputs, y["a"]), rand(12, 3), y)


def test_plans_of_many_batches_lie_end_to_end():
    parts = [drawn(lam_per="sample", seed=seed) for seed in range(3)]
    partner, lam, unmatched = (torch.stack([getattr(p, n) for p in parts]) for n in ("partner", "lam", "unmatched"))
    x = rand(3, 12, 2)
    whole = MixPlan.of_batches(partner, lam, unmatched)
    torch.testing.assert_close(
        whole.mix(x.flatten(0, 1)), torch.cat([p.mix(own) for p, own in zip(parts, x, strict=True)])
    )
    assert whole.unmatched.tolist() == [12 * b + j for b in range(3) for j in unmatched[b].tolist()]


def test_one_loss_for_a_batch_of_different_lams_is_refused():
    plan = drawn(lam_per="sample")
    with pytest.raises(ValueError, match='reduction="none"'):
        plan.loss(F.cross_entropy, rand(12, 3), labels(12, 3))
    with pytest.raises(ValueError, match="one loss for each of 12 samples"):
        plan.loss(lambda z, y: torch.zeros(5), rand(12, 3), labels(12, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize(("shape", "form"), [((12, 3, 4, 4), "channels_last"), ((12, 3, 2, 4, 4), "channels_last_3d")])
def test_mixing_keeps_the_memory_format(dtype, shape, form):
    plan = drawn()
    form = getattr(torch, form)
    x = rand(*shape).to(dtype)
    mixed = plan.mix(x.to(memory_format=form))
    assert mixed.is_contiguous(memory_format=form)
    torch.testing.assert_close(mixed, plan.mix(x))
    assert plan.mix(x).is_contiguous()


@pytest.mark.parametrize("plan", [drawn(), drawn(lam_per="sample"), drawn()[2:5], MixPlan.identity(0, per_sample=True)])
def test_a_plan_prints_in_one_line(plan):
    assert len(repr(plan)) < 120
    assert f"MixPlan({len(plan)} samples, lam" in repr(plan)


@pytest.mark.parametrize("as_numpy", [False, True])
def test_of_two_masks_and_lengths_only_those_with_weight_count(as_numpy):
    plan = MixPlan(torch.tensor([1, 0, 0]), torch.tensor([0.5, 1.0, 0.0]).double(), torch.arange(3))
    mask = torch.tensor([[True, False, False], [False, True, False], [False, False, True]])
    united = torch.tensor([[True, True, False], [False, True, False], [True, False, False]])
    lengths = torch.tensor([3, 5, 9])
    args = (mask.numpy(), lengths.numpy()) if as_numpy else (mask, lengths)
    found = plan.combine(args[0], "union"), plan.combine(args[1], "max"), plan.combine(args[1], "intersection")
    assert all(isinstance(each, type(args[0])) for each in found)
    assert [each.tolist() for each in found] == [united.tolist(), [5, 5, 3], [3, 5, 3]]


def test_an_unknown_way_to_combine_is_refused():
    with pytest.raises(ValueError, match="how must be one of union, max, intersection, got 'mean'"):
        drawn().combine(labels(12, 3), "mean")


def test_a_plan_is_frozen_and_moves_between_devices():
    plan = drawn()
    with pytest.raises(AttributeError):
        plan.lam = torch.tensor(0.5)
    moved = drawn(lam_per="sample")[2:7].to("meta")
    assert {x.device.type for x in (moved.partner, moved.lam, moved.unmatched)} == {"meta"}
    assert moved.mix(torch.zeros(12, 3, device="meta")).shape == (5, 3)
    assert len(plan) == 12
    fitting = torch.arange(12)
    assert torch.equal(replace(plan, k=fitting).to("cpu").k, fitting)
    assert torch.equal(replace(plan, k=fitting)[2:7].k, fitting[2:7])


@pytest.mark.parametrize(("per_sample", "shape"), [(True, (4,)), (False, ())])
def test_the_identity_lives_where_it_is_told_with_lam_in_the_shape_it_is_told(per_sample, shape):
    plan = MixPlan.identity(4, per_sample=per_sample, device="meta")
    assert plan.lam.shape == shape
    assert {x.device.type for x in (plan.partner, plan.lam, plan.unmatched)} == {"meta"}


def test_a_part_keeps_its_rows_of_what_is_batch_first_and_all_else_as_it_is():
    part, epoch = drawn()[2:5], torch.tensor(3)
    own = part.own({"x": torch.arange(12), "rate": 0.5, "epoch": epoch, "classes": torch.arange(7)})
    assert own["x"].tolist() == [2, 3, 4]
    assert own["rate"] == 0.5
    assert own["epoch"] is epoch
    assert own["classes"].tolist() == list(range(7))


def test_a_plan_with_one_lam_prints_it_and_refuses_a_bare_tensor_without_a_path():
    plan = MixPlan(torch.tensor([1, 0]), torch.tensor(0.25, dtype=torch.float64), torch.tensor([1, 0]))
    assert repr(plan) == "MixPlan(2 samples, lam 0.25, on cpu)"
    with pytest.raises(TypeError, match=r"can be mixed, got torch\.int64 \[2\]\. Scale"):
        plan.mix(torch.arange(2))
