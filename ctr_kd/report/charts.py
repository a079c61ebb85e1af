"""Small charts as plain geometry, in pixels, which templates/macros/charts.html draws as SVG. Colours are CSS classes, so that one style
sheet serves light, dark and print."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ctr_kd.report.findings import MINUS, Figure

Point = tuple[float, float]
Domain = tuple[float, float]
STRIP = 180  # width of a drawn interval in pixels
LETTER = 7  # width of a letter in pixels, at the most
SPOKEN = 6  # points of a line that the text alternative names one by one


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes
    ----------
    title : str
        Shown when the pointer rests on the line.
    color : str
        CSS class.
    points : sequence of (x, y)
    marks : bool
        Whether each point has a dot.
    bounds : sequence of (low, high), optional
        Interval of y at each point.
    ring : float, optional
        x of the point that is circled.
    labels : sequence of str, optional
        Written beside each point.
    joined : bool
        Whether a line joins the points; without it they are seen by their dots.
    """

    title: str
    color: str
    points: Sequence[Point]
    marks: bool = False
    bounds: Sequence[Point] | None = None
    ring: float | None = None
    labels: Sequence[str] | None = None
    joined: bool = True

    @property
    def heights(self) -> list[float]:
        """Every y that is drawn, intervals included."""
        return [*(y for _, y in self.points), *(y for pair in self.bounds or () for y in pair)]


@dataclass(frozen=True)
class Axis:
    """Title and range of an axis, and how its ticks are written where it is not with equally many decimals."""

    title: str
    domain: Domain
    text: Callable[[float], str] | None = None

    def ticks(self, about: int) -> list[tuple[float, str]]:
        values = ticks(self.domain, about)
        return list(zip(values, map(self.text, values) if self.text else decimals(values), strict=True))

    def said(self, value: float) -> str:
        """One value of the axis inside a sentence."""
        return self.text(value) if self.text else f"{value:.4g}".replace("-", MINUS)


@dataclass(frozen=True)
class Tick:
    """A number beside an axis, and where on the axis it is."""

    at: float
    text: str


@dataclass(frozen=True)
class Label:
    """A word beside a point; `before` it where there is no room to the right."""

    x: float
    y: float
    text: str
    before: bool


@dataclass(frozen=True)
class Line:
    """One drawn line: its path, and the dots, intervals (x, y, y) and rings on it."""

    title: str
    color: str
    path: str
    dots: Sequence[Point]
    whiskers: Sequence[tuple[float, float, float]]
    rings: Sequence[Point]
    labels: Sequence[Label]


@dataclass(frozen=True)
class LineChart:
    """Lines over two axes; `label` says in words what is drawn."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    label: str
    x_title: str
    y_title: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    lines: Sequence[Line]
    reference: tuple[Point, Point] | None = None

    @property
    def middle(self) -> Point:
        """Centres of the two axes."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


@dataclass(frozen=True)
class Mark:
    """A dot with its interval, a bar, a ring from where it moved, and the side of the scale `beyond` which it lies."""

    title: str
    color: str
    y: float
    x: float | None = None
    span: tuple[float, float] | None = None
    bar: tuple[float, float] | None = None
    ring: float | None = None
    beyond: Literal[-1, 0, 1] = 0


@dataclass(frozen=True)
class Strip:
    """Dots with their intervals on one horizontal scale, one below the other, and a line of reference; `label` says them in words."""

    width: int
    height: int
    label: str
    grid: Sequence[float]
    marks: Sequence[Mark]
    reference: float | None = None


@dataclass(frozen=True)
class Scale:
    """The numbers above a column of strips."""

    width: int
    label: str
    ticks: Sequence[Tick]


