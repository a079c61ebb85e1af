"""Seals: a JSON file says itself whether a byte of it was changed since it was written.

Manifests hold the digests of all other files, and numbers that are believed (rows, newest times); nothing else would vouch for them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from feature_store.tables.json_files import digest_of

SEAL = "seal"


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with a digest of itself.

    Raises
    ------
    ValueError
        When it has a key ``seal`` of its own.

    Examples
    --------
    >>> sealed({"rows": 3})["seal"][:8], unsealed(sealed({"rows": 3}))
    ('2bafd462', {'rows': 3})
    """
    if SEAL in content:
        raise ValueError(f"{SEAL!r} is the key of the seal itself")
    content = json.loads(json.dumps(content))  # as it will be read: keys that are numbers become texts
    return {**content, SEAL: digest_of(content)}


def unsealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content without its seal.

    Raises
    ------
    ValueError
        When the seal is missing, or is not that of the content.
    """
    bare = {key: value for key, value in content.items() if key != SEAL}
    if SEAL not in content:
        raise ValueError("it has no seal, as what an earlier release wrote")
    if content[SEAL] != digest_of(bare):
        raise ValueError("its seal is not that of its content")
    return bare
