"""The command features: every column by itself, a leak that is said, and test rows that nobody looks at."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ctr_kd.metrics import auc_score
from feature_store.features.summary import ClickSummary
from pipelines.cli import main as cli
from pipelines.config.run import RunConfig
from pipelines.stages import features
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.runner import Runner

Command = Callable[..., tuple[int, str, str]]


def test_every_statistic_is_told_and_a_second_command_finds_nothing_to_do(experiment: Command, tmp_path: Path) -> None:
    code, out, err = experiment("features")
    assert code == 0, err
    report = tmp_path / "workspace" / "reports" / "features"
    lines = out.splitlines()
    assert lines[0].startswith("made features in") and lines[-1] == f"report: {report / 'features.html'}"
    found = json.loads((report / "features.json").read_text())
    (ingested,) = (path for path in (tmp_path / "workspace" / "artifacts" / "ingest").iterdir() if (path / "_manifest.json").exists())
    summary, rows = ClickSummary.read(ingested), pq.read_table(ingested / "rows.parquet")
    shown = {one["name"]: one for one in found["features"]}
    assert sorted(shown) == sorted([*summary.statistics, *summary.context.dense]) and "position" in shown
    assert shown["position"]["kind"] == "context" and shown["item_ctr"]["kind"] == "statistic"
    for name, one in shown.items():
        assert any(line.split()[0] == name and one["meaning"] in line for line in lines if line)
        for split in ("train", "validation"):
            here = rows.filter(pa.compute.equal(rows["split"].cast(pa.string()), split))
            value, label = here[name].to_numpy(), here["label"].to_numpy()
            known = ~np.isnan(value)
            assert (one[split]["rows"], one[split]["nulls"]) == (len(label), (~known).sum())
            assert one[split]["auc"] == pytest.approx(auc_score(label[known], value[known]))
            assert one[split]["quantiles"]["p50"] == pytest.approx(np.median(value[known]), rel=1e-6)
    told = [abs(one["validation"]["auc"] - 0.5) for one in found["features"]]
    assert told == sorted(told, reverse=True)
    assert (report / "_manifest.json").exists() and "<svg" in (report / "features.html").read_text()

    assert experiment("features")[1].startswith("nothing to do: ingest, features are up to date")
    assert "LEAK" not in out


def test_it_ingests_what_is_missing_and_tries_other_windows(experiment: Command, tmp_path: Path) -> None:
    code, out, err = experiment("features", "--set", "statistics.windows=[2h]")
    assert (code, out.split(" in ")[0]) == (0, "made ingest, features"), err
    assert "clicks on the item in the 2h before the request" in out and "item_clicks_1h" not in out


@pytest.fixture
def leaking(make_assembly: Callable[[Path], None], config: RunConfig, tmp_path: Path) -> RunContext:
    """A run whose rows have the dense context columns ``dwell``, which knows the click, ``empty`` and ``depth``."""

    def assemble(context: StageContext) -> None:
        make_assembly(context.output)
        rows = pq.read_table(context.output / "rows.parquet")
        label, test = rows["label"].to_numpy(), pa.compute.equal(rows["split"], "test").to_numpy(zero_copy_only=False)
        # Whoever looked at a test row would see a label that is none, and a value that is no time.
        rows = rows.set_column(rows.column_names.index("label"), "label", pa.array(np.where(test, 7, label).astype(np.int8)))
        rows = rows.append_column("dwell", pa.array(np.where(test, 1e30, label * 60.0)))
        rows = rows.append_column("empty", pa.nulls(len(label), pa.float64()))
        rows = rows.append_column("depth", pa.array(np.full(len(label), 3.0)))
        pq.write_table(rows, context.output / "rows.parquet")
        summary = ClickSummary.read(context.output).to_json()
        summary["context"]["dense"] = ["dwell", "empty", "depth"]
        ClickSummary.from_json(summary).write(context.output)

    context = RunContext(config, tmp_path / "workspace", console=Console(io.StringIO()))
    Runner(context, [Stage("ingest", assemble), features.STAGE]).run()
    return context


def test_a_column_that_knows_the_click_is_the_first_and_said(leaking: RunContext) -> None:
    found: dict[str, Any] = json.loads((leaking.workspace / "reports" / "features" / "features.json").read_text())
    first, *others = found["features"]
    assert (first["name"], first["validation"]["auc"], first["train"]["quantiles"]["max"]) == ("dwell", 1.0, 60.0)
    last = others.pop()
    assert (last["name"], last["train"]["quantiles"]) == ("empty", None)
    assert last["validation"]["auc"] == {"value": None, "reason": "none of the 300 rows has a value"}
    assert {one["name"]: one["validation"]["auc"] for one in others}["depth"] == 0.5
    said = features.features_table(leaking).splitlines()
    leak = "LEAK? dwell: its values alone tell clicks from the rest, AUC 1.0000 on validation."
    assert [line.startswith(leak) for line in said if "LEAK" in line] == [True]
    assert leaking.artifacts["features"].finished.facts == {"features": 6, "leaks": 1}


def test_texts_have_no_statistics(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    conf = tmp_path / "texts.yaml"
    conf.write_text("source: {reader: text, train: train.tsv, test: test.tsv, text: 0, label: 1}\n")
    with pytest.raises(SystemExit) as end:
        cli.main(["features", str(conf), "--workspace", str(tmp_path / "workspace")])
    assert end.value.code == 2
    assert capsys.readouterr().err == "ctr-kd: source.reader text holds no click log, which this command needs\n"
    assert not (tmp_path / "workspace").exists()
