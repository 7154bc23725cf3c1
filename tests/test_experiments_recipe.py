"""Recipes and trials."""

import hashlib
import json
import math
import re
from pathlib import Path

import pytest

from kmixup.experiments.files import parse_settings
from kmixup.experiments.readings import READINGS, read, readings_of
from kmixup.experiments.recipe import Cell, Claim, Published, make_trial, read_recipe, recipe_names
from kmixup.experiments.runs import RunStore
from kmixup.experiments.trial import Trial

TRIAL = {"dataset": "iris", "model": "fc", "model_options": {"hidden": [4]}}

RECIPE = """
title = "Mine"
[shared]
dataset = "iris"
model = "fc"
model_options = { hidden = [8] }
epochs = 3
[[cell]]
k = 4
alpha = 1
published = { error = 3.0 }
"""


def write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_read_and_names_what_exists(name):
    recipe = read_recipe(name)
    assert recipe.cells
    assert len({cell.settings.cell_id + cell.group for cell in recipe.cells}) == len(recipe.cells)


def test_table_1_has_75_cells_and_erm_for_each_data_set():
    recipe = read_recipe("table1")
    assert len(recipe.cells) == 75 + 3
    assert len(recipe.where(method="erm").cells) == 3
    assert {cell.trials for cell in recipe.cells} == {20}
    assert all(cell.settings.epochs == 200 and cell.settings.milestones == (0.5, 0.75) for cell in recipe.cells)


def test_table_5_has_every_cell_of_its_five_data_sets_and_keeps_lost_numbers_missing():
    recipe = read_recipe("table5")
    assert len(recipe.cells) == 5 * 16
    missing = [c for c in recipe.where(dataset=["abalone", "arrhythmia"]).cells if c.published.error is None]
    assert len(missing) == 4 + 4 + 4  # alpha .05 of both and .1 of Arrhythmia, all but k = 16
    assert all(cell.published.error is not None for cell in recipe.where(dataset=["iris", "phishing"]).cells)


def test_one_letter_picks_a_group():
    assert [cell.group for cell in read_recipe("table1b").cells] == ["b"] * 26


@pytest.mark.parametrize(("name", "ours", "printed"), [("table1", 20, 5), ("table3-rules", 3, 20), ("table5", 20, 20)])
def test_a_printed_number_is_the_mean_of_the_papers_trials_not_of_ours(name, ours, printed):
    for cell in read_recipe(name).cells:
        assert (cell.trials, cell.printed_trials) == (ours, printed)


