"""The diagnosis, on data whose answers are known."""

import json
import math
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_diabetes, load_iris
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

import kmixup
from kmixup import Diagnosis, KMixup, calibrate, diagnose
from kmixup.calibration import RULES


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def three_clusters(n: int = 90) -> tuple[torch.Tensor, torch.Tensor]:
    """Three classes on a line, 10 apart: the midpoint of the outer two lies in the middle one."""
    y = torch.arange(n) % 3
    x = torch.randn(n, 2, generator=generator(), dtype=torch.float64) * 0.1
    x[:, 0] += 10.0 * y
    return x, y


def quick(x, y, **options) -> Diagnosis:
    return diagnose(x, y, **{"ks": (1, 4), "batches": 4, "generator": generator(), **options})


# --- what is measured -------------------------------------------------------------------------------------------------


def test_partners_come_closer_and_agree_more_as_k_grows():
    x, y = three_clusters()
    rows = diagnose(x, y, ks=(1, 4, 16), batches=30, generator=generator()).rows
    assert [row.k for row in rows] == [1, 4, 16]
    assert rows[0].relative_distance == 1 > rows[1].relative_distance > rows[2].relative_distance
    assert rows[0].distance > rows[1].distance > rows[2].distance
    assert rows[0].same_class_share < rows[1].same_class_share < rows[2].same_class_share


def test_at_k_one_shares_are_those_of_random_pairs_within_five_sigma():
    x, y = three_clusters()
    (row,) = diagnose(x, y, ks=(1,), batch_size=60, batches=60, generator=generator()).rows
    # 29 of the 89 others share a class; 2 of 9 pairs of classes are the outer ones, and pairs are never of one point.
    assert abs(row.same_class.mean - 29 / 89) < 5 * row.same_class.std_error
    assert abs(row.intrusion.mean - 2 / 9 * 90 / 89) < 5 * row.intrusion.std_error
    assert row.intrusion.n == 60


def test_a_larger_k_stays_out_of_the_class_in_the_middle():
    x, y = three_clusters()
    rows = diagnose(x, y, ks=(1, 16), batches=30, generator=generator()).rows
    assert rows[1].intrusion.interval()[1] < rows[0].intrusion.interval()[0]


@pytest.mark.parametrize("shift", [1e4, 5_411_000.0])
def test_the_origin_changes_no_share(shift):
    y = torch.arange(300) % 3
    x = torch.tensor([[0.0, 0.0], [300.0, 0.0], [150.0, 260.0]])[y] + 40 * torch.randn(300, 2, generator=generator())
    near, far = (quick(points, y).rows for points in (x, x + shift))  # float32 keeps half a metre at 5,411 km
    for a, b in zip(near, far, strict=True):
        assert b.intrusion.mean == pytest.approx(a.intrusion.mean, abs=0.005)
        assert b.same_class.mean == pytest.approx(a.same_class.mean, abs=0.005)
        assert b.distance == pytest.approx(a.distance, rel=1e-3)


def test_calibrations_are_those_of_calibrate_under_every_rule():
    x, y = three_clusters()
    (row,) = diagnose(x, y, ks=(4,), alphas=(0.1,), batches=64, generator=generator()).rows
    assert tuple(row.rules) == RULES
    for rule in RULES:
        (found,), expected = row.rules[rule], calibrate(x, 4, 0.1, rule, batch_size=90, generator=generator(1))
        low, high = expected.alpha_interval
        assert low * 0.8 <= found.alpha_k <= high * 1.2
        assert found.matched == row.sq_distance  # one table, one distance
    assert row.calibrations == row.rules["exact"]


def test_the_entropy_of_labels_is_that_of_mixed_targets():
    x, y = three_clusters(60)
    (row,) = diagnose(x, y, ks=(4,), alphas=(0.5,), batches=200, generator=generator()).rows
    mixer = KMixup(4, row.calibrations[0].alpha_k, num_classes=3, lam_per="sample", generator=generator(1))
    soft = torch.cat([mixer(x, y)[1] for _ in range(300)])
    simulated = torch.special.entr(soft.double()).sum(1).view(300, 60).mean(1)
    error = math.hypot(float(simulated.std()) / 300**0.5, row.same_class.std_error)
    assert abs(row.label_entropy[0] - float(simulated.mean())) < 5 * error


