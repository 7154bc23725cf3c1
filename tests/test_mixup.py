"""The mixer: whom it pairs, how it draws lam, what it takes, what it refuses."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import beta, kstest

from kmixup import KMixup
from kmixup.lam import draw_lam


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def labels(batch: int, classes: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randint(classes, (batch,), generator=generator(seed))


def quiet(mixer: KMixup) -> KMixup:
    """A mixer that has given its warning about small batches."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixer.plan(rand(2, 1))
    return mixer


# --- pairing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 7, 8, 12, 16, 31, 32, 33, 48, 64])
def test_roll_never_pairs_a_sample_with_itself_and_makes_each_a_partner_once(k):
    mixer = quiet(KMixup(k, 1.0, generator=generator()))
    for batch in range(2, 201):
        plan = mixer.plan(rand(batch, 2, seed=batch))
        own = torch.arange(batch)
        assert (plan.partner != own).all(), batch
        assert (plan.unmatched != own).all(), batch
        assert torch.equal(plan.partner.sort().values, own), batch
        assert torch.equal(plan.unmatched.sort().values, own), batch


def test_each_rolled_block_is_matched_optimally_with_a_block_disjoint_from_it():
    k, batch = 8, 43  # five blocks and a ragged one of three
    x = rand(batch, 3, dtype=torch.float64)
    plan = KMixup(k, 1.0, generator=generator(5)).plan(x)
    order = torch.randperm(batch, generator=generator(5))  # the mixer's first draw
    shifted = order.roll(k)
    for start in range(0, batch, k):
        block, candidates = order[start : start + k], shifted[start : start + k]
        assert not set(block.tolist()) & set(candidates.tolist())
        assert set(plan.partner[block].tolist()) == set(candidates.tolist())
        torch.testing.assert_close(plan.unmatched[block], candidates)
        cost = cdist(x[block], x[candidates], "sqeuclidean")
        found = float((x[block] - x[plan.partner[block]]).square().sum())
        assert found == pytest.approx(cost[linear_sum_assignment(cost)].sum(), rel=1e-12)


def test_shuffle_is_the_released_codes_permutation_in_the_batchs_own_blocks():
    x, k = rand(32, 3, dtype=torch.float64), 8
    plan = KMixup(k, 1.0, pairing="shuffle", generator=generator(5)).plan(x)
    permutation = torch.randperm(32, generator=generator(5))
    torch.testing.assert_close(plan.unmatched, permutation)
    for start in range(0, 32, k):
        cost = cdist(x[start : start + k], x[permutation[start : start + k]], "sqeuclidean")
        assert set(plan.partner[start : start + k].tolist()) == set(permutation[start : start + k].tolist())
        found = float((x - x[plan.partner])[start : start + k].square().sum())
        assert found == pytest.approx(cost[linear_sum_assignment(cost)].sum(), rel=1e-12)


def test_a_second_batch_is_matched_block_by_block_as_in_figure_5():
    x, x2, k = rand(24, 3, dtype=torch.float64), rand(24, 3, seed=1, dtype=torch.float64), 8
    plan = KMixup(k, 1.0, metric="euclidean").plan(x, x2)
    for start in range(0, 24, k):
        cost = cdist(x[start : start + k], x2[start : start + k])  # the paper's Figure 5
        expected = linear_sum_assignment(cost)[1] + start
        np.testing.assert_array_equal(plan.partner[start : start + k].numpy(), expected)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine", lambda x, y: torch.cdist(x, y, p=1)])
def test_k_one_is_mixup_whatever_the_metric(metric):
    plans = [KMixup(1, 1.0, metric=m, generator=generator()).plan(rand(10, 3)) for m in (metric, "sqeuclidean")]
    torch.testing.assert_close(plans[0].partner, plans[1].partner)
    torch.testing.assert_close(plans[0].partner, plans[0].unmatched)
    torch.testing.assert_close(plans[0].lam, plans[1].lam)


def test_a_metric_function_decides_the_matching():
    x = rand(40, 5, dtype=torch.float64)
    named, own = (KMixup(8, 1.0, metric=m, generator=generator()).plan(x) for m in ("euclidean", torch.cdist))
    torch.testing.assert_close(named.partner, own.partner)