def test_a_recipe_of_ones_own_is_read_from_its_path(tmp_path):
    recipe = read_recipe(write(tmp_path, RECIPE))
    (cell,) = recipe.cells
    assert (recipe.name, cell.settings.k, cell.settings.epochs, cell.published.error) == ("mine", 4, 3, 3.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("epochs = 3", "epoch = 3"), r"mine.toml: cell 1: unknown setting 'epoch'. Did you mean 'epochs'\?"),
        (("title", "titel"), "Did you mean 'title'"),
        (
            ('title = "Mine"', 'title = "Mine"\nreading = "as-printd"'),
            "cell 1: unknown reading 'as-printd'. Did you mean",
        ),
        (("error = 3.0", "eror = 3.0"), "unknown setting 'eror'. Did you mean 'error'"),
        (("k = 4", "k = 0"), "cell 1: k: Input should be greater than or equal to 1, got 0"),
        (("k = 4", "k = 4\nmethod = 'erm'"), "method 'erm' mixes nothing, got k = 4"),
        (("k = 4", "k = "), "mine.toml: not TOML"),
        (("k = 4", "k = 4\nseed = 7"), "cell 1: seed is no setting of a cell, whose trials have the seeds 0, 1, 2, "),
        (("epochs = 3", "epochs = 3\nseed = 7"), r"cell 1: seed is no setting .* got 7\. Say how many with `trials`"),
        (("[[cell]]", "[[cells]]"), "unknown setting 'cells'. Did you mean 'cell'"),
    ],
)
def test_a_mistake_in_a_recipe_is_an_error_that_names_the_place_and_the_remedy(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        read_recipe(write(tmp_path, RECIPE.replace(*change)))


def test_a_recipe_that_is_no_text_is_named(tmp_path):
    (tmp_path / "mine.toml").write_bytes(b'title = "\xff"')
    with pytest.raises(ValueError, match=r"mine\.toml is no text in UTF-8 \(invalid start byte at byte 9\)"):
        read_recipe(str(tmp_path / "mine.toml"))


def test_a_name_that_is_no_recipe_suggests_one():
    with pytest.raises(ValueError, match=r"unknown recipe 'tabel1'. Did you mean 'table1'"):
        read_recipe("tabel1")
    with pytest.raises(ValueError, match=r"no recipe file nowhere.toml"):
        read_recipe("nowhere.toml")


def test_where_keeps_the_cells_with_one_of_the_values():
    recipe = read_recipe("table1").where(k=[1, 16], alpha=1)
    assert {(c.settings.k, c.settings.alpha) for c in recipe.cells} == {(1, 1.0), (16, 1.0)}
    with pytest.raises(ValueError, match=r"unknown setting 'alfa'. Did you mean 'alpha'"):
        recipe.where(alfa=1)
    with pytest.raises(ValueError, match=r"no cell of table1 has k=3\. It has k=1,16\."):
        recipe.where(k=3)


def test_claims_are_about_the_whole_table():
    recipe = read_recipe("table1")
    assert recipe.where().claims == recipe.where(model="fc").claims == recipe.claims
    assert recipe.where(group="b").claims == ()


def test_override_changes_every_cell_and_refuses_nonsense():
    recipe = read_recipe("table1").override(trials=2, epochs=7, metric="euclidean", lr=None)
    assert {(c.trials, c.settings.epochs, c.settings.metric) for c in recipe.cells} == {(2, 7, "euclidean")}
    assert recipe.cells[0].settings.lr == 0.1
    with pytest.raises(ValueError, match="metric"):
        recipe.override(metric="manhattan")
    with pytest.raises(ValueError, match="kmixup train --recipe NAME seed=7"):
        recipe.override(seed=7)


def test_all_trials_come_seed_by_seed_so_that_a_short_sweep_has_whole_tables():
    trials = read_recipe("table1").all_trials()
    assert [trial.seed for trial in trials] == [seed for seed in range(20) for _ in range(78)]
    assert len({trial.id for trial in trials}) == len(trials)


def test_an_id_depends_on_what_changes_the_numbers_and_on_nothing_else():
    trial = Trial(**TRIAL, k=4, alpha=1.0)
    different = [
        {"k": 8},
        {"alpha": 2.0},
        {"seed": 1},
        {"lr": 0.2},
        {"metric": "euclidean"},
        {"epochs": 3},
        {"model_options": {"hidden": [5]}},
        {"method": "nearest-neighbour"},
    ]
    ids = {Trial.model_validate({**trial.model_dump(), **change}).id for change in different}
    assert len(ids | {trial.id}) == len(different) + 1
    assert Trial(**TRIAL, k=4, alpha=1, lr=0.1).id == trial.id  # a default written out


def test_an_id_hashes_every_setting_that_matters_and_the_schema_so_that_no_default_can_be_edited_in_silence():
    """Golden: it changes with any default, any name of a setting, and the schema number."""
    trial = Trial(**TRIAL, k=4, alpha=1.0)
    settings = json.loads(trial.model_dump_json())
    assert set(settings) == set(Trial.model_fields)
    expected = hashlib.sha256(json.dumps({"schema": 2, **settings}, sort_keys=True).encode()).hexdigest()[:16]
    assert trial.id == expected == "8082b1d479c3fe0e"


def test_k_mixup_with_k_1_is_mixup_whatever_the_metric_and_shares_its_runs():
    mixup = Trial(**TRIAL, method="mixup", alpha=1.0)
    assert Trial(**TRIAL, k=1, alpha=1.0).id == mixup.id
    assert Trial(**TRIAL, k=1, alpha=1.0, metric="euclidean", alpha_rule="sqrt").id == mixup.id


def test_reduced_protocols_share_the_cell():
    trial = Trial(**TRIAL, k=4, alpha=1.0)
    reduced = Trial(**TRIAL, k=4, alpha=1.0, epochs=3, train_size=10, seed=9)
    assert reduced.cell_id == trial.cell_id
    assert reduced.id != trial.id
    assert Trial(**TRIAL, k=8, alpha=1.0).cell_id != trial.cell_id


def test_a_trial_survives_json_with_infinite_alpha():
    trial = Trial(**TRIAL, k=4, alpha=math.inf)
    again = Trial.model_validate_json(trial.model_dump_json())
    assert again == trial
    assert again.id == trial.id


def test_settings_are_parsed_as_typed():
    assert parse_settings(["k=1,16", "metric=euclidean", "lr=5e-3", "model_options.hidden=[3,4]"]) == {
        "k": [1, 16],
        "metric": "euclidean",
        "lr": 0.005,
        "model_options": {"hidden": [3, 4]},
    }
    assert parse_settings(["a=True", "b=False", "c=true"]) == {"a": True, "b": False, "c": True}
    with pytest.raises(ValueError, match="a setting is name=value, got 'k'"):
        parse_settings(["k"])
    with pytest.raises(ValueError, match=r"'k.x=2' is an option of k, which has the value 1. Say one of the two"):
        parse_settings(["k=1", "k.x=2"])
    for twice in (["k=1", "k=16"], ["k.x=1", "k={y=1}"], ["k={x=1}", "k.x=2"]):
        with pytest.raises(ValueError, match=rf"k(\.x)? is given twice, got '{re.escape(twice[1])}' last\. .* commas"):
            parse_settings(twice)


def test_a_trial_can_start_from_the_nearest_cell_of_a_recipe():
    trial = make_trial({"dataset": "swiss-roll", "k": 8, "alpha": 4, "epochs": 5}, recipe="table1")
    cell = read_recipe("table1c").where(k=8, alpha=4).cells[0]
    assert trial == cell.settings.model_copy(update={"epochs": 5})
    with pytest.raises(ValueError, match="unknown setting 'epoch'"):
        make_trial({**TRIAL, "epoch": 3})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "each"}, "needs `than`"),
        ({"kind": "below"}, "`bound`"),
        ({"cells": {"kk": 1}}, "unknown setting 'kk'. Did you mean 'k'"),
    ],
)
def test_an_incomplete_claim_is_an_error(change, message):
    with pytest.raises(ValueError, match=message):
        Claim.model_validate({"text": "", "kind": "best", "cells": {"k": 16}, **change})


