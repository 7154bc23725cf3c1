"""Locally-informed distributions, Theorem 4.1, Theorem H.1 and Lemma H.2, against enumeration by naive loops."""

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import linear_sum_assignment
from scipy.stats import beta as beta_law
from torch import nn
from torch.testing import assert_close

from kmixup import min_lam_sq, theory

ALPHAS = (0.05, 0.3, 1.0, 4.0, 50.0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def points(n, d, seed=0):
    return torch.randn(n, d, generator=generator(seed), dtype=torch.float64)


def one_hot(n, c, seed=0):
    return nn.functional.one_hot(torch.randint(c, (n,), generator=generator(seed)), c).double()


def naive_matchings(x, k):
    """Every (gamma, zeta, partners of gamma's points in zeta), by plain loops and scipy."""
    x = x.numpy()
    subsets = list(combinations(range(len(x)), k))
    for gamma in subsets:
        for zeta in subsets:
            cost = ((x[list(gamma)][:, None] - x[list(zeta)][None]) ** 2).sum(-1)
            _, columns = linear_sum_assignment(cost)
            yield gamma, zeta, [zeta[c] for c in columns]


def naive_distributions(x, k):
    n = len(x)
    table = np.zeros((n, n))
    for gamma, _, partners in naive_matchings(x, k):
        for i, j in zip(gamma, partners, strict=True):
            table[i, j] += 1
    return torch.from_numpy(table / (math.comb(n - 1, k - 1) * math.comb(n, k)))


def beta_mean(g, alpha, own=0):
    """Mean of g(lam) over Beta(alpha + own, alpha) by adaptive quadrature, split where the density is singular."""
    law = beta_law(alpha + own, alpha)
    edges = np.concatenate([[0.0], law.ppf([1e-6, 0.01, 0.5, 0.99, 1 - 1e-6]), [1.0]])
    # In u = F(lam) every Beta density is flat: no singular ends.
    return sum(
        quad(lambda u: g(law.ppf(u)), law.cdf(a), law.cdf(b), limit=200, epsabs=1e-10)[0] for a, b in pairwise(edges)
    )


def mlp(d, c, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(d, 9), nn.Tanh(), nn.Linear(9, c)).double().requires_grad_(False)


@pytest.mark.parametrize(("n", "k", "d"), [(5, 1, 2), (5, 2, 1), (6, 3, 2), (7, 3, 4), (6, 5, 3), (5, 5, 2)])
def test_local_distributions_equal_the_enumeration_by_loops(n, k, d):
    x = points(n, d, seed=n + k)
    assert_close(theory.local_distributions(x, k), naive_distributions(x, k))


@pytest.mark.parametrize("k", [1, 2, 4])
def test_local_distributions_are_symmetric_and_doubly_stochastic_even_under_ties(k):
    x = points(4, 2).repeat(2, 1).round()  # duplicates and a grid: many optimal matchings
    table = theory.local_distributions(x, k)
    assert_close(table, table.T)
    assert_close(table.sum(0), torch.ones(8, dtype=torch.float64))


def test_mixup_has_uniform_partners_and_a_full_batch_has_none_but_itself():
    x = points(6, 2)
    assert_close(theory.local_distributions(x, 1), torch.full((6, 6), 1 / 6, dtype=torch.float64))
    assert_close(theory.local_distributions(x, 6), torch.eye(6, dtype=torch.float64))


def test_partners_come_closer_as_k_grows():
    x = points(7, 2)
    sq_distance = torch.cdist(x, x).square()
    means = [float((theory.local_distributions(x, k) * sq_distance).sum() / 7) for k in range(1, 8)]
    assert means == sorted(means, reverse=True)
    assert means[-1] == 0


@pytest.mark.parametrize(("n", "k"), [(7, 3), (6, 3), (7, 2)])
def test_sampled_distributions_are_within_five_sigma_of_the_enumeration(n, k):
    x, draws = points(n, 2, seed=k), 20_000
    exact = theory.local_distributions(x, k)
    sampled = theory.local_distributions(x, k, draws=draws, generator=generator(1))
    # Each draw is counted from both sides; blocks of one order depend on each other, so the bound keeps a factor 2.
    sigma = (exact * (1 - exact) / (draws * k / n)).sqrt()
    assert ((sampled - exact).abs() <= 5 * sigma + 1e-12).all()
    assert_close(sampled.sum(1), torch.ones(n, dtype=torch.float64))

    one = theory.local_distribution(x, k, 2, draws=draws, generator=generator(2))
    sigma = (exact[2] * (1 - exact[2]) / draws).sqrt()
    assert ((one - exact[2]).abs() <= 5 * sigma + 1e-12).all()


def test_sampling_repeats_under_the_same_generator():
    x = points(20, 2)
    first, second = (theory.local_distribution(x, 5, 3, draws=100, generator=generator(7)) for _ in range(2))
    assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_lam_moments_are_those_of_the_beta_law(alpha):
    mean, second = theory.local_lam_moments(alpha)
    law = beta_law(alpha, alpha + 1)  # 1 - lam
    assert_close(mean, law.mean())
    assert_close(second, law.moment(2))


@pytest.mark.parametrize("loss", ["cross_entropy", "logistic", "squared"])
@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
def test_the_objective_equals_loops_over_subsets_and_quadrature_over_lam(alpha, loss):
    x, y, k = points(5, 2), one_hot(5, 3), 2
    f, h = mlp(2, 3), theory.LOSSES[loss]

    def at(lam):
        values = []
        for gamma, _, partners in naive_matchings(x, k):
            g, p = list(gamma), partners
            outputs = f(lam * x[g] + (1 - lam) * x[p])
            targets = lam * y[g] + (1 - lam) * y[p]
            values.append(float((h(outputs) - (targets * outputs).sum(-1)).mean()))
        return np.mean(values)

    t, weights = np.polynomial.legendre.leggauss(24)
    quantiles = beta_law(alpha, alpha).ppf((1 + t) / 2)
    expected = sum(w / 2 * at(lam) for w, lam in zip(weights, quantiles, strict=True))
    partners = theory.local_distributions(x, k)
    got = theory.objective(f, x, y, partners, alpha, loss, form="pairs")
    assert_close(float(got), expected, rtol=0, atol=3e-5)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("alpha", [0.0, *ALPHAS, math.inf])
def test_the_two_forms_of_the_objective_are_equal(alpha, k):
    x, y = points(6, 3), one_hot(6, 4)
    f, partners = mlp(3, 4), theory.local_distributions(x, k)
    pairs, local = (theory.objective(f, x, y, partners, alpha, form=form) for form in ("pairs", "local"))
    assert_close(pairs, local, rtol=1e-10, atol=1e-10)


def test_the_two_forms_differ_when_d_is_not_symmetric():
    x, y, f = points(5, 2), one_hot(5, 3), mlp(2, 3)
    skewed = torch.rand(5, 5, generator=generator(3), dtype=torch.float64)
    skewed /= skewed.sum(1, keepdim=True)
    pairs, local = (theory.objective(f, x, y, skewed, 1.0, form=form) for form in ("pairs", "local"))
    assert abs(pairs - local) > 1e-3


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("alpha", [0.0, *ALPHAS, math.inf])
def test_the_expansion_is_exact_for_a_quadratic_loss_and_a_linear_model(alpha, outputs):
    x, y = points(7, 4), points(7, outputs, seed=1)
    torch.manual_seed(2)
    f = nn.Linear(4, outputs).double()
    partners = theory.local_distributions(x, 3)
    exact = theory.objective(f, x, y, partners, alpha, "squared")
    assert_close(theory.expand(f, x, y, partners, "squared").objective(alpha), exact, rtol=0, atol=1e-10)


def test_the_expansion_is_exact_for_a_general_quadratic_h():
    x, y, f = points(6, 2), points(6, 2, seed=1), nn.Linear(2, 2).double()
    square = points(2, 2, seed=5)
    square = square @ square.T

    def h(u):
        return (u @ square * u).sum(-1) + u.sum(-1)

    partners = theory.local_distributions(x, 2)
    assert_close(
        theory.expand(f, x, y, partners, h).objective(0.7),
        theory.objective(f, x, y, partners, 0.7, h),
        atol=1e-10,
        rtol=0,
    )


@pytest.mark.parametrize("loss", ["cross_entropy", "logistic", "squared"])
def test_the_terms_equal_the_formulas_with_explicit_gradients_and_hessians(loss):
    n, c, k, alpha = 5, 3, 2, 0.6
    x, y, f, h = points(n, 2), one_hot(n, 3), mlp(2, c), theory.LOSSES[loss]
    partners = theory.local_distributions(x, k)
    first, second = alpha / (2 * alpha + 1), alpha / (4 * alpha + 2)
    expected = [0.0, 0.0, 0.0]
    for i in range(n):
        u = f(x[i : i + 1])[0]
        jacobian = torch.autograd.functional.jacobian(lambda z: f(z[None])[0], x[i])
        hessians = torch.stack(
            [torch.autograd.functional.hessian(lambda z, a=a: f(z[None])[0, a], x[i]) for a in range(c)]
        )
        residual = torch.autograd.functional.jacobian(h, u) - y[i]
        h_hessian = torch.autograd.functional.hessian(h, u)
        for j in range(n):
            step = x[j] - x[i]
            change = jacobian @ step
            expected[0] += first / n * partners[i, j] * residual @ change
            expected[1] += second / (2 * n) * partners[i, j] * change @ h_hessian @ change
            expected[2] += (
                second / (2 * n) * partners[i, j] * residual @ torch.einsum("a,cab,b->c", step, hessians, step)
            )
    assert_close(theory.expand(f, x, y, partners, loss).terms(alpha), tuple(expected))


@pytest.mark.parametrize("loss", ["cross_entropy", "logistic", "squared"])
def test_the_remainder_is_of_third_order_in_one_minus_lam(loss):
    x, y, f = points(6, 2), one_hot(6, 3), mlp(2, 3)
    partners = theory.local_distributions(x, 2)
    expansion = theory.expand(f, x, y, partners, loss)
    rests = [
        float(abs(theory.objective_at(f, x, y, partners, 1 - t, loss) - expansion.at(1 - t)))
        for t in (0.02, 0.01, 0.005)
    ]
    orders = [math.log2(a / b) for a, b in pairwise(rests)]
    assert orders == pytest.approx([3, 3], abs=0.15)


def test_the_mean_remainder_keeps_its_share_as_alpha_vanishes_but_shrinks_with_the_perturbations():
    """E[(1-lam)^3] / E[(1-lam)^2] tends to 2/3, not to 0: a small alpha does not make the expansion good."""
    x, y, f = points(6, 2), one_hot(6, 3), mlp(2, 3)

    def share(x, alpha):
        partners = theory.local_distributions(x, 2)
        rest = theory.objective(f, x, y, partners, alpha) - theory.expand(f, x, y, partners).objective(alpha)
        steps = (partners * torch.cdist(x, x).square()).sum() / len(x)
        return float(abs(rest) / (theory.local_lam_moments(alpha)[1] * steps))

    assert share(x, 1e-5) == pytest.approx(share(x, 1e-4), rel=1e-2)
    assert share(x, 1e-5) > 0.5 * share(x, 1.0)
    near = x.mean(0) + 0.01 * (x - x.mean(0))
    assert share(near, 1.0) < 0.05 * share(x, 1.0)


def test_the_expansion_works_for_images_and_single_outputs():
    x, y = torch.randn(5, 1, 4, 4, generator=generator(), dtype=torch.float64), torch.tensor([0.0, 1, 1, 0, 1])
    torch.manual_seed(0)
    f = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GELU(), nn.Flatten(), nn.Linear(8, 1), nn.Flatten(0)).double().eval()
    partners = theory.local_distributions(x, 2)
    expansion = theory.expand(f, x, y, partners, "logistic")
    close = theory.objective_at(f, x, y, partners, 0.999, "logistic")
    assert_close(expansion.at(0.999), close, rtol=0, atol=1e-7)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_theta_moments_are_those_of_the_truncated_beta_law(alpha):
    moments = theory.theta_moments(alpha)
    mean = beta_mean(lambda lam: max(lam, 1 - lam), alpha)
    second = beta_mean(lambda lam: max(lam, 1 - lam) ** 2, alpha)
    assert moments.mean == pytest.approx(mean, abs=1e-6)
    assert moments.var == pytest.approx(second - mean**2, abs=1e-6)
    assert moments.nu_sq == min_lam_sq(alpha)
    assert moments.nu_sq == pytest.approx(moments.var + (1 - moments.mean) ** 2)


