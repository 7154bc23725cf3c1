"""Couplings of two sets: permutations, optimal block by block, also over ranks and for sets of different length."""

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor
from torch.nn import functional as F

from kmixup import Coupling


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def optimum(cost: np.ndarray) -> float:
    return float(cost[linear_sum_assignment(cost)].mean())


# --- pairs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "k"), [(64, 64), (64, 500), (64, 16), (50, 16), (7, 1), (1, 8)])
def test_a_coupling_permutes_the_second_set(n, k):
    plan = Coupling(k, generator=seeded())(rand(n, 3), rand(n, 3, seed=1))
    assert sorted(plan.partner.tolist()) == list(range(n))
    assert sorted(plan.unmatched.tolist()) == list(range(n))


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cosine"])
def test_within_one_block_the_coupling_is_optimal(metric):
    x0, x1 = rand(60, 2, 3), rand(60, 2, 3, seed=1) + 0.5
    plan = Coupling(60, metric=metric)(x0, x1)
    cost = cdist(x0.flatten(1), x1.flatten(1), metric)
    assert cost[np.arange(60), plan.partner].mean() == pytest.approx(optimum(cost), rel=1e-10)


def test_blocks_are_drawn_at_random_and_each_is_matched_optimally():
    x0, x1 = rand(48, 2), rand(48, 2, seed=1)
    coupling = Coupling(12, generator=seeded())
    first, again = coupling(x0, x1), coupling(x0, x1)
    assert not torch.equal(first.unmatched, again.unmatched)
    assert torch.equal(first.partner, Coupling(12, generator=seeded())(x0, x1).partner)
    order = torch.randperm(48, generator=seeded())
    order2 = first.unmatched[order]
    for block, other in zip(order.split(12), order2.split(12), strict=True):
        cost = cdist(x0[block], x1[other], "sqeuclidean")
        paired = (x0[block] - x1[first.partner[block]]).square().sum(1).mean()
        assert float(paired) == pytest.approx(optimum(cost), rel=1e-10)


def test_the_plan_is_a_point_and_a_velocity_of_each_straight_path():
    x0, x1 = rand(200, 4), rand(200, 4, seed=1)
    plan = Coupling(50, generator=seeded())(x0, x1)
    t, matched = 1 - plan.lam, x1[plan.partner]
    assert plan.lam.shape == (200,)
    torch.testing.assert_close(plan.mix(x0, x1), x0 + t[:, None] * (matched - x0))
    assert torch.equal(plan.partner_of(x0, x1), matched)
    uniform = (np.arange(200) + 0.5) / 200  # the largest deviation is about 0.5 / sqrt(n)
    assert np.abs(np.sort(t.numpy()) - uniform).max() < 5 * 0.5 / np.sqrt(200)
    assert (plan.lam * 2**24 % 1 != 0).any()  # drawn with the digits of float64, not of float32


def test_a_large_batch_is_coupled_once_and_trained_on_in_parts():
    x0, x1 = rand(100, 3), rand(100, 3, seed=1)
    plan = Coupling(100)(x0, x1)
    parts = plan.split(32)
    assert [len(part) for part in parts] == [32, 32, 32, 4]
    assert torch.equal(torch.cat([part.mix(x0, x1) for part in parts]), plan.mix(x0, x1))
    assert torch.equal(torch.cat([part.partner_of(x0, x1) for part in parts]), x1[plan.partner])


def test_it_couples_in_eval_mode_and_takes_arrays_and_gradients():
    x0, x1 = rand(20, 3), rand(20, 3, seed=1)
    coupling = Coupling(20).eval()
    expected = coupling(x0, x1).partner
    assert not torch.equal(expected, torch.arange(20))
    assert torch.equal(coupling(x0.numpy(), x1.numpy()).partner, expected)
    assert torch.equal(coupling(x0.clone().requires_grad_(), x1).partner, expected)
    assert torch.equal(coupling(x0.float(), x1.float().double()).partner, expected)


