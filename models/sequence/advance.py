"""A user's next event through the Transformer, compiled: what `sequence.transformer` computes, without overhead.

In: weights as plain arrays, rings of keys and values, one event at a time. Out: the vectors before and after each.
A dozen events at a time are nothing to a tensor library but calls: 2 ms for what takes 0.02 ms an event here. Float32
throughout; sums are in an order that is written down, so they differ from torch's in the last bits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models.base import F32, I64
from models.kernels import inner, kernel
from models.online.asymmetric_mf import dot
from models.sequence.transformer import WIDER, CausalTransformer, Layer

EPSILON = np.float32(1e-5)
"""Of torch's LayerNorm."""
ROOT_HALF = math.sqrt(0.5)


class Weights(NamedTuple):
    """A model's weights; matrices are [inputs, outputs], L layers, d wide."""

    item: F32  # [V, d]
    action: F32
    value: F32
    gap: F32
    norms: F32  # [L, 2, 2, d] scale and shift before attention and before the feed-forward layer
    qkv: F32  # [L, d, 3 d]
    qkv_bias: F32
    out: F32  # [L, d, d]
    out_bias: F32
    up: F32  # [L, d, w]
    up_bias: F32
    down: F32  # [L, w, d]
    down_bias: F32
    norm: F32  # [2, d]
    turn: F32  # [PERIOD, d / heads / 2, 2] cosine and sine


class Scratch(NamedTuple):
    """Buffers of one thread."""

    x: F32  # [d]
    normed: F32  # [d]
    qkv: F32  # [3 d]
    attended: F32  # [d]
    wide: F32  # [w]
    change: F32  # [d]
    share: F32  # [band]


def weights_of(model: CausalTransformer) -> Weights:
    """The weights of a model, on whatever device, in the shapes that the kernel reads."""
    layers = [layer for layer in model.layers if isinstance(layer, Layer)]

    def arrays(tensors: list[Tensor]) -> F32:
        return _plain(torch.stack(tensors))

    def matrix(parts: list[nn.Linear]) -> F32:
        return arrays([part.weight.T for part in parts])

    def bias(parts: list[nn.Linear]) -> F32:
        return arrays([part.bias for part in parts])

    qkv, out = [layer.qkv for layer in layers], [layer.out for layer in layers]
    up, down = [layer.up for layer in layers], [layer.down for layer in layers]
    return Weights(
        item=_plain(model.item_vectors()),
        action=_plain(model.action),
        value=_plain(model.value),
        gap=_plain(model.gap),
        norms=arrays([torch.stack((_norm(layer.norm1), _norm(layer.norm2))) for layer in layers]),
        qkv=matrix(qkv),
        qkv_bias=bias(qkv),
        out=matrix(out),
        out_bias=bias(out),
        up=matrix(up),
        up_bias=bias(up),
        down=matrix(down),
        down_bias=bias(down),
        norm=_plain(_norm(model.norm)),
        turn=_plain(torch.view_as_real(model.rotations)),
    )


def _plain(tensor: Tensor) -> F32:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), np.float32)


def _norm(part: nn.LayerNorm) -> Tensor:
    return torch.stack((part.weight, part.bias))


def new_scratch(model: CausalTransformer) -> Scratch:
    """Buffers for one model."""
    d = model.config.d_model
    sizes = (d, d, 3 * d, d, WIDER * d, d, model.band)
    return Scratch(*(np.zeros(size, np.float32) for size in sizes))


@inner
def _normalise(x: F32, norm: F32, out: F32) -> None:
    """Layer normalisation (Ba et al. 2016) with scale `norm[0]` and shift `norm[1]`."""
    d = len(x)
    mean = np.float32(0.0)
    for i in range(d):
        mean += x[i]
    mean /= np.float32(d)
    spread = np.float32(0.0)
    for i in range(d):
        out[i] = x[i] - mean
        spread += out[i] * out[i]
    scale = np.float32(1.0) / np.sqrt(spread / np.float32(d) + EPSILON)
    for i in range(d):
        out[i] = out[i] * scale * norm[0, i] + norm[1, i]


@inner
def _linear(x: F32, matrix: F32, bias: F32, out: F32) -> None:
    """`x @ matrix + bias`: a row of the matrix at a time, which is one instruction for several outputs."""
    for o in range(len(out)):
        out[o] = bias[o]
    for i in range(len(x)):
        row, factor = matrix[i], x[i]
        for o in range(len(out)):
            out[o] += factor * row[o]


