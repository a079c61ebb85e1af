"""Keys that events are counted by: any of user, item, their attributes and the context, as one integer for each combination.

A value has a code, a combination the number that its codes make in a mixed radix: look-ups compare one integer, whatever the key is made
of. A value that the log does not have has a code of its own, so its counts are 0; where a value is missing there is no key, and what is
looked up by it is null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from feature_store.engines import Engine
from feature_store.features.event_log import Log
from feature_store.features.statistics import UndeclarableStatistic

LARGEST = 2**62


@dataclass
class Keys:
    """Codes of the values of a log, and the keys made of them.

    Parameters
    ----------
    engine : Engine
        Holds ``items``, ``users`` and ``log``.
    log : Log
    keys : sequence of tuple of str
        Columns of each key; see :func:`feature_store.features.statistics.key_columns`.
    """

    engine: Engine
    log: Log
    keys: Sequence[tuple[str, ...]]
    _sizes: dict[str, int] = field(init=False, default_factory=dict)
    _context: dict[str, str] = field(init=False, default_factory=dict)  # name in the SQL of the context columns, by the name outside
    _attributes: dict[str, str] = field(init=False, default_factory=dict)  # expression of the code of an attribute

    def __post_init__(self) -> None:
        named = {column for key in self.keys for column in key}
        outside = {name: inside for inside, name in self.log.context.items()}
        self._context = {name: outside[name] for name in sorted(named & outside.keys())}
        for kind in ("user", "item"):
            self._sizes[kind] = self.engine.rows(f"select count(*) from {kind}s")[0][0]
        for kind, alias, attributes in (("item", "i", self.log.item_attributes), ("user", "u", self.log.user_attributes)):
            self._code_attributes(kind, alias, {name: n for n, name in enumerate(attributes) if name in named})
        for name, inside in self._context.items():
            self._sizes[name] = self._code_values(f"{inside}_codes", inside, "log")
        for key in self.keys:
            if math.prod(self._sizes[column] + 1 for column in key) > LARGEST:
                raise UndeclarableStatistic(f"statistics.of: {', '.join(key)} have more combinations than can be numbered; leave one out")

    def _code_values(self, table: str, column: str, source: str) -> int:
        """Table (value, code) of the distinct values of a column; returns how many there are."""
        self.engine.table(table, "statistics/value_codes.sql", column=column, source=source)
        return int(self.engine.rows(f"select count(*) from {table}")[0][0])

    def _code_attributes(self, kind: str, alias: str, attributes: Mapping[str, int]) -> None:
        """Table of the items or users with the codes of these attributes."""
        if not attributes:
            return
        codes, joins = "", ""
        for name, n in attributes.items():
            self._sizes[name] = self._code_values(f"{kind}_attribute_{n}_codes", f"attribute_{n}", f"{kind}s")
            codes += f", v{n}.code as attribute_{n}"
            joins += f" left join {kind}_attribute_{n}_codes v{n} on v{n}.value = e.attribute_{n}"
            self._attributes[name] = f"{alias}.attribute_{n}"
        self.engine.table(f"{kind}_codes", f"select e.{kind}_code{codes} from {kind}s e{joins}")

    def joins(self, keys: Sequence[tuple[str, ...]]) -> str:
        """What a query of rows ``e`` (user_code, item_code, context) joins so that :meth:`number` can be computed for these keys."""
        named = {column for key in keys for column in key}
        joined = ""
        for kind, alias, attributes in (("item", "i", self.log.item_attributes), ("user", "u", self.log.user_attributes)):
            if named & set(attributes):
                joined += f" left join {kind}_codes {alias} on {alias}.{kind}_code = e.{kind}_code"
        for name, inside in self._context.items():
            if name in named:
                joined += f" left join {inside}_codes {inside}_v on {inside}_v.value = e.{inside}"
        return joined

    def context(self, keys: Sequence[tuple[str, ...]]) -> list[str]:
        """Context columns, as the SQL calls them, of these keys."""
        named = {column for key in keys for column in key}
        return [inside for name, inside in self._context.items() if name in named]

    def number(self, key: tuple[str, ...]) -> str:
        """Expression of a key's number over rows ``e`` with :meth:`joins`; null where an attribute or a context column is."""
        number = ""
        for column in key:
            code = self._code(column)
            number = f"({number}) * {self._sizes[column] + 1} + {code}" if number else f"cast({code} as bigint)"
        return number

    def _code(self, column: str) -> str:
        if column in ("user", "item"):
            return f"coalesce(e.{column}_code, {self._sizes[column]})"
        if column in self._context:
            inside = self._context[column]
            return f"case when e.{inside} is not null then coalesce({inside}_v.code, {self._sizes[column]}) end"
        return self._attributes[column]
