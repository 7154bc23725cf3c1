"""Writers of reports; what they write is computed in `kmixup.experiments.summary`, from run files alone."""

from pathlib import Path

from kmixup.experiments.files import write_whole
from kmixup.experiments.report.csv import to_csv
from kmixup.experiments.report.html import to_html
from kmixup.experiments.report.markdown import to_markdown
from kmixup.experiments.report.scorecard import claims_to_markdown, fill_page, readings_to_markdown
from kmixup.experiments.report.terminal import print_report, print_table
from kmixup.experiments.summary import Report

__all__ = [
    "claims_to_markdown",
    "fill_page",
    "print_report",
    "print_table",
    "readings_to_markdown",
    "to_csv",
    "to_html",
    "to_markdown",
    "write_report",
]


def write_report(report: Report, path: Path) -> None:
    """Write the report to a file: ``.md``, ``.csv`` or ``.html``.

    Raises:
        ValueError: If the file has another ending.
    """
    renderings = {".md": to_markdown, ".csv": to_csv, ".html": to_html}
    if path.suffix not in renderings:
        raise ValueError(f"a report file ends in {', '.join(renderings)}, got {path.name!r}.")
    write_whole(path, renderings[path.suffix](report))
