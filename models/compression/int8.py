"""Rows of eight-bit whole numbers, each row with a scale: a quarter of the bytes of float32.

In: a matrix of float32. Out: its rows as int8 and scales, and back; products with queries that are rounded the same
way while they are scored ("dynamic" quantisation). Never asks for samples to calibrate on: the scale of a row is its
largest absolute value / 127, symmetric about zero (Jacob et al.: Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference, CVPR 2018; Krishnamoorthi 2018 on a scale for each row).

Products are sums of whole numbers, so they are the same in whatever order they are added. torch's own
`quantize_dynamic` is announced to go, and rounds queries to seven bits where the CPU lacks VNNI.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.base import F32
from models.kernels import kernel

TOP = 127


class Int8Rows(NamedTuple):
    """A matrix [n, d]: `codes[i] * scale[i]`."""

    codes: Tensor  # int8 [n, d]
    scale: Tensor  # float32 [n]


def quantise(matrix: Tensor) -> Int8Rows:
    """Round each row to the nearest of 255 evenly spaced numbers; off by half a scale at most."""
    scale = matrix.abs().amax(1) / TOP
    codes = torch.round(matrix / scale.clamp_min(torch.finfo(torch.float32).tiny)[:, None])
    return Int8Rows(codes.clamp(-TOP, TOP).to(torch.int8), scale)


def dequantise(rows: Int8Rows) -> Tensor:
    """The matrix as float32 [n, d]."""
    return rows.codes.to(torch.float32) * rows.scale[:, None]


def products(queries: Tensor, rows: Int8Rows, bias: Tensor) -> Tensor:
    """`queries @ rows.T + bias`, float32 [m, n], of queries [m, d] that are rounded to int8 themselves."""
    out = np.empty((len(queries), len(rows.codes)), np.float32)
    plain = np.ascontiguousarray(queries.detach().numpy(), np.float32)
    _products(plain, rows.codes.numpy(), rows.scale.numpy(), bias.detach().numpy(), out)
    return torch.from_numpy(out)


@kernel(allocates=True)
def _products(queries: F32, codes: np.ndarray, scale: F32, bias: F32, out: F32) -> None:
    """Four queries at a time against each row; |sum| <= d · 127² stays far within int32."""
    m, d = queries.shape
    padded = (m + 3) // 4 * 4
    q = np.zeros((padded, d), np.int16)
    unit = np.zeros(padded, np.float32)
    for e in range(m):
        top = np.float32(0.0)
        for i in range(d):
            top = max(top, abs(queries[e, i]))
        unit[e] = top / np.float32(TOP)
        if top > 0:
            for i in range(d):
                q[e, i] = np.int16(np.rint(queries[e, i] / unit[e]))
    for v in range(len(codes)):
        row = codes[v]
        for e in range(0, m, 4):
            a, b, c, g = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
            for i in range(d):
                w = np.int32(row[i])
                a = np.int32(a + np.int32(q[e, i]) * w)
                b = np.int32(b + np.int32(q[e + 1, i]) * w)
                c = np.int32(c + np.int32(q[e + 2, i]) * w)
                g = np.int32(g + np.int32(q[e + 3, i]) * w)
            out[e, v] = np.float32(a) * (scale[v] * unit[e]) + bias[v]
            if e + 1 < m:
                out[e + 1, v] = np.float32(b) * (scale[v] * unit[e + 1]) + bias[v]
            if e + 2 < m:
                out[e + 2, v] = np.float32(c) * (scale[v] * unit[e + 2]) + bias[v]
            if e + 3 < m:
                out[e + 3, v] = np.float32(g) * (scale[v] * unit[e + 3]) + bias[v]