def test_published_numbers_match_the_paper_where_a_column_says_them():
    """Golden: a corner of each table, as printed."""
    table1 = read_recipe("table1c").where(k=16, alpha=64).cells[0]
    assert (table1.published.error, table1.published.xi) == (0.27, 3.0)
    iris = read_recipe("table5").where(dataset="iris", k=8, alpha=0.05).cells[0]
    assert (iris.published.error, iris.published.xi) == (2.5, 0.07)


# --- readings ---------------------------------------------------------------------------------------------------------


def test_alpha_itself_is_the_default_reading_everywhere():
    assert Trial(**TRIAL, k=4, alpha=1.0).alpha_rule == "none"
    assert make_trial({**TRIAL, "k": 4, "alpha": 1.0}).alpha_rule == "none"
    (cell,) = read_recipe("table8").where(k=16, alpha=1).cells
    assert cell.reading == "as-trained"


@pytest.mark.parametrize("name", READINGS)
def test_a_reading_is_its_settings_and_nothing_else(name):
    trial = read({**TRIAL, "k": 4, "alpha": 1.0}, name)
    plain = Trial(**TRIAL, k=4, alpha=1.0)
    differing = {field for field in Trial.model_fields if getattr(trial, field) != getattr(plain, field)}
    assert differing <= set(READINGS[name].settings)
    assert readings_of(trial) == (name,)
    assert readings_of(Trial(**TRIAL, method="erm")) == tuple(READINGS)


def test_a_cell_has_a_trial_per_reading_and_shares_it_where_a_reading_changes_nothing():
    cell = Cell("", {**TRIAL, "k": 4, "alpha": 1.0}, Published(), 3, "as-printed")
    assert cell.trial(2) == cell.trial(2, "as-printed")
    assert len({cell.trial(2, name).id for name in READINGS}) == len(READINGS)
    for given in ({"method": "erm"}, {"k": 1, "alpha": 1.0, "pairing": "shuffle"}, {"method": "mixup"}):
        same = Cell("", {**TRIAL, **given}, Published(), 1)
        ids = {same.trial(0, name).id for name in READINGS if name != "as-released"}
        assert len(ids) == 1
    erm = Cell("", {**TRIAL, "method": "erm"}, Published(), 1)
    assert erm.trial(0, "as-released").id == erm.trial(0).id


