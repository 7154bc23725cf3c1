"""Random structures, dtypes, layouts, modes and options against the definition in float64."""

from __future__ import annotations

import collections
import warnings

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import GaussianNB
from torch import nn

from kmixup import KManifoldMixup, KMixup, MixPlan, assign, cost_matrix
from kmixup.adapters.sklearn import KMixupSampler, Vicinal

Named = collections.namedtuple("Named", "first second")

BOUNDED = settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)
PRECISION = {torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float32: 2e-6, torch.float64: 1e-13}
PRECISION[torch.complex64] = PRECISION[torch.float32]

seeds = st.integers(0, 2**31)
batches = st.integers(1, 24)
options = st.fixed_dictionaries(
    {
        "k": st.integers(1, 12),
        "alpha": st.sampled_from([0.0, 0.05, 0.5, 1.0, 4.0, float("inf")]),
        "metric": st.sampled_from(["sqeuclidean", "euclidean", "cosine"]),
        "pairing": st.sampled_from(["roll", "shuffle"]),
        "lam_per": st.sampled_from(["batch", "block", "sample"]),
        "p": st.sampled_from([0.0, 0.5, 1.0]),
    }
)
shapes = st.sampled_from([(), (1,), (5,), (3, 2), (3, 4, 4), (2, 2, 3, 3)])
layouts = st.sampled_from(["contiguous", "channels last", "strided", "transposed", "numpy"])


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def leaf(batch: int, shape: tuple[int, ...], dtype: torch.dtype, layout: str, seed: int):
    x = torch.randn(batch, *shape, generator=generator(seed), dtype=torch.float64)
    x = torch.complex(x, x.flip(0)) if dtype.is_complex else x
    x = x.to(dtype)
    if layout == "channels last" and len(shape) in (3, 4):
        return x.to(memory_format=torch.channels_last if len(shape) == 3 else torch.channels_last_3d)
    if layout == "strided":
        return torch.stack([x, x], -1)[..., 0]
    if layout == "transposed" and shape:
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    return x.numpy() if layout == "numpy" and dtype != torch.bfloat16 else x


leaves = st.tuples(shapes, st.sampled_from([*PRECISION]), layouts, seeds)
structures = st.recursive(
    leaves,
    lambda part: st.one_of(
        st.lists(part, min_size=1, max_size=2),
        st.tuples(part, part).map(lambda pair: Named(*pair)),
        st.dictionaries(st.sampled_from("abc"), part, min_size=1, max_size=2),
    ),
    max_leaves=4,
)


def is_leaf(tree) -> bool:
    return isinstance(tree, tuple) and len(tree) == 4 and isinstance(tree[1], torch.dtype)


def built(tree, batch: int):
    if is_leaf(tree):
        return leaf(batch, *tree)
    if isinstance(tree, dict):
        return {name: built(part, batch) for name, part in tree.items()}
    parts = [built(part, batch) for part in tree]
    return type(tree)(*parts) if isinstance(tree, Named) else parts


def flat(tree) -> list:
    if isinstance(tree, (torch.Tensor, np.ndarray)):
        return [tree]
    parts = tree.values() if isinstance(tree, dict) else tree
    return [each for part in parts for each in flat(part)]


def wide(x) -> torch.Tensor:
    x = torch.as_tensor(x)
    return x.to(torch.complex128 if x.is_complex() else torch.float64)


def mixer(seed: int, **chosen) -> KMixup:
    return KMixup(**chosen, generator=generator(seed))


def quietly(call):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is too small for k")
        return call()


def definition(plan: MixPlan, x) -> torch.Tensor:
    """lam x + (1 - lam) x[partner], term by term; a term of weight 0 in the precision of x is left out."""
    precise = torch.as_tensor(x).dtype == torch.float64
    x, weights = wide(x), (plan.lam if precise else plan.lam.float()).double().expand(len(plan))
    rows = []
    for i, (j, lam) in enumerate(zip(plan.partner.tolist(), weights.tolist(), strict=True)):
        rows.append(x[i] if lam == 1 else x[j] if lam == 0 else lam * x[i] + (1 - lam) * x[j])
    return torch.stack(rows)


def assert_near(found, expected: torch.Tensor, dtype: torch.dtype) -> None:
    bound = PRECISION[dtype]
    torch.testing.assert_close(wide(found), expected, rtol=bound, atol=4 * bound, equal_nan=True)


# --- plans ------------------------------------------------------------------------------------------------------------


