"""The scorecard and the list of claims as Markdown; both also fill their places in PAPER.md, between markers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kmixup.experiments.claims import Judged
from kmixup.experiments.misfit import Duel
from kmixup.experiments.readings import READINGS
from kmixup.experiments.report.table import markdown_table
from kmixup.experiments.scorecard import Card, Scorecard
from kmixup.experiments.verdicts import OUTCOMES

__all__ = [
    "KINDS",
    "Section",
    "claims_to_markdown",
    "fill",
    "fill_page",
    "readings_to_markdown",
    "scorecard_to_markdown",
    "sections",
    "words",
]

_NOTHING = ("Nothing.", "Nothing yet.")
KINDS = {"paper": "", "weaker": "a weaker sentence than the paper's", "ours": "not the paper's"}
_HEADINGS = {"held": "What holds", "contradicted": "What is contradicted", "undecided": "What is open"}


@dataclass(frozen=True)
class Section:
    """A part of the scorecard, for all writers. Texts have Markdown's ``**`` and backquotes.

    Attributes:
        heading: Empty for the first.
        text: A paragraph; or none, empty.
        head: Of its table; or none.
        rows: Of its table.
        items: A list below; what it says if there is nothing is an item too.
    """

    heading: str
    text: str = ""
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    items: tuple[str, ...] = ()


def sections(scorecard: Scorecard) -> list[Section]:
    """One page: counts, a row a table and reading, what holds, is contradicted, is open, and what it would take."""
    cards = scorecard.cards
    parts = [_coverage(cards)]
    for outcome, heading in _HEADINGS.items():
        found = [(card, judged) for card, judged in _news(cards) if judged.outcome == outcome]
        items = [f"{_place(card)}: {judged.claim.text} {_brief(judged)}" for card, judged in found]
        parts.append(Section(heading, items=tuple(items) or ("Nothing yet.",)))
    parts.append(Section("What was not tested", items=_untested(cards)))
    parts.append(Section("What the paper's own tables do not bear", items=_not_borne(cards)))
    return [*parts, _readings(scorecard)]


def scorecard_to_markdown(scorecard: Scorecard) -> str:
    """The scorecard, its parts one below the other."""
    parts = []
    for section in sections(scorecard):
        parts += [f"### {section.heading}", ""] if section.heading else []
        parts += [_markdown(section), ""]
    return "\n".join(parts).rstrip() + "\n"


def claims_to_markdown(scorecard: Scorecard) -> str:
    """The scorecard, and every claim with the numbers behind its verdict."""
    lines = ["# Claims", "", "Rendered by `kmixup claims` from run files alone.", ""]
    lines += ["## Scorecard", "", scorecard_to_markdown(scorecard)]
    for card in scorecard.cards:
        lines += [
            f"## {card.table}: {card.report.recipe.title}{f', {words(card.reading)}' if card.reading else ''}",
            "",
        ]
        lines += [f"Run: {card.coverage}.", "", *claims_table(card.judged), ""]
    return "\n".join(lines).rstrip() + "\n"


def claims_table(judged: Sequence[Judged]) -> list[str]:
    """Claims with their verdicts and numbers, as lines of a table."""
    kinds = [KINDS[j.claim.source] for j in judged]
    rows = [
        (f"{j.claim.text}{f' *({kind})*' if kind else ''}", f"**{j.outcome}**", j.detail)
        for j, kind in zip(judged, kinds, strict=True)
    ]
    return markdown_table(("claim", "verdict", "numbers"), rows)


def readings_to_markdown(scorecard: Scorecard) -> str:
    """The readings compared, in a table and a sentence each; claims no more than the runs carry."""
    return _markdown(_readings(scorecard)) + "\n"


def fill(text: str, name: str, body: str) -> str:
    """The text with what stands between ``<!-- name -->`` and ``<!-- end of name -->`` replaced.

    Raises:
        ValueError: If the markers are not there, once each and in this order.
    """
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    filled, count = pattern.subn(lambda match: f"{match[1]}{body}{match[2]}", text)
    if count != 1:
        raise ValueError(
            f"the file needs <!-- {name} --> and <!-- end of {name} --> once, in this order; found {count}."
        )
    return filled


def fill_page(text: str, scorecard: Scorecard) -> str:
    """The text with the scorecard between its markers, and how much was run between those of single tables.

    The latter are ``<!-- run of NAME -->`` and ``<!-- end of run -->``, within a line.

    Raises:
        ValueError: If the scorecard's markers are not there once, or those of a table name none that was judged.
    """
    runs: dict[str, list[str]] = {}
    for card in scorecard.cards:
        runs.setdefault(card.table, []).append(f"{card.coverage}, {words(card.reading)}")

    def run_of(match: re.Match[str]) -> str:
        if match[2] not in runs:
            raise ValueError(f"there is no table {match[2]!r} to say how much of it was run.")
        return f"{match[1]}{'; '.join(runs[match[2]])}{match[3]}"

    text = re.sub(r"(<!-- run of (\S+) -->).*?(<!-- end of run -->)", run_of, text)
    return fill(text, "scorecard", scorecard_to_markdown(scorecard))


def _markdown(section: Section) -> str:
    """All but the heading."""
    parts = [section.text] if section.text else []
    if section.head:
        parts.append("\n".join(markdown_table(section.head, section.rows)))
    if section.items:
        alone = len(section.items) == 1 and section.items[0] in _NOTHING
        parts.append(section.items[0] if alone else "\n".join(f"- {item}" for item in section.items))
    return "\n\n".join(parts)


def _readings(scorecard: Scorecard) -> Section:
    heading, duels = "Which reading explains the published numbers best", scorecard.duels
    if not duels:
        return Section(heading, "No two readings have been run on the same cells yet.")
    head = ("table", "cells", "as trained against", "misfit in points", "likelihood ratio", "without one data set")
    rows = []
    for table, other, duel in duels:
        without = "; ".join(f"{data}: {_ratio(ratio)}" for data, ratio in duel.without.items()) or "one data set only"
        misfit = f"{duel.misfit[0]:.2f} against {duel.misfit[1]:.2f}"
        rows.append((table, str(duel.cells), other, misfit, _ratio(duel.ratio), without))
    text = (
        "Misfit: root mean square of ours less printed. The ratio is the likelihood of the printed numbers as trained "
        "over that under the other reading, with both standard errors and a variance between laboratories (that of "
        "the cells which the readings share, or what the better reading leaves, if that is more); its range is over "
        "how far the cells of a data set share that variance. Above 1 it speaks for training with alpha itself."
    )
    return Section(heading, text, head, tuple(rows), tuple(_sentence(*each) for each in duels))


def _sentences(cards: Sequence[Card]) -> list[tuple[Card, Judged]]:
    return [(card, judged) for card in cards for judged in card.judged if judged.claim.source == "paper"]


def _news(cards: Sequence[Card]) -> list[tuple[Card, Judged]]:
    """Without what another reading says of the same runs, or of none."""
    said = {(card.table, judged.claim.text): judged.verdict for card, judged in _sentences(cards) if card.main}
    return [(c, j) for c, j in _sentences(cards) if c.main or said[c.table, j.claim.text] != j.verdict]


def _headline(cards: Sequence[Card]) -> str:
    main = [judged for card, judged in _sentences(cards) if card.main]
    counts = ", ".join(f"{sum(j.outcome == outcome for j in main)} {outcome}" for outcome in OUTCOMES)
    return (
        f"The paper's {len(main)} sentences about its tables, each as trained (alpha itself): **{counts}**. "
        "A verdict rests on an effect and its exact interval, wrong with a probability of at most 5 % on each side; "
        "below five seeds nothing is decided."
    )


def _coverage(cards: Sequence[Card]) -> Section:
    rows = []
    for card in cards:
        found = [judged.outcome for judged in card.judged if judged.claim.source == "paper"]
        counts = (str(found.count(outcome)) for outcome in OUTCOMES)
        rows.append((card.table, words(card.reading), card.coverage, *counts))
    return Section("", _headline(cards), ("table", "reading", "run", *OUTCOMES), tuple(rows))


def _brief(judged: Judged) -> str:
    v = judged.verdict
    effect = "" if v.effect is None else f"effect {v.effect:+.2f}, "
    numbers = f"{effect}90 % interval {judged.interval}" + (f", margin {v.margin:g}" if v.margin else "")
    protocol = f", {judged.protocol}" if judged.protocol else ""
    remedy = f"; {judged.remedy}" if judged.outcome == "undecided" else ""
    return f"({numbers}{protocol}{remedy})"


def _untested(cards: Sequence[Card]) -> tuple[str, ...]:
    lines = []
    for card in cards:
        found = [j.verdict for j in card.judged if j.outcome == "not tested" and j.claim.source == "paper"]
        if not (card.main and found):
            continue
        known = sorted({v.seeds_needed for v in found if v.seeds_needed is not None})
        unknown = sum(bool(v.unknown) for v in found)
        beyond = sum(v.seeds_needed is None for v in found) - unknown
        takes = [f"{' to '.join(map(str, dict.fromkeys((known[0], known[-1]))))} seeds would decide"] if known else []
        takes += [f"{beyond} would take more than 1000"] if beyond else []
        takes += [f"of {unknown} the seeds are not known"] if unknown else []
        count = "1 sentence" if len(found) == 1 else f"{len(found)} sentences"
        lines.append(f"{_place(card)}: {count}; {', '.join(takes)} (`{_command(card)}`)")
    return tuple(lines) or ("Nothing.",)


def _not_borne(cards: Sequence[Card]) -> tuple[str, ...]:
    found = [(c, j) for c, j in _sentences(cards) if c.main and j.verdict.borne is False]
    lines = []
    for card, judged in found:
        v = judged.verdict
        against = f", where more than {v.margin:g} is claimed" if v.margin else ""
        lines.append(
            f"{_place(card)}: {judged.claim.text} By its printed numbers the effect is {v.published:+.2f}{against}."
        )
    return tuple(lines) or ("Nothing.",)


def _sentence(table: str, other: str, duel: Duel) -> str:
    ranges = [duel.ratio, *duel.without.values()]
    sides = ("as trained", other)
    left_out = "whichever data set is left out" if duel.without else "on the one data set that was run"
    if all(low > 1 for low, _ in ranges) or all(high < 1 for _, high in ranges):
        better, worse = sides if duel.ratio[0] > 1 else sides[::-1]
        says = f"{better} fits the printed numbers better than {worse}, {left_out}"
    elif duel.ratio[0] <= 1 <= duel.ratio[1]:
        says = f"these cells do not tell {sides[0]} from {sides[1]}"
    else:
        better, worse = sides if duel.ratio[0] > 1 else sides[::-1]
        turning = [d for d, (low, high) in duel.without.items() if low <= 1 <= high or (low > 1) != (duel.ratio[0] > 1)]
        says = f"{better} fits the printed numbers better than {worse}, but that hangs on {', '.join(turning)}"
    return f"{table}: {says}."


def _ratio(ratio: tuple[float, float]) -> str:
    words = ["over 1000" if end > 1000 else "under 0.001" if end < 0.001 else f"{end:.2g}" for end in ratio]
    return " to ".join(dict.fromkeys(words))


def words(reading: str) -> str:
    """A reading's name in prose; of a recipe that contrasts readings, that it has several."""
    return reading.replace("-", " ") if reading in READINGS else "several"


def _command(card: Card) -> str:
    own = card.report.recipe.name == card.table
    return f"kmixup reproduce {card.table}" + ("" if own else f" --reading {card.reading}")


def _place(card: Card) -> str:
    return card.table if card.main else f"{card.table} {words(card.reading)}"
