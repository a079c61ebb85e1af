"""What the champion's own teacher, student and student alone are worth on a day that came after their training.

The day's rows are made as the champion's own were (histories, statistics, candidates as of each request), with its vocabulary and its bins:
an assembly of its own in a folder that is thrown away, of which the day is the test window. What the three say is then paired by row.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ctr_kd.config_teachers import as_teachers
from ctr_kd.data.samples import BINS, Assembly
from ctr_kd.evaluation.evaluate import evaluate_models
from ctr_kd.evaluation.rows import EvaluationRows
from ctr_kd.metrics import of_full_stream
from feature_store.tables.contracts import DataError
from feature_store.tables.json_files import load_json, write_json
from pipelines.config.run import RunConfig, as_it_was, privileged, with_changes
from pipelines.metrics import ALONE, STUDENT, metric_value
from pipelines.registry.lineage import Lineage
from pipelines.tasks import task_of
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.logits import probabilities
from pipelines.training.bert import bert_logits
from pipelines.training.shipping import transfer_interval, transfer_ratio
from pipelines.training.students import EXPORTS
from pipelines.workspace.artifacts import Artifact, Verifier, read_json
from pipelines.workspace.console import Console
from pipelines.workspace.context import StageContext

METRIC = "auc"
PAIRS = ((STUDENT, ALONE), (STUDENT, "teacher"), ("teacher", ALONE))
_NEEDED = ("ingest", "finetune", "distill")  # artifacts of a champion
_VOCABULARY = "vocabulary.json"
_DAY = timedelta(days=1)


def measure_fresh_clicks(context: StageContext, lineage: Lineage, day: date) -> dict[str, Any]:
    """Figures of the champion's teacher, student and student alone on a day, and by how much they differ from those at registration.

    Parameters
    ----------
    context : StageContext
        Of stage ``monitor``.
    lineage : Lineage
        Of the champion.
    day : date
        After what it learned from; its clicks have arrived.

    Raises
    ------
    DataError
        When the champion's artifacts are not in the workspace any more, its teacher is no BERT, or the day cannot be made into such rows.
    ConfigError
        When this release cannot read the champion's configuration.
    ArtifactError
        When an artifact is damaged.
    """
    champion = _artifacts(context.workspace, lineage)
    configured = lineage.configuration.keys.get("distill", {}).get("distill.teachers", {"bert": 1.0})
    teachers = [teacher["name"] for teacher in as_teachers(configured)]
    if "bert" not in teachers:
        raise DataError(f"its teacher is {', '.join(teachers)}, none of which is kept as it was fitted: there is no BERT to ask")
    config = _as_the_champion(context.config, lineage, day)
    folder = context.checkpoint / "fresh"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        quiet = Console(io.StringIO())  # what is to be said of the windows of a split is not meant for this one
        own = replace(context, run=replace(context.run, config=config, parent=None, console=quiet), output=folder, recorded={})
        task_of(config).assemble(own)
        return _measured(context, config, lineage, champion, folder) | ({} if len(teachers) == 1 else {"teacher": "bert"})
    finally:
        shutil.rmtree(context.checkpoint, ignore_errors=True)


def _artifacts(workspace: Path, lineage: Lineage) -> dict[str, Path]:
    """Artifacts that a champion is made of, by stage, after their digests were checked."""
    found, verifier = {}, Verifier()
    for stage in _NEEDED:
        known = lineage.artifacts.get(stage)
        artifact = Artifact(workspace / "artifacts" / stage / (known.fingerprint if known and known.fingerprint else "unknown"))
        manifest = artifact.manifest
        if known is None or manifest is None or manifest.digest != known.digest:
            raise DataError(f"{artifact.path} is not in this workspace (any more), and without it the champion's teacher cannot be asked")
        verifier.verify(artifact)
        found[stage] = artifact.path
    return found


def _as_the_champion(config: RunConfig, lineage: Lineage, day: date) -> RunConfig:
    """The configuration by which a champion's rows and its BERT were made, with a day as test window."""
    keys = lineage.configuration.keys
    changes = {name: value for stage in ("ingest", "pretrain", "finetune") for name, value in keys.get(stage, {}).items()}
    if "finetune" in changes:
        changes["finetune"] = as_it_was(changes["finetune"], {})
    changes.pop("source", None)  # where the log lies, and what the store holds, is as it is
    # A champion without some block says nothing of it, and one with states names their encoder.
    changes = {"teacher_only": {}, "teacher_state": None, "embeddings": None, "labels": {}} | changes
    changes |= {key: value for key, value in keys.get("distill", {}).items() if key == "teacher_only"}
    if lineage.statistics is not None:
        changes["statistics"] = lineage.statistics
    if lineage.teacher_state is not None:
        changes["teacher_state"] = lineage.teacher_state
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    # Both windows before the day are there because a split has three: nothing is fitted on them.
    ends = {"train_from": midnight - 2 * _DAY, "train_until": midnight - _DAY, "validate_until": midnight, "test_until": midnight + _DAY}
    changes["split"] = {name: end.isoformat() for name, end in ends.items()}
    return with_changes(config, {**changes, "training.start": "cold"}, f"the configuration of {config.name}'s champion")


