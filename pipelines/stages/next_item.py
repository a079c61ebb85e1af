"""Stages next-item and next-item-student: where the pretrained encoder, and a light student of it, rank what users clicked next.

They are no part of the pipeline; their command runs them.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ctr_kd.data.samples import Assembly
from feature_store.features.event_log import microseconds
from feature_store.tables.json_files import write_json
from pipelines.training.bert import pretrained_weights, pretraining_until
from pipelines.training.facts import PretrainingFacts
from pipelines.training.jobs import job_of, record_curve
from pipelines.workspace.artifacts import read_json
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.reports import publish_beside

if TYPE_CHECKING:
    from ctr_kd.evaluation.next_item import NextItems, Score
    from ctr_kd.models.bert import MaskedItemModel
    from ctr_kd.retrieval.next_items import NextItemRetriever

FILE, STUDENT_FILE = "next_item.json", "next_item_student.json"
STUDENT_FOLDER = "student"  # what production needs, in the artifact


def rank_next_items(context: StageContext) -> None:
    """Rank the last click of the test window, and of the validation window, of every user; writes ``next_item.json``."""
    from ctr_kd.evaluation.next_item import next_item_score

    config = context.config
    assembly = Assembly(context.inputs["ingest"], config.history.max_length)
    model = _encoder(context, assembly)
    figures = _figures(context, next_item_score(model), _windows(context, assembly), len(model.vocabulary), "")
    curve = PretrainingFacts.read(context.inputs["pretrain"]).curve
    facts = {"split": assembly.summary.split.to_json(), **config.next_item.model_dump(include={"exclude_history"})}
    facts |= {"training_seconds": None if curve is None else curve.seconds}
    write_json(context.output / FILE, facts | figures)


def make_next_item_student(context: StageContext) -> None:
    """Distil the encoder, export the student, and rank by the exported files what the encoder ranked; writes ``next_item_student.json``."""
    from ctr_kd.evaluation.next_item import histories_per_second
    from ctr_kd.evaluation.throughput import parameter_count
    from ctr_kd.export.next_item_export import export_next_item
    from ctr_kd.retrieval.next_items import NextItemRetriever
    from ctr_kd.training.next_item_student import distil_next_items

    config, pretrained = context.config, context.inputs["pretrain"]
    assembly = Assembly(context.inputs["ingest"], config.history.max_length)
    teacher = _encoder(context, assembly)
    settings = config.next_item.student
    until = pretraining_until(pretrained)
    student, curve = distil_next_items(assembly, teacher, config.pretrain, settings, job_of(context), until=until)
    record_curve(context, "next_item_student", curve)
    folder = context.output / STUDENT_FOLDER
    export_next_item(student, assembly.vocabulary["item"], config.history.max_length - 1, folder)

    exported = NextItemRetriever(folder)
    windows = _windows(context, assembly)
    figures = _figures(context, _score(exported), windows, len(student.vocabulary), "student, ")
    vectors = lambda tokens, length: exported.vectors_of(tokens[:, :, 0].numpy(), length.numpy())  # noqa: E731
    cost = {
        "teacher_hr@10": (read_json(context.inputs["next-item"] / FILE) or {})["hr@10"],
        "histories_per_second": {
            "teacher": histories_per_second(teacher.history_state, windows["test"]),
            "student": histories_per_second(vectors, windows["test"]),
        },
        "training_seconds": curve.seconds,
        "teacher_parameters": parameter_count(teacher),
        "student_bytes": sum(file.stat().st_size for file in folder.iterdir()),
    }
    shutil.copyfile(context.inputs["next-item"] / FILE, context.output / FILE)  # where there is no report, both are it
    write_json(context.output / STUDENT_FILE, figures | cost)


def _encoder(context: StageContext, assembly: Assembly) -> MaskedItemModel:
    """The pretrained encoder; of several the first."""
    from ctr_kd.training.checkpoint import load_weights
    from ctr_kd.training.pretrain import build_encoder

    model, pretrained = build_encoder(assembly, assembly.signature(), context.config.pretrain.encoder), context.inputs["pretrain"]
    load_weights(model, pretrained_weights(pretrained), pretrained.name)
    return model.eval()


def _windows(context: StageContext, assembly: Assembly) -> dict[str, NextItems]:
    """What is ranked, of the validation window and of the test window."""
    from ctr_kd.evaluation.next_item import next_items

    split, longest = assembly.summary.split, context.config.history.max_length - 1  # one position is taken by [MASK] or [CLS]
    train_until, validate_until, test_until = map(microseconds, (split.train_until, split.validate_until, split.test_until))
    windows = {"validation": (train_until, validate_until), "test": (validate_until, test_until)}
    return {window: next_items(assembly, *times, longest) for window, times in windows.items()}


def _figures(context: StageContext, score: Score, windows: Mapping[str, NextItems], vocabulary: int, who: str) -> dict[str, Any]:
    """Figures of the test window, and under ``validation`` of that, as a file has them; the first go to the tracking server."""
    from ctr_kd.evaluation.next_item import evaluate_next_items

    config, found = context.config, dict[str, Any]()
    for window, items in windows.items():
        found[window] = evaluate_next_items(score, items, vocabulary, config.next_item)
        context.report(f"{who}{window}: {found[window]['users']:,} users, HR@10 {found[window]['hr@10']:.4f}")
    context.record({name.replace("@", "_at_"): value for name, value in found["test"].items()})
    facts = {"name": config.name, "fingerprint": context.fingerprint, "seed": config.seed}
    return facts | found["test"] | {"validation": found["validation"]}


def _score(exported: NextItemRetriever) -> Score:
    """An exported student as a ranking asks it: scores of tensors."""
    from torch import from_numpy

    return lambda tokens, length: from_numpy(exported.scores(tokens[:, :, 0].numpy(), length.numpy()))


def next_item_table(run: RunContext) -> str:
    """The figures as a table, which targets could not be found at all, and where the figures are."""
    figures: Mapping[str, Any] = read_json(run.artifacts["next-item"].path / FILE) or {}
    names = [name for name in figures["validation"] if "@" in name or name == "mrr"]
    lines = [
        f"next item among all {figures['items']:,} items, history {'excluded' if figures['exclude_history'] else 'included'}",
        " ".join([f"{'':<10}", *(f"{name.upper():>8}" for name in names), f"{'users':>9}"]),
    ]
    for window, values in (("validation", figures["validation"]), ("test", figures)):
        lines.append(" ".join([f"{window:<10}", *(f"{values[name]:>8.4f}" for name in names), f"{values['users']:>9,}"]))
    if figures["excluded_targets"]:
        lines.append(
            f"{figures['excluded_targets']:,} of {figures['users']:,} test targets were clicked before, are not ranked and count as "
            "misses; where people click again: --set next_item.exclude_history=false"
        )
    if figures["unknown_targets"]:
        lines.append(f"{figures['unknown_targets']:,} of {figures['users']:,} test targets are not in the vocabulary and count as misses")
    return "\n".join([*lines, f"report: {run.workspace / 'reports' / 'latest' / FILE}"])


def next_item_student_table(run: RunContext) -> str:
    """What the student keeps of the encoder's figures, at what cost, and where its files are."""
    artifact = run.artifacts["next-item-student"].path
    figures: Mapping[str, Any] = read_json(artifact / STUDENT_FILE) or {}
    validation, speed, teacher = figures["validation"], figures["histories_per_second"], figures["teacher_hr@10"]
    kept = f"{figures['hr@10'] / teacher:.1%} of the encoder's HR@10" if teacher else "the encoder's HR@10 is 0"
    return "\n".join(
        [
            f"student: HR@10 {figures['hr@10']:.4f}, NDCG@10 {figures['ndcg@10']:.4f}; "
            f"on validation {validation['hr@10']:.4f}, {validation['ndcg@10']:.4f}",
            f"{kept}; {speed['student']:,.0f} histories a second on one thread, {speed['student'] / speed['teacher']:,.0f} times as many",
            f"files: {artifact / STUDENT_FOLDER} ({figures['student_bytes'] / 1e6:,.1f} MB)",
        ]
    )


STAGE = Stage(
    "next-item",
    rank_next_items,
    upstream=("ingest", "pretrain"),
    keys=("name", "seed", "history.max_length", "pretrain", "next_item.exclude_history", "next_item.batch_size"),
    conclude=lambda context: publish_beside(context, (FILE,)),
)

STUDENT_STAGE = Stage(
    "next-item-student",
    make_next_item_student,
    upstream=("ingest", "pretrain", "next-item"),
    keys=("name", "seed", "history.max_length", "pretrain", "next_item"),
    conclude=lambda context: publish_beside(context, (FILE, STUDENT_FILE)),
)
