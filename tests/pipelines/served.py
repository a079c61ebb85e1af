"""A workspace in production: a store of three days of impressions, and a registry of two versions of a student of one embedding."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ctr_kd.metrics.drift import ScoreDistribution
from pipelines.config.run import RunConfig
from pipelines.registry.lineage import Lineage
from pipelines.registry.model_package import save_model
from pipelines.registry.registry import Registry
from pipelines.stages import ingest, score
from pipelines.tracking.client import tracking_uri
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.runner import Runner
from tests.summaries import click_summary

IN_PARTS = {"batch_rows": 13}  # of a date's 30 rows
LOGITS = {1: [2.0, 1.0, 0.0, -2.0], 2: [-2.0, 0.0, 1.0, 2.0]}
ITEMS = (10, 11, 12, 13, 99)
EVENTS = {"path": "log_*.parquet", "user": "user", "item": "item", "time": "time", "clicked": "clicked", "request": "request"}
CONFIGURATION = {
    "name": "demo",
    "source": {"reader": "tabular", "events": EVENTS, "context": {"categorical": ["device"]}},
    "split": {"fractions": [0.8, 0.1, 0.1]},
    "score": {"workers": 1},
}
DAYS = [date(2024, 1, day) for day in (1, 2, 3)]


def probability(item: int, version: int = 1) -> float:
    logit = dict(zip(ITEMS, [*LOGITS[version], -1.0], strict=True))[item]
    return float(1 / (1 + np.exp(-logit)))


def assemble(context: StageContext) -> None:
    """In place of an assembly: what scoring reads of one."""
    click_summary().write(context.output)  # its test window ends on 2024-01-04


PIPELINE = (Stage("ingest", assemble, outside=ingest.bring_store_up_to_date), score.STAGE)


class Served:
    """The workspace, its log and its configuration; version 1 is champion."""

    def __init__(self, workspace: Path, data: Path, config: RunConfig) -> None:
        self.workspace, self.data, self.config = workspace, data, config

    def context(self, as_of: datetime | None = None, **options: Any) -> RunContext:
        return RunContext(self.config, self.workspace, self.data, as_of, options=options, console=Console(io.StringIO()))

    def registry(self) -> Registry:
        return Registry(tracking_uri(self.config, self.workspace), self.config.name)

    def run(self, as_of: datetime | None = None, **options: Any) -> tuple[tuple[str, ...], Path]:
        runner = Runner(self.context(as_of, **options), PIPELINE)
        made = runner.run().made
        return made, score.scores_of(runner.context).place

    def ingest(self, as_of: datetime | None = None) -> Runner:
        """Fill the store, and score nothing."""
        runner = Runner(self.context(as_of), PIPELINE)
        runner.run(last="ingest")
        return runner

    def change(self, **blocks: Any) -> None:
        """Set keys of the configuration."""
        values = self.config.model_dump(by_alias=True)
        self.config = RunConfig.model_validate(values | {name: values[name] | block for name, block in blocks.items()})

    def own_log(self, folder: Path, *days: date) -> None:
        """Let the log be a folder of a file per day, with these days alone."""
        folder.mkdir()
        self.data = folder
        for day in days:
            self.deliver(day)

    def deliver(self, day: date, rows: slice = slice(None)) -> None:
        """A day comes to the log of :meth:`own_log`, or comes again, with these of its rows."""
        log = day_of_log(day)
        pq.write_table(pa.table({name: values[rows] for name, values in log.items()}), self.data / f"log_{day}.parquet")

    def scores(self) -> dict[str, bytes]:
        """Bytes of the scores that stand, by date."""
        return {path.parent.name.removeprefix("date="): path.read_bytes() for path in self.workspace.glob("scores/date=*/scores.parquet")}


def day_of_log(day: date) -> dict[str, Any]:
    """Thirty impressions in ten requests, the same each time."""
    rng, rows = np.random.default_rng(day.day), 30
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return {
        "user": [f"u{n % 7}" for n in range(rows)],
        "item": rng.choice(ITEMS, rows),
        "time": [midnight + timedelta(hours=24 * n / rows) for n in range(rows)],
        "clicked": rng.integers(0, 2, rows),
        "request": np.arange(rows) // 3,
        "device": rng.choice(["phone", "desk"], rows),
    }


def make_template(root: Path, make_export: Callable[[Path, list[float]], None]) -> None:
    """Models and a log of three days that workspaces are made from."""
    (root / "data").mkdir()
    for day in DAYS:
        pq.write_table(pa.table(day_of_log(day)), root / "data" / f"log_{day}.parquet")
    example = pd.DataFrame({"history": [[10]], "item_id": [11], "timestamp": [datetime(2024, 1, 1, tzinfo=UTC)]})
    for version, logits in LOGITS.items():
        make_export(root / f"export{version}", logits)
        scores = [probability(item, version) for item in ITEMS for _ in range(20)]
        reference = ScoreDistribution.of(scores, bins=5).to_dict()
        lineage = Lineage(validation_scores=reference) if version == 1 else Lineage()  # the second was registered by an older release
        save_model(root / f"export{version}", root / str(version) / "model", lineage, example)


def make_served(root: Path, workspace: Path) -> Served:
    """A workspace with both versions registered, the first of them champion; its MLflow database exists."""
    found = Served(workspace, root / "data", configuration())
    registry = found.registry()
    experiment = registry.client.create_experiment("demo", artifact_location=(workspace / "mlartifacts").as_uri())
    for version in LOGITS:
        run = registry.client.create_run(experiment).info.run_id
        registry.register(run, root / str(version) / "model", "model", {"student_digest": str(version)})
    registry.promote("1")
    return found


def configuration() -> RunConfig:
    """Of every workspace here."""
    return RunConfig.model_validate(CONFIGURATION)


def copied(template: Path, workspace: Path) -> Served:
    """The workspace of a template once more, in another place."""
    from pipelines.tracking.relocate import follow_workspace

    shutil.copytree(template / "workspace", workspace, dirs_exist_ok=True)
    follow_workspace(workspace)
    return Served(workspace, template / "data", configuration())
