"""python docs/summary.py: renders the numbers of README.md and the home page, from committed runs and measurements.

Whether it helps: every data set of the paper's Tables 1, 3 and 5 that was run at alpha = 1 without mixing, with mixup
and with k = 16, on five seeds or more each; the same, counted, on the data sets of docs/when.md; and what its study
found with every method tuned. What is shown was fixed here, and is not chosen by its outcome. What it costs: the batch
of 128 digits of docs/speed.md.
"""

import re
import runpy
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kmixup.experiments.comparisons import Arm, Comparison, pair
from kmixup.experiments.readings import AS_TRAINED
from kmixup.experiments.recipe import Recipe, read_recipe
from kmixup.experiments.report.scorecard import fill
from kmixup.experiments.run import Run
from kmixup.experiments.runs import read_lines
from kmixup.experiments.summary import make_report
from kmixup.experiments.verdicts import interval

ROOT = Path(__file__).parents[1]
_README, _HOME = ROOT / "README.md", ROOT / "docs" / "index.md"
_BATCH = (128, 16, 784, "")  # B, k, d
_PAPER, _OTHERS = ("table1", "table3", "table5"), ("study", "study-others")
_SEEDS = 5
_SHAPES = ("shapes", "shapes-without-core")
_METHODS = (
    {"method": "erm", "weight_decay": 1e-4},
    {"method": "mixup", "alpha": 1},
    {"method": "k-mixup", "k": 16, "alpha": 1, "alpha_rule": "none"},
)


@dataclass(frozen=True)
class _Row:
    title: str
    arms: tuple[Arm, ...]

    @property
    def gains(self) -> tuple[Comparison, Comparison]:
        """Of k-mixup, on mixup and on no mixing."""
        none, mixup, k_mixup = self.arms
        return pair(k_mixup, mixup), pair(k_mixup, none)


def render() -> dict[Path, str]:
    """The pages as they must read."""
    rows, others = list(_rows(_PAPER)), list(_rows(_OTHERS))
    pages = {
        _README: {"does it help": _help(rows, others, "docs/when.md"), "cost": _cost() + "\n"},
        _HOME: {"in short": _in_short(rows, others), "does it help": _help(rows, others, "when.md")},
    }
    texts = {}
    for page, blocks in pages.items():
        texts[page] = page.read_text(encoding="utf-8")
        for name, block in blocks.items():
            texts[page] = fill(texts[page], name, block)
    return texts


def _in_short(rows: Sequence[_Row], others: Sequence[_Row]) -> str:
    held = re.search(r"## Scorecard\n\n(.*?\*\*.*?\*\*)", (ROOT / "results" / "claims.md").read_text(encoding="utf-8"))
    assert held is not None
    return "\n".join(
        [
            f"- **Does it help?** On {len(rows)} data sets of the paper, {_counts(rows)}: [the numbers](#does-it-help)."
            f" {_untuned(others, 'when.md')} {_tuned('when.md')}",
            f"- **Does the paper hold?** {held[1]}: [the scorecard](#does-the-paper-hold).",
            f"- **What does it cost?** {_cost()}\n",
        ]
    )


def _cost() -> str:
    """The ratios of one batch to what does the same without matching and to the paper's loop, and those of an epoch."""
    read = runpy.run_path(str(ROOT / "benchmarks" / "page.py"))["read"]
    whole, without = ({r.quantity: r.value for r in read(name) if r.case == _BATCH} for name in _SHAPES)
    every = [r.value for r in read("shapes") if r.quantity == "library / torchvision"]
    (epoch,) = [r.value for r in read("training") if r.quantity == "k = 16 / k = 1"]
    b, k, d, _ = _BATCH
    return (
        f"A batch of {b} digits ({d} numbers each) at k = {k} takes {1000 * whole['library']:.2g} ms on one CPU "
        f"thread: "
        f"**{whole['library / torchvision']:.2g}** times torchvision's mixup, which matches nothing "
        f"({without['library / torchvision']:.2g} without the compiled core; {min(every):.2g} to {max(every):.2g} over "
        f"all sizes measured), and {100 / whole['figure 5 / library']:.0f} % of the paper's own loop. "
        f"An epoch of LeNet takes **{epoch:.3g}** times as long as at k = 1."
    )


def _help(rows: Sequence[_Row], others: Sequence[_Row], study: str) -> str:
    """A sentence of counts, a row a data set, and two of other data sets, whose page is given."""
    heads = ("data", "seeds", "no mixing", "mixup", "k-mixup", "gain on mixup", "gain on no mixing")
    lines = [_sentence(rows), "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        errors = [f"{sum(arm.errors.values()) / len(arm.errors):.2f}" for arm in row.arms]
        lines.append(f"| {' | '.join([row.title, str(row.gains[0].n), *errors, *map(_interval, row.gains)])} |")
    return "\n".join([*lines, "", f"{_untuned(others, study)} {_tuned(study)}"]) + "\n"


def _untuned(others: Sequence[_Row], study: str) -> str:
    return f"[On the {len(others)} data sets of two studies]({study}), with the same k and alpha, {_counts(others)}."


def _tuned(study: str) -> str:
    """What tuned k-mixup gained on its rivals in the study."""
    found = tomllib.loads((ROOT / "src" / "kmixup" / "evidence.toml").read_text(encoding="utf-8"))["tuned"]
    gained = [f"{g['mean']:+.2f} [{g['low']:+.2f}, {g['high']:+.2f}] on {rival}" for rival, g in found["gains"].items()]
    return (
        f"[With every method tuned]({study}), on {found['sets']} data sets, k-mixup gains {_listed(gained)}: points of "
        "error, with 95 % intervals over data sets."
    )


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _rows(names: Sequence[str]) -> Iterator[_Row]:
    for name in names:
        runs = list(read_lines(ROOT / "results" / f"{name}.jsonl"))
        recipe = read_recipe(name).read_as(AS_TRAINED)
        for group, title in recipe.groups.items():
            row = _row(title, recipe.where(group=group), runs)
            if row is not None:
                yield row


def _row(title: str, recipe: Recipe, runs: Sequence[Run]) -> _Row | None:
    """None where a cell is missing, or has fewer than five seeds."""
    cells = [next((c for c in make_report(recipe, runs).cells if c.cell.matches(method)), None) for method in _METHODS]
    if any(cell is None or cell.n < _SEEDS for cell in cells):
        return None
    arms = tuple(Arm(cell.errors) for cell in cells if cell is not None)
    return _Row(title, arms)


def _interval(gain: Comparison) -> str:
    low, high = interval(gain)
    return f"{gain.effect:+.2f} [{low:+.2f},\u00a0{high:+.2f}]"


def _counts(rows: Sequence[_Row]) -> str:
    counts = []
    for place, name in enumerate(("mixup", "no mixing")):
        bounds = [interval(row.gains[place]) for row in rows]
        better, worse = sum(low > 0 for low, _ in bounds), sum(high < 0 for _, high in bounds)
        open_ = len(rows) - better - worse
        counts.append(f"against {name} it errs less on **{better}**, more on **{worse}**, undecided on {open_}")
    return "; ".join(counts)


def _sentence(rows: Sequence[_Row]) -> str:
    return (
        f"k-mixup (k = 16, alpha = 1, as trained) on the {len(rows)} data sets of the paper run on {_SEEDS} seeds or "
        f"more: {_counts(rows)}. Test error in percent; gains in points, with exact 90 % intervals over seeds "
        f"(for UCI's data: over splits of one file)."
    )


if __name__ == "__main__":
    for page, text in render().items():
        page.write_text(text, encoding="utf-8")
