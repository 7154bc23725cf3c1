"""Reports: what the runs say, beside what the paper says. Made from run files alone.

Every number is ours +- standard error (n) | published | difference, in percent. A reduced protocol says so.
"""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from kmixup.experiments.claims import Errors, Verdict, judge
from kmixup.experiments.recipe import REDUCIBLE, Cell, Recipe, Trial
from kmixup.experiments.runs import Run, write_whole

if TYPE_CHECKING:
    from rich.console import Console

Measure = Literal["final", "best"]
MEASURES = ("final", "best")


@dataclass(frozen=True)
class CellReport:
    """One cell: its runs, and the published number.

    Attributes:
        cell: The settings.
        runs: Runs of one protocol: the cell's own if there are any, else the longest reduced one.
        measure: Which test error counts, after the last epoch or the best of all epochs.
    """

    cell: Cell
    runs: tuple[Run, ...]
    measure: Measure = "final"

    @property
    def errors(self) -> dict[int, float]:
        """Test error in percent by seed, without diverged runs."""
        name = "final_error" if self.measure == "final" else "best_error"
        return {run.trial.seed: 100 * error for run in self.runs if (error := getattr(run, name)) is not None}

    @property
    def n(self) -> int:
        """Runs that count."""
        return len(self.errors)

    @property
    def mean(self) -> float | None:
        """Mean test error in percent; None without runs."""
        return float(np.mean(list(self.errors.values()))) if self.n else None

    @property
    def std_error(self) -> float | None:
        """Standard error of the mean; None with fewer than two runs."""
        return float(np.std(list(self.errors.values()), ddof=1)) / math.sqrt(self.n) if self.n > 1 else None

    @property
    def difference(self) -> float | None:
        """Ours minus published; None if either is missing."""
        published = self.cell.published.error
        return None if self.mean is None or published is None else self.mean - published

    @property
    def notes(self) -> list[str]:
        """What must stand beside the number."""
        notes = []
        if self.runs:
            notes += reductions(self.cell, self.runs[0])
            diverged = sum(run.diverged for run in self.runs)
            notes += [f"{diverged} of {len(self.runs)} runs diverged"] if diverged else []
            if not all(run.attainable for run in self.runs):
                notes.append("xi not attainable at this k")
            if self.n and self.n < self.cell.trials:
                notes.append(f"{self.n} of {self.cell.trials} trials")
        return notes

    def text(self) -> str:
        """``ours +- standard error (n)``, or a dash."""
        if self.mean is None:
            return "—"
        spread = f" ± {self.std_error:.2f}" if self.std_error is not None else ""
        return f"{self.mean:.2f}{spread} ({self.n})" + ("*" if self.notes else "")


