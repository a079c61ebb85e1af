"""The result of a run for people: an HTML report, and a table for the terminal."""

from ctr_kd.report.backtest import render_backtest
from ctr_kd.report.conclusions import Verdict, coverage, verdict
from ctr_kd.report.features import render_features
from ctr_kd.report.findings import WORDS, Figure, quality
from ctr_kd.report.frontier import render_sweep
from ctr_kd.report.monitoring import render_monitoring
from ctr_kd.report.page import render, render_charts
from ctr_kd.report.proof import render_proof
from ctr_kd.report.terminal import summary_table
from ctr_kd.report.tuning import render_tune

__all__ = [
    "WORDS",
    "Figure",
    "Verdict",
    "coverage",
    "quality",
    "render",
    "render_backtest",
    "render_charts",
    "render_features",
    "render_monitoring",
    "render_proof",
    "render_sweep",
    "render_tune",
    "summary_table",
    "verdict",
]
