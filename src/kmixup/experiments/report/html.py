"""Reports as one HTML page that opens from disk: no network, no framework; plotly draws, and is inside."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Sequence
from importlib import resources
from string import Template

from kmixup.experiments.naming import varied_settings
from kmixup.experiments.report.figures import Cells
from kmixup.experiments.report.scorecard import KINDS, Section, sections, words
from kmixup.experiments.report.table import HEADER, attack_tables, column_name, distance
from kmixup.experiments.scorecard import Card, Scorecard
from kmixup.experiments.summary import CellReport, Grid, grids
from kmixup.style import BLUE, ORANGE

_MOST_BYTES = 8_000_000


def to_html(scorecard: Scorecard) -> str:
    """The scorecard and its tables as one page.

    Raises:
        ModuleNotFoundError: If plotly is not installed.
        ValueError: If the page were larger than 8 MB.
    """
    from plotly.offline import get_plotlyjs

    # Beside tables with runs, one without has its place in the scorecard: no cells to show, and many of them.
    ran = [cards for cards in scorecard.tables if _ran(cards)]
    repeated = _repeated(ran, scorecard.tables)
    shown = [cards for cards in ran if cards not in repeated] or scorecard.tables
    cells = Cells(shown)
    tables = [_table(number, cards, cells) for number, cards in enumerate(shown)]
    page = Template(_asset("page.html")).substitute(
        title=_e(_title(scorecard)),
        palette=f":root{{--blue:{BLUE};--orange:{ORANGE}}}",
        style=_asset("page.css"),
        header=_e(HEADER),
        contents=_contents(shown, [cards for cards in scorecard.tables if ran and not _ran(cards)], repeated),
        scorecard=_scorecard(scorecard),
        tables="\n".join(tables),
        # Nothing in it can close its element, or open a comment.
        data=json.dumps(cells.data(), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        plotly=get_plotlyjs(),
        script=_asset("figures.js") + _asset("page.js"),
    )
    if (size := len(page.encode())) > _MOST_BYTES:
        raise ValueError(
            f"the page would have {size / 1e6:.1f} MB, and opens well up to {_MOST_BYTES / 1e6:.0f}. Name fewer "
            "tables, or choose cells with --where."
        )
    return page


def _asset(name: str) -> str:
    return (resources.files("kmixup") / "experiments" / "report" / "page" / name).read_text(encoding="utf-8")


def _e(text: object) -> str:
    return html.escape(str(text))


def _marked(text: str) -> str:
    """Escaped, with the bold and the code of our own sentences."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", _e(text)))


def _title(scorecard: Scorecard) -> str:
    if len(scorecard.tables) == 1:
        (card,) = scorecard.tables[0][:1]
        return f"{card.table}: {card.report.recipe.title}"
    return "k-mixup: what our runs say beside the paper"


def _id(name: str) -> str:
    return "table-" + re.sub(r"[^A-Za-z0-9]+", "-", name)


def _ran(cards: Sequence[Card]) -> bool:
    return any(cell.runs for card in cards for cell in card.report.cells)


def _repeated(ran: Sequence[Sequence[Card]], tables: Sequence[Sequence[Card]]) -> list[Sequence[Card]]:
    """Those tables that gather the cells of smaller ones, and have no other."""
    ids = {of[0].table: {cell.cell.settings.cell_id for card in of for cell in card.report.cells} for of in tables}

    def gathers(own: set[str]) -> bool:
        return own <= set().union(*(other for other in ids.values() if len(other) < len(own)))

    return [cards for cards in ran if gathers(ids[cards[0].table])]


def _contents(
    shown: Sequence[Sequence[Card]], without: Sequence[Sequence[Card]], repeated: Sequence[Sequence[Card]]
) -> str:
    items = []
    for number, (card, *others) in enumerate(shown):
        also = "".join(f", {_e(words(other.reading))} {_e(other.coverage)}" for other in others)
        name = f'<a href="#{_id(card.table)}-{number}">{_e(card.table)}</a>'
        items.append(f"<li>{name} {_e(card.report.recipe.title)} <small>{_e(card.coverage)}{also}</small></li>")
    said = {"Without a run, and so not shown": without, "Made of the cells of other tables, and shown there": repeated}
    notes = [f"{why}: {', '.join(cards[0].table for cards in tables)}." for why, tables in said.items() if tables]
    return f"<ul>{''.join(items)}</ul>" + "".join(f"<p>{_e(note)}</p>" for note in notes)


# --- the scorecard ----------------------------------------------------------------------------------------------------


def _scorecard(scorecard: Scorecard) -> str:
    if not scorecard.cards:
        return "<p>These cells have no claims of their own: a scorecard takes whole tables of the paper.</p>"
    first, *others = sections(scorecard)
    parts = [_section(first)]
    for section in others:
        body = _section(section)
        parts.append(f"<details open><summary><h3>{_e(section.heading)}</h3></summary>{body}</details>")
    return "\n".join(parts)


