"""A table in small
================

The paper's tables are recipes: data that say what is trained. Here three cells of Table 1 are trained for fewer
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

from rich.console import Console

from kmixup.experiments.recipe import read_recipe
from kmixup.experiments.report import print_report
from kmixup.experiments.runs import RunStore
from kmixup.experiments.summary import make_report
from kmixup.experiments.training import run

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

print_report(make_report(table.where(alpha=4, k=(1, 16)), runs), Console(width=100, color_system=None))
