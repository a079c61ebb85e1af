"""Plain figures as the stages write them, for pages with every section: of a run, a proof, a sweep and the monitor."""

from __future__ import annotations

from statistics import stdev
from typing import Any

Figures = dict[str, Any]


def interval(value: float, width: float = 0.002) -> Figures:
    return {"value": value, "low": value - width, "high": value + width}


def gap(value: float, width: float = 0.001, p_value: float = 0.01) -> Figures:
    return {"difference": value, "low": value - width, "high": value + width, "p_value": p_value}


def run_metrics() -> Figures:
    """metrics.json of a run on clicks whose student was refused by the gate."""
    models: Figures = {
        name: {
            "auc": interval(auc),
            "gauc": interval(auc - 0.02) | {"users": 900, "undefined_users": 100},
            "gauc_mean": interval(auc - 0.03),
            "log_loss": interval(0.5 - auc / 10),
            "normalized_entropy": 0.91,
            "calibration_error": {"value": None, "reason": "there are no rows"},
        }
        for name, auc in {
            "popularity": 0.6012,
            "student_alone": 0.7351,
            "student": 0.7412,
            "teacher": 0.7437,
            "boosted_trees": 0.7298,
        }.items()
    }
    models["teacher"] |= {"rows_per_second": 1500.0, "rows_per_second_alone": 130.0, "parameters": 3_412_345, "bytes": 13_700_000}
    models["student"] |= {"rows_per_second": 300_000.0, "parameters": 412_000, "bytes": 1_650_000}
    return {
        "run": {
            "configuration": {"name": "conf/globo.yaml", "distill": {"alpha": 0.3}},
            "fingerprint": "9f3c2ab4",
            "seed": 7,
            "started": "2024-05-03T02:00:11Z",
            "seconds": {"ingest": 38.2, "pretrain": 221.7, "distill": 4000.0},
            "peak_memory_bytes": 3_800_000_000,
        },
        "data": {"train_rows": 1_203_222, "test_rows": 500_123, "unseen_item_share": 0.1034, "quarantined_rows": 12},
        "models": models,
        "comparisons": {
            "student-student_alone": {"auc": gap(0.0061), "log_loss": gap(-0.0042)},
            "student-teacher": {"auc": gap(-0.0025)},
            "student-boosted_trees": {"auc": gap(0.0114)},
        },
        "slices": {
            "history_length/0": {"student": {"rows": 4321, "auc": interval(0.6543)}, "teacher": {"rows": 4321, "auc": interval(0.66)}},
            "item/unseen": {"student": {"rows": 77, "auc": {"value": None, "reason": "all 77 labels are 0"}}},
        },
        "gate": {
            "passed": False,
            "checks": [{"name": "student AUC", "value": 0.7412, "bound": ">= 0.9", "passed": False}],
            "champion_before": "4",
            "champion_after": "4",
        },
    }


def run_curves() -> Figures:
    """report.json of the same run."""
    points = [{"step": step, "train_loss": 0.6 / step, "auc": 0.7 + step / 1e5, "score": 1.0} for step in (100, 200, 300)]
    return {
        "learning": {
            "finetune": points,
            "distill/student": {"points": points, "kept_step": 200},
            "distill/student_alone": {"points": points},
        },
        "roc": {"student": [[0, 0], [0.2, 0.6], [1, 1]], "teacher": [[0, 0], [0.1, 0.6], [1, 1]]},
        "reliability": {"student": [{"predicted": 0.1, "observed": 0.12, "low": 0.1, "high": 0.14, "rows": 50}]},
    }


def fine_tunings() -> list[Figures]:
    """What three fine-tunings of one encoder destroyed of it; the last is the run's own."""
    tuning = {"strategy": "low_lr", "rate_ratio": 0.01, "configured": True, "held_out_sequences": 612, "auc": 0.7712}
    tuning |= {"masked_item_accuracy": {"before": 0.2, "after": 0.198}, "masked_item_loss": {"before": 5.5, "after": 5.61}}
    full = tuning | {"rate_ratio": 1.0, "configured": False, "auc": 0.7699, "different": {"training.epochs": 4}}
    full |= {"masked_item_accuracy": {"before": 0.2, "after": 0.02}}
    fresh = full | {"strategy": "from_scratch", "masked_item_accuracy": {"before": 0.001, "after": 0.0}, "auc": None, "different": {}}
    return [fresh, full, tuning]


