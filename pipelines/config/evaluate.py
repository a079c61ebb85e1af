"""Typed settings of the evaluation: intervals, which baselines are measured, and what the inputs are worth."""

from __future__ import annotations

from pydantic import Field

from feature_store.config_types import Config


class EvaluateConfig(Config):
    bootstrap: int = Field(200, ge=20, le=10_000, description="bootstrap replicates behind every interval")
    seed: int = Field(13, description="seed of the bootstrap")
    boosted_trees: bool = Field(
        True,
        description="fit gradient-boosted trees on all that is known of a row but its ids, which somebody would use instead of a student; "
        "by LightGBM where it is installed, else by scikit-learn",
    )
    importance_rows: int = Field(
        10_000,
        ge=0,
        description="validation rows, drawn at random, on which each group of the shipped student's inputs is permuted to see what it is "
        "worth; 0: none",
    )
    text_gcn: bool = Field(
        False,
        description="train a graph network of texts and words beside the models: transductive, it reads the test texts (not their labels)",
    )
