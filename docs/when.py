"""python docs/when.py: renders "When does it help?" (docs/when.md) and what `kmixup.diagnose` says of its own numbers
(src/kmixup/evidence.toml), from committed runs alone.

``python docs/when.py --diagnose FOLDER`` first measures the numbers of `kmixup.diagnose` on the study's data sets, of
which FOLDER holds the tables, and writes them beside the runs. What is shown was fixed before the runs were seen, and
is not chosen by its outcome.
"""

import argparse
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import baycomp
import numpy as np
import torch
from scipy import stats

from kmixup import diagnose
from kmixup.estimate import Estimate
from kmixup.experiments.chosen import Choice, Relation, gains, relation, tune_by_validation, untuned
from kmixup.experiments.comparisons import Arm, pair
from kmixup.experiments.datasets.data import normalise
from kmixup.experiments.files import write_whole
from kmixup.experiments.points import load_points
from kmixup.experiments.recipe import Recipe, read_recipe
from kmixup.experiments.report.scorecard import fill
from kmixup.experiments.run import Run
from kmixup.experiments.runs import read_lines
from kmixup.experiments.summary import make_report
from kmixup.experiments.verdicts import interval

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "when.md"
EVIDENCE = ROOT / "src" / "kmixup" / "evidence.toml"
RUNS = ROOT / "results" / "study.jsonl"
OTHERS = ROOT / "results" / "study-others.jsonl"
NUMBERS = ROOT / "results" / "study-diagnoses.json"
METHODS = {"erm": "no mixing", "label-smoothing": "label smoothing", "mixup": "mixup", "k-mixup": "k-mixup"}
RIVALS = list(METHODS)[:-1]
MEASURES = {
    "error": "error, %",
    "nll": "likelihood, nats",
    "calibration_error": "calibration error, %",
    "noise_error": "error under noise, %",
}
# What is recommended, and its rivals: one setting each, nothing tuned.
UNTUNED = {
    "no mixing": {"method": "erm", "weight_decay": 1e-4},
    "label smoothing of 0.1": {"method": "label-smoothing", "method_options": {"smoothing": 0.1}},
    "mixup with alpha = 0.2": {"method": "mixup", "alpha": 0.2},
    "mixup with alpha = 1": {"method": "mixup", "alpha": 1.0},
    "k-mixup": {"method": "k-mixup", "k": 16, "alpha": 1.0, "alpha_rule": "none"},
}
ROPE = 1  # points of error that do not matter, as Benavoli, Corani, Demsar and Zaffalon (2017) take them
LARGE = 16
_DRAWS = 10_000  # of the posterior
# Known before any training, and asked about by name.
ASKED = {
    "relative_distance": "distance of partners at k = 16, of random",
    "same_class": "same class at k = 1",
    "same_class_rise": "rise of same class to k = 16",
    "intrusion": "intrusion at k = 1",
    "intrusion_fall": "fall of intrusion to k = 16",
    "label_entropy": "label entropy at k = 1, alpha = 1",
    "partners": "different partners at k = 16, of draws",
    "alpha_k": "alpha_k of alpha = 0.2 at k = 16",
    "dimension": "intrinsic dimension",
    "samples": "training rows",
    "classes": "classes",
}


def measure(folder: Path) -> None:
    """Diagnose the training points of each data set that was run, of its first split."""
    recipe, found = read_recipe("study"), {}
    for group in _tuned(recipe).groups:
        trial = recipe.where(group=group).cells[0].trial(0)
        data = load_points(trial, folder).data
        x = normalise(data.x_train, data.mean, data.std).flatten(1)
        made = diagnose(
            x,
            data.y_train,
            ks=(1, LARGE),
            alphas=(0.2, 1.0),
            batch_size=trial.batch_size,
            batches=32,
            generator=torch.Generator().manual_seed(0),
        )
        found[group] = {"source": data.source, **json.loads(made.to_json())}
        for row in found[group]["rows"]:  # what this machine was, not what the data are
            del row["matching_seconds"], row["epoch_seconds"]
    write_whole(NUMBERS, json.dumps(found, indent=1) + "\n")


@cache
def _runs(file: Path) -> tuple[Run, ...]:
    return tuple(read_lines(file))


def _tuned(recipe: Recipe) -> Choice:
    return tune_by_validation(recipe, _runs(RUNS), list(METHODS))


def _untuned(name: str, file: Path, settings_of: Mapping[str, Mapping[str, Any]] = UNTUNED) -> Choice:
    return untuned(read_recipe(name), _runs(file), settings_of)


