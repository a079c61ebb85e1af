"""Rows without labels from the store, for stages finetune and distill, and what the BERT says of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.tables.contracts import DataError
from pipelines.stages.training import load_teacher
from pipelines.workspace.context import RunContext

if TYPE_CHECKING:
    from ctr_kd.data.samples import Assembly, Samples
    from ctr_kd.data.texts import AnyAssembly
    from ctr_kd.models.bert import MaskedItemModel
    from feature_store.features.unlabelled_pairs import Purpose
    from pipelines.config.run import RunConfig


def write_transfer_set(
    file: Path, assembly: AnyAssembly, finetune: Path, run: RunContext, report: Callable[[str], object]
) -> dict[str, Any]:
    """Write the configured rows without labels: unlabelled and augmented texts, or of clicks what :func:`write_unmet` finds.

    What is near to an item is asked of the fine-tuned encoder.

    Returns
    -------
    dict
        Rows asked for and made, of texts also how many of them are ``augmented``; of clicks what :func:`write_unmet` says.
    """
    from ctr_kd.data.texts import TextAssembly
    from feature_store.features.unlabelled_pairs import TRANSFER_SET

    settings = run.config.distill.transfer
    if isinstance(assembly, TextAssembly):
        rows, wanted = assembly.unlabelled(settings.amount, settings.seed)
        made = assembly.augmented(settings.augmentation, settings.seed)
        made_of = round(settings.augmentation.amount * len(assembly.samples("train")))
        pq.write_table(pa.concat_tables([rows, made]), file)
        report(f"transfer set: {rows.num_rows:,} unlabelled texts of {wanted:,} asked for, {made.num_rows:,} augmented ones of {made_of:,}")
        return {"wanted": wanted + made_of, "rows": rows.num_rows + made.num_rows, "augmented": made.num_rows}
    encoder = load_teacher(finetune, assembly, run.config).pretrained
    return write_unmet(
        TRANSFER_SET,
        file,
        assembly,
        encoder,
        run,
        key="distill.transfer.amount",
        amount=settings.amount,
        neighbours=settings.neighbours,
        seed=settings.seed,
        report=report,
    )


def write_unmet(
    purpose: Purpose,
    file: Path,
    assembly: Assembly,
    encoder: MaskedItemModel,
    run: RunContext,
    *,
    key: str,
    amount: float,
    neighbours: int,
    seed: int,
    report: Callable[[str], object],
) -> dict[str, Any]:
    """Write rows of users and items that never met, ``amount`` of the training rows; what is near is asked of ``encoder``.

    Parameters
    ----------
    key : str
        Of the configuration, where ``amount`` is set.

    Returns
    -------
    dict
        Rows asked for and made, of each draw, and the index's ``kind`` and ``recall``.

    Raises
    ------
    DataError
        When there would be no row, naming the key.
    """
    from ctr_kd.retrieval.item_index import ItemIndex
    from ctr_kd.retrieval.unlabelled_pairs import item_vectors, nearest_codes
    from feature_store.features.unlabelled_pairs import NoPairs, write_unmet_rows

    index = ItemIndex(item_vectors(encoder))
    report(f"{purpose.title}: nearest of {len(index):,} items, {index.kind} search, recall@10 {index.recall:.3f}")
    nearest = nearest_codes(assembly, index, neighbours)
    try:
        facts = write_unmet_rows(
            purpose,
            run.store,
            assembly.directory,
            file,
            config=run.config.assembly,
            engine_config=run.config.feature_store,
            as_of=run.as_of,
            nearest=nearest,
            amount=amount,
            seed=seed,
            report=report,
        )
    except NoPairs as error:
        raise DataError(f"{error}, or set {key}: 0") from None
    return {**facts, "index": index.kind, "recall": index.recall}


def bert_logits(finetune: Path, assembly: AnyAssembly, config: RunConfig, rows: Samples) -> np.ndarray:
    """Logits (rows, outputs) of the fine-tuned BERT for rows that its own stage did not see."""
    from ctr_kd.training.devices import choose_device
    from ctr_kd.training.loop import predict

    return predict(load_teacher(finetune, assembly, config).to(choose_device(config.finetune.training)), rows)
