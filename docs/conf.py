"""Settings of the site. ``make docs`` builds it from the root, so that its links are those of the files."""

import sys
from pathlib import Path

from sphinx.domains.python import PyObject

import kmixup
from kmixup.experiments.playground.page import playground
from kmixup.experiments.recipe import read_recipe, recipe_names
from kmixup.experiments.report import write_page
from kmixup.experiments.runs import RunStore
from kmixup.experiments.scorecard import make_scorecard
from kmixup.style import BLUE

sys.path.insert(0, str(Path(__file__).parent))

project = "kmixup"
author = "The kmixup developers"
version = release = kmixup.__version__
html_title = f"kmixup {release}"

root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "docs/tutorials/**.rst",
    "results/*.md",
    "PAPER.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
exclude_patterns = [".*", "build", "dist", "site", "runs", "src", "tests", "benchmarks", "examples", "shared"]
highlight_language = "none"

html_math_renderer = "mathml"
extensions = [
    "mathml",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

# Public names only: what a module lists in __all__.
autodoc_default_options = {
    "members": True,
    "member-order": "bysource",
    # scikit-learn adds these.
    "exclude-members": "set_fit_request, set_partial_fit_request, set_predict_request, set_score_request",
}
autodoc_typehints = "signature"
python_display_short_literal_types = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Paper", "returns_style"), ("Source", "returns_style")]

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "docs/tutorials",
    "filename_pattern": r"\d\d_\w+\.py$",
    "ignore_pattern": r"(^|/)own\.py$",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("figures", "matplotlib"),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "write_computation_times": False,
    "remove_config_comments": True,
    "show_signature": False,
}

html_theme = "furo"
html_extra_path = ["root"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": BLUE, "color-brand-content": BLUE},
    "dark_css_variables": {"color-brand-primary": "#56B4E9", "color-brand-content": "#56B4E9"},
}
html_show_sphinx = html_show_copyright = False
copybutton_exclude = ".linenos, .gp, .go"


def _whole_sentences(app, what, name, obj, options, lines):
    """Keeps napoleon from taking the start of an attribute's sentence, up to a colon, for its type."""
    if what in ("attribute", "data", "property") and lines:
        lines[0] = f": {lines[0]}"


def _write_playground(app, exception):
    """A page of its own, beside the site's."""
    if exception is None:
        Path(app.outdir, "playground.html").write_text(playground(), encoding="utf-8")


def _write_report(app, exception):
    """The page of all committed runs, beside the site's."""
    if exception is None:
        root = Path(__file__).parents[1]
        runs = RunStore(root / "no such folder", [root / "results"]).all()
        read = [read_recipe(name) for name in recipe_names() if (root / "results" / f"{name}.jsonl").exists()]
        tables = [recipe for recipe in read if recipe.paper]  # the paper's; all else has a page of its own
        write_page(make_scorecard(tables, runs), Path(app.outdir, "report.html"))


def setup(app):
    """Connect what stands above, and call attributes by their name."""
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    app.connect("autodoc-process-docstring", _whole_sentences, priority=400)
    app.connect("build-finished", _write_playground)
    app.connect("build-finished", _write_report)
