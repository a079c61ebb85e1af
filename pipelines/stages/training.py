"""What the training stages share: logits on disk by row id, the teachers, a student, and learning curves for the tracking server."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ctr_kd.training.distributed import ALONE, Processes
from ctr_kd.training.job import TrainingJob, TrainingRows
from ctr_kd.training.learning_curve import LearningCurve
from feature_store.features.summary import ClickSummary
from feature_store.tables.contracts import DataError
from pipelines.workspace.context import StageContext

if TYPE_CHECKING:
    from torch import nn

    from ctr_kd.baselines.clicks import BoostedTrees
    from ctr_kd.data.texts import AnyAssembly
    from ctr_kd.models.bert import MaskedItemModel
    from ctr_kd.models.ensemble import Ensemble
    from pipelines.config.run import RunConfig

SPLITS = ("train", "validation", "test")
TAUGHT = ("train", "transfer")  # what a student learns from
TIMED_ROWS, TIMED_SECONDS = 50_000, 2.0


def write_predictions(path: Path, row_id: np.ndarray, logits: np.ndarray, model: str) -> None:
    """Store logits (rows, outputs) by row id, with the fingerprint of the model that gave them."""
    columns = {"row_id": pa.array(row_id), **{f"logit_{i}": pa.array(logits[:, i]) for i in range(logits.shape[1])}}
    pq.write_table(pa.table(columns).replace_schema_metadata({"model": model}), path)


def precision_of(split: str) -> type[np.floating]:
    """In which logits are stored: half where a student learns from them, single where they are measured and ties would count.

    Half precision has eleven binary digits: a logit of 4 is kept to .002, far below what two seeds of a teacher differ by.

    Examples
    --------
    >>> precision_of("train").__name__, precision_of("test").__name__
    ('float16', 'float32')
    """
    return np.float16 if split in TAUGHT else np.float32


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


def stored_probabilities(file: Path) -> np.ndarray:
    """Probabilities that a stage stored in its artifact as logits, in the order of the row ids: of clicks (rows,), or (rows, classes)."""
    row_id, logit = read_predictions(file, file.parent.name)
    return probabilities(logit[np.argsort(row_id)])


def probabilities(logit: np.ndarray) -> np.ndarray:
    """Probabilities of logits (rows, outputs), in double precision: of clicks (rows,) for one output, else of classes.

    Examples
    --------
    >>> probabilities(np.array([[0.0]])).tolist(), probabilities(np.array([[0.0, 0.0]])).tolist()
    ([0.5], [[0.5, 0.5]])
    """
    logit = logit.astype(np.float64)
    if logit.shape[1] == 1:
        return 1.0 / (1.0 + np.exp(-logit[:, 0]))
    odds = np.exp(logit - logit.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def rate_of(score: Callable[[Any], Any], rows: pa.Table) -> float | None:
    """Rows per second of a function over rows, warmed up once."""
    count = min(rows.num_rows, TIMED_ROWS)
    if not count:
        return None
    rows = rows.slice(0, count)
    score(rows)
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < TIMED_SECONDS:
        score(rows)
        done += count
    return done / (time.perf_counter() - began)


def load_teacher(finetune: Path, assembly: AnyAssembly, config: RunConfig) -> Ensemble:
    """The fine-tuned BERTs with their heads, in eval mode, from an artifact of ``finetune``; the assembly is the teacher's."""
    from ctr_kd.models.teachers import build_teacher
    from ctr_kd.training.checkpoint import load_weights

    model = build_teacher(untrained_encoders(assembly, config), assembly.signature(), config.finetune)
    load_weights(model, finetune / "teacher.pt", finetune.name)
    return model.eval()


def untrained_encoders(assembly: AnyAssembly, config: RunConfig) -> list[MaskedItemModel]:
    """The configured encoders, each with the weights that its pretraining begins with."""
    import torch

    from ctr_kd.training.pretrain import build_encoder

    encoders = []
    for settings in config.pretrain.of_each_encoder:
        torch.manual_seed(config.seed)
        encoders.append(build_encoder(assembly, assembly.signature(), settings.encoder))
    return encoders


