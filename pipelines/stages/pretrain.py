"""Stage pretrain: a BERT learns from click sequences what follows what."""

from __future__ import annotations

from datetime import datetime

from pipelines.artifacts import write_json
from pipelines.runner import Stage, StageContext
from pipelines.stages.training import record_curve


def run(context: StageContext) -> None:
    """Train the encoder; writes ``pretrained.pt`` and ``training.json``."""
    from ctr_kd.checkpoint import save_checkpoint
    from ctr_kd.pretraining import pretrain
    from ctr_kd.samples import Assembly
    from ctr_kd.throughput import parameter_count
    from feature_store.log import microseconds

    config = context.config
    assembly = Assembly(context.inputs["ingest"], config.history.max_length)
    signature = assembly.signature()
    split = assembly.summary["split"]
    until = split["train_until"]
    if config.pretrain.clicks == "before_labels":
        if split["train_from"] is None:
            context.report(
                "pretrain.clicks: before_labels has no effect: the labels begin with the log, so all clicks of training are seen; "
                "split.train_from leaves some before them"
            )
        until = split["train_from"] or until
    moment = microseconds(datetime.fromisoformat(until))
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


STAGE = Stage("pretrain", run, code_version=3, upstream=("ingest",), keys=("seed", "history.max_length", "pretrain"), shared=True)