@BOUNDED
@given(options, batches, seeds, st.booleans(), st.booleans())
def test_a_plan_is_a_permutation_with_lam_in_its_shape(chosen, batch, seed, training, second):
    x = torch.randn(batch, 3, generator=generator(seed))
    other = torch.randn(batch, 3, generator=generator(seed + 1)) if second else None
    m = mixer(seed, **chosen).train(training)
    plan = quietly(lambda: m.plan(x, other))
    own = torch.arange(batch)
    assert plan.lam.shape == (() if chosen["lam_per"] == "batch" else (batch,))
    assert ((plan.lam >= 0) & (plan.lam <= 1)).all()
    for index in (plan.partner, plan.unmatched):
        assert torch.equal(index.sort().values, own)
    if not m.mixes:
        assert torch.equal(plan.partner, own)
        assert (plan.lam == 1).all()
        assert torch.equal(m.generator.get_state(), generator(seed).get_state())
    elif batch > 1 and not second and chosen["pairing"] == "roll":
        assert (plan.partner != own).all()
    assert len(repr(plan)) < 130


@BOUNDED
@given(
    options,
    st.integers(1, 24),
    st.integers(1, 40),
    seeds,
    st.sampled_from([1e-6, 1.0, 1e6]),
    st.sampled_from([0.0, 1e4]),
)
def test_every_block_is_matched_at_the_least_cost(chosen, batch, d, seed, scale, offset):
    x = (scale * (torch.randn(batch, d, generator=generator(seed)) + offset)).float()
    order = torch.randperm(batch, generator=generator(seed))
    k = min(chosen["k"], batch if chosen["pairing"] == "shuffle" else max(1, batch // 2))
    plan = quietly(lambda: mixer(seed, **chosen).meet(x, order, torch.tensor(0.5)))
    rows, columns = (torch.arange(batch), order) if chosen["pairing"] == "shuffle" else (order, order.roll(k))
    assert torch.equal(plan.unmatched[rows], columns)
    for block, candidates in zip(rows.split(k), columns.split(k), strict=True):
        cost = cost_matrix(x[block].double(), x[candidates].double(), chosen["metric"]).numpy()
        assert set(plan.partner[block].tolist()) == set(candidates.tolist())
        place = {int(c): i for i, c in enumerate(candidates)}
        found = sum(cost[i, place[int(j)]] for i, j in enumerate(plan.partner[block]))
        best = cost[linear_sum_assignment(cost)].sum()
        # Between points far from the origin a float32 cosine distance is rounding itself.
        slack = 1e-6 if chosen["metric"] == "cosine" else 1e-6 * best
        assert found <= best + slack


@BOUNDED
@given(
    st.integers(1, 4),
    st.integers(1, 9),
    seeds,
    st.sampled_from([torch.float16, torch.float32, torch.float64]),
    st.booleans(),
)
def test_an_assignment_costs_the_least(n, k, seed, dtype, ties):
    cost = torch.rand(n, k, k, generator=generator(seed)).to(dtype)
    cost = (4 * cost).round() if ties else cost
    sigma = assign(cost)
    exact = cost.double().numpy()
    for b in range(n):
        assert sorted(sigma[b].tolist()) == list(range(k))
        best = exact[b][linear_sum_assignment(exact[b])].sum()
        assert float(exact[b][np.arange(k), sigma[b]].sum()) == pytest.approx(best, rel=1e-6, abs=1e-9)


# --- what plans do ----------------------------------------------------------------------------------------------------


@BOUNDED
@given(structures, options, batches, seeds, st.booleans())
def test_every_leaf_of_any_structure_is_mixed_by_the_definition(tree, chosen, batch, seed, bad):
    x = built(tree, batch)
    plan = quietly(lambda: mixer(seed, **chosen).plan(torch.randn(batch, 2, generator=generator(seed))))
    if bad:  # what is not mixed stays where it is
        flat(x)[0][batch // 2] = float("nan")
    before = [torch.as_tensor(each).clone() for each in flat(x)]
    mixed = plan.mix(x)
    partners = plan.partner_of(x)
    assert type(mixed) is type(x)
    for own, old, new, theirs in zip(flat(x), before, flat(mixed), flat(partners), strict=True):
        assert type(new) is type(own)
        assert new.dtype == own.dtype
        torch.testing.assert_close(torch.as_tensor(own), old, rtol=0, atol=0, equal_nan=True)
        assert_near(new, definition(plan, own), old.dtype)
        torch.testing.assert_close(torch.as_tensor(theirs), old[plan.partner], rtol=0, atol=0, equal_nan=True)
        if isinstance(own, torch.Tensor) and own.ndim == 4 and own.is_contiguous(memory_format=torch.channels_last):
            assert new.is_contiguous(memory_format=torch.channels_last)


@BOUNDED
@given(
    options, st.integers(2, 24), seeds, st.sampled_from([(), (3,)]), st.booleans(),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]), st.integers(1, 24),
)  # fmt: skip
def test_a_loss_and_an_accuracy_are_those_of_the_definition(chosen, batch, seed, shape, ignored, dtype, size):
    plan = quietly(lambda: mixer(seed, **chosen).plan(torch.randn(batch, 2, generator=generator(seed))))
    outputs = torch.randn(batch, 4, *shape, generator=generator(seed)).to(dtype)
    y = torch.randint(4, (batch, *shape), generator=generator(seed))
    if ignored:
        y[1:][torch.rand(y[1:].shape, generator=generator(seed)) < 0.3] = -100
    lam = plan.lam.expand(batch).view(-1, *(1,) * len(shape))

    def per_entry(o, t):
        return nn.functional.cross_entropy(o, t, reduction="none")

    weights = [lam * (y >= 0), (1 - lam) * (y[plan.partner] >= 0)]
    count = weights[0].sum() + weights[1].sum()
    losses = [per_entry(outputs, t).double() for t in (y, y[plan.partner])]
    expected = sum((w * each).sum() for w, each in zip(weights, losses, strict=True)) / count
    found = plan.loss(per_entry, outputs, y)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6, equal_nan=True)
    hits = [(outputs.argmax(1) == t).double() for t in (y, y[plan.partner])]
    accuracy = sum((w * each).sum() for w, each in zip(weights, hits, strict=True)) / count
    torch.testing.assert_close(plan.accuracy(outputs, y).double(), accuracy, rtol=1e-5, atol=1e-6, equal_nan=True)
    if not ignored:  # means over parts are then weighted by their lengths alone
        parts = zip(plan.split(size), outputs.split(size), strict=True)
        total = sum(part.loss(per_entry, o, y).double() * len(part) for part, o in parts) / batch
        torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-6)


