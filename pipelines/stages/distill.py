"""Stage distill: the frozen teacher's stored logits teach the student; the same student is trained alone beside it."""

from __future__ import annotations

from pipelines.artifacts import write_json
from pipelines.runner import Stage, StageContext
from pipelines.stages.training import SPLITS, read_predictions, record_curve, write_predictions


def run(context: StageContext) -> None:
    """Train both students; writes their weights, logits, ``training.json`` and the exported student under ``export/``."""
    from ctr_kd.checkpoint import load_checkpoint, save_checkpoint
    from ctr_kd.distilling import align_logits, train_student
    from ctr_kd.export import export_student
    from ctr_kd.models import STUDENTS
    from ctr_kd.samples import Assembly
    from ctr_kd.throughput import parameter_count
    from ctr_kd.training import predict

    config = context.config
    assembly = Assembly(context.inputs["ingest"], config.history.max_length)
    signature = assembly.signature()
    samples = {split: assembly.samples(split) for split in SPLITS}
    row_id, logit = read_predictions(context.inputs["finetune"] / "predictions_train.parquet", context.inputs["finetune"].name)
    teacher = align_logits(row_id, logit, samples["train"])
    training = {}
    for name, target in (("student", teacher), ("student_alone", None)):
        file = context.checkpoint / f"{name}.pt"
        finished = context.checkpoint / f"{name}.done.pt"
        if finished.exists():  # a run killed between the two students need not repeat the first
            state = load_checkpoint(finished, context.fingerprint)
            model = STUDENTS[config.distill.student.kind](signature, config.distill.student)
            model.load_state_dict(state["model"])
            model.eval()
            curve = state["curve"]
        else:
            context.report(f"{name.replace('_', ' ')} ({config.distill.student.kind})")
            model, fitted = train_student(
                signature,
                samples["train"],
                samples["validation"],
                target,
                config.distill,
                config.seed,
                context.fingerprint,
                file,
                context.report,
            )
            curve = fitted.to_dict()
            save_checkpoint(finished, {"model": model.state_dict(), "curve": curve}, context.fingerprint)
        save_checkpoint(context.output / f"{name}.pt", {"model": model.state_dict()}, context.fingerprint)
        for split in SPLITS[1:]:
            logits = predict(model, samples[split])
            write_predictions(context.output / f"predictions_{name}_{split}.parquet", samples[split].row_id, logits, context.fingerprint)
        training[name] = {"curve": curve, "parameters": parameter_count(model), "kind": config.distill.student.kind}
        if name == "student":
            export_student(model, signature, assembly, context.output / "export")
            training[name]["bytes"] = (context.output / "export" / "student.onnx").stat().st_size
        record_curve(context, name, curve)
    training["student_alone"]["bytes"] = training["student"]["bytes"]  # the same architecture
    write_json(context.output / "training.json", training)
    context.record({f"{name}_auc": facts["curve"]["points"][-1]["auc"] for name, facts in training.items()})


STAGE = Stage("distill", run, upstream=("ingest", "finetune"), keys=("seed", "history.max_length", "distill"))
