"""What sections are built of: tables and their cells, legends, captioned charts, the head of a page, and the colour of each model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ctr_kd.report.charts import LineChart, Scale, Strip
from ctr_kd.report.findings import Figure, ResultRow, model_title

COLORS = frozenset({"student", "student_alone", "teacher", "boosted_trees", "linear", "popularity", "oracle"})


def color(name: str) -> str:
    """CSS class of a model; a name from data never becomes a class."""
    base = name.split("/")[0]
    return base if base in COLORS else "other"


@dataclass(frozen=True)
class Column:
    """The head of a column: its title, or the scale of the charts below it."""

    title: str = ""
    number: bool = False
    scale: Scale | None = None


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes
    ----------
    text : str
    beneath : str, optional
        A smaller line under the text, such as its interval.
    reason : str, optional
        Why there is no value; shows when the pointer rests on the cell.
    number : bool
        Whether the text is aligned as numbers are.
    words : bool
        Whether the text may take several lines.
    swatch : str, optional
        CSS class of the dot before the text.
    chart : Strip, optional
        Drawn in place of the text.
    kind : str, optional
        CSS class of the cell.
    share : float, optional
        How strongly the cell is shaded, from 0 to 1.
    """

    text: str = ""
    beneath: str | None = None
    reason: str | None = None
    number: bool = False
    words: bool = False
    swatch: str | None = None
    chart: Strip | None = None
    kind: Literal["passed", "failed", "right", "wrong"] | None = None
    share: float | None = None

    @property
    def classes(self) -> str:
        """CSS classes, empty where there are none."""
        named = ("number" if self.number else "", "words" if self.words else "", self.kind or "")
        return " ".join(name for name in named if name)


@dataclass(frozen=True)
class Row:
    """One line of a table; the first cell names it."""

    cells: Sequence[Cell]
    kind: Literal["student"] | None = None


@dataclass(frozen=True)
class Table:
    """A table; `kind` is the CSS class of one that is not laid out like the others."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    kind: Literal["parts", "confusion"] | None = None


@dataclass(frozen=True)
class Swatch:
    """One entry of a legend."""

    title: str
    color: str
    dotted: bool = False


@dataclass(frozen=True)
class Panel:
    """A chart with its caption; the note follows the title in lighter type."""

    title: str
    chart: LineChart
    note: str | None = None


@dataclass(frozen=True)
class Headline:
    """A sentence whose interval is kept on one line."""

    before: str
    interval: str | None = None
    after: str = ""

    @classmethod
    def of(cls, text: str) -> Headline:
        """Find the interval of a sentence.

        >>> Headline.of("It gave +0.01 [+0.00, +0.02] more.")
        Headline(before='It gave +0.01 ', interval='[+0.00, +0.02]', after=' more.')
        """
        before, opening, rest = text.partition("[")
        inside, closing, after = rest.partition("]")
        return cls(before, f"[{inside}]", after) if opening and closing else cls(text)


@dataclass(frozen=True)
class Tile:
    """A figure that a reader should see at once."""

    name: str
    value: str
    more: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Header:
    """The head of a page: what it is about, the verdict and its remarks, and the main figures."""

    about: Sequence[str]
    effect: Literal["gain", "loss", "even", "unknown"]
    headline: Headline
    remarks: Sequence[str] = ()
    tiles: Sequence[Tile] = field(default_factory=tuple)


def numbers(titles: Iterable[str]) -> list[Column]:
    """Heads of columns of numbers."""
    return [Column(title, number=True) for title in titles]


def figure_cell(figure: Figure | None) -> Cell:
    """A figure over its interval; the reason of one that is undefined."""
    return Cell("–", number=True) if figure is None else Cell(figure.text(), figure.interval() or None, figure.reason, number=True)


def difference_cell(figure: Figure | None) -> Cell:
    """A figure with its sign over its interval."""
    if figure is None:
        return Cell("–", number=True)
    value, _, interval = figure.signed().partition(" ")
    return Cell(value, interval or None, figure.reason, number=True)


def model_cell(row: ResultRow) -> Cell:
    """A model's dot and title."""
    return Cell(row.title, swatch=color(row.name))


def legend(names: Iterable[str]) -> list[Swatch]:
    """The models of a chart."""
    return [Swatch(model_title(name), color(name)) for name in names]
