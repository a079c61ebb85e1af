"""What is wrong with a student is found before it is trained, and said in one line: which check, and by how much."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from ctr_kd.config_students import StudentConfig
from ctr_kd.data.samples import Assembly, Signature
from ctr_kd.models.layers import TokenEmbedding
from ctr_kd.models.pooled import Pooled
from ctr_kd.models.students import STUDENTS
from ctr_kd.training.errors import TrainingError
from ctr_kd.training.student_checks import check_export, check_student, rows_to_check, some_rows
from tests.ctr_kd.worlds import raw_frame

SETTINGS = StudentConfig(width=8, hidden=12)


class Broken(Pooled):
    """The pooled student with another way from its encoded histories, or its logits, to what it returns."""

    def __init__(self, signature: Signature, change: Callable[..., Tensor], encode: Callable[..., Tensor] | None = None) -> None:
        super().__init__(signature, SETTINGS)
        self.change, self.other = change, encode

    def encode(self, tokens: Tensor, length: Tensor) -> Tensor:
        return super().encode(tokens, length) if self.other is None else self.other(self.token(tokens), length)

    def forward(self, *batch: Tensor) -> Tensor:
        return self.change(super().forward(*batch), *batch)


def raises(logit: Tensor, *batch: Tensor) -> Tensor:
    raise IndexError("out of\nrange")


def in_a_batch(logit: Tensor, *batch: Tensor) -> Tensor:
    return logit - logit.mean(0)


def by_segment(logit: Tensor, a: Tensor, length: Tensor, of_row: Tensor, *others: Tensor) -> Tensor:
    return logit + of_row.unsqueeze(1)


def where_empty(logit: Tensor, a: Tensor, length: Tensor, of_row: Tensor, *others: Tensor) -> Tensor:
    return logit / length.index_select(0, of_row).unsqueeze(1).ne(0)


def in_training(logit: Tensor, *batch: Tensor) -> Tensor:
    if torch.is_grad_enabled():
        raise RuntimeError("no gradient here")
    return logit


def average(vectors: Tensor, length: Tensor) -> Tensor:
    return vectors.mean(1)


def same(logit: Tensor, *batch: Tensor) -> Tensor:
    return logit


@pytest.mark.parametrize(
    ("change", "encode", "said"),
    [
        (raises, None, r"the student raises on a batch: IndexError: out of range"),
        (lambda logit, *batch: (logit, 1), None, r"the student returns a tuple, not a tensor of logits"),
        (lambda logit, *batch: logit[1:], None, r"returns logits of shape \(\d+, 1\) for \d+ rows and 1 outputs, not \(\d+, 1\)"),
        (lambda logit, *batch: logit.squeeze(1), None, r"returns logits of shape \(\d+,\) for"),
        (lambda logit, *batch: logit * torch.nan, None, r"returns logits that are not finite on a batch: (\d+) of \1 rows"),
        (where_empty, None, r"returns logits that are not finite on a batch: \d+ of \d+ rows"),
        (lambda logit, *batch: logit + batch[5].sum(1, keepdim=True), None, r"not finite on a batch"),
        (same, average, r"fails a check: padding changes no output \(7 more tokens of it\); \d+ of \d+ rows differ, the worst by [\d.]"),
        (by_segment, None, r"fails a check: rows that share a history score as rows that have one each; .* the worst by \d"),
        (in_a_batch, None, r"fails a check: a row scores by itself as among others; .* the worst by [\d.e-]+ \(0.0001 may be rounding\)"),
        (in_training, None, r"the student raises in training mode: RuntimeError: no gradient here"),
        (lambda logit, *batch: logit.detach(), None, r"the student raises in training mode: RuntimeError"),
    ],
)
def test_a_mistake_is_one_line(
    assembly: Assembly, signature: Signature, change: Callable[..., Tensor], encode: Callable[..., Tensor] | None, said: str
) -> None:
    torch.manual_seed(0)
    with pytest.raises(TrainingError, match=said) as error:
        check_student(Broken(signature, change, encode), signature, assembly.samples("test"))
    assert "\n" not in str(error.value)


class Zeros(nn.Module):
    """Says 0 until it is trained, as its last layer begins at zero: what is wrong with it shows after a step alone."""

    def __init__(self, signature: Signature) -> None:
        super().__init__()
        self.token = TokenEmbedding(signature.tokens, 8)
        self.last = nn.Linear(8, 1)
        nn.init.zeros_(self.last.weight)

    def forward(self, a: Tensor, length: Tensor, of_row: Tensor, b: Tensor, categorical: Tensor, dense: Tensor) -> Tensor:
        return self.last(self.token(a).mean(1).index_select(0, of_row))


def test_what_is_zero_at_first_hides_no_mistake(assembly: Assembly, signature: Signature) -> None:
    with pytest.raises(TrainingError, match="padding changes no output"):
        check_student(Zeros(signature), signature, assembly.samples("test"))


class Idle(Pooled):
    def __init__(self, signature: Signature) -> None:
        super().__init__(signature, SETTINGS)
        self.unused = nn.Linear(3, 3)


def test_a_parameter_that_nothing_reaches_is_named(assembly: Assembly, signature: Signature) -> None:
    with pytest.raises(TrainingError, match=r"no gradient reaches the student's parameter unused.weight \(2 of \d+ have none\)"):
        check_student(Idle(signature), signature, assembly.samples("test"))


def test_a_student_stays_as_it_is(assembly: Assembly, signature: Signature) -> None:
    model = Pooled(signature, SETTINGS)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tried = check_student(model, signature, assembly.samples("test"))
    assert model.training and not tried.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert any(not torch.equal(value, before[name]) for name, value in tried.state_dict().items())


def asked(assembly: Assembly, directory: Path) -> pa.Table:
    return raw_frame(directory, "test").take(pa.array(rows_to_check(assembly.samples("test"))))


@pytest.mark.parametrize("kind", STUDENTS)
def test_our_own_export_as_they_are(assembly: Assembly, directory: Path, signature: Signature, kind: str) -> None:
    model = STUDENTS[kind](signature, StudentConfig(kind=kind, width=8, hidden=12)).eval()
    check_export(model, signature, assembly, assembly.samples("test"), asked(assembly, directory))


class ExportsAnother(Broken):
    """Traced, it is another function: what the tracer sees depends on the example that it is shown."""

    def __init__(self, signature: Signature) -> None:
        super().__init__(signature, lambda logit, a, *others: logit + float(a.shape[1]) if a.shape[1] == 3 else logit)


class ExportsNothing(Broken):
    def __init__(self, signature: Signature) -> None:
        super().__init__(signature, lambda logit, *batch: torch.special.i1e(logit))


@pytest.mark.parametrize(
    ("student", "said"),
    [
        (ExportsAnother, r"the exported graph answers as the model does; \d+ of \d+ rows differ, the worst by"),
        (ExportsNothing, r"the student cannot be exported to ONNX: \w+: .*i1e"),
    ],
)
def test_an_export_that_differs_is_found(assembly: Assembly, signature: Signature, student: type[Broken], said: str) -> None:
    with pytest.raises(TrainingError, match=said) as error:
        check_export(student(signature).eval(), signature, assembly, assembly.samples("test"))
    assert "\n" not in str(error.value)


def test_raw_rows_that_are_others_are_found(assembly: Assembly, directory: Path, signature: Signature) -> None:
    """The scorer is asked, and not only the graph."""
    frame = asked(assembly, directory)
    other = frame.take(list(range(frame.num_rows - 1, -1, -1)))
    with pytest.raises(TrainingError, match="the scorer of raw rows answers as the model does"):
        check_export(Pooled(signature, SETTINGS).eval(), signature, assembly, assembly.samples("test"), other)


def test_some_rows_are_spread_over_all_and_hold_the_shortest_and_longest_history(assembly: Assembly) -> None:
    samples = assembly.samples("train")
    some = some_rows(samples)
    length, of_some = samples.a.end - samples.a.start, some.a.end - some.a.start
    assert len(some) < len(samples)
    assert (of_some.min(), of_some.max()) == (length.min(), length.max())
    assert some.row_id[0] == samples.row_id[0] and some.row_id[-1] == samples.row_id[-1]
    assert len(set(some.group)) < len(some)  # neighbours share histories
