"""Stage finetune: the pretrained encoders become the teacher, and its logits are stored once, by row id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ctr_kd.data.samples import Assembly, Samples
from ctr_kd.data.texts import AnyAssembly
from ctr_kd.training.job import TrainingRows
from feature_store.tables.contracts import DataError
from pipelines.tasks import task_of
from pipelines.tasks.logits import SPLITS, in_precision, write_predictions
from pipelines.training.bert import TEACHER, load_encoders, pretraining_until
from pipelines.training.continued import config_of, earlier_model, from_parent
from pipelines.training.facts import BeforeAndAfter, FinetuningFacts, PairFacts, PretrainingFacts
from pipelines.training.fine_tunings import STRATEGY
from pipelines.training.jobs import job_of, record_curve
from pipelines.training.side_by_side import train_side_by_side
from pipelines.training.transfer_set import NEGATIVES_FILE, write_hard_negatives
from pipelines.workspace.context import Stage, StageContext

if TYPE_CHECKING:
    from ctr_kd.models.bert import MaskedItemModel
    from ctr_kd.models.teachers import Member
    from ctr_kd.training.learning_curve import LearningCurve


def finetune_teacher(context: StageContext) -> None:
    """Train the teacher; writes ``teacher.pt``, ``training.json`` and ``predictions_{train,validation,test}.parquet``."""
    from ctr_kd.evaluation.throughput import parameter_count, rows_per_second
    from ctr_kd.models.ensemble import Ensemble
    from ctr_kd.training.checkpoint import save_checkpoint
    from ctr_kd.training.devices import autocast, choose_device
    from ctr_kd.training.finetune import encoder_ratio, figures_of, member_count
    from ctr_kd.training.loop import predict
    from ctr_kd.training.pretrain import masked_item_accuracy, pretraining_sequences

    config = config_of(context)
    assembly = task_of(config).assembly(context.inputs["ingest"], "teacher")
    encoders = load_encoders(context.inputs["pretrain"], assembly, config)
    if config.finetune.strategy == "next_segment":
        _need_next_segment_head(context.inputs["pretrain"])
    samples = {split: assembly.samples(split) for split in SPLITS}

    # What fine-tuning destroyed, of the first encoder: masked-item accuracy of the same held-out sequences before and after.
    until = pretraining_until(context.inputs["pretrain"])
    _, held_out = pretraining_sequences(assembly, config.pretrain, until, config.seed)
    device = choose_device(config.finetune.training, context.processes.local_rank)
    before = masked_item_accuracy(encoders[0].to(device), held_out)
    encoders[0].cpu()
    negatives, drawn = _hard_negatives(context, assembly, encoders[0])
    members = train_side_by_side(
        context,
        [str(number) for number in range(member_count(encoders, config.finetune))],
        lambda number: _finetune_member(context, number, assembly, encoders, samples, negatives=negatives),
        finetune_elsewhere,
        settings=config.finetune.training,
        rows=len(samples["train"]),
        large_steps=config.pretrain.checkpoint is not None,  # a released BERT
    )
    model, curves = Ensemble([member for member, _ in members.values()]).eval(), [curve for _, curve in members.values()]
    if not context.processes.leads:
        return
    file = context.output / TEACHER
    save_checkpoint(file, {"model": model.state_dict()}, context.fingerprint)
    model.to(device)  # the logits of all rows are as much work as an epoch
    after = masked_item_accuracy(model.pretrained, held_out)
    figures: dict[str, float] = {}
    for split in SPLITS:
        # In the precision of its training, as a transfer set is labelled: nearly all of the work is the encoder's, which a GPU does several
        # times faster in bfloat16, as does a processor that has it; on another autocast is off. Heads stay single, so ties stay as rare.
        with autocast(config.finetune.training, device):
            said = predict(model, samples[split], folder=context.output)
        if split == "validation":
            figures = figures_of(said, samples[split])  # of one member those of its kept checkpoint, but for the precision
        stored = context.output / f"predictions_{split}.parquet"
        write_predictions(stored, samples[split].row_id, in_precision(said, split, context.output), context.fingerprint, assembly.labels)
    model.cpu()
    figure = curves[0].kept_figure[0]
    value = figures[figure]
    change = {name: BeforeAndAfter(before=before[name], after=after[name]) for name in ("masked_item_accuracy", "masked_item_loss")}
    training = FinetuningFacts.from_json(
        {
            "curve": curves[0],
            figure: value,
            "members": [
                {figure: curve.kept_figure[1], "seconds": round(curve.seconds, 1), "encoder": number // config.finetune.members}
                for number, curve in enumerate(curves)
            ],
            "held_out_sequences": len(held_out.start),
            **change,
            **{key: getattr(config.finetune, key) for key in STRATEGY},
            "rate_ratio": encoder_ratio(config.finetune, config.pretrain.training.learning_rate),
            **({} if drawn is None else {"hard_negatives": drawn}),
            "parameters": parameter_count(model),
            "bytes": file.stat().st_size,
            "rows_per_second": rows_per_second(model, samples["test"], share_histories=True),
            "rows_per_second_alone": rows_per_second(model, samples["test"], share_histories=False),
        }
    )
    training.write(context.output)
    for number, curve in enumerate(curves):
        record_curve(context, "teacher" if number == 0 else f"teacher_{number}", curve)
    context.record(
        {
            figure: value,
            "masked_item_accuracy_before": before["masked_item_accuracy"],
            "masked_item_accuracy_after": after["masked_item_accuracy"],
            "parameters": training.parameters,
        }
    )


def finetune_elsewhere(context: StageContext, number: str) -> None:
    """Fine-tune one member in a process of its own; it is left in the checkpoint folder."""
    config = config_of(context)
    assembly = task_of(config).assembly(context.inputs["ingest"], "teacher")
    encoders = load_encoders(context.inputs["pretrain"], assembly, config)
    samples = {split: assembly.samples(split) for split in ("train", "validation")}
    negatives = _written_negatives(context, assembly) if config.finetune.hard_negatives.amount else None
    _finetune_member(context, number, assembly, encoders, samples, negatives=negatives)


def _finetune_member(
    context: StageContext,
    number: str,
    assembly: AnyAssembly,
    encoders: Sequence[MaskedItemModel],
    samples: Mapping[str, Samples],
    *,
    negatives: Samples | None,
) -> tuple[Member, LearningCurve]:
    from ctr_kd.training.finetune import finetune_member

    config = config_of(context)
    return finetune_member(
        encoders,
        int(number),
        TrainingRows(signature=assembly.signature(), train=samples["train"], validation=samples["validation"]),
        config.finetune,
        job_of(context, processes=context.processes),
        pretraining_rate=config.pretrain.training.learning_rate,
        negatives=negatives,
        earlier=earlier_model(context, "finetune", TEACHER),
    )


def _need_next_segment_head(pretrain: Path) -> None:
    untrained = {"pooler", "next_segment"} & set(PretrainingFacts.read(pretrain).untrained)
    if untrained:
        raise DataError(
            f"pretrain.checkpoint holds no trained {' and no '.join(sorted(untrained))} head, which finetune.strategy: next_segment asks: "
            "use a BertForPreTraining, or another strategy"
        )


def _hard_negatives(context: StageContext, assembly: AnyAssembly, encoder: MaskedItemModel) -> tuple[Samples | None, PairFacts | None]:
    """Hard negatives, where they are asked for, and how they were drawn; the first process draws them for all."""
    if not context.config.finetune.hard_negatives.amount:
        return None, None
    clicks = cast("Assembly", assembly)  # the configuration knows them of clicks alone
    facts = write_hard_negatives(context, clicks, encoder).to_json() if context.processes.leads else {}
    facts = context.processes.tell(facts)  # and wait until they are written
    return _written_negatives(context, assembly), PairFacts.from_json(facts)


def _written_negatives(context: StageContext, assembly: AnyAssembly) -> Samples:
    return assembly.samples_of_file(context.output / NEGATIVES_FILE)


STAGE = Stage(
    "finetune",
    finetune_teacher,
    upstream=("ingest", "pretrain"),
    keys=("seed", "history.max_length", "labels", "pretrain", "finetune", "teacher_only.future_clicks"),
    outside=from_parent("finetune"),
    shared=True,
)
