"""One style for every picture: sizes, one palette that is told apart without colour, and how a figure is saved.

matplotlib is imported when something is drawn, so that the library does not need it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from torch import Tensor

# Okabe and Ito (2008): told apart with any colour vision. Lightness differs too, and every series has its own marker.
BLUE, ORANGE, GREEN, PURPLE, DARK, GREY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#333333", "#666666"
MIXED = "#B0A8B8"  # half of one class, half of the other
CLASS_COLOURS, CLASS_MARKERS = (BLUE, ORANGE), ("o", "^")

WIDTH = 7.2  # inches: a page's text

_STYLE: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "savefig.dpi": 160,
    "pdf.fonttype": 42,  # text stays text
    "svg.fonttype": "none",
    "svg.hashsalt": "kmixup",  # the same picture is the same file
}


class Series(NamedTuple):
    """How one of several lines looks; no two of a picture look alike, with or without colour.

    Attributes:
        colour: Of the Okabe-Ito palette.
        marker: matplotlib's name.
        dashes: matplotlib's name of a line style.
    """

    colour: str
    marker: str
    dashes: str

    @property
    def line(self) -> dict[str, Any]:
        """Keywords of ``plot`` and ``errorbar``."""
        return {"color": self.colour, "marker": self.marker, "linestyle": self.dashes}


def series() -> Iterator[Series]:
    """Looks for the lines of one picture, without end: each round of colours has other markers and dashes."""
    colours, markers, dashes = (BLUE, ORANGE, GREEN, PURPLE, DARK), "os^Dv", ("-", "--", "-.", ":")
    for number in count():
        turn, place = divmod(number, len(colours))
        yield Series(colours[place], markers[(place + turn) % len(markers)], dashes[turn % len(dashes)])


def class_map() -> LinearSegmentedColormap:
    """From the colour of the first class to that of the second, with what lies between them for mixed labels."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("classes", [BLUE, MIXED, ORANGE])


def surface_map() -> LinearSegmentedColormap:
    """The same for areas: almost white where neither class is likelier."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("surface", [BLUE, "#F4F4F4", ORANGE])


@contextmanager
def style() -> Iterator[None]:
    """The one style of all figures; draw inside it.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        raise ImportError("a picture needs matplotlib. Run: pip install 'kmixup[experiments]'") from None

    with mpl.rc_context(_STYLE):  # pyright: ignore[reportArgumentType]
        yield


DATELESS = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
"""The endings that `save` writes, with what keeps the date out: the same picture is the same file."""


def save(figure: Figure, path: Path, *, endings: tuple[str, ...] = ("pdf", "png"), dpi: int = 180) -> list[Path]:
    """Write a figure, by default as PDF and PNG: drawn first and written then, so that a full disk says so.

    Args:
        figure: The figure.
        path: Where, without ending; the folder is made.
        endings: A file each.
        dpi: Dots per inch of the PNG, and of the dense parts of the others.

    Returns:
        The files.

    Raises:
        OSError: If a file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [path.with_name(f"{path.name}.{ending}") for ending in endings]
    for file in files:
        drawn = io.BytesIO()
        with style():
            figure.savefig(drawn, format=file.suffix[1:], dpi=dpi, metadata=DATELESS[file.suffix])
        file.write_bytes(drawn.getvalue())
    return files


def bare(axes: Axes, *, frame: bool = False) -> None:
    """A panel without ticks, and without a frame unless asked."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[["left", "bottom", "top", "right"]].set_visible(frame)


def square_view(axes: Axes, x: Tensor) -> None:
    """A square view of the data, equal scales."""
    low, high = x.amin(0), x.amax(0)
    centre, half = (low + high) / 2, float((high - low).max()) * 0.53
    axes.set_xlim(float(centre[0]) - half, float(centre[0]) + half)
    axes.set_ylim(float(centre[1]) - half, float(centre[1]) + half)
    axes.set_aspect("equal")
