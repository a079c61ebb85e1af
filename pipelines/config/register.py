"""Typed settings of the gate between challenger and champion."""

from __future__ import annotations

from pydantic import Field, model_validator

from feature_store.config_types import Config


class RegisterConfig(Config):
    """Bounds of the gate. All are on the newest test rows; those against the champion are on the same rows, which it scores too."""

    auc_min: float = Field(0.5, ge=0, le=1, description="gate: the student's AUC must reach this")
    accuracy_min: float = Field(0.0, ge=0, le=1, description="gate: of classes, the student's accuracy must reach this")
    calibration_error_max: float = Field(0.1, gt=0, le=1, description="gate: largest calibration error of the student")
    calibration_ratio_min: float | None = Field(
        0.5, ge=0, description="gate: of clicks, smallest ratio of predicted to observed ones; null switches it off"
    )
    calibration_ratio_max: float | None = Field(2.0, gt=0, description="gate: of clicks, largest ratio of predicted to observed ones")
    distillation_gain_min: float | None = Field(
        0.0,
        ge=-1,
        le=1,
        description="gate: on validation, what ships must gain this over the student alone, by the upper end of the interval: 0 refuses a "
        "student that is worse beyond chance, as distill.ship: student may name one; null switches it off",
    )
    boosted_trees_gain_min: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="gate: of clicks, on the test rows, AUC of what ships must exceed that of boosted trees, which somebody would use "
        "instead, by this, by the lower end of the interval; null shows the figure and refuses nothing",
    )
    log_loss_max: float | None = Field(None, gt=0, description="gate: largest log loss; null asks only that it is finite")
    unseen_share_max: float = Field(
        0.95,
        ge=0,
        le=1,
        description="gate: largest share of candidate items (of texts: tokens) that the student does not know; near 1 the ids have changed",
    )
    bytes_max: int = Field(
        2_000_000_000, ge=1, description="gate: largest size of the exported student in bytes, vocabularies and all; a graph holds 2 GB"
    )
    latency_p99_ms_max: float = Field(
        100.0,
        gt=0,
        description="gate: milliseconds of processor time on one thread within which 99 % of requests are answered, in the best of five "
        "rounds; other work on the machine does not count",
    )
    latency_candidates: int = Field(100, ge=1, description="candidates of such a request, for one history (of texts: one text)")
    latency_requests: int = Field(200, ge=10, description="requests that are timed, over all rounds")
    parity_max: float = Field(
        1e-4, gt=0, description="gate: largest difference of a probability between the exported and the trained student"
    )
    parity_rows: int = Field(5000, ge=1, description="test rows on which that difference is measured")
    champion_margin: float = Field(
        0.005,
        ge=0,
        le=1,
        description="gate: with 95 % confidence AUC (of classes: accuracy) may fall behind the champion's on the same rows by at most this",
    )
    log_loss_margin: float = Field(
        0.1,
        ge=0,
        description="gate: with 95 % confidence log loss may exceed the champion's on the same rows by at most this share of it",
    )
    slices: tuple[str, ...] = Field(
        (),
        description="gate: columns whose every part must not be behind the champion's on the same rows: attributes of items and users, "
        "context with few values, history_length (0 are cold users), item (seen in training or not); of texts label",
    )
    slice_margin: float = Field(
        0.02,
        ge=0,
        le=1,
        description="gate: AUC (of classes: accuracy) in a part of slices must not be behind the champion's by more, beyond chance",
    )
    slice_rows: int = Field(1000, ge=1, description="fewest rows of a part that is judged")
    window_hours_back_max: float | None = Field(
        0.0,
        ge=0,
        description="gate: hours by which the test window may end before the champion's own did, so that a run whose clock jumped back "
        "replaces no model of newer data; null switches it off",
    )
    champion_rows: int = Field(
        500_000, ge=100, description="test rows on which challenger and champion are measured; whole requests, newest first"
    )
    bootstrap: int = Field(200, ge=20, le=10_000, description="bootstrap replicates behind the comparison with the champion")
    seed: int = Field(17, description="seed of that bootstrap")

    @model_validator(mode="after")
    def _room_for_a_ratio(self) -> RegisterConfig:
        low, high = self.calibration_ratio_min, self.calibration_ratio_max
        if low is not None and high is not None and low >= high:
            raise ValueError(f"calibration_ratio_min ({low:g}) must be below calibration_ratio_max ({high:g})")
        return self