def importance(inputs: list[str], model: str = "student") -> Figures:
    """What single inputs are worth, each less than the one before it, and all of them but the first together."""
    drops = {name: 0.05 / (place + 1) ** 2 for place, name in enumerate(inputs)}
    groups = {name: {"inputs": [name], "auc": gap(drop, 0.0015), "log_loss": gap(-drop / 3, 0.001)} for name, drop in drops.items()}
    together = {"all statistics": {"inputs": inputs[1:], "auc": gap(0.06), "log_loss": gap(-0.02)}}
    rows = {"model": model, "split": "validation", "rows": 10_000, "auc": interval(0.7412), "log_loss": interval(0.4)}
    return rows | {"groups": together | groups}


def class_report(names: tuple[str, ...] = ("sport", "finance", "games and entertainment")) -> Figures:
    """Precision, recall and F1 by class."""
    return {
        name: {"precision": 0.9 - i / 20, "recall": 0.8, "f1": 0.847 - i / 40, "support": 321 * (i + 1)} for i, name in enumerate(names)
    }


def whole_run() -> tuple[Figures, Figures]:
    """metrics.json and report.json with all that a report can show at once, long names among them."""
    metrics, curves = run_metrics(), run_curves()
    models = metrics["models"]
    metrics["importance"] = importance(["history", *(f"a_statistic_with_quite_a_long_name_{i}d" for i in range(1, 25))])
    models["oracle"] = {"auc": interval(0.8), "log_loss": interval(0.4)}
    models["teacher/a_teacher_with_quite_a_long_name"] = {"auc": interval(0.739), "log_loss": interval(0.43)}
    models["student"]["uncalibrated"] = {"log_loss": 0.4312, "calibration_error": 0.0123, "calibration_ratio": 1.1}
    models["teacher"]["masked_item_accuracy"] = {"before": 0.1031, "after": 0.1014}
    models["teacher"]["fine_tunings"] = fine_tunings()
    models["student"]["report"] = class_report()
    models["student"]["averages"] = {kind: {"precision": 0.85, "recall": 0.8, "f1": 0.82} for kind in ("macro", "weighted")}
    metrics["comparisons"]["student-popularity"] = {"auc": gap(0.14), "gauc": gap(0.12), "log_loss": gap(-0.03)}
    metrics["comparisons"]["teacher-student_alone"] = {"auc": gap(-0.0002), "gauc": gap(0.0004), "log_loss": gap(-0.0001)}
    for part, rows, auc in (("1-2", 9000, 0.69), ("3-10", 120_000, 0.72), ("11+", 360_000, 0.75)):
        metrics["slices"][f"history_length/{part}"] = {
            name: {"rows": rows, "auc": interval(auc + shift, 0.004)}
            for name, shift in (("teacher", 0.004), ("student", 0.001), ("student_alone", -0.003), ("boosted_trees", -0.008))
        }
    metrics["gate"] = {
        "passed": True,
        "checks": [
            {"name": "auc of the student", "value": 0.7412, "bound": ">= 0.7", "passed": True, "champion": 0.7401},
            {"name": "auc on history_length/0, challenger against champion", "value": -0.0004, "bound": ">= -0.002", "passed": True},
            {"name": "latency_p99_ms", "value": 83.563, "bound": "<= 100", "passed": True, "champion": 91.2},
        ],
        "champion_before": "3",
        "champion_after": "4",
    }
    metrics["run"]["configuration"] |= {"finetune": {"strategy": "low_lr", "rate_ratio": 0.01}, "long": "an/unbroken/path" * 12}
    metrics["data"]["candidates"] = {"by": "popularity", "negatives": 4}
    bins = [{"predicted": p, "observed": p * 1.1, "low": p, "high": p * 1.2, "rows": 50} for p in (0.01, 0.05, 0.1, 0.2, 0.31)]
    curves["reliability"]["student"] = bins
    curves["uncalibrated"] = {"student": [one | {"predicted": one["predicted"] * 1.2} for one in bins]}
    curves["classes"] = list(class_report())
    curves["confusion"] = {"student": [[310, 8, 3], [0, 642, 0], [210, 343, 410]]}
    return metrics, curves


def proof(impossible: str = "din reads it anew") -> Figures:
    """prove.json of two seeds with an ablation of one change."""
    metrics = run_metrics()
    models = {name: metrics["models"][name] for name in ("teacher", "student", "student_alone")}
    models["student"]["auc"]["seeds"], models["student_alone"]["auc"]["seeds"] = [0.7402, 0.7422], [0.7301, 0.7401]
    return {
        "run": metrics["run"],
        "seeds": [7, 8],
        "teacher_seeds": [7],
        "interval_covers": ["users", "student seeds"],
        "models": models,
        "comparisons": {
            "student-student_alone": {"auc": gap(0.0061) | {"seeds": [0.0101, 0.0021]}},
            "student-teacher": {"auc": gap(-0.0025)},
        },
        "ablation": [
            {"name": "label gate", "auc": interval(0.7431), "against_student": gap(0.0019), "against_student_alone": gap(0.008)},
        ],
        "not_possible": {impossible: "din reads it anew"},
    }


