"""The command neighbours, on a tiny simulated log."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from feature_store.features.event_log import microseconds
from feature_store.features.summary import ClickSummary
from pipelines.cli import main as cli
from pipelines.tracking.tracker import Tracker

CONF = """
source: {reader: simulated, simulator: {users: 60, items: 40, requests: 400, days: 3, candidates: 4}}
split: {fractions: [0.7, 0.15, 0.15]}
vocabulary: {min_count: 3}
pretrain: {encoder: {width: 8, layers: 1}, training: {epochs: 1, batch_size: 16, learning_rate: 1.0e-3, unknown_rate: 0.02}}
finetune: {members: 1, rate_ratio: 0.01, training: {epochs: 1, batch_size: 128}}
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(Tracker, "_send", lambda self, work: None)
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    (tmp_path / "tiny.yaml").write_text(CONF)

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main(["neighbours", str(tmp_path / "tiny.yaml"), *arguments, "--workspace", str(tmp_path / "workspace")])
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return command


def test_it_makes_what_it_needs_and_prints_the_nearest_items_of_the_teachers_embedding(run: Run, tmp_path: Path) -> None:
    code, _, err = run("no such item")
    assert code == 2 and "Traceback" not in err
    assert "finetune: done" in err
    assert err.strip().splitlines()[-1].startswith("ctr-kd: item no such item is not in the log; the nearest ids by spelling are i0")

    ingest, finetune = (
        next((tmp_path / "workspace" / "artifacts" / stage).glob("*/_manifest.json")).parent for stage in ("ingest", "finetune")
    )
    known = json.loads((ingest / "vocabulary.json").read_text())["item"]
    items = pq.read_table(ingest / "items.parquet").to_pandas().astype({"item_id": str}).set_index("item_id")
    code, out, err = run(known[2], "-k", "3")
    assert code == 0, err
    head, own, *nearest, foot = [line.split() for line in out.splitlines()]
    assert head == ["item", "similarity", "clicks", "category", "subcategory"]
    assert own[:2] == [known[2], "1.000"] and len(nearest) == 3 and foot[:2] == ["among", str(len(known))]
    assert all(line[3] == items.category[line[0]] and line[4] == items.subcategory[line[0]] for line in (own, *nearest))

    # The same from the stored weights: an item is the sum of its id's and its attributes' embeddings.
    weights = torch.load(finetune / "teacher.pt", weights_only=True)["model"]
    tables = [value.numpy() for name, value in weights.items() if name.startswith("members.0.pretrained.bert.token.tables")]
    vocabularies = json.loads((ingest / "vocabulary.json").read_text())
    vectors = np.stack(
        [
            sum(
                table[5 + vocabularies[name].index(value)]
                for table, name, value in zip(
                    tables, ("item", "category", "subcategory"), (item, items.category[item], items.subcategory[item]), strict=False
                )
            )
            for item in known
        ]
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = vectors @ vectors[2]
    similarity[2] = -2
    expected = np.argsort(-similarity)[:3]
    assert [line[0] for line in nearest] == [known[at] for at in expected]
    assert [float(line[1]) for line in nearest] == pytest.approx(similarity[expected], abs=6e-4)

    clicks = pq.read_table(ingest / "clicks.parquet").to_pandas()
    until = ClickSummary.read(ingest).split.train_until
    before = clicks[clicks.canonical & (clicks.known_at < microseconds(until))]
    assert int(own[2]) == (before.item == items.code[known[2]]).sum() > 0

    assert len(run(known[2], "-k", "500")[1].splitlines()) == len(known) + 2  # no more than there are
    rare = sorted(set(items.index) - set(known))[0]
    code, _, err = run(rare)
    assert code == 2 and f"item {rare} was seen fewer than 3 times in training (vocabulary.min_count)" in err
    assert run(known[2], "-k", "0")[0] == 2
