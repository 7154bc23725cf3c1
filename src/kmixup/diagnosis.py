"""What `kmixup.diagnose` found: a table, a figure, JSON, a data frame, and what it suggests."""

from __future__ import annotations

import html
import json
import math
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from kmixup.calibration import Calibration, Rule
from kmixup.estimate import Estimate
from kmixup.style import WIDTH, series, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

_HEURISTIC = 16  # the paper's k, Appendix A


@dataclass(frozen=True)
class KDiagnosis:
    """What one k does to the data.

    Standard errors are those of the drawing of batches: they say how far more batches could move the number, not how
    far other data would.

    Attributes:
        k: Points per k-batch.
        sq_distance: Mean squared distance of partners, in squared units of the data. Exact for k = 1.
        relative_distance: Root mean squared distance of partners, relative to that of random pairs.
        same_class: Share of pairs with equal labels, in [0, 1]; None for continuous targets.
        intrusion: Share of midpoints of pairs whose nearest other sample has neither label of the pair, in [0, 1]:
            there mixup teaches a label that the data contradict. None for continuous targets and for two samples.
        target_sq_distance: Mean squared difference of partners' targets; None for classes.
        label_entropy: For each alpha, the mean entropy of the mixed targets at its alpha_k, in nats; None for
            continuous targets.
        partners: Different partners of a sample over the batches, mean over the samples that were drawn.
        draws: How often such a sample was drawn, which is the most that ``partners`` can be.
        matching_seconds: Time to plan one batch, on this machine.
        epoch_seconds: The same for as many batches as an epoch has.
        rules: For each rule and each alpha, the alpha_k that it gives at this k.
    """

    k: int
    sq_distance: Estimate
    relative_distance: float
    same_class: Estimate | None
    intrusion: Estimate | None
    target_sq_distance: Estimate | None
    label_entropy: tuple[float, ...] | None
    partners: float
    draws: float
    matching_seconds: float
    epoch_seconds: float
    rules: Mapping[Rule, tuple[Calibration, ...]]

    @property
    def distance(self) -> float:
        """Root mean squared distance of partners, in units of the data."""
        return math.sqrt(self.sq_distance.mean)

    @property
    def same_class_share(self) -> float | None:
        """Mean of ``same_class``."""
        return self.same_class.mean if self.same_class else None

    @property
    def intrusion_share(self) -> float | None:
        """Mean of ``intrusion``."""
        return self.intrusion.mean if self.intrusion else None

    @property
    def calibrations(self) -> tuple[Calibration, ...]:
        """For each alpha, the alpha_k that keeps its perturbation at this k: the rule ``"exact"``."""
        return self.rules["exact"]

    def record(self) -> dict[str, Any]:
        """All numbers under flat names: those of an alpha ``name(alpha)``, those of a rule ``name(rule, alpha)``."""
        found: dict[str, Any] = {"k": self.k, "distance": self.distance, "relative_distance": self.relative_distance}
        estimates = ("sq_distance", "same_class", "intrusion", "target_sq_distance")
        for name, estimate in ((name, getattr(self, name)) for name in estimates):
            found[name] = estimate.mean if estimate else None
            found[f"{name}_error"] = estimate.std_error if estimate else None
        for name in ("partners", "draws", "matching_seconds", "epoch_seconds"):
            found[name] = getattr(self, name)
        for calibration, entropy in zip(self.calibrations, self.label_entropy or (), strict=False):
            found[f"label_entropy({calibration.alpha:g})"] = entropy
        for rule, calibrations in self.rules.items():
            for calibration in calibrations:
                of = f"({rule}, {calibration.alpha:g})"
                found[f"alpha_k{of}"] = calibration.alpha_k
                found[f"alpha_k_low{of}"], found[f"alpha_k_high{of}"] = calibration.alpha_interval
                found[f"attainable{of}"] = calibration.attainable
                found[f"xi_k{of}"] = calibration.xi_k
        return found


