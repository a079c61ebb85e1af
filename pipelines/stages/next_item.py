"""Stage next-item: where the pretrained encoder ranks what users clicked next. It is no part of the pipeline; its command runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ctr_kd.data.samples import Assembly
from feature_store.features.event_log import microseconds
from feature_store.tables.json_files import write_json
from pipelines.workspace.artifacts import read_json
from pipelines.workspace.context import RunContext, Stage, StageContext
from pipelines.workspace.reports import publish_beside

FILE = "next_item.json"


def rank_next_items(context: StageContext) -> None:
    """Rank the last click of the test window, and of the validation window, of every user; writes ``next_item.json``."""
    from ctr_kd.evaluation.next_item import evaluate_next_items, next_item_score, next_items
    from ctr_kd.training.checkpoint import load_weights
    from ctr_kd.training.pretrain import build_encoder

    config = context.config
    assembly = Assembly(context.inputs["ingest"], config.history.max_length)
    model = build_encoder(assembly, assembly.signature(), config.pretrain.encoder)
    pretrained = context.inputs["pretrain"]
    load_weights(model, pretrained / "pretrained.pt", pretrained.name)
    score, vocabulary = next_item_score(model), len(model.vocabulary)
    split = assembly.summary.split
    train_until, validate_until, test_until = map(microseconds, (split.train_until, split.validate_until, split.test_until))
    figures: dict[str, Any] = {}
    for window, start, end in (("validation", train_until, validate_until), ("test", validate_until, test_until)):
        # One position of the longest sequence is taken by [MASK] or [CLS].
        items = next_items(assembly, start, end, config.history.max_length - 1)
        figures[window] = evaluate_next_items(score, items, vocabulary, config.next_item)
        context.report(f"{window}: {figures[window]['users']:,} users, HR@10 {figures[window]['hr@10']:.4f}")
    facts = {"name": config.name, "fingerprint": context.fingerprint, "seed": config.seed, "split": split.to_json()}
    result = facts | config.next_item.model_dump(include={"exclude_history"}) | figures["test"] | {"validation": figures["validation"]}
    write_json(context.output / FILE, result)
    context.record({name.replace("@", "_at_"): value for name, value in figures["test"].items()})


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


STAGE = Stage(
    "next-item",
    rank_next_items,
    upstream=("ingest", "pretrain"),
    keys=("name", "seed", "history.max_length", "pretrain", "next_item"),
    conclude=lambda context: publish_beside(context, (FILE,)),
)
