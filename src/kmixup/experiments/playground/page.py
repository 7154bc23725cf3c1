"""Makes the playground's page: its parts are the files beside this one, put into one."""

from __future__ import annotations

import json
import math
from importlib.resources import files

import torch
from torch import Generator, Tensor

from kmixup import __version__
from kmixup.experiments.datasets.toy import four_bars, one_ring, swiss_roll
from kmixup.style import BLUE, GREEN, MIXED, ORANGE

_POINTS = 512
_SCRIPTS = ("assignment.js", "mixing.js", "draw.js", "page.js")


def playground() -> str:
    """The page: HTML that opens from disk and needs no network. The same version makes the same page."""
    sets = [{"name": name, "title": title, **_numbers(*points)} for name, (title, points) in _sets().items()]
    colours = {"class-1": BLUE, "class-2": ORANGE, "class-3": GREEN, "mixed": MIXED}
    parts = {
        "/* style */": _read("page.css").replace(
            "/* palette */", " ".join(f"--{name}: {colour};" for name, colour in colours.items())
        ),
        # Inside a script nothing is escaped, but nothing may close it.
        "/* given */": json.dumps({"version": __version__, "sets": sets}, separators=(",", ":")).replace(
            "<", "\\u003c"
        ),
        "/* script */": "\n".join(map(_read, _SCRIPTS)),
    }
    page = _read("page.html")
    for mark, text in parts.items():
        before, after = page.split(mark)
        page = before + text + after
    return page


def _sets() -> dict[str, tuple[str, tuple[Tensor, Tensor]]]:
    toys = {
        "one-ring": ("one ring", one_ring),
        "four-bars": ("four bars", four_bars),
        "swiss-roll": ("swiss roll", swiss_roll),
    }
    drawn = {name: (title, draw(n_train=_POINTS, n_test=1)) for name, (title, draw) in toys.items()}
    return {
        **{name: (title, (data.x_train, data.y_train)) for name, (title, data) in drawn.items()},
        "two-moons": ("two moons", _two_moons()),
        "three-clusters": ("three clusters in a row", _three_clusters()),
    }


def _two_moons() -> tuple[Tensor, Tensor]:
    """Two half circles that reach into each other."""
    generator = Generator().manual_seed(0)
    y = torch.randint(2, (_POINTS,), generator=generator)
    angle = math.pi * torch.rand(_POINTS, generator=generator)
    side = 1.0 - 2.0 * y
    x = torch.stack([side * angle.cos() + y, side * angle.sin() + 0.5 * y], 1)
    return x + 0.08 * torch.randn(x.shape, generator=generator), y


def _three_clusters() -> tuple[Tensor, Tensor]:
    """Midpoints of the outer clusters lie in the one between: intrusion."""
    generator = Generator().manual_seed(0)
    y = torch.randint(3, (_POINTS,), generator=generator)
    centre = torch.stack([2.5 * (y - 1), torch.zeros(_POINTS)], 1)
    return centre + 0.45 * torch.randn(_POINTS, 2, generator=generator), y


def _numbers(x: Tensor, y: Tensor) -> dict[str, list[float] | list[int]]:
    return {"points": [round(value, 4) for value in x.flatten().tolist()], "classes": y.tolist()}


def _read(name: str) -> str:
    return files("kmixup.experiments.playground").joinpath(name).read_text(encoding="utf-8")