def line_chart(
    series: Sequence[Series], x: Axis, y: Axis, *, label: str, width: int = 480, height: int = 340, diagonal: bool = False
) -> LineChart:
    """Lay out lines over two axes; `diagonal` adds y = x as the line of reference."""
    left, right, top, bottom = 54, width - 14, 12, height - 42
    to_x, to_y = _scale(x.domain, left, right), _scale(y.domain, bottom, top)
    reference = None
    if diagonal:
        low, high = max(x.domain[0], y.domain[0]), min(x.domain[1], y.domain[1])
        reference = (to_x(low), to_y(low)), (to_x(high), to_y(high))
    return LineChart(
        width,
        height,
        left,
        right,
        top,
        bottom,
        " ".join([f"{label}.", *(_said(line, x, y) for line in series if line.points)]),
        x.title,
        y.title,
        [Tick(to_x(value), text) for value, text in x.ticks(5)],
        [Tick(to_y(value), text) for value, text in y.ticks(5)],
        [_line(line, to_x, to_y, width) for line in series],
        reference,
    )


def _line(line: Series, to_x: Callable[[float], float], to_y: Callable[[float], float], width: int) -> Line:
    drawn = [(to_x(a), to_y(b)) for a, b in line.points]
    bounds = zip(drawn, line.bounds or (), strict=False)
    return Line(
        line.title,
        line.color,
        " ".join(f"{a:.1f},{b:.1f}" for a, b in drawn) if line.joined else "",
        drawn if line.marks else [],
        [(a, to_y(low), to_y(high)) for (a, _), (low, high) in bounds],
        [place for place, (a, _) in zip(drawn, line.points, strict=True) if line.ring is not None and a == line.ring],
        [Label(a, b, text, a + 8 + LETTER * len(text) > width) for (a, b), text in zip(drawn, line.labels or (), strict=False) if text],
    )


def _said(line: Series, x: Axis, y: Axis) -> str:
    """``Student: 0.71 at 100, 0.72 at 200.``; of many points the ends and the extremes, of a level line its height."""
    heights = [height for _, height in line.points]
    if not line.marks and len(heights) > 1 and min(heights) == max(heights):
        return f"{line.title}: {y.said(heights[0])} throughout."
    written = [f"{y.said(b)} at {x.said(a)}" for a, b in line.points]
    if len(written) > SPOKEN:
        between = f"between {y.said(min(heights))} and {y.said(max(heights))}"
        return f"{line.title}: {len(written)} points from {written[0]} to {written[-1]}, {between}."
    return f"{line.title}: {', '.join(written)}."


def strip(
    figures: Sequence[tuple[str, str, Figure]],
    domain: Domain,
    *,
    label: str,
    reference: float | None = None,
    bars: bool = False,
    width: int = STRIP,
) -> Strip:
    """Dots with their intervals on one horizontal scale, each (title, color, figure) on its own height, about a line of reference.

    With `bars` each has a bar from that line. A value beyond the scale is an arrow at its edge, so that one bad model does not squeeze the
    others together.
    """
    gap = 9
    height = max(22, gap * len(figures) + 10)
    to_x = _scale(domain, *_ends(width))
    marks, said = [], []
    for position, (title, color, figure) in enumerate(figures):
        if figure.value is None:
            continue
        y = height / 2 + gap * (position - (len(figures) - 1) / 2)
        beyond: Literal[-1, 0, 1] = -1 if figure.value < domain[0] else 1 if figure.value > domain[1] else 0
        span = (to_x(figure.low), to_x(figure.high)) if figure.low is not None and figure.high is not None and not beyond else None
        said.append(f"{figure.text()} {figure.interval()}".strip() if len(figures) == 1 else f"{title} {figure.text()}")
        x = to_x(figure.value)
        bar = (to_x(reference), x) if bars and reference is not None else None
        marks.append(Mark(f"{title}: {figure.text()} {figure.interval()}".strip(), color, y, x, span, bar, beyond=beyond))
    label = f"{label}: {', '.join(said) or 'not known'}"
    grid = [to_x(value) for value in ticks(domain, 4)] if marks else []
    return Strip(width, height, label, grid, marks, None if reference is None or not marks else to_x(reference))