def _measured(context: StageContext, config: RunConfig, lineage: Lineage, champion: Mapping[str, Path], folder: Path) -> dict[str, Any]:
    from ctr_kd.export.exported_graph import ExportedGraph

    # Its vocabulary and its bins: whatever this assembly counted in its own windows is nothing that the models know.
    for name in (_VOCABULARY, BINS):
        write_json(folder / name, load_json(champion["ingest"] / name))
    assembly = task_of(config).assembly(folder, "teacher")
    if not isinstance(assembly, Assembly) or assembly.signature() != task_of(config).assembly(champion["ingest"], "teacher").signature():
        raise DataError("the log has other columns by now than the champion was trained on")
    assembly.write_pool()
    rows = _some_requests(ClickRows(folder).read("test"), context.config.monitor.teacher_rows, context.config.evaluate.seed)
    labelled, students = ClickRows(folder), task_of(config).assembly(folder, "student")
    raw, rate = students.samples_of(rows), labelled.negative_sampling_rate
    logits = {"teacher": bert_logits(champion["finetune"], assembly, config, assembly.samples_of(rows))}
    for name, export in EXPORTS.items():
        logits[name] = ExportedGraph(champion["distill"] / export / "student.onnx", students.signature().vectors).logits(raw)
    scores: dict[str, NDArray] = {name: of_full_stream(probabilities(found[:, :1]), rate) for name, found in logits.items()}
    label, user = rows["label"].to_numpy(), rows["user"].to_numpy()
    measured_on = EvaluationRows(label, user, negative_sampling_rate=rate, row_weight=labelled.weight(rows))
    settings = context.config.evaluate
    evaluation = evaluate_models(measured_on, scores, replicates=settings.bootstrap, seed=settings.seed, pairs=PAIRS).to_json()
    models = {name: {METRIC: one[METRIC]} for name, one in evaluation["models"].items()}
    return {
        "rows": len(label),
        "clicks": int(label.sum()),
        "privileged": privileged(config),
        "models": models,
        "comparisons": {pair: {METRIC: found.get(METRIC)} for pair, found in evaluation["comparisons"].items()},
        "transfer_ratio": transfer_ratio(models, METRIC),
        "transfer_ratio_interval": transfer_interval(measured_on, scores, METRIC, settings).to_json(),
        "at_registration": _at_registration(context.workspace, lineage, models),
    }


def _some_requests(rows: pa.Table, most: int, seed: int) -> pa.Table:
    """Whole requests, drawn at random, of so many rows at most, and of one request at least; in the order of the rows."""
    if rows.num_rows <= most:
        return rows
    request = rows["request"].to_numpy()
    names, count = np.unique(request, return_counts=True)
    drawn = np.random.default_rng(seed).permutation(len(names))
    kept = max(1, int(np.searchsorted(np.cumsum(count[drawn]), most, "right")))
    return rows.filter(pa.array(np.isin(request, names[drawn[:kept]])))


def _at_registration(workspace: Path, lineage: Lineage, now: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Figures of the same models on their own test rows, and how much less they are worth now; None where its report is not kept."""
    known = lineage.artifacts.get("evaluate")
    metrics = None if known is None else read_json(workspace / "artifacts" / "evaluate" / str(known.fingerprint) / "metrics.json")
    if metrics is None:
        return None
    of = {"teacher": "teacher/bert" if "teacher/bert" in metrics["models"] else "teacher", STUDENT: STUDENT, ALONE: ALONE}
    then = {name: metric_value(metrics["models"][title], METRIC)[0] for name, title in of.items()}
    pairs = {name: (metric_value(one, METRIC)[0], then[name]) for name, one in now.items()}
    changed = {name: None if value is None or before is None else value - before for name, (value, before) in pairs.items()}
    models = {name: {METRIC: value} for name, value in then.items()}
    return {METRIC: then, "changed": changed, "transfer_ratio": transfer_ratio(models, METRIC)}
