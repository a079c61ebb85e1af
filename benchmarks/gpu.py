"""What a GPU makes of the trainings: tokens and rows a second, share of its peak, memory, and whether its losses are the processor's.

    python benchmarks/gpu.py                                     8 minutes at most; writes results/gpu.json where there is a GPU
    python benchmarks/gpu.py --minutes 5 --output found.json     another bound, another file
    python benchmarks/gpu.py --device cpu --small                tiny shapes in seconds: whether the script itself works

Two encoders, BERT-base (12 layers of 768) and the one that `pretrain.encoder` is by default, learn hidden items of made clicks, in
float32, in bfloat16, and in bfloat16 compiled. Each is then fine-tuned for clicks, labels rows, and teaches the default student. These are
the trainings of the package itself, ended once they were timed for long enough; the first steps are left out. Real tokens are positions
that hold a click or the [MASK] behind a history; padded positions are all that an encoder is given.

At the end of each training its loss and the norm of its gradient are computed once more, of the same weights and the same rows without
dropout: by the processor in float32, and by the device. Where they differ by more than BOUNDS the script ends with an error, after
everything was measured and written. What did not fit into the time is null, and `not_measured` says why.

The work of a model is that of its matrix products, 2 operations per multiplication, and backward twice that of forward (Kaplan et al.
2020, arXiv:2001.08361, section 2.1). Of each token that is 6 times the weights that multiply it, and 12 * layers * width * length for
attention (Chowdhery et al. 2022, arXiv:2204.02311, appendix B); the head that predicts hidden items comes on top, and the last layer counts
at those positions alone that it is asked for. Nothing that is computed twice counts twice. The share of the peak is of the dense bfloat16
peak whatever a training computes in.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from torch import nn
from torch._dynamo.utils import counters

from benchmarks.model_flops import encoder_flops, head_flops, item_head_flops, peak_of, predicted_items
from ctr_kd.config import DistillConfig, EncoderConfig, FinetuneConfig, PretrainConfig
from ctr_kd.config_students import StudentConfig
from ctr_kd.config_training import TrainingConfig
from ctr_kd.data.row_batches import row_batches
from ctr_kd.data.samples import DENSE_BINS, GAP, GAP_BUCKETS, Samples, Segment, Signature
from ctr_kd.models.bert import MaskedItemModel
from ctr_kd.models.layers import Head
from ctr_kd.training import distill as distilling
from ctr_kd.training import finetune as finetuning
from ctr_kd.training import pretrain as pretraining
from ctr_kd.training.devices import autocast, choose_device, compiled, report_what_has_no_effect
from ctr_kd.training.errors import DeviceError
from ctr_kd.training.job import TrainingJob, TrainingRows
from ctr_kd.training.learning_curve import LearningCurve
from ctr_kd.training.loop import fit, predict
from feature_store.special_tokens import SPECIALS

RESULTS = Path(__file__).with_name("results")
CPU = torch.device("cpu")
SEED = 0
ONE_USER = 1e-9  # share of the users aside that measure what was learned, one at least: here that is of no interest

MODES = {"float32": ("float32", False), "bfloat16": ("bfloat16", False), "bfloat16+compile": ("bfloat16", True)}
COMPILING_WEIGHT = 4.0  # share of the time that is left, beside 1 of every other measurement: compiling takes a minute or two

# Relative differences to the processor's float32 that rounding explains: of a loss and a gradient's norm, or of the labels as a vector.
# float32 sums in another order, with 24 bits; bfloat16 has 8.
BOUNDS = {"float32": {"loss": 1e-4, "gradient": 1e-3, "labels": 1e-3}, "bfloat16": {"loss": 2e-2, "gradient": 1e-1, "labels": 5e-2}}


@dataclass(frozen=True)
class Shape:
    """An encoder, and how much a step reads: sequences of pretraining, rows of fine-tuning."""

    encoder: EncoderConfig
    sequences: int
    rows: int


@dataclass(frozen=True)
class Sizes:
    """How much is made and measured.

    Attributes
    ----------
    shapes : dict of str to Shape
    items : int
        Of the vocabulary, special tokens excepted. Few enough for the softmax over all of them.
    longest : int
        Tokens of the longest sequence; the shortest has half as many.
    sequences : int
    requests, candidates : int
        The rows are their product; each request has another history.
    student_rows : int
        Per step of a student.
    warm : int
        Steps that are left out: they allocate memory, choose kernels, and compile.
    steps : int
        Most that are timed.
    seconds : float
        After which no more are.
    checked : int
        Sequences or rows whose loss the processor computes as well.
    """

    shapes: dict[str, Shape]
    items: int
    longest: int
    sequences: int
    requests: int
    candidates: int
    student_rows: int
    warm: int
    steps: int
    seconds: float
    checked: int


FULL = Sizes(
    shapes={
        "default": Shape(PretrainConfig().encoder, sequences=1024, rows=8192),
        "bert_base": Shape(EncoderConfig(width=768, layers=12, heads=12), sequences=128, rows=1024),
    },
    items=10_000,
    longest=128,
    sequences=32_768,
    requests=8192,
    candidates=8,
    student_rows=8192,
    warm=5,
    steps=400,
    seconds=10.0,
    checked=8,
)
SMALL = Sizes(
    shapes={
        "default": Shape(EncoderConfig(width=16, layers=1, heads=2), sequences=16, rows=32),
        "bert_base": Shape(EncoderConfig(width=32, layers=2, heads=4), sequences=8, rows=16),
    },
    items=60,
    longest=12,
    sequences=128,
    requests=64,
    candidates=4,
    student_rows=32,
    warm=2,
    steps=3,
    seconds=60.0,
    checked=4,
)


class MadeClicks:
    """Random clicks on items of unequal popularity, in place of a log: sequences to pretrain on, and rows of requests to label.

    Parameters
    ----------
    sizes : Sizes
    """

    def __init__(self, sizes: Sizes) -> None:
        rng = np.random.default_rng(SEED)
        self.sizes = sizes
        self.items = sizes.items + len(SPECIALS)
        length = rng.integers(sizes.longest // 2, sizes.longest + 1, sizes.sequences)
        end = np.cumsum(length)
        ids = rng.zipf(1.2, int(end[-1])) % sizes.items + len(SPECIALS)
        pool = np.stack([ids, rng.integers(1, GAP_BUCKETS, len(ids))], axis=1).astype(np.int32)
        self.clicks = Segment(pool, end - length, end, gap_column=1)
        self._rng = rng

    def signature(self) -> Signature:
        """Names and sizes of the inputs."""
        return Signature(
            tokens={"item": self.items, GAP: GAP_BUCKETS},
            categorical={"device": len(SPECIALS) + 4},
            dense={"item_age": np.linspace(-2, 2, DENSE_BINS + 1).tolist()},
            outputs=1,
            max_length=self.sizes.longest,
        )

    def vocabulary_tokens(self) -> np.ndarray:
        """Token, int32 (vocabulary, 2), of every item: its id, and no gap."""
        return np.stack([np.arange(self.items), np.zeros(self.items)], axis=1).astype(np.int32)

    def sequences(self, until: int | None, overlap: float = 0.0) -> Segment:
        """All of them, whatever the time."""
        return self.clicks

    def users_of(self, sequences: Segment) -> np.ndarray:
        """Everybody has one sequence."""
        return np.arange(len(sequences.start))

    def rows(self) -> TrainingRows:
        """Training rows, and a few to validate by; each request has the history of another user, without its last click."""
        validated = 8
        requests, candidates = self.sizes.requests + validated, self.sizes.candidates
        rng, of_row = self._rng, np.arange(requests * candidates)
        group = of_row // candidates
        user = rng.permutation(len(self.clicks.start))[:requests][group]
        candidate = np.stack([rng.integers(len(SPECIALS), self.items, len(of_row)), np.zeros(len(of_row))], axis=1).astype(np.int32)
        label = (rng.random(len(of_row)) < 0.2).astype(np.float32)
        label[[0, 1, -2, -1]] = [0, 1, 0, 1]  # training and validation have both
        whole = Samples(
            row_id=of_row,
            group=group,
            user=user,
            a=Segment(self.clicks.pool, self.clicks.start[user], self.clicks.end[user] - 1, self.clicks.gap_column),
            b=Segment(candidate, of_row, of_row + 1, self.clicks.gap_column),
            categorical=rng.integers(len(SPECIALS), len(SPECIALS) + 4, (len(of_row), 1)).astype(np.int32),
            dense=rng.standard_normal((len(of_row), 1)).astype(np.float32),
            label=label,
        )
        cut = self.sizes.requests * candidates
        return TrainingRows(signature=self.signature(), train=whole.take(slice(0, cut)), validation=whole.take(slice(cut, None)))


# --- timing and checking a training ------------------------------------------------------------------------------------


class OutOfTime(BaseException):
    """The time of a measurement is over; not an Exception, so that nothing on the way takes it for a fault of its own."""


class Enough(Exception):
    """A training was timed for long enough."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """End the body of a ``with`` statement after so many seconds, whatever it does: nothing else ends a compilation.

    Raises
    ------
    OutOfTime
        In the body.
    """

    def ring(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass
class Watch:
    """What was seen of one measurement.

    Attributes
    ----------
    sizes : Sizes
    device : device
    checks : tuple of str
        Modes in which the loss is compared with the processor's.
    began : list of float
        When the making of each step's batch began, and that of one more.
    prepared : list of float
        Seconds in which the processor made each step's batch; a GPU computes the step before meanwhile.
    rows : list of int64 array
        Of each step.
    differences : dict of str to dict of str to float
        Relative ones by mode, then of what.
    peak_bytes : int or None
        None where the device does not count them.
    graphs : int
        That were compiled; more than one in a training means that some shapes were compiled for anew.
    """

    sizes: Sizes
    device: torch.device
    checks: tuple[str, ...]
    began: list[float] = field(default_factory=list)
    prepared: list[float] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)
    differences: dict[str, dict[str, float]] = field(default_factory=dict)
    peak_bytes: int | None = None
    graphs: int = 0

    @property
    def steps(self) -> list[float]:
        """Seconds of each step that was timed, the first ones left out."""
        return np.diff(self.began)[self.sizes.warm :].tolist()

    def begin_step(self, rows: np.ndarray) -> None:
        """Note that the batch of a step is about to be made: the device still computes the step before, and has done all earlier ones."""
        self.began.append(time.perf_counter())
        steps = self.steps
        if len(steps) >= self.sizes.steps or sum(steps) >= self.sizes.seconds:
            raise Enough
        self.rows.append(rows)

    def end(self) -> None:
        """Note the compiled graphs and the most memory in use, before the check that follows adds to both."""
        self.graphs = int(counters["stats"]["unique_graphs"])
        if self.device.type == "cuda":
            self.peak_bytes = torch.cuda.max_memory_allocated(self.device)


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Let the trainings of the body be timed step by step, end once they were for long enough, and be checked then."""

    def fit_and_watch(model: nn.Module, config: TrainingConfig, job: TrainingJob, **how: Any) -> LearningCurve:
        loss = how.pop("loss")

        def loss_of(rows: np.ndarray, rng: np.random.Generator, progress: float) -> Callable[[slice], torch.Tensor]:
            watch.begin_step(rows)
            began = time.perf_counter()
            share_of: Callable[[slice], torch.Tensor] = loss(rows, rng, progress)
            watch.prepared.append(time.perf_counter() - began)
            return share_of

        try:
            with suppress(Enough):
                fit(model, config, job, loss=loss_of, **how)
        finally:
            watch.end()
        rows = how["plan"](np.random.default_rng(SEED))[0][: watch.sizes.checked]
        share_of = loss(rows, np.random.default_rng(SEED), 0.0)  # drawn once: the same hidden items for processor and device
        compare_losses(watch, model.eval(), how.get("to_compile") or model, lambda: share_of(slice(0, len(rows))))
        return LearningCurve(steps=len(watch.rows))

    with (
        mock.patch.object(pretraining, "fit", fit_and_watch),
        mock.patch.object(finetuning, "fit", fit_and_watch),
        mock.patch.object(distilling, "fit", fit_and_watch),
    ):
        yield


