"""Training curves from run files: the paper's Figure 4, and the same for any table.

kmixup curves table9 --where k=1,32 --where alpha=1,10 --to figure4      draws Figure 4 once the runs are there
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kmixup.experiments.curves import CurveName, band
from kmixup.experiments.files import type_settings
from kmixup.experiments.naming import cell_name, choices, varied_settings
from kmixup.experiments.summary import CellReport, Report
from kmixup.style import WIDTH, series, style

_MOST = 10  # lines that can be told apart in one panel


def training_curves(report: Report) -> Figure:
    """Training and test accuracy by epoch, a line (mean) and a band (standard deviation over trials) per cell.

    Training accuracy is that on mixed batches, each label counted with its weight: comparable between cells only in
    shape, as the paper notes.

    Args:
        report: Of some cells of a table; cells without runs are left out.

    Raises:
        ValueError: If no cell has runs, or too many have for one picture; the message says what to choose.

    Paper: Figure 4.
    """
    cells = [cell for cell in report.cells if any(not run.diverged for run in cell.runs)]
    if not cells:
        raise ValueError(f"no runs of {report.recipe.name} to draw. Train some, or say where they are with --out.")
    if len(cells) > _MOST:
        raise ValueError(
            f"{len(cells)} cells of {report.recipe.name} have runs, and one picture holds {_MOST} lines at most. "
            f"Choose with --where: {_choices(cells)}."
        )
    varied = varied_settings([cell.cell.settings for cell in cells])
    with style():
        figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
        test, train = figure.subplots(1, 2, sharex=True)
        for cell, look in zip(cells, series(), strict=False):
            places: tuple[tuple[Axes, CurveName], ...] = ((test, "test_error"), (train, "train_accuracy"))
            for axes, measure in places:
                drawn = band(cell.runs, measure)
                mean = 100 * (1 - drawn.mean if measure == "test_error" else drawn.mean)
                label = f"{cell_name(cell.cell, varied)} (n = {drawn.trials})"
                axes.plot(drawn.epochs, mean, label=label, markevery=max(1, len(mean) // 8), **look.line)
                low, high = mean - 100 * drawn.spread, mean + 100 * drawn.spread
                axes.fill_between(drawn.epochs, low, high, color=look.colour, alpha=0.15, linewidth=0)
        for axes, name in ((test, "test accuracy (%)"), (train, "training accuracy on mixed batches (%)")):
            axes.set(xlabel="epoch", ylabel=name)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles, labels = test.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2 if max(map(len, labels)) > 30 else 3)
        marks = sorted({note for cell in cells for note in cell.notes})
        lines = [report.recipe.title, *(["; ".join(marks)] if marks else [])]
        figure.suptitle("\n".join(lines), fontsize=8)
    return figure


def _choices(cells: Sequence[CellReport]) -> str:
    """Settings in which these differ, as ``--where`` takes them."""
    found: dict[str, list[str]] = {}
    for settings in choices([cell.cell for cell in cells]):
        for text in type_settings(settings):
            name, _, value = text.partition("=")
            found.setdefault(name, []).append(value)
    several = {name: dict.fromkeys(values) for name, values in found.items()}
    return "; ".join(f"{name}={','.join(values)}" for name, values in several.items() if len(values) > 1)
