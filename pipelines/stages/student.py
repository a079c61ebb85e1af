"""Stages teacher, transfer and student: one student by itself under stored logits, so that many can be trained under one teacher.

They are no part of the pipeline, whose ``distill`` trains a single pair; the commands ``prove`` and ``sweep`` train as many as they
compare, each an artifact of its own that the next command finds again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from feature_store.tables.json_files import write_json
from pipelines.config.run import RunConfig
from pipelines.stages import finetune, ingest, pretrain
from pipelines.stages.distill import TRANSFER_FILE, keep_student, taught_rows, teacher_encoder, teacher_logits, transfer_rows
from pipelines.stages.evaluate import student_rows_per_second, teacher_costs
from pipelines.stages.training import SPLITS, read_predictions, train_once, write_predictions
from pipelines.tasks.texts import Rows, open_rows
from pipelines.workspace.artifacts import Artifact, read_json
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.reports import publish_beside
from pipelines.workspace.runner import Runner

if TYPE_CHECKING:
    from ctr_kd.metrics.bootstrap import Bootstrap


def combine(context: StageContext) -> None:
    """Write the weighted logits of the configured teachers by split, and what those that are no network cost."""
    from ctr_kd.data.texts import open_assembly

    assembly = open_assembly(context.inputs["ingest"], "student", context.config.history.max_length)
    samples = {split: assembly.samples(split) for split in SPLITS}
    combined, facts = teacher_logits(context, samples)
    for split in SPLITS:
        write_predictions(context.output / f"predictions_{split}.parquet", samples[split].row_id, combined[split], context.fingerprint)
    write_json(context.output / "training.json", facts)


def label_transfer_set(context: StageContext) -> None:
    """Write the configured transfer set, what is known of it, and the weighted logits of the teachers for it."""
    from ctr_kd.data.texts import open_assembly

    assembly = open_assembly(context.inputs["ingest"], "student", context.config.history.max_length)
    rows, facts = transfer_rows(context, assembly)
    combined, _ = teacher_logits(context, {"transfer": rows})
    write_predictions(context.output / "predictions_transfer.parquet", rows.row_id, combined["transfer"], context.fingerprint)
    write_json(context.output / "training.json", facts)


def train(context: StageContext) -> None:
    """Train, calibrate and export the configured student; with ``distill.alpha: 1`` it is one on the labels alone."""
    from ctr_kd.data.texts import open_assembly
    from ctr_kd.training.distill import align_logits
    from ctr_kd.training.job import TrainingRows

    config, teacher = context.config, context.inputs["teacher"]
    assembly = open_assembly(context.inputs["ingest"], "student", config.history.max_length)
    samples = {split: assembly.samples(split) for split in SPLITS}
    combined = {"train": align_logits(*read_predictions(teacher / "predictions_train.parquet", teacher.name), samples["train"])}
    facts: dict[str, Any] = {}
    if config.distill.transfers:
        made = context.inputs["transfer"]
        samples["transfer"] = assembly.samples_of(pq.read_table(made / TRANSFER_FILE))
        combined["transfer"] = align_logits(*read_predictions(made / "predictions_transfer.parquet", made.name), samples["transfer"])
        facts["transfer"] = read_json(made / "training.json")
    taught, target = taught_rows(samples, combined)
    encoder = teacher_encoder(context, assembly) if config.distill.needs_encoder else None
    rows = TrainingRows(signature=assembly.signature(), train=taught, validation=samples["validation"])
    model, curve = train_once(context, "student", assembly, rows, teacher=target, encoder=encoder)
    write_json(context.output / "training.json", keep_student(context, "student", model, curve, assembly, samples) | facts)
    context.record(dict([curve.kept_figure]))


def train_all(run: RunContext, wanted: Mapping[str, RunConfig], force: bool = False) -> dict[str, Artifact]:
    """An artifact for each of the wanted students, by its title; those that are up to date in the workspace are taken from there.

    Parameters
    ----------
    run : RunContext
        In which ``ingest``, ``finetune`` and ``teacher`` are up to date.
    wanted : mapping of str to RunConfig
        They may differ from the run's configuration in ``seed`` and ``distill``, the teachers excepted.
    force : bool
        Train them again even where they are up to date; a transfer set stays.
    """
    trained = {}
    for number, (title, config) in enumerate(wanted.items(), start=1):
        run.report(f"student {number} of {len(wanted)}: {title}")
        own = replace(run, config=config, artifacts={name: run.artifacts[name] for name in STUDENT.upstream})
        stage = STUDENT
        if config.distill.transfers:  # labelled by the teacher of the run, whatever the student's seed
            Runner(replace(own, config=config.model_copy(update={"seed": run.config.seed})), [TRANSFER]).run()  # joins own.artifacts
            stage = replace(STUDENT, upstream=(*STUDENT.upstream, TRANSFER.name))
        Runner(own, [stage]).run(force=force)
        trained[title] = own.artifacts[STUDENT.name]
    return trained


def compare(
    runner: Runner,
    name: str,
    run: Callable[[StageContext, Mapping[str, Path]], None],
    wanted: Mapping[str, RunConfig],
    files: tuple[str, ...],
    force: bool = False,
    read: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Bring the teacher, all wanted students and the comparison of them up to date.

    Parameters
    ----------
    runner : Runner
        Of :data:`PIPELINE`.
    name : str
        Of the comparison: its stage, and its settings in the configuration.
    run : callable
        Compares: takes the context of its stage, and the students' artifacts by title.
    wanted : mapping of str to RunConfig
        The students by title.
    files : tuple of str
        What it writes for people to see.
    force : bool
        Train the students again even where they are up to date; the teacher and its transfer sets stay.
    read : mapping of str to str
        Digests of whatever else the comparison reads, by name.
    """
    runner.run()
    trained = train_all(runner.context, wanted, force)
    paths = {title: artifact.path for title, artifact in trained.items()}
    stage = Stage(
        name,
        lambda context: run(context, paths),
        source=run.__module__,
        upstream=("ingest", "finetune", "teacher"),
        keys=("name", "seed", "distill", "evaluate.bootstrap", "evaluate.seed", name),
        outside=lambda _: {f"student/{one.path.name}": (one.manifest or {})["digest"] for one in trained.values()} | dict(read),
        conclude=lambda context: publish_beside(context, files),
    )
    Runner(runner.context, [stage]).run()


