"""A module of torch as a graph of ONNX in one file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

OPSET = 17


def write_graph(
    model: nn.Module, inputs: Mapping[str, Tensor], axes: Mapping[str, dict[int, str]], path: Path, output: str = "logit"
) -> None:
    """Write the graph of a module.

    Parameters
    ----------
    model : Module
        In eval mode; its ``forward`` takes the inputs by their places and returns one tensor.
    inputs : mapping of str to tensor
        Examples by name. One that the module does not read is no input of the graph: the scorer feeds what is listed.
    axes : mapping of str to dict of int to str
        Axes of inputs and of the output that have any size, by name.
    path : Path
        Of the ONNX file.
    output : str
        Name of what it returns.
    """
    with warnings.catch_warnings():
        # The tracing exporter is deprecated in favour of one that needs onnxscript, and it warns of LSTMs whose initial
        # state would be constant; ours derives it from the batch. A test runs the graph at other sizes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            tuple(inputs.values()),
            str(path),
            dynamo=False,
            input_names=list(inputs),
            output_names=[output],
            dynamic_axes=dict(axes),
            opset_version=OPSET,
        )
    onnx.checker.check_model(onnx.load(str(path)))
