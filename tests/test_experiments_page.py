"""The page of a report, without a browser: its numbers are those of the run files, and nothing becomes code."""

import json
import re
import shlex
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from kmixup import cli
from kmixup.experiments.files import parse_settings
from kmixup.experiments.naming import commands
from kmixup.experiments.recipe import read_recipe, recipe_names
from kmixup.experiments.report import to_csv, to_html, to_latex
from kmixup.experiments.run import Curves, Environment, Match, Run, Seconds
from kmixup.experiments.scorecard import make_scorecard
from kmixup.experiments.summary import make_report

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>'\"&<!--"
RECIPE = """
title = 'T'
note = 'N'
trials = 4
[shared]
dataset = "iris"
model = "fc"
model_options = { hidden = [8] }
epochs = 10
[[group]]
name = "g"
title = 'T'
cell = [
    { method = "erm", published = { error = 4.0, attack = { 4 = 30.0 } } },
    { k = 1, alpha = 1, published = { error = 3.0, xi = 0.22 } },
    { k = 1, alpha = inf },
    { k = 16, alpha = 1, published = { error = 1.0, xi = 0.22 } },
    { k = 16, alpha = inf },
]
[[claim]]
text = 'T'
kind = "each"
cells = { k = 16 }
than = { k = 1, method = "mixup" }
"""


def recipe_of(folder, text=RECIPE):
    (folder / "mine.toml").write_text(text, encoding="utf-8")
    return read_recipe(str(folder / "mine.toml"))


def made(trial, error, **changes):
    epochs = trial.epochs
    curves = Curves(train_loss=[1.0] * epochs, train_accuracy=[0.5] * epochs, test_error=[error or 0.5] * epochs)
    values = {
        "id": trial.id,
        "trial": trial,
        "source": "",
        "final_error": error,
        "best_error": error,
        "match": Match(matched_sq_distance=1.5, unmatched_sq_distance=3, self_share=0, same_class_share=0.5),
        "curves": curves,
        "seconds": Seconds(total=2, matching=0.5),
        "environment": Environment(commit="abcdef123456", versions={}, device="cpu", processor="p", threads=1),
    }
    return Run(**{**values, **changes})


def runs_of(recipe, seeds=4, **changes):
    return [
        made(cell.trial(seed), 0.01 * (place + 1) + 0.001 * seed, **changes)
        for place, cell in enumerate(recipe.cells)
        for seed in range(seeds)
    ]