@inner
def _turn(x: F32, turn: F32) -> None:
    """Rotate pairs of neighbouring coordinates of one head."""
    for i in range(len(turn)):
        a, b = x[2 * i], x[2 * i + 1]
        x[2 * i] = a * turn[i, 0] - b * turn[i, 1]
        x[2 * i + 1] = a * turn[i, 1] + b * turn[i, 0]


@inner
def _attend(q: F32, keys: F32, values: F32, filled: int, share: F32, out: F32) -> None:
    """Softmax attention of one head over the first `filled` places of its ring."""
    scale = np.float32(1.0 / math.sqrt(len(q)))
    top = np.float32(-np.inf)
    for p in range(filled):
        share[p] = dot(keys[p], q) * scale
        top = max(top, share[p])
    total = np.float32(0.0)
    for p in range(filled):
        share[p] = np.exp(share[p] - top)
        total += share[p]
    for i in range(len(out)):
        out[i] = np.float32(0.0)
    for p in range(filled):
        part, row = share[p] / total, values[p]
        for i in range(len(out)):
            out[i] += part * row[i]


@inner
def _layer(w: Weights, s: Scratch, layer: int, ring: F32, position: int) -> None:
    """One layer's change of `s.x`; `ring` [2, heads, band, head_dim] gets the event's key and value."""
    x, d = s.x, len(s.x)
    heads, band, size = ring.shape[1], ring.shape[2], ring.shape[3]
    _normalise(x, w.norms[layer, 0], s.normed)
    _linear(s.normed, w.qkv[layer], w.qkv_bias[layer], s.qkv)
    turn, place = w.turn[position % len(w.turn)], position % band
    for h in range(heads):
        q, k, v = h * size, d + h * size, 2 * d + h * size
        _turn(s.qkv[q : q + size], turn)
        _turn(s.qkv[k : k + size], turn)
        for i in range(size):
            ring[0, h, place, i] = s.qkv[k + i]
            ring[1, h, place, i] = s.qkv[v + i]
        filled = min(position + 1, band)
        _attend(s.qkv[q : q + size], ring[0, h], ring[1, h], filled, s.share, s.attended[q : q + size])
    _linear(s.attended, w.out[layer], w.out_bias[layer], s.change)
    for i in range(d):
        x[i] += s.change[i]
    _normalise(x, w.norms[layer, 1], s.normed)
    _linear(s.normed, w.up[layer], w.up_bias[layer], s.wide)
    for i in range(len(s.wide)):
        s.wide[i] *= np.float32(0.5 * (1.0 + math.erf(s.wide[i] * ROOT_HALF)))
    _linear(s.wide, w.down[layer], w.down_bias[layer], s.change)
    for i in range(d):
        x[i] += s.change[i]


@inner
def step(
    w: Weights, s: Scratch, rings: F32, vectors: F32, length: I64, place: int,
    item: int, action: int, value: int, gap: int, before: F32, after: F32,
) -> None:  # fmt: skip
    """Put one event at the end of the sequence of the user at `place`; `before` and `after` [d] get their vectors."""
    x = s.x
    for i in range(len(x)):
        before[i] = vectors[place, i]
        x[i] = w.item[item, i] + w.action[action, i] + w.value[value, i] + w.gap[gap, i]
    for layer in range(len(w.norms)):
        _layer(w, s, layer, rings[place, layer], length[place])
    _normalise(x, w.norm, s.normed)
    for i in range(len(x)):
        vectors[place, i] = after[i] = s.normed[i]
    length[place] += 1


@kernel
def advance(
    w: Weights,
    s: Scratch,
    rings: F32,
    vectors: F32,
    length: I64,
    places: I64,
    events: I64,
    before: F32,
    after: F32,
) -> None:
    """Take in events in order, each at the end of its user's sequence.

    Args:
        rings: [users, L, 2, heads, band, head_dim].
        vectors: of the users, [users, d]; length: their events so far, [users].
        places: which user each event is of, [n]; a user may come again.
        events: item rows, action rows, value and gap buckets, [4, n].
        before, after: get the user's vector around each event, [n, d].
    """
    for e in range(len(places)):
        step(
            w, s, rings, vectors, length, places[e],
            events[0, e], events[1, e], events[2, e], events[3, e], before[e], after[e],
        )  # fmt: skip
