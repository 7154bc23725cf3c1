"""python docs/summary.py: renders whether k-mixup helps into README.md and the home page, from committed runs alone.

Every data set that was run at alpha = 1 without mixing, with mixup and with k = 16, on five seeds or more each. What is
shown was fixed here, and is not chosen by its outcome.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kmixup.experiments.comparisons import LEVEL, Arm, Comparison, pair
from kmixup.experiments.readings import AS_TRAINED, READINGS
from kmixup.experiments.recipe import Recipe, read_recipe
from kmixup.experiments.report.scorecard import fill
from kmixup.experiments.run import Run
from kmixup.experiments.runs import read_lines
from kmixup.experiments.summary import make_report

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "index.md")
_TABLES = ("table1", "table3", "table5")
_SEEDS = 5
_METHODS = ({"method": "erm"}, {"k": 1, "alpha": 1}, {"k": 16, "alpha": 1})


@dataclass(frozen=True)
class _Row:
    title: str
    reading: str
    arms: tuple[Arm, ...]

    @property
    def gains(self) -> tuple[Comparison, Comparison]:
        """Of k-mixup, on mixup and on no mixing."""
        none, mixup, k_mixup = self.arms
        return pair(k_mixup, mixup), pair(k_mixup, none)


def render() -> str:
    """A sentence of counts, and a row a data set."""
    rows = list(_rows())
    heads = ("data", "seeds", "no mixing", "mixup", "k-mixup", "gain on mixup", "gain on no mixing")
    lines = [_sentence(rows), "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    several = len({row.reading for row in rows}) > 1
    for row in rows:
        errors = [f"{sum(arm.errors.values()) / len(arm.errors):.2f}" for arm in row.arms]
        title = f"{row.title} ({_words(row.reading)})" if several else row.title
        lines.append(f"| {' | '.join([title, str(row.gains[0].n), *errors, *map(_interval, row.gains)])} |")
    return "\n".join(lines) + "\n"


def _words(reading: str) -> str:
    return reading.replace("-", " ")


def _rows() -> Iterator[_Row]:
    for name in _TABLES:
        runs = list(read_lines(ROOT / "results" / f"{name}.jsonl"))
        recipe = read_recipe(name)
        for group, title in recipe.groups.items():
            found = (_row(title, recipe.where(group=group).read_as(each), runs) for each in _readings())
            yield from [row for row in found if row is not None][:1]


def _readings() -> list[str]:
    return [AS_TRAINED, *(name for name in READINGS if name != AS_TRAINED)]


def _row(title: str, recipe: Recipe, runs: Sequence[Run]) -> _Row | None:
    """None where a cell is missing, or has fewer than five seeds."""
    cells = [next((c for c in make_report(recipe, runs).cells if c.cell.matches(method)), None) for method in _METHODS]
    if any(cell is None or cell.n < _SEEDS for cell in cells):
        return None
    arms = tuple(Arm(cell.errors) for cell in cells if cell is not None)
    return _Row(title, recipe.cells[0].reading, arms)


def _bounds(gain: Comparison) -> tuple[float, float]:
    return float(gain.bound(LEVEL, 1)), -float(gain.bound(LEVEL, -1))


def _interval(gain: Comparison) -> str:
    low, high = _bounds(gain)
    return f"{gain.effect:+.2f} [{low:+.2f},\u00a0{high:+.2f}]"


def _sentence(rows: Sequence[_Row]) -> str:
    counts = []
    for place, name in enumerate(("mixup", "no mixing")):
        bounds = [_bounds(row.gains[place]) for row in rows]
        better, worse = sum(low > 0 for low, _ in bounds), sum(high < 0 for _, high in bounds)
        open_ = len(rows) - better - worse
        counts.append(f"against {name} it errs less on **{better}**, more on **{worse}**, undecided on {open_}")
    read = " or ".join(sorted({_words(row.reading) for row in rows}))
    return (
        f"k-mixup (k = 16, alpha = 1, read {read}) on the {len(rows)} data sets run on {_SEEDS} seeds or more: "
        f"{'; '.join(counts)}. Test error in percent; gains in points, with exact 90 % intervals over seeds "
        f"(for UCI's data: over splits of one file)."
    )


if __name__ == "__main__":
    text = render()
    for page in PAGES:
        page.write_text(fill(page.read_text(encoding="utf-8"), "does it help", text), encoding="utf-8")
