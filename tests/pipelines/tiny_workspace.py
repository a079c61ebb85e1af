"""A workspace on a tiny simulated log, and the real program on it."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from pathlib import Path
from typing import Any

from tests.programs import Ended, run_program

TINY = """
source: {reader: simulated, simulator: {users: 80, items: 60, requests: 900, days: 4, candidates: 4}}
split: {fractions: [0.7, 0.15, 0.15]}
pretrain: {encoder: {width: 16, layers: 1}, training: {epochs: 2, batch_size: 16, checkpoint_seconds: 0.01}}
finetune: {members: 1, rate_ratio: 0.01, training: {epochs: 2, batch_size: 256, checkpoint_seconds: 0.01}}
distill: {teachers: {bert: 1}, training: {epochs: 1, batch_size: 256, checkpoint_seconds: 0.01}}
evaluate: {bootstrap: 20, boosted_trees: false}
register: {auc_min: 0, calibration_error_max: 1, champion_margin: 1}
"""


class Workspace:
    """One workspace and the commands on it."""

    def __init__(self, path: Path) -> None:
        self.path, self.conf = path, path.with_name("tiny.yaml")
        self.conf.write_text(TINY)

    @classmethod
    def new(cls, path: Path, database: Path) -> Workspace:
        path.mkdir()
        shutil.copyfile(database, path / "mlflow.db")
        return cls(path)

    def copy(self, path: Path) -> Workspace:
        return Workspace(Path(shutil.copytree(self.path, path, symlinks=True, dirs_exist_ok=True)))

    def command(self, *arguments: str) -> list[str]:
        return [*arguments, str(self.conf), "--workspace", str(self.path)]

    def start(self, *arguments: str) -> Ended:
        return run_program(*self.command(*arguments))

    def run(self, *arguments: str) -> tuple[str, str]:
        ended = self.start(*arguments)
        assert ended.code == 0, ended.err
        return ended.out, ended.err

    def kill_at(self, sign: str, operations: int = 0) -> None:
        """Start a run that is killed as soon as it says this, or so many file operations later."""
        ended = run_program(sign, str(operations), *self.command("run"), module="tests.pipelines.killed_program")
        assert ended.code == -signal.SIGKILL, f"the run never said {sign!r}: {ended.err}"

    def metrics(self) -> dict[str, Any]:
        """metrics.json without what time alone decides."""
        metrics = json.loads((self.path / "reports" / "latest" / "metrics.json").read_text())
        for model in metrics["models"].values():
            model.pop("rows_per_second", None)
            model.pop("rows_per_second_alone", None)
        if metrics.get("gate"):
            metrics["gate"]["checks"] = [check for check in metrics["gate"]["checks"] if not check["name"].startswith("latency")]
        return {name: value for name, value in metrics.items() if name != "run"}

    def tables(self) -> dict[str, str]:
        """Digests of every table that the run made: rows, logits, vocabularies, scores."""
        files = [
            *self.path.glob("artifacts/*/*/**/*.parquet"),
            *self.path.glob("scores/*/*.parquet"),
            *self.path.glob("artifacts/**/student.onnx"),
        ]
        return {str(file.relative_to(self.path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
