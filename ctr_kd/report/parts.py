"""What the sections are built of: headed sections, tables, cells, legends, and the colour of each model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ctr_kd.report.findings import Figure, model_title
from ctr_kd.report.markup import Markup, element

COLORS = frozenset({"student", "student_alone", "teacher", "boosted_trees", "linear", "popularity", "oracle"})


def color(name: str) -> str:
    """CSS class of a model; a name from data never becomes a class."""
    base = name.split("/")[0]
    return base if base in COLORS else "other"


def section(title: str, note: str | None, *children: object) -> Markup:
    return element("section", element("h2", title), element("p", note, class_="note") if note else None, *children)


def table(columns: Sequence[Markup], body: Sequence[Markup], kind: str | None = None) -> Markup:
    """A table that scrolls by itself where the window is narrow."""
    written = element("table", element("thead", element("tr", list(columns))), element("tbody", list(body)), class_=kind)
    return element("div", written, class_="wide")


def head(content: object, *, number: bool = False) -> Markup:
    return element("th", content, class_="number" if number else None)


def cell(*content: object, number: bool = False, words: bool = False) -> Markup:
    return element("td", *content, class_="number" if number else "words" if words else None)


def written_cell(value: str, beneath: str | None = None, reason: str | None = None) -> Markup:
    """A number with a smaller line beneath it; the reason shows when the pointer rests on it."""
    return element("td", value, element("div", beneath, class_="interval") if beneath else None, class_="number", title=reason)


def figure_cell(figure: Figure | None) -> Markup:
    return cell("–", number=True) if figure is None else written_cell(figure.text(), figure.interval(), figure.reason)


def difference_cell(figure: Figure | None) -> Markup:
    if figure is None:
        return cell("–", number=True)
    value, _, interval = figure.signed().partition(" ")
    return written_cell(value, interval, figure.reason)


def swatch(name: str) -> Markup:
    return element("span", class_=f"swatch {color(name)}")


def legend(names: Iterable[str]) -> Markup:
    return element("div", [element("span", swatch(name), model_title(name)) for name in names], class_="legend")
