"""Mathematics as MathML, which browsers draw by themselves: no script and no font to fetch.

A formula that docutils cannot read is a warning, and so an error of the build.
"""

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

_LOGGER = logging.getLogger(__name__)


def _mathml(writer, node, *, block: bool) -> None:
    # Two commands that docutils does not know: the size of a delimiter, which MathML finds by itself, and a
    # name for dots.
    formula = re.sub(r"\\big(?![a-zA-Z])", "", node.astext()).replace(r"\dots", r"\ldots")
    try:
        mathml = tex2mathml(formula, as_block=block)
    except MathError as error:
        _LOGGER.warning("mathematics: %s", error, location=node)
        mathml = f"<code>{writer.encode(node.astext())}</code>"
    tag = "div" if block else "span"
    writer.body.append(f'<{tag} class="math">{mathml}</{tag}>')
    raise nodes.SkipNode


def _inline(writer, node) -> None:
    _mathml(writer, node, block=False)


def _block(writer, node) -> None:
    _mathml(writer, node, block=True)


def setup(app):
    """Make it the renderer of HTML."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
