"""Intrusion and intrinsic dimension, where both are known."""

import pytest
import torch
from torch.testing import assert_close

from kmixup import theory
from kmixup.geometry import intrinsic_dimension, intrusions


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def of_line(labels, shift=0.0, dtype=torch.float64):
    """Intrusions of all ordered pairs of points at 0, 1, 2, 3 on a line, the points themselves as reference."""
    x = (torch.arange(4.0).unsqueeze(1) + 0.1 * torch.arange(4.0).square().unsqueeze(1) + shift).to(dtype)
    y = torch.tensor(labels)
    i, j = (index.flatten() for index in torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij"))
    every = torch.arange(4)
    own = (every == i.unsqueeze(1)) | (every == j.unsqueeze(1))
    return intrusions((x[i], x[j]), (y[i], y[j]), x, y, own).view(4, 4)


def test_a_midpoint_intrudes_where_its_nearest_other_sample_has_neither_label():
    found = of_line([0, 1, 2, 0])  # at 0, 1.1, 2.4, 3.9
    expected = torch.zeros(4, 4, dtype=torch.bool)
    # The midpoint of 0 and 2.4 is nearest to 1.1, that of 1.1 and 3.9 to 2.4, that of 0 and 3.9 to 2.4.
    for i, j in ((0, 2), (1, 3), (0, 3)):
        expected[i, j] = expected[j, i] = True
    # Neighbours: the nearest other one of 0 and 1.1 is 2.4, of a third class; of 1.1 and 2.4 it is 0 or 3.9; of 2.4
    # and 3.9 it is 1.1; a point itself: its nearest neighbour.
    for i, j in ((0, 1), (1, 2), (2, 3)):
        expected[i, j] = expected[j, i] = True
    expected.fill_diagonal_(True)
    assert_close(found, expected)


def test_two_classes_leave_no_third_to_run_into_except_from_pairs_of_one_class():
    found = of_line([0, 1, 1, 0])
    assert not found[[0, 0, 1, 2], [1, 2, 3, 3]].any()
    assert found[0, 3]


@pytest.mark.parametrize("shift", [1e4, 5_411_000.0])
def test_intrusion_does_not_depend_on_the_origin(shift):
    assert_close(of_line([0, 1, 2, 0], shift, torch.float32), of_line([0, 1, 2, 0]))


@pytest.mark.parametrize(
    ("manifold", "dim"), [(theory.sphere(1), 1), (theory.sphere(2, ambient=8), 2), (theory.torus(3), 3)]
)
def test_the_dimension_is_that_of_the_manifold(manifold, dim):
    points = manifold.sample(1500, generator())
    assert intrinsic_dimension(points) == pytest.approx(dim, rel=0.08)
    assert intrinsic_dimension(1e4 + 1e-3 * points) == pytest.approx(intrinsic_dimension(points), rel=1e-3)


def test_equal_points_count_once():
    points = theory.sphere(2).sample(300, generator())
    assert intrinsic_dimension(points.repeat(3, 1)) == pytest.approx(intrinsic_dimension(points), rel=1e-9)


def test_too_few_points_and_equidistant_ones_have_no_dimension():
    assert intrinsic_dimension(torch.randn(3, 2)) is None
    assert intrinsic_dimension(torch.zeros(9, 2)) is None
    assert intrinsic_dimension(torch.eye(6, dtype=torch.float64)) is None
