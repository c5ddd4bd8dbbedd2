"""How the pages become a site: ``make docs``, or ``tox -e docs``.

Why Sphinx, with MyST and furo:

* The pages are markdown that also reads well on a code host: links between files, plain tables. MyST takes exactly
  these, and ``-n -W`` makes an error of every link, anchor and name that leads nowhere.
* The public Python API is read from its docstrings, so that it cannot be described a second time and wrongly.
* furo brings its styles along, uses the fonts of the reader's system, and works on a phone and in the dark: a page
  fetches nothing from anybody else. Material for MkDocs loads fonts from elsewhere unless told not to, and reaches its
  end of life in May 2027, as the notes of its release 9.8.1 say.

The source folder is the root of the repository and not ``docs/``, so that a link from a page to ``../bench/README.md``
is a link between two pages of the site, one to a file in ``../deploy/`` is a download, and both are checked.
"""

import pydoc
from pathlib import Path
from typing import Any

from sphinx.addnodes import pending_xref

import wsrelay

project = "wsrelay"
author = "the authors of wsrelay"
project_copyright = ""
release = version = wsrelay.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = [
    "docs/*.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "bench/README.md",
    "bench/results/*/results.md",
    "bench/results/results.md",
    "conformance/README.md",
    "deploy/**/README.md",
    "deploy/README.md",
    "examples/**/README.md",
    "examples/README.md",
    "fuzz/README.md",
    "soak/README.md",
    "tests/faults/README.md",
]
# Also what is not to be walked through.
exclude_patterns = ["**/.*", ".*", "**/node_modules", "**/*.egg-info", "build", "dist"]
# Smaller headings right under a page's title are fine.
suppress_warnings = ["myst.header"]
nitpicky = True
# Options begin with two dashes, also where they stand in plain text.
smartquotes = False

myst_heading_anchors = 4
myst_enable_extensions = ["tasklist"]

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
# Meaning is in the docstrings, types in the code (py.typed); in signatures they would hide the names.
autodoc_typehints = "none"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
# Sections that Google's convention does not have and ours has.
napoleon_custom_sections = [("Peer sees", "notes_style"), ("Complexity", "notes_style"), ("Source", "notes_style")]

html_theme = "furo"
html_title = "wsrelay"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
templates_path = ["_templates"]
# The first page is docs/index.html; the folder redirects to it.
html_additional_pages = {"index": "redirect.html"}
html_theme_options = {"navigation_with_keys": False, "footer_icons": []}


#: Where docstrings may name something from without saying so.
ELSEWHERE = ("", "builtins.", "twisted.internet.error.")


def is_known(name: str) -> bool:
    """Return whether there is something of this dotted name to import."""
    try:
        return pydoc.locate(name) is not None
    except pydoc.ErrorDuringImport:
        return False


def name_without_page(_app: Any, _env: Any, node: Any, contents: Any) -> Any:
    """Let a docstring name what has no page of its own, as plain text; a name that means nothing stays an error."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].removeprefix("~")
    module = node.get("py:module") or ""
    candidates = [prefix + target for prefix in (*ELSEWHERE, f"{module}.", f"{module}.{node.get('py:class')}.")]
    if node["reftype"] == "attr":  # set in __init__, not on the class
        candidates.append(target.rpartition(".")[0])
    return contents if any(map(is_known, candidates)) else None


def without_folders(app: Any, doctree: Any) -> None:
    """Make plain text of links to folders: only a code host has something to show there."""
    page = Path(app.env.doc2path(app.env.docname))
    for node in list(doctree.findall(pending_xref)):
        if node["reftype"] == "myst" and (page.parent / node["reftarget"]).is_dir():
            node.replace_self(node.children)


def setup(app: Any) -> None:
    """Hook in what is above."""
    app.connect("doctree-read", without_folders)
    app.connect("missing-reference", name_without_page)