class Page(HTMLParser):
    """What a page holds: tags, attributes, texts of the cells' buttons, the data of its script."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts, self.buttons = Counter(), set(), [], {}
        self._open = None
        self.feed(text)
        source = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
        self.data = json.loads(source[1])
        self.cells = self.data["cells"]

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        if tag == "button" and "data-cell" in dict(attrs):
            self._open = int(dict(attrs)["data-cell"])
            self.buttons[self._open] = []

    def handle_endtag(self, tag):
        if tag == "button":
            self._open = None

    def handle_data(self, data):
        self.texts.append(data)
        if self._open is not None:
            self.buttons[self._open].append(data)


def page_of(recipe, runs):
    return Page(to_html(make_scorecard([recipe], runs)))


def test_the_numbers_on_the_page_are_those_of_the_run_files(tmp_path):
    recipe = recipe_of(tmp_path)
    runs = runs_of(recipe, attack_error={"4": 0.2, "16": 0.5}, noise_error={"0.1": 0.3})
    page = page_of(recipe, runs)
    assert len(page.buttons) == len(page.cells) == len(recipe.cells)
    for place, cell in enumerate(recipe.cells):
        errors = 100 * np.array([run.final_error for run in runs if run.trial.cell_id == cell.settings.cell_id])
        mean, spread = errors.mean(), errors.std(ddof=1) / 2
        published = cell.published.error
        beside = "not published" if published is None else f"published {published:.2f}, {mean - published:+.2f}"
        assert page.buttons[place][:2] == [f"{mean:.2f} ± {spread:.2f} (4)", beside]
        (first, *_) = page.cells[place]["readings"]
        assert first["mean"] == pytest.approx(mean, rel=1e-12)
        assert [error for _, error in first["seeds"]] == pytest.approx(list(errors))
        assert first["match"]["matched_sq_distance"] == 1.5
        assert first["attacked"] == {"4": [20.0, 0.0, 4], "16": [50.0, 0.0, 4]}
        assert first["noisy"] == {"0.1": [30.0, 0.0, 4]}
        assert first["curves"]["epochs"] == list(range(1, 11))
        assert first["curves"]["test_error"][0][0] == pytest.approx(errors.mean(), rel=1e-3)
        assert page.data["texts"][first["commits"]] == "abcdef123"
        assert page.data["texts"][first["command"]] == commands(recipe)[place]
    assert page.cells[0]["attack"] == {"4": 30.0}


def test_a_cell_shows_every_reading_that_was_run_beside_the_first(tmp_path):
    recipe = recipe_of(tmp_path)
    printed = recipe.read_as("as-printed")
    others = [made(printed.cells[3].trial(seed), 0.2) for seed in range(3)]
    page = page_of(recipe, [*runs_of(recipe), *others])
    assert [each["reading"] for each in page.cells[3]["readings"]] == ["as trained", "as printed"]
    assert page.buttons[3][-1] == "as printed 20.00 ± 0.00 (3 of 4), +19.00"
    command_printed = page.data["texts"][page.cells[3]["readings"][1]["command"]]
    assert "--reading as-printed" in command_printed
    # Where a reading changes nothing, there is nothing beside.
    assert [each["reading"] for each in page.cells[1]["readings"]] == ["as trained"]


def test_nothing_that_runs_and_recipes_say_becomes_an_element_or_code(tmp_path):
    plain = page_of(recipe_of(tmp_path), [])
    (tmp_path / "hostile").mkdir()
    text = RECIPE.replace("'T'", json.dumps(HOSTILE)).replace("'N'", json.dumps(HOSTILE))
    recipe = recipe_of(tmp_path / "hostile", text.replace('name = "g"', f"name = {json.dumps(HOSTILE)}"))
    named = recipe.override(model=f"mine:{HOSTILE}")
    here = Environment(commit=HOSTILE, versions={"torch": HOSTILE}, device=HOSTILE, processor=HOSTILE, threads=1)
    runs = runs_of(named, seeds=5, note=HOSTILE, environment=here)
    page = page_of(named, runs)
    assert set(page.tags) <= set(plain.tags) | {"li", "ul", "em"}
    assert page.tags["script"] == plain.tags["script"] == 3
    assert not {name for name in page.attributes if name.startswith("on") or name == "src"}
    assert HOSTILE in "".join(page.texts)
    assert page.data["texts"][page.cells[1]["readings"][0]["data"]] == HOSTILE


def test_the_page_asks_for_nothing_outside_itself(tmp_path):
    text = to_html(make_scorecard([recipe_of(tmp_path)], []))
    outside = re.sub(r'<script type="text/plain" id="plotly">.*?</script>', "", text, flags=re.DOTALL)
    assert "http:" not in outside
    assert "https:" not in outside
    assert "default-src 'none'" in outside
    assert "@import" not in outside
    assert "url(" not in outside


def test_missing_cells_one_run_and_diverged_runs_are_what_they_are(tmp_path):
    recipe = recipe_of(tmp_path)
    runs = [made(recipe.cells[0].trial(0), 0.05)]
    runs += [made(recipe.cells[1].trial(seed), None, diverged=True) for seed in range(2)]
    runs += [made(recipe.cells[3].trial(seed), 0.1 if seed else None, diverged=not seed) for seed in range(3)]
    page = page_of(recipe, runs)
    assert page.buttons[0][0] == "5.00 (1 of 4)"
    assert page.buttons[1][0] == "— (2 diverged)"
    assert "curves" not in page.cells[1]["readings"][0]
    assert page.buttons[3][0] == "10.00 ± 0.00 (2 of 4; 1 diverged)"
    assert page.cells[3]["readings"][0]["curves"]["n"] == 2
    assert page.buttons[2] == ["—", "not published"]
    assert "seeds" not in page.cells[2]["readings"][0]
    assert page.cells[2]["alpha"] == "inf"
    empty = page_of(recipe, [])
    assert {text for texts in empty.buttons.values() for text in texts[:1]} == {"—"}


def test_cells_without_their_table_have_no_scorecard_and_say_so(tmp_path):
    page = page_of(recipe_of(tmp_path).where(k=16), [])
    assert any("a scorecard takes whole tables" in text for text in page.texts)


@pytest.mark.slow
def test_a_page_of_1500_long_runs_stays_under_eight_megabytes():
    recipe = read_recipe("table1")
    runs = runs_of(recipe, seeds=20)
    assert len(runs) > 1500
    assert len(runs[0].curves.test_error) == 200
    text = to_html(make_scorecard([recipe], runs))
    assert len(text.encode()) < 8e6
    assert len(Page(text).cells[5]["readings"][0]["curves"]["epochs"]) == 200


def test_a_page_that_would_be_too_large_says_what_to_choose(tmp_path):
    recipe = recipe_of(tmp_path)
    runs = runs_of(recipe, note="a" * 2_000_000)
    with pytest.raises(ValueError, match=r"the page would have \d+\.\d MB.*--where"):
        to_html(make_scorecard([recipe], runs))


def test_without_plotly_the_page_says_which_extra_is_missing(tmp_path, monkeypatch, capsys):
    recipe_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "plotly"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setattr(sys, "argv", ["kmixup", "report", "mine.toml", "--to", "r.html"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "this needs plotly, which is not installed. Run: pip install 'kmixup[report]'" in capsys.readouterr().err


@pytest.mark.parametrize("name", [*recipe_names(), "table1-as-printed"])
def test_the_command_of_a_cell_picks_this_cell_and_no_other(name):
    recipe = read_recipe(name)
    for cell, text in zip(recipe.cells, commands(recipe), strict=True):
        words = shlex.split(text)
        assert words[:3] == ["kmixup", "reproduce", name.removesuffix("-as-printed")]
        where = [words[place + 1] for place, word in enumerate(words) if word == "--where"]
        assert recipe.where(**parse_settings(where)).cells == (cell,)


def test_the_command_of_a_cell_says_what_was_changed_by_the_command_line(tmp_path):
    recipe = recipe_of(tmp_path).read_as("as-printed").override(trials=2, lr=0.5, model_options={"hidden": [4]})
    words = shlex.split(commands(recipe)[3])
    assert words[2:] == [
        str(tmp_path / "mine.toml"),
        *("--reading", "as-printed", "--set", "lr=0.5", "--set", "model_options.hidden=[4]", "--trials", "2"),
        *("--where", "k=16", "--where", "alpha=1"),
    ]


def test_csv_is_ready_for_pandas(tmp_path):
    recipe = recipe_of(tmp_path)
    report = make_report(recipe, runs_of(recipe, attack_error={"4": 0.2}))
    (tmp_path / "r.csv").write_text(to_csv([report, make_report(read_recipe("table7b"), [])]), encoding="utf-8")
    frame = pd.read_csv(tmp_path / "r.csv")
    numbers = [
        "k",
        "alpha",
        "error",
        "std_error",
        "n",
        "published",
        "matched_sq_distance",
        "fgsm_4",
        "fgsm_4_published",
    ]
    assert all(pd.api.types.is_numeric_dtype(frame[name]) for name in numbers)
    assert set(frame["table"]) == {"mine", "table7"}
    mine = frame[frame["table"] == "mine"]
    assert mine["error"].tolist() == pytest.approx([cell.mean for cell in report.cells])
    assert mine["alpha"].tolist() == [0, 1, np.inf, 1, np.inf]
    assert mine["fgsm_4"].tolist() == [20.0] * 5


def test_latex_has_a_booktabs_table_for_each_part_and_escapes_what_latex_would_read(tmp_path):
    recipe = recipe_of(tmp_path, RECIPE.replace("'T'", r"'100 % of a_b & \x{y} ~#$^'"))
    text = to_latex([make_report(recipe, runs_of(recipe, seeds=3)), make_report(read_recipe("table1"), [])])
    assert text.count(r"\toprule") == text.count(r"\end{table}") == 4
    assert r"100 \% of a\_b \& \textbackslash{}x\{y\} \textasciitilde{}\#\$\textasciicircum{}" in text
    assert r"k = 16 & 4.10 {\scriptsize $\pm$ 0.06}\textsuperscript{a} (1.00) & 5.10" in text
    assert r"$\alpha = \infty$" in text
    assert r"\textsuperscript{a}~3 of 4 trials" in text
    plain = re.sub(r"\\[{}]", "", text)
    assert plain.count("{") == plain.count("}")
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count(" & ") for line in rows[:3]} == {2}


def test_a_table_made_of_others_is_named_beside_them_and_shown_alone(tmp_path):
    mine = recipe_of(tmp_path)
    gathered = replace(mine, name="gathered")
    part, rest = (
        replace(mine, name=name, cells=cells) for name, cells in (("a", mine.cells[:2]), ("b", mine.cells[2:]))
    )
    runs = runs_of(mine, seeds=1)
    together = to_html(make_scorecard([part, rest, gathered], runs))
    assert "Made of the cells of other tables, and shown there: gathered." in together
    assert 'id="table-a-0"' in together
    assert 'id="table-gathered' not in together
    assert 'id="table-gathered' in to_html(make_scorecard([part, gathered], runs))  # it has cells that the other lacks
