"""The diagnosis, on data whose answers are known."""

import math

import pytest
import torch
from sklearn.datasets import load_iris

from kmixup import calibrate, diagnose


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def three_clusters(n: int = 90) -> tuple[torch.Tensor, torch.Tensor]:
    """Three classes on a line, 10 apart: the midpoint of the outer two lies in the middle one."""
    y = torch.arange(n) % 3
    x = torch.randn(n, 2, generator=generator(), dtype=torch.float64) * 0.1
    x[:, 0] += 10.0 * y
    return x, y


def test_partners_come_closer_and_agree_more_as_k_grows():
    x, y = three_clusters()
    rows = diagnose(x, y, ks=(1, 4, 16), batches=30, generator=generator()).rows
    assert [row.k for row in rows] == [1, 4, 16]
    assert rows[0].distance > rows[1].distance > rows[2].distance
    assert rows[0].same_class_share < rows[1].same_class_share < rows[2].same_class_share
    assert rows[0].same_class_share == pytest.approx(1 / 3, abs=0.05)


def test_mixup_intrudes_where_outer_clusters_meet_in_the_middle_one():
    x, y = three_clusters()
    rows = diagnose(x, y, ks=(1, 16), batches=30, generator=generator()).rows
    # At k = 1 two of nine pairs of classes are the outer ones.
    assert rows[0].intrusion_share == pytest.approx(2 / 9, abs=0.05)
    assert rows[1].intrusion_share < 0.1


def test_calibrations_are_those_of_calibrate():
    x, y = three_clusters()
    (row,) = diagnose(x, y, ks=(4,), alphas=(0.1,), generator=generator()).rows
    expected = calibrate(x, 4, 0.1, generator=generator())
    error = 5 * math.hypot(row.calibrations[0].matched.std_error, expected.matched.std_error)
    assert abs(row.calibrations[0].matched.mean - expected.matched.mean) < error


def test_the_table_prints_and_marks_what_is_out_of_reach():
    iris = load_iris()
    diagnosis = diagnose(torch.from_numpy(iris.data), torch.from_numpy(iris.target), ks=(1, 32), alphas=(0.1, 10.0))
    text = str(diagnosis)
    assert text.splitlines()[0].split()[:2] == ["k", "distance"]
    assert "alpha_k(0.1)" in text
    assert "*" in text.splitlines()[2]
    assert "out of reach" in text


def test_the_figure_has_a_point_per_k():
    x, y = three_clusters()
    figure = diagnose(x, y, ks=(1, 2, 4), batches=2).plot()
    assert [len(line.get_xdata()) for axes in figure.axes for line in axes.lines] == [3, 3, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": torch.zeros(5)}, "y must be class indices"),
        ({"ks": (46,)}, "at most half of the batch of 90"),
        ({"ks": ()}, "at most half"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    x, y = three_clusters()
    with pytest.raises(ValueError, match=message):
        diagnose(**{"x": x, "y": y, **change})
