"""Sphinx configuration: `make docs`."""

import os
import shutil
import sys
from pathlib import Path

from planner import __version__

sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.document_reference import write_reference

HERE = Path(__file__).parent
write_reference(HERE / "reference" / "fields")

# Pages lie below this folder, notebooks beside it.
shutil.rmtree(HERE / "notebooks", ignore_errors=True)
shutil.copytree(HERE.parent / "notebooks", HERE / "notebooks", ignore=shutil.ignore_patterns(".*", "out"))

project = "planner"
author = "the planner authors"
copyright = f"2026, {author}"
release = version = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

# Running all notebooks takes many minutes: PLANNER_NOTEBOOKS=cache runs those that changed, figures included.
nb_execution_mode = os.environ.get("PLANNER_NOTEBOOKS", "off")
nb_execution_timeout = 600
nb_execution_raise_on_error = True

autodoc_typehints = "description"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

html_theme = "furo"
html_title = f"planner {release}"
