"""Where a training computes and how: device, precision and compilation, and which of these options has no effect here."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

from ctr_kd.config_training import TrainingConfig
from ctr_kd.training.errors import DeviceError

Tensors = TypeVar("Tensors", bound=tuple[torch.Tensor, ...])


def choose_device(config: TrainingConfig, local_rank: int = 0) -> torch.device:
    """Device of a training: a GPU where there is one, unless the configuration says otherwise.

    Parameters
    ----------
    config : TrainingConfig
    local_rank : int
        Number of this process on its machine: each takes a GPU of its own.

    Raises
    ------
    DeviceError
        When ``cuda`` is configured and there is none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("training.device is cuda, and torch finds no GPU here: set it to auto, which takes the CPU then")
    if config.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", local_rank % torch.cuda.device_count())


def to_device(tensors: Tensors, device: torch.device) -> Tensors:
    """A named tuple of tensors on another device; the tensors themselves where they lie there already."""
    return type(tensors)(*(tensor.to(device, non_blocking=True) for tensor in tensors))


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters lie."""
    return next(model.parameters()).device


def autocast(config: TrainingConfig, device: torch.device) -> torch.autocast:
    """Context in which a loss is computed; parameters, gradients and the optimizer stay float32 in either precision.

    A processor without bfloat16 computes in float32: in software it would be slower, and oneDNN has no LSTM for it at all.
    """
    there = device.type != "cpu" or _cpu_computes_bfloat16()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16" and there)


@contextmanager
def compiled(module: nn.Module, config: TrainingConfig) -> Iterator[None]:
    """Compile a module's forward for the body of a ``with`` statement, where configured and possible.

    Afterwards the module is as it was: neither its weights' names nor an export knows of the compilation.
    """
    call: Any = module._compiled_call_impl
    if config.compile and _has_compiler():
        module.compile(dynamic=True)  # batches differ in length
    try:
        yield
    finally:
        module._compiled_call_impl = call


def report_what_has_no_effect(config: TrainingConfig, device: torch.device, report: Callable[[str], None]) -> None:
    """Say which options do nothing on this machine, one line each."""
    if config.accumulate > config.batch_size:
        report(
            f"warning: accumulate ({config.accumulate}) above batch_size ({config.batch_size}) has no effect: a part has one row at least"
        )
    if config.compile and not _has_compiler():
        report("warning: compile has no effect: there is no C++ compiler on the path")
    if config.precision == "bfloat16" and device.type == "cpu" and not _cpu_computes_bfloat16():
        report("warning: precision bfloat16 has no effect: this processor does not have it, so it computes in float32")


def _has_compiler() -> bool:
    return any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl"))


def _cpu_computes_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) if torch.backends.mkldnn.is_available() else False
