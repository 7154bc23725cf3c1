"""Shows the variable ``figure`` of a tutorial where pyplot does not know it, as with the library's own pictures."""

from weakref import WeakSet

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

_shown: WeakSet[Figure] = WeakSet()


def _scrape(block, block_vars, gallery_conf):
    figure = block_vars["example_globals"].get("figure")
    if not isinstance(figure, Figure) or figure in _shown:
        return ""
    _shown.add(figure)
    if figure.canvas.manager is not None:  # pyplot's own, shown by sphinx-gallery
        return ""
    path = next(block_vars["image_path_iterator"])
    figure.savefig(path, dpi=160)
    return figure_rst([path], gallery_conf["src_dir"])


def _get_sg_image_scraper():
    """What sphinx-gallery asks a module for."""
    return _scrape
