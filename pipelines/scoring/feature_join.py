"""What a model reads and a table lacks, joined from the store: history, statistics, user attributes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from feature_store.config import AssemblyConfig
from feature_store.features.event_log import microseconds
from feature_store.features.historical_features import FeatureLookup, columns_read, compared_columns, moments_of
from feature_store.features.user_attributes import UserAttributes
from pipelines.config.run import RunConfig
from pipelines.registry.loaded_model import LoadedModel, completed
from pipelines.workspace.context import FeatureSource, RunContext

if TYPE_CHECKING:
    from pipelines.tasks.teacher_states import StateLookup
    from pipelines.tasks.vector_columns import VectorLookup


class StoreFeatures:
    """What the store knows of any number of rows; use as a context manager.

    Nothing is opened before it is asked for, and the log is read once for all that is asked. Ask in order of time: moving forward costs
    what lies between, moving back begins the log anew.

    Parameters
    ----------
    run : RunContext
    until : datetime, optional
        No row is asked about from then on; what happened later need not be read.

    Attributes
    ----------
    broken : bool
        An answer failed, and may have left half of itself behind: use another.
    """

    def __init__(self, run: RunContext, until: datetime | None = None) -> None:
        self._run = run
        self._as_of = min((time for time in (run.as_of, until) if time is not None), default=None)
        self._lookup: FeatureLookup | None = None
        self._vectors: VectorLookup | None = None
        self._states: StateLookup | None = None
        self._made_as: AssemblyConfig | None = None
        self._users: UserAttributes | None = None
        self._open = ExitStack()
        self.broken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._open.close()
        except Exception as fault:  # all that was asked is answered, and what was scored must not be lost for want of tidiness
            self._run.report(f"what the features were joined with could not be closed: {fault}")

    def columns(self, config: AssemblyConfig) -> list[str]:
        """Columns of a row that its features are made of."""
        return columns_read(self._run.store, config)

    def compared(self, config: AssemblyConfig) -> list[str]:
        """Columns of those features that compare the candidates of a request."""
        return compared_columns(self._run.store, config)

    def of(self, table: pa.Table, config: AssemblyConfig) -> pa.Table:
        """Add histories, statistics, columns of vectors and states, made as the settings say, to rows with some of :meth:`columns`."""
        self._run.stopwatch.lap("reading")
        try:
            if self._lookup is None or self._made_as != config:
                self._open.close()  # another model came, which reads others
                lookup = FeatureLookup(self._run.store, config, self._run.config.feature_store, self._as_of)
                self._lookup, self._made_as = self._open.enter_context(lookup), config
                self._vectors, self._states = self._vector_lookup(config, lookup), self._state_lookup(config)
            found = self._lookup.of(table)
            for further in (self._vectors, self._states):
                found = found if further is None else further.add(found, moments_of(table))
            self._run.stopwatch.lap("joining", table, found)
            return found
        except BaseException:
            self.broken = True
            raise

    def _vector_lookup(self, config: AssemblyConfig, lookup: FeatureLookup) -> VectorLookup | None:
        """What knows the columns of vectors; None where the model reads none."""
        if config.embeddings is None:
            return None
        from pipelines.tasks.embedding_facts import facts_folder, learn_newest_clicks
        from pipelines.tasks.vector_columns import VectorLookup

        known = facts_folder(self._run.workspace, config.embeddings, config.history.max_length).read()
        newest = self._run.store.known_until()
        if known is None or (newest is not None and known.until + known.block <= microseconds(newest)):
            learn_newest_clicks(self._run, config)  # of a champion with other settings than the configuration, whose rows are made already
        return VectorLookup(self._run.workspace, config, lookup.items(), None if self._as_of is None else microseconds(self._as_of))

    def _state_lookup(self, config: AssemblyConfig) -> StateLookup | None:
        """What knows the teacher's states, those of the store's newest clicks too; None where the model reads none."""
        if config.teacher_state is None:
            return None
        from pipelines.tasks.teacher_states import StateLookup, are_up_to_date, bring_up_to_date

        if not are_up_to_date(self._run, config):
            bring_up_to_date(self._run, config, "score")
        return StateLookup(self._run.workspace, config, None if self._as_of is None else microseconds(self._as_of))

    def user_attributes(self, user_id: pa.ChunkedArray, names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
        """Those of the named columns that the store's users have, for a user id per row; null for a user it does not know."""
        if self._users is None:
            self._users = UserAttributes(self._run.store)
        return self._users.of(user_id, names)


