"""The demo: what it says of runs, and small, as a user runs it."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from typer.testing import CliRunner

from kmixup import KMixup
from kmixup.cli.app import app
from kmixup.experiments.demo import finding
from kmixup.experiments.pictures.demo import draw_mixed_digits
from kmixup.experiments.run import Curves, Environment, Evaluation, Run, Seconds
from kmixup.experiments.trial import Trial


def runs(errors, calibration=0.1):
    made = []
    for seed, error in enumerate(errors):
        trial = Trial(dataset="mnist-5000", model="lenet", seed=seed)
        made.append(
            Run(
                id=trial.id,
                trial=trial,
                source="test",
                final_error=error,
                best_error=error,
                test=Evaluation(error=error, nll=1.0, calibration_error=calibration),
                curves=Curves(train_loss=[1.0], train_accuracy=[0.5], test_error=[error]),
                seconds=Seconds(total=1.0, matching=0.1),
                environment=Environment(commit="", versions={}, device="cpu", processor="", threads=1),
            )
        )
    return made


def test_the_finding_names_a_real_difference_and_its_interval():
    ours, theirs = runs([0.03, 0.032, 0.031]), runs([0.04, 0.0415, 0.0412])
    text = finding("k-mixup (k = 16)", ours, "mixup (k = 1)", theirs)
    assert text.startswith("Found: k-mixup (k = 16) against mixup (k = 1), in percentage points with 95 % intervals: ")
    # Differences -1, -0.95, -1.02 points: mean -0.99, and t(0.975, 2) = 4.303 standard errors of 0.0208.
    assert "test error -0.99 (-1.08 to -0.90, 3 seeds): lower" in text
    assert "calibration error +0.00 (-inf to +inf, 3 seeds): no difference is shown." in text


def test_the_finding_says_when_nothing_is_shown():
    noise = finding("a", runs([0.03, 0.05]), "b", runs([0.04, 0.04]))
    assert ", 2 seeds): no difference is shown" in noise
    one = finding("a", runs([0.03]), "b", runs([0.04]))
    assert "test error -1.00, one seed, which has no interval and shows nothing" in one


def test_mixed_digits_are_those_of_the_library():
    images = torch.rand(32, 5, 5, generator=torch.Generator().manual_seed(0))
    figure = Figure()
    draw_mixed_digits(figure, images, (1, 16), torch.Generator().manual_seed(1))
    shown = [axes.images[0].get_array() for axes in figure.axes]
    generator = torch.Generator().manual_seed(1)
    for row, k in ((1, 1), (3, 16)):
        partner = images[KMixup(k, 1.0, generator=generator).plan(images).partner]
        for column in range(6):
            np.testing.assert_allclose(shown[6 * row + column], partner[column])
            np.testing.assert_allclose(shown[6 * (row + 1) + column], (images[column] + partner[column]) / 2, atol=1e-6)


@pytest.mark.slow
def test_the_demo_prints_its_table_what_it_found_and_draws_its_picture(tmp_path, monkeypatch):
    monkeypatch.setenv("KMIXUP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    arguments = ["demo", "--out", str(tmp_path / "demo"), "--trials", "2", "--epochs", "1", "--jobs", "1"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    assert "2,000 digits train, 3,000 test. Epochs: 1. Seeds per method, shared by the methods: 2." in text
    assert "Found: k-mixup (k = 16) against mixup (k = 1)" in text
    assert "Found: k-mixup (k = 16) against no mixup" in text
    (errors,) = (line for line in result.output.splitlines() if line.strip().startswith("test error"))
    assert errors.count("+-") == 3
    assert "…" not in result.output
    for ending in ("png", "svg"):
        assert (tmp_path / "demo" / f"demo.{ending}").stat().st_size > 10_000
    again = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "6 finished before, 0 to run" in again.output