def test_the_release_has_its_extra_pass_for_k_above_one_and_its_method_replaces_k_mixup_alone():
    assert read({**TRIAL, "k": 4, "method": "k-mixup"}, "as-released").method == "k-mixup-release"
    assert read({**TRIAL, "k": 1}, "as-released").method == "mixup"
    assert read({**TRIAL, "k": 4, "method": "k-manifold-mixup"}, "as-released").method == "k-manifold-mixup"


def test_a_setting_that_a_recipe_fixes_wins_over_a_reading():
    recipe = read_recipe("table1-rules").where(metric="euclidean").read_as("as-trained")
    assert {(c.settings.metric, c.settings.alpha_rule) for c in recipe.cells} == {("euclidean", "none")}


def test_a_table_under_another_reading_has_a_name_of_its_own():
    table = read_recipe("table3")
    assert table.read_as("as-trained") == table
    other = table.read_as("as-printed")
    assert other.name == "table3-as-printed"
    assert {cell.settings.alpha_rule for cell in other.where(k=16).cells} == {"exact"}
    with pytest.raises(ValueError, match=r"unknown reading 'printed'. Did you mean 'as-printed'"):
        table.read_as("printed")
    assert [c.group for c in read_recipe("table3-rules").where(reading="as-trained").cells] == ["none", "none"]


def test_a_recipe_is_read_under_another_reading_by_its_name():
    recipe = read_recipe("table1-as-printed")
    assert recipe.name == "table1-as-printed"
    assert {cell.settings.alpha_rule for cell in recipe.cells if cell.settings.k > 1} == {"exact"}
    assert {cell.settings.alpha_rule for cell in read_recipe("table1").cells if cell.settings.k > 1} == {"none"}


RESULTS = Path(__file__).parents[1] / "results"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.jsonl")), ids=lambda path: path.stem)
def test_committed_runs_are_found_under_the_reading_that_their_recipe_names(path):
    runs = {run.trial.cell_id for run in RunStore(RESULTS / "none", [path]).all()}
    cells = {cell.settings.cell_id for cell in read_recipe(path.stem).cells}
    assert runs <= cells


def test_cells_beside_groups_are_in_every_group_and_a_group_may_have_more(tmp_path):
    text = """
title = "x"
[shared]
dataset = "iris"
model = "fc"
model_options = { hidden = [8] }
[[cell]]
method = "erm"
[[cell]]
k = 4
alpha = 1
[[group]]
name = "a"
[[group]]
name = "b"
lr = 0.5
cell = [{ k = 8, alpha = 1 }]
"""
    recipe = read_recipe(write(tmp_path, text))
    assert [(cell.group, cell.settings.k, cell.settings.lr) for cell in recipe.cells] == [
        *(("a", 1, 0.1), ("a", 4, 0.1)),
        *(("b", 1, 0.5), ("b", 4, 0.5), ("b", 8, 0.5)),
    ]


def test_the_study_gives_every_method_eight_settings_on_every_set_and_the_same_splits():
    recipe = read_recipe("study")
    assert len(recipe.groups) == 30
    for group in recipe.groups:
        cells = recipe.where(group=group).cells
        by_method = {}
        for cell in cells:
            name = cell.settings.method
            by_method.setdefault(name, set()).add(cell.settings.id)
        assert {"erm", "label-smoothing", "mixup", "k-mixup"} <= set(by_method)
        assert {len(ids) for ids in by_method.values()} == {8}
        assert {(cell.trials, cell.settings.validation) for cell in cells} == {(10, 0.2)}


def test_the_recommendation_is_tried_on_ten_sets_outside_the_study_under_its_protocol():
    study, others = read_recipe("study-tables"), read_recipe("study-others")
    assert len(others.groups) == 10
    assert not set(others.groups) & set(study.groups)
    protocol = ("model", "model_options", "validation", "epochs", "lr", "noise_sigmas", "milestones", "pairing")
    assert len({str([cell.value(name) for name in protocol]) for cell in (*study.cells, *others.cells)}) == 1
    method = ("method", "method_options", "weight_decay", "k", "alpha", "alpha_rule")
    offered = {str([cell.value(name) for name in method]) for cell in study.cells}
    for group in others.groups:
        cells = others.where(group=group).cells
        asked = [str([cell.value(name) for name in method]) for cell in cells]
        assert len(asked) == len(offered & set(asked)) == 5
        assert {cell.trials for cell in cells} == {10}
