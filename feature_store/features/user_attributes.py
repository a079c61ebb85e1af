"""What the store says of users at any time: attributes that always hold."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.store.store import Store
from feature_store.tables.casting import as_array, id_values
from feature_store.tables.multi_values import spread
from feature_store.tables.parquet_files import read_parquet

_KEYS = ("user_id", "timestamp", "source", "line")  # of the stored table


class UserAttributes:
    """The table of users of a store, read when it is first asked for.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @cached_property
    def _users(self) -> pa.Table | None:
        file = self._store.users_file()
        if file is None:
            return None
        self._store.verify_files([file])
        return spread(read_parquet(file), self._store.log_contract.user_multi)

    @property
    def names(self) -> list[str]:
        """Columns that always hold of a user; none of a dated table, of whose columns a row reads what held at its time."""
        if self._users is None or self._store.log_contract.facts("users").dated:
            return []
        return [name for name in self._users.column_names if name not in _KEYS]

    def of(self, user_id: pa.ChunkedArray, names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
        """Those of the named columns that there are, for a user id per row; null for a user whom the store does not know."""
        users = self._users if names else None
        if users is None:
            return {}
        known, _ = id_values(as_array(user_id))
        row = pc.index_in(known.cast(pa.string()), value_set=users["user_id"].cast(pa.string()).combine_chunks())
        return {name: users[name].take(row) for name in names if name in users.column_names}
