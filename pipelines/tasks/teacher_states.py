"""Teacher states of a workspace: made night by night of the clicks of its store, and joined as of their time wherever rows are made."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ctr_kd.teacher_states.as_of import StatesAsOf
from ctr_kd.teacher_states.encoder import EncoderFile, learned_by, load_encoder, read_encoder_file, train_encoder
from ctr_kd.teacher_states.ledger import StatesFolder, StatesList, make_states
from ctr_kd.training.job import TrainingJob
from feature_store.config import AssemblyConfig
from feature_store.config_teacher_state import TeacherStateConfig
from feature_store.config_types import duration_text, in_microseconds
from feature_store.features.click_sequences import ClickSequences, PrefixDigest, read_click_sequences
from feature_store.features.event_log import microseconds
from feature_store.features.row_writer import ROW_GROUP
from feature_store.features.statistics import state_columns
from feature_store.features.summary import ClickSummary, SplitTimes
from feature_store.features.time_split import utc
from feature_store.tables.contracts import DataError
from feature_store.tables.given_rows import text_ids
from feature_store.tables.json_files import digest_of
from feature_store.tables.parquet_files import open_pieces, read_parquet
from pipelines.workspace.context import RunContext, StageContext
from pipelines.workspace.retention import TEACHER_STATES

_FORMAT = 1  # of the files, and of what is made: another one means that encoders are trained anew


def add_states(context: StageContext, config: AssemblyConfig) -> dict[str, Any]:
    """Make the states that the rows of an assembly read and give them the columns; returns what the manifest says of them.

    The encoder is that of the configuration, or is trained on the clicks before the states begin, once for equal clicks and settings.

    Raises
    ------
    DataError
        When the log has a column of that name, the clicks are too few, or the encoder that is asked for does not fit.
    """
    settings, summary = states_of(config), ClickSummary.read(context.output)
    of_log = (*summary.context.categorical, *summary.context.dense, *summary.item_attributes, *summary.user_attributes, *summary.statistics)
    columns = state_columns(settings.width)
    for name in sorted(set(columns) & {name.lower() for name in of_log}):
        raise DataError(f"column {name} of the log has the name of what `teacher_state` adds; rename it in the log and in `source`")
    clicks = read_click_sequences(context.store, context.config.feature_store, context.as_of)
    made = _encoder(context, settings, clicks, summary.split)
    settings = settings.model_copy(update={"encoder": made.name})
    states, _ = _make(context.run, settings, clicks, context.stage)
    known = add_columns(context.workspace, context.output, context.output / "rows.parquet", settings)
    summary.model_copy(update={"statistics": [*summary.statistics, *columns], "teacher_state": settings}).write(context.output)
    context.report(
        f"teacher states: {made.name} of {made.clicks:,} clicks known before {utc(made.until):%Y-%m-%d %H:%M} (masked items "
        f"{made.masked_item_accuracy:.3f}, {made.explained:.0%} of the variance kept), "
        f"{sum(one.users for one in states.entries):,} states, every {duration_text(settings.every)}; {known:.0%} of the rows have one"
    )
    if not known:
        context.report("warning: no row has a teacher state: let teacher_state.every and delay be shorter, or the log longer")
    return {TEACHER_STATES: made.name, "teacher_state_rows": known, "teacher_state_explained": made.explained}


def _encoder(context: StageContext, config: TeacherStateConfig, clicks: ClickSequences, split: SplitTimes) -> EncoderFile:
    """The encoder that the configuration names, or the one of the clicks before the states begin, which is trained if it is not there."""
    if config.encoder is not None:
        made = read_encoder_file(_folder(context.workspace, config.encoder))
        if made is None:
            raise DataError(f"teacher_state.encoder: {context.workspace} has no {config.encoder}; null trains one")
        width = made.settings.get("width")
        if width != config.width:
            raise DataError(f"teacher_state.width is {config.width}, and the states of {config.encoder} have {width} numbers: set it so")
        return made
    until = training_ends(clicks, split, config.share)
    order = np.argsort(clicks.known_at, kind="stable")
    learned = PrefixDigest(clicks, order).of(int(np.sum(clicks.known_at < until)))
    name = f"encoder-{digest_of([_FORMAT, learned_by(config), until, learned, clicks.items.column_names])[:12]}"
    folder = _folder(context.workspace, name)
    made = read_encoder_file(folder)
    if made is not None:
        return made
    context.report(f"teacher states: training their encoder on the clicks known before {utc(until):%Y-%m-%d %H:%M}")
    job = TrainingJob(seed=config.seed, fingerprint=name, folder=context.checkpoint, name="teacher_state_encoder", report=context.report)
    return train_encoder(config, clicks, until, name, job=job, folder=folder, device=context.config.pretrain.training.device)


def training_ends(clicks: ClickSequences, split: SplitTimes, share: float) -> int:
    """Time (microseconds UTC) before which all clicks must be known that the encoder learns: no state is older, no label is among them.

    It is where the labels of training begin, or where they begin with the log, so much of the training window later.
    """
    first, ends = int(clicks.known_at.min(initial=np.iinfo(np.int64).max)), microseconds(split.train_until)
    begins = None if split.train_from is None else microseconds(split.train_from)
    return begins if begins is not None and begins > first else first + int((ends - first) * share)


def are_up_to_date(run: RunContext, config: AssemblyConfig) -> bool:
    """Whether the states of all times are there that the newest click of the store allows."""
    settings = states_of(config)
    known, newest = states_folder(run.workspace, settings).read(), run.store.known_until()
    return known is not None and (newest is None or known.until + known.every > microseconds(newest))


def bring_up_to_date(run: RunContext, config: AssemblyConfig, stage: str) -> tuple[StatesList, int]:
    """Make the states of an encoder that is there, up to the newest click of the store; the list, and how many were made now.

    Raises
    ------
    DataError
        When the encoder is not there, or a file is damaged.
    """
    clicks = read_click_sequences(run.store, run.config.feature_store, run.as_of)
    return _make(run, states_of(config), clicks, stage)


def _make(run: RunContext, settings: TeacherStateConfig, clicks: ClickSequences, stage: str) -> tuple[StatesList, int]:
    folder, every = _folder(run.workspace, settings.encoder), in_microseconds(settings.every)
    encoder, made = load_encoder(folder, clicks, run.config.pretrain.training.device), read_encoder_file(folder)
    assert made is not None  # it was loaded  # noqa: S101
    now = run.as_of or run.store.known_until()
    newest = made.until if now is None else microseconds(now)
    with run.console.progress("teacher states", None, stage) as progress:
        states = states_folder(run.workspace, settings)
        return make_states(states, encoder, clicks, every=every, since=made.until, now=newest, advance=progress.advance)


def add_columns(workspace: Path, assembly: Path, file: Path, settings: TeacherStateConfig) -> float:
    """Give rows in the layout of an assembly the columns of states, as of their times; the share of rows that have one.

    Parameters
    ----------
    workspace : Path
        Whose states were made.
    assembly : Path
        Whose codes the rows have.
    file : Path
        The rows, which this replaces.
    settings : TeacherStateConfig
        With the name of the encoder.
    """
    users = read_parquet(assembly / "users.parquet")["user_id"].cast(pa.string()).combine_chunks()
    states, temporary = _open(workspace, settings), file.with_name(f".{file.name}.tmp")
    known = count = 0
    with open_pieces(file) as rows:
        schema = rows.schema_arrow
        for name in state_columns(settings.width):
            schema = schema.append(pa.field(name, pa.float32()))
        text = [field.name for field in rows.schema_arrow if pa.types.is_string(field.type) or pa.types.is_dictionary(field.type)]
        with pq.ParquetWriter(temporary, schema, compression="zstd", use_dictionary=text, store_schema=False) as writer:
            for group in range(rows.num_row_groups):
                table = rows.read_row_group(group)
                found = states.of(users.take(table["user"].combine_chunks()), table["timestamp"].to_numpy())
                known, count = known + int(np.sum(~np.isnan(found[:, 0]))), count + table.num_rows
                writer.write_table(_with_states(table, found), row_group_size=ROW_GROUP)
    temporary.replace(file)
    return known / max(count, 1)


class StateLookup:
    """States of rows with raw ids, as of their times.

    Parameters
    ----------
    workspace : Path
        Whose states were made.
    config : AssemblyConfig
        With teacher states, and the name of their encoder.
    as_of : int, optional
        No state is read that was not there at this time, microseconds UTC.
    """

    def __init__(self, workspace: Path, config: AssemblyConfig, as_of: int | None = None) -> None:
        self._states, self._as_of = _open(workspace, states_of(config)), as_of

    def add(self, frame: pa.Table, moment: np.ndarray) -> pa.Table:
        """Rows at moments (rows,) in microseconds UTC with the columns of states that they lack: all null without ``user_id``."""
        users = text_ids(frame, "user_id") if "user_id" in frame.column_names else pa.nulls(frame.num_rows, pa.string())
        moment = moment if self._as_of is None else np.minimum(moment, self._as_of)
        return _with_states(frame, self._states.of(users, moment))


def states_of(config: AssemblyConfig) -> TeacherStateConfig:
    """The settings of states of a configuration that has some."""
    assert config.teacher_state is not None  # of whoever asks for states  # noqa: S101
    return config.teacher_state


def states_folder(workspace: Path, settings: TeacherStateConfig) -> StatesFolder:
    """The states of a workspace that an encoder makes at a pace."""
    return StatesFolder(_folder(workspace, settings.encoder) / f"every-{settings.every // timedelta(seconds=1)}s")


def _folder(workspace: Path, encoder: str | None) -> Path:
    assert encoder is not None  # it is known once rows are made  # noqa: S101
    return workspace / TEACHER_STATES / encoder


def _open(workspace: Path, settings: TeacherStateConfig) -> StatesAsOf:
    return StatesAsOf(states_folder(workspace, settings), settings.width, in_microseconds(settings.delay))


def _with_states(rows: pa.Table, states: np.ndarray) -> pa.Table:
    """Rows with their states (rows, width), null where they are NaN; a column that is there stays."""
    unknown = pa.array(np.isnan(states[:, 0]))
    for place, name in enumerate(state_columns(states.shape[1])):
        if name not in rows.column_names:
            column = pa.array(states[:, place].astype(np.float32))
            rows = rows.append_column(name, pc.if_else(unknown, pa.scalar(None, pa.float32()), column))
    return rows
