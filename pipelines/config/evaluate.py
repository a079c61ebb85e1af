"""Typed settings of the evaluation: intervals, and which baselines are measured."""

from __future__ import annotations

from pydantic import Field

from feature_store.config import Config


class EvaluateConfig(Config):
    bootstrap: int = Field(200, ge=20, le=10_000, description="bootstrap replicates behind every interval")
    seed: int = Field(13, description="seed of the bootstrap")
    boosted_trees: bool = Field(True, description="fit the gradient-boosted baseline on the as-of statistics")
    text_gcn: bool = Field(
        False,
        description="train a graph network of texts and words beside the models: transductive, it reads the test texts (not their labels)",
    )
