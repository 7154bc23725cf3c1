"""Reports and claims, from runs made up for the purpose."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from kmixup.experiments.recipe import read_recipe, recipe_names
from kmixup.experiments.report import (
    print_report,
    to_csv,
    to_html,
    to_markdown,
    write_page,
    write_report,
)
from kmixup.experiments.report.scorecard import claims_table, scorecard_to_markdown
from kmixup.experiments.run import Curves, Environment, Run, Seconds
from kmixup.experiments.runs import RunStore, read_lines
from kmixup.experiments.scorecard import make_scorecard
from kmixup.experiments.summary import grids, make_report

RECIPE = """
title = "Mine <b>"
note = "A note & more."
trials = 4
[shared]
dataset = "iris"
model = "fc"
model_options = { hidden = [8] }
epochs = 10
[[group]]
name = "g"
title = "Group"
cell = [
    { method = "erm", published = { error = 4.0 } },
    { k = 1, alpha = 1, published = { error = 3.0, xi = 0.22 } },
    { k = 2, alpha = 1 },
    { k = 16, alpha = 1, published = { error = 1.0, xi = 0.22 } },
    { k = 1, alpha = 2 },
    { k = 2, alpha = 2 },
    { k = 16, alpha = 2 },
]
[[claim]]
text = "Higher k is better."
kind = "each"
cells = { k = [2, 16] }
than = { k = 1, method = "mixup" }
"""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "mine.toml").write_text(RECIPE)
    return read_recipe(str(tmp_path / "mine.toml"))


def fake(trial, error):
    """A run as if its trial had ended with this error (a share)."""
    curves = Curves(train_loss=[1.0], train_accuracy=[0.5], test_error=[error])
    here = Environment(commit="", versions={}, device="cpu", processor="", threads=1)
    seconds = Seconds(total=2.0, matching=0.5)
    made = {"id": trial.id, "trial": trial, "source": "", "final_error": error, "best_error": error / 2, "xi": 0.44}
    return Run(**made, curves=curves, seconds=seconds, environment=here)


def runs_of(recipe, errors, seeds=4, **changes):
    """Runs of each cell; ``errors(cell, seed)`` in percent."""
    chosen = recipe.override(**changes)
    return [fake(cell.trial(seed), errors(cell, seed) / 100) for cell in chosen.cells for seed in range(seeds)]


def by_k(cell, seed):
    return {"erm": 4.0}.get(cell.settings.method, 8.0 / cell.settings.k) + 0.1 * seed


def test_a_cell_is_mean_standard_error_n_and_difference(recipe):
    cell = make_report(recipe, runs_of(recipe, by_k)).cells[3]
    values = 0.5 + 0.1 * np.arange(4)
    assert cell.mean == pytest.approx(values.mean())
    assert cell.std_error == pytest.approx(stats.sem(values))
    assert cell.n == 4
    assert cell.difference == pytest.approx(values.mean() - 1.0)
    assert cell.text() == "0.65 ± 0.06 (4)"


def test_deleting_one_run_changes_n_in_its_cell_and_nothing_else(recipe):
    runs = runs_of(recipe, by_k)
    before = make_report(recipe, runs)
    after = make_report(recipe, [run for run in runs if run.id != before.cells[1].runs[0].id])
    assert [cell.n for cell in after.cells] == [4, 3, 4, 4, 4, 4, 4]
    assert "3 of 4 trials" in after.cells[1].notes
    assert after.cells[1].text().endswith("(3 of 4)")
    assert "3 to 4 seeds; 4 comparisons" in after.verdicts[0].detail
    assert "; 4 seeds; 4 comparisons" in before.verdicts[0].detail


def test_the_best_epoch_is_another_measure(recipe):
    runs = runs_of(recipe, by_k)
    assert make_report(recipe, runs, measure="best").cells[0].mean == pytest.approx(
        make_report(recipe, runs).cells[0].mean / 2
    )


def test_a_reduced_protocol_says_so_and_is_never_averaged_with_the_full_one(recipe):
    full, short = runs_of(recipe, by_k, seeds=2), runs_of(recipe, by_k, seeds=4, epochs=3, train_size=50)
    both = make_report(recipe, full + short)
    assert [cell.n for cell in both.cells] == [2] * 7
    reduced = make_report(recipe, short)
    assert reduced.cells[0].notes == ["epochs 3 instead of 10", "train_size 50 instead of all"]
    assert reduced.cells[0].text().endswith("(4; epochs 3 of 10; train_size 50 of all)")
    assert "(2 cells, 2 of them of a reduced protocol)" in to_markdown(reduced)
    for text in (to_markdown(reduced), to_csv([reduced]), to_html(make_scorecard([recipe], short))):
        assert "epochs 3 instead of 10" in text
    longer = make_report(recipe, short + runs_of(recipe, by_k, seeds=1, epochs=5, train_size=50))
    assert longer.cells[0].n == 1


def test_bars_and_line_ends_in_texts_stay_in_their_cells(recipe):
    report = make_report(recipe, runs_of(recipe, by_k))
    odd = replace(report.verdicts[0], claim=report.verdicts[0].claim.model_copy(update={"text": "P(a | b)\nis so."}))
    table = claims_table([odd, *report.verdicts])
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in table] == [4] * 4
    assert table[2].startswith(r"| P(a \| b) is so. | **")
    scorecard = make_scorecard([replace(recipe, name="mine|2")], runs_of(recipe, by_k))
    assert r"| mine\|2 | as trained | 7 of 7 cells" in scorecard_to_markdown(scorecard)


def protocols_of(recipe, runs):
    """What a cell and the claim of its table say of the protocol that they rest on."""
    report = make_report(recipe, runs)
    claim = report.verdicts[0].detail
    return report.cells[2].text().partition("; ")[2].removesuffix(")"), claim[: claim.index("effect")]


def test_a_cell_and_a_claim_rest_on_the_protocol_that_was_asked_for_then_on_more_points_then_on_more_epochs(recipe):
    full, short = runs_of(recipe, by_k, seeds=6), runs_of(recipe, by_k, seeds=6, epochs=3)
    small = runs_of(recipe, by_k, seeds=6, epochs=5, train_size=50)
    asked = recipe.override(epochs=3)
    short_is = ("epochs 3 of 10", "on a reduced protocol (epochs 3 of 10); ")
    assert protocols_of(recipe, full + short + small) == ("", "")
    assert protocols_of(asked, full + short + small) == short_is
    assert protocols_of(asked, full + small) == ("", "")
    assert protocols_of(recipe, short + small) == short_is


def test_a_longer_protocol_is_named_and_is_not_a_reduced_one(recipe):
    long = runs_of(recipe, by_k, seeds=6, epochs=20)
    assert protocols_of(recipe, long) == ("epochs 20 of 10", "on another protocol (epochs 20 of 10); ")
    assert "(2 cells)" in to_markdown(make_report(recipe, long))


def test_runs_of_other_recipes_are_left_out(recipe):
    other = runs_of(recipe, by_k, lr=0.5)
    assert all(cell.n == 0 for cell in make_report(recipe, other).cells)


def test_each_part_says_how_far_it_is_from_the_paper(recipe):
    report = make_report(recipe, runs_of(recipe, by_k))
    gaps = [abs(8.15 - 3.0), abs(0.65 - 1.0)]
    expected = f"Mean absolute difference from the published numbers: {np.mean(gaps):.2f} points (2 cells)."
    assert expected in to_markdown(report)
    assert expected in to_html(make_scorecard([recipe], runs_of(recipe, by_k)))
    assert "Mean absolute" not in to_markdown(make_report(recipe, []))


def test_a_missing_number_is_a_dash_and_never_a_zero(recipe):
    text = to_markdown(make_report(recipe, runs_of(recipe, by_k)))
    row = next(line for line in text.splitlines() if line.startswith("| k = 2"))
    assert row.count("—") == 4  # neither published nor a difference, twice
    empty = make_report(recipe, [])
    assert empty.cells[0].text() == "—"
    assert [judged.outcome for judged in empty.verdicts] == ["not tested"]
    rows = list(csv.DictReader(io.StringIO(to_csv([empty]))))
    assert rows[0]["error"] == rows[2]["published"] == rows[0]["difference"] == ""


def test_diverged_runs_are_counted_and_not_averaged(recipe):
    runs = runs_of(recipe, by_k)
    runs[0] = runs[0].model_copy(update={"diverged": True, "final_error": None, "best_error": None})
    cell = make_report(recipe, runs).cells[0]
    assert cell.n == 3
    assert "1 of 4 runs diverged" in cell.notes
    assert cell.text().endswith("(3 of 4; 1 diverged)")
    lost = [run.model_copy(update={"diverged": True, "final_error": None, "best_error": None}) for run in runs]
    assert make_report(recipe, lost).cells[0].text() == "— (4 diverged)"


def test_the_printed_xi_stands_beside_half_of_ours(recipe):
    assert "alpha = 1, xi/2 = 0.22 (paper 0.22)" in to_markdown(make_report(recipe, runs_of(recipe, by_k)))


def test_csv_has_a_row_a_cell_with_plain_numbers(recipe):
    rows = list(csv.DictReader(io.StringIO(to_csv([make_report(recipe, runs_of(recipe, by_k))]))))
    assert len(rows) == 7
    assert float(rows[3]["error"]) == pytest.approx(0.65)
    assert float(rows[3]["published"]) == 1.0
    assert (rows[3]["k"], rows[3]["n"], rows[3]["method"]) == ("16", "4", "k-mixup")


@pytest.mark.parametrize("width", [40, 60, 200])
def test_the_terminal_shows_every_number_whatever_its_width(recipe, width):
    console = Console(width=width, record=True, file=io.StringIO())
    report = make_report(recipe, runs_of(recipe, by_k))
    print_report(report, console)
    text = " ".join(console.export_text().split())
    assert all(cell.text() in text for cell in report.cells)
    assert all(f"k = {k}" in text for k in (1, 2, 16))
    assert "…" not in text
    assert "Higher k is better." in text


VARIED = """
title = "Learning rates"
trials = 2
[shared]
dataset = "iris"
model = "fc"
k = 4
alpha = 1.0
[[cell]]
lr = 0.001
model_options = { hidden = [4] }
[[cell]]
lr = 0.01
model_options = { hidden = [4] }
[[cell]]
lr = 0.01
model_options = { hidden = [64] }
[[cell]]
lr = 0.01
model_options = { hidden = [64] }
published = { error = 3.0 }
"""


def test_cells_that_differ_in_any_setting_have_a_row_of_their_own_that_names_it(tmp_path):
    (tmp_path / "rates.toml").write_text(VARIED)
    recipe = read_recipe(str(tmp_path / "rates.toml"))
    report = make_report(recipe, runs_of(recipe, lambda cell, seed: 100 * cell.settings.lr + seed, seeds=2))
    (grid,) = grids(report)
    assert grid.rows[:3] == (
        "k = 4, model_options.hidden = [4], lr = 0.001",
        "k = 4, model_options.hidden = [4], lr = 0.01",
        "k = 4, model_options.hidden = [64], lr = 0.01",
    )
    assert [cell.mean for cell in grid.cells.values()] == pytest.approx([0.6, 1.5, 1.5, 1.5])
    rows = list(csv.DictReader(io.StringIO(to_csv([report]))))
    assert [(row["lr"], row["model_options.hidden"]) for row in rows[:3]] == [
        ("0.001", "[4]"),
        ("0.01", "[4]"),
        ("0.01", "[64]"),
    ]


@pytest.mark.parametrize("name", recipe_names())
def test_no_cell_of_a_table_is_left_out_of_its_report(name):
    report = make_report(read_recipe(name), [])
    shown = [cell for grid in grids(report) for cell in (*grid.cells.values(), *(cell for _, cell in grid.unmixed))]
    assert sorted(map(id, shown)) == sorted(map(id, report.cells))
    assert len(to_csv([report]).splitlines()) == len(report.cells) + 1


def test_a_report_says_how_it_was_trained_and_where_its_runs_are_from(recipe):
    text = to_markdown(make_report(recipe, runs_of(recipe, by_k)[:20]))
    assert "Protocol: dataset = iris, model = fc, model_options.hidden = [8], epochs = 10, batch_size = 128" in text
    assert "no run yet: 2 of 7 cells" in text
    assert "- 20 runs, finished " in text


def test_published_numbers_stay_only_with_the_settings_that_they_were_published_for(recipe):
    mixing = recipe.where(method=["mixup", "k-mixup"])
    published = [cell.published.error for cell in mixing.cells]
    changed = [cell.published.error for cell in mixing.override(k=16).cells]
    assert changed == [None, None, published[2], None, None, None]
    assert [cell.published.error for cell in mixing.override(trials=9, alpha=1.0).cells[:3]] == published[:3]
    text = to_markdown(make_report(mixing.override(k=32), []))
    assert "1.00" not in text
    short = make_report(mixing.override(epochs=3), runs_of(mixing, by_k, epochs=3) + runs_of(mixing, by_k))
    assert short.cells[2].text() == "0.65 ± 0.06 (4; epochs 3 of 10)"
    assert short.cells[2].difference == pytest.approx(0.65 - 1.0)


def test_a_report_on_splits_of_ones_own_file_says_that_they_share_samples(recipe):
    own = recipe.override(dataset="csv", dataset_options={"path": "mine.csv"})
    assert "splits share samples: ± and verdicts speak of splits of this file only" in to_markdown(make_report(own, []))
    assert "splits share samples" not in to_markdown(make_report(recipe, []))


def test_a_report_says_which_reading_alpha_followed(recipe):
    assert "Reading: as-trained (alpha itself, whatever k)." in to_markdown(make_report(recipe, []))
    printed = make_report(recipe.read_as("as-printed"), [])
    assert "Reading: as-printed (alpha_k by Algorithm 1, so that xi is that of k = 1)." in to_markdown(printed)
    own = make_report(recipe.override(alpha_rule="sqrt"), [])
    assert "Reading: as-trained (alpha itself, whatever k, but for settings of its own)." in to_markdown(own)


def test_a_cell_with_runs_of_two_data_sets_is_refused_by_name_and_the_others_are_not(recipe):
    runs = [run.model_copy(update={"source": f"hash{run.trial.seed % 2}"}) for run in runs_of(recipe, by_k)[:4]]
    report = make_report(recipe, [*runs, *runs_of(recipe, by_k)[4:]])
    assert report.cells[0].n == 0
    assert "iris, ERM has runs of different data, code" in to_markdown(report)
    assert report.cells[1].n == 4


def test_an_alpha_that_stopped_short_is_marked_beside_the_number(recipe):
    runs = [run.model_copy(update={"attainable": run.trial.k < 16}) for run in runs_of(recipe, by_k)]
    report = make_report(recipe, runs)
    assert report.cells[3].text() == "0.65 ± 0.06 (4; capped)"
    assert "capped: alpha_k stopped at 100, short of the xi of k = 1: 2 of 7 cells" in to_markdown(report)


def test_write_report_goes_by_the_ending(recipe, tmp_path):
    report = make_report(recipe, [])
    for ending in ("md", "csv", "tex"):
        write_report([report], tmp_path / "new" / f"r.{ending}")
        assert (tmp_path / "new" / f"r.{ending}").read_text()
    write_page(make_scorecard([recipe], []), tmp_path / "new" / "r.html")
    assert "Mine" in (tmp_path / "new" / "r.html").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match=r"ends in .md, .csv, .tex, .html, got 'r.pdf'"):
        write_report([report], tmp_path / "r.pdf")


def test_no_trial_has_two_results_among_the_committed_runs():
    results = Path(__file__).parents[1] / "results"
    if not results.is_dir():
        pytest.skip("the results are beside the sources, run from the repository")
    found = {}
    for file in sorted(results.glob("*.jsonl")):
        for run in read_lines(file):
            assert found.setdefault(run.id, run.final_error) == run.final_error, (file.name, run.id)


def test_the_committed_reports_are_what_the_committed_runs_say():
    results = Path(__file__).parents[1] / "results"
    if not results.is_dir():
        pytest.skip("the results are beside the sources, run from the repository")
    runs = RunStore(Path("no such folder"), [results]).all()
    files = sorted(results.glob("*.jsonl"))
    assert len(files) >= 9
    for file in files:
        committed = file.with_suffix(".md").read_text(encoding="utf-8")
        assert committed == to_markdown(make_report(read_recipe(file.stem), runs)), f"kmixup report {file.stem} --to"
