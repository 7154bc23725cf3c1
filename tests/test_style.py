"""The one style of all pictures."""

import os
import subprocess
import sys
from itertools import islice

import pytest
from matplotlib.figure import Figure

from kmixup.style import CLASS_COLOURS, CLASS_MARKERS, save, series, style


def test_twenty_lines_are_told_apart_without_colour():
    looks = list(islice(series(), 20))
    assert len({(look.marker, look.dashes) for look in looks}) == 20
    assert len(set(CLASS_MARKERS)) == len(set(CLASS_COLOURS)) == 2


def test_the_same_picture_is_the_same_file_in_every_format(tmp_path):
    written = []
    for name in ("first", "second"):
        with style():
            figure = Figure(figsize=(2, 2))
            figure.subplots().plot([1, 2], [3, 4], **next(series()).line)
        written.append(save(figure, tmp_path / name, endings=("pdf", "png", "svg")))
    for first, second in zip(*written, strict=True):
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no disk that is always full")
@pytest.mark.parametrize("ending", ["pdf", "png", "svg"])
def test_a_picture_for_a_full_disk_says_so(tmp_path, ending):
    (tmp_path / f"x.{ending}").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        save(Figure(figsize=(2, 2)), tmp_path / "x", endings=(ending,))


@pytest.mark.parametrize("code", ["with kmixup.style.style(): pass"])
def test_a_picture_without_matplotlib_says_what_to_install(code):
    setup = "import sys; sys.modules['matplotlib'] = None; import kmixup, kmixup.style, torch; "
    data = "x, y = torch.randn(64, 2), torch.arange(64) % 3\n"
    found = subprocess.run([sys.executable, "-c", setup + data + code], capture_output=True, text=True, check=False)
    assert "ImportError: a picture needs matplotlib. Run: pip install 'kmixup[experiments]'" in found.stderr
