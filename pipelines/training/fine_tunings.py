"""The fine-tunings of one pretrained encoder beside one another: how each was made, and what it destroyed."""

from __future__ import annotations

from typing import Any

from pipelines.tracking.calls import flatten
from pipelines.training.facts import FinetuningFacts
from pipelines.workspace.artifacts import Artifact
from pipelines.workspace.context import RunContext

STRATEGY = ("strategy", "rate_ratio", "layer_decay", "frozen_share")  # keys by which fine-tunings are compared


def others(run: RunContext) -> list[Artifact]:
    """Fine-tunings beside this run's, of the same rows and the same pretrained encoder, that are up to date in the workspace.

    Those that other code made are passed over: their figures cannot be compared.
    """
    own = run.artifacts["finetune"]
    same, found = own.finished, []
    for artifact in (Artifact(path) for path in sorted(own.path.parent.iterdir()) if path != own.path):
        manifest = artifact.manifest
        if manifest is not None and (manifest.inputs, manifest.source) == (same.inputs, same.source):
            found.append(artifact)
    return found


def compared(run: RunContext) -> list[dict[str, Any]]:
    """How this run's fine-tuning and the others were made, what they destroyed, and their AUC on validation."""
    own = run.artifacts["finetune"]
    shown = (*STRATEGY, "masked_item_accuracy", "masked_item_loss", "held_out_sequences", "auc", "accuracy")
    entries = []
    for artifact in (own, *others(run)):
        training = FinetuningFacts.read(artifact.path).to_json()
        settings, usual = (flatten(one.finished.config.get("finetune") or {}) for one in (artifact, own))
        different = {key: value for key, value in settings.items() if key not in STRATEGY and value != usual.get(key)}
        entry = {"fingerprint": artifact.path.name, "configured": artifact == own, "different": different}
        entries.append(entry | {key: training[key] for key in shown if key in training})
    return entries
