"""The paper's sentences about a table, each decided by runs: a claim's cells become a formula over comparisons.

Runs of different protocols are never compared: a claim is judged on the cells' own protocol, or else, if that leaves it
untested, on one other protocol. Where it is not that of the published numbers, the verdict names it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import special

from kmixup.experiments.comparisons import TOLERANCE, Arm, Typical, average, contrast, pair
from kmixup.experiments.protocols import Protocol, protocols
from kmixup.experiments.recipe import Cell, Claim
from kmixup.experiments.run import Run
from kmixup.experiments.trial import Trial
from kmixup.experiments.verdicts import Node, Outcome, Verdict, all_of, best_of, judge

__all__ = ["Judged", "Measure", "comparable", "formula", "judge_claim"]

Measure = Literal["final", "best"]

# Errors in percent by seed, by the size of the attack or of the noise ("" without one); None for a diverged run.
Errors = Mapping[str, Mapping[int, float | None]]

_Entry = tuple[Cell, Arm]


@dataclass(frozen=True)
class Judged:
    """A claim and what runs say about it.

    Attributes:
        claim: The sentence.
        verdict: The decision and its numbers.
        protocol: The protocol that was judged, such as ``"epochs 50 of 200"``; empty for that of the published numbers.
        reduced: Whether it is a smaller one.
        printed_ties: Comparisons left out because the paper prints a tie.
    """

    claim: Claim
    verdict: Verdict
    protocol: str = ""
    reduced: bool = False
    printed_ties: int = 0

    @property
    def outcome(self) -> Outcome:
        """Held, contradicted, undecided or not tested."""
        return self.verdict.outcome

    @property
    def detail(self) -> str:
        """The numbers behind the verdict, in one line."""
        v = self.verdict
        fewest, most = v.seeds
        kind = "a reduced" if self.reduced else "another"
        parts = [f"on {kind} protocol ({self.protocol})"] if self.protocol else []
        parts += [f"effect {_points(v.effect)}"] if v.effect is not None else []
        parts += [f"90 % interval {self.interval}"] if v.outcome != "not tested" else []
        parts += [f"margin {v.margin:g}"] if v.margin else []
        parts.append(f"{_count(fewest, 'seed') if fewest == most else f'{fewest} to {most} seeds'}")
        parts.append(_count(v.comparisons, "comparison") + (f", {v.untested} with too few seeds" if v.untested else ""))
        parts += [_count(v.missing, "cell") + " without runs"] if v.missing else []
        parts += [_count(v.diverged, "run") + " diverged (counted as 100 %)"] if v.diverged else []
        parts += [_count(v.ties, "tie")] if v.ties else []
        parts += [_count(v.unpaired, "run") + " without a partner of its seed"] if v.unpaired else []
        parts += [_count(self.printed_ties, "printed tie") + " left out"] if self.printed_ties else []
        parts += [f"80 % power for {_points(v.detectable)}"] if v.detectable is not None else []
        parts += [f"printed {_points(v.published)}"] if v.published is not None else []
        if v.outcome in ("undecided", "not tested"):
            parts.append(self.remedy)
        text = "; ".join(parts) + "."
        unborne = v.borne is False and self.claim.source == "paper"
        return text + (" **The printed table itself does not bear this sentence.**" if unborne else "")

    @property
    def interval(self) -> str:
        """Of 90 %: each end is wrong with a probability of 5 % at most."""
        low, high = (f"{end:+.2f}".replace("inf", "∞") for end in (self.verdict.low, self.verdict.high))
        return f"[{low}, {high}]"

    @property
    def remedy(self) -> str:
        """How many seeds would decide, with 80 % power; or why that is not known."""
        needed, unknown = self.verdict.seeds_needed, self.verdict.unknown
        if unknown:
            return f"how many seeds would decide is not known: neither printed numbers nor runs say the {unknown}"
        which = "found" if self.verdict.published is None else "printed"
        seeds = "more than 1000 seeds" if needed is None else f"{needed} seeds"
        return f"{seeds} of each cell would decide if the {which} effect is the true one"


def judge_claim(
    claim: Claim, cells: Sequence[Cell], runs: Sequence[Iterable[Run]], measure: Measure = "final"
) -> Judged | None:
    """Decide a claim; None if these cells have nothing to compare.

    Args:
        claim: The sentence.
        cells: The cells of its table.
        runs: Of each cell, of every protocol.
        measure: Test error after the last epoch, or of the best epoch.
    """
    # The cells' own protocol may be another for each; it has no name here.
    kinds: dict[str | None, list[Protocol]] = {None: []}
    errors: dict[str | None, list[dict[str, dict[int, float | None]]]] = {None: [{} for _ in cells]}
    for place, (cell, found) in enumerate(zip(cells, runs, strict=True)):
        if not (cell.matches(claim.cells) or cell.matches(claim.than)):
            continue
        for protocol, its in protocols(cell, found).items():
            name = None if protocol.own else ", ".join(protocol.marks)
            kinds.setdefault(name, []).append(protocol)
            of_cell = errors.setdefault(name, [{} for _ in cells])[place]
            for run in its:
                for level, error in _errors(claim, run, measure).items():
                    of_cell.setdefault(level, {})[run.trial.seed] = error
    others = sorted(kinds.keys() - {None}, key=lambda name: max(each.length for each in kinds[name]), reverse=True)
    chosen: Judged | None = None
    for name in (None, *others):
        built = formula(claim, cells, errors[name])
        if built is not None and (chosen is None or chosen.outcome == "not tested"):
            words = "; ".join(dict.fromkeys(", ".join(each.marks) for each in kinds[name] if each.marks))
            reduced = any(each.reduced for each in kinds[name])
            judged = Judged(claim, judge(built[0], claim.margin), words, reduced, built[1])
            chosen = judged if chosen is None or judged.outcome != "not tested" else chosen
    return chosen


def formula(claim: Claim, cells: Sequence[Cell], errors: Sequence[Errors]) -> tuple[Node, int] | None:
    """The claim as a formula over comparisons, and how many printed ties it leaves out; None if nothing is left.

    Args:
        claim: The sentence.
        cells: The cells of its table.
        errors: Of the runs of each cell.
    """
    if claim.bound is not None:
        mine = [(cell, found) for cell, found in zip(cells, errors, strict=True) if cell.matches(claim.cells)]
        arms = [_arm(cell, found.get("", {}), cell.published.error) for cell, found in mine]
        return (all_of([contrast([(-1.0, arm)], claim.bound, Typical) for arm in arms]), 0) if arms else None
    sets = comparable(claim, cells, errors)
    if claim.kind == "best":
        parts: list[Node] = [best_of([a for _, a in ours], [a for _, a in theirs]) for ours, theirs in sets]
    else:
        pairs = [(mine, other) for ours, theirs in sets for _, mine in ours for _, other in theirs]
        if claim.kind == "average":
            return (average(pairs), 0) if pairs else None
        parts = [pair(mine, other) for mine, other in pairs]
    left = [
        part
        for part in parts
        if claim.tie is None or part.published is None or abs(part.published) > claim.tie + TOLERANCE
    ]
    return (all_of(left, claim.exceptions), len(parts) - len(left)) if left else None


def comparable(
    claim: Claim, cells: Sequence[Cell], errors: Sequence[Errors]
) -> list[tuple[list[_Entry], list[_Entry]]]:
    """The sets of cells that the claim compares, ours and theirs: alike in the settings ``same``, and of one attack."""
    groups: dict[tuple[str, ...], list[tuple[Cell, Errors]]] = {}
    for cell, found in zip(cells, errors, strict=True):
        groups.setdefault(tuple(str(cell.value(name)) for name in claim.same), []).append((cell, found))
    sets = []
    for group in groups.values():
        levels = {
            level for cell, found in group for level in (*found, *_printed(claim, cell), *_asked(claim, cell.settings))
        }
        for level in sorted(levels, key=lambda level: float(level or 0)):
            entries = [
                (cell, _arm(cell, found.get(level, {}), _printed(claim, cell).get(level))) for cell, found in group
            ]
            ours = [entry for entry in entries if entry[0].matches(claim.cells)]
            theirs = [entry for entry in entries if entry[0].matches(claim.than) and not entry[0].matches(claim.cells)]
            sets += [(ours, theirs)] if ours and theirs else []
    return sets


def _printed(claim: Claim, cell: Cell) -> Mapping[str, float | None]:
    """The printed errors by attack; without one under ``""``. No error under noise is printed."""
    return {"error": {"": cell.published.error}, "attack": cell.published.attack, "noise": {}}[claim.measure]


def _asked(claim: Claim, settings: Trial) -> list[str]:
    """The attacks or noises that a trial has."""
    return [
        f"{size:g}"
        for size in {"attack": settings.attack_epsilons, "noise": settings.noise_sigmas}.get(claim.measure, ())
    ]


def _arm(cell: Cell, errors: Mapping[int, float | None], published: float | None) -> Arm:
    half, n = cell.published.confidence, cell.printed_trials
    spread = None if half is None or n < 2 else half * math.sqrt(n) / float(special.stdtrit(n - 1, 0.975))
    return Arm(errors, published, spread, cell.settings.id)


def _errors(claim: Claim, run: Run, measure: Measure) -> dict[str, float | None]:
    """Errors of one run in percent, by attack; those of a diverged run are None, whatever the attack."""
    if claim.measure == "error":
        error = run.final_error if measure == "final" else run.best_error
        return {"": None if error is None else 100 * error}
    if run.diverged:
        return dict.fromkeys(_asked(claim, run.trial))
    return {level: 100 * e for level, e in (run.attack_error if claim.measure == "attack" else run.noise_error).items()}


def _points(value: float | None) -> str:
    return "—" if value is None else f"{value:+.2f}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