def compare_losses(watch: Watch, model: nn.Module, to_compile: nn.Module, loss: Callable[[], torch.Tensor]) -> None:
    """Note how far the device's loss and gradient are from the processor's, and leave the model on the processor.

    Parameters
    ----------
    watch : Watch
    model : Module
        In eval mode, so that nothing is dropped out.
    to_compile : Module
        What a training of this model compiles.
    loss : callable
        Of fixed rows, computed where the model lies.
    """

    def computed(device: torch.device, mode: str) -> tuple[float, float]:
        precision, compiling = MODES[mode]
        config = TrainingConfig(precision=precision, compile=compiling)
        model.to(device).zero_grad(set_to_none=True)
        with compiled(to_compile, config):
            with autocast(config, device):
                value = loss().float()
            value.backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        return value.item(), nn.utils.get_total_norm(gradients).item()

    for head in model.modules():
        if isinstance(head, Head):
            head.training = True  # in the precision of the training; what drops out are layers of it, which stay as they are
    model.cpu()
    expected = computed(CPU, "float32")
    for mode in watch.checks:
        found = computed(watch.device, mode)
        named = zip(("loss", "gradient"), found, expected, strict=True)
        watch.differences[mode] = {what: abs(one - other) / abs(other) for what, one, other in named}
    model.zero_grad(set_to_none=True)
    model.cpu()