def asked(numbers: Mapping[str, Any]) -> dict[str, float]:
    """The numbers that `ASKED` names, of one data set."""
    one, large = numbers["rows"]
    return {
        "relative_distance": large["relative_distance"],
        "same_class": one["same_class"],
        "same_class_rise": large["same_class"] - one["same_class"],
        "intrusion": one["intrusion"],
        "intrusion_fall": one["intrusion"] - large["intrusion"],
        "label_entropy": one["label_entropy(1)"],
        "partners": large["partners"] / large["draws"],
        "alpha_k": large["alpha_k(exact, 0.2)"],
        "dimension": numbers["dimension"] or 0.0,
        "samples": numbers["samples"],
        "classes": numbers["classes"],
    }


def relations(tuned: Choice, rival: str) -> dict[str, Relation]:
    """How each number goes with the gain of k-mixup on a rival, over the data sets."""
    numbers = {group: asked(found) for group, found in json.loads(NUMBERS.read_text(encoding="utf-8")).items()}
    gained = [gain.mean for gain in gains(tuned, "k-mixup", rival, "error").values()]
    return {
        name: relation([numbers[group][name] for group in tuned.groups], gained, asked=len(ASKED)) for name in ASKED
    }


def render() -> str:
    """The page between its markers."""
    recipe = read_recipe("study")
    tuned = _tuned(recipe)
    parts = [
        *(_answer("Tuned k-mixup", tuned, RIVALS), _what_was_run(recipe, tuned), _results(tuned), _others()),
        *(_per_set(recipe, tuned), _images(recipe), _rules(), _predicting(tuned)),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _answer(what: str, compared: Choice, rivals: Sequence[str]) -> str:
    said = []
    for rival in rivals:
        said.append(f"- against {METHODS.get(rival, rival)}: {_by_verdict(compared, rival)}")
    head = (
        f"**{what}, on average over {len(compared.groups)} data sets** (by whether the 95 % interval of the mean gain "
        "leaves 0 out):"
    )
    return "\n".join([head, "", ";\n".join(said) + "."])


def _by_verdict(compared: Choice, rival: str, ours: str = "k-mixup") -> str:
    measures = {"better": [], "worse": [], "no difference shown": []}
    for name, title in MEASURES.items():
        measures[_verdict(_gain(compared, rival, name, ours))].append(title.partition(",")[0])
    return "; ".join(f"{verdict} in {_listed(names)}" for verdict, names in measures.items() if names)


def _gain(compared: Choice, rival: str, measure: str, ours: str = "k-mixup") -> Estimate:
    """The mean over data sets."""
    return Estimate.of([each.mean for each in gains(compared, ours, rival, measure).values()])


def _verdict(gain: Estimate) -> str:
    low, high = gain.interval()  # NaN, and so on neither side, where a run diverged
    return "better" if low > 0 else "worse" if high < 0 else "no difference shown"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _what_was_run(recipe: Recipe, tuned: Choice) -> str:
    seeds = [len(tuned.values("erm", "error")[group]) for group in tuned.groups]
    asked_for = len({cell.group for cell in recipe.cells})
    grids = "; ".join(f"{METHODS[method]}: {_grid(settings)}" for method, settings in tuned.grids.items())
    left = [_name(group) for group in recipe.groups if group not in tuned.groups]
    offered = Counter((cell.group, cell.settings.method) for cell in recipe.cells)
    settings, splits = max(offered.values()), recipe.cells[0].trials
    whole = not left and min(seeds) == splits and {len(grid) for grid in tuned.grids.values()} == {settings}
    text = (
        f"The recipe has {asked_for} data sets, {settings} settings of each method and {splits} splits; run so far are "
        f"{len(tuned.groups)} data sets, each on {_range(seeds)} ({sum(seeds)} in all), with "
        f"{max(map(len, tuned.grids.values()))} settings of each method. Validation chose among: {grids}."
    )
    if left:
        text += f" Not run: {', '.join(left)}."
    text += _diverged(tuned)
    missing = " `kmixup reproduce study --data-dir FOLDER` runs what is missing."
    return text if whole else f"**A reduced protocol.** {text}{missing}"


def _diverged(*compared: Choice) -> str:
    runs = {run.id: run for choice in compared for by_arm in choice.chosen.values() for run in by_arm.values()}
    count = sum(run.diverged for run in runs.values())
    said = f" {count} of {len(runs)} runs diverged: counted as an error of 100 %, and without a likelihood."
    return said if count else ""


def _grid(settings: Sequence[str]) -> str:
    names, values = zip(*((name, value) for name, _, value in (each.rpartition(" ") for each in settings)), strict=True)
    return f"{names[0]} {', '.join(values)}" if len(set(names)) == 1 else " / ".join(settings)


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return (f"{low}" if low == high else f"{low} to {high}") + f" split{'s' * (high > 1)}"


def _results(tuned: Choice) -> str:
    lines = [f"| | {' | '.join(MEASURES.values())} | mean rank by error |", "|---" * (len(MEASURES) + 2) + "|"]
    means = {method: [_mean(tuned, method, name) for name in MEASURES] for method in METHODS}
    per_set = np.array([[mean(v.values()) for v in tuned.values(method, "error").values()] for method in METHODS])
    ranks = dict(zip(METHODS, stats.rankdata(per_set, axis=0).mean(1), strict=True))
    for method, title in METHODS.items():
        error, nll, calibration, noise = means[method]
        lines.append(f"| {title} | {error:.2f} | {nll:.3f} | {calibration:.2f} | {noise:.2f} | {ranks[method]:.2f} |")
    lines += ["", f"Means over {len(tuned.groups)} data sets, each the mean of its splits.", ""]
    lines += [
        "| k-mixup against | measure | wins / ties / losses | mean gain, 95 % interval over data sets | P(better) |",
        "|---|---|---|---|---|",
    ]
    for rival in RIVALS:
        for name, title in MEASURES.items():
            lines.append(
                f"| {METHODS[rival]} | {title} | {_compared(tuned, rival, name)} | {_chances(tuned, rival, name)} |"
            )
    percent = ", ".join(title.partition(",")[0] for name, title in MEASURES.items() if name != "nll")
    return "\n".join(lines) + (
        f"\n\nA gain is positive where k-mixup is better. A tie is a gain within {ROPE} point of {percent}; for "
        "the likelihood none is. P(better): posterior probability that k-mixup is better by more than a tie, by the "
        "Bayesian signed-rank test ([baycomp](https://baycomp.readthedocs.io)); in brackets those of a tie and of its "
        "being worse."
    )


def _compared(compared: Choice, rival: str, measure: str) -> str:
    """Wins / ties / losses, and the mean gain with its interval, if it has one."""
    found = [gain.mean for gain in gains(compared, "k-mixup", rival, measure).values()]
    wins, losses = sum(gain > _rope(measure) for gain in found), sum(gain < -_rope(measure) for gain in found)
    counts, digits = f"{wins} / {len(found) - wins - losses} / {losses}", 3 if measure == "nll" else 2
    if not all(map(math.isfinite, found)):
        return f"{counts} | none: a run diverged"
    low, high = _gain(compared, rival, measure).interval()
    return f"{counts} | {mean(found):+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def _chances(compared: Choice, rival: str, measure: str) -> str:
    """The chance of being better; in brackets those of a tie, if there are any, and of being worse."""
    found = np.array([gain.mean for gain in gains(compared, "k-mixup", rival, measure).values()])
    # Its "left" is the first of the two, where that is larger.
    test = baycomp.SignedRankTest.probs
    better, *rest = test(found, np.zeros(len(found)), _rope(measure), nsamples=_DRAWS, random_state=0)
    return f"{better:.2f} ({', '.join(f'{chance:.2f}' for chance in rest)})"


def _rope(measure: str) -> int:
    return 0 if measure == "nll" else ROPE


def _mean(tuned: Choice, method: str, name: str) -> float:
    return mean(mean(values.values()) for values in tuned.values(method, name).values())


def _per_set(recipe: Recipe, tuned: Choice) -> str:
    heads = ["data set", "splits", *METHODS.values(), "gain on mixup", "gain on no mixing"]
    lines = ["## Data set by data set", "", "Test error in percent; gains ± standard error over splits.", ""]
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    errors = {method: tuned.values(method, "error") for method in METHODS}
    on = {rival: gains(tuned, "k-mixup", rival, "error") for rival in ("mixup", "erm")}
    for group in tuned.groups:
        cells = [f"{mean(errors[method][group].values()):.2f}" for method in METHODS]
        marked = [_signed(on[rival][group]) for rival in on]
        title = recipe.groups[group]
        lines.append(f"| {title} | {len(errors['erm'][group])} | {' | '.join([*cells, *marked])} |")
    return "\n".join(lines)


def _others() -> str:
    """The recommended setting as it is, on the study's data sets and on others."""
    first, others = _untuned("study", RUNS), _untuned("study-others", OTHERS)
    rivals = list(UNTUNED)[:-1]
    heads = ["k-mixup against", "measure"]
    for choice, whose in ((first, "sets of the study"), (others, "others")):
        heads += [f"{len(choice.groups)} {whose}", "mean gain, 95 % interval"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    held = Counter()
    for rival in rivals:
        for name, title in MEASURES.items():
            cells = [_compared(choice, rival, name) for choice in (first, others)]
            lines.append(f"| {rival} | {title} | {' | '.join(cells)} |")
            before, now = (_gain(choice, rival, name) for choice in (first, others))
            if _verdict(before) != "no difference shown":
                same = "same" if before.mean * now.mean > 0 else "other"
                held["shown" if _verdict(now) == _verdict(before) else same] += 1
    return "\n\n".join(
        [
            "## The recommendation on other data",
            f"k = {LARGE} and alpha = 1 is what [we recommend to try](choosing.md). Here it is, nothing tuned, on the "
            f"study's data sets and on {len(others.groups)} others that a rule chose before any run "
            "(`study-others.toml`; [cell by cell](../results/study-others.md)). Of the "
            f"{held.total()} differences shown on the study's sets, **{held['shown']}** were shown on the others too, "
            f"{held['same']} went the same way without being shown, {held['other']} the other way.",
            _answer(f"k = {LARGE} and alpha = 1, untuned", others, rivals),
            "\n".join(lines),
            f"Wins / ties / losses, and the mean gain over data sets, as above.{_diverged(first, others)} Of mixup's "
            "two settings, alpha = 0.2 against alpha = 1 on the study's sets: "
            f"{_by_verdict(first, 'mixup with alpha = 1', 'mixup with alpha = 0.2')}.",
        ]
    )


def _images(recipe: Recipe) -> str:
    methods = {**METHODS, "k-cutmix": "CutMix"}
    images = recipe.where(group=[group for group in recipe.groups if group.startswith("study-images")])
    tuned = tune_by_validation(images, _runs(RUNS), list(methods))
    if not tuned.chosen:
        return ""
    lines = [f"## Images: {recipe.groups[tuned.groups[0]]}", ""]
    lines += [f"| | {' | '.join(MEASURES.values())} |", "|---" * (len(MEASURES) + 1) + "|"]
    for method, title in methods.items():
        values = [mean(tuned.values(method, name)[tuned.groups[0]].values()) for name in MEASURES]
        lines.append(f"| {title} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    return "\n".join([*lines, "", f"{len(tuned.chosen)} splits."])


def _rules() -> str:
    """alpha itself against alpha_k of equal xi, at k = 16 and alpha = 1; nothing is tuned."""
    rows = list(_rule_rows())
    heads = ("data", "seeds", "alpha itself", "alpha_k of equal xi", "gain of alpha itself")
    lines = ["## alpha itself, or calibrated?", "", _rule_sentence(rows), ""]
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for title, plain, exact, low, high, seeds in rows:
        lines.append(
            f"| {title} | {seeds} | {plain:.2f} | {exact:.2f} | {exact - plain:+.2f} [{low:+.2f}, {high:+.2f}] |"
        )
    by_rule = {rule: {"method": "k-mixup", "k": LARGE, "alpha": 1.0, "alpha_rule": rule} for rule in ("none", "exact")}
    study = [gain.mean for gain in gains(_untuned("study", RUNS, by_rule), "none", "exact", "error").values()]
    if study:
        low, high = Estimate.of(study).interval()
        lines += [
            "",
            f"In the study (k = {LARGE}, alpha = 1, every split, nothing tuned): alpha itself errs "
            f"{mean(study):+.2f} points less [{low:+.2f}, {high:+.2f}] on average over {len(study)} data sets; "
            f"it is better by more than {ROPE} point on {sum(g > ROPE for g in study)}, worse on "
            f"{sum(g < -ROPE for g in study)}.",
        ]
    return "\n".join(lines)


def _rule_rows() -> Iterator[tuple[str, float, float, float, float, int]]:
    for name in ("table1", "table5"):
        arms = []
        for each in (name, f"{name}-as-printed"):
            runs = list(read_lines(ROOT / "results" / f"{each}.jsonl"))
            cells = make_report(read_recipe(name).read_as("as-trained" if each == name else "as-printed"), runs).cells
            arms.append(
                {c.cell.group: c for c in cells if c.cell.matches({"k": LARGE, "alpha": 1.0, "method": "k-mixup"})}
            )
        for group, plain in arms[0].items():
            exact = arms[1].get(group)
            if exact is None or plain.n < 5 or exact.n < 5:
                continue
            gain = pair(Arm(plain.errors), Arm(exact.errors))
            low, high = interval(gain)
            title = read_recipe(name).groups[group]
            yield title, plain.mean or 0.0, exact.mean or 0.0, low, high, gain.n


def _rule_sentence(rows: Sequence[tuple[str, float, float, float, float, int]]) -> str:
    less, more = sum(row[3] > 0 for row in rows), sum(row[4] < 0 for row in rows)
    return (
        f"Of the {len(rows)} data sets of Tables 1 and 5, at k = {LARGE} and alpha = 1, alpha itself errs less than "
        f"the alpha_k of equal xi on **{less}**, more on **{more}**, undecided on {len(rows) - less - more} "
        "(exact 90 % intervals over seeds)."
    )


def _predicting(tuned: Choice) -> str:
    found = {rival: relations(tuned, rival) for rival in ("mixup", "erm")}
    heads = ["number of `diagnose`", "with the gain on mixup", "left out", "with the gain on no mixing", "left out"]
    lines = ["## Does `diagnose` predict it?", "", _predicting_sentence(found), ""]
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, title in ASKED.items():
        cells = [cell for rival in found for cell in _relation_cells(found[rival][name])]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + (
        f"\n\nSpearman's rank correlation with the gain of tuned k-mixup over {len(tuned.groups)} data sets, with "
        "intervals that hold for a whole column at 95 %; and *left out*: by what share the squared error falls when "
        "the gain of each data set is predicted from the others (negative: predicting their mean is better)."
    )


def _relation_cells(found: Relation) -> tuple[str, str]:
    if math.isnan(found.rho):
        return "the same everywhere", "-"
    return f"{found.rho:+.2f} [{found.low:+.2f}, {found.high:+.2f}]", f"{100 * found.skill:+.0f} %"


def _predicting_sentence(found: Mapping[str, Mapping[str, Relation]]) -> str:
    shown = [
        f"{ASKED[name]} (gain on {METHODS[rival]})"
        for rival, by_name in found.items()
        for name, each in by_name.items()
        if each.shown
    ]
    if not shown:
        return "**None of these numbers was shown to.**"
    return f"Shown, and holding for data sets left out: **{'; '.join(shown)}**. None of the others was."


def evidence() -> str:
    """What the library says of its own recommendation: what k-mixup gained, and whether a number foretold it; TOML."""
    tuned, untuned = _tuned(read_recipe("study")), _untuned("study-others", OTHERS)
    lines = [
        "# What kmixup.diagnose says of its recommendation: points of error that k-mixup gained over data sets, and",
        "# how each of its numbers went with the gain of tuned k-mixup on tuned mixup. Rendered by docs/when.py.",
    ]
    for part, compared, rivals in (("tuned", tuned, RIVALS), ("untuned", untuned, list(UNTUNED)[:-1])):
        lines += ["", f"[{part}]", f"sets = {len(compared.groups)}"]
        for rival in rivals:
            gain = _gain(compared, rival, "error")
            low, high = gain.interval()
            values = f"mean = {gain.mean:.2f}, low = {low:.2f}, high = {high:.2f}"
            lines.append(f'gains."{METHODS.get(rival, rival)}" = {{ {values} }}')
    lines += ["", "[numbers]"]
    for name, each in relations(tuned, "mixup").items():
        if not math.isnan(each.rho):
            values = f"rho = {each.rho:.2f}, low = {each.low:.2f}, high = {each.high:.2f}"
            lines.append(f'"{ASKED[name]}" = {{ {values}, shown = {str(each.shown).lower()} }}')
    return "\n".join(lines) + "\n"


def _signed(gain: Estimate) -> str:
    return f"{gain.mean:+.2f}" + (f" ± {gain.std_error:.2f}" if gain.n > 1 else "")


def _name(group: str) -> str:
    return group.removeprefix("study-tables").removeprefix("study-images")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--diagnose", type=Path, metavar="FOLDER", help="measure the data sets first")
    folder = parser.parse_args().diagnose
    if folder is not None:
        measure(folder)
    write_whole(PAGE, fill(PAGE.read_text(encoding="utf-8"), "the study", render()))
    write_whole(EVIDENCE, evidence())
