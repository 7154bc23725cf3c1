"""Reports as LaTeX with booktabs, to include in a paper: a table for each part."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kmixup.experiments.report.table import distance
from kmixup.experiments.summary import CellReport, Grid, Report, grids

_SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
    **{"±": r"$\pm$", "—": "---", "²": "$^2$"},
}


def to_latex(reports: Sequence[Report]) -> str:
    r"""The reports as tables for a document with ``\usepackage{booktabs}``; ``\input`` it."""
    lines = [
        r"% Rendered by kmixup report from run files alone. Needs \usepackage[T1]{fontenc} and \usepackage{booktabs}."
    ]
    for report in reports:
        for number, grid in enumerate(grids(report), 1):
            lines += ["", *_table(report, grid, f"tab:{re.sub(r'[^A-Za-z0-9-]', '-', report.recipe.name)}-{number}")]
    return "\n".join(lines) + "\n"


def _table(report: Report, grid: Grid, label: str) -> list[str]:
    marks: dict[str, str] = {}  # what stands beside some numbers, each with its letter

    def entry(cell: CellReport | None) -> str:
        if cell is None:
            return ""
        spread = "" if cell.std_error is None else rf" {{\scriptsize $\pm$ {cell.std_error:.2f}}}"
        ours = "---" if cell.mean is None else f"{cell.mean:.2f}{spread}"
        letters = ",".join(marks.setdefault(note, _letter(len(marks))) for note in cell.notes)
        printed = cell.cell.published.error
        beside = "" if printed is None else f" ({printed:.2f})"
        return ours + (rf"\textsuperscript{{{letters}}}" if letters else "") + beside

    alphas = [
        "no mixing" if alpha == 0 else rf"$\alpha = {alpha:g}$".replace("inf", r"\infty") for alpha in grid.columns
    ]
    rows = [
        " & ".join([_escape(row), *(entry(grid.cells.get((row, alpha))) for alpha in grid.columns)]) + r" \\"
        for row in grid.rows
    ]
    above = [
        rf"{_escape(name)} & \multicolumn{{{len(alphas)}}}{{l}}{{{entry(cell)}}} \\" for name, cell in grid.unmixed
    ]
    title = report.recipe.title if grid.title == report.recipe.title else f"{report.recipe.title}: {grid.title}"
    notes = [rf"\textsuperscript{{{letter}}}~{_escape(note)}" for note, letter in marks.items()]
    caption = f"{_escape(title)}. Ours $\\pm$ standard error{_seeds(report)} (published). {_escape(grid.protocol)}"
    caption += f" {_escape(distance(grid))}" if distance(grid) else ""
    return [
        *(r"\begin{table}", r"\centering", r"\small"),
        rf"\begin{{tabular}}{{l{'r' * len(alphas)}}}",
        *(r"\toprule", " & ".join(["", *alphas]) + r" \\", r"\midrule", *above, *rows, r"\bottomrule"),
        r"\end{tabular}",
        *([r"\par\smallskip\footnotesize " + "; ".join(notes)] if notes else []),
        *(rf"\caption{{{caption}}}", rf"\label{{{label}}}", r"\end{table}"),
    ]


def _seeds(report: Report) -> str:
    counts = sorted({cell.n for cell in report.cells if cell.n})
    if not counts:
        return ""
    return f", {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seeds"


def _letter(number: int) -> str:
    return chr(ord("a") + number) if number < 26 else f"n{number}"


def _escape(text: str) -> str:
    plain = "".join(" " if character.isspace() else character for character in text)
    return "".join(_SPECIAL.get(character, character) for character in plain)
