"""What the training stages share: logits on disk by row id, the teachers, and learning curves for the tracking server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.contracts import DataError
from pipelines.runner import StageContext

if TYPE_CHECKING:
    from ctr_kd.baselines import BoostedTrees
    from ctr_kd.models.click_bert import ClickBert
    from ctr_kd.samples import Assembly
    from ctr_kd.training import Curve
    from pipelines.config import RunConfig

SPLITS = ("train", "validation", "test")


def write_predictions(path: Path, row_id: np.ndarray, logits: np.ndarray, model: str) -> None:
    """Store logits (rows, outputs) by row id, with the fingerprint of the model that gave them."""
    columns = {"row_id": pa.array(row_id), **{f"logit_{i}": pa.array(logits[:, i]) for i in range(logits.shape[1])}}
    pq.write_table(pa.table(columns).replace_schema_metadata({"model": model}), path)


def read_predictions(path: Path, model: str) -> tuple[np.ndarray, np.ndarray]:
    """Read what :func:`write_predictions` stored: row ids (rows,) and logits (rows, outputs).

    Raises
    ------
    DataError
        When the logits come from another model: stale logits are refused.
    """
    table = pq.read_table(path)
    found = (table.schema.metadata or {}).get(b"model", b"").decode()
    if found != model:
        raise DataError(f"{path} holds logits of model {found or '(unknown)'}, not of {model}: run with --from finetune --force")
    names = [name for name in table.column_names if name.startswith("logit_")]
    return table["row_id"].to_numpy(), np.stack([table[name].to_numpy() for name in names], axis=1)


def load_teacher(finetune: Path, assembly: Assembly, config: RunConfig) -> ClickBert:
    """The fine-tuned BERT with its click head, in eval mode, from an artifact of ``finetune``."""
    from ctr_kd.checkpoint import load_checkpoint
    from ctr_kd.models.click_bert import ClickBert
    from ctr_kd.pretraining import build_encoder

    signature = assembly.signature()
    encoder = build_encoder(assembly, signature, config.pretrain.encoder)
    model = ClickBert(encoder, signature, config.finetune)
    model.load_state_dict(load_checkpoint(finetune / "teacher.pt", finetune.name)["model"])
    return model.eval()


def kept_point(curve: Curve | Mapping[str, Any]) -> Mapping[str, float]:
    """What was measured of the checkpoint that was kept: the point of a learning curve at ``kept_step``.

    Empty where no validation was finite, hence nothing was kept.

    Examples
    --------
    >>> kept_point({"points": [{"step": 5, "auc": 0.7}, {"step": 9, "auc": 0.6}], "kept_step": 5})["auc"]
    0.7
    """
    curve = curve if isinstance(curve, Mapping) else curve.to_dict()
    return next((point for point in curve["points"] if point["step"] == curve["kept_step"]), {})


def fit_boosted_trees(rows: Mapping[str, pa.Table], summary: Mapping[str, Any], seed: int, report: Callable[[str], None]) -> BoostedTrees:
    """The trees that are a teacher in ``distill`` and a baseline in ``evaluate``: on the as-of statistics and the context.

    Parameters
    ----------
    rows : mapping of str to Table
        Rows of :class:`pipelines.raw_rows.RawRows` by split; ``train`` and ``validation`` are read.
    summary : mapping
        Of the assembly.
    seed : int
    report : callable
        Takes one line of progress.
    """
    from ctr_kd.baselines import BoostedTrees

    return BoostedTrees.fit(
        rows["train"],
        rows["train"]["label"].to_numpy(),
        rows["validation"],
        rows["validation"]["label"].to_numpy(),
        statistics=[*summary["statistics"], *summary["context"]["dense"]],
        categorical=summary["context"]["categorical"],
        seed=seed,
        report=report,
    )


def record_curve(context: StageContext, name: str, curve: Curve | Mapping[str, Any]) -> None:
    """Send a learning curve to the tracking server, one metric per figure and step."""
    points = curve["points"] if isinstance(curve, Mapping) else curve.points
    for point in points:
        for figure, value in point.items():
            if figure not in ("step", "score"):
                context.metric(f"{name}_{figure}", value, int(point["step"]))
