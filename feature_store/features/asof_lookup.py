"""As-of lookups in bounded memory: the last row of a key before a time, for requests that come in chunks of rising time.

A lookup table says, for each key and moment, what holds after that moment. A chunk of requests needs of it only the rows
within its own time span and, for each key, the last row before. That last row is carried from chunk to chunk, and tables lie in
order of their moments, so a chunk reads its own span and the cost of all chunks together is linear in the log.
"""

from __future__ import annotations

from dataclasses import dataclass

from feature_store.engines import Engine

BEGINNING = -(2**62)  # microseconds; before every event


@dataclass(frozen=True)
class Lookup:
    """A table with a key, a moment and values that hold after the moment.

    Moving it makes the table ``NAME_span``, in which a request at time t finds its row as the last one with moment < t.

    Attributes
    ----------
    name : str
        Of what is made of the table.
    columns : tuple of str
        The values.
    keys : tuple of str
        The key; empty where one sequence serves all requests.
    asked : str
        Table with the keys that the chunk asks for; the span then holds no others. For keys that are many, as users are.
    table : str
        Where it has another name: the table, in order of its column ``moment`` (int64 microseconds).
    later : int
        Microseconds from a moment until its values hold.
    """

    name: str
    columns: tuple[str, ...] = ("n",)
    keys: tuple[str, ...] = ("item_code",)
    asked: str = ""
    table: str = ""
    later: int = 0

    def start(self, engine: Engine) -> None:
        """Forget what was carried."""
        engine.table(f"{self.name}_state", f"select {self._names} from {self.table or self.name} where false")

    def carry(self, engine: Engine, since: int, start: int) -> None:
        """Carry the last row of each key on to a chunk.

        Parameters
        ----------
        engine : Engine
        since : int
            The ``start`` of the previous chunk, microseconds; ``BEGINNING`` for the first.
        start : int
            Time of the first request of the chunk, microseconds; no chunk starts before the previous one.
        """
        keys = "".join(f"{key}, " for key in self.keys)
        # without keys a group of all rows would make a row of nulls out of none
        group = f"group by {', '.join(self.keys)}" if self.keys else "having count(*) > 0"
        values = ", ".join(f"max_by({column}, moment) as {column}" for column in self.columns)
        same = " and ".join(f"e.{key} = s.{key}" for key in self.keys) or "true"
        engine.renew(
            f"{self.name}_state",
            "statistics/lookup_state.sql",
            state=f"{self.name}_state",
            table=self.table or self.name,
            keys=keys,
            columns=values,
            since=since - self.later,
            until=start - self.later,
            group=group,
            same=same,
        )

    def cover(self, engine: Engine, start: int, end: int) -> None:
        """Make the span of a chunk with times in [start, end], to which the last rows were carried."""
        asked = f"semi join {self.asked} using ({', '.join(self.keys)})" if self.asked else ""
        start, end = start - self.later, end - self.later
        table, names = self.table or self.name, ", ".join((*self.keys, f"moment + {self.later} as moment", *self.columns))
        engine.table(
            f"{self.name}_span",
            f"""select {names} from {self.name}_state {asked}
            union all
            select {names} from (select * from {table} where moment >= {start} and moment < {end}) span {asked}""",
        )

    @property
    def _names(self) -> str:
        return ", ".join((*self.keys, "moment", *self.columns))