@BOUNDED
@given(
    options, batches, seeds, shapes, st.sampled_from([torch.bfloat16, torch.float32, torch.complex64]), st.booleans()
)
def test_a_call_mixes_inputs_and_labels_with_one_plan_and_has_its_shapes_on_meta_too(
    chosen, batch, seed, shape, dtype, training
):
    x = leaf(batch, shape, dtype, "contiguous", seed)
    y = torch.randint(3, (batch, 1), generator=generator(seed))
    if chosen["metric"] == "cosine" and shape == ():
        chosen = {**chosen, "metric": "sqeuclidean"}
    mixers = [KMixup(**chosen, num_classes=3, generator=generator(seed)).train(training) for _ in range(3)]
    mixed, soft = quietly(lambda: mixers[0](x, y))
    plan = quietly(lambda: mixers[1].plan(x))
    assert_near(mixed, definition(plan, x), dtype)
    assert_near(soft, definition(plan, nn.functional.one_hot(y[:, 0], 3)), torch.float32)
    on_meta = mixers[2](x.to("meta"), y.to("meta"))
    for there, here in zip(on_meta, (mixed, soft), strict=True):
        assert there.is_meta
        assert (there.shape, there.dtype) == (here.shape, here.dtype)


@BOUNDED
@given(options, st.integers(1, 16), seeds, st.sampled_from(["0", "1", "2"]), st.booleans())
def test_a_hidden_layer_is_mixed_as_if_the_rest_of_the_network_came_after(chosen, batch, seed, layer, training):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    x = torch.randn(batch, 3, generator=generator(seed), dtype=torch.float64)
    manifold = KManifoldMixup(model, [layer], mixer(seed, **chosen), mix_input=False).train(training)
    outputs, plan = quietly(lambda: manifold(x))
    cut = int(layer) + 1
    torch.testing.assert_close(outputs, model[cut:](definition(plan, model[:cut](x).detach())), rtol=1e-10, atol=1e-10)
    assert plan.lam.shape == (() if chosen["lam_per"] == "batch" else (batch,))


# --- the roles of leaves ----------------------------------------------------------------------------------------------

REALS = [torch.float16, torch.float32, torch.float64]
DTYPES = {
    "mix": [*PRECISION],
    "own": [torch.int64, torch.bool, *REALS],
    "drop": [torch.int64, torch.complex64],
    **{role: [torch.bool, torch.int32, torch.int64, *REALS] for role in ("union", "intersection", "max")},
}
roles = st.sampled_from([(role, dtype) for role, dtypes in DTYPES.items() for dtype in dtypes])
named = st.dictionaries(st.sampled_from("abcdef"), st.tuples(roles, shapes, layouts), max_size=4)


