"""Weights in fewer bytes, as tensors that say themselves what they are.

In: a model's weights as float32 by name. Out: tensors for a safetensors file, and the weights back as float32. Never
touches a file. Matrices are packed; vectors (norms, biases of layers) are few, and stay what they are.

A matrix NAME is kept as one of: NAME in float16 or bfloat16; NAME/int8 with NAME/scale (`compression.int8`);
NAME/kept, one bit an entry, row after row and the lowest bit first, with NAME/values, the entries whose bit is set,
and NAME/shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from models.compression.int8 import Int8Rows, dequantise, quantise

Form = Literal["int8", "bf16", "fp16", "pruned"]
FORMS: tuple[Form, ...] = ("int8", "bf16", "fp16", "pruned")
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class PackedError(Exception):
    """Tensors that can't be the weights of a model."""


def pack(weights: Mapping[str, Tensor], form: Form) -> dict[str, Tensor]:
    """The tensors to keep; "pruned" keeps the entries that are not zero."""
    packed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.dim() != 2:
            packed[name] = weight
        elif form == "int8":
            rows = quantise(weight)
            packed |= {f"{name}/int8": rows.codes, f"{name}/scale": rows.scale}
        elif form == "pruned":
            kept = weight.flatten() != 0
            bits = np.packbits(kept.numpy(), bitorder="little")
            packed |= {f"{name}/kept": torch.from_numpy(bits), f"{name}/values": weight.flatten()[kept]}
            packed[f"{name}/shape"] = torch.tensor(weight.shape)
        else:
            packed[name] = weight.to(HALVES[form])
    return packed


def unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights as float32.

    Raises:
        PackedError: the tensors of a matrix do not belong together.
    """
    weights: dict[str, Tensor] = {}
    for name, tensor in packed.items():
        matrix, _, part = name.partition("/")
        try:
            if part == "":
                weights[name] = tensor.to(torch.float32)
            elif part == "int8":
                scale = packed[f"{matrix}/scale"]
                if tensor.dtype != torch.int8 or scale.shape != tensor.shape[:1]:
                    raise PackedError(f"{name} is {tensor.dtype} with {len(scale)} scales")
                weights[matrix] = dequantise(Int8Rows(tensor, scale))
            elif part == "kept":
                weights[matrix] = _scattered(
                    matrix, tensor, packed[f"{matrix}/values"], packed[f"{matrix}/shape"]
                )
        except KeyError as error:
            raise PackedError(f"{name} is there without {error}") from error
    return weights


def _scattered(name: str, bits: Tensor, values: Tensor, shape: Tensor) -> Tensor:
    rows, width = (int(size) for size in shape)
    # a matrix as large as the shape says is only made where the bits are
    if bits.dtype != torch.uint8 or min(rows, width) < 0 or len(bits) != math.ceil(rows * width / 8):
        raise PackedError(f"{name} has {len(bits)} bytes of bits for {rows} × {width} entries")
    kept = np.unpackbits(bits.numpy(), count=rows * width, bitorder="little").view(np.bool_)
    if kept.sum() != len(values):
        raise PackedError(f"{name} has {len(values)} values for {kept.sum()} bits that are set")
    matrix = torch.zeros(rows * width)
    matrix[torch.from_numpy(kept)] = values
    return matrix.view(rows, width)
