"""Weights of the teachers: chosen by validation, or learned per row on the newest training rows, by teachers that did not see them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_kd.data.disk_arrays import joined, let_go, pieces_of
from ctr_kd.data.samples import Assembly, Samples
from ctr_kd.metrics import auc_score, log_loss
from feature_store.tables.contracts import DataError
from feature_store.tables.json_files import write_json
from feature_store.tables.parquet_files import read_parquet
from pipelines.tasks.logits import probabilities
from pipelines.training.facts import FitFacts, WeightFacts, WeightingFacts
from pipelines.training.teachers.bert import new_items, without_items
from pipelines.training.teachers.choice import make_teacher
from pipelines.workspace.artifacts import read_json
from pipelines.workspace.context import StageContext

if TYPE_CHECKING:
    from ctr_kd.training.teacher_weights import TeacherWeights

FILE = "weighting.json"


@dataclass(frozen=True)
class Fold:
    """The training rows, cut at a time.

    Attributes
    ----------
    cutoff : int
        Microseconds UTC.
    older, newer : pyarrow Table
        Rows before the cutoff, and from it on, in the layout of ``rows.parquet``.
    """

    cutoff: int
    older: pa.Table
    newer: pa.Table


def cut(rows: pa.Table, share: float) -> Fold:
    """Cut training rows so that the newest ``share`` of them is held out; rows of one moment stay together.

    Raises
    ------
    DataError
        When either part has rows of one label alone.
    """
    time = rows["timestamp"].to_numpy()
    cutoff = int(np.quantile(time, 1 - share, method="higher"))
    fold = Fold(cutoff, rows.filter(pc.less(rows["timestamp"], cutoff)), rows.filter(pc.greater_equal(rows["timestamp"], cutoff)))
    for name, part in (("before it", fold.older), ("from it on", fold.newer)):
        if len(pc.unique(part["label"])) < 2:
            raise DataError(
                f"distill.held_out of {share:g} cuts the training rows where those {name} ({part.num_rows:,}) have not both labels; "
                "choose another share, or distill.weighting: fixed"
            )
    return fold


def learn_weights(
    context: StageContext, samples: Mapping[str, Samples], teachers: Mapping[str, Mapping[str, np.ndarray]]
) -> WeightingFacts:
    """Fit weights per row, compare them with the fixed ones on validation, and write ``weighting.json``.

    Why it is honest: a teacher's logits of the rows that it was trained on look better than it is, the BERT's more so than the trees', and
    weights fitted on them would trust the BERT too far. So every teacher is trained again on what came before the newest
    ``distill.held_out`` of the training rows, pretraining included, items that were new then unknown to it, and the weights are fitted on
    its logits of those newest rows. They are then put to the teachers of all training rows. Validation rows choose the checkpoint of
    those trainings, as of any other, and whether the learned or the fixed weights are used; no weight is fitted on them, and the
    test rows are not read.

    Parameters
    ----------
    context : StageContext
        With artifacts of ``ingest``, ``pretrain`` and ``finetune``.
    samples : mapping of str to Samples
        ``validation`` is read.
    teachers : mapping of str to mapping of str to float32 array (rows, 1)
        Logits by teacher and split, of the teachers of all training rows.

    Returns
    -------
    WeightingFacts
        What the report says.
    """
    from ctr_kd.training.teacher_weights import fit_teacher_weights, row_context

    settings, assembly = context.config.distill, _assembly(context)
    rows = read_parquet(assembly.directory / "rows.parquet")
    validation = rows.filter(pc.equal(rows["split"], "validation"))
    fold = cut(rows.filter(pc.equal(rows["split"], "train")), settings.held_out)
    context.report(
        f"weights per row: the teachers learn {fold.older.num_rows:,} older rows, to be weighed on {fold.newer.num_rows:,} newer"
    )
    newer = without_items(assembly.samples_of(fold.newer), new_items(context, assembly, fold.cutoff))
    logits = {}
    for config in settings.teachers:
        teacher = make_teacher(config, context)
        teacher.fit(fold.older, validation, fold.cutoff)
        logits[config.name] = teacher.logits(fold.newer)
    signature = assembly.signature()
    learned = fit_teacher_weights(logits, row_context(newer, signature), newer.label, settings.teacher_weights, row_weight=newer.weight)
    return _decide(context, learned, samples["validation"], teachers, rows=len(newer))


def choose_weights(
    context: StageContext, samples: Mapping[str, Samples], teachers: Mapping[str, Mapping[str, np.ndarray]]
) -> WeightingFacts:
    """Let the validation rows choose among the configured weights and those on a grid of quarters, and write ``weighting.json``.

    As a checkpoint is chosen: by log loss, of classes at the best temperature, and the configured weights stay where nothing is better.
    So a teacher that does not fit a log has no say in it. The test rows are not read.

    Parameters
    ----------
    context : StageContext
    samples : mapping of str to Samples
        ``validation`` is read.
    teachers : mapping of str to mapping of str to float32 array (rows, outputs)
        Logits by teacher and split; NaN where a teacher says nothing.
    """
    from ctr_kd.training.finetune import figures_of

    fixed, validation = context.config.distill.teacher_weights, samples["validation"]

    splits = [split for split in ("train", "validation") if split in samples]
    choices: list[dict[str, float]] = []
    figures: list[dict[str, float]] = []
    taught: dict[str, np.ndarray] = {}
    for weights in (fixed, *(dict(zip(fixed, shares, strict=True)) for shares in quarters(len(fixed)))):
        said = {
            split: combined_logits({name: logits[split] for name, logits in teachers.items()}, weights, context.output) for split in splits
        }
        silent = {split: np.isnan(logits) for split, logits in said.items()}
        taught = taught or silent
        if all(np.array_equal(silent[split], taught[split]) for split in splits):  # none may leave a row without a word that has one
            choices.append(weights)
            figures.append(figures_of(without_gaps(said["validation"], said.get("train")), validation))
    best = max(range(len(choices)), key=lambda number: figures[number]["score"])
    chosen = choices[best]
    write_json(context.output / FILE, {"used": "chosen", "chosen": chosen})
    shown = ", ".join(f"{name} {weight:g}" for name, weight in chosen.items())
    name = "auc" if "auc" in figures[0] else "accuracy"
    context.report(
        f"weights of the teachers by validation: {shown}; {name} {figures[best][name]:.4f}, as configured {figures[0][name]:.4f}"
    )
    return WeightingFacts(
        rows=len(validation),
        teachers={one: WeightFacts(fixed=fixed[one], mean=weight, low=weight, high=weight) for one, weight in chosen.items()},
        validation={
            which: FitFacts(**{name: figures[number][name]}, log_loss=figures[number]["log_loss"])
            for which, number in (("fixed", 0), ("chosen", best))
        },
        used="chosen" if best else "fixed",
    )


def quarters(teachers: int) -> list[tuple[float, ...]]:
    """All weights of so many teachers that are quarters and add up to one.

    Examples
    --------
    >>> quarters(2)
    [(0.0, 1.0), (0.25, 0.75), (0.5, 0.5), (0.75, 0.25), (1.0, 0.0)]
    """
    return [tuple(count / 4 for count in counts) for counts in itertools.product(range(5), repeat=teachers) if sum(counts) == 4]


def without_gaps(logits: np.ndarray, trained: np.ndarray | None = None) -> np.ndarray:
    """Logits (rows, outputs) that are measured: a row of which nothing is said has the mean of what is said of training rows.

    That is all that such a teacher knows of the row. Left out, it would be measured on other rows than the models beside it.

    Parameters
    ----------
    logits : float array (rows, outputs)
    trained : float array (rows, outputs), optional
        The same teacher's of the training rows; by default the mean is that of ``logits``.

    Examples
    --------
    >>> without_gaps(np.array([[1.0], [np.nan], [3.0]], np.float32)).tolist()
    [[1.0], [2.0], [3.0]]
    """
    missing, said = np.isnan(logits), logits if trained is None else trained
    if not missing.any():
        return logits
    if np.isnan(said).all():
        return np.where(missing, 0.0, logits)
    mean = np.nanmean(said, axis=0, dtype=np.float64)  # single precision would not add up millions of rows
    return np.where(missing, mean.astype(logits.dtype), logits)


def combined_logits(teachers: Mapping[str, np.ndarray], weights: Mapping[str, float | np.ndarray], folder: Path) -> np.ndarray:
    """What the teachers say together (rows, outputs), a piece at a time; see :func:`ctr_kd.training.distill.combine_logits`."""
    from ctr_kd.training.distill import combine_logits

    def piece(here: slice) -> np.ndarray:
        let_go(teachers.values())
        own = {name: weight[here] if isinstance(weight, np.ndarray) else weight for name, weight in weights.items()}
        return combine_logits({name: logits[here] for name, logits in teachers.items()}, own)

    rows = len(next(iter(teachers.values())))
    return joined(map(piece, pieces_of(rows)), rows, folder)


def weights_of(context: StageContext, samples: Mapping[str, Samples]) -> dict[str, Mapping[str, float | np.ndarray]]:
    """The weights that validation preferred, by split: one number for each teacher, or one per row (rows, 1).

    Read from the stage's own artifact, or where it is another stage that learned them, from that of the teacher.
    """
    from ctr_kd.training.teacher_weights import TeacherWeights, row_context

    fixed: dict[str, Mapping[str, float | np.ndarray]] = dict.fromkeys(samples, context.config.distill.teacher_weights)
    if context.config.distill.weighting == "fixed":
        return fixed
    kept = read_json((context.output if (context.output / FILE).exists() else context.inputs["teacher"]) / FILE) or {}
    if kept["used"] == "chosen":
        return dict.fromkeys(samples, kept["chosen"])
    if kept["used"] == "fixed":
        return fixed
    learned, signature = TeacherWeights.from_dict(kept["learned"]), _assembly(context).signature()
    return {split: learned.weights(row_context(rows, signature)) for split, rows in samples.items()}


def _assembly(context: StageContext) -> Assembly:

    return Assembly(context.inputs["ingest"], context.config.history.max_length)


def _decide(
    context: StageContext, learned: TeacherWeights, validation: Samples, teachers: Mapping[str, Mapping[str, np.ndarray]], *, rows: int
) -> WeightingFacts:
    """Let the validation rows choose between fixed and learned weights, as they choose a checkpoint: by log loss."""
    from ctr_kd.training.distill import combine_logits
    from ctr_kd.training.teacher_weights import row_context

    label, features = validation.label, row_context(validation, _assembly(context).signature())
    fixed, by_row = context.config.distill.teacher_weights, learned.weights(features)
    said = {name: logits["validation"] for name, logits in teachers.items()}
    figures = {}
    for name, weights in (("fixed", fixed), ("learned", by_row)):
        combined = combine_logits(said, weights)
        figures[name] = FitFacts(
            auc=float(auc_score(label, combined[:, 0], validation.weight)),
            log_loss=float(log_loss(label, probabilities(combined), validation.weight)),
        )
    used = min(figures, key=lambda name: figures[name].log_loss)
    spread = {
        name: WeightFacts(fixed=fixed[name], mean=float(one.mean()), low=float(np.quantile(one, 0.05)), high=float(np.quantile(one, 0.95)))
        for name, one in by_row.items()
    }
    write_json(context.output / FILE, {"used": used, "learned": learned.to_dict()})
    shown = ", ".join(f"{name} {one.mean:.3f} (fixed {one.fixed:g})" for name, one in spread.items())
    context.report(
        f"weights per row: mean {shown}; AUC on validation {figures['learned'].auc:.4f} learned, {figures['fixed'].auc:.4f} fixed, "
        f"log loss {figures['learned'].log_loss:.4f} and {figures['fixed'].log_loss:.4f}: {used} weights are used"
    )
    return WeightingFacts(rows=rows, teachers=spread, validation=figures, used=used)
