"""What the shipped student is worth with item vectors that are refreshed less often than in its training."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np

from ctr_kd.evaluation.evaluate import evaluate_models
from ctr_kd.metrics import of_full_stream
from feature_store.config_types import duration_text, in_microseconds
from feature_store.features.event_log import microseconds
from feature_store.features.statistics import PRODUCT
from pipelines.tasks import task_of
from pipelines.tasks.click_rows import ClickRows
from pipelines.tasks.logits import probabilities
from pipelines.training.students import EXPORTS
from pipelines.workspace.context import StageContext

LONGER = (6, 24)  # times as long as the configuration says
METRICS = ("auc", "gauc", "log_loss")


def figures_by_refresh(context: StageContext, test: ClickRows, shipped: str) -> list[dict[str, Any]] | None:
    """Figures of the shipped student on the test rows by how often vectors are refreshed; None where it reads none.

    The first is the refresh of the configuration, the last none at all since training ended. ``refresh`` is null there.
    """
    if PRODUCT not in test.summary.statistics:
        return None
    from ctr_kd.export.exported_graph import ExportedGraph
    from pipelines.tasks.vector_columns import RowVectors, with_vectors

    assembly = task_of(context.config).assembly(context.inputs["ingest"], "student")
    graph = ExportedGraph(context.inputs["distill"] / EXPORTS[shipped] / "student.onnx", assembly.signature().vectors)
    rows, scores = test.read("test"), {}
    ends = microseconds(test.summary.split.train_until)
    vectors = RowVectors(context.workspace, context.inputs["ingest"], context.config.assembly)
    asked = vectors.requests(rows)
    for refresh in [*(timedelta(microseconds=times * vectors.refresh) for times in (1, *LONGER)), None]:
        as_of = np.minimum(asked.moment, ends) if refresh is None else asked.moment // in_microseconds(refresh) * in_microseconds(refresh)
        stale = with_vectors(rows, vectors.of(asked._replace(as_of=as_of)))
        score = probabilities(graph.logits(assembly.samples_of(stale))[:, :1])
        scores["never" if refresh is None else duration_text(refresh)] = of_full_stream(score, test.negative_sampling_rate)
    context.report(f"item vectors refreshed every {', '.join(scores)}")
    settings = context.config.evaluate
    measured = evaluate_models(test.evaluation_rows(), scores, replicates=settings.bootstrap, seed=settings.seed).to_json()["models"]
    return [
        {"refresh": None if name == "never" else name, **{key: measured[name][key] for key in METRICS if key in measured[name]}}
        for name in scores
    ]
