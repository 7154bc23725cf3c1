"""Matching that knows labels: against scipy block by block, and what it must leave alone."""

import math
import warnings
from itertools import permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch._dynamo.testing import CompileCounter

from kmixup import KManifoldMixup, KMixup, calibrate, cut
from kmixup.labels import cut_blocks


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points(batch: int = 24, d: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, d, generator=stream(seed), dtype=torch.float64)


def classes(batch: int = 24, of: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randint(of, (batch,), generator=stream(seed))


def quiet(call):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()


# --- the definition, written again: lists, loops, scipy -------------------------------------------------------------


def distance(a, b) -> float:
    """1 for different classes; one minus the overlap of soft targets."""
    if np.ndim(a) == 0:
        return float(a != b)
    most = np.maximum(a, b).sum()
    return 0.0 if most == 0 else 1.0 - np.minimum(a, b).sum() / most


def blocks_of(order, k, rolled, groups, where):
    """Pairs of blocks (rows on the left, rows on the right), and the k of each row."""
    found, allowed = [], [0] * len(order)
    for group in sorted(set(groups)):
        rows = [i for i in order if groups[i] == group and where[i]]
        n = len(rows)
        if n == 0:
            continue
        fits = min(k, max(1, n // 2)) if rolled else min(k, n)
        left = rows if rolled else sorted(rows)
        for head in range(0, n, fits):
            places = range(head, min(head + fits, n))
            right = [rows[(j - fits) % n] if rolled else rows[j] for j in places]
            found.append(([left[j] for j in places], right))
        for i in rows:
            allowed[i] = 0 if n == 1 else fits
    return found, allowed


def shifted_cost(x, y, weight, left, right):
    cost = ((x[left][:, None] - x[right][None]) ** 2).sum(-1)
    if weight:
        cost = cost + weight * cost.mean() * np.array([[distance(y[i], y[j]) for j in right] for i in left])
    return cost


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_every_block_is_matched_at_the_cost_that_scipy_finds_for_the_definition(data):
    batch = data.draw(st.integers(2, 17), "batch")
    k = data.draw(st.integers(1, 6), "k")
    pairing = data.draw(st.sampled_from(["roll", "shuffle"]), "pairing")
    within = data.draw(st.sampled_from([None, "label"]), "within")
    weight = data.draw(st.sampled_from([0.0, 0.7, 30.0, -2.0]), "label_weight")
    soft = weight != 0 and within is None and data.draw(st.booleans(), "soft")
    masked = data.draw(st.booleans(), "where") or (within is None and weight == 0)
    seed = data.draw(st.integers(0, 10**6), "seed")
    x, y = points(batch, seed=seed), classes(batch, seed=seed)
    y = torch.rand(batch, 4, generator=stream(seed), dtype=torch.float64) if soft else y
    where = torch.rand(batch, generator=stream(seed + 1)) < 0.6 if masked else None
    mixer = KMixup(k, 1.0, pairing=pairing, within=within, label_weight=weight, generator=stream(seed))
    plan = quiet(lambda: mixer.plan(x, y=y, where=where))
    order = torch.randperm(batch, generator=stream(seed)).tolist()
    groups = y.tolist() if within else [0] * batch
    taking = where.tolist() if masked else [True] * batch
    largest = max(1, batch // 2) if pairing == "roll" else batch
    found, allowed = blocks_of(order, min(k, largest), pairing == "roll", groups, taking)
    assert plan.k.tolist() == allowed
    assert plan.lam.shape == ()
    left_alone = set(range(batch))
    for left, right in found:
        partner = plan.partner[left].tolist()
        assert sorted(partner) == sorted(right)
        assert plan.unmatched[left].tolist() == right
        cost = shifted_cost(x.numpy(), y.numpy(), weight, left, right)
        mine = sum(cost[i, right.index(j)] for i, j in enumerate(partner))
        best = cost[linear_sum_assignment(cost)].sum()
        assert mine == pytest.approx(best, rel=1e-9, abs=1e-9)
        left_alone -= set(left)
    assert all(plan.partner[i] == i for i in left_alone)


@pytest.mark.parametrize("pairing", ["roll", "shuffle"])
@pytest.mark.parametrize(("batch", "k"), [(24, 4), (23, 4), (23, 1), (16, 8), (17, 8)])
def test_one_group_of_all_rows_is_the_matching_without_labels(batch, k, pairing):
    x, order, lam = points(batch), torch.randperm(batch, generator=stream()), torch.tensor(0.3, dtype=torch.float64)
    mixer = KMixup(k, 1.0, pairing=pairing)
    blocks = cut_blocks(order, k, rolled=pairing == "roll")
    one = blocks.plan(x, lam, y=classes(batch), metric="sqeuclidean", solver="auto")
    plain = mixer.meet(x, order, lam)
    assert torch.equal(one.partner, plain.partner)
    assert torch.equal(one.unmatched, plain.unmatched)
    assert one.k.tolist() == [k] * batch


def test_a_small_block_meets_the_cheapest_permutation_of_all():
    x, y = points(8), torch.tensor([0, 0, 1, 1, 2, 2, 0, 1])
    plan = KMixup(4, 1.0, label_weight=1.5, generator=stream()).plan(x, y=y)
    order = torch.randperm(8, generator=stream()).tolist()
    for left, right in ((order[:4], order[4:]), (order[4:], order[:4])):
        cost = shifted_cost(x.numpy(), y.numpy(), 1.5, left, right)
        best = min(sum(cost[i, s[i]] for i in range(4)) for s in permutations(range(4)))
        mine = sum(cost[i, right.index(int(plan.partner[row]))] for i, row in enumerate(left))
        assert mine == pytest.approx(best)


# --- within classes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["indices", "column", "one-hot", "smoothed", "multi-hot", "bool rows"])
def test_within_label_never_crosses_classes_whatever_holds_them(kind):
    y = classes(64, of=4)
    one_hot = F.one_hot(y, 4)
    sets = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 1], [1, 1, 1]])[y]
    given_as = {
        "indices": y.to(torch.uint8),
        "column": y.unsqueeze(1),
        "one-hot": one_hot.float(),
        "smoothed": 0.9 * one_hot.float() + 0.025,
        "multi-hot": sets.half(),
        "bool rows": sets.bool(),
    }[kind]
    plan = KMixup(8, 1.0, within="label", generator=stream()).plan(points(64), y=given_as)
    assert torch.equal(y[plan.partner], y)
    assert plan.partner.sort().values.tolist() == list(range(64))
    assert plan.stats(points(64), y).same_class_share == 1.0
    assert plan.stats(points(64), y).self_share == 0.0


def test_two_columns_are_rows_of_two_classes():
    y = classes(of=2)
    plan = KMixup(4, 1.0, within="label", generator=stream()).plan(points(), y=F.one_hot(y).float())
    assert torch.equal(y[plan.partner], y)


def test_a_class_uses_the_largest_k_that_fits_and_one_sample_stays_as_it_is():
    y = torch.tensor([0] * 16 + [1] * 15 + [2] * 3 + [3] * 2 + [4])
    x = points(37)
    x[-1, 0] = -0.0
    mixer = KMixup(8, 1.0, within="label", num_classes=5, generator=stream())
    plan = mixer.plan(x, y=y)
    assert plan.k.tolist() == [8] * 16 + [7] * 15 + [1] * 3 + [1] * 2 + [0]
    assert plan.partner[36] == 36
    assert plan.partner[34:36].tolist() == [35, 34]
    assert not (plan.partner[:36] == torch.arange(36)).any()
    x_mixed, y_soft = mixer(x, y)
    assert torch.equal(x_mixed[36].view(torch.int64), x[36].view(torch.int64))
    torch.testing.assert_close(y_soft, F.one_hot(y, 5).float())  # within a class a label is its own mixture


def test_a_sample_that_is_alone_in_its_class_has_the_weight_one_and_no_other_has():
    mixer = KMixup(4, 1.0, lam_per="sample", within="label", generator=stream())
    plan = quiet(lambda: mixer.plan(points(7), y=torch.tensor([0] * 4 + [1] * 2 + [2])))
    assert plan.k.tolist() == [2] * 4 + [1] * 2 + [0]
    assert (plan.lam == 1).tolist() == [False] * 6 + [True]


def test_a_batch_of_classes_of_one_sample_mixes_nothing():
    plan = quiet(lambda: KMixup(4, 1.0, within="label").plan(points(5), y=torch.arange(5)))
    assert plan.k.tolist() == [0] * 5
    assert torch.equal(plan.mix(points(5)), points(5))


# --- the cost of labels -----------------------------------------------------------------------------------------------


def same_share(weight: float) -> float:
    x, y = points(64), classes(64)
    plan = KMixup(16, 1.0, label_weight=weight, generator=stream()).plan(x, y=y)
    return plan.stats(x, y).same_class_share


def test_a_weight_moves_pairs_towards_the_own_class_and_a_negative_one_away():
    assert same_share(-100.0) < same_share(-0.5) < same_share(0.0) < same_share(0.5) < same_share(100.0)


def test_a_weight_of_zero_is_the_matching_without_labels():
    plans = [KMixup(8, 1.0, generator=stream(), **w).plan(points(), y=classes()) for w in ({}, {"label_weight": 0.0})]
    assert torch.equal(plans[0].partner, plans[1].partner)
    assert plans[1].k is None


def test_a_vast_weight_crosses_classes_only_where_it_must():
    x, y = points(64), classes(64)
    plan = KMixup(32, 1.0, label_weight=1e6, generator=stream()).plan(x, y=y)
    order = torch.randperm(64, generator=stream())
    counts = [torch.bincount(y[half], minlength=3) for half in (order[:32], order[32:])]
    assert int((y[plan.partner] == y).sum()) == 2 * int(torch.minimum(*counts).sum())


@pytest.mark.parametrize("soft", [False, True])
def test_under_a_vast_weight_samples_are_matched_as_under_a_large_one(soft):
    x, y = points(64).float(), classes(64)
    y = 0.9 * F.one_hot(y).float() + 0.03 if soft else y
    mixers = (KMixup(32, 1.0, label_weight=weight, generator=stream()) for weight in (1e3, 1e8))
    large, vast = (mixer.plan(x, y=y).stats(x, y) for mixer in mixers)
    assert vast.same_class_share == large.same_class_share
    assert vast.matched_sq_distance == pytest.approx(large.matched_sq_distance, rel=1e-5)


def test_one_hot_targets_cost_what_their_classes_cost():
    x, y = points(), classes()
    plans = [KMixup(6, 1.0, label_weight=0.8, generator=stream()).plan(x, y=each) for each in (y, F.one_hot(y).float())]
    assert torch.equal(plans[0].partner, plans[1].partner)


# --- matching on targets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(24,), (24, 1), (24, 2), (24, 2, 2)])
def test_matching_on_the_target_is_the_plan_of_the_targets_themselves(shape):
    y = torch.randn(shape, generator=stream(3), dtype=torch.float64)
    plan = KMixup(6, 1.0, match_on="target", generator=stream()).plan(points(), y=y)
    expected = KMixup(6, 1.0, generator=stream()).plan(y)
    assert torch.equal(plan.partner, expected.partner)
    assert plan.k is None  # the compiled core serves as it does without labels


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_matching_on_both_adds_squared_distances_in_units_of_their_mean(metric, offset):
    x, y = points() * 7 + offset, points(24, 1, seed=3) / 100 - offset
    plan = KMixup(12, 1.0, metric=metric, match_on="both", generator=stream()).plan(x, y=y)

    def over_mean(p):
        cost = ((p[:, None] - p[None]) ** 2).sum(-1).numpy()
        return cost / cost.mean()

    cost = over_mean(x) + over_mean(y)
    cost = np.sqrt(cost) if metric == "euclidean" else cost
    order = torch.randperm(24, generator=stream()).numpy()
    for left, right in ((order[:12], order[12:]), (order[12:], order[:12])):
        block = cost[np.ix_(left, right)]
        best = block[linear_sum_assignment(block)].sum()
        assert cost[left, plan.partner[left].numpy()].sum() == pytest.approx(best, rel=1e-9)


def test_units_of_both_hold_for_inputs_whose_squares_overflow():
    x, y = points().float(), points(24, 1, seed=3).float()
    plans = [KMixup(6, 1.0, match_on="both", generator=stream()).plan(scale * x, y=y) for scale in (1.0, 2.0**90)]
    assert torch.equal(plans[0].partner, plans[1].partner)


def test_what_does_not_vary_is_no_part_of_both():
    plan = KMixup(6, 1.0, match_on="both", generator=stream()).plan(points(), y=torch.ones(24))
    assert torch.equal(plan.partner, KMixup(6, 1.0, generator=stream()).plan(points()).partner)


def test_rows_left_out_have_no_part_in_the_units_of_both():
    where = torch.arange(24) % 3 > 0
    x, y = points(), points(24, 1, seed=3)
    x[~where], y[~where] = torch.nan, torch.inf
    plan = KMixup(4, 1.0, match_on="both", generator=stream()).plan(x, y=y, where=where)
    few = KMixup(4, 1.0, match_on="both", generator=stream())
    x[~where], y[~where] = 1e9, -1e9
    assert torch.equal(plan.partner, few.plan(x, y=y, where=where).partner)
    assert where[plan.partner[where]].all()


# --- some rows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam_per", ["batch", "block", "sample"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rows_left_out_keep_every_bit_and_may_hold_anything(lam_per, dtype):
    where = torch.arange(24) % 3 > 0
    x, y = points().to(dtype), classes()
    x[0], x[3], x[6] = torch.nan, torch.inf, -0.0
    mixer = KMixup(4, 1.0, lam_per=lam_per, num_classes=3, generator=stream())
    plan = mixer.plan(x, where=where)
    assert plan.lam.shape == (() if lam_per == "batch" else (24,))
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    mixed = plan.mix(x)
    numbers = ~where & ~x.isnan().any(1)
    assert torch.equal(mixed[numbers].view(bits), x[numbers].view(bits))
    assert mixed[0].isnan().all()
    assert mixed[where].isfinite().all()
    assert not torch.equal(mixed[where], x[where])
    assert where[plan.partner[where]].all()
    x_mixed, y_soft = mixer(x, y, where=where.numpy())
    assert torch.equal(x_mixed[numbers].view(bits), x[numbers].view(bits))
    assert torch.equal(y_soft[~where], F.one_hot(y, 3).float()[~where])


def test_an_infinite_loss_of_a_row_left_out_stays_infinite_and_alone():
    where = torch.arange(8) > 0
    plan = KMixup(2, 1.0, generator=stream()).plan(points(8), where=where)
    losses = torch.ones(8, dtype=torch.float64)
    losses[0] = torch.inf
    assert plan.loss(lambda o, y: losses, None, torch.arange(8)) == torch.inf
    assert plan.accuracy(torch.eye(8), torch.arange(8)) > 1 / 8


def test_a_mask_of_nothing_is_the_identity_and_of_all_is_the_plain_plan():
    x = points()
    none = KMixup(4, 1.0, generator=stream()).plan(x, where=torch.zeros(24, dtype=torch.bool))
    assert torch.equal(none.mix(x), x)
    assert none.k.tolist() == [0] * 24
    every = KMixup(4, 1.0, generator=stream()).plan(x, where=torch.ones(24, dtype=torch.bool))
    plain = KMixup(4, 1.0, generator=stream()).plan(x)
    assert torch.equal(every.partner, plain.partner)
    assert every.lam == plain.lam


def test_rows_left_out_of_a_cut_keep_every_pixel():
    x, where = torch.rand(12, 3, 8, 8), torch.arange(12) < 7
    plan = cut(KMixup(2, 1.0, generator=stream()).plan(x, where=where), (8, 8), generator=stream())
    assert torch.equal(plan.mix(x)[~where], x[~where])
    assert (plan.weights[~where] == 1).all()


# --- with everything else ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam_per", ["batch", "block", "sample"])
def test_labels_and_masks_leave_the_stream_where_it_was(lam_per):
    """What is drawn depends on the batch's size and lam_per: another batch starts alike, whoever was in the first."""
    after = []
    for seed in range(3):
        mixer = KMixup(4, 1.0, lam_per=lam_per, within="label", p=0.5, generator=stream())
        mixer.plan(points(), y=classes(seed=seed), where=torch.rand(24, generator=stream(seed)) < 0.7)
        after.append(mixer.generator.get_state())
    assert torch.equal(after[0], after[1])
    assert torch.equal(after[0], after[2])


@pytest.mark.parametrize("pairing", ["roll", "shuffle"])
def test_one_lam_per_block_is_one_for_each_block_within_a_class(pairing):
    y, order = classes(48), torch.randperm(48, generator=stream())
    mixer = KMixup(4, 1.0, pairing=pairing, lam_per="block", within="label", generator=stream())
    plan = mixer.plan(points(48), y=y)
    found, _ = blocks_of(order.tolist(), 4, pairing == "roll", y.tolist(), [True] * 48)
    assert all(len(plan.lam[left].unique()) == 1 for left, _ in found)
    assert len(plan.lam.unique()) == len(found)


def test_a_dict_sample_is_matched_by_its_own_labels():
    sample = {"image": points().view(24, 3, 1, 1), "label": classes(), "index": torch.arange(24)}
    where = torch.arange(24) > 3
    mixer = KMixup(4, 1.0, within="label", num_classes=3, generator=stream())
    mixed = mixer(sample, where=where)
    x, soft = KMixup(4, 1.0, within="label", num_classes=3, generator=stream())(
        sample["image"], sample["label"], where=where
    )
    assert torch.equal(mixed["image"], x)
    assert torch.equal(mixed["label"], soft)
    arrays = KMixup(4, 1.0, within="label", num_classes=3, generator=stream())(
        sample["image"].numpy(), sample["label"].numpy(), where=where.numpy()
    )
    assert np.array_equal(arrays[0], x.numpy())


def test_parts_and_copies_of_a_plan_know_what_is_not_mixed():
    x, where = points(), torch.arange(24) % 3 > 0
    plan = KMixup(4, 1.0, generator=stream()).plan(x, where=where)
    parts = plan.split(7)
    assert torch.equal(torch.cat([part.mix(x) for part in parts]), plan.mix(x))
    assert torch.equal(torch.cat([part.k for part in parts]), plan.k)
    assert torch.equal(plan.to("cpu").k, plan.k)


RULES = [
    {"within": "label"},
    {"label_weight": 0.7},
    {"within": "label", "lam_per": "block"},
    {"pairing": "shuffle", "label_weight": -1.0},
]


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_a_compiled_graph_draws_by_labels_what_eager_draws(rule, masked):
    torch._dynamo.reset()
    x, y, where = points(), classes(), torch.arange(24) % 4 > 0 if masked else None
    eager, traced = (KMixup(4, 1.0, num_classes=3, generator=stream(), **rule) for _ in range(2))
    compiled = torch.compile(lambda x, y, where: traced(x, y, where=where), fullgraph=True, backend="eager")
    for _ in range(2):
        for one, other in zip(eager(x, y, where=where), compiled(x, y, where), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_schedule_of_the_weight_compiles_once_and_is_followed():
    torch._dynamo.reset()
    counter = CompileCounter()
    mixer, eager = (KMixup(8, math.inf, label_weight=1.0, num_classes=3, generator=stream()) for _ in range(2))
    compiled = torch.compile(lambda x, y: mixer(x, y), fullgraph=True, backend=counter)
    for weight in (1.0, 5.0, -3.0):
        mixer.label_weight = eager.label_weight = weight
        torch.testing.assert_close(compiled(points(), classes())[0], eager(points(), classes())[0], rtol=0, atol=0)
    assert counter.frame_count == 1


def test_matching_on_targets_compiles():
    torch._dynamo.reset()
    for match_on in ("target", "both"):
        eager, traced = (KMixup(4, 1.0, match_on=match_on, generator=stream()) for _ in range(2))
        compiled = torch.compile(lambda x, y, mixer=traced: mixer(x, y), fullgraph=True, backend="eager")
        y = points(24, 1, seed=2)
        torch.testing.assert_close(compiled(points(), y)[0], eager(points(), y)[0])


def test_off_asks_for_nothing():
    for mixer in (KMixup(4, 0.0, within="label"), KMixup(4, 1.0, label_weight=1.0).eval()):
        assert torch.equal(mixer.plan(points(), where="anything").mix(points()), points())


def test_the_arguments_show_and_may_be_assigned_to():
    mixer = KMixup(4, 1.0, within="label", label_weight=0.5, match_on="both")
    assert "within='label', label_weight=0.5, match_on='both'" in repr(mixer)
    mixer.within, mixer.label_weight, mixer.match_on = None, 0.0, "inputs"
    assert "within" not in repr(mixer)
    assert mixer.plan(points()).k is None


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"within": "class"}, 'within must be None or "label"'),
        ({"label_weight": math.inf}, "label_weight must be a finite number"),
        ({"label_weight": True}, "label_weight must be a finite number"),
        ({"match_on": "y"}, "match_on must be one of inputs, target, both"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        KMixup(4, 1.0, **options)


@pytest.mark.parametrize(
    ("options", "y", "message"),
    [
        ({"within": "label"}, None, r"y is required: this mixer has within, .* mixer.plan\(x, y=y\).$"),
        ({"within": "label"}, torch.zeros(23), "batch length 24"),
        (
            {"within": "label"},
            torch.rand(24),
            r'within="label" needs class indices .* For regression targets use match_on="target" or "both".$',
        ),
        (
            {"within": "label"},
            torch.rand(24, 3),
            r'^within="label" needs classes: class indices .*with two different numbers in all, got 72. .*label_weight',
        ),
        (
            {"within": "label"},
            torch.zeros(24, 3, dtype=torch.int64),
            r"rows \[B, C\] in floating point, got torch.int64",
        ),
        (
            {"label_weight": 1.0},
            torch.randn(24, 3),
            "^label_weight needs class indices, or soft or multi-label targets that are finite and not negative. For "
            'regression targets use match_on="target" or "both".$',
        ),
        (
            {"match_on": "both", "metric": "cosine"},
            torch.rand(24),
            "needs the metric sqeuclidean or euclidean, got 'cosine'. Or give features that hold the targets.$",
        ),
    ],
)
def test_labels_that_do_not_serve_are_named_with_the_remedy(options, y, message):
    with pytest.raises(ValueError, match=message):
        KMixup(4, 1.0, **options).plan(points(), y=y)


def test_types_that_do_not_serve_are_named_with_the_remedy():
    with pytest.raises(TypeError, match=r"match_on='target' needs floating-point targets.*within"):
        KMixup(4, 1.0, match_on="target").plan(points(), y=classes())
    with pytest.raises(TypeError, match="y must be a tensor or a numpy array to match by, got list"):
        KMixup(4, 1.0, within="label").plan(points(), y=list(range(24)))
    with pytest.raises(TypeError, match=r"where must be a boolean mask \[B\].*torch.int64"):
        KMixup(4, 1.0).plan(points(), where=torch.arange(24))
    with pytest.raises(ValueError, match=r"where must have shape \[24\]"):
        KMixup(4, 1.0).plan(points(), where=torch.ones(3, dtype=torch.bool))


def test_what_has_one_batch_or_no_labels_refuses_two_batches_and_asks():
    with pytest.raises(
        ValueError, match=r"within is for one batch, and x2 .*; conditions of two batches go into features.$"
    ):
        KMixup(4, 1.0, within="label").plan(points(), points(), y=classes())
    with pytest.raises(ValueError, match="where is for one batch"):
        KMixup(4, 1.0).plan(points(), points(), where=torch.ones(24, dtype=torch.bool))
    with pytest.raises(ValueError, match="this mixer has label_weight"):
        KManifoldMixup(torch.nn.Identity(), [], KMixup(4, 1.0, label_weight=1.0))(points())
    with pytest.raises(ValueError, match="the mixer has match_on, and there are no labels here"):
        calibrate(points(64), KMixup(4, 1.0, match_on="target"), alpha=1.0)
    with pytest.raises(ValueError, match="within and label_weight needs labels"):
        KMixup(4, 1.0, within="label", label_weight=2.0).pair(points(), torch.arange(24))


def test_a_row_that_is_not_finite_is_named_also_when_both_are_matched():
    x = points()
    x[5] = torch.nan
    with pytest.raises(ValueError, match=r"1 row\(s\) with NaN or infinite values, the first is row 5"):
        KMixup(4, 1.0, match_on="both").plan(x, y=torch.rand(24))
