"""The benchmark of GPUs measures what it says: on the processor, with tiny shapes."""

from __future__ import annotations

import doctest
import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpu, model_flops
from ctr_kd.config import EncoderConfig, FinetuneConfig
from ctr_kd.data.batching import make_batch
from ctr_kd.data.samples import Segment
from ctr_kd.models.bert import Bert, MaskedItemModel
from ctr_kd.models.click_bert import ClickBert
from ctr_kd.models.layers import Head
from ctr_kd.objectives.sampled_softmax import softmax_loss
from ctr_kd.training.pretrain import build_encoder

ON_CPU = ["--device", "cpu", "--small", "--modes", "float32", "bfloat16"]  # compiled it would take half a minute


@pytest.fixture(scope="module")
def read_by_encoder() -> list[tuple[int, int, int]]:
    """Sequences, positions and tokens without padding of every batch that an encoder was trained on."""
    return []


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, read_by_encoder: list[tuple[int, int, int]]) -> Iterator[dict[str, Any]]:
    """The results of a run from beginning to end."""
    states = MaskedItemModel.states

    def noted(model: MaskedItemModel, tokens: torch.Tensor, length: torch.Tensor, *asked: Any, **how: Any) -> torch.Tensor:
        if model.training and torch.is_grad_enabled():
            read_by_encoder.append((len(length), tokens.shape[0] * tokens.shape[1], int(length.sum())))
        return states(model, tokens, length, *asked, **how)

    file = tmp_path_factory.mktemp("gpu") / "found.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MaskedItemModel, "states", noted)
        gpu.main([*ON_CPU, "--peak-tflops", "0.01", "--output", str(file)])
    yield json.loads(file.read_text(encoding="utf-8"))


def test_every_figure_is_there_or_has_a_reason(found: dict[str, Any]) -> None:
    reasons = {
        (one["encoder"], one["stage"], one["mode"], figure): one["reason"] for one in found["not_measured"] for figure in one["figures"]
    }
    assert all(reasons.values())
    absent = set()
    for run in found["runs"]:
        name = (run["encoder"], run["stage"], run["mode"])
        assert list(run)[3:] == list(gpu.FIGURES)
        absent |= {(*name, figure) for figure in gpu.FIGURES if run[figure] is None}
    assert absent == set(reasons)
    stages = [(run["encoder"], run["stage"]) for run in found["runs"] if run["steps"] is not None]
    assert {(encoder, stage) for encoder in gpu.FULL.shapes for stage in ("pretrain", "finetune", "label", "distill")} == set(stages)
    assert found["faults"] == [] and found["small"] and found["machine"]["torch"] == torch.__version__


def test_figures_are_plausible_and_the_losses_are_those_of_the_processor(found: dict[str, Any]) -> None:
    bfloat16_has_no_effect = gpu.Benchmark(gpu.SMALL, "cpu", [], []).without_effect("bfloat16")
    for run in found["runs"]:
        if run["steps"] is None:
            assert "bfloat16" in run["mode"] and bfloat16_has_no_effect
            continue
        assert 0 < run["tokens_per_second"] <= run["positions_per_second"]
        assert run["rows_per_second"] > 0 and 0 < run["median_step_seconds"] <= run["slowest_step_seconds"]
        if run["stage"] != "distill":
            assert 0 < run["share_of_peak"] <= run["share_of_peak_with_padding"]
        for precision, bounds in gpu.BOUNDS.items():
            for what, bound in bounds.items():
                difference = run[f"{precision}_{what}_difference"]
                assert difference is None or difference <= (bound if precision == "bfloat16" else 1e-6)  # it is the same processor
        compared = run["float32_labels_difference" if run["stage"] == "label" else "float32_loss_difference"]
        assert (compared is None) == (run["stage"] == "pretrain" and run["mode"] != "float32")


def test_tokens_are_those_that_the_encoder_was_given(found: dict[str, Any], read_by_encoder: list[tuple[int, int, int]]) -> None:
    run = found["runs"][0]
    sizes = gpu.SMALL
    steps = read_by_encoder[sizes.warm : sizes.warm + run["steps"]]
    sequences, positions, tokens = np.sum(steps, axis=0)
    assert run["encoder"] == "default" and run["stage"] == "pretrain" and run["steps"] == sizes.steps
    assert run["positions_per_second"] / run["tokens_per_second"] == pytest.approx(positions / tokens, rel=1e-2)
    assert run["tokens_per_second"] / run["rows_per_second"] == pytest.approx(tokens / sequences, rel=1e-2)


def test_rows_are_labelled_in_batches_of_like_length(found: dict[str, Any]) -> None:
    run = next(run for run in found["runs"] if run["stage"] == "label")
    requests, candidates = gpu.SMALL.requests, gpu.SMALL.candidates
    history = gpu.MadeClicks(gpu.SMALL).rows().train.a
    read = np.sort((history.end - history.start)[::candidates] + 1)  # and a [MASK]
    batch = 4 * gpu.SMALL.shapes["default"].rows // candidates
    padded = sum(len(read[i : i + batch]) * read[i : i + batch].max() for i in range(0, requests, batch))
    assert run["positions_per_second"] / run["tokens_per_second"] == pytest.approx(padded / read.sum(), rel=1e-3)