def test_theta_moments_have_the_right_ends():
    assert theory.theta_moments(0.0) == theory.ThetaMoments(1.0, 0.0, 0.0)
    assert theory.theta_moments(math.inf) == theory.ThetaMoments(0.5, 0.0, 0.25)


@pytest.mark.parametrize(("k", "alpha"), [(1, 0.4), (2, 0.4), (3, 2.0), (5, 1.0)])
def test_theorem_h1_reassembles_the_mixed_points_and_the_objective(k, alpha):
    x, y, f = points(5, 2), one_hot(5, 3), mlp(2, 3)
    reversion = theory.mean_reversion(x, y, k, alpha)
    theta = 0.8
    delta, epsilon = reversion.perturbations(theta)
    for data, tilde, noise in ((x, reversion.x_tilde, delta), (y, reversion.y_tilde, epsilon)):
        mixed = theta * data[reversion.couplings.gamma].unsqueeze(1) + (1 - theta) * data[reversion.couplings.partner]
        assert_close(tilde.unsqueeze(1) + noise, mixed)

    h = theory.LOSSES["cross_entropy"]

    def loss(inputs, targets):
        outputs = f(inputs)
        return h(outputs) - (targets * outputs).sum(-1)

    expected = theory.objective(f, x, y, theory.local_distributions(x, k), alpha, form="pairs")
    assert_close(reversion.objective(loss), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("alpha", [400.0, 600.0, 1e4, 1e8, 1e12])
def test_the_two_theorems_agree_at_large_alpha_and_end_at_one_half(alpha):
    x, y, f = points(5, 2), one_hot(5, 3), mlp(2, 3)
    h = theory.LOSSES["cross_entropy"]

    def loss(inputs, targets):
        outputs = f(inputs)
        return h(outputs) - (targets * outputs).sum(-1)

    partners = theory.local_distributions(x, 2)
    reverted = theory.mean_reversion(x, y, 2, alpha).objective(loss)
    for form in ("pairs", "local"):
        assert_close(theory.objective(f, x, y, partners, alpha, form=form), reverted, rtol=1e-9, atol=1e-12)
    at_half = theory.objective(f, x, y, partners, math.inf)
    # The first correction is that of a law of variance 1 / (8 alpha + 4), and far below 1 for this network.
    assert abs(float(reverted - at_half)) < 10 / (8 * alpha + 4)


@pytest.mark.parametrize("alpha", [0.4, 3.0])
def test_the_perturbations_have_zero_mean_and_the_covariances_of_lemma_h2(alpha):
    x, y = points(6, 2), one_hot(6, 3)
    reversion = theory.mean_reversion(x, y, 3, alpha)
    draws = 2000
    theta = beta_law(alpha, alpha).ppf((np.arange(draws) + 0.5) / draws)  # stratified, folded to [1/2, 1]
    sums = [0.0, 0.0, 0.0, 0.0, 0.0]
    for value in np.maximum(theta, 1 - theta):
        delta, epsilon = reversion.perturbations(float(value))
        zetas = delta.shape[1]
        sums[0] = sums[0] + delta.mean(1) / draws
        sums[1] = sums[1] + epsilon.mean(1) / draws
        for at, (a, b) in enumerate(((delta, delta), (epsilon, epsilon), (delta, epsilon))):
            sums[2 + at] = sums[2 + at] + torch.einsum("gzia,gzib->giab", a, b) / zetas / draws
    assert_close(sums[0], torch.zeros_like(sums[0]), rtol=0, atol=1e-3)
    assert_close(sums[1], torch.zeros_like(sums[1]), rtol=0, atol=1e-3)
    assert_close(tuple(sums[2:]), reversion.covariances(), rtol=0, atol=2e-3)


def printed_covariance(reversion, sigma_matrix):
    """Lemma H.2 as printed, for whatever Sigma stands for."""
    scale = 1 / reversion.theta.mean**2
    offset = reversion.x_tilde - reversion.x_bar
    outer = torch.einsum("gia,gib->giab", offset, offset)
    return scale * (reversion.theta.var * outer + reversion.theta.nu_sq * sigma_matrix)


def test_lemma_h2_as_printed_holds_for_mixup_and_not_for_k_mixup():
    x, y = points(6, 2), one_hot(6, 3)
    for k, holds in ((1, True), (2, False), (3, False)):
        reversion = theory.mean_reversion(x, y, k, 0.8)
        tilde = reversion.x_tilde.flatten(0, 1)
        empirical = torch.cov(tilde.T, correction=0)
        printed = printed_covariance(reversion, empirical)
        error = (printed - reversion.covariances()[0]).abs().max()
        assert (error < 1e-12) == holds, (k, error)
        # With Sigma = theta_bar^2 c, the covariance of the matched point, it always holds.
        matched = x[reversion.couplings.partner] - reversion.x_bar.unsqueeze(1)
        c = torch.einsum("gzia,gzib->giab", matched, matched) / matched.shape[1]
        assert_close(printed_covariance(reversion, reversion.theta.mean**2 * c), reversion.covariances()[0])


def test_the_mean_of_theorem_h1_is_that_of_d_only_after_averaging_over_gamma():
    x, y, k = points(6, 2), one_hot(6, 2), 3
    reversion = theory.mean_reversion(x, y, k, 1.0)
    means = theory.local_distributions(x, k) @ x
    of_gamma = torch.stack([reversion.x_bar[reversion.couplings.gamma == i].mean(0) for i in range(6)])
    assert_close(of_gamma, means)
    gap = (reversion.x_bar - means[reversion.couplings.gamma]).norm(dim=-1)
    assert gap.max() > 0.5
    mixup = theory.mean_reversion(x, y, 1, 1.0)
    assert_close(mixup.x_bar[:, 0], x.mean(0).expand(6, 2))
    every = theory.mean_reversion(x, y, 6, 1.0)
    assert_close(every.x_bar[0], theory.local_distributions(x, 6) @ x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.local_distributions(points(5, 2), 6), "k must be between 1 and the number of points 5, got 6"),
        (lambda: theory.local_distributions(points(60, 2), 30), "draws"),
        (lambda: theory.local_distributions(points(5, 2), 2, draws=0), "draws must be >= 1, got 0"),
        (lambda: theory.local_distributions(points(7, 2), 5, draws=1, generator=generator()), "draws=1 left . of 7"),
        (lambda: theory.local_distribution(points(5, 2), 2, 5, draws=9), "index must be between 0 and 4, got 5"),
        (lambda: theory.local_distribution(points(5, 2), 2, 0, draws=0), "draws must be >= 1, got 0"),
        (lambda: theory.local_distributions(torch.arange(6).view(3, 2), 2), "floating-point"),
        (lambda: theory.local_lam_moments(-1.0), "alpha must be >= 0"),
        (lambda: theory.theta_moments(math.nan), "alpha must be >= 0"),
        (lambda: theory.mean_reversion(points(5, 2), torch.zeros(5), 2, 1.0), "y must be"),
    ],
)
def test_bad_arguments_name_the_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"partners": torch.zeros(4, 4)}, "partners must be D of shape"),
        ({"y": torch.zeros(5)}, "One-hot encode integer labels"),
        ({"y": torch.zeros(4, 3)}, "One-hot encode integer labels"),
        ({"loss": "hinge"}, "loss must be one of cross_entropy, logistic, squared"),
        ({"form": "both"}, "form must be 'pairs' or 'local', got 'both'"),
        ({"alpha": -1.0}, "alpha must be >= 0"),
    ],
)
def test_bad_arguments_of_the_objective_name_the_remedy(change, message):
    good = {"x": points(5, 2), "y": one_hot(5, 3), "partners": torch.eye(5), "alpha": 1.0, "loss": "squared"}
    with pytest.raises(ValueError, match=message):
        theory.objective(mlp(2, 3), **{**good, **change})
