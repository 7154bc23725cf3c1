"""Claims judged on made-up runs, the scorecard, and the committed pages that are rendered from committed runs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kmixup.experiments.claims import comparable, formula, judge_claim
from kmixup.experiments.misfit import Duel
from kmixup.experiments.recipe import Claim, read_recipe, recipe_names
from kmixup.experiments.report import claims_to_markdown, fill_page, readings_to_markdown
from kmixup.experiments.report.scorecard import fill, scorecard_to_markdown
from kmixup.experiments.run import Curves, Environment, Run, Seconds
from kmixup.experiments.runs import RunStore, read_lines
from kmixup.experiments.scorecard import Scorecard, make_scorecard

ROOT = Path(__file__).parents[1]

RECIPE = """
title = "Mine"
trials = 20
[shared]
dataset = "iris"
model = "fc"
model_options = { hidden = [8] }
epochs = 10
attack_epsilons = [1, 8]
noise_sigmas = [0.5]
[[group]]
name = "g"
title = "Group"
cell = [
    { method = "erm", published = { error = 4.0, confidence = 0.2 } },
    { k = 1, alpha = 1, published = { error = 3.0, confidence = 0.2, attack = { 1 = 9.0, 8 = 20.0 } } },
    { k = 2, alpha = 1, published = { error = 2.9, confidence = 0.2, attack = { 1 = 8.0, 8 = 10.0 } } },
    { k = 4, alpha = 1, published = { error = 1.0, confidence = 0.2, attack = { 1 = 8.5, 8 = 10.0 } } },
    { k = 1, alpha = 2, published = { error = 5.0 } },
    { k = 2, alpha = 2, published = { error = 5.0 } },
    { k = 4, alpha = 2, published = { error = 6.0 } },
]
"""


def a_claim(kind, cells, than=None, **more):
    return Claim(text="It is so.", kind=kind, cells=cells, than=than or {}, **more)


EACH = a_claim("each", {"k": [2, 4]}, {"method": "mixup"})
AVERAGE = a_claim("average", {"k": [2, 4]}, {"method": "mixup"})
BEST_K = a_claim("best", {"k": [2, 4]}, {"method": "mixup"}, same=("group",))


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "mine.toml").write_text(RECIPE)
    return read_recipe(str(tmp_path / "mine.toml"))


def fake(trial, error, **changes):
    """A run as if its trial had ended with this error (percent)."""
    curves = Curves(train_loss=[1.0], train_accuracy=[0.5], test_error=[0.5])
    here = Environment(commit="", versions={}, device="cpu", processor="", threads=1)
    made = {"id": trial.id, "trial": trial, "source": "", "final_error": error / 100, "best_error": error / 200}
    made |= {"curves": curves, "seconds": Seconds(total=2.0, matching=0.5), "environment": here}
    return Run(**(made | changes))


def runs_of(recipe, errors, seeds=6, **changes):
    """Runs of each cell; ``errors(settings, seed)`` in percent, None for no run."""
    table = []
    for cell in recipe.override(**changes).cells:
        found = [(cell.trial(seed), errors(cell.settings, seed)) for seed in range(seeds)]
        table.append([fake(trial, error) for trial, error in found if error is not None])
    return table


def flat(table):
    return [run for runs in table for run in runs]


def falling(settings, seed):
    """Errors that fall with k, at both alphas."""
    return 4.0 - settings.k / 2 + 0.1 * seed * (settings.k % 3)


def judge(claim, recipe, runs, measure="final"):
    return judge_claim(claim, recipe.cells, runs, measure)


# --- formulas ---------------------------------------------------------------------------------------------------------


def test_each_is_told_from_on_average(recipe):
    def errors(settings, seed):
        return 5.0 if settings.k < 4 else 5.5 if settings.alpha == 1 else 2.0

    each, average = (judge(claim, recipe, runs_of(recipe, errors, seeds=8)) for claim in (EACH, AVERAGE))
    assert (each.outcome, each.verdict.effect, each.verdict.comparisons) == ("contradicted", -0.5, 4)
    assert (average.outcome, average.verdict.effect, average.verdict.comparisons) == ("held", 0.625, 1)


def test_the_best_of_these_is_compared_with_the_best_of_those_within_each_set(recipe):
    whole = judge(BEST_K, recipe, runs_of(recipe, falling, seeds=8))
    assert (whole.outcome, whole.verdict.comparisons, whole.verdict.seeds) == ("held", 8, (8, 8))
    assert whole.verdict.effect == pytest.approx(3.5 + 0.35 - (2.0 + 0.35))
    assert whole.verdict.published == 2.0
    by_alpha = judge(BEST_K.model_copy(update={"same": ("alpha",)}), recipe, runs_of(recipe, falling, seeds=8))
    assert (by_alpha.outcome, by_alpha.verdict.comparisons, by_alpha.verdict.published) == ("held", 4, 0.0)


def test_without_than_the_best_is_compared_with_all_others(recipe):
    claim = a_claim("best", {"k": 4, "alpha": 1.0}, same=("group",))
    found = judge(claim, recipe, runs_of(recipe, falling, seeds=8))
    assert (found.verdict.comparisons, found.verdict.published) == (6, pytest.approx(1.9))
    assert found.outcome == "undecided"  # k = 4 at the other alpha is as good
    assert found.verdict.effect == 0
    ours_are_no_rivals = a_claim("best", {"k": 4}, {"k": [2, 4]}, same=("group",))
    assert judge(ours_are_no_rivals, recipe, runs_of(recipe, falling)).verdict.comparisons == 4


def test_a_margin_is_judged(recipe):
    runs = runs_of(recipe, lambda settings, seed: 4.0 - settings.k + 0.01 * seed, seeds=8)
    by = [judge(BEST_K.model_copy(update={"margin": m}), recipe, runs).outcome for m in (2.9, 3.0, 3.1)]
    assert by == ["held", "undecided", "contradicted"]
    assert "margin 2.9" in judge(BEST_K.model_copy(update={"margin": 2.9}), recipe, runs).detail


def test_exceptions_are_sets_that_may_fail(recipe):
    def errors(settings, seed):
        return 5.0 - (settings.k if settings.alpha == 1 else -settings.k)

    claim = a_claim("best", {"k": 4})
    runs = runs_of(recipe, errors, seeds=8)
    assert judge(claim, recipe, runs).outcome == "contradicted"
    assert judge(claim.model_copy(update={"exceptions": 1}), recipe, runs).outcome == "held"


def test_printed_ties_are_left_out_and_counted(recipe):
    claim = EACH.model_copy(update={"tie": 0.1})
    found = judge(claim, recipe, runs_of(recipe, falling))
    assert (found.verdict.comparisons, found.printed_ties) == (2, 2)
    assert "2 printed ties left out" in found.detail
    assert judge(EACH.model_copy(update={"tie": 0.0}), recipe, runs_of(recipe, falling)).printed_ties == 1
    assert judge(EACH.model_copy(update={"tie": 9.0}), recipe, runs_of(recipe, falling)) is None


def test_below_judges_the_typical_run(recipe):
    def errors(settings, seed):
        return 90.0 if seed == 3 else 0.1 * settings.k

    claim = a_claim("below", {"method": ["erm", "mixup"]}, bound=0.5)
    found = judge(claim, recipe, runs_of(recipe, errors, seeds=8))
    assert (found.outcome, found.verdict.comparisons) == ("held", 3)
    assert found.verdict.effect == pytest.approx(0.4)
    assert (
        judge(claim.model_copy(update={"bound": 0.05}), recipe, runs_of(recipe, errors, seeds=8)).outcome
        == "contradicted"
    )
    assert judge(a_claim("below", {"k": 99}, bound=0.5), recipe, runs_of(recipe, errors)) is None


@pytest.mark.parametrize(("measure", "sizes"), [("attack", ("1", "8")), ("noise", ("0.5",))])
def test_attacks_and_noises_are_compared_one_by_one(recipe, measure, sizes):
    def run(trial, seed):
        errors = {size: 0.1 - 0.01 * trial.k + 0.05 * float(size) for size in sizes}
        return fake(trial, 5.0, **{f"{measure}_error": errors})

    runs = [[run(cell.trial(seed), seed) for seed in range(6)] for cell in recipe.cells]
    found = judge(EACH.model_copy(update={"measure": measure}), recipe, runs)
    assert (found.outcome, found.verdict.comparisons) == ("held", 4 * len(sizes))
    assert found.verdict.effect == pytest.approx(1.0)
    assert found.verdict.published == (0.5 if measure == "attack" else None)
    runs[2][0] = fake(recipe.cells[2].trial(0), 5.0, diverged=True, final_error=None)
    spoilt = judge(EACH.model_copy(update={"measure": measure}), recipe, runs)
    assert (spoilt.outcome, spoilt.verdict.diverged) == ("undecided", 1)


def test_the_printed_half_width_plans_what_was_not_run(recipe):
    sets = comparable(BEST_K, recipe.cells, [{} for _ in recipe.cells])
    arms = [arm for side in sets[0] for _, arm in side]
    # 0.2 is t times the standard error of 20 trials.
    assert arms[0].published_sd == pytest.approx(0.2 * np.sqrt(20) / 2.0930240544)
    assert [arm.published_sd is None for arm in arms] == [False, False, True, True, False, True]
    node, ties = formula(BEST_K, recipe.cells, [{} for _ in recipe.cells])
    assert (node.published, ties) == (2.0, 0)
    nothing = [[] for _ in recipe.cells]
    assert judge(EACH.model_copy(update={"cells": {"k": 4, "alpha": 1.0}}), recipe, nothing).verdict.seeds_needed == 5
    # The cells of alpha = 2 have no printed half width.
    assert judge(BEST_K, recipe, nothing).remedy == (
        "how many seeds would decide is not known: neither printed numbers nor runs say the spread"
    )
    noise = judge(EACH.model_copy(update={"measure": "noise"}), recipe, nothing)
    assert noise.remedy.endswith("say the effect")
    few = runs_of(recipe, lambda settings, seed: 4.0 - settings.k + 0.1 * seed, seeds=3)
    assert judge(BEST_K, recipe, few).remedy.startswith("5 seeds of each cell would decide if the printed effect")


# --- what must be said ------------------------------------------------------------------------------------------------


def test_runs_of_different_protocols_are_never_compared(recipe):
    full = runs_of(recipe, falling, seeds=8)
    short = runs_of(recipe, lambda settings, seed: 9.0 - settings.k, seeds=8, epochs=3)
    # Ours ran in full, theirs in short only: nothing can be compared, whatever the seeds.
    mixed = [a if cell.settings.k > 1 else b for cell, a, b in zip(recipe.cells, full, short, strict=True)]
    found = judge(EACH, recipe, mixed)
    assert (found.outcome, found.protocol, found.verdict.seeds) == ("not tested", "", (0, 0))
    both = [a + b for a, b in zip(full, short, strict=True)]
    assert judge(EACH, recipe, both).verdict == judge(EACH, recipe, full).verdict
    reduced = judge(EACH, recipe, short)
    assert (reduced.outcome, reduced.protocol) == ("held", "epochs 3 of 10")
    assert reduced.detail.startswith("on a reduced protocol (epochs 3 of 10); effect ")


def test_the_full_protocol_comes_first_then_the_longest_one_that_decides(recipe):
    few = runs_of(recipe, falling, seeds=2)
    short, shorter, small = (
        runs_of(recipe, falling, seeds=n, **change)
        for n, change in ((6, {"epochs": 5}), (8, {"epochs": 3}), (9, {"train_size": 50}))
    )

    def chosen(*tables):
        return judge(EACH, recipe, [flat(runs) for runs in zip(*tables, strict=True)])

    assert chosen(few).protocol == ""
    assert chosen(few, shorter, short).protocol == "epochs 5 of 10"
    assert chosen(few, small).protocol == "train_size 50 of all"
    assert chosen(few, small, shorter).protocol == "epochs 3 of 10"  # more points come first, as in cells
    assert chosen(small, runs_of(recipe, falling, seeds=6)).protocol == ""


def test_one_seed_decides_nothing_and_says_what_would(recipe):
    found = judge(EACH, recipe, runs_of(recipe, falling, seeds=1))
    assert found.outcome == "not tested"
    assert "1 seed; 4 comparisons, 4 with too few seeds" in found.detail
    assert "interval" not in found.detail


def test_diverged_runs_count_as_all_wrong_and_are_said(recipe):
    runs = runs_of(recipe, lambda settings, seed: 5.0 - settings.k, seeds=5)
    runs[3][2] = fake(recipe.cells[3].trial(2), 0.0, diverged=True, final_error=None, best_error=None)
    for measure in ("final", "best"):
        found = judge(BEST_K.model_copy(update={"cells": {"k": 4, "alpha": 1.0}}), recipe, runs, measure)
        assert (found.outcome, found.verdict.diverged) == ("undecided", 1)
        assert found.verdict.low == pytest.approx((4.0 if measure == "final" else 2.0) - 100)
    assert "1 run diverged (counted as 100 %)" in found.detail


def test_missing_cells_unequal_seeds_and_ties_are_said(recipe):
    def errors(settings, seed):
        if settings.k == 4 and settings.alpha == 2:
            return None
        return 5.0 if settings.k < 4 and (seed < 6 or settings.k == 1) else None if settings.k == 2 else 4.0

    detail = judge(EACH, recipe, runs_of(recipe, errors, seeds=8)).detail
    assert "0 to 8 seeds; 4 comparisons, 1 with too few seeds; 1 cell without runs; 12 ties" in detail
    assert "4 runs without a partner of its seed" not in detail
    lonely = judge(a_claim("each", {"k": 2}, {"method": "mixup"}), recipe, runs_of(recipe, errors, seeds=8)).detail
    assert "4 runs without a partner of its seed" in lonely


def test_attacks_on_a_cell_are_not_cells_of_their_own(recipe):
    runs = runs_of(recipe, falling, seeds=2, attack_epsilons=[1, 8])
    claim = a_claim("each", {"k": [2, 4]}, {"method": "mixup"}, measure="attack")
    attacked = [[run.model_copy(update={"attack_error": {"1": 0.5, "8": 0.5}}) for run in its] for its in runs]
    attacked[2] = []
    attacked[3] = attacked[3][:1]
    detail = judge(claim, recipe, attacked).detail
    assert "; 8 comparisons, 8 with too few seeds; 1 cell without runs; " in detail
    assert "1 run without a partner of its seed" in detail


def test_the_measure_of_the_best_epoch_is_judged_if_asked(recipe):
    runs = runs_of(recipe, falling, seeds=6)
    assert judge(AVERAGE, recipe, runs, "best").verdict.effect == judge(AVERAGE, recipe, runs).verdict.effect / 2


def test_a_sentence_that_its_own_table_does_not_bear_is_marked(recipe):
    found = judge(EACH, recipe, runs_of(recipe, lambda settings, seed: 5.0 - settings.k, seeds=8))
    assert found.verdict.published == -1.0
    assert found.outcome == "held"
    assert found.detail.endswith("printed -1.00. **The printed table itself does not bear this sentence.**")


# --- the paper's claims -----------------------------------------------------------------------------------------------

NAMED = {"CIFAR-10": "cifar10", "MNIST": "mnist", "Arrhythmia": "arrhythmia"}


@pytest.mark.parametrize("name", recipe_names())
def test_no_claim_compares_cells_of_different_data_or_of_data_it_does_not_name(name):
    recipe = read_recipe(name)
    for claim in recipe.claims:
        if claim.kind == "below":
            continue
        sets = comparable(claim, recipe.cells, [{"": {0: 1.0}} for _ in recipe.cells])
        assert sets, claim.text
        named = {dataset for word, dataset in NAMED.items() if word in claim.text and "CIFAR-100" not in claim.text}
        for ours, theirs in sets:
            datasets = {cell.settings.dataset for cell, _ in ours + theirs}
            assert len(datasets) == 1, claim.text
            assert not named or "Iris" in claim.text or datasets <= named, claim.text


def published(name):
    """Verdicts on the printed numbers alone, by claim."""
    recipe = read_recipe(name)
    return {c.text: judge_claim(c, recipe.cells, [[] for _ in recipe.cells]) for c in recipe.claims}


def test_five_sentences_of_the_paper_are_not_borne_by_its_own_tables():
    found = {
        (name, text): judged.verdict.published
        for name in recipe_names()
        for text, judged in published(name).items()
        if judged.verdict.borne is False and judged.claim.source == "paper"
    }
    assert found == {
        ("table2", "Optimized 1-mixup outperforms ERM."): pytest.approx(-1.54),
        ("table3", "For each xi the best generalization performance is for some k > 1."): pytest.approx(-0.01),
        (
            "table3",
            "At the best xi of 1-mixup (alpha = 0.2) the best k up to 32 outperforms it (Appendix A, search 2).",
        ): pytest.approx(-0.01),
        (
            "table5",
            "The best performance is achieved with relatively small alpha (0.05, 0.1) and larger k (4 or greater).",
        ): pytest.approx(-0.15),
        ("table9", "For each xi the best generalization performance is for some k > 1."): pytest.approx(-0.05),
    }


def test_the_margin_of_by_so_much_is_the_printed_gain_less_its_uncertainty():
    half_widths = {"table3": 0.02, "table4": 0.06, "table6": 0.014, "table9": 0.03}
    for name, half in half_widths.items():
        (claim,) = (c for c in read_recipe(name).claims if c.margin > 0)
        gain = judge_claim(claim, read_recipe(name).cells, [[] for _ in read_recipe(name).cells]).verdict.published
        assert claim.margin == pytest.approx(gain - np.sqrt(2) * half, abs=0.001)
        assert f"{gain:.3g} %" in claim.text


@pytest.mark.parametrize("name", ["table2", "table5"])
def test_where_mixup_gains_little_or_nothing_is_read_off_the_printed_numbers(name):
    recipe = read_recipe(name)
    (claim,) = (c for c in recipe.claims if "gains little or nothing" in c.text)
    little = set()
    for group in recipe.groups:
        cells = [c for c in recipe.cells if c.group == group and c.published.error is not None]
        erm, mixup = (min(c.published.error for c in cells if c.settings.method == m) for m in ("erm", "mixup"))
        if erm - mixup <= 0.1:
            little.add(group)
    assert little == set(claim.cells["group"])


# --- the scorecard ----------------------------------------------------------------------------------------------------


@pytest.fixture
def judged_recipe(recipe):
    claims = (
        BEST_K.model_copy(update={"text": "The best k wins."}),
        a_claim("best", {"method": "erm"}, same=("group",)).model_copy(update={"text": "No mixing is best."}),
        EACH.model_copy(update={"text": "Each k wins.", "margin": 1.5}),
        AVERAGE.model_copy(update={"text": "On average.", "source": "weaker"}),
        a_claim("best", {"k": 4}, {"k": 2}, measure="noise").model_copy(update={"text": "Noise."}),
    )
    return replace(recipe, claims=claims)


def test_the_scorecard_counts_the_papers_sentences_and_says_what_would_decide(judged_recipe):
    runs = flat(runs_of(judged_recipe, falling, seeds=8))
    text = scorecard_to_markdown(make_scorecard([judged_recipe], runs))
    assert "The paper's 4 sentences about its tables, each as trained (alpha itself): " in text
    assert "**1 held, 2 contradicted, 0 undecided, 1 not tested**" in text
    assert "| mine | as trained | 7 of 7 cells, 8 of 20 seeds | 1 | 2 | 0 | 1 |" in text
    holds, contradicted = text.index("### What holds"), text.index("### What is contradicted")
    assert "- mine: The best k wins. (effect +1.50, 90 % interval [" in text[holds:contradicted]
    assert "- mine: No mixing is best. (effect " in text[contradicted:]
    assert "- mine: Each k wins. (effect +0.15, 90 % interval [" in text[contradicted:]
    assert "On average." not in text
    assert "- mine: 1 sentence; of 1 the seeds are not known (`kmixup reproduce mine`)" in text
    assert "- mine: Each k wins. By its printed numbers the effect is -1.00, where more than 1.5 is claimed." in text
    assert "No two readings have been run on the same cells yet." in text


def test_the_list_of_claims_has_the_scorecard_and_every_number(judged_recipe):
    runs = flat(runs_of(judged_recipe, falling, seeds=8))
    made = make_scorecard([judged_recipe], runs)
    text = claims_to_markdown(made)
    assert scorecard_to_markdown(made) in text
    for judged in made.cards[0].judged:
        assert f"| **{judged.outcome}** | {judged.detail} |" in text
    assert "| On average. *(a weaker sentence than the paper's)* |" in text


def test_other_readings_stand_beside_the_main_one_where_they_were_run(judged_recipe):
    main = flat(runs_of(judged_recipe, falling, seeds=8))
    printed = judged_recipe.read_as("as-printed")
    other = flat(runs_of(printed, lambda settings, seed: 3.0 + settings.k + 0.01 * seed, seeds=8))
    made = make_scorecard([judged_recipe], main + other)
    assert [(card.table, card.reading, card.main) for card in made.cards] == [
        ("mine", "as-trained", True),
        ("mine", "as-printed", False),
    ]
    assert [card.judged[0].outcome for card in made.cards] == ["held", "contradicted"]
    text = scorecard_to_markdown(made)
    assert "- mine as printed: The best k wins. (effect -1.00" in text
    # Of the same runs, or of none, no other reading says anything anew.
    assert text.count("Noise.") == 0
    assert [name for table, name, _ in made.duels] == ["as printed"]
    assert "| mine | 4 | as printed | " in text
    assert text.endswith(readings_to_markdown(made))
    assert "one data set only" in text


def test_the_table_is_judged_as_trained_whatever_reading_its_recipe_runs(judged_recipe):
    runs = flat(runs_of(judged_recipe, falling, seeds=8))
    one, other = (make_scorecard([each], runs) for each in (judged_recipe, judged_recipe.read_as("as-printed")))
    assert [judged.verdict for judged in one.cards[0].judged] == [judged.verdict for judged in other.cards[0].judged]


def test_where_the_plain_distance_is_the_tables_own_each_reading_is_compared_once():
    runs = [run for name in ("table1-plain", "table1-rules") for run in read_lines(ROOT / "results" / f"{name}.jsonl")]
    duels = make_scorecard([read_recipe("table1-plain")], runs).duels
    assert [other for _, other, _ in duels] == ["as searched"]


def test_a_recipe_that_contrasts_readings_is_judged_as_it_stands():
    (card,) = make_scorecard([read_recipe("table3-rules")], []).cards
    assert (card.reading, card.main) == ("", True)


def test_a_section_between_markers_is_filled_and_nothing_else():
    page = "a\n<!-- scorecard -->\nold\n<!-- end of scorecard -->\nb\n"
    filled = "a\n<!-- scorecard -->\nnew\n<!-- end of scorecard -->\nb\n"
    assert fill(page, "scorecard", "new\n") == filled
    assert fill(filled, "scorecard", "new\n") == filled
    with pytest.raises(ValueError, match="needs <!-- other --> and <!-- end of other --> once, in this order; found 0"):
        fill(page, "other", "")
    with pytest.raises(ValueError, match="found 2"):
        fill(page + page, "scorecard", "")


@pytest.fixture(scope="module")
def committed():
    results = ROOT / "results"
    if not results.is_dir():
        pytest.skip("the results are beside the sources, run from the repository")
    runs = list(RunStore(Path("no such folder"), [results]).all())
    return make_scorecard([read_recipe(name) for name in recipe_names()], runs)


def test_the_committed_list_of_claims_is_what_the_committed_runs_say(committed):
    assert (ROOT / "results" / "claims.md").read_text() == claims_to_markdown(committed)


def test_paper_md_says_of_the_runs_what_the_committed_runs_say(committed):
    page = (ROOT / "PAPER.md").read_text()
    assert fill_page(page, committed) == page
    statements = page.split("## Statements")[1].split("## Deviations")[0]
    rows = [line for line in statements.splitlines() if line.startswith("| Table ")]
    assert len(rows) >= 9
    assert [row for row in rows if "<!-- run of" not in row] == []
    with pytest.raises(ValueError, match="there is no table 'table0'"):
        fill_page("<!-- run of table0 --><!-- end of run -->", committed)


@pytest.mark.parametrize(
    ("ratio", "without", "sentence"),
    [
        (
            (2.0, 9.0),
            {},
            "better than as printed, on the one data set that was run",
        ),
        ((2.0, 9.0), {"a": (1.1, 3.0), "b": (2.0, 2.0)}, "better than as printed, whichever data set is left out"),
        ((0.1, 0.9), {"a": (0.1, 0.2)}, "as printed fits the printed numbers better than as trained, whichever"),
        ((0.1, 1.9), {"a": (0.1, 0.2)}, "these cells do not tell as trained from as printed"),
        (
            (2.0, 9.0),
            {"a": (0.1, 0.2), "b": (0.5, 2.0), "c": (3.0, 4.0)},
            "better than as printed, but that hangs on a, b",
        ),
        ((0.1, 0.2), {"a": (2.0, 3.0), "b": (0.1, 0.2)}, "better than as trained, but that hangs on a"),
    ],
)
def test_the_sentence_on_two_readings_claims_no_more_than_their_range(ratio, without, sentence):
    duel = Duel("one", "other", 3, (0.5, 2000.0), 0.1, ratio, without)
    text = readings_to_markdown(Scorecard((), (("table9", "as printed", duel),)))
    assert sentence in text
    assert "| table9 | 3 | as printed | 0.50 against 2000.00 | " in text


def test_ratios_beyond_a_thousand_are_not_spelt_out():
    duel = Duel("one", "other", 3, (0.5, 2.0), 0.1, (1e-9, 1e30), {"a": (2e6, 3e7)})
    text = readings_to_markdown(Scorecard((), (("table9", "as printed", duel),)))
    assert "| under 0.001 to over 1000 | a: over 1000 |" in text
