"""The transfer set of stage distill: rows without labels from the store, and what the BERT says of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.runner import RunContext
from pipelines.stages.training import load_teacher

if TYPE_CHECKING:
    from ctr_kd.samples import Assembly, Samples
    from pipelines.config import RunConfig


def write_transfer_set(file: Path, assembly: Assembly, finetune: Path, run: RunContext, report: Callable[[str], object]) -> dict[str, Any]:
    """Write ``distill.transfer.amount`` of the training rows as rows without labels.

    What is near to what is asked of the fine-tuned encoder.

    Returns
    -------
    dict
        Rows asked for and made, of each half, and the index's ``kind`` and ``recall``.
    """
    from ctr_kd.retrieval import ItemIndex
    from ctr_kd.transfer import item_vectors, nearest_codes
    from feature_store.transfer import write_transfer_rows

    config, settings = run.config, run.config.distill.transfer
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


def bert_logits(finetune: Path, assembly: Assembly, config: RunConfig, rows: Samples) -> np.ndarray:
    """Logits (rows, 1) of the fine-tuned BERT for rows that its own stage did not see."""
    from ctr_kd.devices import choose_device
    from ctr_kd.training import predict

    return predict(load_teacher(finetune, assembly, config).to(choose_device(config.finetune.training)), rows)
