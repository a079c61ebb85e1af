"""Rows without labels that the teachers judge for the student, and hard negatives for the teacher: how they are drawn and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ctr_kd.data.samples import Assembly, Samples
from ctr_kd.data.texts import AnyAssembly, TextAssembly
from feature_store.features.unlabelled_pairs import HARD_NEGATIVES, TRANSFER_SET, NoPairs, Purpose, write_unmet_rows
from feature_store.tables.contracts import DataError
from pipelines.config.run import TaskName
from pipelines.tasks import task_of
from pipelines.training.bert import load_teacher
from pipelines.training.facts import MadeTextFacts, PairFacts, TransferFacts
from pipelines.workspace.context import StageContext

if TYPE_CHECKING:
    from ctr_kd.models.bert import MaskedItemModel

TRANSFER_FILE = "transfer.parquet"  # in the artifact beside what the teachers say of them
NEGATIVES_FILE = "hard_negatives.parquet"


@dataclass(frozen=True)
class Draw:
    """How rows of users and items that never met are drawn.

    Attributes
    ----------
    key : str
        Of the configuration, where ``amount`` is set.
    amount : float
        Rows, as a share of the training rows.
    neighbours : int
        Nearest items that are asked for of each item.
    seed : int
    """

    key: str
    amount: float
    neighbours: int
    seed: int


def transfer_rows(context: StageContext, assembly: AnyAssembly) -> tuple[Samples, TransferFacts]:
    """The configured transfer set, written beside what is made of it, and what the report says of it."""
    file = context.output / TRANSFER_FILE
    facts = WRITERS[context.config.task](context, assembly, file)
    return assembly.samples_of_file(file), facts


def write_texts(context: StageContext, assembly: TextAssembly, file: Path) -> MadeTextFacts:
    """Write unlabelled and augmented texts."""
    settings = context.config.distill.transfer
    rows, wanted = assembly.unlabelled(settings.amount, settings.seed)
    made = assembly.augmented(settings.augmentation, settings.seed)
    made_of = round(settings.augmentation.amount * len(assembly.samples("train")))
    pq.write_table(pa.concat_tables([rows, made]), file)
    context.report(
        f"transfer set: {rows.num_rows:,} unlabelled texts of {wanted:,} asked for, {made.num_rows:,} augmented ones of {made_of:,}"
    )
    return MadeTextFacts(wanted=wanted + made_of, rows=rows.num_rows + made.num_rows, augmented=made.num_rows)


def write_pairs(context: StageContext, assembly: Assembly, file: Path) -> PairFacts:
    """Write users and items that never met; what is near to an item is asked of the fine-tuned encoder. See :func:`write_unmet`."""

    settings = context.config.distill.transfer
    own = task_of(context.config).assembly(context.inputs["ingest"], "teacher")
    encoder = load_teacher(context.inputs["finetune"], own, context.config).pretrained
    draw = Draw("distill.transfer.amount", settings.amount, settings.neighbours, settings.seed)
    return write_unmet(TRANSFER_SET, context, assembly, encoder, draw, file=file)


WRITERS: Mapping[TaskName, Callable[[StageContext, Any, Path], TransferFacts]] = {"clicks": write_pairs, "texts": write_texts}


def write_hard_negatives(context: StageContext, assembly: Assembly, encoder: MaskedItemModel) -> PairFacts:
    """Write the configured hard negatives; see :func:`write_unmet`."""

    settings = context.config.finetune.hard_negatives
    draw = Draw("finetune.hard_negatives.amount", settings.amount, settings.neighbours, context.config.seed)
    return write_unmet(HARD_NEGATIVES, context, assembly, encoder, draw, file=context.output / NEGATIVES_FILE)


def write_unmet(
    purpose: Purpose, context: StageContext, assembly: Assembly, encoder: MaskedItemModel, draw: Draw, *, file: Path
) -> PairFacts:
    """Write rows of users and items that never met; what is near is asked of ``encoder``.

    Raises
    ------
    DataError
        When there would be no row, naming the key.
    """
    from ctr_kd.retrieval.item_index import ItemIndex
    from ctr_kd.retrieval.unlabelled_pairs import item_vectors, nearest_codes

    config, index = context.config, ItemIndex(item_vectors(encoder))
    context.report(f"{purpose.title}: nearest of {len(index):,} items, {index.kind} search, recall@10 {index.recall:.3f}")
    try:
        facts = write_unmet_rows(
            purpose,
            context.store,
            assembly.directory,
            file,
            config=config.assembly,
            engine_config=config.feature_store,
            as_of=context.as_of,
            nearest=nearest_codes(assembly, index, draw.neighbours),
            amount=draw.amount,
            seed=draw.seed,
            report=context.report,
        )
    except NoPairs as error:
        raise DataError(f"{error}, or set {draw.key}: 0") from None
    if config.embeddings is not None:
        from pipelines.tasks.vector_columns import add_columns

        add_columns(context.workspace, assembly.directory, file, config.assembly)
    if assembly.summary.teacher_state is not None:
        from pipelines.tasks import teacher_states

        teacher_states.add_columns(context.workspace, assembly.directory, file, assembly.summary.teacher_state)
    return PairFacts.from_json({**facts, "index": index.kind, "recall": index.recall})
