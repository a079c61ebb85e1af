"""Stage pretrain: a BERT learns from sequences, of clicks or of words, what stands where."""

from __future__ import annotations

from datetime import datetime

from pipelines.artifacts import write_json
from pipelines.runner import Stage, StageContext
from pipelines.stages.training import record_curve


def run(context: StageContext) -> None:
    """Train the encoder; writes ``pretrained.pt`` and ``training.json``."""
    from ctr_kd.checkpoint import save_checkpoint
    from ctr_kd.pretraining import pretrain
    from ctr_kd.texts import open_assembly
    from ctr_kd.throughput import parameter_count
    from feature_store.log import microseconds

    config = context.config
    assembly = open_assembly(context.inputs["ingest"], "teacher", config.history.max_length)
    signature = assembly.signature()
    labels_begin, until = assembly.training_window()
    if config.pretrain.clicks == "before_labels" and until is not None:
        if labels_begin is None:
            context.report(
                "pretrain.clicks: before_labels has no effect: the labels begin with the log, so all clicks of training are seen; "
                "split.train_from leaves some before them"
            )
        until = labels_begin or until
    moment = None if until is None else microseconds(datetime.fromisoformat(until))
    model, curve, facts = pretrain(
        assembly,
        signature,
        config.pretrain,
        moment,
        config.seed,
        context.fingerprint,
        context.checkpoint / "training.pt",
        context.report,
        context.processes,
    )
    if not context.processes.leads:
        return
    weights = context.output / "pretrained.pt"
    save_checkpoint(weights, {"model": model.state_dict()}, context.fingerprint)
    training = {
        "until": until,
        "curve": curve.to_dict(),
        "facts": facts,
        "parameters": parameter_count(model),
        "bytes": weights.stat().st_size,
    }
    write_json(context.output / "training.json", training)
    record_curve(context, "pretraining", curve)
    context.record({**facts, "parameters": training["parameters"]})


STAGE = Stage("pretrain", run, code_version=4, upstream=("ingest",), keys=("seed", "history.max_length", "pretrain"), shared=True)
