"""What a student must pass before it is trained, whoever wrote it: what production relies on, tried on rows of the log itself."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from ctr_kd.data.batching import Batch, make_batch
from ctr_kd.data.samples import Samples, Signature
from ctr_kd.data.texts import AnyAssembly, TextAssembly
from ctr_kd.export.click_scorer import ClickScorer
from ctr_kd.export.exported_graph import ExportedGraph
from ctr_kd.export.onnx_export import export_student
from ctr_kd.export.text_scorer import TextScorer
from ctr_kd.metrics import of_full_stream
from ctr_kd.models.layers import GivenVectors
from ctr_kd.training.errors import TrainingError
from ctr_kd.training.loop import predict
from feature_store.special_tokens import PAD, UNKNOWN

ROWS = 64  # that a check looks at
ROUNDING = 1e-4  # share of a logit by which sums in another order may differ; a mistake moves it by much more
ROUNDING_OF_VECTORS = 1e-2  # the same where vectors are given, which an exported student has in half precision
MORE_PADDING = 7  # tokens


def check_student(model: nn.Module, signature: Signature, samples: Samples) -> nn.Module:
    """Try an untrained student on some rows, and a copy of it after one step of training, for what is zero at first hides mistakes.

    Parameters
    ----------
    model : Module
        See :class:`ctr_kd.models.students.Student`; it stays as it is.
    signature : Signature
        That it was made for.
    samples : Samples
        Rows of any split; nothing is learned from their labels.

    Returns
    -------
    Module
        The copy, for :func:`check_export`.

    Raises
    ------
    TrainingError
        Of the first check that fails: which, and by how much.
    """
    samples = some_rows(samples)
    batch = make_batch(samples, np.arange(len(samples)))
    model = copy.deepcopy(model).eval()
    _logits(model, batch, signature)
    _logits(model, _without_anything(signature), signature, " of empty histories and null statistics")
    _one_step(model, batch)
    check_answers(model, signature, samples)
    return model


def check_answers(model: nn.Module, signature: Signature, samples: Samples) -> None:
    """Whether padding, other rows and shared histories change no answer of a model in eval mode.

    Raises
    ------
    TrainingError
        When one does: which, and by how much.
    """
    samples = some_rows(samples)
    rows = np.arange(len(samples))
    batch = make_batch(samples, rows)
    together = _logits(model, batch, signature)
    wider = batch._replace(segment_a=_padded(batch.segment_a))
    if signature.max_length_b > 1:
        wider = wider._replace(segment_b=_padded(batch.segment_b))
    _same(together, _logits(model, wider, signature), f"padding changes no output ({MORE_PADDING} more tokens of it)")
    apart = batch._replace(
        segment_a=batch.segment_a[batch.segment_of_row],
        segment_a_length=batch.segment_a_length[batch.segment_of_row],
        segment_of_row=torch.arange(len(rows)),
    )
    _same(together, _logits(model, apart, signature), "rows that share a history score as rows that have one each")
    alone = torch.cat(
        [_logits(model, make_batch(samples, rows[place : place + 1]), signature, " of one row") for place in range(len(rows))]
    )
    _same(together, alone, "a row scores by itself as among others")


def check_export(model: nn.Module, signature: Signature, assembly: AnyAssembly, samples: Samples, raw: pa.Table | None = None) -> None:
    """Export a student as after its training, and compare the graph's answers, and those of the scorer beside it, with the model's.

    Parameters
    ----------
    model : Module
        In eval mode.
    signature : Signature
    assembly : Assembly or TextAssembly
    samples : Samples
        Rows of a split.
    raw : pyarrow Table, optional
        The rows of :func:`rows_to_check` as a caller of the student sends them.

    Raises
    ------
    TrainingError
        When it cannot be exported, or an answer differs.
    """
    samples = some_rows(samples)
    logits = predict(model, samples)
    unread = set(signature.vectors) - {module.name for module in model.modules() if isinstance(module, GivenVectors)}
    if unread:
        raise TrainingError(
            f"the student does not read the vectors {min(unread)}: TokenEmbedding(..., vectors=signature.vectors) and ContextEncoder do"
        )
    with tempfile.TemporaryDirectory(prefix="student_") as name:
        folder = Path(name)
        try:
            export_student(model, signature, assembly, folder)
            exported = ExportedGraph(folder / "student.onnx", signature.vectors).logits(samples)
        except Exception as error:  # torch's exporter and ONNX Runtime have exceptions of their own
            raise TrainingError(f"the student cannot be exported to ONNX: {_said(error)}") from error
        rounding = ROUNDING_OF_VECTORS if signature.vectors else ROUNDING
        _same(torch.from_numpy(logits), torch.from_numpy(exported), "the exported graph answers as the model does", rounding)
        if raw is None:
            return
        if isinstance(assembly, TextAssembly):
            scored, expected = TextScorer(folder).score(raw), torch.softmax(torch.from_numpy(logits).double(), dim=1)
        else:
            scored = ClickScorer(folder).score_labels(raw)
            rate = assembly.summary.negative_sampling_rate
            expected = torch.from_numpy(of_full_stream(torch.sigmoid(torch.from_numpy(logits).double()).numpy(), rate))
        _same(expected, torch.from_numpy(scored), "the scorer of raw rows answers as the model does", rounding)


def rows_to_check(samples: Samples) -> np.ndarray:
    """Places (rows,) of some rows, spread over all: neighbours share histories, and the shortest and the longest are among them."""
    length = samples.a.end - samples.a.start
    begin = np.linspace(0, max(len(samples) - 4, 0), ROWS // 4).astype(np.int64)
    spread = (begin[:, None] + np.arange(4)).ravel()
    chosen: np.ndarray = np.unique(np.append(spread, [length.argmin(), length.argmax()]))
    return chosen[chosen < len(samples)]


def some_rows(samples: Samples) -> Samples:
    """The rows of :func:`rows_to_check`."""
    return samples.take(rows_to_check(samples))


def _logits(model: nn.Module, batch: Batch, signature: Signature, of: str = "") -> Tensor:
    """What a model in eval mode says of a batch, if it is what logits must be."""
    rows = len(batch.segment_of_row)
    with torch.no_grad():
        try:
            logits = model(*batch)
        except Exception as error:
            raise TrainingError(f"the student raises on a batch{of}: {_said(error)}") from error
    if not isinstance(logits, Tensor):
        raise TrainingError(f"the student returns a {type(logits).__name__}, not a tensor of logits")
    if tuple(logits.shape) != (rows, signature.outputs):
        raise TrainingError(
            f"the student returns logits of shape {tuple(logits.shape)} for {rows} rows and {signature.outputs} outputs, "
            f"not {(rows, signature.outputs)}"
        )
    broken = int((~torch.isfinite(logits)).any(1).sum())
    if broken:
        raise TrainingError(f"the student returns logits that are not finite on a batch{of}: {broken} of {rows} rows")
    return logits


def _one_step(model: nn.Module, batch: Batch) -> None:
    """Move every parameter a little along its gradient, which each must have."""
    model.train()
    try:
        logits = model(*batch)
        target = torch.linspace(-2.0, 2.0, logits.numel()).reshape(logits.shape)
        (logits - target).square().mean().backward()
    except Exception as error:
        raise TrainingError(f"the student raises in training mode: {_said(error)}") from error
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    if not trained:
        raise TrainingError("the student has no parameters that can be trained")
    without = [name for name, one in trained.items() if one.grad is None]
    if without:
        raise TrainingError(f"no gradient reaches the student's parameter {without[0]} ({len(without)} of {len(trained)} have none)")
    broken = [name for name, one in trained.items() if one.grad is not None and not torch.isfinite(one.grad).all()]
    if broken:
        raise TrainingError(f"the gradient of the student's parameter {broken[0]} is not finite")
    torch.optim.Adam(trained.values(), lr=0.01).step()
    model.eval()


def _without_anything(signature: Signature) -> Batch:
    """Two rows with an empty history, an unknown candidate, no context and null statistics."""
    features = len(signature.tokens)
    return Batch(
        torch.full((1, 1, features), PAD, dtype=torch.int32),
        torch.zeros(1, dtype=torch.int64),
        torch.zeros(2, dtype=torch.int64),
        torch.full((2, 1, features), UNKNOWN if signature.max_length_b else PAD, dtype=torch.int32),
        torch.full((2, len(signature.categorical)), PAD, dtype=torch.int32),
        torch.full((2, len(signature.dense)), torch.nan),
    )


def _padded(tokens: Tensor) -> Tensor:
    return nn.functional.pad(tokens, (0, 0, 0, MORE_PADDING), value=PAD)


def _same(expected: Tensor, found: Tensor, check: str, rounding: float = ROUNDING) -> None:
    if expected.shape != found.shape:
        raise TrainingError(f"the student fails a check: {check}; it gives {tuple(found.shape)} in place of {tuple(expected.shape)}")
    difference = (found.double() - expected.double()).abs() / expected.double().abs().clamp(min=1)
    worst = float(difference.nan_to_num(torch.inf).max()) if len(difference) else 0.0
    if worst > rounding:
        rows = int((difference > rounding).any(1).sum())
        how = f"{rows} of {len(expected)} rows differ, the worst by {worst:.2g} ({rounding:g} may be rounding)"
        raise TrainingError(f"the student fails a check: {check}; {how}")


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