def proof_of_two_teachers() -> Figures:
    """prove.json of two seeds under each of two teachers."""
    found = proof() | {"teacher_seeds": [7, 8], "interval_covers": ["users", "student seeds", "teacher seeds"]}
    by_teacher = {
        "teacher": (found["models"]["teacher"]["auc"], [[0.7471], [0.7403]]),
        "student": (found["models"]["student"]["auc"], [[0.7433, 0.7441], [0.7371, 0.7403]]),
        "student_alone": (found["models"]["student_alone"]["auc"], [[0.7301, 0.7401]]),
        "gain": (found["comparisons"]["student-student_alone"]["auc"], [[0.0132, 0.0040], [0.0070, 0.0002]]),
    }
    for entry, values in by_teacher.values():
        means = [sum(of_teacher) / len(of_teacher) for of_teacher in values]
        entry |= {"by_teacher": values, "teachers": means, "teachers_std": stdev(means) if len(means) > 1 else None}
    return found


def amounts() -> list[Figures]:
    """The student by the amount of its transfer set."""
    return [
        {
            "amount": amount,
            "configured": amount == 1,
            "rows": round(80_123 * amount),
            "validation_auc": 0.75 + amount / 100,
            "auc": interval(0.74 + amount / 100),
            "against_student": gap(-0.01 + amount / 100),
            "against_student_alone": gap(0.004 + amount / 100),
        }
        for amount in (0, 0.5, 1)
    ]


def arms() -> list[Figures]:
    """An arm whose teacher has no lead above chance, and one whose teacher cannot be served."""
    found = []
    for place, (name, values) in enumerate({"no statistics": {"statistics.of": []}, "privileged": {"distill.alpha": 0.1}}.items()):
        models = {
            model: {"auc": interval(0.731 + place / 100 + i / 1000)} for i, model in enumerate(("student_alone", "student", "teacher"))
        }
        models["student"] |= {"rows_per_second": 250_000.0, "parameters": 400_000, "bytes": 1_600_000}
        found.append(
            {
                "name": name,
                "set": values,
                "privileged": place == 1,
                "models": models,
                "comparisons": {
                    "student-student_alone": {"auc": gap(0.0013 + place / 100)},
                    "student-configured": {"auc": gap(-0.0092 + place / 100)},
                },
                "transfer_ratio": 0.5,
                "transfer_ratio_interval": {"value": 0.63, "low": 0.44, "high": 0.81}
                if place
                else {"value": None, "reason": "the teacher's lead over the student alone is not above chance"},
            }
        )
    return found


def whole_proof() -> Figures:
    """prove.json with all that its page can show."""
    found = proof_of_two_teachers()
    for i, name in enumerate(("without soft targets", "embeddings of the teacher as first weights", "hints of the teacher's last layer")):
        losses = {"against_student": gap(-0.003 * i), "against_student_alone": gap(0.006 - 0.004 * i)}
        found["ablation"].append({"name": name, "auc": interval(0.741 - 0.002 * i), **losses})
    ratio = {"transfer_ratio": 0.71, "transfer_ratio_interval": {"value": 0.71, "low": 0.52, "high": 0.93}}
    return found | ratio | {"amounts": {"key": "distill.transfer.amount", "points": amounts()}, "arms": arms()}


def sweep(impossible: str = "the configuration forbids it") -> Figures:
    """sweep.json of two kinds of student in two widths."""
    metrics = run_metrics()
    students = [
        {
            "name": f"{kind} {width}",
            "kind": kind,
            "width": width,
            "validation_auc": 0.75 + width / 1000,
            "auc": interval(0.74 + width / 1000),
            "rows_per_second": 1e6 / width,
            "parameters": 1000 * width,
            "bytes": 4000 * width,
            "on_frontier": {"rows_per_second": kind == "pooled", "bytes": width == 8},
        }
        for kind in ("pooled", "din")
        for width in (8, 32)
    ]
    return {
        "run": metrics["run"],
        "teacher": metrics["models"]["teacher"],
        "students": students,
        "not_possible": {"din 512": impossible},
    }