def load_encoders(pretrain: Path, assembly: AnyAssembly, config: RunConfig) -> list[MaskedItemModel]:
    """What fine-tuning begins with: the pretrained encoders, or for ``from_scratch`` what they were before pretraining."""
    from ctr_kd.training.checkpoint import load_weights

    encoders = untrained_encoders(assembly, config)
    if config.finetune.strategy != "from_scratch":
        for number, encoder in enumerate(encoders):
            load_weights(encoder, pretrained_weights(pretrain, number), pretrain.name)
    return encoders


def pretrained_weights(pretrain: Path, number: int = 0) -> Path:
    """File of one pretrained encoder in an artifact of ``pretrain``: of the first, or of ``pretrain.more_encoders`` counted from 1."""
    return pretrain / (f"pretrained_{number}.pt" if number else "pretrained.pt")


def job_of(context: StageContext, name: str = "training", processes: Processes = ALONE) -> TrainingJob:
    """A training of a stage, by the name of its checkpoint; the processes of the run share it where they are given."""
    return TrainingJob(
        seed=context.config.seed,
        fingerprint=context.fingerprint,
        folder=context.checkpoint,
        name=name,
        report=context.report,
        processes=processes,
    )


def train_once(
    context: StageContext,
    name: str,
    assembly: AnyAssembly,
    rows: TrainingRows,
    *,
    teacher: np.ndarray | None,
    encoder: MaskedItemModel | None,
) -> tuple[nn.Module, LearningCurve]:
    """Train the configured student, or take it as it is where a run of this stage that was killed had finished it.

    Parameters
    ----------
    name : str
        Of its checkpoint.
    assembly : Assembly or TextAssembly
        May hold vectors of the tokens, from which their embeddings begin.
    rows, teacher, encoder
        See :func:`ctr_kd.training.distill.train_student`.

    Returns
    -------
    model : Module
        In eval mode.
    curve : LearningCurve
    """
    from ctr_kd.models.students import STUDENTS
    from ctr_kd.training.checkpoint import load_weights, save_checkpoint
    from ctr_kd.training.distill import train_student

    settings = context.config.distill
    finished = context.checkpoint / f"{name}.done.pt"
    if finished.exists():
        model = STUDENTS[settings.student.kind](rows.signature, settings.student)
        curve = LearningCurve.from_dict(load_weights(model, finished, context.fingerprint)["curve"])
        return model.eval(), curve
    context.report(f"{name.replace('_', ' ')} ({settings.student.kind})")
    job, vectors = job_of(context, name), assembly.token_vectors()
    model, curve = train_student(rows, settings, job, teacher=teacher, encoder=encoder, vectors=vectors)
    save_checkpoint(finished, {"model": model.state_dict(), "curve": curve.to_dict()}, context.fingerprint)
    return model, curve


def fit_boosted_trees(rows: Mapping[str, pa.Table], summary: ClickSummary, seed: int, report: Callable[[str], None]) -> BoostedTrees:
    """The trees that are a teacher in ``distill`` and a baseline in ``evaluate``: on the as-of statistics and the context.

    Parameters
    ----------
    rows : mapping of str to Table
        Rows of :class:`pipelines.tasks.clicks.RawRows` by split; ``train`` and ``validation`` are read.
    summary : ClickSummary
        Of the assembly.
    seed : int
    report : callable
        Takes one line of progress.
    """
    from ctr_kd.baselines.clicks import BoostedTrees

    return BoostedTrees.fit(
        rows["train"],
        rows["train"]["label"].to_numpy(),
        rows["validation"],
        rows["validation"]["label"].to_numpy(),
        statistics=[*summary.statistics, *summary.context.dense],
        categorical=summary.context.categorical,
        seed=seed,
        report=report,
    )


def record_curve(context: StageContext, name: str, curve: LearningCurve) -> None:
    """Send a learning curve to the tracking server, one metric per figure and step."""
    for point in curve.points:
        for figure, value in point.items():
            if figure not in ("step", "score"):
                context.metric(f"{name}_{figure}", value, int(point["step"]))
