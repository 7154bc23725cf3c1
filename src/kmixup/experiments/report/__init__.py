"""Writers of reports; what they write is computed in `kmixup.experiments.summary`, from run files alone."""

from collections.abc import Sequence
from pathlib import Path

from kmixup.experiments.files import write_whole
from kmixup.experiments.report.csv import to_csv
from kmixup.experiments.report.html import to_html
from kmixup.experiments.report.latex import to_latex
from kmixup.experiments.report.markdown import to_markdown
from kmixup.experiments.report.scorecard import claims_to_markdown, fill_page, readings_to_markdown
from kmixup.experiments.report.terminal import print_report, print_table
from kmixup.experiments.scorecard import Scorecard
from kmixup.experiments.summary import Report

__all__ = [
    "ENDINGS",
    "claims_to_markdown",
    "fill_page",
    "print_report",
    "print_table",
    "readings_to_markdown",
    "to_csv",
    "to_html",
    "to_latex",
    "to_markdown",
    "write_page",
    "write_report",
]


ENDINGS = (".md", ".csv", ".tex", ".html")


def write_report(reports: Sequence[Report], path: Path) -> None:
    """Write reports to one file: ``.md``, ``.csv`` or ``.tex``.

    Raises:
        ValueError: If the file has another ending.
    """
    match path.suffix:
        case ".md":
            text = "\n".join(map(to_markdown, reports))
        case ".csv":
            text = to_csv(reports)
        case ".tex":
            text = to_latex(reports)
        case _:
            raise ValueError(f"a report file ends in {', '.join(ENDINGS)}, got {path.name!r}.")
    write_whole(path, text)


def write_page(scorecard: Scorecard, path: Path) -> None:
    """Write the scorecard and its tables, each under every reading that was run, as one HTML page."""
    write_whole(path, to_html(scorecard))