def compared_rows(context: StageContext) -> tuple[Rows, np.ndarray, Bootstrap]:
    """What students are compared on: the rows, the labels of the test rows, and their resamples by user, or by row where there is none."""
    from ctr_kd.metrics.bootstrap import Bootstrap

    settings, raw = context.config.evaluate, open_rows(context.inputs["ingest"])
    rows = raw.evaluation_rows()
    return raw, rows.label, Bootstrap(rows.user, len(rows.label), replicates=settings.bootstrap, seed=settings.seed)


def student_costs(artifact: Path, test: Rows) -> dict[str, Any]:
    """Rows per second, parameters and bytes of an exported student."""
    facts = read_json(artifact / "training.json") or {}
    return {"rows_per_second": student_rows_per_second(artifact / "export", test)} | {key: facts[key] for key in ("parameters", "bytes")}


def teacher_facts(context: StageContext) -> dict[str, Any]:
    """Rows per second of the teacher, with parameters and bytes where it is the BERT alone."""
    members = list(context.config.distill.teachers)
    bert = read_json(context.inputs["finetune"] / "training.json") or {}
    facts = teacher_costs(members, {**(read_json(context.inputs["teacher"] / "training.json") or {}), "teacher/bert": bert})
    return facts | {key: bert[key] if members == ["bert"] else None for key in ("parameters", "bytes")}


TEACHER = Stage(
    "teacher",
    combine,
    upstream=("ingest", "pretrain", "finetune"),
    keys=(
        *("seed", "history.max_length", "vocabulary.min_count", "pretrain", "finetune"),
        *("distill.teachers", "distill.weighting", "distill.held_out"),
    ),
)
TRANSFER = Stage(
    "transfer",
    label_transfer_set,
    upstream=("ingest", "finetune", "teacher"),
    keys=("seed", "history.max_length", "distill.teachers", "distill.weighting", "distill.transfer"),
)
STUDENT = Stage(
    "student",
    train,
    upstream=("ingest", "finetune", "teacher"),
    keys=("seed", "history.max_length", "pretrain", "finetune", "distill"),
)
PIPELINE = (ingest.STAGE, pretrain.STAGE, finetune.STAGE, TEACHER)
"""The stages before the first of the students."""
