"""Which names the columns of a log may have: one list of those that are taken, and one rule, for every reader and every store.

The names go through everything that is made of a log: tables of the store, training rows, vocabularies, the inputs of models, the rows
that are scored. Engines do not tell upper from lower case, so no two may differ in that alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from feature_store.tables.contracts import DataError, LogContract
from feature_store.tables.multi_values import named_by

_TAKEN = {
    "a column of the store": (
        *("user_id", "item_id", "timestamp", "clicked", "request_id", "ingested_at", "time_known", "click_probability"),
        *("source", "line", "title"),
    ),
    "a column of the training rows": (*("row_id", "request", "user", "item", "label", "split", "history_start", "history_end", "code"),),
    "an input of every model": ("history", "history_timestamps", "gap"),
    "a column of the scores": ("score", "model_version"),
}
HISTORY_TYPES = "history_types"  # as rows and models call the types of a history's events, where they are several
RESERVED = {name: what for what, names in _TAKEN.items() for name in names}


def check_names(contract: LogContract) -> None:
    """Hold the names of a log against those that are taken, and against each other.

    A context column or an attribute may be called as a statistic is: it takes that one's place.

    Raises
    ------
    DataError
        One line that names the column, and what to rename.
    """
    groups: dict[str, Iterable[str]] = {
        "categorical context": contract.context.categorical,
        "dense context": contract.context.dense,
        "attributes of items": contract.item_attributes,
        "attributes of users": contract.user_attributes,
        "facts of items": (*contract.facts("items").categorical, *contract.facts("items").dense),
        "facts of users": (*contract.facts("users").categorical, *contract.facts("users").dense),
        "vectors of items": contract.item_vectors,
        "vectors of users": contract.user_vectors,
        "labels": contract.labels,
    }
    reserved = RESERVED | ({"row_weight": "a column of the store"} if contract.weighted else {})
    if contract.types is not None:
        reserved |= {"type_code": "a column of the store", HISTORY_TYPES: "an input of models that read types of events"}
    for label in contract.labels:
        reserved |= {f"label_{label.lower()}": "a column of the store", f"score_{label.lower()}": "a column of the scores"}
    for score in contract.scores:
        reserved |= {column.lower(): "a column of the store" for column in score.columns}
    seen: dict[str, tuple[str, str]] = {}
    for group, names in groups.items():
        for name in names:
            lower, repair = name.lower(), "rename it in the log and in `source`"
            if not name or "\0" in name:
                raise DataError(f"{group}: {name!r} is no name of a column; {repair}")
            if lower in reserved:
                what = reserved[lower] if name == lower else f"{lower!r}, {reserved[lower]}: case makes no difference"
                raise DataError(f"{group}: the name of column {name!r} is taken ({what}); {repair}")
            if lower in seen:
                other, where = seen[lower]
                same = "named twice" if other == name else f"{other!r} in other letters, which engines do not tell apart"
                raise DataError(f"{group}: column {name!r} is {same} (see {where}); {repair}")
            seen[lower] = name, group
            if named_by(name) != name:
                raise DataError(f"{group}: column {name!r} is called as a place of several values of {named_by(name)!r}; {repair}")
