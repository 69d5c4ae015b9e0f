"""A model that computes in fewer bits: int8, bfloat16 or float16 where float32 multiplies matrices.

In: a model in eval mode on the CPU. Out: a copy whose layers multiply in that precision, to be handed to
`models.sequence.encode`, and a scorer of all items. Everything between the products stays float32. Never trains.

What a worker serves is not this: it restores compressed weights to float32 for its compiled kernels. Whether it
would be worth it depends on the CPU: without bfloat16 or VNNI instructions, halves are slower than float32.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from models.compression.int8 import products, quantise
from models.compression.packed import HALVES, Form
from models.sequence.transformer import CausalTransformer

Scorer = Callable[[Tensor], Tensor]


class Int8Linear(nn.Module):
    """A linear layer over int8 rows; its input is rounded as it comes."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.rows, self.bias = quantise(weight.detach()), bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        return products(x, self.rows, self.bias)


class HalfLinear(nn.Module):
    """A linear layer in half precision, float32 on the way in and out."""

    def __init__(self, weight: Tensor, bias: Tensor, form: Form) -> None:
        super().__init__()
        self.weight, self.bias = weight.detach().to(HALVES[form]), bias.detach().to(HALVES[form])

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x.to(self.weight.dtype), self.weight, self.bias).float()


def _linear(weight: Tensor, bias: Tensor, form: Form) -> nn.Module:
    return Int8Linear(weight, bias) if form == "int8" else HalfLinear(weight, bias, form)


def computing_in(model: CausalTransformer, form: Form) -> CausalTransformer:
    """A copy of `model` whose layers multiply in `form`: "int8", "bf16" or "fp16"."""
    smaller = copy.deepcopy(model).eval().requires_grad_(False)
    for layer in smaller.layers:
        for name, part in list(layer.named_children()):
            if isinstance(part, nn.Linear):
                setattr(layer, name, _linear(part.weight, part.bias, form))
    return smaller


def scorer(model: CausalTransformer, form: Form | None = None) -> Scorer:
    """Scores of all rows [m, n_items + 1] for queries [m, d]; in float32 without a `form`."""
    if form is None:
        vectors, bias = model.item_vectors().detach(), model.bias.detach()
        return lambda queries: functional.linear(queries, vectors, bias)
    layer = _linear(model.item_vectors(), model.bias, form)
    return lambda queries: layer(queries)
