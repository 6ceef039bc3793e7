"""Figures as SVG for a page: several can stand in one document, and they take the page's ink."""

import html
import io
import re
import warnings
from typing import TYPE_CHECKING

from reftune.report.figures import GROUND, INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def inline_svg(figure: "Figure", name: str, description: str) -> str:
    """Return a figure as an `<svg>` element.

    What is not data has the colour of the text around it, and what is hollow that of the page's
    `--ground`, so it can be read on light and on dark. Letters stay letters, and nothing is
    fetched.

    Args:
        name: of the picture, different from all others in the document: ids begin with it.
        description: what is read out in place of the picture.
    """
    from matplotlib import rc_context

    file = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        # The browser has letters that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # A style in an inline picture holds for the whole document; the page has this one itself.
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    text = text.replace(INK, "currentColor").replace(GROUND, "var(--ground, white)")
    text = re.sub(r"font-family: [^;\"]*;", "", text)  # the page's own
    text = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), text)
    return re.sub(r"<svg[^>]*>", lambda match: _opening(match[0], description), text, count=1)


def _opening(tag: str, description: str) -> str:
    """Return the tag that begins a picture: with its shape and words, without a size."""
    box = re.search(r'viewBox="[^"]*"', tag)
    told = html.escape(description, quote=True)
    return f'<svg {box[0] if box else ""} role="img" aria-label="{told}">'
