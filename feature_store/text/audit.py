"""The leak audit: texts that occur twice, within a split and between the splits, and those with two labels.

A test row whose text was trained on tells nothing about tomorrow, so scores are also given without such rows. Two texts are
the same exactly, or normalised: NFKC, without case, without what is neither letter nor digit; a pair is the same both ways round.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

_NO_WORD = re.compile(r"[\W_]+")
_TRAINING_FILE = "train+validation"  # what model selection has seen
# (earlier, later): a row of the later split leaks when its text is in the earlier one.
_BETWEEN = (
    ("train", "validation"),
    ("train", "test"),
    ("validation", "test"),
    (_TRAINING_FILE, "test"),
    ("unlabelled", "validation"),
    ("unlabelled", "test"),
)


def normalise(text: str) -> str:
    """The text by which two titles count as the same.

    Examples
    --------
    >>> normalise("Ｗhy  NOT？"), normalise("why not!"), normalise("?!")
    ('whynot', 'whynot', '?!')
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _NO_WORD.sub("", folded) or folded.strip()


def text_keys(rows: pa.Table) -> list[str]:
    """One normalised text for each row; that of a pair does not depend on the order of its texts."""
    first = [normalise(text) for text in rows["text"].to_pylist()]
    second = [None if text is None else normalise(text) for text in rows["text_b"].to_pylist()]
    return [a if b is None else "\n".join(sorted((a, b))) for a, b in zip(first, second, strict=True)]


def audit_texts(rows: pa.Table) -> tuple[dict[str, Any], np.ndarray]:
    """Count duplicates and mark the rows that leak.

    Parameters
    ----------
    rows : pa.Table
        ``text``, ``text_b``, ``label`` (null where there is none) and ``split``.

    Returns
    -------
    report : dict
        ``rows`` by split; then, once ``exact`` and once ``normalised``, ``within`` each split ``duplicates`` (rows beyond the first of
        their text), ``identical`` (rows beyond the first of their text and label), ``conflicting_texts`` and ``conflicting_rows`` (of
        more than one label), and ``between`` two splits ``rows`` of the later one whose text is in the earlier one, their distinct
        ``texts``, and ``conflicting`` (of these rows, those whose label that text never has in the earlier one).
        ``train+validation`` is what model selection sees: the training file, where validation is a share of it.
    leaked : bool array (rows,)
        Validation rows whose normalised text is in train, test rows whose text is in train or validation, and unlabelled rows
        whose text is in validation or test.
    """
    split = np.array(rows["split"].to_pylist(), dtype=object)
    label = rows["label"].to_pylist()
    places = {name: np.flatnonzero(split == name).tolist() for name in dict.fromkeys(split.tolist())}
    groups = {**places, _TRAINING_FILE: sorted([*places.get("train", []), *places.get("validation", [])])}
    exact = list(zip(rows["text"].to_pylist(), rows["text_b"].to_pylist(), strict=True))
    normalised = text_keys(rows)
    report: dict[str, Any] = {"rows": {name: len(found) for name, found in groups.items()}}
    for kind, keys in (("exact", exact), ("normalised", normalised)):
        labels = {name: _labels_by_text(keys, label, found) for name, found in groups.items()}
        report[kind] = {
            "within": {name: _within(labels[name]) for name in groups},
            "between": {
                f"{earlier} - {later}": _between(labels[earlier], keys, label, groups[later])
                for earlier, later in _BETWEEN
                if earlier in groups and later in groups
            },
        }
    seen = {name: {normalised[place] for place in found} for name, found in groups.items()}
    held_out = seen.get("validation", set()) | seen.get("test", set())
    forbidden = {"validation": seen.get("train", set()), "test": seen[_TRAINING_FILE], "unlabelled": held_out}
    leaked = np.array([key in forbidden.get(name, ()) for key, name in zip(normalised, split.tolist(), strict=True)], dtype=bool)
    return report, leaked


def _labels_by_text(keys: Sequence[Any], label: Sequence[str | None], places: Sequence[int]) -> dict[Any, list[str | None]]:
    found: dict[Any, list[str | None]] = defaultdict(list)
    for place in places:
        found[keys[place]].append(label[place])
    return found


def _within(labels: dict[Any, list[str | None]]) -> dict[str, int]:
    conflicting = [found for found in labels.values() if len(set(found)) > 1]
    return {
        "duplicates": sum(len(found) - 1 for found in labels.values()),
        "identical": sum(len(found) - len(set(found)) for found in labels.values()),
        "conflicting_texts": len(conflicting),
        "conflicting_rows": sum(map(len, conflicting)),
    }


def _between(
    earlier: dict[Any, list[str | None]], keys: Sequence[Any], label: Sequence[str | None], later: Sequence[int]
) -> dict[str, int]:
    found = [place for place in later if keys[place] in earlier]
    known = [{name for name in earlier[keys[place]] if name is not None} for place in found]
    return {
        "rows": len(found),
        "texts": len({keys[place] for place in found}),
        "conflicting": sum(bool(names) and label[place] not in names for place, names in zip(found, known, strict=True)),
    }
