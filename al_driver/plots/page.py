"""One HTML page with everything in it: pictures, tables and words, for a browser and for an e-mail.

What stands in it comes from files and file names of users, so that all of it is escaped.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import al_driver
from al_driver.templates import render_page


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes
    ----------
    paragraphs
        Of plain text.
    picture
        A PNG file, which becomes part of the page.
    head, rows
        Of a table.
    best
        Rows that are set off, counted from 0.
    """

    heading: str
    paragraphs: Sequence[str] = ()
    picture: Path | None = None
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    best: Sequence[int] = ()


@dataclass(frozen=True)
class Page:
    """A page: its title, and what follows."""

    title: str
    sections: Sequence[Section]

    def render(self) -> str:
        """Return the HTML."""
        sections = [
            {
                "heading": section.heading,
                "paragraphs": list(section.paragraphs),
                "picture": None
                if section.picture is None
                else base64.b64encode(section.picture.read_bytes()).decode("ascii"),
                "head": list(section.head),
                "rows": [list(row) for row in section.rows],
                "best": list(section.best),
            }
            for section in self.sections
        ]
        footer = f"al {al_driver.__version__}"
        return render_page("page.html.j2", {"title": self.title, "sections": sections, "footer": footer})
