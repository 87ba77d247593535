"""Sections as one HTML page that needs nothing else, with the figures inside."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.report.sections import Section
from scaling.runs.files import write_atomic

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup
    from matplotlib.figure import Figure

GREEK = {"alpha": "α", "beta": "β"}


@dataclass(frozen=True)
class PageFigure:
    """A figure on a page: its file's name without ending, what it shows, the heading it stands under, its SVG."""

    name: str
    caption: str
    group: str
    svg: bytes

    @property
    def data(self) -> str:
        """The picture as part of an address."""
        return base64.b64encode(self.svg).decode()


def write_picture(
    figure: "Figure", folder: Path, name: str, caption: str, group: str
) -> tuple[tuple[Path, Path], PageFigure]:
    """Write a figure as PNG and SVG; the files, and what the page needs of it."""
    from analysis.plots import save_bytes

    png, svg = (save_bytes(figure, ending, name) for ending in ("png", "svg"))
    files = folder / f"{name}.png", folder / f"{name}.svg"
    write_atomic(files[0], png)
    write_atomic(files[1], svg)
    return files, PageFigure(name, caption, group, svg)


def write_page(
    folder: Path,
    heading: str,
    sections: Sequence[Section],
    pictures: Sequence[PageFigure],
    *,
    lacking: Sequence[tuple[str, str]] = (),
    up: str = "",
) -> None:
    """Write index.html: the sections that have anything under them, each with the pictures of its group.

    Args:
        lacking: figures that cannot be drawn, with the reason.
        up: what the page above this one, ../index.html, is called; none if empty.
    """
    shown = []
    for section in sections:
        own = [picture for picture in pictures if section.figures and picture.group == section.figures]
        if own or not section.is_empty:
            shown.append((section, own))
    page = _template().render(heading=heading, shown=shown, pictures=pictures, lacking=lacking, up=up)
    write_atomic(folder / "index.html", page)


def formula_markup(text: str) -> "Markup":
    """Greek letters and raised exponents for the names used in plain text."""
    from markupsafe import Markup, escape

    marked = re.sub(r"\^(-?[\w.]*\w)", r"<sup>\1</sup>", str(escape(text)))
    return Markup(re.sub(rf"\b({'|'.join(GREEK)})\b", lambda name: GREEK[name[0]], marked))


@cache
def _template() -> "jinja2.Template":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["formula"] = formula_markup
    return environment.get_template("page.html.j2")
