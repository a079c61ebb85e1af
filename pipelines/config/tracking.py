"""Typed settings of MLflow: where runs are tracked, and what is."""

from __future__ import annotations

from pydantic import Field

from feature_store.config_types import Config


class TrackingConfig(Config):
    uri: str | None = Field(None, description="MLflow tracking server and registry; null is SQLite in the workspace")
    experiment: str | None = Field(None, description="MLflow experiment; null takes the run's name")
    system_metrics: bool = Field(False, description="log processor, memory, disk, network and GPU of every stage; needs the package psutil")
