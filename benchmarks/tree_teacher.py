"""What boosted trees say of the rows of an assembly, for benchmarks that weigh them beside other teachers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.fitting import fit_boosted_trees
from pipelines.tasks.logits import SPLITS


def tree_logits(rows: ClickRows, seed: int, report: Callable[[str], None]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Row ids (rows,) and logits (rows, 1) by split."""
    tables = {split: rows.read(split) for split in SPLITS}
    fitted = fit_boosted_trees(rows, tables["train"], tables["validation"], seed, report)
    return {split: (table["row_id"].to_numpy(), fitted.logits(rows.described(table))) for split, table in tables.items()}