def test_a_sample_has_no_more_partners_than_draws_and_fewer_at_large_k():
    x, y = three_clusters(24)
    one, eight = diagnose(x, y, ks=(1, 8), batches=40, generator=generator()).rows
    assert one.draws == eight.draws == 40
    assert eight.partners < one.partners <= 23  # at k = 1 any of the 23 others
    # 40 uniform draws of 23 others leave each out with probability (22 / 23)^40.
    assert one.partners == pytest.approx(23 * (1 - (22 / 23) ** 40), abs=0.6)


def test_the_mixers_features_and_pairing_are_measured():
    x, y = three_clusters()
    by_noise = KMixup(2, 0.0, features=lambda batch: batch[:, 1:])
    (row,) = quick(x, y, ks=(16,), mixer=by_noise, batches=30).rows
    assert row.same_class.mean == pytest.approx(1 / 3, abs=0.05)
    (shuffled,) = quick(x, y, ks=(16,), mixer=KMixup(2, 1.0, pairing="shuffle"), batch_size=32, batches=60).rows
    (rolled,) = quick(x, y, ks=(16,), batch_size=32, batches=60).rows
    assert shuffled.distance < rolled.distance  # a sample may meet itself
    assert by_noise.k == 2


def test_an_epoch_takes_as_long_as_its_batches():
    x, y = three_clusters()
    (row,) = quick(x, y, ks=(4,), batch_size=40).rows
    assert row.epoch_seconds == pytest.approx(3 * row.matching_seconds)
    assert row.matching_seconds > 0


def test_ks_fit_the_data_by_default():
    for n, ks in ((3, [1]), (9, [1, 2, 4]), (40, [1, 2, 4, 8, 16]), (300, [1, 2, 4, 8, 16, 32])):
        x, y = three_clusters(n)
        assert [row.k for row in diagnose(x, y, batches=2).rows] == ks


# --- kinds of data ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda x, y: (x.numpy(), y.numpy()),
        lambda x, y: (pd.DataFrame(x.numpy()), pd.Series(y.numpy(), index=range(5, 95))),
        lambda x, y: (x.tolist(), y.tolist()),
        lambda x, y: (x, [("ash", "birch", "cedar")[c] for c in y]),
        lambda x, y: (x, pd.Series([("a", "b", "c")[c] for c in y], dtype="category")),
        lambda x, y: (x, y.double()),  # whole numbers that repeat
        lambda x, y: (x, y.unsqueeze(1)),
        lambda x, y: (x, torch.nn.functional.one_hot(y)),
        lambda x, y: (x, 0.9 * torch.nn.functional.one_hot(y) + 0.1 / 3),
        lambda x, y: (x.view(90, 1, 2), y),
    ],
)
def test_data_and_labels_come_in_any_form(make):
    x, y = three_clusters()
    expected, found = quick(x, y), quick(*make(x, y))
    assert found.classes == 3
    for a, b in zip(expected.rows, found.rows, strict=True):
        assert (a.same_class, a.intrusion, a.sq_distance) == (b.same_class, b.intrusion, b.sq_distance)


def test_of_a_structure_what_is_mixed_is_measured():
    x, y = three_clusters()
    whole = {"x": x, "attention_mask": 100 * x, "aux": 100 * x, "path": ["a"] * 90}
    expected = quick(x[:, :1], y), quick(x, y)
    found = quick(x[:, 0], y), quick(whole, y, mixer=KMixup(1, 1.0, leaves={"aux": "own"}))
    for these, those in zip(expected, found, strict=True):
        for a, b in zip(these.rows, those.rows, strict=True):
            assert (a.same_class, a.intrusion, a.sq_distance) == (b.same_class, b.intrusion, b.sq_distance)


@pytest.mark.parametrize("wide", [False, True])
def test_continuous_targets_have_a_gap_instead_of_classes(wide):
    data = load_diabetes()
    y = np.stack([data.target, data.target], 1) if wide else data.target
    found = diagnose(data.data, y, ks=(1, 16), batches=30, generator=generator())
    one, sixteen = found.rows
    assert found.classes is one.same_class is one.intrusion is one.label_entropy is None
    variance = data.target.var(ddof=1) * (2 if wide else 1)
    assert abs(one.target_sq_distance.mean - 2 * variance) < 5 * one.target_sq_distance.std_error
    assert sixteen.target_sq_distance.mean < one.target_sq_distance.mean
    assert "target gap" in str(found)


