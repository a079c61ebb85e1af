"""Small charts as inline SVG. Colours are CSS classes, so that one style sheet serves light, dark and print."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ctr_kd.report.findings import MINUS, Figure
from ctr_kd.report.markup import Markup, element

Point = tuple[float, float]
Domain = tuple[float, float]
WHISKERS = 180  # width of a drawn interval in pixels


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
    """

    title: str
    color: str
    points: Sequence[Point]
    marks: bool = False
    bounds: Sequence[Point] | None = None
    ring: float | None = None
    labels: Sequence[str] | None = None

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


def line_chart(
    series: Sequence[Series], x: Axis, y: Axis, *, label: str, width: int = 380, height: int = 300, diagonal: bool = False
) -> Markup:
    """Lines over two axes; `diagonal` draws y = x as the line of reference."""
    left, right, top, bottom = 52, 12, 12, 40
    to_x = _scale(x.domain, left, width - right)
    to_y = _scale(y.domain, height - bottom, top)
    parts: list[object] = []
    for value, text in y.ticks(5):
        parts.append(element("line", class_="grid", x1=left, x2=width - right, y1=to_y(value), y2=to_y(value)))
        parts.append(element("text", text, class_="tick", x=left - 6, y=to_y(value) + 3.5, text_anchor="end"))
    for value, text in x.ticks(5):
        parts.append(element("line", class_="grid", x1=to_x(value), x2=to_x(value), y1=top, y2=height - bottom))
        parts.append(element("text", text, class_="tick", x=to_x(value), y=height - bottom + 15, text_anchor="middle"))
    parts.append(element("text", x.title, class_="axis", x=(left + width - right) / 2, y=height - 5, text_anchor="middle"))
    middle = (top + height - bottom) / 2
    parts.append(element("text", y.title, class_="axis", x=12, y=middle, text_anchor="middle", transform=f"rotate(-90 12 {middle:g})"))
    if diagonal:
        low, high = max(x.domain[0], y.domain[0]), min(x.domain[1], y.domain[1])
        parts.append(element("line", class_="reference", x1=to_x(low), y1=to_y(low), x2=to_x(high), y2=to_y(high)))
    for line in series:
        drawn = [(to_x(a), to_y(b)) for a, b in line.points]
        inner: list[object] = [element("title", line.title)]
        for (a, _), (low, high) in zip(line.points, line.bounds or (), strict=False):
            inner.append(element("line", class_="whisker", x1=to_x(a), x2=to_x(a), y1=to_y(low), y2=to_y(high)))
        inner.append(element("polyline", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in drawn)))
        if line.marks:
            inner += [element("circle", cx=a, cy=b, r=2.6) for a, b in drawn]
        if line.ring is not None:
            inner += [element("circle", class_="ring", cx=to_x(a), cy=to_y(b), r=5.5) for a, b in line.points if a == line.ring]
        inner += [element("text", text, class_="tick", x=a + 6, y=b - 5) for (a, b), text in zip(drawn, line.labels or (), strict=False)]
        parts.append(element("g", *inner, class_=f"line {line.color}"))
    return _svg(width, height, label, "chart", parts)


def whiskers(
    figures: Sequence[tuple[str, str, Figure]], domain: Domain, *, label: str, zero: bool = False, width: int = WHISKERS
) -> Markup:
    """Dots with their intervals on one horizontal scale, each (title, color, figure) on its own height.

    A value beyond the scale is an arrow at its edge, so that one bad model does not squeeze the others together.
    """
    gap, edge = 9, 8
    height = max(22, gap * len(figures) + 10)
    to_x = _scale(domain, edge, width - edge)
    parts: list[object] = [element("line", class_="grid", x1=to_x(v), x2=to_x(v), y1=0, y2=height) for v in ticks(domain, 4)]
    if zero:
        parts.append(element("line", class_="zero", x1=to_x(0), x2=to_x(0), y1=0, y2=height))
    for position, (title, color, figure) in enumerate(figures):
        if figure.value is None:
            continue
        y = height / 2 + gap * (position - (len(figures) - 1) / 2)
        inner: list[object] = [element("title", f"{title}: {figure.text()} {figure.interval()}".strip())]
        if figure.low is not None and figure.high is not None and domain[0] <= figure.value <= domain[1]:
            inner.append(element("line", class_="whisker", x1=to_x(figure.low), x2=to_x(figure.high), y1=y, y2=y))
        inner.append(_dot_or_arrow(figure.value, domain, to_x(figure.value), y))
        parts.append(element("g", *inner, class_=f"dot {color}"))
    return _svg(width, height, label, "whiskers", parts)


def move(before: Figure, after: Figure, domain: Domain, color: str, *, label: str, width: int = WHISKERS) -> Markup:
    """From a ring to a dot on one horizontal scale: how far a figure has moved."""
    height, edge = 22, 8
    to_x = _scale(domain, edge, width - edge)
    parts: list[object] = [element("line", class_="grid", x1=to_x(v), x2=to_x(v), y1=0, y2=height) for v in ticks(domain, 4)]
    inner: list[object] = [element("title", f"{label}: {before.text()} to {after.text()}")]
    if before.value is not None and after.value is not None:
        inner.append(element("line", class_="whisker", x1=to_x(before.value), x2=to_x(after.value), y1=height / 2, y2=height / 2))
    if before.value is not None:
        inner.append(element("circle", class_="ring", cx=to_x(before.value), cy=height / 2, r=5.5))
    if after.value is not None:
        inner.append(element("circle", cx=to_x(after.value), cy=height / 2, r=3.2))
    return _svg(width, height, label, "whiskers", [*parts, element("g", *inner, class_=f"line {color}")])


def _dot_or_arrow(value: float, domain: Domain, x: float, y: float) -> Markup:
    if domain[0] <= value <= domain[1]:
        return element("circle", cx=x, cy=y, r=3.8)
    side = 4.5 if value > domain[1] else -4.5
    return element("polygon", points=f"{x + side:.1f},{y:.1f} {x - side / 2:.1f},{y - 4:.1f} {x - side / 2:.1f},{y + 4:.1f}")


def whisker_axis(domain: Domain, *, sign: bool = False, width: int = WHISKERS) -> Markup:
    """The scale that stands above a column of `whiskers`; differences carry a sign."""
    to_x = _scale(domain, 8, width - 8)
    values = ticks(domain, 4)
    texts = decimals(values, sign=sign)
    # Where the numbers are too long to stand side by side, every second or third is written, zero always.
    room = abs(to_x(values[1]) - to_x(values[0])) if len(values) > 1 else width
    stride = math.ceil((6.2 * max(map(len, texts), default=0) + 8) / room)
    first = values.index(0) % stride if 0 in values else 0
    parts = []
    for value, text in list(zip(values, texts, strict=True))[first::stride]:
        parts.append(element("text", text, class_="tick", x=to_x(value), y=12, text_anchor="middle"))
    return _svg(width, 16, "scale", "whiskers", parts)


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
    low, high = domain
    width = (high - low) or 1.0
    # Values beyond the domain are drawn at its edge rather than over the text beside it.
    return lambda value: start + (end - start) * min(max((value - low) / width, 0.0), 1.0)


def _svg(width: int, height: float, label: str, kind: str, parts: Sequence[object]) -> Markup:
    return element(
        "svg", *parts, viewBox=f"0 0 {width} {height:g}", width=width, height=f"{height:g}", class_=kind, role="img", aria_label=label
    )