@dataclass(frozen=True)
class Report:
    """A table of the paper beside our runs.

    Attributes:
        recipe: The table.
        cells: Its cells, in order.
        verdicts: Its claims, decided.
    """

    recipe: Recipe
    cells: tuple[CellReport, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def notes(self) -> list[str]:
        """What a reader must know: of the recipe, of the data, and how each kind of starred cell is reduced."""
        notes = [self.recipe.note] if self.recipe.note else []
        for cell in self.cells:
            notes += [run.note for run in cell.runs[:1] if run.note]
        kinds: dict[str, int] = {}
        for cell in self.cells:
            for note in cell.notes:
                kinds[note] = kinds.get(note, 0) + 1
        notes += [f"* {note} ({count} {'cell' if count == 1 else 'cells'})" for note, count in kinds.items()]
        return list(dict.fromkeys(notes))


def reductions(cell: Cell, run: Run) -> list[str]:
    """How a run's protocol is smaller than its cell's."""
    notes = []
    for name in REDUCIBLE:
        ours, full = getattr(run.trial, name), getattr(cell.settings, name)
        if ours != full:
            notes.append(
                f"{name} {ours if ours is not None else 'all'} instead of {full if full is not None else 'all'}"
            )
    return notes


def make_report(recipe: Recipe, runs: Iterable[Run], *, measure: Measure = "final") -> Report:
    """Gather the runs of a recipe's cells.

    Runs of different protocols are never averaged together: a cell takes the runs of its own protocol, or else those
    of the longest reduced one.

    Args:
        recipe: The table.
        runs: Any runs; those of other recipes are left out.
        measure: Test error after the last epoch, or of the best epoch (chosen on the test data, so optimistic).
    """
    by_cell: dict[str, list[Run]] = {}
    for run in runs:
        by_cell.setdefault(run.trial.cell_id, []).append(run)
    cells = tuple(CellReport(c, _one_protocol(c, by_cell.get(c.settings.cell_id, [])), measure) for c in recipe.cells)
    errors: list[Errors] = [_errors(cell) for cell in cells]
    verdicts = tuple(judge(claim, recipe.cells, errors) for claim in recipe.claims)
    # A verdict travels without its table: it says itself what it is not about.
    if any(reductions(cell.cell, cell.runs[0]) for cell in cells if cell.runs):
        verdicts = tuple(_about("On a reduced protocol", verdict) for verdict in verdicts)
    if any(cell.n < cell.cell.trials for cell in cells):
        verdicts = tuple(_about("On part of the trials", verdict) for verdict in verdicts)
    return Report(recipe, cells, verdicts)


def _about(what: str, verdict: Verdict) -> Verdict:
    return verdict if verdict.verdict == "not tested" else replace(verdict, detail=f"{what}: {verdict.detail}")


def _one_protocol(cell: Cell, runs: Sequence[Run]) -> tuple[Run, ...]:
    protocols: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        protocols.setdefault(tuple(getattr(run.trial, name) for name in REDUCIBLE), []).append(run)
    if not protocols:
        return ()
    own = tuple(getattr(cell.settings, name) for name in REDUCIBLE)

    def length(protocol: tuple[object, ...]) -> tuple[bool, float, float, int]:
        epochs, train_size = protocol
        size = math.inf if train_size is None else float(train_size)  # pyright: ignore[reportArgumentType]
        return protocol == own, size, float(epochs), len(protocols[protocol])  # pyright: ignore[reportArgumentType]

    return tuple(sorted(protocols[max(protocols, key=length)], key=lambda run: run.trial.seed))


def _errors(cell: CellReport) -> Errors:
    errors = {(seed, ""): error for seed, error in cell.errors.items()}
    for run in cell.runs:
        errors |= {(run.trial.seed, attack): 100 * error for attack, error in run.attack_error.items()}
    return errors


# --- grids: rows k, columns alpha, as the paper prints them -----------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """One part of a table as the paper prints it: a row per method and k, a column per alpha.

    Attributes:
        title: Of the part.
        rows: Row names.
        columns: Values of alpha.
        cells: By row and column.
        unmixed: Cells without an alpha, by name.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[float, ...]
    cells: Mapping[tuple[str, float], CellReport]
    unmixed: tuple[tuple[str, CellReport], ...] = ()


def grids(report: Report) -> list[Grid]:
    """The parts of a report; cells that differ in more than method, k and alpha get a row of their own."""
    parts = []
    for group, title in report.recipe.groups.items():
        mine = [cell for cell in report.cells if cell.cell.group == group]
        if not mine:
            continue
        varied = [
            name
            for name in ("dataset", "model", "metric", "alpha_rule", "pairing", "lam_per", "method_options")
            if len({str(getattr(cell.cell.settings, name)) for cell in mine}) > 1
        ]
        # ERM has no alpha: it stands above the grid, unless there is nothing else.
        mixing = [cell for cell in mine if cell.cell.settings.method != "erm"] or mine
        unmixed = tuple((_row(cell.cell, varied), cell) for cell in mine if cell not in mixing)
        by_place = {(_row(cell.cell, varied), cell.cell.settings.alpha): cell for cell in mixing}
        rows = tuple(dict.fromkeys(row for row, _ in by_place))
        columns = tuple(sorted({alpha for _, alpha in by_place}))
        parts.append(Grid(title, rows, columns, by_place, unmixed))
    return parts


def distance(grid: Grid) -> str:
    """How far a part of a table is from the paper, in a sentence; empty if nothing can be compared."""
    gaps = [abs(cell.difference) for cell in grid.cells.values() if cell.difference is not None]
    if not gaps:
        return ""
    return f"Mean absolute difference from the published numbers: {np.mean(gaps):.2f} points ({len(gaps)} cells)."


def row_name(settings: Trial) -> str:
    """A method and its k as the rows of the tables name them."""
    names = {"erm": "ERM", "mixup": "k = 1", "k-mixup": f"k = {settings.k}"}
    return names.get(settings.method, f"{settings.method}, k = {settings.k}")


def _row(cell: Cell, varied: Sequence[str]) -> str:
    return ", ".join([row_name(cell.settings), *(str(getattr(cell.settings, each)) for each in varied)])


def _column(grid: Grid, alpha: float) -> str:
    if alpha == 0:
        return "no mixing"
    printed = {cell.cell.published.xi for (_, a), cell in grid.cells.items() if a == alpha} - {None}
    ours = [run.xi / 2 for (_, a), cell in grid.cells.items() if a == alpha for run in cell.runs if run.xi]
    parts = [f"alpha = {alpha:g}"]
    if printed:
        parts.append(
            f"xi/2 = {np.mean(ours):.2g} (paper {printed.pop():g})" if ours else f"paper xi = {printed.pop():g}"
        )
    return ", ".join(parts)


def _entry(cell: CellReport | None) -> str:
    if cell is None:
        return ""
    published = cell.cell.published.error
    parts = [cell.text(), "—" if published is None else f"{published:.2f}"]
    return " | ".join([*parts, "—" if cell.difference is None else f"{cell.difference:+.2f}"])


# --- errors under attack: rows cells, columns epsilons ----------------------------------------------------------------


@dataclass(frozen=True)
class AttackTable:
    """Errors under attack of the cells of one part of a table.

    Attributes:
        title: Of the part.
        epsilons: Sizes of the attacks, in 1/255 of the pixel range.
        rows: Name of the cell, and an entry per epsilon: ours ± standard error (n) | published | difference.
    """

    title: str
    epsilons: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def attack_tables(report: Report) -> list[AttackTable]:
    """The parts of a report that have runs or published numbers under attack."""
    tables = []
    for group, title in report.recipe.groups.items():
        cells = [
            cell
            for cell in report.cells
            if cell.cell.group == group and (cell.cell.published.attack or any(run.attack_error for run in cell.runs))
        ]
        names = {name for cell in cells for name in cell.cell.published.attack}
        names |= {name for cell in cells for run in cell.runs for name in run.attack_error}
        epsilons = tuple(sorted(names, key=float))
        rows = tuple(
            (
                row_name(cell.cell.settings)
                + (f", alpha = {cell.cell.settings.alpha:g}" if cell.cell.settings.alpha else ""),
                tuple(_attack_entry(cell, epsilon) for epsilon in epsilons),
            )
            for cell in cells
        )
        if rows:
            tables.append(AttackTable(title, epsilons, rows))
    return tables


def _attack_entry(cell: CellReport, epsilon: str) -> str:
    errors = [100 * run.attack_error[epsilon] for run in cell.runs if epsilon in run.attack_error]
    published = cell.cell.published.attack.get(epsilon)
    ours, difference = "—", "—"
    if errors:
        spread = f" ± {np.std(errors, ddof=1) / math.sqrt(len(errors)):.2f}" if len(errors) > 1 else ""
        ours = f"{np.mean(errors):.2f}{spread} ({len(errors)})" + ("*" if cell.notes else "")
        difference = "—" if published is None else f"{np.mean(errors) - published:+.2f}"
    return " | ".join([ours, "—" if published is None else f"{published:.2f}", difference])


# --- renderings -------------------------------------------------------------------------------------------------------

_HEADER = "Each entry: ours ± standard error (n) | published | difference. Test error in percent."


def write_report(report: Report, path: Path) -> None:
    """Write the report to a file: ``.md``, ``.csv`` or ``.html``.

    Raises:
        ValueError: If the file has another ending.
    """
    renderings = {".md": to_markdown, ".csv": to_csv, ".html": to_html}
    if path.suffix not in renderings:
        raise ValueError(f"a report file ends in {', '.join(renderings)}, got {path.name!r}.")
    write_whole(path, renderings[path.suffix](report))


def to_markdown(report: Report) -> str:
    """The report as Markdown."""
    lines = [f"# {report.recipe.name}: {report.recipe.title}", "", _HEADER, ""]
    for grid in grids(report):
        if grid.title != report.recipe.title:
            lines += [f"## {grid.title}", ""]
        for name, cell in grid.unmixed:
            lines += [f"{name}: {_entry(cell)}", ""]
        columns = [_column(grid, alpha) for alpha in grid.columns]
        lines += ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for row in grid.rows:
            entries = [_entry(grid.cells.get((row, alpha))).replace("|", "\\|") for alpha in grid.columns]
            lines.append(f"| {row} | " + " | ".join(entries) + " |")
        lines += ["", distance(grid), ""] if distance(grid) else [""]
    for table in attack_tables(report):
        lines += [f"## {table.title}: error under FGSM, by epsilon in 1/255", ""]
        lines += ["| | " + " | ".join(table.epsilons) + " |", "|---" * (len(table.epsilons) + 1) + "|"]
        for name, entries in table.rows:
            escaped = [entry.replace("|", "\\|") for entry in entries]
            lines.append(f"| {name} | " + " | ".join(escaped) + " |")
        lines.append("")
    if report.verdicts:
        lines += ["## Claims", "", *_claims_table(report.verdicts), ""]
    lines += [f"- {note}" for note in report.notes]
    return "\n".join(lines).rstrip() + "\n"


def _claims_table(verdicts: Sequence[Verdict]) -> list[str]:
    rows = [f"| {v.claim.text} | **{v.verdict}** | {v.detail} |" for v in verdicts]
    return ["| claim | verdict | numbers |", "|---|---|---|", *rows]


def claims_to_markdown(reports: Sequence[Report]) -> str:
    """Every claim of some tables with its verdict, and the command that would test what no run has tested."""
    counts = dict.fromkeys(("held", "not held", "not tested"), 0)
    lines = []
    for report in reports:
        if not report.verdicts:
            continue
        name = report.recipe.name
        untested = f"`kmixup reproduce {name} --data-dir FOLDER` tests it."
        verdicts = [replace(v, detail=untested) if v.verdict == "not tested" else v for v in report.verdicts]
        lines += [f"## {name}: {report.recipe.title}", "", *_claims_table(verdicts), ""]
        for verdict in verdicts:
            counts[verdict.verdict] += 1
    total = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    head = ["# Claims", "", f"{total}. Decided by runs alone (`kmixup claims`), each beside its table's protocol.", ""]
    return "\n".join(head + lines).rstrip() + "\n"


_CSV_COLUMNS = (
    *("table", "group", "dataset", "model", "method", "k", "alpha", "metric", "alpha_rule"),
    *("alpha_k", "xi_half", "xi_published", "error", "std_error", "n", "diverged", "published", "difference"),
    *("seconds", "note"),
)


def to_csv(report: Report) -> str:
    """The report as CSV, a row a cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for cell in report.cells:
        settings, runs = cell.cell.settings, cell.runs
        alpha_k = [run.alpha_k for run in runs if run.alpha_k is not None]
        xi = [run.xi for run in runs if run.xi is not None]
        numbers = [
            np.mean(alpha_k) if alpha_k else None,
            np.mean(xi) / 2 if xi else None,
            cell.cell.published.xi,
            cell.mean,
            cell.std_error,
            cell.n,
            sum(run.diverged for run in runs),
            cell.cell.published.error,
            cell.difference,
            np.mean([run.seconds.total for run in runs]) if runs else None,
        ]
        who = [report.recipe.name, cell.cell.group, settings.dataset, settings.model, settings.method, settings.k]
        how = [f"{settings.alpha:g}", settings.metric, settings.alpha_rule]
        writer.writerow(who + how + ["" if x is None else f"{x:.6g}" for x in numbers] + ["; ".join(cell.notes)])
    return text.getvalue()


def to_html(report: Report) -> str:
    """The report as one page without outside resources: heat maps over k and alpha, claims, notes."""
    escape = html.escape
    body = [f"<h1>{escape(report.recipe.name)}: {escape(report.recipe.title)}</h1><p>{escape(_HEADER)}</p>"]
    for grid in grids(report):
        everything = [*grid.cells.values(), *(cell for _, cell in grid.unmixed)]
        values = [cell.mean for cell in everything if cell.mean is not None]
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        head = "".join(f"<th>{escape(_column(grid, alpha))}</th>" for alpha in grid.columns)
        body.append(f"<h2>{escape(grid.title)}</h2><table>")
        for name, cell in grid.unmixed:
            body.append(f"<tr><th>{escape(name)}</th>{_html_entry(cell, low, high)}</tr>")
        body.append(f"<tr><th></th>{head}</tr>")
        for row in grid.rows:
            entries = "".join(_html_entry(grid.cells.get((row, alpha)), low, high) for alpha in grid.columns)
            body.append(f"<tr><th>{escape(row)}</th>{entries}</tr>")
        body.append(f"</table><p>{escape(distance(grid))}</p>")
    for table in attack_tables(report):
        head = "".join(f"<th>{escape(epsilon)}</th>" for epsilon in table.epsilons)
        body.append(f"<h2>{escape(table.title)}: error under FGSM, by epsilon in 1/255</h2>")
        body.append(f"<table><tr><th></th>{head}</tr>")
        for name, row in table.rows:
            entries = "".join(f"<td>{escape(entry)}</td>" for entry in row)
            body.append(f"<tr><th>{escape(name)}</th>{entries}</tr>")
        body.append("</table>")
    if report.verdicts:
        body.append("<h2>Claims</h2><table><tr><th>claim</th><th>verdict</th><th>numbers</th></tr>")
        body += [
            f"<tr><td>{escape(v.claim.text)}</td><td><b>{v.verdict}</b></td><td>{escape(v.detail)}</td></tr>"
            for v in report.verdicts
        ]
        body.append("</table>")
    body.append("<ul>" + "".join(f"<li>{escape(note)}</li>" for note in report.notes) + "</ul>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(report.recipe.name)}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}th,td{padding:.35rem .7rem;border:1px solid #ddd;text-align:left}"
    "td small{color:#555;display:block}th{background:#f6f6f6;font-weight:600}"
)


def _html_entry(cell: CellReport | None, low: float, high: float) -> str:
    if cell is None:
        return "<td></td>"
    published = cell.cell.published.error
    beside = "not published" if published is None else f"published {published:.2f}"
    if cell.difference is not None:
        beside += f", {cell.difference:+.2f}"
    style = ""
    if cell.mean is not None:
        # From white to orange on a logarithmic scale; half a point of error keeps zeros apart from the rest gently.
        span = math.log(high + 0.5) - math.log(low + 0.5)
        heat = (math.log(cell.mean + 0.5) - math.log(low + 0.5)) / span if span > 0 else 0.0
        style = f' style="background:hsl(28 90% {97 - 37 * heat:.0f}%)"'
    title = f' title="{html.escape("; ".join(cell.notes))}"' if cell.notes else ""
    return f"<td{style}{title}>{html.escape(cell.text())}<small>{beside}</small></td>"


def print_report(report: Report, console: Console) -> None:
    """The report on a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    console.print(f"\n[bold]{escape(report.recipe.name)}[/bold]: {escape(report.recipe.title)}\n{_HEADER}")
    for grid in grids(report):
        for name, cell in grid.unmixed:
            console.print(f"{escape(grid.title)}, {escape(name)}: {_entry(cell)}", highlight=False)
        table = Table(title=escape(grid.title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("")
        for alpha in grid.columns:
            table.add_column(_column(grid, alpha).replace(", ", "\n"))
        for row in grid.rows:
            table.add_row(
                row, *(_entry(grid.cells.get((row, alpha))).replace(" | ", "\n", 1) for alpha in grid.columns)
            )
        console.print(table)
        if distance(grid):
            console.print(distance(grid), highlight=False)
    for attacks in attack_tables(report):
        table = Table(title=f"{attacks.title}: error under FGSM, by epsilon in 1/255", title_justify="left")
        for column in ("", *attacks.epsilons):
            table.add_column(column)
        for name, entries in attacks.rows:
            table.add_row(name, *entries)
        console.print(table)
    colours = {"held": "green", "not held": "red", "not tested": "yellow"}
    for verdict in report.verdicts:
        console.print(f"[{colours[verdict.verdict]}]{verdict.verdict}[/]: {escape(verdict.claim.text)}")
        console.print(f"    {escape(verdict.detail)}", style="dim")
    for note in report.notes:
        console.print(f"  {escape(note)}", style="dim")