def move(before: Figure, after: Figure, domain: Domain, color: str, *, label: str, width: int = STRIP) -> Strip:
    """From a ring to a dot on one horizontal scale: how far a figure has moved."""
    height = 22
    to_x = _scale(domain, *_ends(width))
    ring, dot = (None if figure.value is None else to_x(figure.value) for figure in (before, after))
    span = (ring, dot) if ring is not None and dot is not None else None
    label = f"{label}: {before.text()} to {after.text()}"
    mark = Mark(label, color, height / 2, dot, span, ring=ring)
    return Strip(width, height, label, [to_x(value) for value in ticks(domain, 4)], [mark])


def scale(domain: Domain, *, reference: float = 0.0, sign: bool = False, width: int = STRIP) -> Scale:
    """The numbers above a column of strips; differences carry a sign."""
    to_x = _scale(domain, *_ends(width))
    values = ticks(domain, 4)
    texts = decimals(values, sign=sign)
    # Where the numbers are too long to be side by side, every second or third is written, the reference always.
    room = abs(to_x(values[1]) - to_x(values[0])) if len(values) > 1 else width
    stride = math.ceil((LETTER * max(map(len, texts), default=0) + 8) / room)
    first = values.index(reference) % stride if reference in values else 0
    places = []
    for value, text in list(zip(values, texts, strict=True))[first::stride]:
        half = LETTER * len(text) / 2
        places.append(Tick(min(max(to_x(value), half), width - half), text))
    label = f"Scale from {texts[0]} to {texts[-1]}" if texts else "Scale"
    return Scale(width, label, places)


def _ends(width: int) -> tuple[float, float]:
    """Where a strip's scale begins and ends: neither the dots at its edges nor the numbers above them are cut."""
    return 20, width - 20


def spread(figures: Sequence[Figure], *, zero: bool = False) -> Domain:
    """A scale that holds all values and intervals with some air; (0, 1) where there is nothing to show."""
    values = [v for f in figures for v in (f.value, f.low, f.high) if v is not None] + ([0.0] if zero and figures else [])
    return padded(values)


def padded(values: Sequence[float], share: float = 0.06) -> Domain:
    """Smallest and largest value, widened by a share of their distance."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    air = (high - low) * share or abs(high) * share or 0.01
    return low - air, high + air


def ticks(domain: Domain, about: int) -> list[float]:
    """About so many round numbers inside the domain.

    >>> ticks((0.0, 1.0), 5)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> ticks((0.697, 0.742), 4)
    [0.7, 0.71, 0.72, 0.73, 0.74]
    """
    low, high = domain
    rough = (high - low) / about
    if not rough > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((power * factor for factor in (1, 2, 2.5, 5, 10)), key=lambda step: abs(math.log(step / rough)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(position * step, 12) for position in range(first, last + 1)]


def decimals(values: Sequence[float], *, sign: bool = False) -> list[str]:
    """Numbers with equally many decimals, as few as they need; zero is short.

    >>> decimals([0.0, 0.125, 0.5]), decimals([-0.01, 0.0, 0.01], sign=True)
    (['0', '0.125', '0.500'], ['−0.01', '0', '+0.01'])
    """
    digits = max((len(f"{value:.12g}".partition(".")[2]) for value in values if abs(value) >= 1e-4), default=0)
    return [f"{value:{'+' if sign else ''},.{digits}f}".replace("-", MINUS) if value else "0" for value in values]


def _scale(domain: Domain, start: float, end: float) -> Callable[[float], float]:
    """From values to pixels, to a hundredth, which is as much as anybody sees."""
    low, high = domain
    width = (high - low) or 1.0
    # Values beyond the domain are drawn at its edge rather than over the text beside it.
    return lambda value: round(start + (end - start) * min(max((value - low) / width, 0.0), 1.0), 2)
