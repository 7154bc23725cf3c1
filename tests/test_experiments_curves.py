"""Training curves from run files."""

from __future__ import annotations

import pytest
import torch

from kmixup.experiments.curves import band
from kmixup.experiments.pictures.curves import training_curves
from kmixup.experiments.recipe import read_recipe
from kmixup.experiments.run import Curves, Environment, Run, Seconds
from kmixup.experiments.summary import make_report


def finished(cell, seed, errors, epochs=(), diverged=False):
    trial = cell.trial(seed)
    return Run(
        id=trial.id,
        trial=trial,
        source="",
        final_error=errors[-1],
        best_error=min(errors),
        diverged=diverged,
        curves=Curves(
            train_loss=errors, train_accuracy=[1 - e for e in errors], test_error=errors, epochs=list(epochs)
        ),
        seconds=Seconds(total=1, matching=0),
        environment=Environment(commit="", versions={}, device="cpu", processor="", threads=1),
    )


def figure_4():
    return read_recipe("table9").where(k=[1, 32], alpha=[1, 10])


def test_a_band_is_the_mean_and_deviation_over_trials():
    cell = figure_4().cells[0]
    drawn = band([finished(cell, 0, [0.4, 0.2]), finished(cell, 1, [0.6, 0.2])], "test_error")
    assert drawn.trials == 2
    torch.testing.assert_close(torch.tensor(drawn.mean), torch.tensor([0.5, 0.2], dtype=torch.float64))
    expected = torch.tensor([0.02**0.5, 0.0], dtype=torch.float64)
    torch.testing.assert_close(torch.tensor(drawn.spread), expected)


def test_thinned_curves_are_compared_at_the_epochs_they_share():
    cell = figure_4().cells[0]
    runs = [finished(cell, 0, [0.5, 0.4, 0.3]), finished(cell, 1, [0.7, 0.5], epochs=(1, 3))]
    drawn = band(runs, "test_error")
    assert drawn.epochs.tolist() == [1, 3]
    torch.testing.assert_close(torch.tensor(drawn.mean), torch.tensor([0.6, 0.4], dtype=torch.float64))


def test_diverged_runs_are_left_out():
    cell = figure_4().cells[0]
    runs = [finished(cell, 0, [0.5, 0.4]), finished(cell, 1, [0.9, 0.9], diverged=True)]
    assert band(runs, "test_error").trials == 1
    with pytest.raises(ValueError, match="got 0 that finished"):
        band(runs[1:], "test_error")


def test_figure_4_has_a_line_per_cell_in_both_panels():
    recipe = figure_4()
    assert {(c.settings.k, c.settings.alpha) for c in recipe.cells} == {(1, 1.0), (1, 10.0), (32, 1.0), (32, 10.0)}
    runs = [finished(cell, seed, [0.5, 0.3, 0.2]) for cell in recipe.cells for seed in range(2)]
    figure = training_curves(make_report(recipe, runs))
    assert [len(axes.lines) for axes in figure.axes] == [4, 4]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[0] == "k = 1, alpha = 1 (n = 2)"
    assert figure.axes[0].lines[0].get_ydata().tolist() == pytest.approx([50.0, 70.0, 80.0])


def test_no_runs_are_an_error():
    with pytest.raises(ValueError, match="no runs of table9"):
        training_curves(make_report(figure_4(), []))


def test_many_cells_are_refused_with_what_to_choose_between():
    recipe = read_recipe("table9")
    runs = [finished(cell, 0, [0.5, 0.3]) for cell in recipe.cells]
    with pytest.raises(ValueError, match=r"hold.* 10 lines at most. Choose with --where: k=1,2,4.*; alpha=.*; method="):
        training_curves(make_report(recipe, runs))


def test_ten_lines_differ_without_colour_and_the_legend_hides_none():
    recipe = read_recipe("table9")
    cells = recipe.cells[:10]
    runs = [finished(cell, 0, [0.5, 0.3, 0.2]) for cell in cells]
    figure = training_curves(make_report(recipe, runs))
    looks = [(line.get_marker(), line.get_linestyle()) for line in figure.axes[0].lines]
    assert len(looks) == len(set(looks)) == 10
    figure.draw_without_rendering()
    assert not figure.legends[0].get_window_extent().overlaps(figure.axes[0].get_window_extent())
    assert recipe.title in figure.get_suptitle()
