"""Operations of an encoder, its item head and a click head, and the peak of devices that do them."""

from __future__ import annotations

import re

import numpy as np
from torch import nn

from ctr_kd.config import EncoderConfig, PretrainConfig
from ctr_kd.models.layers import Head

# Dense bfloat16 TFLOP/s by words of the device's name, from NVIDIA's data sheets; the first line whose words are all there counts.
PEAKS: tuple[tuple[str, float], ...] = (
    ("B200", 2250.0),
    ("H200 NVL", 835.0),
    ("H200", 989.0),
    ("GH200", 989.0),
    ("H100 NVL", 835.0),
    ("H100 PCIe", 756.0),
    ("H100", 989.0),
    ("A100", 312.0),
    ("A100-SXM4-40GB", 312.0),
    ("L40S", 362.0),
    ("L40", 181.0),
    ("L4", 121.0),
    ("A30", 165.0),
    ("A10", 125.0),
)


def encoder_flops(config: EncoderConfig, length: np.ndarray, wanted: float, of_each: bool = False) -> float:
    """Operations of an encoder's matrix products, forward.

    Parameters
    ----------
    config : EncoderConfig
    length : int array (sequences,)
        Positions of each sequence.
    wanted : float
        Positions whose states are asked of the last layer.
    of_each : bool
        They are one of each sequence, and in the last layer no others look at any (:meth:`ctr_kd.models.bert.Attention.of_one`).

    Examples
    --------
    By hand, 1 layer of width 8 over 3 positions, all wanted: 3 * 2 * (3 + 1 + 8) * 8 * 8 for the weights, 2 * 2 * 3 * 3 * 8 for attention.

    >>> encoder_flops(EncoderConfig(width=8, layers=1, heads=2), np.array([3]), 3)
    4896.0
    """
    width, inner = config.width, config.feed_forward or 4 * config.width
    tokens, pairs = float(length.sum()), float(np.square(length, dtype=np.float64).sum())

    def seeing(queries: float, pairs: float) -> float:
        """Queries, keys and values; scores, and what they weigh."""
        return 2 * (queries + 2 * tokens) * width * width + 2 * 2 * pairs * width

    last = seeing(wanted, tokens) if of_each else seeing(tokens, pairs)
    following = 2 * (width * width + 2 * width * inner)  # per position
    return (config.layers - 1) * seeing(tokens, pairs) + last + ((config.layers - 1) * tokens + wanted) * following


def item_head_flops(config: EncoderConfig, vocabulary: int, predicted: float) -> float:
    """Operations of predicting so many items from their states, over the whole vocabulary, forward."""
    return 2 * predicted * config.width * (config.width * (config.prediction == "transformed") + vocabulary)


def head_flops(head: Head, rows: int) -> float:
    """Operations of a click head, forward."""
    return 2 * rows * sum(layer.weight.numel() for layer in head.modules() if isinstance(layer, nn.Linear))


def peak_of(name: str, given: float | None) -> tuple[float | None, str]:
    """Dense bfloat16 TFLOP/s of a device by its name, or where it is not known None and why.

    Examples
    --------
    >>> peak_of("NVIDIA H200", None)[0], peak_of("NVIDIA H100 PCIe", None)[0], peak_of("NVIDIA A100-SXM4-80GB", None)[0]
    (989.0, 756.0, 312.0)
    >>> peak_of("NVIDIA H200 MIG 1g.18gb", None)
    (None, 'NVIDIA H200 MIG 1g.18gb is a part of a device: give its peak by --peak-tflops')
    """
    if given is not None:
        return given, ""
    words = set(re.split(r"[ -]", name))
    if "MIG" in words:
        return None, f"{name} is a part of a device: give its peak by --peak-tflops"
    for line, peak in PEAKS:
        if set(re.split(r"[ -]", line)) <= words:
            return peak, ""
    return None, f"the peak of {name} is not in the table: give it by --peak-tflops"


def predicted_items(config: PretrainConfig, length: np.ndarray) -> float:
    """Hidden positions that are expected of sequences of some lengths: a share of all, or the last one alone.

    Examples
    --------
    >>> predicted_items(PretrainConfig(mask_rate=0.2, last_item_rate=0.5), np.array([10, 30]))
    5.0
    """
    return float((1 - config.last_item_rate) * config.mask_rate * length.sum() + config.last_item_rate * len(length))