@contextmanager
def features_of(run: RunContext, until: datetime | None = None) -> Iterator[FeatureSource]:
    """Those that the run holds open, which then must reach as far as is asked, or some up to ``until`` that are closed afterwards."""
    if run.features is not None:
        yield run.features
    else:
        with StoreFeatures(run, until) as features:
            yield features


class Joiner:
    """Completes any number of tables for a model; a table that carries all that the model reads is left as it is.

    Parameters
    ----------
    columns : sequence of str
        What the model reads and the store knows; see :meth:`pipelines.tasks.answers.Answers.joined`.
    features : FeatureSource
    made_as : AssemblyConfig, optional
        How histories and statistics are made; None where no column is named.
    of_history : sequence of str
        What is joined with ``history`` and never without it; see :meth:`pipelines.tasks.answers.Answers.of_history`.
    """

    def __init__(
        self,
        columns: Sequence[str],
        features: FeatureSource,
        made_as: AssemblyConfig | None,
        of_history: Sequence[str] = ("history_timestamps",),
    ) -> None:
        self._columns, self._features, self.made_as, self._of_history = columns, features, made_as, of_history

    @classmethod
    def of(cls, model: LoadedModel, features: FeatureSource, config: RunConfig) -> Self:
        """One that makes histories and statistics as those of the model's own training were made."""
        columns = model.answers.joined()
        return cls(columns, features, model.assembly(config.assembly) if columns else None, model.answers.of_history())

    def compares_candidates(self, names: Sequence[str] = ()) -> bool:
        """Whether some of what rows with columns of these names lack compares the candidates of a request: they must come in one table."""
        lacking = self.lacking(names)
        if self.made_as is None or not lacking or not self.made_as.statistics.listwise_context:
            return False
        return not set(lacking).isdisjoint(self._features.compared(self.made_as))

    def lacking(self, names: Sequence[str]) -> list[str]:
        """What the model reads, could be joined, and is not among the columns of these names."""
        lacking = [name for name in self._columns if name not in names]
        return [*lacking, *self._of_history] if "history" in lacking else lacking

    def join(self, table: pa.Table) -> pa.Table:
        """The rows of a table (rows, columns) in their order, with the columns that it lacked."""
        features = self.features(table)
        return table if features is None else completed(table, features)

    def features(self, table: pa.Table) -> pa.Table | None:
        """The columns that a table lacked, for its rows in their order; None where it lacks nothing."""
        lacking = self.lacking(table.column_names)
        if not lacking or self.made_as is None:
            return None
        made_as = self.made_as
        if not self.compares_candidates(table.column_names):
            statistics = made_as.statistics.model_copy(update={"listwise_context": ()})
            made_as = made_as.model_copy(update={"statistics": statistics})
        read = [*self._features.columns(made_as), *([] if made_as.embeddings is None else ["history"])]
        keys = [name for name in read if name in table.column_names]
        joined = self._features.of(table.select(keys), made_as)
        columns = {name: joined[name] for name in lacking if name in joined.column_names}
        if "user_id" in keys:
            columns |= self._features.user_attributes(table["user_id"], [name for name in lacking if name not in columns])
        return pa.table(columns)  # a dense context column, for one, belongs to the request and cannot be joined: it stays null

    def histories(self, table: pa.Table) -> pa.ListArray:
        """Raw ids of what each row's user clicked before the row's time, oldest first."""
        asked = ["user_id", "item_id", "timestamp", *(["request_id"] if self.compares_candidates() else [])]
        joined = self.join(table.select(asked))["history"]
        return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined
