"""Stage ``register``: the student alone into the registry as challenger, and through the gate to champion."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctr_kd.export.signature import read_signature
from ctr_kd.metrics.drift import ScoreDistribution
from feature_store.tables.files import sha256_of
from feature_store.tables.json_files import digest_of
from pipelines.metrics import Metrics, RunFacts, read_plots, write_report
from pipelines.registry.alias_history import GATE
from pipelines.registry.boosted_trees import boosted_trees_checks
from pipelines.registry.challenger import Mismatch, compare_with_champion
from pipelines.registry.champion_record import ChampionRecord, lost_champion, registry_lost, remember_champion
from pipelines.registry.lineage import ConfigurationLineage, DataLineage, Lineage, StudentLineage, TeacherLineage
from pipelines.registry.lookup import has_version
from pipelines.registry.model_card import model_card, short_description
from pipelines.registry.model_package import add_card, load_scorer, save_model
from pipelines.registry.promotion_gate import (
    CHAMPION_READABLE,
    Check,
    champion_checks,
    decide,
    decision,
    distillation_checks,
    export_checks,
    model_checks,
    refusal,
    unreadable_champion,
    window_checks,
)
from pipelines.registry.registration import GateAnswers, Registration
from pipelines.registry.registry import CHAMPION, GATE_TAG, MADE_OF, FilesUnreachable, Registry
from pipelines.registry.slices import slice_checks
from pipelines.tasks import Rows, task_of
from pipelines.tasks.logits import stored_probabilities
from pipelines.tracking.client import TrackingError, tracking_uri, without_password
from pipelines.training.facts import DistillationFacts, PretrainingFacts
from pipelines.training.proofs import publish_with_proof
from pipelines.training.students import EXPORTS
from pipelines.workspace.artifacts import ArtifactError, read_json_as
from pipelines.workspace.context import Stage, StageContext
from pipelines.workspace.manifest import StageInput
from pipelines.workspace.resources import code_revision

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from onnx import TensorProto

_EXAMPLE_ROWS = 3
MODEL = "model"
WINDOW_TAG = "test_until"  # of a version: where the test window ended


def register_student(context: StageContext) -> None:
    """Save, measure and register the student; writes the model, ``registration.json`` and a report with the gate in it."""
    config = context.config
    # First of all: a registry that cannot be reached should be known before any work is done for it.
    lost = None if context.run.force else lost_champion(context.workspace, config)
    registry = Registry(tracking_uri(config, context.workspace), config.name)
    metrics = Metrics.read(context.inputs["evaluate"])
    test = task_of(config).rows(context.inputs["ingest"])
    rows = test.read("test")
    example = test.raw(rows.slice(0, _EXAMPLE_ROWS)).to_pandas()
    model = context.output / MODEL
    made_from = lineage(context, metrics, test)
    export = context.inputs["distill"] / EXPORTS[metrics.shipped]
    student = save_model(export, model, made_from, example)
    asked = gate_answers(context, registry, metrics, student=student, model=model, test=test, rows=rows, example=example)
    signature = read_signature(export)
    made_from = made_from.model_copy(update={"student": StudentLineage(digest=student)})
    add_card(model, model_card(config.name, metrics, made_from, signature, asked.checks, without_password(registry.uri)))

    tags = version_tags(context, student, metrics, asked.checks)
    end = test.window_end()
    tags |= {WINDOW_TAG: end} if end is not None else {}
    description = short_description(config.name, metrics, made_from)
    version = version_of(context, registry, student=student, model=model, tags=tags, description=description)
    gate = decide(asked.checks, version, asked.champion)
    registry.add_tags(version, {GATE_TAG: decision(gate)})
    if lost is not None:  # the version is registered, so that it can be promoted by hand, and is compared with no champion
        raise registry_lost(context.workspace, config, lost)
    if gate.passed:
        move = registry.promote(version, GATE, decision(gate))
        remember_champion(context.workspace, config, move.after)
        context.report(
            f"version {move.after} is champion" + (f" in place of version {move.before}" if move.before not in (None, version) else "")
        )
    uri = f"models:/{config.name}/{version}"
    Registration(name=config.name, version=version, uri=uri, student_digest=student, gate=gate).write(context.output)
    whole = metrics.model_copy(update={"run": RunFacts.of(context), "gate": gate.to_json()})
    write_report(context.output, whole, read_plots(context.inputs["evaluate"]))
    parity = next(check.value for check in gate.checks if check.name == "parity")
    context.record({"version": version, "passed": gate.passed, "parity": parity})


@contextmanager
def _without(variable: str) -> Iterator[None]:
    """Without a variable in the environment."""
    value = os.environ.pop(variable, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[variable] = value


def smoke_test(model: Path, example: pd.DataFrame, poorest: pd.DataFrame, trained: np.ndarray) -> str | None:
    """Ask the model as production would, through MLflow and with as little as rows may hold; what went wrong, or None."""
    from mlflow import pyfunc

    from pipelines.registry.pyfunc_model import VECTORS

    try:
        with tempfile.TemporaryDirectory(prefix="ctr_kd_") as plain:  # MLflow cuts a path at # and ?
            (Path(plain) / "models").symlink_to(model.parent.absolute())
            with _without(VECTORS):  # those of whoever starts the command are of its champion
                loaded = pyfunc.load_model(str(Path(plain) / "models" / model.name))
            score = loaded.predict(example)["score"].to_numpy()
            poor = loaded.predict(poorest)["score"].to_numpy()
    except Exception as error:  # whatever it is, the model must not become champion
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    expected = trained if trained.ndim == 1 else trained.max(axis=1)
    if not np.allclose(score, expected[: len(score)], atol=1e-3):
        return "MLflow's answer differs from the trained student's"
    return (
        None if np.isfinite(poor).all() and ((poor >= 0) & (poor <= 1)).all() else "a row that holds next to nothing gives no probability"
    )


def foreign_parameters(distill: Path, shipped: str) -> list[str]:
    """What the exported graphs hold that is not the student's: parameters beyond its own number, or the teacher's by name."""
    student = DistillationFacts.read(distill).of(shipped).parameters
    return [found for file in sorted((distill / EXPORTS[shipped]).glob("*.onnx")) for found in _foreign_to(student, file)]


def _numbers(tensor: TensorProto) -> int:
    """Numbers that a tensor holds, zeros aside: matrices that only pick columns are nothing else. Of one that lies in another file all."""
    from onnx import numpy_helper

    if tensor.data_location == tensor.EXTERNAL:
        return int(np.prod(tensor.dims))
    return int(np.count_nonzero(numpy_helper.to_array(tensor)))


def _foreign_to(student: int, file: Path) -> list[str]:
    import onnx

    graph = onnx.load(str(file), load_external_data=False).graph
    sizes = {tensor.name: _numbers(tensor) for tensor in graph.initializer}
    sizes |= {
        node.output[0]: _numbers(a.t) for node in graph.node if node.op_type == "Constant" for a in node.attribute if a.name == "value"
    }
    found = sorted(name for name in sizes if "teacher" in name or "pretrained" in name)
    # Constants such as bin edges and shapes are a few numbers; an encoder would be many times the student.
    if sum(sizes.values()) > 1.05 * student + 10_000:
        found.append(f"{sum(sizes.values()):,} numbers in a graph of {student:,} parameters")
    return found


def lineage(context: StageContext, metrics: Metrics, rows: Rows) -> Lineage:
    """Where the student comes from: digests of data, configuration, teacher and code, and why it is the one that ships."""
    manifests = {name: artifact.finished for name, artifact in context.run.artifacts.items()}
    keys = {name: manifest.config for name, manifest in manifests.items()}
    checkpoint = PretrainingFacts.read(context.run.artifacts["pretrain"].path).checkpoint
    teacher = {"fingerprint": context.inputs["finetune"].name, "digest": sha256_of(context.inputs["finetune"] / "teacher.pt")}
    return Lineage(
        data=DataLineage(digest=manifests["ingest"].inputs["store"].digest, rows=manifests["ingest"].digest),
        configuration=ConfigurationLineage(digest=digest_of(keys), keys=keys),
        teacher=TeacherLineage.from_json(teacher | ({"checkpoint": checkpoint} if checkpoint else {})),
        artifacts={name: StageInput(fingerprint=path.name, digest=manifests[name].digest) for name, path in context.inputs.items()},
        shipped=metrics.shipped,
        shipping=metrics.shipping,
        validation_scores=validation_scores(context.inputs["distill"], metrics),
        versions=manifests["distill"].versions,
        code_revision=code_revision(),
        split=metrics.data.split,
        parent=metrics.run.parent,
        statistics=rows.facts().get("made_with"),
        **({} if (states := rows.facts().get("teacher_state")) is None else {"teacher_state": states}),
    )


def validation_scores(distill: Path, metrics: Metrics) -> dict[str, Any]:
    """How the student's scores are distributed over the validation rows: what those of later days are compared with."""

    scores = stored_probabilities(distill / f"predictions_{metrics.shipped}_validation.parquet", metrics.data.negative_sampling_rate)
    return ScoreDistribution.of(scores if scores.ndim == 1 else scores.max(axis=1)).to_dict()


def gate_answers(
    context: StageContext,
    registry: Registry,
    metrics: Metrics,
    *,
    student: str,
    model: Path,
    test: Rows,
    rows: pa.Table,
    example: pd.DataFrame,
) -> GateAnswers:
    """What the gate asks, with the answers: checks of the challenger against bounds and champion.

    It is asked once: a run that was killed after a promotion does not compare the new champion with itself.
    """
    known = read_json_as(context.checkpoint / GateAnswers.FILE, GateAnswers)
    if known is not None and known.student == student:
        return known
    champion, bounds = registry.alias(CHAMPION), context.config.register_
    distill = context.inputs["distill"]
    trained = stored_probabilities(distill / f"predictions_{metrics.shipped}_test.parquet", test.negative_sampling_rate)
    newest = slice(max(0, rows.num_rows - bounds.parity_rows), rows.num_rows)
    scorer, asked = load_scorer(model), test.raw(rows.slice(newest.start))
    parity = float(np.abs(scorer.score(asked) - trained[newest]).max())
    if metrics.labels:
        file = distill / f"predictions_{metrics.shipped}_test.parquet"
        further = np.stack([stored_probabilities(file, label=label)[newest] for label in metrics.labels], axis=1)
        parity = max(parity, float(np.abs(scorer.score_labels(asked)[:, 1:] - further).max()))
    context.report(f"exported and trained student differ by at most {parity:.2e} on {newest.stop - newest.start:,} test rows")
    checks = export_checks(
        parity, smoke_test(model, example, test.poorest(example), trained), foreign_parameters(distill, metrics.shipped), bounds
    )
    try:
        other = champion_files(registry, student, champion)
        if other:
            context.report(f"comparing with champion version {champion} on the newest of {rows.num_rows:,} test rows")
        found = compare_with_champion(test=test, rows=rows, trained=trained, model=model, champion=other, bounds=bounds)
        beside = champion_checks(found.differences, found.champion.metrics, bounds) if found.champion else []
        beside += slice_checks(found.parts, bounds)
        if champion is not None and other:
            beside += window_checks(test.window_end(), registry.tags_of(champion).get(WINDOW_TAG), bounds)
    except FilesUnreachable:  # nothing is wrong with challenger or champion: the next run may reach them
        raise
    except (ArtifactError, Mismatch) as error:
        found = compare_with_champion(test=test, rows=rows, trained=trained, model=model, champion=None, bounds=bounds)
        beside = [unreadable_champion(str(error))]
    gains = [*distillation_checks(metrics.shipping, bounds), *boosted_trees_checks(metrics, bounds)]
    checks = [*model_checks(found.challenger, bounds, found.champion), *gains, *checks, *beside]
    answers = GateAnswers(student=student, champion=champion, checks=checks)
    context.checkpoint.mkdir(exist_ok=True)
    answers.write(context.checkpoint)
    return answers


def champion_files(registry: Registry, student: str, champion: str | None) -> Path | None:
    """The champion's files; None where there is no champion, or one that holds the same student, of which this is the repaired version.

    Raises
    ------
    ArtifactError
        When its files are lost or damaged.
    """
    if champion is None or registry.student_of(champion) == student:
        return None
    return registry.download(f"models:/{registry.name}/{champion}")


def version_tags(context: StageContext, student: str, metrics: Metrics, checks: Sequence[Check]) -> dict[str, str]:
    """What is searched for among versions: the student's digest, what it was made of, its metrics, the gate's figures and the verdict."""
    measured = {name: {"value": entry} if isinstance(entry, (int, float)) else entry for name, entry in metrics.shipped_model.items()}
    numbers = {
        f"{name}.{part}": entry[part]
        for name, entry in measured.items()
        if isinstance(entry, Mapping)
        for part in ("value", "low", "high")
        if isinstance(entry.get(part), (int, float))
    }
    # A check may have the name of a column, and MLflow knows few characters.
    numbers |= {re.sub(r"[^\w.-]", "_", check.name)[:200]: check.value for check in checks if check.value is not None}
    digests = {f"{MADE_OF}{name}": path.name for name, path in context.inputs.items()}
    said = {"shipped": metrics.shipped} | ({} if metrics.verdict is None else {"verdict": metrics.verdict})
    return {"student_digest": student, **said, **digests, **{name: f"{value:.6g}" for name, value in numbers.items()}}


def version_of(context: StageContext, registry: Registry, *, student: str, model: Path, tags: Mapping[str, str], description: str) -> str:
    """Version of the student: the one under which it is known already, or a new one where there is none whose files are whole."""
    tracker = context.run.tracker
    known = registry.version_of(student)
    if known is not None:
        try:
            registry.download(f"models:/{registry.name}/{known}")
        except FilesUnreachable:  # they may be whole: another version of the same student would say that they are not
            raise
        except ArtifactError as error:
            context.report(f"version {known} holds this student but is damaged, so it is registered anew: {error}")
        else:
            registry.set_challenger(known)
            return known
    if tracker is None or tracker.stage is None:
        raise TrackingError(
            f"MLflow at {without_password(registry.uri)} took no run, so nothing can be registered; check tracking.uri and run again"
        )
    return registry.register(tracker.stage, model, MODEL, tags, description)


def still_registered(context: StageContext) -> bool:
    """Whether the registry still knows the version (its database may have been removed), and the gate could ask the champion."""
    registration = read_json_as(context.output / Registration.FILE, Registration)
    if registration is None:
        return False
    # That the champion could not be read says nothing about the challenger, so the gate is asked again.
    if any(check.name == CHAMPION_READABLE for check in registration.gate.checks):
        return False
    return has_version(tracking_uri(context.config, context.workspace), registration.name, registration.version)


def publish_and_judge(context: StageContext) -> None:
    """Publish the report, and end the run where the gate refused, now as on every later run of the same challenger."""
    publish_with_proof(context)
    registration = read_json_as(context.output / Registration.FILE, Registration)
    if registration is not None and not registration.gate.passed:
        raise refusal(registration.gate)
    if registration is not None and not (context.workspace / ChampionRecord.FILE).exists():  # an earlier release kept none
        remember_champion(context.workspace, context.config, registration.version)


STAGE = Stage(
    "register",
    register_student,
    upstream=("ingest", "finetune", "distill", "evaluate"),
    keys=("name", "register", "tracking.uri", "teacher_only"),
    up_to_date=still_registered,
    conclude=publish_and_judge,
)
