"""The inputs of a student of clicks, each by itself and in groups that tell of one thing; what tells the same is worth something as one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from feature_store.tables.multi_values import named_by

_OF_VECTOR = re.compile(r"(embedding_(?:history|item)|teacher_state)_\d+")
HISTORY, ITEM = "history", "item_id"  # as rows name them; no column of a log may be called so


@dataclass(frozen=True)
class InputGroup:
    """Some inputs, and where :class:`ctr_kd.data.samples.Samples` has them.

    Attributes
    ----------
    inputs : tuple of str
        Their names.
    history : bool
        Whether the click history is one of them, items and times together.
    candidate, categorical, dense : tuple of int
        Columns of the candidate's token, and of the arrays with these names.
    """

    inputs: tuple[str, ...]
    history: bool = False
    candidate: tuple[int, ...] = ()
    categorical: tuple[int, ...] = ()
    dense: tuple[int, ...] = ()


def input_groups(
    tokens: Sequence[str], categorical: Sequence[str], dense: Sequence[str], statistics: Sequence[str]
) -> dict[str, InputGroup]:
    """Every input by its name; then the attributes of the item, the statistics of each key, and all statistics, where they are several.

    Parameters
    ----------
    tokens, categorical, dense : sequence of str
        Features of the candidate's token, the item's id first and without a gap, and the names of the two other kinds of inputs.
    statistics : sequence of str
        Those of the dense inputs that are as-of statistics.

    Examples
    --------
    >>> list(input_groups(["item", "topic"], ["device"], ["item_age", "item_ctr", "hour"], ["item_age", "item_ctr", "hour"]))
    ['history', 'item_id', 'topic', 'device', 'item_age', 'item_ctr', 'hour', 'item statistics', 'all statistics']
    """
    groups = {HISTORY: InputGroup((HISTORY,), history=True)}
    of_token = _columns_by([ITEM, *tokens[1:]], named_by)
    numbers = _columns_by(dense, _vector_of)
    groups |= {name: InputGroup((name,), candidate=columns) for name, columns in of_token.items()}
    groups |= {name: InputGroup((name,), categorical=columns) for name, columns in _columns_by(categorical, named_by).items()}
    groups |= {name: InputGroup((name,), dense=columns) for name, columns in numbers.items()}
    together: dict[str, list[str]] = {"all item attributes": list(of_token)[1:]}
    for name in (name for name in statistics if name in groups):
        key = statistic_key(name, ["item", "user", *tokens[1:], *categorical])
        together.setdefault(f"{key} statistics" if key else name, []).append(name)
    vectors = [name for name in numbers if name not in dense]
    together["all statistics"] = [name for name in (*statistics, *vectors) if name in groups]
    return groups | {name: _joined([groups[one] for one in names]) for name, names in together.items() if len(names) > 1}


def _columns_by(names: Iterable[str], group_of: Callable[[str], str]) -> dict[str, tuple[int, ...]]:
    """Places of the columns of each group: of several values, or the numbers of a vector, one tells little without the others."""
    columns: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        columns.setdefault(group_of(name), []).append(column)
    return {name: tuple(places) for name, places in columns.items()}


def _vector_of(name: str) -> str:
    """The vector that a dense input is a number of; its own name where it is none of any."""
    found = _OF_VECTOR.fullmatch(name)
    return name if found is None else found[1]


def statistic_key(name: str, columns: Iterable[str]) -> str:
    """What a statistic counts by: the names of columns with which its own begins; empty where it begins with none.

    Examples
    --------
    >>> columns = ["item", "user", "referrer", "referrer_type", "age"]
    >>> [statistic_key(name, columns) for name in ("item_clicks_1h", "item_referrer_type_clicks_1h", "user_item_clicks", "hour")]
    ['item', 'item_referrer_type', 'user_item', '']
    >>> [statistic_key(name, columns) for name in ("user_age_of_last", "user_age_age_of_last")]
    ['user', 'user_age']
    """
    longest_first, rest = sorted(columns, key=len, reverse=True), name
    ages = ("age_of_first", "age_of_last")  # one of these is no column called age
    while rest not in ages and (found := next((column for column in longest_first if rest.startswith(f"{column}_")), None)):
        rest = rest.removeprefix(f"{found}_")
    return name.removesuffix(rest).removesuffix("_")


def _joined(groups: Sequence[InputGroup]) -> InputGroup:
    return InputGroup(
        inputs=tuple(name for one in groups for name in one.inputs),
        candidate=tuple(column for one in groups for column in one.candidate),
        categorical=tuple(column for one in groups for column in one.categorical),
        dense=tuple(column for one in groups for column in one.dense),
    )