def test_features_are_matched_and_the_inputs_are_mixed():
    x = rand(32, 3, 4, 4)
    mixer = KMixup(8, 1.0, features=lambda images: images.mean((2, 3)), generator=generator())
    plan = mixer.plan(x)
    by_hand = KMixup(8, 1.0, generator=generator()).plan(x.mean((2, 3)))
    torch.testing.assert_close(plan.partner, by_hand.partner)
    assert plan.mix(x).shape == x.shape


def test_a_feature_network_is_neither_saved_nor_trained_nor_differentiated():
    network = torch.nn.Linear(3, 2)
    mixer = KMixup(4, 1.0, features=network, num_classes=3)
    x = rand(8, 3).requires_grad_()
    mixer(x, labels(8))[0].sum().backward()
    assert list(mixer.parameters()) == []
    assert list(mixer.state_dict()) == []
    assert network.weight.grad is None


def test_images_are_matched_as_flat_vectors():
    x = rand(32, 2, 3, 3)
    plans = [KMixup(8, 1.0, generator=generator()).plan(points) for points in (x, x.flatten(1))]
    torch.testing.assert_close(plans[0].partner, plans[1].partner)


def test_scalars_per_sample_can_be_matched():
    x = torch.arange(16.0)
    plan = KMixup(8, 1.0, generator=generator()).plan(x)
    assert plan.stats(x).matched_sq_distance <= plan.stats(x).unmatched_sq_distance


@pytest.mark.parametrize(
    "call",
    [
        lambda mixer, x, y: mixer(x, y),
        lambda mixer, x, y: mixer((x, y)),
        lambda mixer, x, y: mixer({"x": x, "y": y}),
        lambda mixer, x, y: mixer.plan(x),
    ],
)
def test_the_warning_about_a_small_batch_names_the_callers_line(call):
    with pytest.warns(UserWarning, match="too small") as caught:
        call(KMixup(16, 1.0, num_classes=2), torch.randn(10, 3), torch.zeros(10, dtype=torch.long))
    assert caught[0].filename == __file__


def test_a_small_batch_uses_the_largest_k_that_fits_and_warns_once():
    mixer = KMixup(16, 1.0)
    with pytest.warns(UserWarning, match="a batch of 10 is too small for k=16: using k=5"):
        mixer.plan(rand(10, 2))
    mixer.plan(rand(10, 2))  # a second warning would be an error here
    plan = mixer.plan(rand(3, 2))
    assert (plan.partner != torch.arange(3)).all()


def test_a_batch_of_one_is_left_alone():
    x, y = KMixup(4, 1.0, num_classes=3)(rand(1, 2), torch.tensor([2]))
    torch.testing.assert_close(x, rand(1, 2), rtol=0, atol=0)
    torch.testing.assert_close(y, torch.tensor([[0.0, 0.0, 1.0]]))


def test_a_shuffle_may_be_one_block_and_then_nobody_moves():
    plan = KMixup(16, 1.0, pairing="shuffle", generator=generator()).plan(rand(16, 3))
    torch.testing.assert_close(plan.partner, torch.arange(16))


@pytest.mark.parametrize("pairing", ["roll", "shuffle"])
@pytest.mark.parametrize(
    "plan",
    [
        lambda mixer, x: mixer.plan(x),
        lambda mixer, x: mixer.plan(x, x),
        lambda mixer, x: mixer.plan(x, where=torch.ones(18, dtype=torch.bool)),
    ],
)
def test_the_metric_and_the_solver_that_were_asked_for_serve_whatever_is_matched(plan, pairing):
    with pytest.raises(ValueError, match="takes k <= 8, got k=9"):
        plan(KMixup(9, 1.0, pairing=pairing, solver="enumerate"), rand(18, 3))
    with pytest.raises(ValueError, match="metric must return a tensor of costs"):
        plan(KMixup(9, 1.0, pairing=pairing, metric=lambda a, b: a), rand(18, 3))


def test_labels_and_a_mask_decide_who_meets_whom():
    x, y, where = rand(24, 3), labels(24), torch.arange(24) > 3
    options = {"within": "label", "lam_per": "sample", "num_classes": 3}
    mixed, _ = KMixup(4, 1.0, generator=generator(), **options)(x, y, where=where)
    plan = KMixup(4, 1.0, generator=generator(), **options).plan(x, y=y, where=where)
    assert torch.equal(y[plan.partner], y)
    assert torch.equal(plan.partner[:4], torch.arange(4))
    assert where[plan.partner[4:]].all()
    assert (plan.lam[4:] < 1).all()
    torch.testing.assert_close(mixed, plan.mix(x))
    targets = rand(24, seed=1)
    on_target = KMixup(4, 1.0, match_on="target", generator=generator()).plan(x, y=targets)
    assert torch.equal(on_target.partner, KMixup(4, 1.0, generator=generator()).plan(targets).partner)


