"""Section 3: manifolds and clusters, against closed forms, exact laws, independent solvers and simulation."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.ndimage import label
from scipy.optimize import linear_sum_assignment
from scipy.stats import binom
from torch.testing import assert_close

from kmixup import assign, cost_matrix, theory, transport_cost

MANIFOLDS = {
    "circle": theory.sphere(1),
    "2-sphere in 8 dimensions": theory.sphere(2, ambient=8),
    "2-torus": theory.torus(2),
    "swiss roll": theory.swiss_roll(),
    "swiss roll in 6 dimensions": theory.swiss_roll(ambient=6),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)


def line(m, spacing=1.0):
    return tensor([[spacing * i] for i in range(m)])


def real_counts(balls, k, draws, seed):
    """r, s and the number of crossing matches of real optimal matchings."""
    g = generator(seed)
    (x, x_labels), (y, y_labels) = balls.sample(draws, k, g), balls.sample(draws, k, g)
    m = len(balls.centres)
    cross = theory.cross_matches(x_labels, y_labels, assign(cost_matrix(x, y)))
    return theory.cluster_counts(x_labels, m), theory.cluster_counts(y_labels, m), cross


def random_balls(m, d, seed, *, share_of_exact=None, gap=None):
    """Balls in random position whose radius is set by `exact_up_to`, or by their gap in units of the diameter."""
    g = generator(seed)
    centres = torch.randn(m, d, generator=g, dtype=torch.float64)
    masses = torch.rand(m, generator=g, dtype=torch.float64) + 0.2
    if share_of_exact is not None:
        radius = share_of_exact * theory.exact_up_to(centres)
    else:
        radius = float(torch.pdist(centres).min()) / (2 * (1 + gap))
    return theory.Balls(centres, radius, masses / masses.sum())


# --- Definition 3.1 and Proposition 3.2


@pytest.mark.parametrize("name", MANIFOLDS)
def test_samples_lie_on_their_manifold(name):
    points = MANIFOLDS[name].sample(500, generator())
    assert MANIFOLDS[name].distance(points).max() < 1e-7
    assert points.dtype == torch.float64


@pytest.mark.parametrize("name", MANIFOLDS)
def test_distance_is_that_of_the_nearest_of_many_points(name):
    manifold = MANIFOLDS[name]
    cloud = manifold.sample(60_000, generator(1))
    # Halfway between two points of the manifold: where the segments of matched pairs run.
    around = (manifold.sample(300, generator(2)) + manifold.sample(300, generator(3))) / 2
    to_cloud, exact = torch.cdist(around, cloud).amin(1), manifold.distance(around)
    assert (exact <= to_cloud + 1e-9).all()
    spacing = torch.cdist(manifold.sample(300, generator(4)), cloud).amin(1).max()
    # Beside a point at distance D the nearest of the cloud is off by spacing^2 / 2D, or by spacing if D is small.
    assert (to_cloud - exact <= spacing).all()


@pytest.mark.parametrize("distance", [0.0, 1e-3, 0.5, 2.0, 4.7])
def test_swiss_roll_distance_is_right_across_the_whole_plane(distance):
    roll = theory.swiss_roll()
    t = torch.linspace(1.5 * math.pi, 4.5 * math.pi, 400_001, dtype=torch.float64)
    spiral = torch.stack([t * t.cos(), t * t.sin()], dim=1)
    g = generator(int(10 * distance))
    points = 18 * (2 * torch.rand(100, 2, generator=g, dtype=torch.float64) - 1)
    lifted = torch.stack([points[:, 0], torch.full((100,), -distance, dtype=torch.float64), points[:, 1]], dim=1)
    expected = torch.hypot(torch.cdist(points, spiral).amin(1), tensor(distance))
    assert_close(roll.distance(lifted), expected, rtol=0, atol=1e-6)


def holes(distance, eps, half_width, plane):
    """Components and holes of the eps-neighbourhood in a plane, counted on a grid."""
    axis = torch.linspace(-half_width, half_width, 501, dtype=torch.float64)
    u, v = torch.meshgrid(axis, axis, indexing="ij")
    inside = (distance(plane(u, v)) < eps).numpy()
    return label(inside)[1], label(~inside)[1] - 1


@pytest.mark.parametrize(
    ("manifold", "half_width", "plane", "below", "above"),
    [
        (theory.sphere(1), 2.5, lambda u, v: torch.stack([u, v], -1), (1, 1), (1, 0)),
        (theory.swiss_roll(), 20.0, lambda u, v: torch.stack([u, torch.full_like(u, 10), v], -1), (1, 0), (1, 1)),
    ],
)
def test_the_neighbourhood_changes_its_type_at_the_injectivity_radius(manifold, half_width, plane, below, above):
    radius = manifold.injectivity_radius
    assert holes(manifold.distance, 0.97 * radius, half_width, plane) == below
    assert holes(manifold.distance, 1.03 * radius, half_width, plane) == above


def test_excursion_of_a_chord_is_its_sagitta():
    circle = theory.sphere(1)
    x, y = circle.sample(200, generator(1)), circle.sample(200, generator(2))
    assert_close(theory.excursion(x, y, circle.distance), 1 - ((x + y) / 2).norm(dim=1))


@pytest.mark.parametrize("name", MANIFOLDS)
def test_excursion_is_at_most_half_the_segment(name):
    manifold = MANIFOLDS[name]
    x, y = manifold.sample(300, generator(1)), manifold.sample(300, generator(2))
    assert (theory.excursion(x, y, manifold.distance) <= (x - y).norm(dim=1) / 2 + 1e-9).all()


@pytest.mark.parametrize("name", MANIFOLDS)
@pytest.mark.parametrize("k", [1, 5, 60])
def test_the_share_within_the_neighbourhood_is_never_below_its_bound(name, k):
    manifold = MANIFOLDS[name]
    x, y = (manifold.sample(40 * k, generator(seed)).view(40, k, -1) for seed in (1, 2))
    cost = cost_matrix(x, y)
    sq_cost = transport_cost(cost, assign(cost))
    for share_of_radius in (0.1, 0.3, 1.0):
        eps = share_of_radius * manifold.injectivity_radius
        share = theory.manifold_share(x, y, manifold.distance, eps)
        assert (share >= theory.manifold_share_bound(sq_cost, eps) - 1e-12).all()
    assert theory.manifold_share_bound(100.0, 1.0) == 0.0


@pytest.mark.parametrize("name", MANIFOLDS)
def test_matches_come_to_stay_near_the_manifold_as_k_grows(name):
    study = theory.study_support(MANIFOLDS[name], [1, 16, 256], pairs=1024, min_draws=4, generator=generator())
    assert study.share[0] < study.share[1] < study.share[2]
    assert study.share[2] > 0.94
    assert study.draws == (1024, 64, 4)
    assert list(study.sq_cost) == sorted(study.sq_cost, reverse=True)


def test_squared_cost_falls_like_one_over_k_on_a_circle_not_its_square():
    study = theory.study_support(theory.sphere(1), [8, 32, 128, 512], pairs=8192, min_draws=24, generator=generator())
    assert study.slope(from_k=8) == pytest.approx(-1, abs=0.12)


@pytest.mark.parametrize(("manifold", "tolerance"), [(theory.sphere(2), 0.15), (theory.torus(3), 0.25)])
def test_squared_cost_follows_the_rate_of_its_dimension(manifold, tolerance):
    ks = [64, 256, 1024]
    study = theory.study_support(manifold, ks, pairs=4096, generator=generator())
    constants = tensor(study.sq_cost) / theory.matching_rate(tensor(ks), manifold.dim)
    assert constants.max() / constants.min() < 1 + tolerance


def test_a_random_subspace_changes_no_distance():
    flat, embedded = theory.sphere(2), theory.sphere(2, ambient=9)
    x, y = flat.sample(50, generator(1)), embedded.sample(50, generator(1))
    assert y.shape == (50, 9)
    assert_close(torch.cdist(x, x), torch.cdist(y, y))


# --- Lemma 3.3


@pytest.mark.parametrize(("d", "k", "seed"), [(1, 8, 0), (2, 32, 1), (5, 64, 2), (30, 16, 3)])
def test_for_two_clusters_the_lemma_is_exact_at_its_own_separation(d, k, seed):
    r, s, cross = real_counts(random_balls(2, d, seed, gap=1.001), k, 200, seed)
    assert_close(cross, theory.imbalance(r, s))
    assert cross.max() > 0


def test_three_clusters_in_a_line_break_the_lemma():
    """Two short hops are cheaper than a long one: 2 L^2 against (2 L)^2."""
    r, s = torch.tensor([1, 1, 0]), torch.tensor([0, 1, 1])
    flow = theory.cluster_flow(r, s, line(3))
    assert theory.imbalance(r, s) == 1
    assert flow.tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert theory.flow_cross_matches(flow) == 2
    x, y = tensor([[0.0], [1.0]]), tensor([[1.0], [2.0]])
    assert assign(cost_matrix(x, y)).tolist() == [0, 1]  # 0 -> 1 and 1 -> 2: both cross


def test_equidistant_clusters_break_the_lemma_at_its_own_separation():
    """Points on the near sides of their balls make two short hops cheaper than one of 3 Delta."""
    radius, side = 1.0, 4.01
    centres = side * tensor([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(3) / 2]])
    balls = theory.Balls(centres, radius)
    assert balls.gap > 2 * radius

    def towards(i, j):
        return centres[i] + 0.999 * radius * (centres[j] - centres[i]) / side

    x, y = torch.stack([towards(0, 1), towards(1, 2)]), torch.stack([towards(1, 0), towards(2, 1)])
    x_labels, y_labels = torch.tensor([0, 1]), torch.tensor([1, 2])
    assert (balls.distance(x).argmin(-1) == x_labels).all()
    assert balls.distance(torch.cat([x, y])).amin(-1).max() == 0
    cross = theory.cross_matches(x_labels, y_labels, assign(cost_matrix(x, y)))
    assert theory.imbalance(theory.cluster_counts(x_labels, 3), theory.cluster_counts(y_labels, 3)) == 1
    assert cross == 2
    assert radius > theory.exact_up_to(centres)


@pytest.mark.parametrize(
    ("m", "d", "k"), [(2, 3, 9), (3, 1, 16), (3, 2, 32), (4, 2, 24), (4, 5, 40), (5, 2, 30), (5, 3, 12)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_small_balls_match_as_the_flow_between_their_centres(m, d, k, seed):
    balls = random_balls(m, d, 10 * m + seed, share_of_exact=0.99)
    r, s, cross = real_counts(balls, k, 150, seed)
    assert_close(cross, theory.flow_cross_matches(theory.cluster_flow(r, s, balls.centres)))
    if m > 2:
        assert (cross >= theory.imbalance(r, s)).all()


def test_the_flow_exceeds_the_lemma_in_random_positions_too():
    excess = []
    for seed in range(20):
        balls = random_balls(4, 2, seed, share_of_exact=0.5)
        r, s, cross = real_counts(balls, 32, 40, seed)
        excess.append(bool((cross > theory.imbalance(r, s)).any()))
    assert sum(excess) > 10


@pytest.mark.parametrize(("m", "d"), [(2, 1), (3, 2), (4, 2), (6, 3)])
@pytest.mark.parametrize("seed", range(4))
def test_at_the_separation_of_the_lemma_at_most_m_minus_1_times_as_many_cross(m, d, seed):
    balls = random_balls(m, d, seed, gap=1.001)
    assert balls.gap > 2 * balls.radius
    r, s, cross = real_counts(balls, 24, 150, seed)
    lemma = theory.imbalance(r, s)
    assert (lemma <= cross).all()
    assert (cross <= (m - 1) * lemma).all()


@pytest.mark.parametrize("m", [2, 4, 7])
def test_clusters_in_a_line_reach_m_minus_1(m):
    r = torch.ones(m, dtype=torch.int64)
    r[-1] = 0
    s = r.flip(0)
    assert theory.imbalance(r, s) == 1
    assert theory.flow_cross_matches(theory.cluster_flow(r, s, line(m))) == m - 1


def test_on_a_line_the_flow_is_the_monotone_plan():
    g = generator(4)
    centres = torch.randn(6, 1, generator=g, dtype=torch.float64).sort(0).values
    masses = torch.rand(50, 6, generator=g)
    r, s = (theory.cluster_counts(torch.multinomial(masses, 40, replacement=True, generator=g), 6) for _ in range(2))
    flow = theory.cluster_flow(r, s, centres)
    ends_r, ends_s = r.cumsum(1), s.cumsum(1)
    overlap = torch.minimum(ends_r[:, :, None], ends_s[:, None]) - torch.maximum(
        (ends_r - r)[:, :, None], (ends_s - s)[:, None]
    )
    assert_close(flow, overlap.clamp_min(0))


@pytest.mark.parametrize(("m", "d"), [(3, 2), (5, 3), (9, 4)])
def test_the_flow_costs_what_an_assignment_of_repeated_centres_costs(m, d):
    g = generator(m)
    centres = torch.randn(m, d, generator=g, dtype=torch.float64)
    for _ in range(20):
        x_labels, y_labels = (torch.randint(m, (30,), generator=g) for _ in range(2))
        r, s = theory.cluster_counts(x_labels, m), theory.cluster_counts(y_labels, m)
        flow = theory.cluster_flow(r, s, centres)
        assert_close(flow.sum(1), r)
        assert_close(flow.sum(0), s)
        sq_distance = torch.cdist(centres, centres).square().numpy()
        cost = sq_distance[x_labels][:, y_labels]
        assert (flow.numpy() * sq_distance).sum() == pytest.approx(cost[linear_sum_assignment(cost)].sum())


@pytest.mark.parametrize("near", [1e-2, 1e-3, 2e-4])
def test_the_flow_is_optimal_among_centres_of_unequal_distances(near):
    g = generator()
    centres = tensor([[0.0], [near], [1.0]])
    counts = [theory.cluster_counts(torch.randint(3, (50, 30), generator=g), 3) for _ in range(2)]
    balls = theory.Balls(centres, 0.99 * theory.exact_up_to(centres))
    assert balls.radius < near / 4
    r, s, cross = real_counts(balls, 30, 50, seed=1)
    assert_close(cross, theory.flow_cross_matches(theory.cluster_flow(r, s, centres)))
    # On a line the plan is monotone: what goes over a gap is the difference of the masses on one side.
    flow = theory.cluster_flow(*counts, centres)
    over = (counts[0] - counts[1]).cumsum(1)
    assert_close(flow[:, 0, 1:].sum(1) - flow[:, 1:, 0].sum(1), over[:, 0])
    assert_close(torch.minimum(flow[:, 0, 1:].sum(1), flow[:, 1:, 0].sum(1)), torch.zeros(50, dtype=torch.int64))
    assert_close(torch.minimum(flow[:, :2, 2].sum(1), flow[:, 2, :2].sum(1)), torch.zeros(50, dtype=torch.int64))


def test_flows_come_in_any_batch_shape():
    labels = torch.randint(3, (2, 3, 4, 10), generator=generator())
    r = theory.cluster_counts(labels, 3)
    flow = theory.cluster_flow(r, r.flip(0), line(3))
    assert flow.shape == (2, 3, 4, 3, 3)
    assert_close(flow[1, 2, 3], theory.cluster_flow(r[1, 2, 3], r[0, 2, 3], line(3)))


def test_exact_up_to_is_the_separation_of_the_lemma_for_two_clusters_and_less_for_more():
    assert theory.exact_up_to(tensor([[0.0, 0.0], [8.0, 0.0]])) == pytest.approx(2.0)
    triangle = tensor([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(3) / 2]])
    # One hop for two: G = d^2 against detours of 4 d, so Delta = d (sqrt(24) - 4) / 8.
    assert theory.exact_up_to(triangle) == pytest.approx((math.sqrt(24) - 4) / 8)
    assert theory.exact_up_to(7 * triangle) == pytest.approx(7 * theory.exact_up_to(triangle))


# --- Theorem 3.4


@pytest.mark.parametrize(("k", "masses"), [(1, [0.5, 0.5]), (7, [0.3, 0.7]), (12, [0.2, 0.5, 0.3]), (30, [0.05] * 20)])
def test_expected_imbalance_equals_the_double_sum_over_binomials(k, masses):
    t = np.arange(k + 1)
    expected = 0.0
    for p in masses:
        law = binom.pmf(t, k, p)
        expected += 0.5 * (law[:, None] * law[None] * abs(t[:, None] - t[None])).sum()
    assert theory.expected_imbalance(k, tensor(masses)) == pytest.approx(expected)


@pytest.mark.parametrize("k", [4, 32, 128])
def test_expected_imbalance_is_within_five_sigma_of_real_matchings_of_two_clusters(k):
    balls = theory.Balls(tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]]), 0.5, tensor([0.3, 0.7]))
    study = theory.study_clusters(balls, [k], draws=400, generator=generator(k))[0]
    assert abs(study.optimal.mean - study.lemma_exact) < 5 * study.optimal.std_error
    assert study.lemma_exact <= study.bound == study.bound_hops


def test_the_exact_mean_tends_to_the_gaussian_share_of_the_bound():
    masses = tensor([0.2, 0.3, 0.5])
    ratio = theory.expected_imbalance(20_000, masses) / (20_000 * theory.cross_share_bound(20_000, masses))
    assert ratio == pytest.approx(math.sqrt(2 / math.pi), rel=1e-3)


def test_the_share_that_crosses_falls_like_one_over_the_root_of_k_and_its_number_grows():
    ks = [16, 64, 256, 1024]
    numbers = [theory.expected_imbalance(k, tensor([0.4, 0.6])) for k in ks]
    for (k, a), (k2, b) in pairwise(zip(ks, numbers, strict=True)):
        assert b > a
        assert (b / k2) / (a / k) == pytest.approx(0.5, rel=0.02)


def test_clusters_in_a_line_exceed_the_bound_of_the_theorem_but_not_m_minus_1_times_it():
    balls = theory.Balls(line(5, 10.0), 0.4)
    study = theory.study_clusters(balls, [32], draws=300, generator=generator())[0]
    assert study.optimal == study.flow
    assert study.optimal.mean > study.bound + 5 * study.optimal.std_error
    assert study.optimal.mean < study.bound_hops
    assert abs(study.lemma.mean - study.lemma_exact) < 5 * study.lemma.std_error


# --- Theorem 3.5


def band_share(balls, distance, gap, eps, k, draws=30, seed=0):
    g = generator(seed)
    x, y = balls.sample(draws, k, g)[0], balls.sample(draws, k, g)[0]
    in_band, cross = theory.band_matches(x, y, distance, gap, eps)
    return float(in_band.sum() / cross.sum())


def test_crossing_matches_gather_in_bands_as_thin_as_you_like_between_convex_clusters():
    balls = theory.Balls(tensor([[0.0, 0.0], [4.0, 0.0]]), 1.0)
    for eps, first, last in ((0.1, 0.05, 0.4), (theory.printed_band(1.0, 1.0, balls.gap), 0.3, 0.95)):
        shares = [band_share(balls, balls.distance, balls.gap, eps, k) for k in (8, 64, 512)]
        assert shares == sorted(shares)
        assert shares[0] < first
        assert shares[-1] > last


def test_band_matches_count_the_crossing_matches():
    balls = theory.Balls(tensor([[0.0, 0.0], [4.0, 0.0]]), 1.0)
    (x, x_labels), (y, y_labels) = balls.sample(50, 20, generator(1)), balls.sample(50, 20, generator(2))
    in_band, cross = theory.band_matches(x, y, balls.distance, balls.gap, 0.05)
    assert_close(cross, theory.cross_matches(x_labels, y_labels, assign(cost_matrix(x, y))))
    assert (in_band <= cross).all()
    assert_close(theory.band_matches(x, y, balls.distance, balls.gap, 9.0)[0], cross)


def test_a_cluster_in_two_parts_breaks_the_printed_band_at_every_k_and_keeps_the_safe_one():
    """A = two small balls, x apart: the far one meets B directly, though it lies outside A_eps."""
    x, c, tiny = 0.4, 0.8, 1e-3
    u = (1 - c) * x**2 / 2  # so that its squared distance to B is 1 + c x^2
    balls = theory.Balls(tensor([[0.0, 0.0], [u, math.sqrt(x**2 - u**2)], [1.0, 0.0]]), tiny)

    def distance(points):
        to_each = balls.distance(points)
        return torch.stack([to_each[..., :2].amin(-1), to_each[..., 2]], dim=-1)

    gap = 1 - 2 * tiny
    printed = theory.printed_band(x / 2 + tiny, tiny, gap)
    safe = theory.safe_band(x + 2 * tiny, 2 * tiny, gap)
    assert printed < safe
    for k in (32, 512):
        assert band_share(balls, distance, gap, printed, k) < 0.8
        assert band_share(balls, distance, gap, safe, k) == 1


# --- the room as a whole


@pytest.mark.parametrize("name", theory.__all__)
def test_every_public_name_is_documented(name):
    assert name == "LOSSES" or len(getattr(theory, name).__doc__ or "") > 40


# --- errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.sphere(2, ambient=2), "ambient must be >= 3 for this manifold, got 2"),
        (lambda: theory.swiss_roll(ambient=1), "ambient must be >= 3"),
        (lambda: theory.torus(0), "dim must be >= 1, got 0"),
        (lambda: theory.matching_rate(tensor([2.0]), 0), "dim must be >= 1, got 0"),
        (lambda: theory.excursion(line(2), line(2), lambda p: p[..., 0], steps=4), "steps must be odd and >= 3"),
        (lambda: theory.study_support(theory.torus(1), [1, 2], pairs=8).slope(2), "from_k must leave at least two"),
        (lambda: theory.cluster_flow(torch.tensor([1, 2]), torch.tensor([1, 1]), line(2)), "same number of points"),
        (lambda: theory.cluster_flow(torch.tensor([1, 2]), torch.tensor([1, 2]), line(3)), "the 3 clusters"),
        (lambda: theory.cluster_flow(torch.ones(3), torch.ones(3), tensor([[0.0], [5e-5], [1.0]])), "Merge close ones"),
        (lambda: theory.exact_up_to(tensor([[0.0], [1.0], [0.0]])), "Merge equal ones"),
        (lambda: theory.exact_up_to(line(1)), "centres must be between 2 and 6 points, got 1"),
        (lambda: theory.exact_up_to(line(7)), "centres must be between 2 and 6 points, got 7"),
        (lambda: theory.expected_imbalance(4, tensor([0.5, 0.6])), "masses must be probabilities"),
        (lambda: theory.cross_share_bound(4, tensor([1.5, -0.5])), "masses must be probabilities"),
    ],
)
def test_bad_arguments_name_the_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()
