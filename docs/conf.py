from __future__ import annotations

import sys
from enum import Enum
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # for tables.py, and for tests.lab, whose disagreements it shows

project = "mailtlspolicy"
author = "The mailtlspolicy authors"
copyright = author
release = version = installed_version("mailtlspolicy")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "tables"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"mailtlspolicy {release}"
html_static_path = ["static"]
html_css_files = ["style.css"]
html_copy_source = False

default_role = "literal"
autodoc_member_order = "bysource"
napoleon_custom_sections = [("Attributes", "params_style")]  # the signature has their types
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90

nitpick_ignore_regex = [
    # The standard library is documented elsewhere, and nothing is fetched to build this.
    (
        r"py:.*",
        r"((collections\.abc|datetime|pathlib|socket|ssl)\.)?(Mapping|Sequence|Generator|date|datetime|Path|SSL\w+)",
    ),
    (r"py:.*", r"socket\.AddressFamily|os\.PathLike|(redis\.asyncio\.)?Redis"),
    (r"py:.*", r"(mailtlspolicy\.effects\.)?_?[RTU]|_Wanted|_Told"),  # type variables
    (r"py:class", r"Certificate|OpenStore|Action"),  # internal
    (r"py:class", r"Callable\[\[\]"),  # what is made of Callable[[], ...]
]


def adapt_docstring(_: Sphinx, what: str, __: str, documented: object, ___: object, lines: list[str]) -> None:
    """Name the values of an enumeration; what is indented in the docstring of a module is a grammar.

    A quoted asterisk is one. And keep Napoleon off properties and data, by an empty comment: it takes what stands
    before a colon for a type.
    """
    if what == "module":
        lines[:] = "\n".join(lines).replace("\n\n    ", "\n\n::\n\n    ", 1).split("\n")
    else:
        lines[:] = [line.replace('"*', '"\\*') for line in lines]
    if what in {"property", "data"}:
        lines[:0] = ["..", ""]
    if isinstance(documented, type) and issubclass(documented, Enum) and len(documented):
        lines += ["", f"Values: {', '.join(f'`{member.value}`' for member in documented)}."]


def adapt_signature(*args: object) -> tuple[object, object]:
    """What attrs shows as the default of an argument that has a factory."""
    signature, returns = args[-2:]
    return signature and str(signature).replace("= NOTHING", "= ..."), returns


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", adapt_signature)
    app.connect("autodoc-process-docstring", adapt_docstring, priority=400)