# --- lam --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.05, 0.3, 1.0, 4.0, 100.0])
def test_lam_follows_its_beta_distribution(alpha):
    mixer = KMixup(1, alpha, lam_per="sample", generator=generator())
    lam = mixer.plan(rand(20_000, 1)).lam  # in double precision, though the data are not
    # Numbers near 1 are rounded to it (8 % of them at alpha = 0.05), so the lower half is compared, at five sigma.
    lower = lam[lam < 0.5].numpy()
    assert kstest(lower, lambda v: 2 * beta.cdf(v, alpha, alpha)).pvalue > 5.7e-7
    assert abs(len(lower) / 20_000 - 0.5) < 5 * 0.5 / 20_000**0.5


def test_lam_is_drawn_per_batch_block_or_sample():
    x, k = rand(40, 2), 8
    distinct = {}
    for lam_per in ("batch", "block", "sample"):
        plan = KMixup(k, 1.0, lam_per=lam_per, generator=generator(3)).plan(x)
        distinct[lam_per] = len(plan.lam.unique())
        if lam_per == "block":  # constant within each block of the drawn order
            order = torch.randperm(40, generator=generator(3))
            assert all(len(plan.lam[block].unique()) == 1 for block in order.split(k))
    assert distinct == {"batch": 1, "block": 5, "sample": 40}


def test_alpha_inf_is_one_half_and_alpha_zero_is_the_identity():
    x = rand(16, 3)
    assert KMixup(4, float("inf")).plan(x).lam == 0.5
    mixed, soft = KMixup(4, 0.0, num_classes=3)(x, labels(16))
    torch.testing.assert_close(mixed, x, rtol=0, atol=0)
    torch.testing.assert_close(soft, F.one_hot(labels(16), 3).float(), rtol=0, atol=0)


@pytest.mark.parametrize("lam_per", ["batch", "block", "sample"])
def test_p_is_the_probability_of_mixing(lam_per):
    mixer = KMixup(2, 1.0, p=0.3, lam_per=lam_per, generator=generator())
    lam = torch.cat([mixer.plan(rand(20, 2)).lam.reshape(-1) for _ in range(400)])
    share = (lam < 1).double().mean()
    draws = {"batch": 400, "block": 4000, "sample": 8000}[lam_per]
    assert abs(share - 0.3) < 5 * (0.3 * 0.7 / draws) ** 0.5
    assert KMixup(2, 1.0, p=0.0).plan(rand(20, 2)).lam == 1


# --- randomness -------------------------------------------------------------------------------------------------------


def test_a_generator_decides_everything_and_the_global_one_is_untouched():
    x = rand(24, 3)
    before = torch.get_rng_state()
    first, second = (KMixup(4, 1.0, generator=generator(9)).plan(x) for _ in range(2))
    torch.testing.assert_close(first.partner, second.partner)
    torch.testing.assert_close(first.lam, second.lam)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_generator_torchs_global_seed_decides():
    x, mixer = rand(24, 3), KMixup(4, 1.0)
    torch.manual_seed(1)
    first = mixer.plan(x)
    torch.manual_seed(1)
    torch.testing.assert_close(mixer.plan(x).partner, first.partner)


def test_successive_plans_differ():
    mixer, x = KMixup(4, 1.0, generator=generator()), rand(64, 3)
    assert not torch.equal(mixer.plan(x).partner, mixer.plan(x).partner)


def test_a_restored_mixer_continues_the_same_stream():
    x = rand(24, 3)
    mixer = KMixup(4, 1.0, generator=generator())
    mixer.plan(x)
    saved = {name: value.clone() for name, value in mixer.state_dict().items()}
    expected = mixer.plan(x)
    resumed = KMixup(4, 1.0, generator=torch.Generator())
    resumed.load_state_dict(saved)
    plan = resumed.plan(x)
    torch.testing.assert_close(plan.partner, expected.partner)
    torch.testing.assert_close(plan.lam, expected.lam)