def whole_sweep() -> Figures:
    """sweep.json with all that its page can show."""
    found = sweep()
    for kind, shift in (("dcn", 0.002), ("bilstm", -0.004)):
        for width in (8, 16, 32):
            facts = {"kind": kind, "width": width, "auc": interval(0.745 + width / 2000 + shift), "validation_auc": 0.75 + width / 2000}
            costs = {"rows_per_second": 6e5 / width, "parameters": 900 * width, "bytes": 5000 * width, "on_frontier": {}}
            found["students"].append({"name": f"{kind} {width}", **facts, **costs})
    found["others"] = [
        {"name": "DeepFM of torch-rechub", "auc": interval(0.731), "rows_per_second": 2000.0, "parameters": 90_000, "bytes": None}
    ]
    return found


def fresh() -> Figures:
    """What the champion's teacher and students are worth on the newest date of the monitor."""
    aucs = {"teacher": 0.7311, "student": 0.7262, "student_alone": 0.7204}
    return {
        "date": "2024-01-07",
        "model_version": "4",
        "rows": 19_998,
        "clicks": 2210,
        "privileged": False,
        "models": {name: {"auc": interval(auc)} for name, auc in aucs.items()},
        "comparisons": {f"{name}-student_alone": {"auc": gap(aucs[name] - aucs["student_alone"])} for name in ("teacher", "student")},
        "transfer_ratio": 0.542,
        "transfer_ratio_interval": {"value": 0.542, "low": 0.33, "high": 0.79},
        "at_registration": {
            "auc": {"teacher": 0.7437, "student": 0.7412, "student_alone": 0.7351},
            "changed": {"teacher": -0.0126, "student": -0.015, "student_alone": -0.0147},
            "transfer_ratio": 0.709,
        },
    }


def monitor() -> Figures:
    """monitor.json of six dates: measured, one with a broken bound, and one whose clicks are still to come."""
    dates: list[Figures] = []
    for day in range(3, 8):
        value = 0.71 + day / 1000
        broken = day == 7
        dates.append(
            {
                "date": f"2024-01-{day:02d}",
                "state": "measured",
                "model_version": "3" if day < 6 else "4",
                "rows": 900 * day,
                "clicks": 90 * day,
                "auc": interval(0.61 if broken else value, 0.01),
                "log_loss": interval(0.4),
                "calibration_ratio": interval(1.02, 0.04),
                "calibration_error": 0.012,
                "psi": 0.03 if day > 3 else {"value": None, "reason": "there is no distribution of the validation rows"},
                "checks": [{"name": "auc", "value": 0.61 if broken else value, "bound": ">= 0.65", "passed": not broken}],
            }
        )
    dates.append({"date": "2024-01-08", "state": "waiting", "model_version": "4", "reason": "its clicks are still to come", "checks": []})
    return {"name": "globo", "dates": dates, "bounds": {"auc_min": 0.65, "calibration_ratio_min": 0.8, "calibration_ratio_max": 1.25}}


def features() -> Figures:
    """features.json of five columns: a telling one, one with nulls that turned around and drifts, a constant, an empty one, and a leak."""

    def window(
        auc: Any, nulls: int = 0, null_auc: Any = None, values: tuple[float, ...] | None = (0, 1, 3, 8, 21, 144, 12_345.6)
    ) -> Figures:
        quantiles = values and dict(zip(("min", "p5", "p25", "p50", "p75", "p95", "max"), values, strict=True))
        missing = {"value": None, "reason": "every row has a value"}
        counts = {"rows": 1000, "clicks": 200, "nulls": nulls, "null_clicks": nulls // 4, "null_share": nulls / 1000}
        return {**counts, "quantiles": quantiles, "auc": auc, "null_auc": null_auc or missing}

    def column(name: str, train: Figures, validation: Figures, clicks_at: str | None, psi: Any = 0.012, **more: Any) -> Figures:
        said = {"name": name, "kind": "statistic", "meaning": f"what {name} says", "clicks_at": clicks_at, "leak": None, "psi": psi}
        return {**said, "psi_by_chance": 0.04, "train": train, "validation": validation, **more}

    none = {"value": None, "reason": "none of the 1000 rows has a value"}
    undefined = {"value": None, "reason": "no row of training has a value"}
    told = "its values alone tell clicks from the rest, AUC 0.9987 on validation"
    constant = window(0.5, values=(7.0,) * 7)
    return {
        "name": "globo",
        "features": [
            column("dwell_seconds", window(0.9991), window(0.9987), "higher", leak=told, kind="context"),
            column("item_clicks_1h", window(0.712), window(0.7263), "higher"),
            column("user_gap", window(0.43, 206, 0.55), window(0.57, 12, 0.51), "lower", psi=0.638),
            column("hour", constant, constant, None),
            column("item_age", window(none, 1000, values=None), window(none, 1000, values=None), None, psi=undefined, psi_by_chance=None),
        ],
    }
