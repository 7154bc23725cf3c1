"""A table in small
================

The paper's tables are recipes: data that say what is trained. Here two cells of Table 1 are trained for fewer
epochs and seeds than the paper has, and the report says so beside each number.
"""

# %%
# On the command line the same is
#
# .. code-block:: bash
#
#     kmixup reproduce table1b --where k=1,16 --where alpha=4 --trials 2 --epochs 10
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
from rich.console import Console

from kmixup.experiments.recipe import read_recipe
from kmixup.experiments.report import print_report
from kmixup.experiments.runs import RunStore
from kmixup.experiments.summary import make_report
from kmixup.experiments.training import run
from kmixup.style import BLUE, ORANGE, style

table = read_recipe("table1b")  # Four Bars
small = table.where(alpha=4, k=(1, 16)).override(trials=2, epochs=10)
print(len(table.all_trials()), "trials in the table,", len(small.all_trials()), "here")

# %%
# A run is a pure function of its trial. The store keeps each in a file, so that a sweep that was cut short goes on.
with TemporaryDirectory() as folder:
    store = RunStore(Path(folder))
    for trial in small.all_trials():
        store.put(run(trial))
    runs = store.all()

report = make_report(table.where(alpha=4, k=(1, 16)), runs)
print_report(report, Console(width=88, color_system=None))

# %%
# Ours with standard errors, and the published numbers. Two seeds decide nothing: ``kmixup claims`` says how many would.
with style():
    figure, axes = plt.subplots(figsize=(4.6, 2.4), layout="constrained")
    for place, cell in enumerate(report.cells):
        ours = axes.errorbar(place, cell.mean, yerr=cell.std_error, color=BLUE, marker="o")
        published = axes.scatter(place, cell.cell.published.error, color=ORANGE, marker="^")
    axes.set_xticks(range(len(report.cells)), [f"k = {cell.cell.settings.k}" for cell in report.cells])
    axes.set_xlim(-0.5, len(report.cells) - 0.5)
    axes.set_ylabel("test error (%)")
    axes.legend([ours, published], ["ours, 2 seeds, 10 epochs", "published"])