def test_one_class_is_never_mixed_with_another():
    x, _ = three_clusters()
    found = quick(x, torch.zeros(90, dtype=torch.int64))
    assert [(row.same_class.mean, row.intrusion.mean) for row in found.rows] == [(1.0, 0.0)] * 2
    assert found.rows[1].label_entropy == (0.0,) * 3
    assert "All samples are of one class" in str(found)
    assert "1 class," in str(found)


def test_duplicates_constant_columns_and_scales_are_noted():
    x, y = three_clusters()
    x = torch.cat([x, torch.ones(90, 2), 1e4 * torch.randn(90, 1, generator=generator())], 1)
    x[:9] = x[9:18]
    notes = " ".join(quick(x, y).notes)
    assert "2 of 5 columns are constant" in notes
    assert "differ by a factor of" in notes
    assert "10.0 % of rows repeat another" in notes
    assert quick(*three_clusters()).notes == ()


def test_equal_points_are_no_error():
    (row,) = quick(torch.ones(20, 3), torch.arange(20) % 2, ks=(4,)).rows
    assert (row.distance, row.relative_distance, row.calibrations[0].alpha_k) == (0.0, 1.0, 0.1)


def test_many_integer_labels_are_doubted():
    x, _ = three_clusters()
    assert "pass floating-point numbers" in " ".join(quick(x, torch.arange(90)).notes)


