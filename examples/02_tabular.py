"""Tabular data with scikit-learn
==============================

k-mixup for estimators: a network of its own, and vicinal data for any estimator that takes sample weights. Whether it
helps is a question to the data, so the cross-validation asks with it and without.
"""

# %%
# Columns of different units should be standardised before anything is matched, for the matching is by distance.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kmixup import Estimate
from kmixup.adapters.sklearn import KMixupClassifier, KMixupSampler, Vicinal
from kmixup.style import series, style

x, y = load_breast_cancer(return_X_y=True)
print(x.shape, np.bincount(y))

# %%
# An estimator with sample weights
# --------------------------------
#
# scikit-learn knows no soft labels, and needs none: a mixed row comes once with each of its two labels, with
# ``lam`` and ``1 - lam`` as weights. ``Vicinal`` makes these rows anew whenever it is fitted, so it fits into
# pipelines.
vicinal = make_pipeline(
    StandardScaler(),
    Vicinal(LogisticRegression(max_iter=500), KMixupSampler(k=8, alpha=1.0, random_state=0)),
)
vicinal.fit(x, y)
print(f"accuracy on its own rows: {vicinal.score(x, y):.3f}")

# %%
# A network, on few rows
# ----------------------
#
# Augmentation matters where data are few: of each split, a fifth is trained on and the rest is tested on. The same
# splits for all three, so their differences are paired. A batch should hold two blocks
# or more, also the last of an epoch: hence k = 8.
splits = StratifiedKFold(n_splits=5, shuffle=True, random_state=0)
folds = [(few, many) for many, few in splits.split(x, y)]

settings = {"no mixing": (1, 0.0), "mixup": (1, 1.0), "k-mixup, k = 8": (8, 1.0)}
errors = {}
for name, (k, alpha) in settings.items():
    network = KMixupClassifier(k=k, alpha=alpha, epochs=15, batch_size=32, random_state=0)
    errors[name] = 100 - 100 * cross_val_score(network, x, y, cv=folds)

for name, error in errors.items():
    print(f"{name:16} {error.mean():.2f} % error")

# %%
# Means hide what the splits say together. The difference on the same split, with its 95 % interval over the splits
# (which share rows, so that the interval is on the narrow side):
gains = {name: Estimate.of(errors["no mixing"] - error) for name, error in errors.items() if name != "no mixing"}

with style():
    figure, axes = plt.subplots(figsize=(5, 1.7), layout="constrained")
    for row, ((name, gain), look) in enumerate(zip(gains.items(), series(), strict=False)):
        low, high = gain.interval()
        print(f"{name:16} {gain.mean:+.2f} points gained on no mixing, [{low:+.2f}, {high:+.2f}]")
        axes.errorbar(
            gain.mean, row, xerr=[[gain.mean - low], [high - gain.mean]], color=look.colour, marker=look.marker
        )
    axes.axvline(0, color="#666666", linewidth=0.7)
    axes.set_yticks(range(len(gains)), list(gains))
    axes.set_ylim(-0.6, len(gains) - 0.4)
    axes.set_xlabel("points of error gained on no mixing")
