"""The one Jinja2 environment: every value is escaped when it enters a page, and a name that no view holds is an error."""

from __future__ import annotations

import re

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def printable(value: object) -> object:
    """Without control characters and lone surrogates, which no HTML file may hold.

    >>> printable("a\\x00b"), printable(3)
    ('a\N{REPLACEMENT CHARACTER}b', 3)
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", value)


ENVIRONMENT = Environment(
    loader=PackageLoader("ctr_kd.report"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=printable,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)


def page(template: str, **views: object) -> str:
    """The HTML of a page: one self-contained file without scripts, which asks for nothing from anywhere.

    Parameters
    ----------
    template : str
        Name of a file in ``templates``.
    **views : object
        What each section of the template shows, None where it is left out.

    Raises
    ------
    jinja2.UndefinedError
        When the template reads a view that is not given.
    """
    return ENVIRONMENT.get_template(template).render(views)
