"""A small log of a shop whose every row was scored by the model in production, and a pipeline on it in this process."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.config.run import RunConfig
from pipelines.stages import PIPELINE
from pipelines.workspace.console import Console
from pipelines.workspace.context import RunContext
from pipelines.workspace.runner import Runner

SOURCE = {
    "reader": "tabular",
    "events": {
        "path": "events.parquet",
        "user": "user",
        "item": "item",
        "time": "time",
        "clicked": "clicked",
        "request": "request",
        "scores": {"p_click": "scored_at"},
    },
    "context": {"categorical": ["device"], "dense": ["price"]},
}
SMALL = {
    "name": "shop",
    "source": SOURCE,
    "split": {"fractions": [0.7, 0.15, 0.15]},
    "history": {"max_length": 5},
    "statistics": {"auto": False},
    "pretrain": {"encoder": {"width": 8, "layers": 1}, "training": {"epochs": 1, "batch_size": 64}},
    "finetune": {"members": 1, "training": {"epochs": 1, "batch_size": 256}},
    "evaluate": {"bootstrap": 20, "boosted_trees": False},
}
TRAINING = {"epochs": 1, "batch_size": 256}


def shop_log() -> pd.DataFrame:
    """Clicks depend on price and device, and on a taste that production alone knows; three candidates a request."""
    rng = np.random.default_rng(5)
    requests, shown = 500, 3
    request = np.arange(requests).repeat(shown)
    price, device = rng.random(requests * shown).round(3), np.where(rng.random(requests) < 0.5, "app", "web")[request]
    logit = 2 * rng.normal(size=len(request)) - 2 * price + (device == "app")
    return pd.DataFrame(
        {
            "user": [f"u{one}" for one in rng.integers(0, 60, requests)[request]],
            "item": [f"i{one}" for one in (rng.integers(0, 9, requests)[request] * shown + np.tile(np.arange(shown), requests))],
            "time": 1_704_067_200 + request * 600,
            "request": [f"r{one}" for one in request],
            "device": device,
            "price": price,
            "clicked": (rng.random(len(request)) < 1 / (1 + np.exp(-logit))).astype(int),
            "p_click": 1 / (1 + np.exp(-logit)),
            "scored_at": 1_704_067_200 + request * 600 - 30,
        }
    )


class Shop:
    """A data folder, a workspace, and runs of the first stages."""

    def __init__(self, folder: Path) -> None:
        self.data, self.workspace, self.said = folder / "data", folder / "workspace", io.StringIO()
        self.log = shop_log()
        if not self.data.exists():
            self.data.mkdir(parents=True)
            self.log.to_parquet(self.data / "events.parquet")

    def config(self, teachers: Any, **distill: Any) -> RunConfig:
        return RunConfig.model_validate(SMALL | {"distill": {"training": TRAINING, "teachers": teachers, **distill}})

    def run(self, teachers: Any, last: str = "distill", **distill: Any) -> RunContext:
        context = RunContext(self.config(teachers, **distill), self.workspace, self.data, console=Console(self.said))
        Runner(context, PIPELINE).run(last=last)
        return context