# --- the measurements --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measurement:
    """One line of the results: a stage of the work of an encoder, in a mode."""

    encoder: str
    stage: str
    mode: str

    @property
    def weight(self) -> float:
        """Share of the time that is left."""
        return COMPILING_WEIGHT if MODES[self.mode][1] else 1.0

    def __str__(self) -> str:
        return f"{self.encoder}, {self.stage}, {self.mode}"


FIGURES = (
    "steps",
    "seconds",
    "tokens_per_second",
    "positions_per_second",
    "rows_per_second",
    "share_of_peak",
    "share_of_peak_with_padding",
    "median_step_seconds",
    "slowest_step_seconds",
    "share_of_time_making_batches",
    "compile_seconds",
    "graphs",
    "peak_memory_gb",
    *(f"{mode}_{what}_difference" for mode in BOUNDS for what in BOUNDS[mode]),
)


class Benchmark:
    """All measurements on one device, and what they found so far.

    Parameters
    ----------
    sizes : Sizes
    device : str
        As ``training.device`` has it.
    modes : sequence of str
        Of pretraining; what follows it is measured in bfloat16 where that is one of them, and in float32 elsewhere.
    encoders : sequence of str
        Names of ``sizes.shapes``.
    peak_tflops : float or None
    peak_reason : str
        Why there is no peak.

    Raises
    ------
    DeviceError
        When there is no such device.
    """

    def __init__(
        self, sizes: Sizes, device: str, modes: list[str], encoders: list[str], peak_tflops: float | None = None, peak_reason: str = ""
    ) -> None:
        self.sizes, self.peak_tflops, self.peak_reason = sizes, peak_tflops, peak_reason
        self.device_key = device
        self.device = choose_device(TrainingConfig(device=device))
        self.log = MadeClicks(sizes)
        self.rows = self.log.rows()
        self.learned, _ = pretraining.pretraining_sequences(self.log, PretrainConfig(validation_share=ONE_USER), None, SEED)
        self.scratch = tempfile.TemporaryDirectory()  # stays empty: no checkpoint is due before a training is ended
        after = "bfloat16" if "bfloat16" in modes and not self.without_effect("bfloat16") else "float32"
        self.planned = [
            Measurement(encoder, stage, mode)
            for encoder in encoders
            for stage, of_stage in (("pretrain", modes), ("finetune", [after]), ("label", [after]), ("distill", [after]))
            for mode in of_stage
        ]
        self.found: dict[Measurement, dict[str, Any]] = {one: dict.fromkeys(FIGURES) for one in self.planned}
        self.why: dict[Measurement, dict[str, str]] = {one: dict.fromkeys(FIGURES, "the time was over before") for one in self.planned}
        self.faults: list[str] = []

    def training(self, mode: str, batch_size: int) -> TrainingConfig:
        """A training that its clock ends, not its epochs, and that neither validates nor writes a checkpoint before."""
        precision, compiling = MODES[mode]
        return TrainingConfig(
            epochs=1000,
            batch_size=batch_size,
            learning_rate=1e-4,
            validations=1,
            checkpoint_seconds=1e9,
            device=self.device_key,
            precision=precision,
            compile=compiling,
        )

    def without_effect(self, mode: str) -> str:
        """Why a mode is another one on this machine; empty where it is not."""
        said: list[str] = []
        report_what_has_no_effect(self.training(mode, 1), self.device, said.append)
        return " ".join(said).removeprefix("warning: ")

    def run(self, deadline: float, save: Callable[[], None], debug: bool = False) -> None:
        """Measure everything in turn, until the time is over.

        Parameters
        ----------
        deadline : float
            Of ``time.monotonic``.
        save : callable
            Called after each measurement, so that a machine that goes away leaves what it had.
        debug : bool
            An error ends the run as it is.
        """
        encoder: MaskedItemModel | None = None
        labels: np.ndarray | None = None
        teacher: nn.Module | None = None
        for number, one in enumerate(self.planned):
            left = deadline - time.monotonic()
            if left <= 0:
                print(f"the time is over: {len(self.planned) - number} of {len(self.planned)} measurements are left out", flush=True)
                break
            if one.stage == "pretrain" and one.encoder != self.planned[number - 1].encoder:
                encoder = teacher = labels = None
            if reason := self.without_effect(one.mode):
                self._skip(one, reason)
                continue
            if (one.stage == "label" and teacher is None) or (one.stage == "distill" and labels is None):
                self._skip(one, f"there is no {'teacher' if teacher is None else 'label'}: what comes before it did not end")
                continue
            box = left * one.weight / sum(each.weight for each in self.planned[number:])
            precisions = tuple(mode for mode in BOUNDS if not self.without_effect(mode))
            watch = Watch(self.sizes, self.device, (one.mode,) if one.stage == "pretrain" else precisions)
            reason = ""
            self._begin()
            try:
                with at_most(box), watched(watch):
                    if one.stage == "pretrain":
                        encoder = self._pretrain(one)
                    elif one.stage == "finetune":
                        teacher = self._finetune(one, encoder)
                    elif one.stage == "label" and teacher is not None:
                        labels = self._label(one, teacher, watch)
                    else:
                        self._distill(one, labels)
            except OutOfTime:
                reason = f"{box:.0f} s of time for it were over before"
            except torch.OutOfMemoryError:
                reason = "the device's memory did not hold it: lower the batches by --shrink"
            except Exception as error:  # one that fails must not take the others' time on a rented machine
                if debug:
                    raise
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                self.faults.append(f"{one}: {reason}")
            self.note(one, watch, teacher, reason)
            print(self.line(one), flush=True)
            save()

    def _skip(self, one: Measurement, reason: str) -> None:
        self.why[one] = dict.fromkeys(FIGURES, reason)
        print(self.line(one), flush=True)

    def _begin(self) -> None:
        """Forget what the measurement before left on the device and in the compiler."""
        torch.compiler.reset()
        counters.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def _job(self, name: str) -> TrainingJob:
        return TrainingJob(seed=SEED, fingerprint="gpu", folder=Path(self.scratch.name), name=name)

    def _pretraining(self, one: Measurement) -> PretrainConfig:
        shape = self.sizes.shapes[one.encoder]
        return PretrainConfig(encoder=shape.encoder, training=self.training(one.mode, shape.sequences), validation_share=ONE_USER)

    def _pretrain(self, one: Measurement) -> MaskedItemModel:
        return pretraining.pretrain(self.log, self._pretraining(one), self._job(one.stage))[0]

    def _finetune(self, one: Measurement, encoder: MaskedItemModel | None) -> nn.Module:
        shape = self.sizes.shapes[one.encoder]
        if encoder is None:  # its pretraining did not end; what an encoder costs does not depend on what it learned
            encoder = pretraining.build_encoder(self.log, self.log.signature(), shape.encoder)
        config = FinetuneConfig(training=self.training(one.mode, shape.rows))
        return finetuning.finetune(copy.deepcopy(encoder), self.rows, config, self._job(one.stage), pretraining_rate=1e-4)[0]

    def _label(self, one: Measurement, teacher: nn.Module, watch: Watch) -> np.ndarray:
        """The teacher's logits of all rows, again and again; then some of them on the processor."""
        train, batch = self.rows.train, self.sizes.shapes[one.encoder].rows * 4  # without gradients there is room for more
        few = train.take(slice(0, self.sizes.checked * self.sizes.candidates))

        def labelled(mode: str, rows: Samples, report: Callable[[int], object] = lambda done: None) -> np.ndarray:
            with autocast(self.training(mode, batch), self.device):  # as a transfer set is labelled
                return predict(teacher, rows, batch, report)

        teacher.to(self.device)
        plan = list(row_batches(train, batch, None))  # as it predicts
        labels = labelled(one.mode, train)  # the first pass is left out, as the first steps are
        watch.rows += [plan[0]] * self.sizes.warm
        watch.began += [time.perf_counter()] * (self.sizes.warm + 1)
        while not watch.steps or (sum(watch.steps) < self.sizes.seconds and len(watch.steps) < self.sizes.steps):
            watch.rows += plan
            labels = labelled(one.mode, train, lambda done: watch.began.append(time.perf_counter()))
        watch.end()
        found = {mode: labelled(mode, few) for mode in watch.checks}
        expected = predict(teacher.cpu(), few, batch)
        for mode, logits in found.items():
            difference = float(np.linalg.norm(logits - expected) / np.linalg.norm(expected))
            watch.differences[mode] = {"labels": difference}
        return labels

    def _distill(self, one: Measurement, labels: np.ndarray | None) -> None:
        config = DistillConfig(student=StudentConfig(), training=self.training(one.mode, self.sizes.student_rows))
        distilling.train_student(self.rows, config, self._job(one.stage), teacher=labels)

    def lengths(self, one: Measurement, rows: np.ndarray) -> np.ndarray:
        """Positions, without padding, of each sequence that an encoder (or the student) reads in a step: int64 (sequences,)."""
        if one.stage == "pretrain":
            return self.learned.end[rows] - self.learned.start[rows]
        train = self.rows.train
        first = rows[np.unique(train.group[rows], return_index=True)[1]]  # a request's candidates share its history
        return train.a.end[first] - train.a.start[first] + (one.stage != "distill")  # a student needs no [MASK] behind it

    def flops(self, one: Measurement, length: np.ndarray, rows: int, teacher: nn.Module | None) -> float | None:
        """Operations of a step on sequences of some lengths; None of a student, whose work is looking up and adding."""
        config = self.sizes.shapes[one.encoder].encoder
        if one.stage == "distill":
            return None
        if one.stage == "pretrain":
            settings = self._pretraining(one)
            hidden = predicted_items(settings, length)
            return 3 * (encoder_flops(config, length, hidden) + item_head_flops(config, self.log.items, hidden))
        forward = encoder_flops(config, length, len(length), of_each=True) + item_head_flops(config, 0, len(length))
        if teacher is not None:
            forward += sum(head_flops(head, rows) for head in teacher.modules() if isinstance(head, Head))
        return forward if one.stage == "label" else 3 * forward

    def note(self, one: Measurement, watch: Watch, teacher: nn.Module | None, reason: str) -> None:
        """Turn what was seen into figures, and into reasons where there are none."""
        found: dict[str, Any] = dict.fromkeys(FIGURES)
        why = dict.fromkeys(FIGURES, reason or "it does not apply to this stage")
        steps = watch.steps
        if steps:
            of_steps = list(zip(watch.rows[self.sizes.warm :], steps, strict=False))
            seconds, median = sum(steps), statistics.median(steps)
            real = [self.lengths(one, rows) for rows, _ in of_steps]
            padded = [np.full(len(length), length.max()) for length in real]
            found |= {
                "steps": len(steps),
                "seconds": round(seconds, 3),
                "tokens_per_second": round(sum(int(length.sum()) for length in real) / seconds, 1),
                "positions_per_second": round(sum(int(length.sum()) for length in padded) / seconds, 1),
                "rows_per_second": round(sum(len(rows) for rows, _ in of_steps) / seconds, 1),
                "median_step_seconds": median,
                "slowest_step_seconds": max(steps),
            }
            if watch.prepared:
                found["share_of_time_making_batches"] = sum(watch.prepared[self.sizes.warm : self.sizes.warm + len(steps)]) / seconds
            for name, lengths in (("share_of_peak", real), ("share_of_peak_with_padding", padded)):
                work = [self.flops(one, length, len(rows), teacher) for length, (rows, _) in zip(lengths, of_steps, strict=True)]
                if None in work:
                    why[name] = "a student looks up and adds; it has next to no matrix products"
                elif self.peak_tflops is None:
                    why[name] = self.peak_reason
                else:
                    found[name] = sum(filter(None, work)) / seconds / (self.peak_tflops * 1e12)
            if MODES[one.mode][1]:
                first = np.diff(watch.began)[: self.sizes.warm]
                found["compile_seconds"] = float(first.sum() - median * len(first))
                found["graphs"] = watch.graphs
            else:
                why |= dict.fromkeys(("compile_seconds", "graphs"), "nothing is compiled in this mode")
        if watch.peak_bytes is None:
            why["peak_memory_gb"] = reason or "memory is counted on GPUs alone"
        else:
            found["peak_memory_gb"] = watch.peak_bytes / 2**30
        for mode, differences in watch.differences.items():
            precision = MODES[mode][0]
            for what, difference in differences.items():
                found[f"{precision}_{what}_difference"] = difference
                if not difference <= BOUNDS[precision][what]:  # what is not a number is out of bounds too
                    self.faults.append(
                        f"{one}: the {what} differs from the processor's by {difference:.2g}, bound {BOUNDS[precision][what]:g}"
                    )
        for precision in BOUNDS:
            if not reason and precision not in [MODES[mode][0] for mode in watch.checks]:
                absent = self.without_effect(precision) or "measured in its own mode"
                why |= {name: absent for name in FIGURES if name.startswith(f"{precision}_")}
        self.found[one] = found
        self.why[one] = {name: why[name] for name in FIGURES if found[name] is None}

    def line(self, one: Measurement) -> str:
        """What a measurement found, in a line."""
        found = self.found[one]
        if found["steps"] is None:
            return f"{one!s:<42} nothing: {self.why[one]['steps']}"
        parts = [f"{found['tokens_per_second']:>12,.0f} tokens/s {found['rows_per_second']:>12,.0f} rows/s"]
        parts += [f"{found['share_of_peak']:.1%} of the peak"] if found["share_of_peak"] is not None else []
        parts += [f"{found['peak_memory_gb']:.1f} GB"] if found["peak_memory_gb"] is not None else []
        parts += [f"compiled in {found['compile_seconds']:.0f} s"] if found["compile_seconds"] is not None else []
        return f"{one!s:<42} {', '.join(parts)}"

    def results(self) -> dict[str, Any]:
        """Everything that was found, a run per measurement, and why the rest was not."""
        names = [{"encoder": one.encoder, "stage": one.stage, "mode": one.mode} for one in self.planned]
        missing = [
            {**name, "figures": [figure for figure, why in self.why[one].items() if why == reason], "reason": reason}
            for name, one in zip(names, self.planned, strict=True)
            for reason in dict.fromkeys(self.why[one].values())
        ]
        return {
            "runs": [{**name, **self.found[one]} for name, one in zip(names, self.planned, strict=True)],
            "not_measured": missing,
            "faults": self.faults,
        }


