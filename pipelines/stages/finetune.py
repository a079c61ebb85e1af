"""Stage finetune: the pretrained encoders become the teacher, and its logits are stored once, by row id."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_store.tables.contracts import DataError
from feature_store.tables.json_files import write_json
from pipelines.stages.training import SPLITS, job_of, load_encoders, precision_of, record_curve, write_predictions
from pipelines.tracking.calls import flatten
from pipelines.workspace.artifacts import Artifact, read_json
from pipelines.workspace.context import RunContext, Stage, StageContext

if TYPE_CHECKING:
    from ctr_kd.data.samples import Samples
    from ctr_kd.data.texts import AnyAssembly
    from ctr_kd.models.bert import MaskedItemModel

LABELS = ("strategy", "rate_ratio", "layer_decay", "frozen_share")


def run(context: StageContext) -> None:
    """Train the teacher; writes ``teacher.pt``, ``training.json`` and ``predictions_{train,validation,test}.parquet``."""
    from ctr_kd.data.texts import open_assembly
    from ctr_kd.evaluation.throughput import parameter_count, rows_per_second
    from ctr_kd.training.checkpoint import save_checkpoint
    from ctr_kd.training.devices import choose_device
    from ctr_kd.training.finetune import finetune_members, validation_figures
    from ctr_kd.training.job import TrainingRows
    from ctr_kd.training.loop import predict
    from ctr_kd.training.pretrain import masked_item_accuracy, pretraining_sequences

    config = context.config
    assembly = open_assembly(context.inputs["ingest"], "teacher", config.history.max_length)
    encoders = load_encoders(context.inputs["pretrain"], assembly, config)
    if config.finetune.strategy == "next_segment":
        _need_next_segment_head(context.inputs["pretrain"])
    samples = {split: assembly.samples(split) for split in SPLITS}

    # What fine-tuning destroyed, of the first encoder: masked-item accuracy of the same held-out sequences before and after.
    until = pretraining_until(context.inputs["pretrain"])
    _, held_out = pretraining_sequences(assembly, config.pretrain, until, config.seed)
    before = masked_item_accuracy(encoders[0], held_out)
    negatives, drawn = _hard_negatives(context, assembly, encoders[0])
    model, curves = finetune_members(
        encoders,
        TrainingRows(signature=assembly.signature(), train=samples["train"], validation=samples["validation"]),
        config.finetune,
        job_of(context, processes=context.processes),
        pretraining_rate=config.pretrain.training.learning_rate,
        negatives=negatives,
    )
    if not context.processes.leads:
        return
    after = masked_item_accuracy(model.pretrained, held_out)
    file = context.output / "teacher.pt"
    save_checkpoint(file, {"model": model.state_dict()}, context.fingerprint)
    model.to(choose_device(config.finetune.training))  # the logits of all rows are as much work as an epoch
    for split in SPLITS:
        logits = predict(model, samples[split]).astype(precision_of(split))
        write_predictions(context.output / f"predictions_{split}.parquet", samples[split].row_id, logits, context.fingerprint)
    model.cpu()
    figure = curves[0].kept_figure[0]
    value = validation_figures(model, samples["validation"])[figure]  # of one member that of its kept checkpoint
    training = {
        "curve": curves[0].to_dict(),
        figure: value,
        "members": [
            {figure: curve.kept_figure[1], "seconds": round(curve.seconds, 1), "encoder": number // config.finetune.members}
            for number, curve in enumerate(curves)
        ],
        "held_out_sequences": len(held_out.start),
        "masked_item_accuracy": {"before": before["masked_item_accuracy"], "after": after["masked_item_accuracy"]},
        "masked_item_loss": {"before": before["masked_item_loss"], "after": after["masked_item_loss"]},
        **{key: getattr(config.finetune, key) for key in LABELS},
        **({"hard_negatives": drawn} if drawn else {}),
        "parameters": parameter_count(model),
        "bytes": file.stat().st_size,
        "rows_per_second": rows_per_second(model, samples["test"], share_histories=True),
        "rows_per_second_alone": rows_per_second(model, samples["test"], share_histories=False),
    }
    write_json(context.output / "training.json", training)
    for number, curve in enumerate(curves):
        record_curve(context, "teacher" if number == 0 else f"teacher_{number}", curve)
    context.record(
        {
            figure: value,
            "masked_item_accuracy_before": before["masked_item_accuracy"],
            "masked_item_accuracy_after": after["masked_item_accuracy"],
            "parameters": training["parameters"],
        }
    )


def _need_next_segment_head(pretrain: Path) -> None:
    untrained = {"pooler", "next_segment"} & set((read_json(pretrain / "training.json") or {}).get("untrained", ()))
    if untrained:
        raise DataError(
            f"pretrain.checkpoint holds no trained {' and no '.join(sorted(untrained))} head, which finetune.strategy: next_segment asks: "
            "use a BertForPreTraining, or another strategy"
        )


def _hard_negatives(context: StageContext, assembly: AnyAssembly, encoder: MaskedItemModel) -> tuple[Samples | None, dict[str, Any]]:
    """Hard negatives, where they are asked for, and how they were drawn; the first process draws them for all."""
    import pyarrow.parquet as pq

    from ctr_kd.data.samples import Assembly
    from feature_store.features.unlabelled_pairs import HARD_NEGATIVES
    from pipelines.stages.transfer import write_unmet

    settings, file = context.config.finetune.hard_negatives, context.output / "hard_negatives.parquet"
    if not settings.amount or not isinstance(assembly, Assembly):  # the configuration knows them of clicks alone
        return None, {}
    facts: dict[str, Any] = {}
    if context.processes.leads:
        facts = write_unmet(
            HARD_NEGATIVES,
            file,
            assembly,
            encoder,
            context.run,
            key="finetune.hard_negatives.amount",
            amount=settings.amount,
            neighbours=settings.neighbours,
            seed=context.config.seed,
            report=context.report,
        )
    facts = context.processes.tell(facts)
    return assembly.samples_of(pq.read_table(file)), facts


def others(run: RunContext) -> list[Artifact]:
    """Fine-tunings beside this run's, of the same rows and the same pretrained encoder, that are up to date in the workspace.

    Those that other code made are passed over: their figures cannot be compared.
    """
    own = run.artifacts["finetune"]
    same = [(own.manifest or {}).get(key) for key in ("inputs", "source")]
    found = [Artifact(path) for path in sorted(own.path.parent.iterdir()) if path != own.path]
    return [artifact for artifact in found if [(artifact.manifest or {}).get(key) for key in ("inputs", "source")] == same]


def compared(run: RunContext) -> list[dict[str, Any]]:
    """How this run's fine-tuning and the others were made, what they destroyed, and their AUC on validation."""
    own = run.artifacts["finetune"]
    shown = (*LABELS, "masked_item_accuracy", "masked_item_loss", "held_out_sequences", "auc", "accuracy")
    entries = []
    for artifact in (own, *others(run)):
        training = read_json(artifact.path / "training.json") or {}
        settings, usual = (flatten((one.manifest or {})["config"].get("finetune") or {}) for one in (artifact, own))
        different = {key: value for key, value in settings.items() if key not in LABELS and value != usual.get(key)}
        entry = {"fingerprint": artifact.path.name, "configured": artifact == own, "different": different}
        entries.append(entry | {key: training[key] for key in shown if key in training})
    return entries


def pretraining_until(pretrain: Path) -> int | None:
    """Time (microseconds UTC) before which the clicks were known that a pretraining saw, by its artifact; None for what has no times."""
    from feature_store.features.event_log import microseconds

    training = read_json(pretrain / "training.json") or {}
    return None if training["until"] is None else microseconds(datetime.fromisoformat(training["until"]))


STAGE = Stage(
    "finetune",
    run,
    upstream=("ingest", "pretrain"),
    keys=("seed", "history.max_length", "pretrain", "finetune"),
    shared=True,
)