@dataclass(frozen=True)
class Diagnosis:
    """A table over k and alpha: `print` it, `plot` it, or take its numbers with `to_frame` and `to_json`.

    Attributes:
        rows: One entry per k.
        alphas: The alphas of mixup (k = 1) that were asked for.
        batch_size: Samples per batch that was planned.
        batches: Number of batches, per k.
        samples: Number of samples, N.
        classes: Number of classes; None for continuous targets.
        dimension: Intrinsic dimension, see `kmixup.geometry.intrinsic_dimension`; None if there are too few points.
        notes: What about the data asks for attention, a sentence each.
    """

    rows: tuple[KDiagnosis, ...]
    alphas: tuple[float, ...]
    batch_size: int
    batches: int
    samples: int
    classes: int | None
    dimension: float | None
    notes: tuple[str, ...]

    @property
    def recommendation(self) -> str:
        """What k does to these data, what to try, and what that gained on other data: the study's committed runs."""
        return " ".join([*self._measured(), *self._advice()])

    def _measured(self) -> Iterator[str]:
        first, last = self.rows[0], self.rows[-1]
        yield f"At k = {last.k} partners lie at {100 * last.relative_distance:.0f} % of the distance of random pairs."
        for share, what in (
            ("same_class", "of pairs share a class"),
            ("intrusion", "of midpoints lie nearest to neither class"),
        ):
            if getattr(last, share):
                at_first = f" ({_percent(getattr(first, share))} at k = {first.k})" if last is not first else ""
                yield f"{_percent(getattr(last, share))} {what}{at_first}."

    def _advice(self) -> Iterator[str]:
        if self.classes == 1:
            yield "There is one class, so nothing to try."
            return
        k = min(_HEURISTIC, self.batch_size // 2)
        smoothing = ["label smoothing of 0.1"] * (self.classes is not None)
        k_mixup = [f"k-mixup with k = {k} and alpha = 1"] * (k > 1)
        tried = ", ".join(["no mixing", *smoothing, "mixup with alpha = 0.2", *k_mixup])
        yield f"Try, and keep what does best on validation data: {tried}."
        yield _expected() if self.classes else "What to expect for continuous targets was not studied."

    def __str__(self) -> str:
        lines = self.table()
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        text = [
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        ]
        return "\n".join([*text, *self.remarks(), "", textwrap.fill(self.recommendation, 100)])

    def _repr_html_(self) -> str:
        head, *rows = self.table()

        def line(cells: list[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        table = "".join([line(head, "th"), *(line(row, "td") for row in rows)])
        below = "<br>".join(html.escape(text) for text in [*self.remarks(), self.recommendation])
        return f"<table>{table}</table><p>{below}</p>"

    def to_json(self, *, indent: int | None = 2) -> str:
        """Everything as JSON; infinite numbers are the strings ``"inf"`` and ``"-inf"``.

        Args:
            indent: Spaces per level; None for one line.
        """
        found = {
            "samples": self.samples,
            "classes": self.classes,
            "dimension": self.dimension,
            "batch_size": self.batch_size,
            "batches": self.batches,
            "alphas": [_finite(alpha) for alpha in self.alphas],
            "rows": [{name: _finite(value) for name, value in row.record().items()} for row in self.rows],
            "notes": self.notes,
            "recommendation": self.recommendation,
        }
        return json.dumps(found, indent=indent, allow_nan=False)

    def to_frame(self) -> DataFrame:
        """A data frame with a row per k; needs pandas.

        Raises:
            ImportError: Without pandas.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ImportError("to_frame needs pandas: pip install pandas. Without it: to_json.") from None
        return pd.DataFrame([row.record() for row in self.rows]).set_index("k")

    def plot(self) -> Figure:
        """Distance, label agreement and intrusion against k; needs matplotlib.

        Returns:
            The figure; save it with ``figure.savefig(path)``.

        Raises:
            ImportError: Without matplotlib.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise ImportError("plot needs matplotlib: pip install matplotlib. Without it: print.") from None

        ks = [row.k for row in self.rows]
        with style():
            figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
            left, right = figure.subplots(1, 2)
            looks = series()
            left.plot(ks, [row.relative_distance for row in self.rows], **next(looks).line)
            left.set(ylabel="RMS distance, relative to random pairs", ylim=(0, None))
            for name, label in (("same_class", "same class"), ("intrusion", "intrusion")):
                shares = [getattr(row, name) for row in self.rows]
                look = next(looks).line
                if None not in shares:
                    right.errorbar(ks, [s.mean for s in shares], [2 * s.std_error for s in shares], **look, label=label)
            if self.classes is None:
                gaps = [row.target_sq_distance.mean**0.5 for row in self.rows if row.target_sq_distance]
                right.plot(ks, gaps, **next(looks).line)
                right.set(ylabel="RMS difference of partners' targets", ylim=(0, None))
            else:
                right.set(ylabel="share of pairs (± 2 s.e.)", ylim=(0, 1))
                right.legend()
            for axes in (left, right):
                axes.set_xscale("log", base=2)
                axes.set_xlabel("k")
                axes.set_xticks(ks, [str(k) for k in ks])
                axes.minorticks_off()
        return figure

    def table(self) -> list[list[str]]:
        """What `print` shows, cell by cell: the heads, then a line per k."""
        labels = ["same class", "intrusion"] if self.classes is not None else ["target gap"]
        alphas = [f"alpha_k({alpha:g})" for alpha in self.alphas]
        lines = [["k", "distance", "of random", *labels, "partners", "s/epoch", *alphas]]
        for row in self.rows:
            gap = row.target_sq_distance
            shares = [_percent(row.same_class), _percent(row.intrusion)] if gap is None else [f"{gap.mean**0.5:.4g}"]
            lines.append(
                [
                    str(row.k),
                    f"{row.distance:.4g}",
                    f"{100 * row.relative_distance:.0f} %",
                    *shares,
                    f"{row.partners:.1f}/{row.draws:.1f}",
                    f"{row.epoch_seconds:.2g}",
                    *(f"{c.alpha_k:.3g}" + ("" if c.attainable else "*") for c in row.calibrations),
                ]
            )
        return lines

    def remarks(self) -> list[str]:
        """What stands below the table: what its marks mean, what was measured, the notes."""
        lines = []
        if not all(calibration.attainable for row in self.rows for calibration in row.calibrations):
            lines.append(
                "* out of reach: at this k no alpha up to max_alpha perturbs as much, for partners are too close"
            )
        kind = "continuous targets" if self.classes is None else f"{self.classes} class{'es' * (self.classes != 1)}"
        dimension = f", intrinsic dimension {self.dimension:.1f}" if self.dimension else ""
        lines.append(f"{self.samples} samples, {kind}{dimension}; {self.batches} batches of {self.batch_size} per k")
        return [*lines, *self.notes]


def _expected() -> str:
    """What k-mixup gained in the committed runs, and which number foretold it."""
    found = tomllib.loads((resources.files("kmixup") / "evidence.toml").read_text(encoding="utf-8"))
    tuned, untuned = (
        ", ".join(
            f"{each['mean']:+.2f} [{each['low']:+.2f}, {each['high']:+.2f}] on {rival}"
            for rival, each in found[part]["gains"].items()
        )
        for part in ("tuned", "untuned")
    )
    shown = " and ".join(number for number, each in found["numbers"].items() if each["shown"])
    return (
        f"What k-mixup gained elsewhere, in points of error with 95 % intervals: tuned by validation, {tuned} "
        f"({found['tuned']['sets']} data sets); with k = {_HEURISTIC} and alpha = 1, {untuned} "
        f"({found['untuned']['sets']} others). {shown or 'None of the numbers above'} was shown to predict it. "
        "Likelihood, calibration and noise: docs/when.md."
    )


def _percent(share: Estimate | None) -> str:
    return f"{100 * share.mean:.1f} ± {100 * share.std_error:.1f} %" if share else "-"


def _finite(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