def test_a_network_that_measures_is_no_part_of_it_and_arguments_may_be_assigned_to():
    network = torch.nn.Linear(2, 2)
    coupling = Coupling(4, metric=network)
    assert not coupling.state_dict()
    assert not list(coupling.parameters())
    coupling.metric = "euclidean"
    assert coupling.metric == "euclidean"
    with pytest.raises(ValueError, match="k must be >= 1"):
        coupling.k = 0


def test_its_state_is_its_generators():
    coupling, other = Coupling(4, generator=seeded()), Coupling(4, generator=seeded(1))
    coupling(rand(20, 2), rand(20, 2))
    other.load_state_dict(coupling.state_dict())
    plans = [each(rand(20, 2), rand(20, 2, seed=1)) for each in (coupling, other)]
    assert torch.equal(plans[0].partner, plans[1].partner)
    assert torch.equal(plans[0].lam, plans[1].lam)


# --- conditions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
def test_conditions_are_a_term_of_the_cost(metric):
    x0, x1, c0, c1 = rand(40, 3), rand(40, 3, seed=1), rand(40, 2, 2, seed=2), rand(40, 2, 2, seed=3)
    plan = Coupling(40, metric=metric, weight=0.7)(x0, x1, c0, c1)
    cost = cdist(x0, x1, metric) + 0.7 * cdist(c0.flatten(1), c1.flatten(1), "sqeuclidean")
    assert cost[np.arange(40), plan.partner].mean() == pytest.approx(optimum(cost), rel=1e-10)
    assert torch.equal(
        Coupling(40, metric=metric, weight=0)(x0, x1, c0, c1).partner, Coupling(40, metric=metric)(x0, x1).partner
    )


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", torch.cdist])
def test_under_a_vast_weight_samples_are_coupled_as_under_a_large_one(metric):
    x0, x1 = rand(120, 8).float(), rand(120, 8, seed=1).float()
    y0, y1 = torch.arange(120) % 2, (torch.arange(120) % 3).clamp(max=1)  # 20 have to change class
    conditions = F.one_hot(y0).float(), F.one_hot(y1).float()
    couplings = (Coupling(120, metric=metric, weight=weight) for weight in (1e3, 1e8))
    large, vast = (coupling(x0, x1, *conditions).stats(x0, y0, x1, y1) for coupling in couplings)
    assert large.same_class_share == vast.same_class_share == pytest.approx(100 / 120)
    assert vast.matched_sq_distance == pytest.approx(large.matched_sq_distance, rel=1e-5)