@pytest.mark.parametrize(("stage", "tokens", "positions"), [("label", 3, 4), ("distill", 2, 3)])
def test_tokens_of_two_requests_by_hand(stage: str, tokens: int, positions: int) -> None:
    """Histories of 3 clicks and of 1, two candidates each, in 2 seconds; a teacher reads a [MASK] behind each, and padding."""
    benchmark = gpu.Benchmark(gpu.SMALL, "cpu", ["float32"], ["default"])
    train = replace(
        benchmark.rows.train.take(slice(0, 4)),
        group=np.array([0, 0, 1, 1]),
        a=Segment(benchmark.log.clicks.pool, np.array([0, 0, 3, 3]), np.array([3, 3, 4, 4]), 1),
    )
    benchmark.rows = replace(benchmark.rows, train=train)
    one = gpu.Measurement("default", stage, "float32")
    warm = gpu.SMALL.warm
    watch = gpu.Watch(gpu.SMALL, torch.device("cpu"), (), began=[7.0] * (warm + 1) + [9.0], rows=[np.arange(4)] * (warm + 1))
    benchmark.note(one, watch, None, "")
    run = benchmark.found[one]
    assert (run["steps"], run["seconds"], run["rows_per_second"]) == (1, 2.0, 2)
    assert (run["tokens_per_second"], run["positions_per_second"]) == (tokens, positions)


def test_the_work_of_a_training_step_is_what_torch_counts() -> None:
    config = EncoderConfig(width=16, layers=3, heads=2, feed_forward=24, dropout=0)
    model = MaskedItemModel(Bert({"item": 40}, 9, config), torch.arange(40, dtype=torch.int32)[:, None])
    tokens, length = torch.randint(5, 40, (4, 9, 1), dtype=torch.int32), torch.tensor([9, 9, 8, 3])
    position, target = torch.tensor([0, 5, 11, 12, 30]), torch.tensor([7, 7, 8, 30, 39])
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        softmax_loss(model, model.states(tokens, length, position), target).backward()
    expected = model_flops.encoder_flops(config, np.full(4, 9), 5) + model_flops.item_head_flops(config, 40, 5)
    assert counter.get_total_flops() == 3 * expected


def test_the_work_of_labelling_is_nearly_what_torch_counts() -> None:
    log = gpu.MadeClicks(gpu.SMALL)
    config, rows = EncoderConfig(width=64, layers=2, heads=2), log.rows().train
    model = ClickBert(build_encoder(log, log.signature(), config), log.signature(), FinetuneConfig()).eval()
    batch = make_batch(rows, np.arange(32))
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(*batch)
    length = np.full(len(batch.segment_a), batch.segment_a.shape[1] + 1)
    heads = sum(model_flops.head_flops(head, 32) for head in model.modules() if isinstance(head, Head))
    expected = (
        model_flops.encoder_flops(config, length, len(length), of_each=True) + model_flops.item_head_flops(config, 0, len(length)) + heads
    )
    assert expected == pytest.approx(counter.get_total_flops(), rel=0.02)  # the layer of the newest clicks is not worth a formula


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--minutes", "0"], "0 is not above zero"),
        (["--minutes", "soon"], "invalid above_zero value: 'soon'"),
        (["--shrink", "0"], "--shrink must be 1 or more, not 0"),
        (["--peak-tflops", "nan"], "nan is not above zero and finite"),
        (["--modes", "float8"], "invalid choice: 'float8'"),
        (["--output", "no such folder/found.json"], "there is no folder no such folder"),
    ],
)
def test_what_is_wrong_with_an_option_is_said_in_a_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        gpu.main([*ON_CPU, *words])
    assert ended.value.code == 2 and said in capsys.readouterr().err.splitlines()[-1]


def test_a_gpu_that_is_not_there_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"^--device: .*torch finds no GPU here[^\n]*$"):
        gpu.main(["--device", "cuda", "--small"])


def test_a_loss_out_of_bounds_and_a_stage_that_fails_are_written_and_end_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel\nfor this")

    monkeypatch.setattr(gpu.distilling, "train_student", broken)
    monkeypatch.setitem(gpu.BOUNDS, "float32", {**gpu.BOUNDS["float32"], "loss": -1.0})
    file = tmp_path / "found.json"
    with pytest.raises(SystemExit) as ended:
        gpu.main([*ON_CPU, "--modes", "float32", "--encoders", "default", "--output", str(file)])
    assert isinstance(ended.value.code, str) and "\n" not in ended.value.code
    found = json.loads(file.read_text(encoding="utf-8"))
    assert [fault.partition(":")[0] for fault in found["faults"]] == [
        f"default, {one}, float32" for one in ("pretrain", "finetune", "distill")
    ]
    assert found["faults"][-1].endswith("RuntimeError: no kernel for this")
    assert [run["steps"] is None for run in found["runs"]] == [False, False, False, True]


def test_what_the_time_does_not_reach_is_null_with_a_reason(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    gpu.main([*ON_CPU, "--minutes", "1e-9", "--output", str(file)])
    found = json.loads(file.read_text(encoding="utf-8"))
    assert all(run[figure] is None for run in found["runs"] for figure in gpu.FIGURES)
    assert {one["reason"] for one in found["not_measured"]} == {"the time was over before"} and len(found["not_measured"]) == len(
        found["runs"]
    )


def test_the_clock_ends_what_hangs() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(gpu.OutOfTime), gpu.at_most(0.01):
        signal.pause()
    assert signal.getsignal(signal.SIGALRM) is before


def test_the_examples() -> None:
    examples = doctest.testmod(model_flops)
    assert examples.attempted and not examples.failed