def _section(section: Section) -> str:
    parts = [f"<p>{_marked(section.text)}</p>"] if section.text else []
    if section.head:
        parts.append(
            _plain_table(
                section.heading or "Tables and verdicts",
                section.head,
                [[_marked(entry) for entry in row] for row in section.rows],
            )
        )
    if section.items:
        parts.append("<ul>" + "".join(f"<li>{_marked(item)}</li>" for item in section.items) + "</ul>")
    return "".join(parts)


def _plain_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that scrolls by itself; entries are HTML."""
    top = "".join(f'<th scope="col">{_e(name)}</th>' for name in head)
    body = "".join(f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{x}</td>" for x in row[1:])}</tr>' for row in rows)
    return _wide(title, f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>")


def _wide(title: str, table: str) -> str:
    """What scrolls by itself, by keyboard too."""
    return f'<div class="wide" tabindex="0" role="region" aria-label="{_e(title)}">{table}</div>'


# --- a table of the paper ---------------------------------------------------------------------------------------------


def _table(number: int, cards: Sequence[Card], cells: Cells) -> str:
    main, recipe = cards[0], cards[0].report.recipe
    said = "; ".join(f"{words(card.reading)}: {card.coverage}" for card in cards)
    body = [f"<p>{_e(recipe.paper)} Run: {_e(said)}.</p>" if recipe.paper else f"<p>Run: {_e(said)}.</p>"]
    body += [_command(f"kmixup reproduce {' '.join(card.report.recipe.asked)}") for card in cards]
    body += [_claims(card) for card in cards if card.judged]
    grids_by_reading = [grids(card.report) for card in cards]
    body += [_grid(cards, parts, cells) for parts in zip(*grids_by_reading, strict=True)]
    for card in cards:
        for table in attack_tables(card.report):
            title = table.title if card is main else f"{table.title}, {words(card.reading)}"
            rows = [[_e(name), *map(_e, entries)] for name, entries in table.rows]
            shown = _plain_table(title, ("cell", *table.sizes), rows)
            body.append(f"<details open><summary><h3>{_e(title)}</h3></summary>{shown}</details>")
    for card in cards:
        about = "Notes" if card is main else f"Notes, {words(card.reading)}"
        notes = "".join(f"<li>{_e(note)}</li>" for note in card.report.notes)
        body.append(f"<h3>{_e(about)}</h3><ul>{notes}</ul>" if notes else "")
    opened = " open" if _ran(cards) else ""
    return (
        f'<section class="table" id="{_id(main.table)}-{number}"><details{opened}>'
        f"<summary><h2>{_e(main.table)}: {_e(recipe.title)}</h2></summary>{''.join(body)}</details></section>"
    )


def _command(text: str) -> str:
    return f'<p class="command"><code>{_e(text)}</code> <button type="button" data-copy>Copy</button></p>'


def _claims(card: Card) -> str:
    rows = []
    for judged in card.judged:
        kind = KINDS[judged.claim.source]
        text = _e(judged.claim.text) + (f" <em>({_e(kind)})</em>" if kind else "")
        rows.append(
            [text, f'<b class="{judged.outcome.replace(" ", "-")}">{judged.outcome}</b>', _marked(judged.detail)]
        )
    title = f"Claims, {words(card.reading)}" if card.reading else "Claims"
    return f'<h3>{_e(title)}</h3><div class="claims">{_plain_table(title, ("claim", "verdict", "numbers"), rows)}</div>'


def _grid(cards: Sequence[Card], parts: Sequence[Grid], cells: Cells) -> str:
    """One part of a table: its cells under the first reading, and beside each what the other readings say of it."""
    grid = parts[0]
    order = {id(cell): place for place, cell in enumerate(cards[0].report.cells)}
    shown = [*(cell for _, cell in grid.unmixed), *grid.cells.values()]
    varied = varied_settings([cell.cell.settings for cell in shown])
    scales = _Scales(shown)
    protocols = {card.reading: part.protocol for card, part in zip(cards, parts, strict=True)}

    def entry(row: str, cell: CellReport | None, span: int = 1) -> str:
        if cell is None:
            return "<td></td>"
        own = cell.cell.settings.cell_id
        beside = [(card, card.report.cells[order[id(cell)]]) for card in cards[1:]]
        readings = [(cards[0], cell), *((c, r) for c, r in beside if r.cell.settings.cell_id != own)]
        where = {"table": cards[0].table, "part": grid.title, "row": row, "alpha": f"{cell.cell.settings.alpha:g}"}
        return _cell(cells.add(where, readings, varied, protocols), readings, scales, span)

    names = [column_name(grid, alpha).partition(", ") for alpha in grid.columns]
    head = "".join(f'<th scope="col">{_e(name)} <small>{_e(xi)}</small></th>' for name, _, xi in names)
    lines = [
        f'<tr><th scope="row">{_e(name)}</th>{entry(name, cell, len(grid.columns))}</tr>' for name, cell in grid.unmixed
    ]
    for row in grid.rows:
        entries = "".join(entry(row, grid.cells.get((row, alpha))) for alpha in grid.columns)
        lines.append(f'<tr><th scope="row">{_e(row)}</th>{entries}</tr>')
    trained = "".join(f"<p>{_e(text)}</p>" for text in _trained(list(protocols.values())))
    table = (
        f'<table class="heat"><thead><tr><th scope="col">test error, %</th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>"
    )
    return (
        f'<section class="grid"><h3>{_e(grid.title)}</h3>{trained}{scales.legend()}{_wide(grid.title, table)}'
        f"<p>{_e(distance(grid))}</p>"
        '<details class="figure"><summary>The same as a figure, and its data</summary></details></section>'
    )


def _trained(protocols: Sequence[str]) -> list[str]:
    """The first in whole, and of each other one what is new: mostly, which reading it follows."""
    first, *others = dict.fromkeys(protocols)
    start, comma, _ = first.partition(" Reading: ")
    return [first, *(f"Beside it: {other.removeprefix(start + comma)}" for other in others)]


def _cell(number: int, readings: Sequence[tuple[Card, CellReport]], scales: _Scales, span: int) -> str:
    cell, settings = readings[0][1], readings[0][1].cell.settings
    lines = [f"<b>{_e(cell.text())}</b>", f"<small>{_beside(cell)}</small>"]
    for card, other in readings[1:]:
        gap = "" if other.difference is None else f", {other.difference:+.2f}"
        lines.append(f'<small class="other">{_e(words(card.reading))} {_e(other.text())}{gap}</small>')
    ran = any(each.runs for _, each in readings)
    facts = {"dataset": settings.dataset, "method": settings.method, "k": settings.k, "alpha": f"{settings.alpha:g}"}
    data = "".join(f' data-{name}="{_e(value)}"' for name, value in facts.items()) + (" data-ran" if ran else "")
    spans = f' colspan="{span}"' if span > 1 else ""
    notes = f' title="{_e("; ".join(cell.notes))}"' if cell.notes else ""
    button = f'<button type="button" data-cell="{number}" aria-haspopup="dialog"{notes}>{"".join(lines)}</button>'
    return f'<td class="cell"{spans}{data} style="{scales.heat(cell)}">{button}</td>'


def _beside(cell: CellReport) -> str:
    published = cell.cell.published.error
    if published is None:
        return "not published"
    return f"published {published:.2f}" + ("" if cell.difference is None else f", {cell.difference:+.2f}")


class _Scales:
    """Colours of the cells of one part, on one scale for our and the published errors, and one for differences."""

    def __init__(self, cells: Sequence[CellReport]) -> None:
        errors = [x for cell in cells for x in (cell.mean, cell.cell.published.error) if x is not None]
        self._low, self._high = (min(errors), max(errors)) if errors else (0.0, 0.0)
        self._widest = max((abs(cell.difference) for cell in cells if cell.difference is not None), default=0.0)

    def heat(self, cell: CellReport) -> str:
        """CSS variables, each the share of the full colour in percent; what is missing has none."""
        found = {"ours": self._share(cell.mean), "published": self._share(cell.cell.published.error)}
        if cell.difference is not None and self._widest:
            # Two variables, for the two colours.
            side = "over" if cell.difference > 0 else "under"
            found[side] = abs(cell.difference) / self._widest
        return ";".join(f"--{name}:{70 * share:.0f}%" for name, share in found.items() if share is not None)

    def legend(self) -> str:
        """What the colours mean, for each of the three choices; the page shows one."""
        if self._low >= self._high:
            return ""
        one = f'<i class="ramp"></i> {self._high:.2f} %, on a log scale'
        low = f"{self._low:.2f} %"
        both = f'{-self._widest:+.2f} <i class="ramp both"></i> {self._widest:+.2f} points, ours less published'
        return (
            f'<p class="legend"><span class="ours">Colour: our error, {low} {one}</span>'
            f'<span class="published">Colour: published error, {low} {one}</span>'
            f'<span class="difference">Colour: {both}</span></p>'
        )

    def _share(self, error: float | None) -> float | None:
        """On a logarithmic scale; half a point of error keeps zeros apart from the rest gently."""
        span = math.log(self._high + 0.5) - math.log(self._low + 0.5)
        return None if error is None or span <= 0 else (math.log(error + 0.5) - math.log(self._low + 0.5)) / span