def test_state_survives_a_weights_only_checkpoint(tmp_path):
    mixer = KMixup(4, 1.0, generator=generator())
    torch.save(mixer.state_dict(), tmp_path / "mixer.pt")
    state = torch.load(tmp_path / "mixer.pt", weights_only=True)
    KMixup(4, 1.0, generator=torch.Generator()).load_state_dict(state)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda mixer: pickle.loads(pickle.dumps(mixer))])
def test_a_copy_draws_what_the_original_draws(clone):
    mixer, x = KMixup(4, 1.0, num_classes=3, generator=generator()), rand(24, 3)
    other = clone(mixer)
    torch.testing.assert_close(other.plan(x).partner, mixer.plan(x).partner)
    assert repr(other) == repr(mixer)


def test_a_copy_of_a_compiled_mixer_is_a_mixer_of_its_own():
    mixer, x, y = KMixup(4, 1.0, generator=generator()), rand(24, 3), rand(24, 2)
    mixer.compile(backend="eager")
    for clone in (copy.deepcopy, lambda mixer: pickle.loads(pickle.dumps(mixer))):
        other = clone(mixer).eval()
        assert torch.equal(other(x, y)[0], x)
        assert not torch.equal(mixer(x, y)[0], x)


@pytest.mark.parametrize("strict", [True, False])
def test_a_mixer_without_a_generator_adds_nothing_to_a_checkpoint(strict):
    def net(*mixer: KMixup) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(2, 2), *mixer)

    net(KMixup(4, 1.0)).load_state_dict(net().state_dict(), strict=strict)
    net().load_state_dict(net(KMixup(4, 1.0)).state_dict(), strict=strict)
    old = {**net().state_dict(), "1._extra_state": torch.empty(0, dtype=torch.uint8)}  # as 0.1 saved it
    net(KMixup(4, 1.0)).load_state_dict(old, strict=strict)


def test_a_stream_that_cannot_be_continued_is_refused_when_strict_and_named_otherwise():
    seeded, plain = (lambda: KMixup(4, 1.0, generator=generator())), (lambda: KMixup(4, 1.0))
    for saved, into, key in ((seeded(), plain(), "Unexpected"), (plain(), seeded(), "Missing")):
        with pytest.raises(RuntimeError, match=f"(?s){key} key.*_extra_state"):
            into.load_state_dict(saved.state_dict())
        keys = into.load_state_dict(saved.state_dict(), strict=False)
        assert getattr(keys, f"{key.lower()}_keys") == ["_extra_state"]


# --- arguments --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("alpha", -2.8e-17, ValueError, "alpha must be >= 0"),
        ("k", 0, ValueError, "k must be >= 1"),
        ("p", 1.5, ValueError, "p must be a probability"),
        ("lam_per", "pixel", ValueError, "lam_per must be one of"),
        ("pairing", "random", ValueError, "pairing must be one of"),
        ("metric", "l2", ValueError, "metric must be one of"),
        ("features", 3, TypeError, "features must be a function"),
        ("num_classes", 2.0, TypeError, "num_classes must be an integer"),
        ("generator", 0, TypeError, "generator must be"),
        ("solver", "lapcpp", ValueError, "is gone"),
        ("labels_getter", "label", TypeError, "labels_getter must be a function"),
        ("leaves", {"a": "b"}, ValueError, r"leaves\['a'\]"),
    ],
)
def test_an_argument_is_checked_when_it_is_assigned_to(name, value, error, message):
    mixer = KMixup(4, 1.0)
    before = getattr(mixer, name)
    with pytest.raises(error, match=message):
        setattr(mixer, name, value)
    assert getattr(mixer, name) == before


