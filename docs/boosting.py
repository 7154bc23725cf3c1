"""python docs/boosting.py: renders what k-mixup did to gradient boosting into docs/adapters/sklearn.md.

It reads results/boosting.json; ``python docs/boosting.py --run FOLDER`` makes that file first, and FOLDER holds the
tables. Six sets, named before any was run, the same splits for each arm.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedShuffleSplit

from kmixup.adapters.sklearn import KMixupSampler, Vicinal
from kmixup.estimate import Estimate
from kmixup.experiments.datasets.source import files_source
from kmixup.experiments.datasets.table import whole_table
from kmixup.experiments.files import write_whole
from kmixup.experiments.report.scorecard import fill

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "adapters" / "sklearn.md"
ERRORS = ROOT / "results" / "boosting.json"
SETS = ("sonar", "ionosphere", "saheart", "vehicle", "german", "contraceptive")
SPLITS, ROUNDS, TESTED = 5, 50, 0.2
_ARMS = {"alone": None, "k = 1": 1, "k = 16": 16}


def run(folder: Path) -> None:
    """Test errors in percent, by set and arm, split by split; the file is written after each set."""
    found = {"scikit-learn": version("scikit-learn"), "sets": {}}
    for name in SETS:
        x, y = whole_table(f"{name}.csv", -1, {"scaling": "raw"}, folder)
        x, y = x.numpy(), y.astype(str)
        errors: dict[str, list[float]] = {arm: [] for arm in _ARMS}
        splits = StratifiedShuffleSplit(SPLITS, test_size=TESTED, random_state=0)
        for seed, (train, test) in enumerate(splits.split(x, y)):
            for arm, k in _ARMS.items():
                boosting = HistGradientBoostingClassifier(max_iter=ROUNDS, early_stopping=False, random_state=seed)
                model = boosting if k is None else Vicinal(boosting, KMixupSampler(k=k, alpha=1.0, random_state=seed))
                errors[arm].append(100 * float(np.mean(model.fit(x[train], y[train]).predict(x[test]) != y[test])))
        found["sets"][name] = {"source": files_source([folder / f"{name}.csv"]), "rows": len(y), "errors": errors}
        write_whole(ERRORS, json.dumps(found, indent=1) + "\n")


def render() -> str:
    """A row a set, and a sentence of counts."""
    found = json.loads(ERRORS.read_text(encoding="utf-8"))
    heads = ("data, rows", "alone", "mixup (k = 1)", "k = 16", "gain of k = 1", "gain of k = 16")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    counts = {arm: {"better": 0, "worse": 0} for arm in ("k = 1", "k = 16")}
    for name, each in found["sets"].items():
        errors = {arm: np.array(values) for arm, values in each["errors"].items()}
        cells = [f"{errors[arm].mean():.2f}" for arm in _ARMS]
        for arm, count in counts.items():
            gain = Estimate.of(errors["alone"] - errors[arm])
            low, high = gain.interval()
            count["better"] += low > 0
            count["worse"] += high < 0
            cells.append(f"{gain.mean:+.2f} [{low:+.2f}, {high:+.2f}]")
        lines.append(f"| {name}, {each['rows']} | {' | '.join(cells)} |")
    said = "; ".join(
        f"{arm} errs less on **{count['better']}** and more on **{count['worse']}**" for arm, count in counts.items()
    )
    return (
        f"`HistGradientBoostingClassifier` ({ROUNDS} rounds) on {len(found['sets'])} tables, {SPLITS} splits each, "
        f"alpha = 1, nothing tuned: against boosting alone, {said}, the others undecided. Test "
        "error in percent; gains with 95 % intervals over splits of one file.\n\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="train first")
    folder = parser.parse_args().run
    if folder is not None:
        run(folder)
    write_whole(PAGE, fill(PAGE.read_text(encoding="utf-8"), "boosting", render()))