def by_its_role(role: str, plan: MixPlan, x) -> torch.Tensor:
    if role == "mix":
        return definition(plan, x)
    x, lam = wide(x), plan.lam.float().expand(len(plan)).view(-1, *(1,) * (torch.as_tensor(x).ndim - 1))
    theirs = torch.where(lam == 1, x, x[plan.partner])  # a partner of weight 0 plays no part
    own = torch.where(lam == 0, theirs, x)
    return {"own": x, "intersection": torch.minimum(own, theirs)}.get(role, torch.maximum(own, theirs))


@BOUNDED
@given(named, options, batches, seeds, st.booleans(), st.booleans())
def test_every_leaf_of_a_batch_follows_its_role_in_every_mode_and_has_its_shape_on_meta_too(
    parts, chosen, batch, seed, training, nested
):
    x = torch.randn(batch, 3, generator=generator(seed))
    y = torch.randint(3, (batch,), generator=generator(seed))
    built = {name: leaf(batch, shape, dtype, layout, seed) for name, ((_, dtype), shape, layout) in parts.items()}
    rules = {name: role for name, ((role, _), _, _) in parts.items()}
    below = ("group.{}" if nested else "{}").format
    sample = {"x": x, "y": y, **({"group": built} if nested else built)}
    leaves = {below(name): role for name, role in rules.items()}
    mixers = [mixer(seed, **chosen, leaves=leaves, features=lambda s: s["x"], num_classes=3) for _ in range(3)]
    plan = quietly(lambda: mixers[0].train(training).plan(sample))
    out = quietly(lambda: mixers[1].train(training)(sample))
    found = out["group"] if nested else out
    assert_near(out["y"], definition(plan, nn.functional.one_hot(y, 3)), torch.float32)
    assert_near(out["x"], definition(plan, x), torch.float32)
    for name, own in built.items():
        if not mixers[0].mixes:
            assert found[name] is own
        elif rules[name] == "drop":
            assert name not in found
        else:
            new, dtype = found[name], torch.as_tensor(own).dtype
            assert type(new) is type(own)
            assert new.dtype == own.dtype
            torch.testing.assert_close(
                wide(new),
                by_its_role(rules[name], plan, own),
                rtol=PRECISION.get(dtype, 0),
                atol=4 * PRECISION.get(dtype, 0),
            )
    there = {name: torch.as_tensor(own).to("meta") for name, own in built.items()}
    there = {"x": x.to("meta"), "y": y.to("meta"), **({"group": there} if nested else there)}
    on_meta = mixers[2].train(training)(there)
    assert set(on_meta) == set(out)
    for name, new in (on_meta["group"] if nested else on_meta).items():
        assert (new.is_meta, new.shape, new.dtype) == (True, found[name].shape, torch.as_tensor(found[name]).dtype)


# --- samplers ---------------------------------------------------------------------------------------------------------

sampled = st.fixed_dictionaries(
    {
        "k": st.integers(1, 8),
        "alpha": st.sampled_from([0.0, 0.05, 1.0, 1e9]),
        "pairing": st.sampled_from(["roll", "shuffle"]),
        "lam_per": st.sampled_from(["batch", "block", "sample"]),
        "draws": st.integers(1, 2),
        "keep_original": st.booleans(),
        "standardize": st.booleans(),
    }
)


def rows_of(plan: MixPlan, x, kinds, y, weight, continuous: bool) -> list[tuple]:
    """What the draws of a sampler must hold, row by row: numbers, category, target, weight."""
    rows = []
    for i, (j, lam) in enumerate(zip(plan.partner.tolist(), plan.lam.expand(len(plan)).tolist(), strict=True)):
        mixed = x[i] if lam == 1 else x[j] if lam == 0 else lam * x[i] + (1 - lam) * x[j]
        pair = [(kinds[i], y[i], lam * weight[i]), (kinds[j], y[j], (1 - lam) * weight[j])]
        total = sum(w for *_, w in pair)
        if kinds[i] == kinds[j] and (continuous or y[i] == y[j]):
            pair = [(kinds[i], sum(t * w for _, t, w in pair) / total, total)]
        rows += [(*mixed, kind, target, w) for kind, target, w in pair if w > 0]
    return rows


