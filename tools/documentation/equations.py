# SPDX-License-Identifier: Apache-2.0
"""Hook of MkDocs: equations in LaTeX become SVG, which looks the same everywhere, without a script or a font."""

from __future__ import annotations

import html
import re
from xml.etree.ElementTree import tostring

import ziafont
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from ziamath import Latex

EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
SIZE = 16  # of the letters in the SVG; on the page they are as large as the text around them
ziafont.config.svg2 = False  # glyphs as paths: symbols of several equations would share their ids


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replaces what pymdownx.arithmatex marks: inline equations in <span>, displayed ones in <div>."""
    return EQUATION.sub(drawn, content)


def drawn(equation: re.Match[str]) -> str:
    """The element with the equation as SVG, and its LaTeX as the text for screen readers."""
    element, latex = equation[1], html.unescape(equation[2]).strip()
    drawing = Latex(latex, size=SIZE, inline=element == "span", color="currentColor")
    svg = drawing.svgxml()
    svg.set("style", f"vertical-align: {drawing.getyofst() / SIZE:.3f}em")
    for side, length in zip(("width", "height"), drawing.getsize(), strict=True):
        svg.set(side, f"{length / SIZE:.3f}em")
    attributes = f'class="equation" role="img" aria-label="{html.escape(latex)}"'
    return f"<{element} {attributes}>{tostring(svg, encoding='unicode')}</{element}>"
