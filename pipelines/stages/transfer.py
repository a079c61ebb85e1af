"""The transfer set of stage distill: rows without labels from the store, and what the BERT says of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from pipelines.runner import RunContext
from pipelines.stages.training import load_teacher

if TYPE_CHECKING:
    from ctr_kd.samples import Samples
    from ctr_kd.texts import AnyAssembly
    from pipelines.config import RunConfig


def write_transfer_set(
    file: Path, assembly: AnyAssembly, finetune: Path, run: RunContext, report: Callable[[str], object]
) -> dict[str, Any]:
    """Write ``distill.transfer.amount`` of the training rows as rows without labels: unlabelled texts, or users with items new to them.

    What is near to an item is asked of the fine-tuned encoder.

    Returns
    -------
    dict
        Rows asked for and made; of clicks those of each half too, and the index's ``kind`` and ``recall``.
    """
    from ctr_kd.retrieval import ItemIndex
    from ctr_kd.texts import TextAssembly
    from ctr_kd.transfer import item_vectors, nearest_codes
    from feature_store.transfer import write_transfer_rows

    config, settings = run.config, run.config.distill.transfer
    if isinstance(assembly, TextAssembly):
        rows, wanted = assembly.unlabelled(settings.amount, settings.seed)
        pq.write_table(rows, file)
        report(f"transfer set: {rows.num_rows:,} unlabelled texts of {wanted:,} asked for")
        return {"wanted": wanted, "rows": rows.num_rows}
    index = ItemIndex(item_vectors(load_teacher(finetune, assembly, config).pretrained))
    report(f"transfer set: nearest of {len(index):,} items, {index.kind} search, recall@10 {index.recall:.3f}")
    nearest = nearest_codes(assembly, index, settings.neighbours)
    facts = write_transfer_rows(
        run.store,
        assembly.directory,
        config.assembly,
        config.feature_store,
        run.as_of,
        nearest,
        settings.amount,
        settings.seed,
        file,
        report,
    )
    return {**facts, "index": index.kind, "recall": index.recall}


def bert_logits(finetune: Path, assembly: AnyAssembly, config: RunConfig, rows: Samples) -> np.ndarray:
    """Logits (rows, outputs) of the fine-tuned BERT for rows that its own stage did not see."""
    from ctr_kd.devices import choose_device
    from ctr_kd.training import predict

    return predict(load_teacher(finetune, assembly, config).to(choose_device(config.finetune.training)), rows)