@BOUNDED
@given(sampled, st.integers(2, 20), st.integers(1, 3), seeds, st.booleans(), st.booleans(), st.booleans())
def test_the_rows_of_a_sampler_are_those_of_the_definition(chosen, n, d, seed, continuous, weighted, missing):
    rng = np.random.default_rng(seed)
    x, kinds = rng.normal(size=(n, d)), rng.integers(0, 3, n).astype(float)
    if missing:
        x[rng.random((n, d)) < 0.2] = np.nan
    y = rng.normal(size=n) if continuous else rng.integers(0, 3, n)
    weight = rng.integers(0, 3, n) + np.arange(n) % 2.0 if weighted else np.ones(n)
    sampler = KMixupSampler(**chosen, categorical_features=[d], random_state=seed)
    table, targets, weights = quietly(lambda: sampler.fit_resample(np.column_stack([x, kinds]), y, weight))
    kept = weight > 0
    x, kinds, y, weight = x[kept], kinds[kept], y[kept], weight[kept]
    expected = []
    weight = weight / (chosen["draws"] + chosen["keep_original"])
    if chosen["keep_original"]:
        expected += [(*row, kind, t, w) for row, kind, t, w in zip(x, kinds, y, weight, strict=True)]
    for plan in sampler.plans_:
        expected += rows_of(plan, x, kinds, y, weight, continuous)
    found = np.column_stack([table, targets, weights])
    order = [np.lexsort(np.round(np.nan_to_num(rows, nan=99.0), 9).T) for rows in (found, np.array(expected))]
    np.testing.assert_allclose(found[order[0]], np.array(expected)[order[1]], rtol=1e-9, atol=1e-9)
    if not weighted:
        assert weights.sum() == pytest.approx(n)


def loss_terms(sampler: KMixupSampler, x, y, weight) -> tuple[np.ndarray, ...]:
    """Input, target and weight of every term of the two-target loss, over all draws."""
    terms = [(x, y, weight)] if sampler.keep_original else []
    for plan in sampler.plans_:
        lam, j = plan.lam.double().expand(len(plan)).numpy(), plan.partner.numpy()
        mixed = lam[:, None] * x + (1 - lam)[:, None] * x[j]
        terms += [(mixed, y, lam * weight), (mixed, y[j], (1 - lam) * weight[j])]
    return tuple(np.concatenate(part) for part in zip(*terms, strict=True))


def weighted_table(n: int, d: int, seed: int, weighted: bool) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng, rng.normal(size=(n, d)), rng.integers(0, 3, n) + np.arange(n) % 2.0 if weighted else np.ones(n)


def fitted(estimator, chosen: dict, seed: int, x, y, weight) -> Vicinal:
    vicinal = Vicinal(estimator, KMixupSampler(**chosen, random_state=seed))
    return quietly(lambda: vicinal.fit(x, y, sample_weight=weight))


@BOUNDED
@given(sampled, st.integers(2, 20), st.integers(1, 3), seeds, st.sampled_from([(), (2,)]), st.booleans())
def test_a_vicinal_regression_is_where_the_two_target_loss_has_no_slope(chosen, n, d, seed, targets, weighted):
    rng, x, weight = weighted_table(n, d, seed, weighted)
    y = rng.normal(size=(n, *targets))
    vicinal = fitted(LinearRegression(), chosen, seed, x, y, weight)
    kept = weight > 0
    mixed, target, w = loss_terms(vicinal.sampler_, x[kept], y[kept], weight[kept])
    residual = w[:, None] * (vicinal.predict(mixed) - target).reshape(len(w), -1)
    slopes = residual.T @ np.column_stack([mixed, np.ones(len(w))])
    np.testing.assert_allclose(slopes, 0, atol=1e-9 * w.sum())


@BOUNDED
@given(sampled, st.integers(2, 20), st.integers(1, 3), seeds, st.integers(1, 4), st.booleans())
def test_a_vicinal_classifier_sees_the_moments_of_each_class_in_the_two_target_loss(
    chosen, n, d, seed, classes, weighted
):
    rng, x, weight = weighted_table(n, d, seed, weighted)
    y = rng.integers(0, classes, n)
    vicinal = fitted(GaussianNB(), chosen, seed, x, y, weight)
    kept = weight > 0
    mixed, target, w = loss_terms(vicinal.sampler_, x[kept], y[kept], weight[kept])
    bayes = vicinal.estimator_
    np.testing.assert_array_equal(vicinal.classes_, np.unique(target[w > 0]))
    for c, prior, mean, var in zip(
        bayes.classes_, bayes.class_prior_, bayes.theta_, bayes.var_ - bayes.epsilon_, strict=True
    ):
        of, share = mixed[target == c], w[target == c] / w[target == c].sum()
        assert prior == pytest.approx(w[target == c].sum() / w.sum())
        np.testing.assert_allclose(mean, share @ of, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(var, share @ (of - mean) ** 2, rtol=1e-7, atol=1e-7)
