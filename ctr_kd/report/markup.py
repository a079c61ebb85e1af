"""HTML and SVG that cannot be broken by data: whatever is not `Markup` is escaped when it enters an element."""

from __future__ import annotations

import html
import re

VOID = frozenset({"meta", "br", "hr", "link"})


class Markup(str):
    """Text that is already HTML. Only `element`, `join` and the style sheet make it; data never does."""

    __slots__ = ()


def escaped(value: object) -> Markup:
    """The value as HTML text.

    >>> escaped("<b> & 'c'")
    '&lt;b&gt; &amp; &#x27;c&#x27;'
    """
    return value if isinstance(value, Markup) else Markup(html.escape(_printable(str(value)), quote=True))


def _printable(text: str) -> str:
    """Without control characters and lone surrogates, which no HTML file may hold."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)


def element(tag: str, /, *children: object, **attributes: object) -> Markup:
    """One element; None children and None attributes are left out.

    A trailing underscore is dropped from an attribute's name and the others become hyphens: ``class_``, ``stroke_width``; names of SVG that
    have capitals (``viewBox``) are kept.

    Examples
    --------
    >>> element("p", "1 < 2", element("b", "!"), class_="note")
    '<p class="note">1 &lt; 2<b>!</b></p>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(_short(value))}"' for key, value in attributes.items() if value is not None
    )
    if tag in VOID:
        return Markup(f"<{tag}{written}>")
    return Markup(f"<{tag}{written}>{join(*children)}</{tag}>")


def join(*children: object) -> Markup:
    """Children one after another, escaped; lists are flattened, None is left out."""
    parts = []
    for child in children:
        if isinstance(child, list | tuple):
            parts.append(join(*child))
        elif child is not None:
            parts.append(escaped(child))
    return Markup("".join(parts))


def _short(value: object) -> object:
    """Coordinates to a hundredth of a pixel, which is as much as anybody sees."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
