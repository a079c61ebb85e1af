"""Clicks on items: a log by date, of which rows to learn from are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctr_kd.data.samples import BINS, Assembly
from feature_store.features.continuation import Continuation
from feature_store.features.event_log import microseconds
from feature_store.features.summary import ClickSummary
from feature_store.features.training_set import assemble
from feature_store.store.ingest import ingest
from feature_store.tables.json_files import load_json, write_json
from feature_store.tables.parquet_files import read_parquet
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.log_size import LogSize
from pipelines.tasks.privileged import privileged_columns
from pipelines.workspace.parent import DATES

if TYPE_CHECKING:
    from pipelines.config.run import RunConfig
    from pipelines.workspace.context import RunContext, StageContext

_FEW_CLICKS = 400  # of a window: fewer leave an AUC uncertain by .02 and more


class Clicks:
    """Clicks on items: requests of users, with candidates that were clicked or not.

    Parameters
    ----------
    config : RunConfig
        Of a run whose ``task`` is ``clicks``.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config

    def ingest(self, run: RunContext, resources: Set[str], failed: Path, report: Callable[[str], None]) -> None:
        """New rows of the raw log into the store; see :func:`feature_store.store.ingest.ingest`. There are no resources."""

        source, titles = self._config.source.with_copies(run.copies), None
        encoder = source.title_encoder
        if encoder is not None and run.data is not None:
            from pipelines.tasks.title_vectors import TitleVectors

            titles = TitleVectors(encoder, run.data, run.workspace, report)
        ingest(source, run.data, run.store, failed, report, titles=titles)

    def assemble(self, context: StageContext) -> dict[str, Any]:
        """Rows and vocabularies (:func:`feature_store.features.training_set.assemble`), item vectors and teacher states where they are
        configured, the pool of the clicks' tokens, and what a run that continues this one asks for: bins and the dates of the store.

        A run that continues another has its new rows and some of the older ones, its vocabularies grown, and its bins."""

        config, parent = self._config, context.run.parent
        continuation, bins = None, None
        if parent is not None:
            earlier = parent.folder(context.workspace, "ingest")
            vocabulary, bins = load_json(earlier / "vocabulary.json"), load_json(earlier / BINS)
            continuation = Continuation(parent.since, config.warm.replay, config.candidates.seed, vocabulary)
        summary = assemble(
            context.store,
            config.assembly,
            config.feature_store,
            context.as_of,
            context.output,
            continuation=continuation,
            report=context.report,
        )
        vectors = {}
        if config.embeddings is not None:
            from pipelines.tasks.vector_columns import add_vectors

            vectors = add_vectors(context, config.assembly)
        if config.teacher_state is not None:
            from pipelines.tasks.teacher_states import add_states

            vectors |= add_states(context, config.assembly)
        made = Assembly(context.output, config.history.max_length)
        made.write_pool()
        made.write_bins(bins)
        write_json(context.output / DATES, context.store.partition_digests(context.as_of))
        for line in thin_windows(summary.positives):
            context.report(line)
        return {"rows": summary.rows, "requests": summary.requests} | vectors

    def size(self, artifact: Path) -> LogSize:
        """Training rows, and what pretraining reads: clicks of the training window, before the labels begin where it stops there, and the
        pieces of at most ``history.max_length`` of them into which the users' clicks fall; and how many items are new after it."""
        summary = ClickSummary.read(artifact)
        labels_begin = summary.split.train_from if self._config.pretrain.clicks == "before_labels" else None
        clicks = read_parquet(artifact / "clicks.parquet", columns=["user", "timestamp"])
        until = microseconds(summary.split.train_until if labels_begin is None else labels_begin)
        known = clicks["user"].to_numpy()[clicks["timestamp"].to_numpy().astype("int64") < until]
        sequences = len(np.unique(known)) + len(known) // summary.history.max_length
        return LogSize(summary.rows["train"], sequences, len(known), summary.new_item_share)

    def assembly(self, artifact: Path, view: str) -> Assembly:
        """Teachers read all columns, and of training rows the later clicks that they may see; students what ``teacher_only`` leaves."""
        settings, hidden = self._config, self.privileged(artifact)
        teaches = view == "teacher"
        return Assembly(
            artifact,
            settings.history.max_length,
            settings.labels.chain,
            without=() if teaches else hidden,
            later_clicks=settings.teacher_only.future_clicks if teaches else 0,
        )

    def rows(self, artifact: Path, view: str = "student") -> ClickRows:
        """Raw ids and times instead of codes and offsets."""
        hidden = self.privileged(artifact)
        return ClickRows(artifact, () if view == "teacher" else hidden)

    def privileged(self, artifact: Path) -> list[str]:
        """Columns of ``teacher_only``, and statistics that are counted by them."""
        return privileged_columns(self._config.teacher_only, ClickSummary.read(artifact))


def thin_windows(clicks: Mapping[str, int]) -> list[str]:
    """What to say of validation and test where their clicks are too few to tell models apart.

    The half width of an AUC's 95 % interval is about 0.43 over the root of the clicks at an AUC of .7 (Hanley and McNeil 1982, equation 1,
    with many more rows that were not clicked).

    Examples
    --------
    >>> thin_windows({"train": 9, "validation": 900, "test": 46})
    ['test holds 46 clicks: an AUC on them is uncertain by about 0.06; give it a wider window in split']
    """
    few = {split: clicks[split] for split in ("validation", "test") if 0 < clicks[split] < _FEW_CLICKS}
    return [
        f"{split} holds {count} clicks: an AUC on them is uncertain by about {0.43 / count**0.5:.2f}; give it a wider window in split"
        for split, count in few.items()
    ]
