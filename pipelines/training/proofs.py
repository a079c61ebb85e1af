"""What other seeds and other teachers move: the proof of a run's own configuration, where the workspace holds one."""

from __future__ import annotations

from typing import Any

from pipelines.config.run import STUDENT_KEYS
from pipelines.workspace.artifacts import Artifact, read_json
from pipelines.workspace.context import RunContext, StageContext
from pipelines.workspace.reports import add_to_report, publish_report

FILE, PAGE = "prove.json", "prove.html"


def proof_of(run: RunContext) -> Artifact | None:
    """The newest proof with the run's teacher and settings of the student, over more than one seed or teacher; None where there is none."""
    folder = run.workspace / "artifacts" / "prove"
    keys = ("seed", "teacher_only", *STUDENT_KEYS)
    settings, found = run.config.section(keys), []
    for artifact in map(Artifact, folder.iterdir() if folder.is_dir() else ()):
        manifest = artifact.manifest
        if manifest is None or any(manifest.config.get(key) != settings.get(key) for key in keys):
            continue
        made_from = {name: manifest.inputs[name].digest for name in ("ingest", "finetune") if name in manifest.inputs}
        if made_from != {name: run.artifacts[name].finished.digest for name in ("ingest", "finetune")}:
            continue
        proof = read_json(artifact.path / FILE) or {}
        if len(proof.get("seeds", ())) > 1 or len(proof.get("teacher_seeds", ())) > 1:
            found.append((manifest.started, artifact.path.name, artifact))
    return max(found)[2] if found else None


def other_seeds(run: RunContext, metric: str) -> dict[str, Any] | None:
    """Student minus student alone over several seeds: ``difference``, ``low``, ``high``, and in ``by_teacher`` that of each."""
    artifact = proof_of(run)
    if artifact is None:
        return None
    found: dict[str, Any] | None = (read_json(artifact.path / FILE) or {})["comparisons"]["student-student_alone"].get(metric)
    return found


def publish_with_proof(context: StageContext) -> None:
    """Publish the report, and beside it the proof that it speaks of."""
    publish_report(context)
    proof = proof_of(context.run)
    if proof is not None:
        add_to_report(context, proof.path, (FILE, PAGE))
