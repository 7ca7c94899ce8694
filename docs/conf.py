"""The documentation site: Sphinx with MyST and furo; CONTRIBUTING.md has the command that builds it.

Everything that can be wrong fails the build: a dead link, a missing page, an unknown recipe key or option, and any
output that would load something from another machine.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "ltgc-local"
author = "the ltgc-local authors"
extensions = ["myst_parser", "sphinx_click", "reference"]
html_theme = "furo"
html_title = "ltgc-local"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1d5f8a", "color-brand-content": "#1d5f8a"},
    "dark_css_variables": {"color-brand-primary": "#7db8de", "color-brand-content": "#7db8de"},
}
myst_enable_extensions = ["attrs_block", "colon_fence"]
myst_heading_anchors = 3
smartquotes = False
toc_object_entries = False
