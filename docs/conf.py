"""Sphinx configuration: `make docs`."""

import sys
from pathlib import Path

from planner import __version__

sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.document_reference import write_reference

write_reference(Path(__file__).parent / "reference" / "fields")

project = "planner"
author = "the planner authors"
copyright = f"2026, {author}"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "description"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

html_theme = "furo"
html_title = f"planner {release}"