def test_two_samples_are_enough_and_one_is_not():
    (row,) = diagnose([[0.0], [3.0]], [0, 1], batches=2).rows
    assert row.intrusion is None
    assert row.same_class.mean == 0
    with pytest.raises(ValueError, match="at least 2 samples"):
        diagnose([[0.0]], [0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": torch.zeros(5)}, "y must be class indices"),
        ({"y": torch.zeros(90, 2, dtype=torch.int64)}, "one-hot rows"),
        ({"y": [*([0] * 89), None]}, r"y has 1 missing value\(s\), the first is row 89"),
        ({"y": np.r_[math.nan, np.arange(89.0)]}, "the first is row 0"),
        ({"y": pd.Series([*([1] * 88), None, 2], dtype="Int64")}, "the first is row 88"),
        ({"y": np.ma.array(np.zeros(90, int), mask=np.arange(90) == 4)}, r"1 masked value\(s\)"),
        ({"ks": (46,)}, "at most half of the batch of 90"),
        ({"ks": ()}, "at most half"),
        ({"ks": (0,)}, "k must be >= 1"),
        ({"batches": 1}, "batches and batch_size must be >= 2, got 1"),
        ({"alphas": (-1.0,)}, "alpha must be >= 0"),
        ({"mixer": KMixup(2, 1.0), "metric": "cosine"}, "Give it to the mixer"),
        ({"x": torch.full((90, 2), math.nan)}, r"x has 90 row\(s\) with NaN"),
        ({"x": pd.DataFrame({"a": range(90), "kind": ["b"] * 90})}, "not numbers: kind"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    x, y = three_clusters()
    with pytest.raises(ValueError, match=message):
        diagnose(**{"x": x, "y": y, **change})


def test_labels_that_are_neither_numbers_nor_names_are_refused():
    x, _ = three_clusters()
    with pytest.raises(TypeError, match="y must be numbers or names of classes, got datetime64"):
        diagnose(x, np.zeros(90, "datetime64[s]"))


# --- how it is shown --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def iris() -> Diagnosis:
    data = load_iris()
    return diagnose(data.data, data.target, ks=(1, 32), alphas=(0.1, 10.0, math.inf), generator=generator())


def test_the_table_prints_and_marks_what_is_out_of_reach(iris):
    text = str(iris)
    assert text.splitlines()[0].split()[:2] == ["k", "distance"]
    assert "alpha_k(0.1)" in text
    assert "*" in text.splitlines()[2]
    assert "out of reach" in text
    assert "150 samples, 3 classes, intrinsic dimension" in text
    assert max(map(len, text.splitlines())) <= 120


def test_json_and_frame_hold_every_number(iris):
    found = json.loads(iris.to_json())
    assert found["alphas"] == [0.1, 10.0, "inf"]
    assert found["recommendation"] == iris.recommendation
    frame = iris.to_frame()
    assert list(frame.index) == [1, 32]
    row = iris.rows[1]
    for numbers in (found["rows"][1], frame.loc[32]):
        assert numbers["intrusion"] == row.intrusion.mean
        assert numbers["intrusion_error"] == row.intrusion.std_error
        assert numbers["alpha_k(sqrt, 0.1)"] == row.rules["sqrt"][0].alpha_k
        assert numbers["alpha_k_low(exact, 0.1)"] == row.calibrations[0].alpha_interval[0]
        assert not numbers["attainable(exact, 10)"]
        assert numbers["label_entropy(0.1)"] == row.label_entropy[0]


def test_a_notebook_shows_a_short_table(iris):
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.append(tag)
    parser.feed(iris._repr_html_())
    assert found.count("tr") == 3
    assert len(iris._repr_html_()) < 2500


def test_the_figure_has_a_point_per_k():
    x, y = three_clusters()
    figure = diagnose(x, y, ks=(1, 2, 4), batches=2).plot()
    assert [len(line.get_xdata()) for axes in figure.axes for line in axes.lines] == [3, 3, 3]
    data = load_diabetes()
    figure = diagnose(data.data, data.target, ks=(1, 2), batches=2).plot()
    assert [len(line.get_xdata()) for axes in figure.axes for line in axes.lines] == [2, 2]


# --- what it suggests -------------------------------------------------------------------------------------------------


def said(x, y, **options) -> str:
    return " ".join(diagnose(x, y, **{"batches": 4, "generator": generator(), **options}).recommendation.split())


@pytest.mark.parametrize(
    ("continuous", "batch_size", "tried"),
    [
        (False, 256, "label smoothing of 0.1, mixup with alpha = 0.2, k-mixup with k = 16 and alpha = 1."),
        (False, 12, "label smoothing of 0.1, mixup with alpha = 0.2, k-mixup with k = 6 and alpha = 1."),
        (False, 3, "label smoothing of 0.1, mixup with alpha = 0.2. What k-mixup gained"),
        (True, 256, "mixup with alpha = 0.2, k-mixup with k = 16 and alpha = 1. What to expect"),
    ],
)
def test_it_says_what_to_try_by_what_fits_alone(continuous, batch_size, tried):
    x, classes = three_clusters()
    text = said(x, x[:, 0] if continuous else classes, batch_size=batch_size)
    assert f"validation data: no mixing, {tried}" in text


def test_what_it_says_to_expect_is_what_the_committed_runs_say():
    found = tomllib.loads((Path(kmixup.__file__).parent / "evidence.toml").read_text())
    text = said(*three_clusters())
    for part in ("tuned", "untuned"):
        assert f"({found[part]['sets']} " in text
        for rival, gain in found[part]["gains"].items():
            assert f"{gain['mean']:+.2f} [{gain['low']:+.2f}, {gain['high']:+.2f}] on {rival}" in text
    shown = [number for number, each in found["numbers"].items() if each["shown"]]
    assert f"{' and '.join(shown) or 'None of the numbers above'} was shown to predict it" in text


# --- planted structure ------------------------------------------------------------------------------------------------


def separated(noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Two clusters of 64, about (0, 0) and (1, 1)."""
    y = torch.arange(128) % 2
    return y.unsqueeze(1) + noise * torch.randn(128, 2, generator=generator(), dtype=torch.float64), y


def test_in_separated_clusters_partners_come_from_the_own_cluster_as_k_grows():
    one, large = diagnose(*separated(0.01), ks=(1, 64), batches=64, generator=generator()).rows
    assert abs(one.same_class.mean - 63 / 127) < 5 * one.same_class.std_error
    # Two blocks of 64 hold all points: of each class one has as many more than half as the other has fewer.
    crossing = 2 * math.sqrt(64 / 4 * 64 / 127) * math.sqrt(2 / math.pi) / 64  # hypergeometric, nearly normal
    assert abs(1 - large.same_class.mean - crossing) < 5 * large.same_class.std_error
    assert (one.intrusion.mean, large.intrusion.mean) == (0, 0)


def test_on_one_ring_partners_are_neighbours_and_the_dimension_is_one():
    turn = torch.rand(256, generator=generator(), dtype=torch.float64)
    x, y = torch.stack([torch.cos(2 * math.pi * turn), torch.sin(2 * math.pi * turn)], 1), (4 * turn).long()
    found = diagnose(x, y, ks=(1, 32), batches=64, generator=generator())
    one, large = found.rows
    assert found.dimension == pytest.approx(1, abs=0.1)
    assert one.sq_distance.mean == pytest.approx(2 - 2 * float(x.mean(0).square().sum()))
    assert large.relative_distance < 0.5
    assert large.intrusion.mean < one.intrusion.mean / 2  # chords end in other quarters


def test_in_pure_noise_labels_are_as_mixed_at_every_k_and_partners_are_hardly_closer():
    x = torch.randn(400, 500, generator=generator())
    y = torch.randint(2, (400,), generator=generator(1))
    rows = diagnose(x, y, batches=16, generator=generator()).rows
    same = float(torch.bincount(y).square().sum() - 400) / (400 * 399)
    assert all(abs(row.same_class.mean - same) < 5 * row.same_class.std_error for row in rows)
    assert 0.9 < rows[-1].relative_distance < 1


def test_of_duplicated_rows_only_pairs_of_different_rows_are_moved():
    found = diagnose(*separated(0.0), ks=(1, 64), batches=16, generator=generator())
    assert "98.4 % of rows repeat another" in " ".join(found.notes)
    one, large = found.rows
    assert one.sq_distance.mean == pytest.approx(1)  # half of independent draws are sqrt(2) apart
    assert large.sq_distance.mean == pytest.approx(2 * (1 - large.same_class.mean))
    assert large.intrusion.mean == 0


def test_of_one_class_there_is_nothing_to_try():
    x, _ = three_clusters()
    text = said(x, torch.zeros(90, dtype=torch.int64))
    assert "nothing to try" in text
    assert "100.0 ± 0.0 % of pairs share a class" in text
    assert "validation" not in text


# --- devices without float64 ------------------------------------------------------------------------------------------


class AppleGPU(TorchFunctionMode):
    """Stands for Apple's GPU: tensors of the CPU that say they are on ``mps``, and are never float64 there."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        given = tree_leaves((args, kwargs or {}))
        there = any(isinstance(x, torch.Tensor) and hasattr(x, "on_mps") for x in given)
        if func == torch.Tensor.device.__get__:
            return torch.device("mps") if there else func(*args)
        places = [str(x) for x in given if isinstance(x, (str, torch.device))]
        here = tree_map(lambda x: "cpu" if isinstance(x, torch.device) or x == "mps" else x, (args, kwargs or {}))
        out = func(*here[0], **here[1])
        if func in (torch.Tensor.cpu, torch.Tensor.numpy, torch.Tensor.item) or "cpu" in places:
            return out.clone() if isinstance(out, torch.Tensor) else out
        for part in tree_leaves(out):
            if isinstance(part, torch.Tensor) and (there or "mps" in places):
                assert part.dtype != torch.float64, "the MPS framework doesn't support float64"
                part.on_mps = True
        return out


@pytest.mark.parametrize("continuous", [False, True])
def test_on_a_device_without_float64_the_numbers_are_those_of_the_cpu(continuous):
    x, y = three_clusters()
    x, y = x.float(), x[:, 0].float() if continuous else y
    expected = quick(x, y), calibrate(x, 4, 0.2, pairs=640, generator=generator())
    with AppleGPU():
        there = x.to("mps")
        with pytest.raises(AssertionError, match="support float64"):
            there.double()
        found = quick(there, y.to("mps")), calibrate(there, 4, 0.2, pairs=640, generator=generator())
        stats = KMixup(4, 1.0, generator=generator()).plan(there).stats(there, y.to("mps"))
    assert 0 < stats.matched_sq_distance < stats.unmatched_sq_distance
    assert found[1].alpha_k == pytest.approx(expected[1].alpha_k, rel=1e-4)
    for row, same in zip(found[0].rows, expected[0].rows, strict=True):
        assert row.sq_distance.mean == pytest.approx(same.sq_distance.mean, rel=1e-4)
        measured, right = (
            (row.target_sq_distance, same.target_sq_distance) if continuous else (row.intrusion, same.intrusion)
        )
        assert measured.mean == pytest.approx(right.mean, rel=1e-4)
