"""Layers written out in NumPy float64 for one sample, as slowly and plainly as possible.

Weights come from torch modules. Called by tests of methods.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float64]


def array(x: Tensor) -> Array:
    """A tensor as float64."""
    return x.detach().numpy().astype(np.float64)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def leaky(x: Array, slope: float) -> Array:
    """max(x, slope * x)."""
    return np.where(x > 0, x, slope * x)


def linear(layer: Any, x: Array) -> Array:
    """W x + b."""
    return np.asarray(array(layer.weight) @ x + array(layer.bias))


def conv(layer: Any, x: Array) -> Array:
    """Convolution with zero padding that keeps the size: (c, h, w) -> (c', h, w), tap by tap."""
    weight, (_, height, width) = array(layer.weight), x.shape
    reach = weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
    out = np.zeros((len(weight), height, width))
    for i in range(height):
        for j in range(width):
            window = padded[:, i : i + 2 * reach + 1, j : j + 2 * reach + 1]
            out[:, i, j] = [(kernel * window).sum() for kernel in weight]
    return out + (array(layer.bias)[:, None, None] if layer.bias is not None else 0.0)


def norm(layer: nn.Module, x: Array) -> Array:
    """Instance norm, or batch norm with its running statistics; neither with parameters."""
    out = np.empty_like(x)
    for channel, values in enumerate(x):
        mean, variance = values.mean(), values.var()
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None and layer.running_var is not None
            mean, variance = float(layer.running_mean[channel]), float(layer.running_var[channel])
        out[channel] = (values - mean) / np.sqrt(variance + 1e-5)
    return out


def cross_entropy(logits: Array, label: int) -> float:
    """-log softmax(logits)[label] of one sample or place."""
    shifted = logits - logits.max()
    return float(np.log(np.exp(shifted).sum()) - shifted[label])
