"""What a built page would fetch from elsewhere: the documentation is read without a network."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser

FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}


def fetched(html: str) -> Iterator[str]:
    """Addresses of other servers from which a page takes a part of itself.

    Examples
    --------
    >>> list(fetched('<a href="https://a.org">a</a><script src="//b.org/x.js"></script><pre class="mermaid"></pre>'))
    ['//b.org/x.js', 'mermaid']
    """
    parser = _Parts()
    parser.feed(html)
    yield from parser.found


class _Parts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        url = given.get(FETCHED.get(tag, "")) or ""
        if url.startswith(("http:", "https:", "//")):
            self.found.append(url)
        if "mermaid" in (given.get("class") or "").split():  # the theme would fetch the program that draws it
            self.found.append("mermaid")
