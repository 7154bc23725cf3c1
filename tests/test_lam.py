"""The law of lam: its check, its draw, its moments."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import beta, kstest, norm

from kmixup import alpha_for, min_lam_sq
from kmixup.lam import ThetaMoments, checked_alpha, draw_lam, local_lam_moments, mean_label_entropy, theta_moments


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("alpha", [0.05, 0.3, 1.0, 4.0, 100.0, 1e6, 1e11])
def test_lam_follows_its_beta_distribution(alpha):
    lam = draw_lam(alpha, (20_000,), generator()).numpy()
    lower = lam[lam < 0.5]  # numbers near 1 are rounded to it, so the lower half is compared, at five sigma
    law = beta(alpha, alpha) if alpha < 1e9 else norm(0.5, (8 * alpha) ** -0.5)
    assert kstest(lower, lambda v: 2 * law.cdf(v)).pvalue > 5.7e-7
    assert abs(len(lower) / 20_000 - 0.5) < 5 * 0.5 / 20_000**0.5


@pytest.mark.parametrize("alpha", [1e-300, 1e-20, 1e-5, 1e-3])
def test_a_tiny_alpha_leaves_lam_at_its_two_ends(alpha):
    lam = draw_lam(alpha, (2000,), generator())
    assert ((lam == 1) | (lam < 1e-9) | (lam > 1 - 1e-9)).double().mean() > 0.95
    assert abs(float((lam > 0.5).double().mean()) - 0.5) < 5 * 0.5 / 2000**0.5


@pytest.mark.parametrize("alpha", [1e31, 9e307, math.inf])
def test_a_huge_alpha_is_one_half(alpha):
    assert (draw_lam(alpha, (100,), generator()) - 0.5).abs().max() < 1e-15
    assert min_lam_sq(alpha) == pytest.approx(0.25, rel=1e-15)
    assert theta_moments(alpha) == ThetaMoments(
        pytest.approx(0.5, rel=1e-15), pytest.approx(0, abs=1e-16), min_lam_sq(alpha)
    )
    assert local_lam_moments(alpha) == (0.5, 0.25)
    assert mean_label_entropy(alpha) == pytest.approx(math.log(2), rel=1e-12)


def test_alpha_infinity_is_one_half_to_the_last_bit():
    assert (draw_lam(math.inf, (100,), generator()) == 0.5).all()
    assert theta_moments(math.inf) == ThetaMoments(0.5, 0.0, 0.25)


@pytest.mark.parametrize("alpha", [1.01e8, 1e10, 1e12, 1e15])
def test_a_large_alpha_has_the_moments_of_its_expansion(alpha):
    gap = (4 * math.pi * alpha) ** -0.5 * (
        1 - 1 / (8 * alpha)
    )  # E|lam - 1/2| = 1/(a 4^a B(a, a)), by Stirling's series
    theta = theta_moments(alpha)
    assert theta.mean - 0.5 == pytest.approx(gap, rel=1e-7, abs=1e-16)
    assert theta.var == pytest.approx(1 / (8 * alpha + 4) - gap**2, rel=1e-6)
    assert min_lam_sq(alpha) == pytest.approx(0.25 - gap + 1 / (8 * alpha + 4), rel=1e-12)
    if alpha < 1e12:  # beyond, alpha_for says inf
        assert alpha_for(min_lam_sq(alpha)) == pytest.approx(alpha, rel=1e-4)


def test_alpha_zero_never_mixes():
    assert (draw_lam(0, (100,), generator()) == 1).all()
    assert min_lam_sq(0) == 0
    assert theta_moments(0) == ThetaMoments(1.0, 0.0, 0.0)
    assert local_lam_moments(0) == (0, 0)
    assert mean_label_entropy(0) == 0


@pytest.mark.parametrize("alpha", [0.1, 1.0, 7.0])
def test_the_mean_entropy_of_two_labels_equals_its_integral(alpha):
    def entropy(v):
        return -(v * math.log(v) + (1 - v) * math.log(1 - v)) * beta.pdf(v, alpha, alpha)

    assert mean_label_entropy(alpha) == pytest.approx(2 * quad(entropy, 0, 0.5)[0], rel=1e-6)


@pytest.mark.parametrize("shape", [(), (1,), (3, 4)])
@pytest.mark.parametrize("alpha", [0.0, 0.5, math.inf])
def test_the_draw_is_float64_of_the_asked_shape_and_takes_one_draw_of_the_stream_each(shape, alpha):
    here, there = generator(), generator()
    lam = draw_lam(alpha, shape, here)
    torch.rand(shape, generator=there, dtype=torch.float64)
    assert lam.dtype == torch.float64
    assert lam.shape == shape
    assert torch.equal(here.get_state(), there.get_state())


def test_without_a_generator_the_draw_is_of_torchs_global_one():
    torch.manual_seed(3)
    lam = draw_lam(1.0, (4,))  # uniform: the draw itself
    torch.manual_seed(3)
    torch.testing.assert_close(lam, torch.rand(4, dtype=torch.float64))


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 3.0, 50.0])
def test_the_second_moment_equals_its_integral(alpha):
    inner, _ = quad(lambda v: v**2 * beta.pdf(v, alpha, alpha), 0, 0.5, epsabs=1e-13)
    assert min_lam_sq(alpha) == pytest.approx(2 * inner, rel=1e-7)
    assert alpha_for(min_lam_sq(alpha)) == pytest.approx(alpha, rel=1e-9)


def test_the_moments_of_mixup_at_alpha_one_are_exact():
    assert min_lam_sq(1.0) == pytest.approx(float(Fraction(1, 12)), rel=1e-14)  # uniform lam: 2 int_0^1/2 v^2 dv
    theta = theta_moments(1.0)
    assert theta.mean == pytest.approx(0.75, rel=1e-12)
    assert theta.var == pytest.approx(float(Fraction(1, 48)), rel=1e-12)
    assert theta.nu_sq == min_lam_sq(1.0)
    assert local_lam_moments(1.0) == pytest.approx((1 / 3, 1 / 6))


@pytest.mark.parametrize("alpha", [0.1, 2.0, 20.0])
def test_theta_has_the_mean_of_the_larger_weight(alpha):
    inner, _ = quad(lambda v: (1 - v) * beta.pdf(v, alpha, alpha), 0, 0.5, epsabs=1e-13)
    assert theta_moments(alpha).mean == pytest.approx(2 * inner, rel=1e-7)


def test_the_inverse_knows_its_ends():
    assert alpha_for(0.0) == 0.0
    assert alpha_for(0.25) == math.inf
    for moment in (-0.1, 0.26, math.nan):
        with pytest.raises(ValueError, match="moment must be in"):
            alpha_for(moment)


@pytest.mark.parametrize("alpha", [1, 1.0, np.float32(1), np.int64(1), Fraction(1)])
def test_any_real_number_is_an_alpha(alpha):
    checked = checked_alpha(alpha)
    assert isinstance(checked, float)
    assert checked == 1


@pytest.mark.parametrize("alpha", [True, "1", None, 1j, [1.0]])
def test_what_is_no_number_is_no_alpha(alpha):
    with pytest.raises(TypeError, match="alpha must be a number"):
        checked_alpha(alpha)


@pytest.mark.parametrize("alpha", [-1, -math.inf, math.nan])
def test_a_negative_alpha_is_refused_with_the_remedy(alpha):
    with pytest.raises(ValueError, match=r"alpha must be >= 0 .* Use alpha=0 to switch mixing off"):
        checked_alpha(alpha)
    with pytest.raises(ValueError, match="alpha must be >= 0"):
        min_lam_sq(alpha)
