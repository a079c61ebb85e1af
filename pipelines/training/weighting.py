"""Weights of the teachers that are learned per row: fitted on the newest training rows, by teachers that were trained without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ctr_kd.data.samples import Assembly, Samples
from ctr_kd.metrics import auc_score, log_loss
from ctr_kd.training.job import TrainingRows
from feature_store.special_tokens import SPECIALS, UNKNOWN
from feature_store.tables.contracts import DataError
from feature_store.tables.json_files import write_json
from feature_store.tables.parquet_files import read_parquet
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.logits import probabilities
from pipelines.tasks.teachers import fit_boosted_trees
from pipelines.training.bert import load_encoders, pretraining_until
from pipelines.training.facts import FitFacts, WeightFacts, WeightingFacts
from pipelines.training.jobs import job_of
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
    newer = _without(assembly.samples_of(fold.newer), _new_items(context, assembly, fold.cutoff))
    logits = {}
    for name in settings.teachers:
        if name == "bert":
            logits[name] = _earlier_bert(context, assembly, fold, samples["validation"], newer)
        else:
            log = ClickRows(assembly.directory)
            trees = fit_boosted_trees(log, fold.older, validation, context.config.seed, context.report)
            logits[name] = trees.logits(log.described(fold.newer))
    signature = assembly.signature()
    learned = fit_teacher_weights(logits, row_context(newer, signature), newer.label, settings.teachers, row_weight=newer.weight)
    return _decide(context, learned, samples["validation"], teachers, rows=len(newer))


def weights_of(context: StageContext, samples: Mapping[str, Samples]) -> dict[str, Mapping[str, float | np.ndarray]]:
    """The weights that validation preferred, by split: one number for each teacher, or one per row (rows, 1).

    Read from the stage's own artifact, or where it is another stage that learned them, from that of the teacher.
    """
    from ctr_kd.training.teacher_weights import TeacherWeights, row_context

    fixed: dict[str, Mapping[str, float | np.ndarray]] = dict.fromkeys(samples, context.config.distill.teachers)
    if context.config.distill.weighting == "fixed":
        return fixed
    kept = read_json((context.output if (context.output / FILE).exists() else context.inputs["teacher"]) / FILE) or {}
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
    fixed, by_row = context.config.distill.teachers, learned.weights(features)
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


def _earlier_bert(context: StageContext, assembly: Assembly, fold: Fold, validation: Samples, newer: Samples) -> np.ndarray:
    """Logits (rows, 1) of the newer rows by a BERT of what came before the cutoff.

    It has no hard negatives: those of the fine-tuning know what was clicked until training ended, by not being it.
    """
    import torch

    from ctr_kd.training.devices import choose_device
    from ctr_kd.training.finetune import finetune_members
    from ctr_kd.training.loop import predict
    from ctr_kd.training.pretrain import pretrain

    config = context.config
    encoders = load_encoders(context.inputs["pretrain"], assembly, config)
    until = pretraining_until(context.inputs["pretrain"])
    if config.finetune.strategy != "from_scratch" and (until is None or until > fold.cutoff):  # it saw what is newer: once more, without
        for number, settings in enumerate(config.pretrain.of_each_encoder):
            earlier, _, _ = pretrain(assembly, settings, job_of(context, f"earlier_pretraining_{number}"), until=fold.cutoff)
            encoders[number].load_state_dict(earlier.state_dict())  # whose tables step as fine-tuning says, not as pretraining did
    model, _ = finetune_members(
        encoders,
        TrainingRows(signature=assembly.signature(), train=assembly.samples_of(fold.older), validation=validation),
        config.finetune,
        replace(job_of(context), folder=context.checkpoint / "earlier_finetuning"),
        pretraining_rate=config.pretrain.training.learning_rate,
    )
    new = torch.from_numpy(_new_items(context, assembly, fold.cutoff).astype(np.int64))
    with torch.no_grad():  # in histories too: what the vocabulary of that time lacked reads as any unknown item
        members: Any = model.members
        for member in members:
            for token in (member.pretrained.bert.token, member.token):
                table = token.embeddings()[0].weight
                table[new] = table[UNKNOWN].clone()
    return predict(model.to(choose_device(config.finetune.training)), newer)


def _new_items(context: StageContext, assembly: Assembly, cutoff: int) -> np.ndarray:
    """Indices of vocabulary items that a vocabulary fitted at the cutoff would not hold."""

    index = assembly.item_tokens[:, 0]
    few = assembly.click_counts(cutoff) < context.config.vocabulary.min_count
    return index[few & (index >= len(SPECIALS))]


def _without(samples: Samples, items: np.ndarray) -> Samples:
    """Samples in which some candidates are unknown."""

    pool = samples.b.pool.copy()
    pool[np.isin(pool[:, 0], items), 0] = UNKNOWN
    return replace(samples, b=replace(samples.b, pool=pool))
