"""A workspace whose path holds signs that mean something to DuckDB, Arrow, SQLAlchemy, SQLite or MLflow."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.cli.status import status
from pipelines.scoring.files import score_file
from pipelines.scoring.labelled_files import evaluate_file
from pipelines.stages.register import smoke_test
from pipelines.tracking.client import tracking_uri
from tests.odd_names import odd_folder
from tests.pipelines.served import copied, probability


def test_scores_do_not_depend_on_the_names_of_the_folders_above_workspace_and_files(served_template: Path, tmp_path: Path) -> None:
    """Ingestion, registry, model, scores of a date, of a file and its best rows, labels and metrics."""
    rows = {"user_id": ["u1", "u2", "u1"], "item_id": [10, 12, 11], "timestamp": ["2024-01-03T12:00"] * 3, "clicked": [0, 1, 1]}
    answers = []
    for root in (tmp_path / "plain", odd_folder(tmp_path / "odd")):
        root.mkdir(exist_ok=True)
        served = copied(served_template, root / "workspace")
        served.data = Path(shutil.copytree(served.data, root / "data"))
        assert served.run()[0] == ("ingest", "score")
        served.change(score={"top": 1})
        pq.write_table(pa.table(rows), root / "rows.parquet")
        score_file(served.context(), root / "rows.parquet", root / "scored.parquet")
        measured = evaluate_file(served.context(), root / "rows.parquet")
        said = status(served.context(), tracking_uri(served.config, served.workspace))
        said = re.sub(r"^disk: .*\n", "", said, flags=re.MULTILINE)  # names take room too
        answers.append([served.scores(), (root / "scored.parquet").read_bytes(), measured, said.replace(str(root), "")])
        own = Path(shutil.copytree(served.registry().download("models:/demo/2"), root / "#2?" / "model"))
        one = pd.DataFrame({"history": [[10]], "item_id": [11], "timestamp": [datetime(2024, 1, 3, tzinfo=UTC)]})
        assert smoke_test(own, one, one, np.array([probability(11, 2)])) is None
        made, scores = served.run(model=str(own))
        assert made == ("score",)
        answers.append(pq.ParquetFile(scores / "scores.parquet").read(["score"]))
    assert answers[:2] == answers[2:]