def shrunk(sizes: Sizes, by: int) -> Sizes:
    """The same with batches that are so many times smaller."""
    shapes = {
        name: replace(shape, sequences=max(1, shape.sequences // by), rows=max(1, shape.rows // by)) for name, shape in sizes.shapes.items()
    }
    return replace(sizes, shapes=shapes, student_rows=max(1, sizes.student_rows // by))


def described(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if gpu else platform.processor() or platform.machine(),
        "memory_gb": torch.cuda.get_device_properties(device).total_memory / 2**30 if gpu else None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }


def above_zero(text: str) -> float:
    """A number of an option that must be finite and above zero."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above zero and finite")
    return value


def options_of(words: list[str]) -> argparse.Namespace:
    """The options; what is wrong with them ends the program, in a line behind the usage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=above_zero, default=8.0, help="bound of all measurements together")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--small", action="store_true", help="tiny shapes, to see that the script works; nothing is worth keeping")
    parser.add_argument("--modes", nargs="+", choices=tuple(MODES), default=list(MODES), help="of pretraining")
    parser.add_argument("--encoders", nargs="+", choices=tuple(FULL.shapes), default=list(FULL.shapes))
    parser.add_argument("--shrink", type=int, default=1, help="divides all batches, for a device of less memory")
    parser.add_argument("--peak-tflops", type=above_zero, help="dense bfloat16 peak of a device that the table does not have")
    parser.add_argument("--output", type=Path, help="file of the results; by default results/gpu.json, on a GPU and without --small alone")
    parser.add_argument("--debug", action="store_true", help="end at the first error, as it is")
    options = parser.parse_args(words)
    if options.shrink < 1:
        parser.error(f"--shrink must be 1 or more, not {options.shrink}")
    if options.output is not None and not options.output.parent.is_dir():
        parser.error(f"--output: there is no folder {options.output.parent}")
    options.modes, options.encoders = (
        [one for one in known if one in given] for known, given in ((MODES, options.modes), (FULL.shapes, options.encoders))
    )
    return options


def main(words: list[str]) -> None:
    """Measure, print and write; ends with an error where something failed or lies out of bounds."""
    options = options_of(words)
    deadline = time.monotonic() + 60 * options.minutes
    sizes = shrunk(SMALL if options.small else FULL, options.shrink)
    try:
        device = choose_device(TrainingConfig(device=options.device))
    except DeviceError as error:
        sys.exit(f"--device: {error}")
    machine = described(device)
    if device.type == "cuda" or options.peak_tflops is not None:
        peak, reason = peak_of(machine["device"], options.peak_tflops)
    else:
        peak, reason = None, "the peak of a processor is not known: give it by --peak-tflops"
    benchmark = Benchmark(sizes, options.device, options.modes, options.encoders, peak, reason)
    output = options.output or (RESULTS / "gpu.json" if device.type == "cuda" and not options.small else None)
    print(f"{machine['device']}, torch {machine['torch']}, peak {'not known' if peak is None else f'{peak:g} TFLOP/s'}", flush=True)

    def save() -> None:
        if output is None:
            return
        head = {"command": " ".join(["python benchmarks/gpu.py", *words]), "machine": machine, "peak_tflops": peak, "small": options.small}
        shapes = {
            name: {**shape.encoder.model_dump(), "sequences": shape.sequences, "rows": shape.rows} for name, shape in sizes.shapes.items()
        }
        made = {name: getattr(sizes, name) for name in ("items", "longest", "candidates", "student_rows", "checked")}
        report = {**head, "shapes": shapes, "made": made, "bounds": BOUNDS, **benchmark.results()}
        output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    save()
    benchmark.run(deadline, save, options.debug)
    save()
    if output is not None:
        print(f"written to {output}")
    if benchmark.faults:
        sys.exit(f"{len(benchmark.faults)} of the checks failed; the first: {benchmark.faults[0]}")


if __name__ == "__main__":
    main(sys.argv[1:])
