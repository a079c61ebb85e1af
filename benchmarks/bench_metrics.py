"""How fast a model is measured: all metrics on 500,000 rows of 50,000 users, and the bootstrap.

    python benchmarks/bench_metrics.py [--rows 500000] [--users 50000]

Beside them, in the same run, what most code does: scikit-learn's AUC over all rows and, for GAUC, once per user in a
pandas groupby (timed on a twentieth of the users, then scaled). Writes results/metrics.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ctr_kd import metrics as m
from ctr_kd.evaluation.evaluate import evaluate_models
from ctr_kd.evaluation.rows import EvaluationRows, standard_slices
from ctr_kd.metrics.bootstrap import AucStatistic, Bootstrap

GOAL_SECONDS = 0.5
REPLICATES = 300


def best_of(work: Callable[[], object], times: int = 5) -> float:
    """Seconds of the fastest of a few runs: the one that other programs disturbed least."""
    return min(_seconds(work) for _ in range(times))


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def click_rows(rows: int, users: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Labels, users and two correlated models' probabilities."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, users, rows)
    logit = rng.normal(-1.5, 1, rows) + rng.normal(0, 0.5, users)[user]
    label = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    scores = [1 / (1 + np.exp(-logit - rng.normal(0, noise, rows))) for noise in (0.8, 1.0)]
    return {"label": label, "user": user, "student": scores[0], "student_alone": scores[1]}


def measure_metrics(data: dict[str, np.ndarray]) -> dict[str, Any]:
    """Seconds of each metric, of all, and of the usual way to AUC and GAUC."""
    label, score, user = data["label"], data["student"], data["user"]
    parts: dict[str, Callable[[], object]] = {
        "auc": lambda: m.auc_score(label, score),
        "gauc": lambda: m.gauc_score(label, score, user),
        "log_loss": lambda: m.log_loss(label, score),
        "normalized_entropy": lambda: m.normalized_entropy(label, score),
        "calibration_error": lambda: m.calibration_error(label, score),
        "calibration_ratio": lambda: m.calibration_ratio(label, score),
    }
    seconds = {name: best_of(work) for name, work in parts.items()}
    together = best_of(lambda: [work() for work in parts.values()])

    peer_auc = best_of(lambda: roc_auc_score(label, score), 2)
    share = 20
    few = user < user.max() // share
    frame = pd.DataFrame({"label": label[few], "score": score[few], "user": user[few]})

    def usual_gauc() -> float:
        values, weights = [], []
        for _, rows in frame.groupby("user"):
            if rows["label"].nunique() == 2:
                values.append(roc_auc_score(rows["label"], rows["score"]))
                weights.append(len(rows))
        return float(np.average(values, weights=weights))

    assert abs(usual_gauc() - m.gauc_score(label[few], score[few], user[few])) < 1e-9
    assert abs(roc_auc_score(label, score) - m.auc_score(label, score)) < 1e-9
    peer_gauc = best_of(usual_gauc, 1) * len(user) / few.sum()
    return {
        "seconds": seconds,
        "together_seconds": together,
        "goal_ratio": GOAL_SECONDS / together,
        "scikit_learn_auc_seconds": peer_auc,
        "groupby_gauc_seconds": peer_gauc,
        "auc_ratio": peer_auc / seconds["auc"],
        "gauc_ratio": peer_gauc / seconds["gauc"],
        "auc_and_gauc_ratio": (peer_auc + peer_gauc) / (seconds["auc"] + seconds["gauc"]),
    }


def measure_bootstrap(data: dict[str, np.ndarray]) -> dict[str, Any]:
    """Seconds of the bootstrap of one AUC, and of a whole evaluation of two models with slices."""
    rows = len(data["label"])
    rng = np.random.default_rng(1)
    slices = standard_slices(history_length=rng.poisson(4, rows), unseen_item=rng.random(rows) < 0.1)
    evaluation = EvaluationRows(data["label"], data["user"], slices=slices)
    models = {name: data[name] for name in ("student", "student_alone")}

    def auc() -> None:
        bootstrap = Bootstrap(data["user"], rows, replicates=REPLICATES)
        bootstrap.values_of({"auc": AucStatistic(data["label"], data["student"], bootstrap.unit)})

    return {
        "replicates": REPLICATES,
        "auc_of_one_model_seconds": best_of(auc, 2),
        "evaluation_of_two_models_seconds": best_of(lambda: evaluate_models(evaluation, models, replicates=REPLICATES), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--users", type=int, default=50_000)
    options = parser.parse_args()
    data = click_rows(options.rows, options.users)
    found = measure_metrics(data)
    print(f"metrics of {options.rows:,} rows, {options.users:,} users: {found['together_seconds']:.3f} s (goal: under {GOAL_SECONDS} s)")
    for name, value in found["seconds"].items():
        print(f"  {name:<20} {1000 * value:6.1f} ms")
    print(f"AUC:  {found['auc_ratio']:.1f} x as fast as scikit-learn ({1000 * found['scikit_learn_auc_seconds']:.0f} ms)")
    print(f"GAUC: {found['gauc_ratio']:,.0f} x as fast as a groupby ({found['groupby_gauc_seconds']:.1f} s, scaled from a twentieth)")
    bootstrap = measure_bootstrap(data)
    print(f"bootstrap, {REPLICATES} resamples: AUC of one model {bootstrap['auc_of_one_model_seconds']:.2f} s")
    print(f"evaluation of two models with all intervals and six slices: {bootstrap['evaluation_of_two_models_seconds']:.2f} s")
    result = {
        "command": " ".join(["python", *sys.argv]),
        "rows": options.rows,
        "users": options.users,
        "metrics": found,
        "bootstrap": bootstrap,
    }
    result["machine"] = {
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    output = Path(__file__).parent / "results" / "metrics.json"
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {output}")


if __name__ == "__main__":
    main()
