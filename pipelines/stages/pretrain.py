"""Stage pretrain: a BERT learns from sequences, of clicks or of words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctr_kd.data.texts import TextAssembly
from feature_store.features.event_log import microseconds
from feature_store.tables.contracts import DataError
from pipelines.tasks import task_of
from pipelines.training.bert import pretrained_weights, pretraining_until
from pipelines.training.continued import config_of, earlier_model, from_parent, parent_of_stage
from pipelines.training.facts import EncoderFacts, PretrainingFacts
from pipelines.training.jobs import job_of, record_curve
from pipelines.workspace.context import Stage, StageContext

if TYPE_CHECKING:
    from ctr_kd.models.bert import MaskedItemModel
    from ctr_kd.training.pretrain import EarlierEncoder


def pretrain_encoders(context: StageContext) -> None:
    """Train each encoder, or take over a checkpoint's; writes ``pretrained.pt``, those of further encoders, and ``training.json``."""
    from ctr_kd.training.pretrain import pretrain

    config = config_of(context)
    if config.pretrain.checkpoint is not None:
        adopt(context, config.pretrain.checkpoint)
        return
    assembly = task_of(config).assembly(context.inputs["ingest"], "teacher")
    labels_begin, until = assembly.training_window()
    if config.pretrain.clicks == "before_labels" and until is not None:
        until = before_labels(context, assembly, labels_begin) or until
    moment = None if until is None else microseconds(until)
    trained = []
    for number, settings in enumerate(config.pretrain.of_each_encoder):
        if config.pretrain.more_encoders:
            context.report(f"encoder {number}: {settings.encoder.layers} layers of {settings.encoder.width}")
        job = job_of(context, f"training_{number}", context.processes)
        model, curve, facts = pretrain(assembly, settings, job, until=moment, earlier=earlier_encoder(context, number))
        if context.processes.leads:
            trained.append(keep_weights(context, model, facts, number).model_copy(update={"curve": curve}))
            if curve is not None:
                record_curve(context, "pretraining" if number == 0 else f"pretraining_{number}", curve)
    if context.processes.leads:
        write_training(context, trained, {"until": until})


def earlier_encoder(context: StageContext, number: int) -> EarlierEncoder | None:
    """The encoder that a training continues with; None where the run began anew."""
    from ctr_kd.training.pretrain import EarlierEncoder

    parent, model = parent_of_stage(context), earlier_model(context, "pretrain", pretrained_weights(Path(), number).name)
    if parent is None or model is None:
        return None
    since = pretraining_until(parent.folder(context.workspace, "pretrain")) or 0
    return EarlierEncoder(model.weights, model.growth, since=since, replay=context.config.warm.replay)


def before_labels(context: StageContext, assembly: Any, labels_begin: datetime | None) -> datetime | None:
    """Where the labels begin; None, and a line that says so, where too little is known before them to learn from."""
    if labels_begin is None:
        context.report(
            "pretrain.clicks: before_labels has no effect: the labels begin with the log, so all clicks of training are seen; "
            "split.train_from leaves some before them"
        )
        return None
    sequences = assembly.sequences(microseconds(labels_begin))
    users = len(np.unique(assembly.users_of(sequences)))
    if users < 2:  # some learn, and others say what was learned
        context.report(
            f"pretrain.clicks: before_labels has no effect: {users} users have two clicks before the labels begin "
            f"({labels_begin.isoformat()}), so all clicks of training are seen; "
            "a shorter training window (split.train, split.train_from) leaves some before them"
        )
        return None
    return labels_begin


def adopt(context: StageContext, checkpoint: str) -> None:
    """Take over the BERT that the store holds under the name of ``pretrain.checkpoint``, and measure what it knows of these texts.

    Raises
    ------
    DataError
        When it does not fit the configuration or the teacher's vocabulary.
    """
    from ctr_kd.huggingface.convert import InterchangeError, adopt_bert
    from ctr_kd.training.pretrain import build_encoder, masked_item_accuracy, pretraining_sequences

    if not context.processes.leads:
        return
    config = context.config
    folder = context.store.resource(f"{checkpoint}/config.json").parent
    context.store.verify_files(folder / name for name in context.store.resource_digests(checkpoint))  # what is read, and no more
    assembly = TextAssembly(context.inputs["ingest"], "teacher")
    model = build_encoder(assembly, assembly.signature(), config.pretrain.encoder).eval()
    try:
        untrained = adopt_bert(model, folder, assembly.words())
    except InterchangeError as error:
        raise DataError(f"pretrain.checkpoint: {error}") from None
    if untrained:
        context.report(f"{checkpoint} has no {' and no '.join(untrained)} head: it begins at random")
    _, held_out = pretraining_sequences(assembly, config.pretrain, None, config.seed)
    facts = masked_item_accuracy(model, held_out)
    facts.pop("score")
    more = {"until": None, "checkpoint": context.store.resource_digests(checkpoint), "untrained": untrained}
    write_training(context, [keep_weights(context, model, facts)], more)


def keep_weights(context: StageContext, model: MaskedItemModel, facts: dict[str, float], number: int = 0) -> EncoderFacts:
    """Write the weights of an encoder; returns what is known of it."""
    from ctr_kd.evaluation.throughput import parameter_count
    from ctr_kd.training.checkpoint import save_checkpoint

    weights = pretrained_weights(context.output, number)
    save_checkpoint(weights, {"model": model.state_dict()}, context.fingerprint)
    return EncoderFacts(facts=facts, parameters=parameter_count(model), bytes=weights.stat().st_size)


def write_training(context: StageContext, trained: Sequence[EncoderFacts], more: Mapping[str, Any]) -> None:
    """Write what is known of the first encoder, and under ``more_encoders`` of the others."""
    first, *others = trained
    PretrainingFacts.from_json({**first.to_json(), **more, "more_encoders": others}).write(context.output)
    context.record({**first.facts, "parameters": first.parameters})


STAGE = Stage(
    "pretrain",
    pretrain_encoders,
    upstream=("ingest",),
    keys=("seed", "history.max_length", "pretrain"),
    outside=from_parent("pretrain"),
    shared=True,
)