def test_a_large_weight_couples_within_classes_where_they_are_equally_many():
    y0, y1 = torch.arange(40) % 4, (torch.arange(40) // 10)
    x0, x1 = rand(40, 3), rand(40, 3, seed=1) + 3 * y1[:, None]
    plan = Coupling(40, weight=1e6)(x0, x1, F.one_hot(y0).double(), F.one_hot(y1).double())
    assert torch.equal(plan.partner_of(y0, y1), y0)


# --- sets of different length -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(30, 30), (30, 45), (30, 500), (45, 30), (100, 7), (3, 1), (1, 3)])
@pytest.mark.parametrize("k", [8, 1000])
def test_a_longer_set_is_cut_and_a_shorter_one_repeated_evenly(n, m, k):
    plan = Coupling(k, generator=seeded())(rand(n, 2), rand(m, 2, seed=1))
    times = plan.partner.bincount(minlength=m)
    assert len(plan) == n
    assert int(times.min()) >= n // m
    assert int(times.max()) <= -(-n // m)


def test_what_is_cut_does_not_depend_on_the_cost():
    x1 = torch.arange(10.0)[:, None] ** 3  # far points, which the cheapest pairs would leave out
    coupling, times = Coupling(5, generator=seeded()), torch.zeros(10)
    for _ in range(400):
        times += coupling(torch.zeros(5, 1), x1).partner.bincount(minlength=10)
    assert (times - 200).abs().max() < 5 * 10  # five standard deviations of 400 fair coins


# --- torchcfm's sampler -----------------------------------------------------------------------------------------------


def test_sample_plan_is_the_support_of_pots_exact_plan():
    x0, x1 = rand(128, 2, 2, 2), rand(128, 2, 2, 2, seed=1)
    plan = 128 * ot.emd(ot.unif(128), ot.unif(128), cdist(x0.flatten(1), x1.flatten(1), "sqeuclidean"))
    mine, theirs = Coupling(128).sample_plan(x0, x1)
    assert torch.equal(mine, x0)
    assert torch.equal(theirs, x1[plan.argmax(1)])


def test_sample_plan_keeps_every_sample_and_labels_follow():
    x0, x1, y0, y1 = rand(60, 2), rand(60, 2, seed=1), torch.arange(60), torch.arange(60, 120)
    mine, theirs, own, matched = Coupling(16, generator=seeded()).sample_plan_with_labels(x0, x1, y0, y1)
    assert torch.equal(own, y0)
    assert sorted(matched.tolist()) == y1.tolist()
    assert torch.equal(theirs, x1[matched - 60])
    assert torch.equal(mine, x0)
    assert Coupling(16).sample_plan_with_labels(x0, x1)[2:] == (None, None)


def test_it_stands_in_for_the_sampler_of_torchcfms_matcher():
    reason = "torchcfm is not installed: pip install --no-deps torchcfm"
    matchers = pytest.importorskip("torchcfm.conditional_flow_matching", reason=reason)
    matcher = matchers.ExactOptimalTransportConditionalFlowMatcher(sigma=0.5)
    matcher.ot_sampler = Coupling(128)
    x0, x1, y1 = rand(128, 2, 2), rand(128, 2, 2, seed=1), torch.arange(128)
    partner = Coupling(128)(x0, x1).partner
    t, xt, ut, noise = matcher.sample_location_and_conditional_flow(x0, x1, return_noise=True)
    matched, time = x1[partner], t.view(-1, 1, 1)
    torch.testing.assert_close(ut, matched - x0)
    torch.testing.assert_close(xt, time * matched + (1 - time) * x0 + 0.5 * noise)
    *_, labels = matcher.guided_sample_location_and_conditional_flow(x0, x1, y1=y1)
    assert torch.equal(labels, partner)


# --- ranks ------------------------------------------------------------------------------------------------------------

SCRIPT = """
import sys, torch, torch.distributed as dist
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from kmixup import Coupling
dist.init_process_group("gloo")
rank = dist.get_rank()
everything = [torch.randn(50, 3, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in (0, 1)]
mine = slice(0, 20) if rank == 0 else slice(20, 50)
x0, x1, y1 = everything[0][mine], everything[1][mine], torch.arange(50)[mine]
generator = torch.Generator().manual_seed(0)
coupling = Coupling(50, group="world", generator=generator)
plan = coupling(x0, x1)
all0, all1 = coupling.gather(x0), coupling.gather(x1)
assert torch.equal(all0, everything[0]) and torch.equal(all1, everything[1])
assert (plan.start, len(plan), plan.whole) == (mine.start, len(x0), 50)
assert plan.mix(all0, all1).shape == x0.shape
same, matched, _, labels = coupling.sample_plan_with_labels(x0, x1, None, y1)
assert same is x0 and torch.equal(labels, plan.partner) and torch.equal(matched, all1[plan.partner])
parts = coupling.gather(plan.partner)  # of both ranks
cost = cdist(*everything, "sqeuclidean")
best = cost[linear_sum_assignment(cost)].sum()
assert abs(cost[range(50), parts].sum() - best) < 1e-9 * best
assert sorted(parts.tolist()) == list(range(50))
blocks = Coupling(8, group=dist.group.WORLD, generator=generator)(x0, x1)
assert sorted(coupling.gather(blocks.partner).tolist()) == list(range(50))
alone = [dist.new_group([each]) for each in range(2)][rank]
assert torch.equal(Coupling(8, group=alone).gather(x0), x0)
states = coupling.gather(generator.get_state()[None])
assert torch.equal(states[0], states[1])
said = []
try:
    Coupling(50, metric=lambda x, y: torch.zeros(3), group="world")(x0, x1)
except (ValueError, RuntimeError) as error:
    said.append(str(error))
x0[0, 0] = float("nan") if rank == 1 else 0.0
try:
    coupling(x0, x1)
except ValueError as error:
    said.append(str(error))
open(f"{sys.argv[1]}/said{rank}", "w").write("\\n".join(said))
dist.destroy_process_group()
"""


def test_ranks_draw_apart_unless_told_otherwise(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    lam = {}
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        options = ({}, {"per_process": False})
        lam[rank] = [Coupling(4, generator=seeded(), **each)(rand(20, 2), rand(20, 2, seed=1)).lam for each in options]
    assert not torch.equal(lam["0"][0], lam["1"][0])
    assert torch.equal(lam["0"][1], lam["1"][1])


@pytest.mark.slow
def test_two_gloo_ranks_couple_to_the_optimum_of_the_joined_batch(on_two_ranks, tmp_path):
    on_two_ranks(SCRIPT, tmp_path)
    (first, broken), (second, same) = ((tmp_path / f"said{rank}").read_text().split("\n") for rank in (0, 1))
    assert "metric must return a tensor of costs" in first
    assert "the first rank of the group could not couple" in second
    assert "x0 has 1 row(s) with NaN or infinite values, the first is row 20" in broken
    assert same == broken


# --- refusals ---------------------------------------------------------------------------------------------------------

x, c = torch.zeros(4, 2), torch.zeros(4, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Coupling(0), ValueError, "k must be >= 1"),
        (lambda: Coupling(2, metric="manhattan"), ValueError, "metric must be one of"),
        (lambda: Coupling(2, weight=-1.0), ValueError, "weight must be >= 0"),
        (lambda: Coupling(2, weight=float("nan")), ValueError, "weight must be >= 0"),
        (lambda: Coupling(2, generator=0), TypeError, "torch.Generator"),
        (lambda: Coupling(2)(x, torch.zeros(4, 3)), ValueError, "got 2 and 3 coordinates"),
        (lambda: Coupling(2)(x, x, c), ValueError, "^conditions0 and conditions1 go together: give both, or none.$"),
        (lambda: Coupling(2)(x, x, c, c[:2]), ValueError, r"conditions1 must be floating point, 4 rows.*\[2, 3\]"),
        (lambda: Coupling(2)(x, x, c.long(), c), ValueError, r". Class indices .*one_hot\(y\).float\(\).$"),
        (lambda: Coupling(2)(x, x, c, c[:, :2]), ValueError, "got 5 and 4 coordinates"),
        (lambda: Coupling(2)(x, x.long()), TypeError, "x1 must be floating point"),
        (lambda: Coupling(2)(x, x.index_fill(0, torch.tensor(3), torch.inf)), ValueError, "x1 has 1 .* is row 3"),
        (lambda: Coupling(2)(x, x, c, c / 0), ValueError, r"conditions1 has 4 row\(s\) with NaN"),
        (
            lambda: Coupling(2).sample_plan(x, x, replace=True),
            ValueError,
            "^replace=True draws pairs from a .*every sample instead.$",
        ),
        (
            lambda: Coupling(2, group="world")(x, x),
            RuntimeError,
            "^group needs torch.distributed: call .*init_process_group first.$",
        ),
    ],
)
def test_a_wrong_argument_is_named_in_the_error(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_printing_shows_what_decides_the_pairs():
    assert repr(Coupling(8, weight=2.0)) == "Coupling(k=8, metric='sqeuclidean', weight=2)"