class Distance(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Linear(3, 2)

    def forward(self, x, y):
        return torch.cdist(self.weight(x), self.weight(y))


@pytest.mark.parametrize(("name", "network"), [("features", torch.nn.Linear(3, 2)), ("metric", Distance())])
def test_a_network_may_be_assigned_is_used_and_is_no_part_of_the_mixer(name, network):
    x = rand(24, 3)
    given, assigned, plain = (KMixup(8, 1.0, generator=generator(), **more) for more in ({name: network}, {}, {}))
    usual = getattr(plain, name)
    setattr(assigned, name, network)
    partners = {mixer: mixer.plan(x).partner for mixer in (given, assigned, plain)}
    assert torch.equal(partners[given], partners[assigned])
    assert not torch.equal(partners[given], partners[plain])
    for mixer in (given, assigned):
        assert getattr(mixer, name) is network
        assert list(mixer.state_dict()) == ["_extra_state"]
        assert not list(mixer.parameters())
        assert list(mixer.modules()) == [mixer]
        setattr(mixer, name, usual)
        assert getattr(mixer, name) == usual


def test_arguments_are_attributes():
    options = {"metric": "euclidean", "features": len, "pairing": "shuffle", "lam_per": "sample", "num_classes": 3}
    options |= {"p": 0.5, "labels_getter": max, "leaves": {"a": "own"}, "within": "label", "label_weight": 0.5}
    options |= {"match_on": "both", "per_process": False, "solver": "scipy", "generator": generator()}
    mixer = KMixup(4, 2.0, **options)
    assert {name: getattr(mixer, name) for name in options} == options
    assert (mixer.k, mixer.alpha) == (4, 2.0)


def test_printing_shows_what_decides_the_pairs():
    always = "metric='sqeuclidean', pairing='roll', lam_per='batch', num_classes=None, p=0.2"
    assert repr(KMixup(4, 0.5, p=0.2)) == f"KMixup(k=4, alpha=0.5, {always})"
    assert repr(KMixup(4, 0.5, p=0.2, within="label")) == f"KMixup(k=4, alpha=0.5, {always}, within='label')"


def test_alpha_may_be_annealed_to_zero_and_raised_again():
    mixer, x = KMixup(4, 0.3), rand(16, 3)
    shares = []
    for alpha in (0.3, 0.0, float("inf"), 9e307):
        mixer.alpha = alpha
        shares.append(float(mixer.plan(x).lam))
    assert 0 < shares[0] < 1
    assert shares[1:] == [1.0, 0.5, 0.5]


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize(("lam_per", "ndim"), [("batch", 0), ("block", 1), ("sample", 1)])
def test_the_shape_of_lam_depends_on_lam_per_alone(alpha, training, batch, lam_per, ndim):
    mixer = KMixup(1, alpha, lam_per=lam_per).train(training)
    assert mixer.plan(rand(batch, 3)).lam.shape == (batch,) * ndim
    assert mixer.plan(rand(batch, 3), rand(batch, 3)).lam.shape == (batch,) * ndim


def test_a_block_within_a_class_has_one_lam_and_no_partner_outside():
    y = torch.arange(3).repeat_interleave(8)
    plan = KMixup(4, 1.0, lam_per="block", within="label", generator=generator()).plan(rand(24, 2), y=y)
    assert torch.equal(y[plan.partner], y)
    assert sorted(plan.lam.unique(return_counts=True)[1].tolist()) == [4] * 6


def test_rows_that_are_left_out_are_left_out_where_no_label_decides():
    where = torch.arange(16) % 2 == 0
    plan = KMixup(4, 1.0, generator=generator()).plan(rand(16, 2), where=where)
    assert torch.equal(plan.partner[~where], torch.arange(16)[~where])
    assert where[plan.partner[where]].all()


@pytest.mark.parametrize("change", [{"alpha": 0.0}, {"training": False}])
def test_what_a_compiled_graph_calls_mixes_nothing_when_either_is_off(change):
    mixer = KMixup(4, 1.0, generator=generator())
    for name, value in change.items():
        setattr(mixer, name, value)
    plan = mixer.drawn(rand(8, 2), None)
    assert torch.equal(plan.partner, torch.arange(8))
    assert plan.lam == 1


def test_given_draws_a_second_batch_is_where_partners_come_from():
    plan = KMixup(4, 1.0).meet(rand(8, 2), torch.arange(8), torch.tensor(0.3), rand(8, 2, seed=1))
    assert plan.from_second


def test_whether_to_mix_is_drawn_only_where_that_is_in_doubt():
    streams = [generator(), generator(), generator()]
    drawn = [KMixup(4, 1.0, p=p).draw_lam(2, 8, 4, stream) for p, stream in zip((1.0, 0.999), streams, strict=False)]
    assert torch.equal(drawn[0], draw_lam(1.0, (2, 1), streams[2]))
    assert torch.equal(streams[0].get_state(), streams[2].get_state())
    assert not torch.equal(streams[1].get_state(), streams[2].get_state())


@pytest.mark.parametrize("pairing", ["roll", "shuffle"])
def test_many_batches_are_paired_as_each_alone(pairing):
    mixer, x = KMixup(4, 1.0, pairing=pairing), rand(3, 12, 2)
    orders = torch.stack([torch.randperm(12, generator=generator(seed)) for seed in range(3)])
    alone = [mixer.pair(points, order) for points, order in zip(x, orders, strict=True)]
    assert torch.equal(mixer.pair(x, orders), torch.stack(alone))


# --- the call ---------------------------------------------------------------------------------------------------------


def test_soft_targets_are_the_mixed_one_hot_labels_and_sum_to_one():
    x, y = rand(24, 3), labels(24)
    mixer = KMixup(4, 1.0, num_classes=3, generator=generator())
    x_mixed, y_soft = mixer(x, y)
    plan = KMixup(4, 1.0, generator=generator()).plan(x)
    torch.testing.assert_close(x_mixed, plan.mix(x))
    torch.testing.assert_close(y_soft, plan.mix(F.one_hot(y, 3).float()))
    torch.testing.assert_close(y_soft.sum(1), torch.ones(24))
    assert y_soft.dtype == torch.float32


@pytest.mark.parametrize(
    ("x_dtype", "y_dtype", "soft_dtype"),
    [
        (torch.float16, torch.int64, torch.float32),
        (torch.bfloat16, torch.float16, torch.float32),
        (torch.float32, torch.int32, torch.float32),
        (torch.float64, torch.float64, torch.float64),
    ],
)
def test_x_keeps_its_dtype_and_soft_targets_are_float32_at_least(x_dtype, y_dtype, soft_dtype):
    y = F.one_hot(labels(16), 3).to(y_dtype) if y_dtype.is_floating_point else labels(16).to(y_dtype)
    x, soft = KMixup(4, 1.0, num_classes=3)(rand(16, 3).to(x_dtype), y)
    assert (x.dtype, soft.dtype) == (x_dtype, soft_dtype)


def test_regression_targets_are_mixed_as_they_are():
    x, y = rand(16, 3), rand(16, seed=1)
    mixer = KMixup(4, 1.0, generator=generator())
    _, target = mixer(x, y)
    torch.testing.assert_close(target, KMixup(4, 1.0, generator=generator()).plan(x).mix(y))


def test_numpy_in_numpy_out():
    x, y = rand(16, 3).numpy(), labels(16).numpy()
    x_mixed, y_soft = KMixup(4, 1.0, num_classes=3, generator=generator())(x, y)
    as_tensors = KMixup(4, 1.0, num_classes=3, generator=generator())(torch.from_numpy(x), torch.from_numpy(y))
    assert isinstance(x_mixed, np.ndarray)
    assert isinstance(y_soft, np.ndarray)
    np.testing.assert_array_equal(x_mixed, as_tensors[0].numpy())
    np.testing.assert_array_equal(y_soft, as_tensors[1].numpy())


def test_read_only_and_reversed_arrays_are_mixed_without_a_warning():
    x, y = rand(16, 3).numpy(), labels(16).numpy()
    expected = KMixup(4, 1.0, num_classes=3, generator=generator())(x, y)
    locked = x.copy()
    locked.flags.writeable = False
    backwards = np.ascontiguousarray(x[::-1])[::-1]
    for same in (locked, backwards):
        x_mixed, y_soft = KMixup(4, 1.0, num_classes=3, generator=generator())(same, y)
        np.testing.assert_array_equal(x_mixed, expected[0])
        np.testing.assert_array_equal(y_soft, expected[1])


def test_a_pair_and_a_dict_sample_come_back_in_their_structure():
    x, y = rand(16, 3), labels(16)
    pair, sample, renamed, as_in_torchvision = (
        KMixup(4, 1.0, num_classes=3, generator=generator(), labels_getter=getter)
        for getter in (None, None, lambda s: "digit", lambda s: s["digit"])
    )
    expected = pair([x, y])
    out = sample({"image": x, "label": y, "path": ["a"] * 16, "index": torch.arange(16)})
    torch.testing.assert_close(out["image"], expected[0])
    torch.testing.assert_close(out["label"], expected[1])
    assert out["path"] == ["a"] * 16
    assert torch.equal(out["index"], torch.arange(16))
    torch.testing.assert_close(renamed({"image": x, "digit": y})["digit"], expected[1])
    torch.testing.assert_close(as_in_torchvision({"image": x, "digit": y})["digit"], expected[1])


def test_several_inputs_are_mixed_alike_and_features_choose_what_is_matched():
    x = {"image": rand(16, 3), "meta": rand(16, 2, seed=1)}
    mixer = KMixup(4, 1.0, features=lambda inputs: inputs["image"], num_classes=3, generator=generator())
    mixed, _ = mixer(x, labels(16))
    plan = KMixup(4, 1.0, generator=generator()).plan(x["image"])
    torch.testing.assert_close(mixed, plan.mix(x))


def test_eval_mode_mixes_nothing():
    x, y = rand(16, 3), labels(16)
    mixer = KMixup(4, 1.0, num_classes=3).eval()
    x_same, y_soft = mixer(x, y)
    assert x_same is x
    torch.testing.assert_close(y_soft, F.one_hot(y, 3).float())
    torch.testing.assert_close(mixer.plan(x).mix(x), x, rtol=0, atol=0)
    torch.testing.assert_close(mixer.plan(x).loss(F.cross_entropy, x, y), F.cross_entropy(x, y))


@pytest.mark.parametrize("off", [KMixup(4, 0.0), KMixup(4, 1.0).eval()])
def test_a_plan_for_two_batches_is_one_also_when_nothing_is_mixed(off):
    x = rand(16, 3)
    plan = off.plan(x, rand(16, 3, seed=1))
    assert plan.from_second
    assert torch.equal(plan.mix(x, rand(16, 3, seed=1)), x)
    assert off.drawn(x, rand(16, 3, seed=1)).from_second  # as a compiled graph asks, in which alpha may have changed


def test_on_the_meta_device_shapes_are_known_and_nothing_is_drawn():
    mixer = KMixup(4, 1.0, num_classes=3, generator=generator())
    state = mixer.generator.get_state()
    x, soft = mixer(rand(16, 3).to("meta"), labels(16).to("meta"))
    assert x.is_meta
    assert (x.shape, soft.shape) == ((16, 3), (16, 3))
    assert torch.equal(mixer.generator.get_state(), state)


def test_inputs_and_labels_are_unchanged():
    x, y = rand(16, 3), labels(16)
    KMixup(4, 1.0, num_classes=3)(x, y)
    torch.testing.assert_close(x, rand(16, 3), rtol=0, atol=0)
    assert torch.equal(y, labels(16))


def test_finite_data_whose_sum_overflows_are_not_refused():
    x = torch.full((4, 2), 3e38)
    assert len(KMixup(1, 1.0).plan(x)) == 4


# --- refusals ---------------------------------------------------------------------------------------------------------

NAN_ROWS = torch.zeros(8, 3)
NAN_ROWS[2, 1], NAN_ROWS[5, 0] = float("nan"), float("inf")
X, Y = torch.zeros(8, 3), torch.zeros(8, dtype=torch.int64)


def mixer(**kwargs) -> KMixup:
    return KMixup(**{"k": 4, "alpha": 1.0, "num_classes": 3, **kwargs})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mixer(k=0), ValueError, "k must be >= 1, got 0. k=1 is mixup"),
        (lambda: mixer(k=-3), ValueError, "k must be >= 1, got -3"),
        (lambda: mixer(k=2.0), TypeError, "k must be an integer, got 2.0"),
        (lambda: mixer(k=True), TypeError, "k must be an integer, got True"),
        (lambda: mixer(k="16"), TypeError, "k must be an integer, got '16'"),
        (lambda: mixer(alpha=-0.1), ValueError, "alpha must be >= 0 .* got -0.1. Use alpha=0"),
        (lambda: mixer(alpha=float("nan")), ValueError, "alpha must be >= 0 .* got nan"),
        (lambda: mixer(alpha="1"), TypeError, "alpha must be a number, got '1'"),
        (lambda: mixer(alpha=None), TypeError, "alpha must be a number, got None"),
        (lambda: mixer(metric="l2"), ValueError, "metric must be one of sqeuclidean, euclidean, cosine"),
        (lambda: mixer(metric=None), ValueError, "metric must be one of"),
        (lambda: mixer(pairing="random"), ValueError, "pairing must be one of roll, shuffle, got 'random'"),
        (lambda: mixer(lam_per="pixel"), ValueError, "lam_per must be one of batch, block, sample, got 'pixel'"),
        (lambda: mixer(solver="sinkhorn"), ValueError, "solver must be one of"),
        (lambda: mixer(num_classes=0), ValueError, "num_classes must be >= 1, got 0"),
        (lambda: mixer(num_classes=3.0), TypeError, "num_classes must be an integer"),
        (lambda: mixer(p=1.5), ValueError, r"p must be a probability in \[0, 1\], got 1.5"),
        (lambda: mixer(p=float("nan")), ValueError, "p must be a probability"),
        (lambda: mixer(generator=0), TypeError, "generator must be a torch.Generator, got int"),
        (lambda: mixer(features=torch.zeros(8, 3)), TypeError, "features must be a function.*mixer.plan"),
        (lambda: mixer()(NAN_ROWS, Y), ValueError, r"x has 2 row\(s\) with NaN or infinite.*first is row 2"),
        (lambda: mixer(k=1)(NAN_ROWS, Y), ValueError, r"x has 2 row\(s\)"),
        (lambda: mixer(k=2)(NAN_ROWS, Y), ValueError, r"x has 2 row\(s\)"),
        (lambda: mixer().plan(X, NAN_ROWS), ValueError, r"x2 has 2 row\(s\)"),
        (lambda: mixer(k=1).plan(X, NAN_ROWS), ValueError, r"x2 has 2 row\(s\)"),
        (
            lambda: mixer()(X.to(torch.uint8), Y),
            TypeError,
            r"got torch.uint8 \[8, 3\]. .*inputs are tensors or arrays, also in dicts and tuples.$",
        ),
        (lambda: mixer()(X.numpy().astype("uint8"), Y.numpy()), TypeError, "x must be floating point, got uint8"),
        (lambda: mixer()([1.0] * 8, Y), TypeError, "x must not be a list: stack its samples"),
        (lambda: mixer().plan([torch.rand(3, 8, 8)]), TypeError, "x must not be a list: stack its samples"),
        (lambda: mixer()(X, Y[:7]), ValueError, "x and y must have the same length, got 8 and 7"),
        (lambda: mixer()(X, Y + 3), ValueError, r"labels must lie in 0..2 .*got 8 outside, the first 3 at row 0"),
        (lambda: mixer()(X, Y - 1), ValueError, "labels must lie in 0..2"),
        (lambda: mixer(num_classes=None)(X, Y), ValueError, "num_classes is required"),
        (lambda: mixer()(X, Y.bool()), TypeError, "y must not be bool: use y.long"),
        (lambda: mixer()(X, Y.view(2, 4)), ValueError, r"integer labels must have shape \[B\].* got \[2, 4\]"),
        (lambda: mixer()(X[0], Y[0]), ValueError, r"got \[\]. Mixing acts on batches"),
        (lambda: mixer()(X, [0] * 8), TypeError, "y must be a tensor or a numpy array, got list"),
        (
            lambda: mixer()(X),
            TypeError,
            r"got 1 argument.*keep what is beside them, or .*; without labels: plan = mixer.plan\(x\); plan.mix\(x\).$",
        ),
        (lambda: mixer()(X, Y, X), TypeError, r"got 3 argument"),
        (lambda: mixer()({"image": X, "category": Y}), ValueError, "the labels must be one of the keys"),
        (lambda: mixer()({"image": X, "label": Y, "y": Y}), ValueError, "labels_getter"),
        (
            lambda: mixer()({"image": X.view(8, 3, 1).byte(), "label": Y}),
            TypeError,
            r"'image' holds.*to float.*leaves=",
        ),
        (lambda: mixer()({"a": X, "b": X, "label": Y}), ValueError, "one floating-point tensor to match on, got 2"),
        (
            lambda: mixer().plan(X, X[:4]),
            ValueError,
            r"got \[8, 3\] and \[4, 3\]. Drop the last incomplete batch \(drop_last=True\).$",
        ),
        (lambda: mixer().plan(X[:0]), ValueError, "a batch of at least one sample"),
        (lambda: mixer().plan(torch.tensor(1.0)), ValueError, "a batch of at least one sample"),
        (lambda: mixer(metric=lambda a, b: a).plan(X), ValueError, r"metric must return a tensor of costs \[2, 4, 4\]"),
        (lambda: mixer(metric=lambda a, b: torch.cdist(a, b) / 0).plan(X), ValueError, "cost must be finite"),
    ],
)
def test_bad_input_is_refused_with_the_argument_and_the_remedy(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_batches_whose_squares_overflow_are_matched_all_the_same():
    x = rand(8, 3, seed=3)
    plans = [KMixup(4, 1.0, generator=generator()).plan(scale * x) for scale in (1.0, 2.0**126)]
    torch.testing.assert_close(plans[1].partner, plans[0].partner)
