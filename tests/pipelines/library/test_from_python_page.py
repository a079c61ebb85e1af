"""The page `docs/how-to/from-python.md` does what it says: all its pieces run, one after the other, on a workspace of their own."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from ctr_kd import export_bert
from ctr_kd.config import EncoderConfig
from ctr_kd.models.bert import Bert, MaskedItemModel
from feature_store.special_tokens import SPECIALS
from feature_store.tables.parquet_files import read_parquet
from tests.ctr_kd.frames.rows import rows
from tests.pipelines.tiny_workspace import Workspace

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "from-python.md"
LINES = 10  # of user code that a thing may take


def pieces() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def write_bert(folder: Path) -> None:
    tokens = [*SPECIALS, "a", "b"]
    shape = EncoderConfig(width=8, layers=1, heads=2, positions="from_start", framed=True, norm_epsilon=1e-12)
    torch.manual_seed(0)
    bert = Bert({"token": len(tokens)}, 16, shape)
    export_bert(MaskedItemModel(bert, torch.arange(len(tokens), dtype=torch.int32)[:, None]), folder, tokens)


@pytest.fixture
def given(whole_pipeline: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the pieces name: files in the folder that they run in, and frames."""
    workspace = whole_pipeline.copy(tmp_path / "workspace")
    (tmp_path / "conf").mkdir()
    text = workspace.conf.read_text(encoding="utf-8")
    (tmp_path / "conf" / "mine.yaml").write_text(f"name: tiny\n{text}", encoding="utf-8")
    (tmp_path / "data" / "mine").mkdir(parents=True)
    write_bert(tmp_path / "data" / "bert-base-chinese")
    monkeypatch.chdir(tmp_path)
    events = read_parquet(tmp_path / "workspace" / "store" / "events" / "date=2024-01-04" / "events.parquet").to_pandas()
    events = events[["user_id", "item_id", "timestamp", "clicked", "device"]]
    items = pd.DataFrame({"item_id": events["item_id"].unique()}).assign(category="a")
    rng = np.random.default_rng(0)
    label, user = rng.integers(0, 2, 200), rng.integers(0, 20, 200)
    train, validation, test = rows(600, 0), rows(200, 1), rows(300, 2)
    frames = {"frame": events.drop(columns="clicked").head(50), "events": events, "items": items}
    frames |= {"train": train, "validation": validation, "test": test}
    scores = {"score": rng.random(200), "other": rng.random(200), "label": label, "user": user}
    return frames | scores


def test_every_piece_runs(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    assert len(pieces()) == 9
    for piece in pieces():
        exec(piece.replace("models:/mine@", "models:/tiny@"), given)  # noqa: S102  the page's own code
    assert given["result"].metrics.loc["student", "auc"] > 0 and given["result"].passed
    assert given["rows"]["score"].between(0, 1).all() and {"history", "item_age", "segment"} <= set(given["rows"])
    assert Path("student/student.onnx").is_file() and Path("bert-again/model.safetensors").is_file()
    assert given["made"].gain(given["test"]).loc["auc", "low"] < 1


def test_nothing_takes_more_than_ten_lines() -> None:
    for piece in pieces():
        assert len([line for line in piece.splitlines() if line.strip()]) <= LINES, piece
