"""A recipe with your own data and model
=====================================

A data set and a model of your own are functions in a file of yours, named ``module:function``; a recipe then compares
methods on them with seeds, intervals and a report. ``own.py``, beside this script, has such functions.
"""

# %%
# The recipe
# ----------
#
# It is data, not code: settings that all cells share, then the cells. As a file, ``moons.toml``, it is run by
# ``kmixup reproduce moons.toml`` in the folder of ``own.py``.
import inspect
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt

RECIPE = """
title = "Moons"
trials = 5

[shared]
dataset = "own:moons"
dataset_options = { n = 200, noise = 0.25 }
model = "own:network"
epochs = 20
batch_size = 32
lr = 0.05

[[cell]]
method = "erm"

[[cell]]
k = 1
alpha = 1

[[cell]]
k = 8
alpha = 1
"""

# %%
# The functions it names:
sys.path.insert(0, str(Path.cwd()))
import own

print(inspect.getsource(own.moons))
print(inspect.getsource(own.network))

# %%
# Trained and reported
# --------------------
from rich.console import Console

from kmixup import Estimate
from kmixup.experiments.recipe import read_recipe
from kmixup.experiments.report import print_report
from kmixup.experiments.summary import make_report
from kmixup.experiments.training import run
from kmixup.style import series, style

with TemporaryDirectory() as folder:
    file = Path(folder) / "moons.toml"
    file.write_text(RECIPE)
    recipe = read_recipe(str(file))
    report = make_report(recipe, [run(trial) for trial in recipe.all_trials()])

print_report(report, Console(width=88, color_system=None))

# %%
# Trials of one seed share their data, their split and their initial weights. So methods are compared seed by seed:
erm, *mixed = report.cells
with style():
    figure, axes = plt.subplots(figsize=(5, 1.7), layout="constrained")
    for row, (cell, look) in enumerate(zip(mixed, series(), strict=False)):
        gain = Estimate.of([erm.errors[seed] - error for seed, error in cell.errors.items()])
        low, high = gain.interval()
        print(f"k = {cell.cell.settings.k}: {gain.mean:+.2f} points gained on no mixing, [{low:+.2f}, {high:+.2f}]")
        axes.errorbar(
            gain.mean, row, xerr=[[gain.mean - low], [high - gain.mean]], color=look.colour, marker=look.marker
        )
    axes.axvline(0, color="#666666", linewidth=0.7)
    axes.set_yticks(range(len(mixed)), [f"k = {cell.cell.settings.k}" for cell in mixed])
    axes.set_ylim(-0.6, len(mixed) - 0.4)
    axes.set_xlabel("points of error gained on no mixing")
